//! Which connection each session has: its ticket. Kept in memory only, where it outlives the loss and the reopening of the
//! database, and follows what is committed there. Knows no session.

use crate::request::Ticket;
use std::collections::{HashMap, HashSet};

/// Below so many places the map is not made smaller.
const PLACES_MIN: usize = 1024;

/// A ticket in two halves: whole, each would be padded by 8 bytes.
type Halves = [u64; 2];

/// The tickets of all sessions that have a connection.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    committed: HashMap<u64, Halves>,
    /// What the running transaction changes.
    changed: HashMap<u64, Option<Ticket>>,
}

impl Tickets {
    /// The ticket of the session's connection, if it has one, as of the running transaction.
    pub(crate) fn of(&self, session: u64) -> Option<Ticket> {
        match self.changed.get(&session) {
            Some(changed) => *changed,
            None => self.committed.get(&session).map(whole),
        }
    }

    /// The session has a new connection. Returns the ticket of the one that this replaces.
    pub(crate) fn attach(&mut self, session: u64, ticket: Ticket) -> Option<Ticket> {
        let replaced = self.of(session);
        self.changed.insert(session, Some(ticket));
        replaced
    }

    /// The session has no connection any more.
    pub(crate) fn detach(&mut self, session: u64) {
        self.changed.insert(session, None);
    }

    /// The transaction is committed.
    pub(crate) fn handle_commit(&mut self) {
        for (session, ticket) in self.changed.drain() {
            match ticket {
                Some(ticket) => self.committed.insert(session, halves(ticket)),
                None => self.committed.remove(&session),
            };
        }
        let places = self.committed.capacity();
        if places > PLACES_MIN && self.committed.len() < places / 4 {
            self.committed.shrink_to(2 * self.committed.len());
        }
    }

    /// The transaction has never been.
    pub(crate) fn handle_rollback(&mut self) {
        self.changed.clear();
    }

    /// Only these sessions have a connection.
    pub(crate) fn retain(&mut self, attached: &HashSet<u64>) {
        self.committed.retain(|session, _| attached.contains(session));
    }

    /// How many sessions have a connection, as of the last commit.
    pub(crate) fn committed(&self) -> usize {
        self.committed.len()
    }
}

const fn halves(ticket: Ticket) -> Halves {
    [(ticket >> 64) as u64, ticket as u64]
}

const fn whole(halves: &Halves) -> Ticket {
    (halves[0] as Ticket) << 64 | halves[1] as Ticket
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKET: Ticket = u128::MAX / 3;

    #[test]
    fn a_rollback_brings_back_what_was_committed() {
        let mut tickets = Tickets::default();
        assert_eq!((tickets.attach(1, TICKET), tickets.attach(2, 2)), (None, None));
        tickets.handle_commit();
        assert_eq!((tickets.attach(1, 3), tickets.of(1)), (Some(TICKET), Some(3)));
        tickets.detach(2);
        assert_eq!((tickets.of(2), tickets.committed()), (None, 2));
        tickets.handle_rollback();
        assert_eq!((tickets.of(1), tickets.of(2)), (Some(TICKET), Some(2)));
    }

    #[test]
    fn the_memory_of_a_crowd_is_given_back() {
        let mut tickets = Tickets::default();
        (1..=100_000).for_each(|session| assert_eq!(tickets.attach(session, TICKET), None));
        tickets.handle_commit();
        (11..=100_000).for_each(|session| tickets.detach(session));
        tickets.handle_commit();
        assert!(tickets.committed() == 10 && tickets.committed.capacity() < PLACES_MIN);
        assert_eq!((tickets.of(10), tickets.of(11)), (Some(TICKET), None));
    }
}
