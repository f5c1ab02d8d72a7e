//! What the retention has deleted with one batch, summed up by whose it was.

use super::{Batch, NO_SESSION};
use crate::shares::NOBODY;
use pulsegate_sessions::Source;
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
        let state = &mut *self.state;
        for (source, bytes) in deleted.sources {
            state.shares.handle_deleted(self.connection, self.config, source, bytes)?;
        }
        for (id, bytes) in deleted.sessions {
            if let Some(mut held) = state.sessions.load(self.connection, id)? {
                state.shares.handle_deleted_of_session(self.config, id, held.session, bytes);
                held.mark();
            }
        }
        Ok(())
    }
}
