//! Which connection each session has: its ticket and its epoch. Kept in memory only, where it outlives the loss and the reopening of the
//! database, and follows what is committed there. Knows no session.

use pulsegate_sessions::Ticket;
use std::collections::HashMap;

/// Below so many places the map is not made smaller.
const PLACES_MIN: usize = 1024;

/// A connection of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) ticket: Ticket,
    pub(crate) epoch: u64,
}

/// A ticket in two halves, and an epoch: whole, each would be padded by 8 bytes.
type Parts = [u64; 3];

/// The tickets of all sessions that have a connection.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    committed: HashMap<u64, Parts>,
    /// What the running transaction changes.
    changed: HashMap<u64, Option<Present>>,
    /// The highest number of a session that ever had a connection.
    session_max: u64,
}

impl Tickets {
    /// The ticket of the session's connection, if it has one, as of the running transaction.
    pub(crate) fn of(&self, session: u64) -> Option<Ticket> {
        self.present(session).map(|present| present.ticket)
    }

    fn present(&self, session: u64) -> Option<Present> {
        match self.changed.get(&session) {
            Some(changed) => *changed,
            None => self.committed.get(&session).map(whole),
        }
    }

    /// The session has this connection, or none.
    pub(crate) fn follow(&mut self, session: u64, epoch: u64, connection: Option<Ticket>) {
        let present = connection.map(|ticket| Present { ticket, epoch });
        if self.present(session) != present {
            self.session_max = self.session_max.max(session);
            self.changed.insert(session, present);
        }
    }

    /// The session has no connection any more.
    pub(crate) fn detach(&mut self, session: u64) {
        self.changed.insert(session, None);
    }

    /// The transaction is committed.
    pub(crate) fn handle_commit(&mut self) {
        for (session, present) in self.changed.drain() {
            match present {
                Some(present) => self.committed.insert(session, parts(present)),
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

    /// Only these sessions have a connection, and it is that of the epoch. Returns those that have none any more.
    pub(crate) fn retain(&mut self, attached: &HashMap<u64, u64>) -> Vec<(u64, Present)> {
        let mut gone = Vec::new();
        self.committed.retain(|session, present| {
            let present = whole(present);
            let stays = attached.get(session) == Some(&present.epoch);
            if !stays {
                gone.push((*session, present));
            }
            stays
        });
        gone
    }

    /// The highest number of a session that ever had a connection, in whatever became of the database since.
    pub(crate) const fn session_max(&self) -> u64 {
        self.session_max
    }

    /// How many sessions have a connection, as of the last commit.
    pub(crate) fn committed(&self) -> usize {
        self.committed.len()
    }
}

const fn parts(Present { ticket, epoch }: Present) -> Parts {
    [(ticket >> 64) as u64, ticket as u64, epoch]
}

const fn whole(&[high, low, epoch]: &Parts) -> Present {
    Present { ticket: (high as Ticket) << 64 | low as Ticket, epoch }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKET: Ticket = u128::MAX / 3;

    #[test]
    fn a_rollback_brings_back_what_was_committed() {
        let mut tickets = Tickets::default();
        tickets.follow(1, 1, Some(TICKET));
        tickets.follow(2, 1, Some(2));
        tickets.handle_commit();
        tickets.follow(1, 2, Some(3));
        assert_eq!(tickets.of(1), Some(3));
        tickets.detach(2);
        assert_eq!((tickets.of(2), tickets.committed()), (None, 2));
        tickets.handle_rollback();
        assert_eq!((tickets.of(1), tickets.of(2)), (Some(TICKET), Some(2)));
    }

    #[test]
    fn what_a_database_does_not_know_is_gone() {
        let mut tickets = Tickets::default();
        for (session, epoch) in [(1, 1), (2, 5), (3, 2)] {
            tickets.follow(session, epoch, Some(TICKET + Ticket::from(session)));
        }
        tickets.handle_commit();
        let mut gone = tickets.retain(&HashMap::from([(1, 1), (2, 4), (9, 1)]));
        gone.sort_unstable_by_key(|(session, _)| *session);
        let present = |session, epoch| (session, Present { ticket: TICKET + Ticket::from(session), epoch });
        assert_eq!(gone, [present(2, 5), present(3, 2)]);
        assert_eq!((tickets.committed(), tickets.of(1), tickets.session_max()), (1, Some(TICKET + 1), 3));
    }

    #[test]
    fn the_memory_of_a_crowd_is_given_back() {
        let mut tickets = Tickets::default();
        (1..=100_000).for_each(|session| tickets.follow(session, 1, Some(TICKET)));
        tickets.handle_commit();
        (11..=100_000).for_each(|session| tickets.detach(session));
        tickets.handle_commit();
        assert!(tickets.committed() == 10 && tickets.committed.capacity() < PLACES_MIN);
        assert_eq!((tickets.of(10), tickets.of(11)), (Some(TICKET), None));
    }
}
