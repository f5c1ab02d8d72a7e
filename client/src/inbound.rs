//! The gateway's messages: what was handed to the application, what it has said, and how far the cursor may go
//! (PROTOCOL.md sections 5.7, 7.2, 7.3). Outlives connections. Must not know the client's own messages.

use crate::command::Verdict;
use crate::journal::{Entry, Found, Journal};
use crate::message::{Inbox, Incoming};
use bytes::Bytes;
use pulsegate_core::exchange::Receiving;
use pulsegate_core::frame::REFUSALS_MAX;
use pulsegate_core::pulse::Pulse;
use std::collections::VecDeque;

/// The receiving side of a session.
#[derive(Debug)]
pub(crate) struct Inbound {
    inbox: Inbox,
    /// Counts sessions, so that a verdict over a message of an older one is told.
    epoch: u64,
    session: u64,
    /// The cursor as it is on disk: what the gateway may be told.
    committed: u64,
    /// The cursor as it will be when the disk has caught up.
    judged: u64,
    /// Cursors on their way to the disk, with their places in the journal.
    storing: VecDeque<(u64, u64)>,
    /// The verdicts over what the application was handed above `judged`, in the order of the numbers.
    verdicts: VecDeque<Option<Verdict>>,
    /// What was refused up to `judged`, where the gateway has not said that it knows.
    refusals: VecDeque<Refusal>,
    /// The gateway holds receipts up to here.
    floor: u64,
}

#[derive(Debug)]
struct Refusal {
    number: u64,
    code: u16,
    text: String,
}

impl Inbound {
    pub(crate) fn new(inbox: Inbox, found: &Found) -> Self {
        let refusal = |&(number, code): &(u64, u16)| Refusal { number, code, text: String::new() };
        Self {
            inbox,
            epoch: 0,
            session: found.session,
            committed: found.committed,
            judged: found.committed,
            storing: VecDeque::new(),
            verdicts: VecDeque::new(),
            refusals: found.refused.iter().map(refusal).collect(),
            floor: 0,
        }
    }

    /// The half that a new connection begins with.
    pub(crate) fn receiving(&self) -> Receiving {
        Receiving::restore(self.committed, self.floor.min(self.committed))
    }

    /// The cursor that the gateway may be told.
    pub(crate) const fn committed(&self) -> u64 {
        self.committed
    }

    /// The refusals up to the cursor.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (u64, u16)> {
        let told = self.refusals.iter().filter(|refusal| refusal.number <= self.committed);
        told.map(|refusal| (refusal.number, refusal.code))
    }

    /// Whether the gateway may be told all that the application has said.
    pub(crate) fn is_stored(&self) -> bool {
        self.storing.is_empty()
    }

    /// A session has begun: numbers begin at 1, and nothing that belongs to the one before counts.
    pub(crate) fn begin(&mut self, session: u64) {
        self.inbox.clear();
        *self = Self {
            inbox: self.inbox.clone(),
            epoch: self.epoch + 1,
            session,
            committed: 0,
            judged: 0,
            storing: VecDeque::new(),
            verdicts: VecDeque::new(),
            refusals: VecDeque::new(),
            floor: 0,
        };
    }

    /// The gateway holds receipts above our cursor: what lies between was lost on this side. Returns its first
    /// and last number.
    pub(crate) fn skip(&mut self, acknowledged: u64, journal: &mut Journal) -> Option<(u64, u64)> {
        if acknowledged <= self.judged {
            return None;
        }
        let first = self.judged + 1;
        let passed = usize::try_from(acknowledged - self.judged).unwrap_or(usize::MAX);
        self.verdicts.drain(..passed.min(self.verdicts.len()));
        self.judged = acknowledged;
        let place = journal.write(Entry::Cursor(acknowledged, Vec::new()));
        self.storing.push_back((place, acknowledged));
        self.handle_stored(journal);
        Some((first, acknowledged))
    }

    /// A message has come. It is handed on unless it was, on an earlier connection.
    pub(crate) fn handle_message(&mut self, number: u64, payload: &[u8]) {
        if number <= self.judged + self.verdicts.len() as u64 {
            return;
        }
        self.verdicts.push_back(None);
        let payload = Bytes::copy_from_slice(payload);
        self.inbox.push(Incoming { epoch: self.epoch, session: self.session, number, payload });
    }

    /// The gateway knows what became of its messages up to here.
    pub(crate) fn handle_confirmed(&mut self, floor: u64, journal: &mut Journal) {
        self.floor = self.floor.max(floor);
        let before = self.refusals.len();
        self.refusals.retain(|refusal| refusal.number > floor);
        if self.refusals.len() < before {
            journal.write(Entry::Known(floor));
            self.advance(journal);
        }
    }

    /// The application has judged a message.
    pub(crate) fn handle_verdict(
        &mut self,
        epoch: u64,
        number: u64,
        verdict: Verdict,
        journal: &mut Journal,
    ) {
        let place = number.checked_sub(self.judged + 1).and_then(|place| usize::try_from(place).ok());
        if epoch != self.epoch {
            return;
        }
        if let Some(place) = place.and_then(|place| self.verdicts.get_mut(place)) {
            *place = Some(verdict);
            self.advance(journal);
        }
    }

    /// Moves the cursor over what is judged without a gap, as long as there is room for refusals.
    fn advance(&mut self, journal: &mut Journal) {
        let before = self.judged;
        let mut refused = Vec::new();
        while self.refusals.len() < REFUSALS_MAX
            && let Some(verdict) = self.verdicts.pop_front_if(|verdict| verdict.is_some()).flatten()
        {
            self.judged += 1;
            if let Verdict::Refused(code, text) = verdict {
                refused.push((self.judged, code));
                self.refusals.push_back(Refusal { number: self.judged, code, text });
            }
        }
        if self.judged > before {
            let place = journal.write(Entry::Cursor(self.judged, refused));
            self.storing.push_back((place, self.judged));
            self.handle_stored(journal);
        }
    }

    /// The disk may have caught up.
    pub(crate) fn handle_stored(&mut self, journal: &Journal) {
        while let Some((_, cursor)) = self.storing.pop_front_if(|(place, _)| journal.is_stored(*place)) {
            self.committed = cursor;
        }
    }

    /// Tells the gateway what it may be told: refusals, and then the receipt.
    pub(crate) fn answer(&self, pulse: &mut Pulse<Bytes>) {
        let receiving = *pulse.receiving();
        let until = self.committed.min(receiving.received());
        if until > receiving.committed() {
            let untold = receiving.committed() + 1..=until;
            for refusal in self.refusals.iter().filter(|refusal| untold.contains(&refusal.number)) {
                pulse.refuse(refusal.number, refusal.code, &refusal.text);
            }
            pulse.commit(until);
        }
    }
}
