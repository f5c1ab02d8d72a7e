//! A database that is open, with what is known of it: opened, read, told that a gateway starts, its log kept small.

use crate::batch::{self, State};
use crate::config::StoreConfig;
use crate::database::{self, Database, DatabaseError};
use crate::tickets::Tickets;
use pulsegate_sessions::Figures;
use pulsegate_sessions::Moment;
use std::path::Path;
use tracing::warn;

/// Up to where the sessions of a store in memory begin, at random: far enough apart that two never meet, and numbers that
/// every JSON reader can tell apart.
const FIRST_SESSION_MAX: u64 = (1 << 52) - 1;
/// How many sessions begin anew in one transaction of a start.
const STARTED_MAX: usize = 10_000;
/// At which size of the log it is moved into the database during a start, in bytes.
const STARTED_LOG_BYTES: u64 = 1024 * 1024;

/// From how many times its usual size on the log is warned about; again whenever it has doubled.
const WARN_LOGS: u64 = 16;

/// An open database and what is known of it.
pub(crate) struct Working {
    pub(crate) database: Database,
    pub(crate) state: State,
    /// At which size of the log a warning is due, in bytes.
    warn_bytes: u64,
}

impl Working {
    /// Opens the database and reads its state.
    pub(crate) fn open(
        directory: &Path,
        config: &StoreConfig,
        now: Moment,
        after_fault: bool,
    ) -> Result<Self, DatabaseError> {
        let database = Database::open(directory, config.durability, config.wal_bytes, after_fault)?;
        database.verify(after_fault)?;
        if after_fault {
            // What can't be moved today would stop the store again tomorrow. This also proves that it can write.
            database.checkpoint()?;
            database.connection.execute("UPDATE totals SET id = id", [])?;
        }
        Self::new(database, config, now)
    }

    /// Begins without any connection; all times to live begin anew. In pieces, so that a small log is enough.
    pub(crate) fn start(&self, now: Moment) -> rusqlite::Result<()> {
        let connection = &self.database.connection;
        let mut piece = connection
            .prepare("SELECT max(id) FROM (SELECT id FROM sessions WHERE id > ?1 ORDER BY id LIMIT ?2)")?;
        let mut update =
            connection.prepare("UPDATE sessions SET expires_ms = ?1 + ttl_ms WHERE id > ?2 AND id <= ?3")?;
        let mut after = 0;
        while let Some(to) = piece.query_row((after, STARTED_MAX), |row| row.get::<_, Option<u64>>(0))? {
            update.execute((now.uptime_ms, after, to))?;
            if self.database.log_bytes()? >= STARTED_LOG_BYTES {
                self.database.checkpoint()?;
            }
            after = to;
        }
        self.database.checkpoint()
    }

    /// Makes a database in memory.
    pub(crate) fn open_in_memory(config: &StoreConfig, now: Moment) -> Result<Self, DatabaseError> {
        let database = Database::open_in_memory()?;
        // Nobody remembers which numbers the store before this one has given out.
        let above =
            database.connection.query_row("SELECT random() & ?1", [FIRST_SESSION_MAX], |row| row.get(0))?;
        batch::begin_sessions_above(&database.connection, above)?;
        Self::new(database, config, now)
    }

    fn new(database: Database, config: &StoreConfig, now: Moment) -> Result<Self, DatabaseError> {
        let state = State::load(&database.connection, now)?;
        Ok(Self { database, state, warn_bytes: WARN_LOGS * config.wal_bytes })
    }

    /// Moves the log into the database if it has grown to so many bytes.
    pub(crate) fn move_log(&mut self, wal_bytes: u64) -> rusqlite::Result<()> {
        let bytes = self.database.log_bytes()?;
        if bytes < wal_bytes {
            return Ok(());
        }
        if bytes >= self.warn_bytes {
            self.warn_bytes = 2 * bytes;
            warn!(
                bytes,
                "the store's log grows: some program keeps a transaction open on pulsegate.db; end it"
            );
        }
        match self.database.checkpoint() {
            Err(error) if database::is_busy(&error) => Ok(()),
            other => other,
        }
    }

    /// What the store holds.
    pub(crate) fn figures(&self, tickets: &Tickets) -> Figures {
        Figures {
            sessions: self.state.session_count,
            attached: tickets.committed() as u64,
            messages: self.state.totals.messages,
            message_bytes: self.state.totals.message_bytes,
            outgoing_bytes: self.state.shares.outgoing_bytes(),
            ..Figures::default()
        }
    }
}
