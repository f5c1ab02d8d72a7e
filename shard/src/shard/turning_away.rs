//! Turning away whoever can't be kept. At a listener that serves both protocols it waits, for a moment and among few,
//! until it has shown which it speaks: only then it can be told why.

use crate::peer::Peer;
use crate::shard::Shard;
use crate::shard::entry::Marks;
use crate::shard::io::{Io, Reach};
use crate::shard::served::Served;
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::{Connection, append_bye, farewell_line};
use pulsegate_core::lifetime::{Direction, Phase};
use pulsegate_core::policy::Protocol;
use pulsegate_core::time::Now;
use std::time::Duration;

/// How long somebody who can't be kept may take to show what it speaks.
const SHOW_WITHIN: Duration = Duration::from_secs(1);
/// How many may be about it; one more, and the oldest goes untold. Fewer than the descriptors that are kept back.
const TURNED_AWAY_MAX: usize = 32;

impl<I: Io> Shard<I> {
    /// Keeps a refused connection for a moment, to tell it why; or gives it back, to be told at once or not at all.
    pub(crate) fn turn_away(
        &mut self,
        now: Now,
        stream: I::Stream,
        peer: Peer,
        listener: u16,
        reason: CloseReason,
    ) -> Result<(), (I::Stream, CloseReason)> {
        let policy = &self.shared.listeners[usize::from(listener)].policy;
        if policy.protocol != Protocol::Auto || reason == CloseReason::OutOfDescriptors {
            return Err((stream, reason));
        }
        let mut connection = Connection::new(now, policy);
        connection.set_deadline(Direction::Read, Some(now.instant.after(SHOW_WITHIN)));
        let marks = Marks { turned_away: Some(reason), ..Marks::default() };
        let id = self.insert(connection, stream, peer, listener, marks).map_err(|stream| (stream, reason))?;
        self.agenda.turned_away.push_back(id);
        self.serve(id, |served| {
            served.reschedule();
            // Most have said it already.
            served.read(Reach::ShortRead);
        });
        while self.agenda.turned_away.len() > TURNED_AWAY_MAX {
            if let Some(id) = self.agenda.turned_away.pop_front() {
                self.serve(id, |served| served.end_turned_away(now));
            }
        }
        Ok(())
    }

    /// What a refused connection is sent at once, if anything.
    pub(crate) fn farewell(&mut self, listener: u16, reason: CloseReason) -> Option<Vec<u8>> {
        let retry = self.retry_of(listener, reason);
        let policy = &self.shared.listeners[usize::from(listener)].policy;
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

impl<I: Io> Served<'_, I> {
    /// Ends it, if it is one that can't be kept and has not ended yet. Returns whether it was.
    pub(crate) fn end_turned_away(&mut self, now: Now) -> bool {
        let is_open = self.entry.connection.lifetime().phase() == Phase::Open;
        let reason = self.entry.marks.turned_away.filter(|_| is_open);
        if let Some(reason) = reason {
            self.end(now, reason);
        }
        reason.is_some()
    }

    /// Takes what a refused connection has sent, to learn in which protocol to tell it.
    pub(crate) fn hear_turned_away(&mut self, now: Now, reason: CloseReason, bytes: &[u8]) {
        let retry = self.agenda.retry_of(now.instant, self.entry.listener, reason);
        self.act(now, |connection, policy, output| {
            connection.turn_away(now, policy, bytes, (reason, retry), output);
        });
    }
}
