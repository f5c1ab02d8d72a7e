//! A database that is open, with what is known of it: opened, read, told that a gateway starts, its log kept small.

use crate::batch::State;
use crate::config::StoreConfig;
use crate::database::{self, Database, DatabaseError};
use crate::files;
use crate::last_write::LastWrite;
use crate::lasting::Lasting;
use crate::log_file::LogFile;
use crate::tickets::Tickets;
use pulsegate_sessions::Figures;
use pulsegate_sessions::Moment;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;
use tracing::warn;

/// How many sessions begin anew in one transaction of a start.
const STARTED_MAX: usize = 10_000;
/// At which size of the log it is moved into the database during a start, in bytes.
const STARTED_LOG_BYTES: u64 = 1024 * 1024;

/// From how many times its usual size on the log is warned about; again whenever it has doubled.
const WARN_LOGS: u64 = 16;

/// How often a database that somebody has written into is looked at before it is believed to be another one, and how long
/// after each other: where the log is just being moved into it, a first look may find half of that.
const LOOKS: usize = 3;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// An open database and what is known of it.
pub(crate) struct Working {
    pub(crate) database: Database,
    pub(crate) state: State,
    last_write: LastWrite,
    log: LogFile,
    /// Why the database can't be looked at, which somebody has touched; and why the log can't.
    unseen_database: Lasting,
    unseen_log: Lasting,
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
        let path = directory.join(files::DATABASE);
        // A file that has nothing yet can't be read alone.
        let batch = Database::inspect_alone(&path).map_or(0, |(_, batch)| batch);
        let state = State::load(&database.connection, config, now)?;
        let mut working = Self {
            database,
            state,
            last_write: LastWrite::new(path, batch),
            log: LogFile::new(directory.join(files::LOG)),
            unseen_database: Lasting::default(),
            unseen_log: Lasting::default(),
            warn_bytes: WARN_LOGS * config.wal_bytes,
        };
        if after_fault {
            working.checkpoint()?;
        }
        Ok(working)
    }

    /// Begins without any connection; all times to live begin anew. In pieces, so that a small log is enough.
    pub(crate) fn start(&mut self, now: Moment) -> rusqlite::Result<()> {
        let connection = &self.database.connection;
        let mut piece = connection
            .prepare("SELECT max(id) FROM (SELECT id FROM sessions WHERE id > ?1 ORDER BY id LIMIT ?2)")?;
        let mut update =
            connection.prepare("UPDATE sessions SET expires_ms = ?1 + ttl_ms WHERE id > ?2 AND id <= ?3")?;
        let mut after = 0;
        while let Some(to) = piece.query_row((after, STARTED_MAX), |row| row.get::<_, Option<u64>>(0))? {
            update.execute((now.uptime_ms, after, to))?;
            if self.database.log_used()?.bytes() >= STARTED_LOG_BYTES {
                self.database.checkpoint()?;
            }
            after = to;
        }
        drop((piece, update));
        self.checkpoint()
    }

    /// Moves as much of the log as readers allow into the database.
    pub(crate) fn checkpoint(&mut self) -> rusqlite::Result<()> {
        let is_complete = self.database.checkpoint()?;
        self.last_write.handle_checkpoint(is_complete.then_some(self.state.batch));
        Ok(())
    }

    /// Whether the database's file still has what the store has written. If somebody else has touched it, it is read anew.
    /// While it can't be read nothing is known, and the next call tries again.
    pub(crate) fn is_intact(&mut self) -> bool {
        let last_write = &mut self.last_write;
        for look in 0..LOOKS {
            let Some(stamp) = last_write.change() else { return true };
            if look > 0 {
                std::thread::sleep(LOOK_EVERY);
            }
            let incarnation = self.database.incarnation;
            match Database::inspect(&last_write.path) {
                // Moving the log into it changes nothing of its sum, whoever does that.
                Ok([alone, whole])
                    if alone.0 == incarnation
                        && (last_write.batch..=self.state.batch).contains(&alone.1)
                        && whole == (incarnation, self.state.batch) =>
                {
                    last_write.accept(stamp);
                    self.unseen_database.end();
                    return true;
                }
                Err(error) if !error.is_of_content() => {
                    if self.unseen_database.is_news(&error) {
                        warn!(%error, "something has touched pulsegate.db, and it can't be looked at");
                    }
                    return true;
                }
                Ok(_) | Err(_) => {}
            }
        }
        false
    }

    /// Whether the log's file still has what the store has written into it. While it can't be read nothing is known.
    pub(crate) fn has_its_log(&mut self) -> bool {
        for look in 0..LOOKS {
            // Another program may just be moving it.
            if look > 0 {
                std::thread::sleep(LOOK_EVERY);
            }
            let database = &self.database;
            let now = database.data_version().and_then(|version| Ok((database.log_used()?, version)));
            let Ok((used, data_version)) = now else { return true };
            match self.log.is_intact(used, data_version) {
                Ok(true) => {
                    self.unseen_log.end();
                    return true;
                }
                Ok(false) => {}
                // One that is gone or cut short is noticed as such.
                Err(error) => {
                    let is_short = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof);
                    if !is_short && self.unseen_log.is_news(&error) {
                        warn!(%error, "pulsegate.db-wal can't be looked at");
                    }
                    return true;
                }
            }
        }
        false
    }

    /// Moves the log into the database if it has grown to so many bytes.
    pub(crate) fn move_log(&mut self, wal_bytes: u64) -> rusqlite::Result<()> {
        let bytes = self.database.log_used()?.bytes();
        if bytes < wal_bytes {
            return Ok(());
        }
        if self.last_write.change().is_some() || !self.has_its_log() {
            // Not into another one, and nothing of another one: the next tick finds out.
            return Ok(());
        }
        if bytes >= self.warn_bytes {
            self.warn_bytes = 2 * bytes;
            warn!(
                bytes,
                "the store's log grows: some program keeps a transaction open on pulsegate.db; end it"
            );
        }
        match self.checkpoint() {
            Err(error) if database::is_busy(&error) => Ok(()),
            other => other,
        }
    }

    /// What the store holds.
    pub(crate) fn figures(&self, tickets: &Tickets) -> Figures {
        Figures {
            sessions: self.state.sessions.count(),
            attached: tickets.committed() as u64,
            messages: self.state.totals.messages,
            message_bytes: self.state.totals.message_bytes,
            outgoing_bytes: self.state.sessions.outgoing_bytes(),
            ..Figures::default()
        }
    }
}
