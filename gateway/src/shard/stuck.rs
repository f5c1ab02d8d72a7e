//! Sinks and stores that take nothing: who is told, who is ended, and when. One that moves, however slowly, ends
//! nobody.

use crate::shard::Shard;
use crate::shard::door::Delivery;
use crate::shard::io::Io;
use crate::shard::ledger::Stuck;
use crate::shard::sweep::Errand;
use pulsegate_core::close::CloseReason;
use pulsegate_core::frame::{NOTICE_GOES_ON, NOTICE_STOPPED};
use pulsegate_core::time::{Instant, Now};

impl<I: Io> Shard<I> {
    /// The committer of this ledger waits for its sink, which takes nothing, or does so no longer. Clients of the
    /// pulse protocol are told: they are read on, since their windows bound them, and no receipt says what is wrong.
    pub(crate) fn handle_stuck(&mut self, now: Now, ledger: usize, is_stuck: bool) {
        let doors = self.shared.doors.iter().filter(|door| door.ledger == Some(ledger));
        let every = doors.map(|door| door.policy.sink_stall).min().unwrap_or_default();
        let since = self.ledger_rests_since(ledger, now.own()).unwrap_or_else(|| now.own());
        let Some(state) = self.ledgers.get_mut(ledger) else { return };
        state.stuck = is_stuck.then_some(Stuck { check: since.after(every), every });
        let (code, text) = if is_stuck {
            (NOTICE_STOPPED, "receipts have stopped: the sink takes nothing")
        } else {
            (NOTICE_GOES_ON, "receipts go on")
        };
        self.sweep(Errand::Notice { ledger: Some(ledger), code, text: text.to_owned() });
    }

    /// Looks for those who have waited too long for a sink that takes nothing, if it is time to.
    pub(crate) fn check_stuck(&mut self) {
        let now = self.now();
        for ledger in 0..self.ledgers.len() {
            if let Some(Stuck { check, every }) = &mut self.ledgers[ledger].stuck
                && *check <= now.own()
            {
                *check = now.own().after(*every);
                self.sweep(Errand::EndStalled(ledger));
            }
        }
    }

    /// When [`check_stuck`](Self::check_stuck) is due.
    pub(crate) fn next_stuck_check(&self) -> Option<Instant> {
        let checks = self.ledgers.iter().filter_map(|ledger| Some(ledger.stuck?.check));
        checks.min().map(|own| own.after(self.guard.stalled()))
    }

    /// Ends a connection of this ledger that waits for receipts, if its sink has taken nothing for too long.
    pub(crate) fn end_if_stalled(&mut self, key: u32, ledger: usize) {
        let now = self.now();
        let Some(since) = self.ledger_rests_since(ledger, now.own()) else { return };
        if self.ledger_of(key) != Some(ledger) {
            return;
        }
        let Some(entry) = self.table.at(key) else { return };
        let sink_stall = self.shared.doors[usize::from(entry.listener)].policy.sink_stall;
        if entry.connection.owes_receipts() && now.own().since(since) >= sink_stall {
            self.end(key, now, CloseReason::SinkStalled);
        }
    }

    /// What this connection waits for may have moved: then its wait begins anew.
    pub(crate) fn note_progress(&mut self, key: u32, now: Now) {
        let own = now.own();
        let ledger = self.ledger_of(key);
        let Some(entry) = self.table.at(key) else { return };
        let delivery = self.shared.doors[usize::from(entry.listener)].delivery;
        let moved = match (ledger, delivery) {
            (Some(ledger), _) if entry.connection.awaits_welcome() => self.ledgers[ledger].answered,
            (Some(ledger), _) => self.ledgers[ledger].rests_since(own).unwrap_or(own),
            (None, Delivery::Lane(lane)) => self.lanes[lane].rests_since(own).unwrap_or(own),
            (None, Delivery::Discard | Delivery::Echo(_) | Delivery::Store) => return,
        };
        entry.connection.handle_sink_progress(moved);
    }

    /// Since when the sink of this store in memory has no room and takes nothing.
    fn ledger_rests_since(&mut self, ledger: usize, own: Instant) -> Option<Instant> {
        let door = self.shared.doors.iter().find(|door| door.ledger == Some(ledger))?;
        match door.delivery {
            Delivery::Lane(lane) => self.lanes[lane].rests_since(own),
            Delivery::Discard | Delivery::Echo(_) | Delivery::Store => None,
        }
    }
}
