//! Errands that concern very many connections: so many at a time that the others are served meanwhile.

use crate::shard::Shard;
use crate::shard::agenda::{Errand, Sweep};
use crate::shard::io::Io;
use crate::shard::served::Served;
use pulsegate_core::close::CloseReason;
use std::time::Duration;

/// The most that are seen to in one turn.
pub(crate) const VISITS_PER_TURN: usize = 256;

impl<I: Io> Shard<I> {
    /// Goes on with the oldest errand.
    pub(crate) fn sweep_step(&mut self) {
        let Some(Sweep { mut next, errand }) = self.agenda.sweeps.pop_front() else { return };
        for _ in 0..VISITS_PER_TURN {
            let Some(id) = self.connections.table.next(next) else { return };
            next = id.key() + 1;
            self.serve(id, |served| served.visit(&errand));
        }
        self.agenda.sweeps.push_front(Sweep { next, errand });
    }
}

impl<I: Io> Served<'_, I> {
    fn visit(&mut self, errand: &Errand) {
        match errand {
            Errand::Purge => {
                if self.obstacle() == Some(CloseReason::SinkFailed) {
                    let now = self.now();
                    self.end(now, CloseReason::SinkFailed);
                }
            }
            Errand::EndStalled(ledger) => self.end_if_stalled(*ledger),
            Errand::Notice { ledger, code, text } => {
                let own = self.outlet().ledger();
                if own.is_some() && (ledger.is_none() || own == *ledger) {
                    let now = self.now();
                    self.change(now, |connection, policy, output| {
                        connection.notify(now, policy, *code, Duration::ZERO, text, output);
                    });
                }
            }
        }
    }
}
