//! Errands that concern very many connections: so many at a time that the others are served meanwhile.

use crate::shard::Shard;
use crate::shard::io::Io;
use pulsegate_core::close::CloseReason;
use std::time::Duration;

/// The most that are seen to in one turn.
pub(crate) const VISITS_PER_TURN: usize = 256;

/// What is to be done at each connection.
#[derive(Clone, Debug)]
pub(crate) enum Errand {
    /// Those of failed sinks and stores are ended.
    Purge,
    /// Those end that wait for the receipts of this ledger, if its sink has taken nothing for too long.
    EndStalled(usize),
    /// Clients of the pulse protocol are told something (PROTOCOL.md section 8.1).
    Notice {
        /// Only those of this ledger.
        ledger: Option<usize>,
        code: u16,
        text: String,
    },
}

/// An errand on its way through the table.
#[derive(Debug)]
pub(crate) struct Sweep {
    next: u32,
    errand: Errand,
}

impl<I: Io> Shard<I> {
    /// Sees to an errand, this turn and the next ones.
    pub(crate) fn sweep(&mut self, errand: Errand) {
        self.sweeps.push_back(Sweep { next: 0, errand });
    }

    /// Goes on with the oldest errand.
    pub(crate) fn sweep_step(&mut self) {
        let Some(Sweep { mut next, errand }) = self.sweeps.pop_front() else { return };
        for _ in 0..VISITS_PER_TURN {
            let Some(key) = self.table.next_key(next) else { return };
            next = key + 1;
            self.visit(key, &errand);
        }
        self.sweeps.push_front(Sweep { next, errand });
    }

    fn visit(&mut self, key: u32, errand: &Errand) {
        match errand {
            Errand::Purge => {
                if self.obstacle_of(key) == Some(CloseReason::SinkFailed) {
                    let now = self.now();
                    self.end(key, now, CloseReason::SinkFailed);
                }
            }
            Errand::EndStalled(ledger) => self.end_if_stalled(key, *ledger),
            Errand::Notice { ledger, code, text } => {
                let own = self.ledger_of(key);
                if own.is_some() && (ledger.is_none() || own == *ledger) {
                    let now = self.now();
                    self.act(key, now, |connection, policy, courier| {
                        connection.notify(now, policy, *code, Duration::ZERO, text, courier);
                    });
                    self.settle(key, now);
                }
            }
        }
    }
}
