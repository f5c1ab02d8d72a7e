//! What the retention has deleted with one batch, summed up by whose it was.

use super::{Batch, NO_SESSION};
use pulsegate_sessions::{NOBODY, Source};
use std::collections::BTreeMap;

/// Messages that are gone.
#[derive(Debug, Default)]
pub(super) struct Deleted {
    sources: BTreeMap<Source, u64>,
    sessions: BTreeMap<u64, u64>,
}

impl Deleted {
    /// A message that counts so many bytes is gone.
    pub(super) fn note(&mut self, session: u64, source: Source, bytes: u64) {
        *self.sources.entry(source).or_default() += bytes;
        if session != NO_SESSION && source != NOBODY {
            *self.sessions.entry(session).or_default() += bytes;
        }
    }
}

impl Batch<'_> {
    /// Gives the shares back to which these messages belonged.
    pub(super) fn handle_deleted(&mut self, deleted: Deleted) -> rusqlite::Result<()> {
        for (source, bytes) in deleted.sources {
            while let Err(need) = self.state.sessions.handle_deleted(None, source, bytes) {
                self.provide(need)?;
            }
        }
        for (session, bytes) in deleted.sessions {
            while let Err(need) = self.state.sessions.handle_deleted(Some(session), NOBODY, bytes) {
                self.provide(need)?;
            }
        }
        Ok(())
    }
}
