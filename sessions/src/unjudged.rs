//! Messages that can't be judged yet: those that would have to be refused, and whatever their client has sent behind
//! them, while as many refusals as may stand unconfirmed (PROTOCOL.md section 7.3). In memory only: none of them is
//! acknowledged, so they go with their connection. Judges nothing.

use crate::refusal::EndReason;
use crate::reply::Reply;
use crate::request::Request;
use crate::seat::{Seat, Ticket};
use pulsegate_core::connection::Attachment;
use std::collections::{BTreeMap, VecDeque};

/// How many are judged anew at once after a confirmation: as many as it can make room for.
const PIECE: usize = 64;
/// For how many ticks a client may leave its refusals unconfirmed while messages wait for it. A tick in which
/// nothing can be committed doesn't count: the confirmation may be among what waits.
const PATIENCE_TICKS: u64 = 30;

/// What waits, by session: at most one connection of each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unjudged {
    rows: BTreeMap<u64, Row>,
    /// The sessions in the order in which they began to wait.
    oldest: BTreeMap<u64, u64>,
    orders: u64,
    /// What waits in all. What is being judged anew doesn't count.
    bytes: usize,
    bytes_max: usize,
    ticks: u64,
    /// To be judged before anything that has come later.
    released: Vec<Request>,
    ended: Vec<Reply>,
}

/// The messages of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Row {
    epoch: u64,
    ticket: Ticket,
    /// In the order of their numbers.
    messages: VecDeque<Request>,
    bytes: usize,
    /// Its key in `oldest`.
    order: u64,
    since_ticks: u64,
    /// Some of its messages are being judged anew.
    is_in_hand: bool,
    /// How many of those came back.
    returned: usize,
    /// There may be room for refusals.
    is_confirmed: bool,
    /// The connection is to end: what still comes from it is nothing.
    is_ended: bool,
}

impl Unjudged {
    /// Nothing waits; so many bytes may.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            rows: BTreeMap::new(),
            oldest: BTreeMap::new(),
            orders: 0,
            bytes: 0,
            bytes_max,
            ticks: 0,
            released: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// Puts what is to be judged anew before these requests, and takes out of them what has to wait with others.
    pub fn sort(&mut self, requests: Vec<Request>) -> Vec<Request> {
        if self.rows.is_empty() && self.released.is_empty() {
            return requests;
        }
        let mut sorted = std::mem::take(&mut self.released);
        for request in requests {
            if let Request::Message { seat, .. } = request
                && self.rows.get(&seat.session()).is_some_and(|row| row.epoch == seat.epoch())
            {
                self.hold(seat.session(), request, None);
            } else {
                sorted.push(request);
            }
        }
        sorted
    }

    /// A batch has been committed, but for the messages in these places.
    pub fn handle_commit(&mut self, batch: Vec<Request>, held: &[usize]) {
        if held.is_empty() && self.rows.is_empty() {
            return;
        }
        let mut touched = Vec::new();
        let mut held = held.iter().peekable();
        for (place, request) in batch.into_iter().enumerate() {
            match request {
                Request::Message { seat, .. } => {
                    if held.next_if_eq(&&place).is_some() {
                        self.hold(seat.session(), request, Some((seat.ticket, seat.epoch())));
                    }
                    touched.push(seat.session());
                }
                Request::Confirm { attachment: Attachment { session, epoch }, .. } => {
                    if let Some(row) = self.rows.get_mut(&session).filter(|row| row.epoch == epoch) {
                        row.is_confirmed = true;
                        touched.push(session);
                    }
                }
                Request::Detach { seat, .. } => self.remove(seat.session(), seat.epoch()),
                Request::Attach(_)
                | Request::Append { .. }
                | Request::TokenUsed { .. }
                | Request::Push { .. }
                | Request::Load { .. }
                | Request::OutReceipt { .. } => {}
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for session in touched {
            self.settle(session);
        }
    }

    /// Time has passed in which commits went on.
    pub fn handle_tick(&mut self) {
        self.ticks += 1;
        while let Some((_, &session)) = self.oldest.first_key_value()
            && self.rows.get(&session).is_some_and(|row| row.since_ticks + PATIENCE_TICKS <= self.ticks)
        {
            self.end(session);
        }
    }

    /// Whether something is to be judged anew.
    #[must_use]
    pub const fn is_due(&self) -> bool {
        !self.released.is_empty()
    }

    /// The connections that are to end.
    pub fn take_ended(&mut self) -> Vec<Reply> {
        std::mem::take(&mut self.ended)
    }

    /// What waits, in bytes.
    #[cfg(test)]
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a message; `from` says of which connection, if it comes out of a batch.
    fn hold(&mut self, session: u64, message: Request, from: Option<(Ticket, u64)>) {
        if let Some((ticket, epoch)) = from
            && self.rows.get(&session).is_none_or(|row| row.epoch < epoch)
        {
            self.forget(session);
            self.begin(session, ticket, epoch);
        }
        let Some(row) = self.rows.get_mut(&session).filter(|row| !row.is_ended) else { return };
        if from.is_some_and(|(_, epoch)| epoch != row.epoch) {
            return;
        }
        let bytes = message.bytes();
        if from.is_some() {
            // What comes back goes before what has come meanwhile.
            row.messages.insert(row.returned, message);
            row.returned += 1;
        } else {
            row.messages.push_back(message);
        }
        row.bytes += bytes;
        self.bytes += bytes;
        while self.bytes > self.bytes_max
            && let Some((_, &oldest)) = self.oldest.first_key_value()
        {
            self.end(oldest);
        }
    }

    fn begin(&mut self, session: u64, ticket: Ticket, epoch: u64) {
        self.orders += 1;
        let row = Row {
            epoch,
            ticket,
            messages: VecDeque::new(),
            bytes: 0,
            order: self.orders,
            since_ticks: self.ticks,
            is_in_hand: false,
            returned: 0,
            is_confirmed: false,
            is_ended: false,
        };
        self.oldest.insert(row.order, session);
        self.rows.insert(session, row);
    }

    /// After a batch: lets more be judged if there may be room, and forgets who has nothing left.
    fn settle(&mut self, session: u64) {
        let Some(row) = self.rows.get_mut(&session).filter(|row| !row.is_ended) else { return };
        let returned = std::mem::take(&mut row.returned);
        if std::mem::take(&mut row.is_in_hand) && returned == 0 {
            row.is_confirmed = true;
        }
        if row.messages.is_empty() {
            return self.forget(session);
        }
        if !std::mem::take(&mut row.is_confirmed) {
            return;
        }
        let piece = row.messages.drain(..PIECE.min(row.messages.len()));
        let before = self.released.len();
        self.released.extend(piece);
        let bytes: usize = self.released[before..].iter().map(Request::bytes).sum();
        row.bytes -= bytes;
        self.bytes -= bytes;
        row.is_in_hand = true;
        // It moves on: its patience begins anew.
        self.orders += 1;
        self.oldest.remove(&row.order);
        (row.order, row.since_ticks) = (self.orders, self.ticks);
        self.oldest.insert(row.order, session);
    }

    /// The connection has to end. The row stays until it has, so that what still comes is not judged.
    fn end(&mut self, session: u64) {
        let Some(row) = self.rows.get_mut(&session) else { return };
        let first = row.messages.front();
        let number = if let Some(Request::Message { number, .. }) = first { *number } else { 0 };
        let seat = Seat::new(row.ticket, session, row.epoch);
        self.ended.push(Reply::Ended { seat, number, why: EndReason::Unconfirmed });
        self.bytes -= std::mem::take(&mut row.bytes);
        row.messages = VecDeque::new();
        row.is_ended = true;
        self.oldest.remove(&row.order);
    }

    /// A connection is gone.
    fn remove(&mut self, session: u64, epoch: u64) {
        if self.rows.get(&session).is_some_and(|row| row.epoch == epoch) {
            self.forget(session);
        }
    }

    fn forget(&mut self, session: u64) {
        if let Some(row) = self.rows.remove(&session) {
            self.bytes -= row.bytes;
            self.oldest.remove(&row.order);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seat::Moment;

    fn message(session: u64, epoch: u64, number: u64) -> Request {
        let payload = vec![0; 72].into();
        Request::Message { seat: Seat::new(1, session, epoch), number, received_at_ms: 0, payload }
    }

    fn detach(session: u64, epoch: u64) -> Request {
        Request::Detach { seat: Seat::new(1, session, epoch), for_good: false, now: Moment::default() }
    }

    fn numbers(requests: &[Request]) -> Vec<u64> {
        let number = |request: &Request| {
            let Request::Message { number, .. } = request else { return None };
            Some(*number)
        };
        requests.iter().filter_map(number).collect()
    }

    #[test]
    fn what_comes_back_keeps_its_place_and_every_byte_is_counted_once() {
        let mut unjudged = Unjudged::new(1 << 20);
        unjudged.handle_commit((1..=100).map(|number| message(7, 1, number)).collect(), &[98, 99]);
        assert_eq!((unjudged.bytes(), unjudged.is_due()), (400, false));
        let mut batch = unjudged.sort((101..=200).map(|number| message(7, 1, number)).collect());
        assert_eq!((batch.len(), unjudged.bytes()), (0, 102 * 200));
        batch.push(Request::Confirm { attachment: Attachment { session: 7, epoch: 1 }, floor: 1 });
        unjudged.handle_commit(batch, &[]);
        assert!(unjudged.is_due());
        let batch = unjudged.sort(vec![message(7, 1, 201), message(8, 1, 1)]);
        let first: Vec<u64> = (99..=162).collect();
        assert_eq!(numbers(&batch), [first.as_slice(), &[1]].concat());
        // All but one come back.
        unjudged.handle_commit(batch, &(1..64).collect::<Vec<_>>());
        assert_eq!((unjudged.bytes(), unjudged.is_due()), (102 * 200, false));
        let attachment = Attachment { session: 7, epoch: 1 };
        unjudged.handle_commit(vec![Request::Confirm { attachment, floor: 2 }], &[]);
        assert_eq!(numbers(&unjudged.sort(Vec::new())), (100..=163).collect::<Vec<_>>());
        unjudged.handle_commit(vec![detach(7, 1)], &[]);
        assert_eq!((unjudged.bytes(), unjudged.rows.len(), unjudged.oldest.len()), (0, 0, 0));
        assert_eq!(unjudged.take_ended(), []);
    }

    #[test]
    fn a_connection_that_is_to_end_holds_nothing_until_it_has_gone() {
        let mut unjudged = Unjudged::new(1000);
        unjudged.handle_commit(vec![message(1, 1, 65), message(2, 1, 65)], &[0, 1]);
        assert_eq!(unjudged.sort((66..=69).map(|number| message(2, 1, number)).collect()), []);
        let ended = unjudged.take_ended();
        assert!(
            matches!(ended[..], [Reply::Ended { seat, number: 65, .. }] if seat.session() == 1),
            "{ended:?}"
        );
        assert_eq!(unjudged.sort(vec![message(1, 1, 66)]), []);
        assert_eq!((unjudged.bytes(), unjudged.rows.len()), (1000, 2));
        // A newer connection of the same session is judged.
        assert_eq!(numbers(&unjudged.sort(vec![message(1, 2, 65)])), [65]);
        unjudged.handle_commit(vec![detach(1, 1), detach(2, 1)], &[]);
        assert_eq!((unjudged.bytes(), unjudged.rows.len(), unjudged.oldest.len()), (0, 0, 0));
    }
}
