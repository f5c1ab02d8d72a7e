//! The sessions and sources that have used up their share of what a store keeps. Must not know: connections, but by
//! their ids.

use crate::id::ConnectionId;
use crate::peer::Source;
use crate::shard::table::{Numbered, Table};
use pulsegate_core::time::Instant;
use std::time::Duration;

/// At most one line about each kind in this time.
const SILENCE_BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Of so many that have ended it's not worth asking.
const ENDED_MIN: usize = 64;

/// What a shard knows of them: few, since each has a share.
#[derive(Debug, Default)]
pub(crate) struct Resting {
    sessions: Box<[u64]>,
    sources: Box<[pulsegate_sessions::Source]>,
    /// The connections that are held back for it.
    held: Vec<ConnectionId>,
    /// When the log was last told.
    told: Option<Instant>,
}

impl Resting {
    /// How many are held back, including some that have ended.
    #[cfg(test)]
    pub(crate) const fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether this session or the network of this source rests.
    pub(crate) fn names(&self, source: impl FnOnce() -> Source, session: Option<u64>) -> bool {
        if self.sessions.is_empty() && self.sources.is_empty() {
            return false;
        }
        self.sources.contains(&source().network().number())
            || session.is_some_and(|session| self.sessions.contains(&session))
    }

    /// These, and no others, rest now, as the store says. Returns the connections that were held back.
    pub(crate) fn replace(
        &mut self,
        sessions: Box<[u64]>,
        sources: Box<[pulsegate_sessions::Source]>,
    ) -> Vec<ConnectionId> {
        (self.sessions, self.sources) = (sessions, sources);
        std::mem::take(&mut self.held)
    }

    /// Notes one more that is held back.
    pub(crate) fn hold(&mut self, id: ConnectionId) {
        self.held.push(id);
    }

    /// Forgets those who have ended meanwhile before they are more than the others.
    pub(crate) fn forget_ended<T: Numbered>(&mut self, table: &mut Table<T>) {
        if self.held.len() > 2 * table.len() + ENDED_MIN {
            self.held.retain(|id| table.get(*id).is_some());
        }
    }

    /// Nobody is held back any more.
    pub(crate) fn release_all(&mut self) {
        self.held.clear();
    }

    /// Logs, once in a while, one that rests now and did not before, and how many do.
    pub(crate) fn tell(&mut self, now: Instant, sessions: &[u64], sources: &[pulsegate_sessions::Source]) {
        let session = sessions.iter().find(|session| !self.sessions.contains(session));
        let source = sources.iter().find(|source| !self.sources.contains(source));
        let is_silent = self.told.is_some_and(|told| now.since(told) < SILENCE_BETWEEN_LINES);
        if is_silent || session.is_none() && source.is_none() {
            return;
        }
        self.told = Some(now);
        if let Some(session) = session {
            tracing::warn!(
                session,
                sessions = sessions.len(),
                "a session has used up its share of what the store keeps: nothing more is read from it until older \
                 messages have gone; retention_bytes_per_session says how much that is"
            );
        }
        if let Some(source) = source {
            tracing::warn!(
                address = %Source::from_number(*source),
                addresses = sources.len(),
                "an address has used up its share of what the store keeps: nothing more is read from its clients until \
                 older messages have gone; if all clients come through a proxy there, set retention_bytes_per_address to \
                 retention_bytes, which means no share"
            );
        }
    }
}
