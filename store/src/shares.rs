//! What sessions and sources have of the store, and whether that is their share. Knows the rules of sharing and no
//! message.
//!
//! After a rollback all of this is void: whoever rolls back makes a new one.

use crate::config::StoreConfig;
use crate::resting::Resting;
use crate::sessions::Session;
use crate::sources::{Holding, Sources};
use pulsegate_sessions::{Reply, Source};
use rusqlite::Connection;

/// The source of what is counted for nobody.
pub(crate) const NOBODY: Source = 0;

/// All shares, as they are in the running transaction.
#[derive(Debug)]
pub(crate) struct Shares {
    sources: Sources,
    resting: Resting,
    /// Payload that waits for all clients together.
    outgoing_bytes: u64,
}

impl Shares {
    /// Reads what has to be known from the start. Who has used up its share turns out when it comes, or sends.
    pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let sum = "SELECT coalesce(sum(outgoing_bytes), 0) FROM sources";
        let outgoing_bytes = connection.query_row(sum, [], |row| row.get(0))?;
        Ok(Self { sources: Sources::default(), resting: Resting::default(), outgoing_bytes })
    }

    /// Those who have heard who rests have to hear it anew: nobody is known to.
    pub(crate) fn start_anew(&mut self) {
        self.resting = Resting::untold();
    }

    /// Whether a source has as many sessions as it may.
    pub(crate) fn has_sessions(
        &mut self,
        connection: &Connection,
        config: &StoreConfig,
        source: Source,
    ) -> rusqlite::Result<bool> {
        Ok(source != NOBODY
            && self.sources.of(connection, source)?.sessions >= config.sessions_of_source_max())
    }

    /// A session begins.
    pub(crate) fn handle_begin(&mut self, connection: &Connection, source: Source) -> rusqlite::Result<()> {
        self.change(connection, source, |holding| holding.sessions += 1)
    }

    /// A session goes, and with it what waits for its client.
    pub(crate) fn handle_end(
        &mut self,
        connection: &Connection,
        id: u64,
        session: &Session,
    ) -> rusqlite::Result<()> {
        self.resting.forget(id);
        self.outgoing_bytes = self.outgoing_bytes.saturating_sub(session.out_bytes);
        self.change(connection, session.source, |holding| {
            holding.sessions = holding.sessions.saturating_sub(1);
            holding.outgoing_bytes = holding.outgoing_bytes.saturating_sub(session.out_bytes);
        })
    }

    /// A client comes back, perhaps from elsewhere. Its messages stay with the source that they came from.
    pub(crate) fn handle_resume(
        &mut self,
        connection: &Connection,
        session: &mut Session,
        source: Source,
    ) -> rusqlite::Result<()> {
        let bytes = session.out_bytes;
        let before = std::mem::replace(&mut session.source, source);
        if before == source {
            return Ok(());
        }
        self.change(connection, before, |holding| {
            holding.sessions = holding.sessions.saturating_sub(1);
            holding.outgoing_bytes = holding.outgoing_bytes.saturating_sub(bytes);
        })?;
        self.change(connection, source, |holding| {
            holding.sessions += 1;
            holding.outgoing_bytes += bytes;
        })
    }

    /// A connection is attached: finds out who of these has used up its share, if that is not known yet.
    pub(crate) fn observe(
        &mut self,
        connection: &Connection,
        config: &StoreConfig,
        source: Source,
        session: Option<(u64, u64)>,
    ) -> rusqlite::Result<()> {
        if source == NOBODY {
            return Ok(());
        }
        let bytes = self.sources.of(connection, source)?.message_bytes;
        self.resting.handle_source(source, bytes, config.retention_bytes_of_source());
        if let Some((id, bytes)) = session {
            self.resting.handle_session(id, bytes, config.retention_bytes_of_session());
        }
        Ok(())
    }

    /// A message has been stored.
    pub(crate) fn handle_stored(
        &mut self,
        connection: &Connection,
        config: &StoreConfig,
        source: Source,
        session: Option<(u64, &mut Session)>,
        bytes: u64,
    ) -> rusqlite::Result<()> {
        let of_source = self.sources.change(connection, source, |holding| holding.message_bytes += bytes)?;
        if source == NOBODY {
            return Ok(());
        }
        self.resting.handle_source(source, of_source.message_bytes, config.retention_bytes_of_source());
        if let Some((id, session)) = session {
            session.message_bytes += bytes;
            self.resting.handle_session(id, session.message_bytes, config.retention_bytes_of_session());
        }
        Ok(())
    }

    /// Messages of a source have been deleted.
    pub(crate) fn handle_deleted(
        &mut self,
        connection: &Connection,
        config: &StoreConfig,
        source: Source,
        bytes: u64,
    ) -> rusqlite::Result<()> {
        let of_source = self.sources.change(connection, source, |holding| {
            holding.message_bytes = holding.message_bytes.saturating_sub(bytes);
        })?;
        if source == NOBODY {
            return Ok(());
        }
        self.resting.handle_source(source, of_source.message_bytes, config.retention_bytes_of_source());
        Ok(())
    }

    /// Messages of a session have been deleted.
    pub(crate) fn handle_deleted_of_session(
        &mut self,
        config: &StoreConfig,
        id: u64,
        session: &mut Session,
        bytes: u64,
    ) {
        session.message_bytes = session.message_bytes.saturating_sub(bytes);
        self.resting.handle_session(id, session.message_bytes, config.retention_bytes_of_session());
    }

    /// Whether a message to a client of this source would be too much for the source, or for all.
    pub(crate) fn is_full(
        &mut self,
        connection: &Connection,
        config: &StoreConfig,
        source: Source,
        bytes: u64,
    ) -> rusqlite::Result<bool> {
        Ok(self.outgoing_bytes + bytes > config.outgoing_bytes_of_all()
            || source != NOBODY
                && self.sources.of(connection, source)?.outgoing_bytes + bytes
                    > config.outgoing_bytes_of_source())
    }

    /// A message waits for a client.
    pub(crate) fn handle_pushed(
        &mut self,
        connection: &Connection,
        session: &mut Session,
        bytes: u64,
    ) -> rusqlite::Result<()> {
        session.out_bytes += bytes;
        self.outgoing_bytes += bytes;
        self.change(connection, session.source, |holding| holding.outgoing_bytes += bytes)
    }

    /// Messages wait for a client no longer.
    pub(crate) fn handle_settled(
        &mut self,
        connection: &Connection,
        session: &mut Session,
        bytes: u64,
    ) -> rusqlite::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        session.out_bytes = session.out_bytes.saturating_sub(bytes);
        self.outgoing_bytes = self.outgoing_bytes.saturating_sub(bytes);
        self.change(connection, session.source, |holding| {
            holding.outgoing_bytes = holding.outgoing_bytes.saturating_sub(bytes);
        })
    }

    fn change(
        &mut self,
        connection: &Connection,
        source: Source,
        change: impl FnOnce(&mut Holding),
    ) -> rusqlite::Result<()> {
        self.sources.change(connection, source, change).map(|_| ())
    }

    /// What waits for all clients together, in bytes.
    pub(crate) const fn outgoing_bytes(&self) -> u64 {
        self.outgoing_bytes
    }

    /// Who rests, if that has changed.
    pub(crate) fn take_news(&mut self) -> Option<Reply> {
        self.resting.take_news()
    }

    /// Writes what has changed.
    pub(crate) fn flush(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.sources.flush(connection)
    }

    /// Keeps the memory within its bound; everything has to be flushed.
    pub(crate) fn trim(&mut self) {
        self.sources.trim();
    }
}
