//! Connections that have used up their share of what a store keeps: nothing more is read from them until the store has
//! made room, and that time doesn't count as silence. As with a sink that takes nothing, `sink_stall` bounds it.

use crate::shard::Shard;
use crate::shard::io::Io;
use crate::shard::served::Served;
use pulsegate_core::connection::Attachment;
use pulsegate_core::frame::{NOTICE_GOES_ON, NOTICE_RESTS, PREFACE};
use pulsegate_core::lifetime::Pause;
use pulsegate_core::time::Now;
use std::time::Duration;

const RESTS: &str =
    "nothing more is read: this session, or its address, has used up its share of what is kept";
const GOES_ON: &str = "receipts continue";

impl<I: Io> Shard<I> {
    /// The store names all that rest now.
    pub(crate) fn handle_resting(
        &mut self,
        now: Now,
        ledger: usize,
        sessions: Box<[u64]>,
        sources: Box<[pulsegate_sessions::Source]>,
    ) {
        let is_first = self.outlets.shard == 0;
        let resting = &mut self.outlets.ledgers[ledger].resting;
        if is_first {
            resting.tell(now.instant, &sessions, &sources);
        }
        for id in resting.replace(sessions, sources) {
            self.serve(id, |served| {
                if served.rests() {
                    return served.outlets.ledgers[ledger].resting.hold(id);
                }
                served.act(now, |connection, policy, output| {
                    connection.resume(now, policy, Pause::Share);
                    connection.notify(now, policy, NOTICE_GOES_ON, Duration::ZERO, GOES_ON, output);
                });
                served.list();
                served.reconcile(now);
            });
        }
    }

    /// Forgets connections that have ended while they were held back.
    pub(crate) fn forget_ended(&mut self) {
        for ledger in &mut self.outlets.ledgers {
            ledger.resting.forget_ended(&mut self.connections.table);
        }
    }
}

impl<I: Io> Served<'_, I> {
    /// How much its share allows to be read. A client whose protocol is not known yet, or that has no session yet,
    /// can't send a message with that.
    pub(crate) fn share(&self) -> usize {
        let connection = &self.entry.connection;
        if !self.rests() {
            return usize::MAX;
        }
        if connection.is_undecided(&self.listener.policy) {
            return PREFACE.len();
        }
        let is_attaching = connection.is_pulse() && connection.attachment().is_none();
        if is_attaching { usize::MAX } else { 0 }
    }

    /// Holds it back until the store has made room.
    pub(crate) fn hold_for_share(&mut self) {
        let Some(ledger) = self.outlet().ledger() else { return };
        let now = self.now();
        self.outlets.ledgers[ledger].resting.hold(self.id);
        self.change(now, |connection, policy, output| {
            connection.pause(now, Pause::Share);
            connection.notify(now, policy, NOTICE_RESTS, Duration::ZERO, RESTS, output);
        });
    }

    fn rests(&self) -> bool {
        let Some(ledger) = self.outlet().ledger() else { return false };
        let session = self.entry.connection.attachment().map(|Attachment { session, .. }| session);
        self.outlets.ledgers[ledger].resting.names(|| self.entry.peer.source(), session)
    }
}
