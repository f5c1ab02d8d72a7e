//! The client's own messages, from the moment they are taken until their outcome is reported: those that wait for the
//! disk, those that wait for a number, those that have one. Outlives connections and sessions. Must not know the
//! gateway's messages.

use crate::delivery::{Committed, Delivery, Keeping, SendError, Ticket, Untold};
use crate::event::{Event, EventSender};
use crate::journal::{Entry, Found, Journal};
use bytes::Bytes;
use pulsegate_core::exchange::{Sending, Unsettled, Window};
use pulsegate_core::frame::{Durability, Welcome};
use pulsegate_core::pulse::Pulse;
use std::collections::VecDeque;
use std::sync::Arc;

/// What a new connection tells before it is told otherwise; nothing is sent before it is.
const NO_WINDOW: Window = Window { messages: 0, bytes: 0 };

/// The sending side of a client.
#[derive(Debug)]
pub(crate) struct Ledger {
    session: u64,
    /// Not on disk yet, with their places in the journal.
    storing: VecDeque<(u64, Ticket, Bytes)>,
    /// Taken in, and never given to a connection.
    waiting: VecDeque<(Ticket, Bytes)>,
    /// Those that have numbers, from `settled` + 1 on. Their payloads are with the sending half.
    numbered: VecDeque<Ticket>,
    settled: u64,
    /// The ids of settled messages whose confirmation has not left, the last of them under the number `settled`.
    unconfirmed: VecDeque<u64>,
    /// The highest number of which it was told that it was sent.
    told_sent: u64,
    /// The last id of which nothing more will be heard.
    forgotten: u64,
    /// On disk: messages up to this id may have been sent.
    marked: u64,
    /// Higher marks on their way to the disk, with their places.
    marking: VecDeque<(u64, u64)>,
    /// What the gateway takes.
    window_messages: usize,
    message_bytes_max: usize,
    /// What its receipts promise.
    durability: Durability,
}

/// Sending's half, tickets and deliveries of what was found.
pub(crate) struct Restored {
    pub(crate) ledger: Ledger,
    pub(crate) sending: Sending<Bytes>,
    pub(crate) deliveries: Vec<Delivery>,
}

impl Ledger {
    /// Goes on with what was found. `room` gives each message what it takes of the outbox.
    pub(crate) fn restore(
        found: &mut Found,
        keeping: Keeping,
        untold: &Arc<Untold>,
        mut room: impl FnMut(&Bytes) -> Option<tokio::sync::OwnedSemaphorePermit>,
    ) -> Restored {
        let mut ledger = Self {
            session: found.session,
            storing: VecDeque::new(),
            waiting: VecDeque::new(),
            numbered: VecDeque::new(),
            settled: found.settled,
            unconfirmed: VecDeque::new(),
            told_sent: found.settled,
            forgotten: found.messages.first().map_or(found.last_id, |(id, _)| id - 1),
            marked: found.marked,
            marking: VecDeque::new(),
            window_messages: 0,
            message_bytes_max: usize::MAX,
            durability: Durability::None,
        };
        let (mut kept, mut deliveries) = (Vec::new(), Vec::new());
        for (id, payload) in found.messages.drain(..) {
            let (ticket, delivery) = Ticket::new(id, room(&payload), keeping, untold);
            deliveries.push(delivery);
            if id <= found.marked {
                ledger.numbered.push_back(ticket);
                kept.push(payload);
            } else {
                ledger.waiting.push_back((ticket, payload));
            }
        }
        let sent = found.settled + kept.len() as u64;
        ledger.told_sent = sent;
        let sending = Sending::restore(found.settled, sent, kept, NO_WINDOW);
        Restored { ledger, sending, deliveries }
    }

    /// Whether nothing waits for an outcome.
    pub(crate) fn is_empty(&self) -> bool {
        self.storing.is_empty() && self.waiting.is_empty() && self.numbered.is_empty()
    }

    /// Takes a message in. It may go to a connection as soon as it is on disk.
    pub(crate) fn push(&mut self, ticket: Ticket, payload: Bytes, journal: &mut Journal, is_attached: bool) {
        let id = ticket.id;
        let place = journal.write(Entry::Insert(id, payload.clone()));
        // What will be sent at once is marked in the same transaction.
        let marks_on = match (self.storing.back(), self.marking.back()) {
            (None, _) => self.waiting.is_empty(),
            (Some((_, last, _)), Some((_, marking))) => last.id == *marking,
            (Some(_), None) => false,
        };
        let is_next = self.numbered.len() + self.storing.len() < self.window_messages;
        if is_attached && marks_on && is_next && payload.len() <= self.message_bytes_max {
            self.marking.push_back((journal.write(Entry::Mark(id)), id));
        }
        self.storing.push_back((place, ticket, payload));
        self.handle_stored(journal);
    }

    /// The disk may have caught up.
    pub(crate) fn handle_stored(&mut self, journal: &Journal) {
        while let Some((_, mut ticket, payload)) =
            self.storing.pop_front_if(|(place, ..)| journal.is_stored(*place))
        {
            ticket.tell_stored();
            self.waiting.push_back((ticket, payload));
        }
        while let Some((_, id)) = self.marking.pop_front_if(|(place, _)| journal.is_stored(*place)) {
            self.marked = id;
        }
    }

    /// What the gateway takes, and what its receipts promise, has been told.
    pub(crate) fn handle_welcome(&mut self, welcome: &Welcome<'_>) {
        self.window_messages = welcome.window.messages as usize;
        self.message_bytes_max = welcome.message_bytes_max as usize;
        self.durability = welcome.durability;
    }

    /// Gives waiting messages to the connection, about as many as the window has room for.
    pub(crate) fn hand_over(
        &mut self,
        pulse: &mut Pulse<Bytes>,
        journal: &mut Journal,
        events: &EventSender,
    ) {
        while self.numbered.len() < self.window_messages
            && let Some((ticket, payload)) = self.waiting.front()
        {
            let bytes = payload.len();
            if bytes <= self.message_bytes_max && journal.is_on_disk() && ticket.id > self.marked {
                return self.mark(journal);
            }
            let Some((ticket, payload)) = self.waiting.pop_front() else { return };
            if bytes <= self.message_bytes_max {
                pulse.push(payload);
                self.numbered.push_back(ticket);
                continue;
            }
            let (id, bytes_max) = (ticket.id, self.message_bytes_max);
            journal.write(Entry::Remove(id));
            events.tell(|| Event::TooLarge { id, bytes, bytes_max });
            ticket.tell(Err(SendError::TooLarge { bytes, bytes_max }));
        }
    }

    /// Marks what may be sent next. Nothing that is too large for this gateway is ever marked, so what is found
    /// marked after a restart has a number.
    fn mark(&mut self, journal: &mut Journal) {
        if !self.marking.is_empty() {
            return;
        }
        let fits = |payload: &Bytes| payload.len() <= self.message_bytes_max;
        let next = self.waiting.iter().take(self.window_messages).take_while(|(_, payload)| fits(payload));
        if let Some(id) = next.last().map(|(ticket, _)| ticket.id) {
            self.marking.push_back((journal.write(Entry::Mark(id)), id));
        }
    }

    /// Tells what has left the connection's queue since this was asked last.
    pub(crate) fn handle_transmitted(&mut self, sending: &Sending<Bytes>, events: &EventSender) {
        for number in self.told_sent + 1..=sending.ever_sent() {
            let place = usize::try_from(number - self.settled - 1).ok();
            if let Some(id) = place.and_then(|place| self.numbered.get(place)).map(|ticket| ticket.id) {
                events.tell(|| Event::Sent { id, number });
            }
        }
        self.told_sent = self.told_sent.max(sending.ever_sent());
        let confirmed = sending.settled() - sending.unconfirmed();
        let first = self.settled + 1 - self.unconfirmed.len() as u64;
        for number in first..=confirmed {
            if let Some(id) = self.unconfirmed.pop_front() {
                events.tell(|| Event::Confirmed { id, number });
            }
        }
    }

    /// A message is refused; that counts when a receipt covers it.
    pub(crate) fn handle_refused(&mut self, number: u64, code: u16, text: &str) {
        let place = number.checked_sub(self.settled + 1).and_then(|place| usize::try_from(place).ok());
        if let Some(ticket) = place.and_then(|place| self.numbered.get_mut(place)) {
            // It may have been heard on an earlier connection, with a text that WELCOME doesn't have.
            ticket.refused.get_or_insert_with(|| (code, text.to_owned()));
        }
    }

    /// Everything up to this number has its fate. Returns the place in the journal that has to be on disk before
    /// the gateway may forget what it has refused, 0 if there is none.
    pub(crate) fn handle_settled(&mut self, last: u64, journal: &mut Journal, events: &EventSender) -> u64 {
        let mut has_refused = false;
        while self.settled < last
            && let Some(mut ticket) = self.numbered.pop_front()
        {
            self.settled += 1;
            let (id, session, number) = (ticket.id, self.session, self.settled);
            self.forgotten = id;
            self.unconfirmed.push_back(id);
            if let Some((code, text)) = ticket.refused.take() {
                has_refused = true;
                events.tell(|| Event::Refused { id, number, code, text: text.clone() });
                ticket.tell(Err(SendError::NotAccepted { code, text }));
            } else {
                let durability = self.durability;
                events.tell(|| Event::Committed { id, number, durability });
                ticket.tell(Ok(Committed { id, session, number, durability }));
            }
        }
        let place = journal.write(Entry::Settle { id: self.forgotten, number: self.settled });
        if has_refused { place } else { 0 }
    }

    /// The session is gone or given up: what was sent and not settled is unknown, what was never sent waits for
    /// the next one. Returns the last id of which nothing more will be heard.
    pub(crate) fn give_up(&mut self, sending: Sending<Bytes>, session: u64, events: &EventSender) -> u64 {
        // A gateway that breaks the rules in its WELCOME may have made the half forget more than it settled.
        let held_from = sending.settled() + 1;
        let mut unsettled = sending.into_unsettled();
        let mut never_sent = VecDeque::new();
        for (number, ticket) in (self.settled + 1..).zip(std::mem::take(&mut self.numbered)) {
            let kept = if number < held_from { None } else { unsettled.next() };
            match kept {
                Some((_, Unsettled::NeverSent, payload)) => never_sent.push_back((ticket, payload)),
                Some((_, Unsettled::Unknown, _)) | None => {
                    self.forgotten = ticket.id;
                    tell_unknown(ticket, number, events);
                }
            }
        }
        never_sent.append(&mut self.waiting);
        self.waiting = never_sent;
        self.session = session;
        self.settled = 0;
        self.told_sent = 0;
        self.unconfirmed.clear();
        // Nothing of the new session is marked yet; a mark on its way means the old one.
        self.marked = self.forgotten;
        self.marking.clear();
        self.forgotten
    }

    /// The client has ended, and no entry will be stored any more: everything that waits gets its outcome. `keeps`
    /// if what is kept is continued by another client.
    pub(crate) fn end(
        &mut self,
        sending: Sending<Bytes>,
        keeps: bool,
        journal: &Journal,
        events: &EventSender,
    ) {
        self.handle_stored(journal);
        if keeps {
            for ticket in self.numbered.drain(..).chain(self.waiting.drain(..).map(|(ticket, _)| ticket)) {
                ticket.tell(Err(SendError::Kept));
            }
        } else {
            self.give_up(sending, 0, events);
            for (ticket, _) in self.waiting.drain(..) {
                ticket.tell(Err(SendError::Closed));
            }
        }
        for (_, ticket, _) in self.storing.drain(..) {
            // It may have reached the disk, where a later client finds it.
            ticket.tell(Err(SendError::Unknown));
        }
    }

    /// The payloads that wait for a connection.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Bytes> {
        self.waiting.iter().map(|(_, payload)| payload)
    }

    /// The highest number up to which everything is settled.
    pub(crate) const fn settled(&self) -> u64 {
        self.settled
    }

    /// The highest number of this session that may have been sent.
    pub(crate) fn sent_max(&self) -> u64 {
        self.told_sent.max(self.settled)
    }
}

/// The session in which this was sent is gone. A refusal that was heard stands.
fn tell_unknown(mut ticket: Ticket, number: u64, events: &EventSender) {
    let id = ticket.id;
    if let Some((code, text)) = ticket.refused.take() {
        events.tell(|| Event::Refused { id, number, code, text: text.clone() });
        return ticket.tell(Err(SendError::NotAccepted { code, text }));
    }
    events.tell(|| Event::Unknown { id });
    ticket.tell(Err(SendError::Unknown));
}
