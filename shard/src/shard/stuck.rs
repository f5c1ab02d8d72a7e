//! Sinks and stores that take nothing: which clients are told, which are ended, and when. One that moves, however
//! slowly, ends nobody.

use crate::shard::Shard;
use crate::shard::agenda::Errand;
use crate::shard::io::Io;
use crate::shard::ledger::Stuck;
use crate::shard::listener::Listener;
use crate::shard::served::Served;
use pulsegate_core::close::CloseReason;
use pulsegate_core::frame::{NOTICE_GOES_ON, NOTICE_STOPPED};
use pulsegate_core::time::{Instant, Now};

impl<I: Io> Shard<I> {
    /// The committer of this ledger waits for its sink, which takes nothing, or does so no longer. Clients of the
    /// pulse protocol are told: they are read on, since their windows bound them, and no receipt says what is wrong.
    pub(crate) fn handle_stuck(&mut self, now: Now, ledger: usize, is_stuck: bool) {
        let is_its = |listener: &&Listener| listener.pulse.ledger() == Some(ledger);
        let listeners = self.shared.listeners.iter().filter(is_its);
        let every = listeners.map(|listener| listener.policy.sink_stall).min().unwrap_or_default();
        let outlet = self.shared.listeners.iter().find(is_its).map(|listener| &listener.pulse);
        let since = outlet.and_then(|outlet| self.outlets.sink_rests_since(outlet, now.own()));
        let check = since.unwrap_or_else(|| now.own()).after(every);
        self.outlets.set_stuck(ledger, is_stuck.then_some(Stuck { check, every }));
        let (code, text) = if is_stuck {
            (NOTICE_STOPPED, "receipts have stopped: the sink takes nothing")
        } else {
            (NOTICE_GOES_ON, "receipts continue")
        };
        self.agenda.sweep(Errand::Notice { ledger: Some(ledger), code, text: text.to_owned() });
    }

    /// Looks for connections that have waited too long for a sink that takes nothing, if it is time to.
    pub(crate) fn check_stuck(&mut self) {
        let (time, io) = (&mut self.time, &mut self.io);
        for ledger in self.outlets.check_stuck(|| time.read(io).own()) {
            self.agenda.sweep(Errand::EndStalled(ledger));
        }
    }

    /// When [`check_stuck`](Self::check_stuck) is due.
    pub(crate) fn next_stuck_check(&self) -> Option<Instant> {
        self.outlets.next_stuck_check().map(|own| own.real(self.time.stalled()))
    }
}

impl<I: Io> Served<'_, I> {
    /// Ends it if it waits for receipts of this ledger whose sink has taken nothing for too long.
    pub(crate) fn end_if_stalled(&mut self, ledger: usize) {
        if self.outlet().ledger() != Some(ledger) {
            return;
        }
        let now = self.now();
        let Some(since) = self.outlets.sink_rests_since(self.outlet(), now.own()) else { return };
        let has_stalled = now.own().since(since) >= self.listener.policy.sink_stall;
        if has_stalled && self.entry.connection.owes_receipts() {
            self.end(now, CloseReason::SinkStalled);
        }
    }
}
