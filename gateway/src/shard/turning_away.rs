//! Turning away whoever can't be kept. At a listener that serves both protocols it waits, for a moment and among few,
//! until it has shown which it speaks: only then it can be told why.

use crate::id::ConnectionId;
use crate::peer::Peer;
use crate::shard::Shard;
use crate::shard::entry::{Entry, Marks, Waiting};
use crate::shard::io::Io;
use crate::shard::reading::Reach;
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::{Connection, append_bye, farewell_line};
use pulsegate_core::lifetime::{Direction, Phase};
use pulsegate_core::policy::Protocol;
use pulsegate_core::time::Now;
use pulsegate_core::wheel::Node;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How long somebody who can't be kept may take to show what it speaks.
const SHOW_WITHIN: Duration = Duration::from_secs(1);
/// How many may be about it; one more, and the oldest goes untold. Fewer than the descriptors that are kept back.
const TURNED_AWAY_MAX: usize = 32;

impl<I: Io> Shard<I> {
    /// Keeps somebody for a moment who can't be kept, to tell it why; or gives it back, to be told at once or not at all.
    pub(crate) fn turn_away(
        &mut self,
        now: Now,
        stream: I::Stream,
        peer: Peer,
        listener: u16,
        reason: CloseReason,
    ) -> Result<(), (I::Stream, CloseReason)> {
        let policy = &self.shared.doors[usize::from(listener)].policy;
        if policy.protocol != Protocol::Auto || reason == CloseReason::OutOfDescriptors {
            return Err((stream, reason));
        }
        let mut connection = Connection::new(now, policy);
        connection.set_deadline(Direction::Read, Some(now.instant.after(SHOW_WITHIN)));
        let number = self.shared.numbers.fetch_add(1, Relaxed) + 1;
        let key = self.table.insert(Entry {
            connection,
            waiting: Waiting::default(),
            number,
            node: Node::UNFILED,
            stream,
            peer,
            listener,
            marks: Marks { turned_away: Some(reason), ..Marks::default() },
        });
        if !self.watch(key) {
            return self.table.remove(key).map_or(Ok(()), |entry| Err((entry.stream, reason)));
        }
        self.file(key, now);
        self.turned_away.push_back(ConnectionId::new(key, number));
        // Most have said it already.
        self.read(key, Reach::ShortRead);
        while self.turned_away.len() > TURNED_AWAY_MAX {
            if let Some(key) = self.turned_away.pop_front().and_then(|id| self.table.find(id)) {
                self.end_turned_away(key, now);
            }
        }
        Ok(())
    }

    /// Ends it, if it is one that can't be kept and has not ended yet. Returns whether it was.
    pub(crate) fn end_turned_away(&mut self, key: u32, now: Now) -> bool {
        let is_open = |entry: &&mut Entry<I::Stream>| entry.connection.lifetime().phase() == Phase::Open;
        let reason = self.table.at(key).filter(is_open).and_then(|entry| entry.marks.turned_away);
        if let Some(reason) = reason {
            self.end(key, now, reason);
        }
        reason.is_some()
    }

    /// Takes what somebody has sent who can't be kept, to learn in which language it is to be told.
    pub(crate) fn hear_turned_away(&mut self, key: u32, now: Now, reason: CloseReason, bytes: &[u8]) {
        let Some(listener) = self.table.at(key).map(|entry| entry.listener) else { return };
        let retry = self.retry_of(listener, reason);
        self.act(key, now, |connection, policy, courier| {
            connection.turn_away(now, policy, bytes, (reason, retry), courier);
        });
    }

    /// What a refused connection is told at once, if its listener tells anything.
    pub(crate) fn farewell(&mut self, listener: u16, reason: CloseReason) -> Option<Vec<u8>> {
        let retry = self.retry_of(listener, reason);
        let policy = &self.shared.doors[usize::from(listener)].policy;
        match policy.protocol {
            Protocol::Raw => {
                Some((farewell_line(policy.farewell.as_deref()?, reason, retry) + "\n").into_bytes())
            }
            Protocol::Auto => None,
            Protocol::Pulse => {
                let mut bye = Vec::new();
                append_bye(&mut bye, reason, retry, 0);
                Some(bye)
            }
        }
    }
}
