//! The graceful stop of a shard: plans and ends keep the pace of its [`Drain`], and what isn't handed over in time is
//! given up.

use crate::shard::Shard;
use crate::shard::drain::Drain;
use crate::shard::errands::VISITS_PER_TURN;
use crate::shard::io::Io;
use pulsegate_core::close::{CloseReason, Retry};
use pulsegate_core::frame::NOTICE_DRAIN;
use pulsegate_core::time::Now;
use std::time::Duration;

/// The most that are ended in one turn, so that the others are served meanwhile.
const ENDS_PER_TURN: usize = 256;

impl<I: Io> Shard<I> {
    /// Begins to end all connections, spread over `within`.
    pub(crate) fn begin_drain(&mut self, now: Now, within: Duration) {
        if self.agenda.drain.is_none() {
            let returns =
                self.shared.listeners.iter().map(|listener| listener.limits.return_time()).collect();
            self.agenda.drain = Some(Drain::new(now.instant, within, self.connections.table.len(), returns));
        }
    }

    /// Plans ends and tells the clients, then ends so many connections that the drain keeps its pace.
    pub(crate) fn drain_step(&mut self) {
        let now = self.now();
        for _ in 0..VISITS_PER_TURN {
            let Some(drain) = &mut self.agenda.drain else { return };
            let Some((id, end)) = drain.plan(&mut self.connections.table) else { break };
            self.serve(id, |served| {
                served.change(now, |connection, policy, output| {
                    let text = "the gateway is draining";
                    connection.notify(now, policy, NOTICE_DRAIN, end.since(now.instant), text, output);
                });
            });
        }
        for _ in 0..ENDS_PER_TURN {
            let Some((id, part)) = self.agenda.drain.as_mut().and_then(|drain| drain.take(now.instant))
            else {
                return;
            };
            self.serve(id, |served| {
                let listener = served.entry.listener;
                let Some(drain) = &served.agenda.drain else { return };
                let retry = drain.retry(now.instant, listener, part);
                served.change(now, |connection, policy, output| {
                    connection.close_until(now, policy, CloseReason::Drain, retry, output);
                });
            });
        }
    }

    /// Gives up what could not be handed over in time.
    pub(crate) fn give_up_late(&mut self) {
        let Some(bound) = self.agenda.drain.as_ref().map(Drain::bound) else { return };
        if self.is_done() || self.now().instant < bound {
            return;
        }
        self.end_all();
        self.submit();
        self.outlets.give_up();
    }

    /// When a client that is refused for this reason should come back.
    pub(crate) fn retry_of(&mut self, listener: u16, reason: CloseReason) -> Retry {
        let now = self.now().instant;
        self.agenda.retry_of(now, listener, reason)
    }

    /// Whether newcomers are not even answered any more: the drain has been over for a while.
    pub(crate) fn answers_nobody(&mut self) -> bool {
        let now = self.now().instant;
        self.agenda.drain.as_ref().is_some_and(|drain| drain.next().is_none() && !drain.answers(now))
    }
}
