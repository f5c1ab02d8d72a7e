//! The file: opening it, trusting it, moving the write-ahead log into it. Knows no requests.

use crate::files::{self, Displaced};
use crate::log_file::Used;
use crate::migration::{self, SchemaError};
use crate::schema::SCHEMA_VERSION;
use pulsegate_core::frame::Durability;
use rusqlite::config::DbConfig;
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, OptionalExtension};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;
use std::time::Duration;

/// SQLite before this can damage a file when a checkpoint and a writer meet (<https://sqlite.org/wal.html>).
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// How long somebody else's transaction is waited for.
const BUSY: Duration = Duration::from_secs(1);
/// Files up to this size are checked in full after a fault, in bytes; others only by their cursors.
const CHECKED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How a database is opened that is only looked at.
const INSPECTING: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
/// How many of the newest messages are held against their sessions' cursors.
const VERIFIED_MESSAGES: u32 = 10_000;

/// Why a database can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Displaced(#[from] Displaced),
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("SQLite {0} has a fault that can damage the store; 3.51.3 is needed")]
    OldSqlite(&'static str),
}

/// What tells a store from all others, wherever its file is.
pub(crate) type Incarnation = [u8; 16];

impl DatabaseError {
    /// Whether the disk has no room.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Io(error) => error.kind() == io::ErrorKind::StorageFull,
            Self::Sqlite(error) | Self::Schema(SchemaError::Sqlite(error)) => is_full(error),
            Self::Schema(_) | Self::Displaced(_) | Self::Damaged(_) | Self::OldSqlite(_) => false,
        }
    }
}

impl DatabaseError {
    /// Whether a file that was read has something else than a store, or a part of one. Not so if it could not be read, since
    /// descriptors or memory have run out, say.
    pub(crate) fn is_of_content(&self) -> bool {
        let Self::Sqlite(error) = self else { return self.is_damaged() };
        // A table is missing, a value isn't what it should be, or the file ends too early.
        let is_unlike_a_store = error.sqlite_error().is_none_or(|error| {
            error.code == ErrorCode::Unknown || error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHORT_READ
        });
        is_unlike_a_store || self.is_damaged()
    }

    /// Whether what the file has makes no sense.
    pub(crate) fn is_damaged(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Sqlite(error) | Self::Schema(SchemaError::Sqlite(error)) => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ),
            Self::Io(_) | Self::Schema(_) | Self::Displaced(_) | Self::OldSqlite(_) => false,
        }
    }
}

/// An open database. Dropping it leaves the log as it is.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) connection: Connection,
    pub(crate) incarnation: Incarnation,
    page_bytes: u64,
}

impl Database {
    /// Makes the directory if there is none, for nobody but its owner, and syncs the names that lead to it. One that is
    /// found may have been made by somebody who has not come to that.
    pub(crate) fn make_directory(directory: &Path) -> io::Result<()> {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let missing: Vec<_> = directory.ancestors().take_while(is_missing).collect();
        if missing.is_empty() {
            // Where the folder above can't be read it is not ours to see to.
            let _ = directory.parent().map_or(Ok(()), sync_directory);
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        missing.into_iter().filter_map(Path::parent).try_for_each(sync_directory)
    }

    /// Opens the database. At a start it is made if there is none, and brought up to date if it is old; after a
    /// fault neither: a store that isn't there any more has been taken away, and an empty one in its place would
    /// hide that.
    pub(crate) fn open(
        directory: &Path,
        durability: Durability,
        wal_bytes: u64,
        after_fault: bool,
    ) -> Result<Self, DatabaseError> {
        check_version()?;
        rewrite_log(directory)?;
        let create = if after_fault { OpenFlags::empty() } else { OpenFlags::SQLITE_OPEN_CREATE };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
        let connection = Connection::open_with_flags(directory.join(files::DATABASE), flags)?;
        connection.busy_timeout(BUSY)?;
        // After a fault, what the log says is not to be moved into the database before it was looked at.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // Before the first word is written into it.
        let version = migration::usable_version(&connection)?;
        if after_fault && version != SCHEMA_VERSION {
            return Err(Displaced::Replaced(directory.join(files::DATABASE)).into());
        }
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(DatabaseError::Damaged(format!(
                "its journal mode stays {mode}, where wal is needed"
            )));
        }
        let synchronous = match durability {
            Durability::None => "OFF",
            Durability::Os => "NORMAL",
            // The settings' check has let nothing else in.
            Durability::Synced | Durability::Other(_) => "FULL",
        };
        connection.execute_batch(&format!(
            "PRAGMA synchronous = {synchronous};
             PRAGMA wal_autocheckpoint = 0;
             PRAGMA journal_size_limit = {};
             PRAGMA cache_size = -256;",
            4 * wal_bytes
        ))?;
        let database = Self::prepare(connection, &directory.join(files::LOG))?;
        sync_directory(directory)?;
        Ok(database)
    }

    fn prepare(connection: Connection, log: &Path) -> Result<Self, DatabaseError> {
        connection.execute_batch(
            "PRAGMA foreign_keys = OFF;
             PRAGMA temp_store = MEMORY;
             PRAGMA trusted_schema = OFF;",
        )?;
        connection.set_prepared_statement_cache_capacity(64);
        migration::migrate(&connection, log)?;
        let page_bytes = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let incarnation = connection.query_row("SELECT incarnation FROM identity", [], |row| row.get(0))?;
        Ok(Self { connection, incarnation, page_bytes })
    }

    /// Whether no message is above its session's cursor; and, after a fault, whether the file is whole.
    pub(crate) fn verify(&self, after_fault: bool) -> Result<(), DatabaseError> {
        if after_fault && self.file_bytes()? <= CHECKED_BYTES_MAX {
            quick_check(&self.connection)?;
        }
        let ahead: Option<(u64, u64)> = self
            .connection
            .query_row(
                "SELECT newest.session, newest.number
                 FROM (SELECT session, number FROM messages ORDER BY id DESC LIMIT ?1) AS newest
                 JOIN sessions ON sessions.id = newest.session
                 WHERE newest.number > sessions.committed LIMIT 1",
                [VERIFIED_MESSAGES],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        match ahead {
            None => Ok(()),
            Some((session, number)) => Err(DatabaseError::Damaged(format!(
                "message {number} of session {session} is above the session's cursor"
            ))),
        }
    }

    /// How much of the log is in use.
    pub(crate) fn log_used(&self) -> rusqlite::Result<Used> {
        // As SQL it would be parsed anew each time: SQLite uses no statement of a pragma twice.
        let frames = match self.connection.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::NOOP) {
            Ok((frames, _)) => u64::try_from(frames).unwrap_or(0),
            Err(error) if is_busy(&error) => 0,
            Err(error) => return Err(error),
        };
        Ok(Used { frames, page_bytes: self.page_bytes })
    }

    /// What changes whenever another connection has changed anything, or has moved the log.
    pub(crate) fn data_version(&self) -> rusqlite::Result<u64> {
        self.connection.query_row("PRAGMA data_version", [], |row| row.get(0))
    }

    /// Moves as much of the log as readers allow into the database. The next commit begins the log anew if that
    /// was all, which is returned.
    pub(crate) fn checkpoint(&self) -> rusqlite::Result<bool> {
        let mut checkpoint = self.connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?;
        checkpoint.query_row([], |row| Ok(row.get::<_, i64>(1)? == row.get::<_, i64>(2)?))
    }

    /// What another connection finds in the file at a path alone, without its log: which store it is, and its last batch.
    pub(crate) fn inspect_alone(path: &Path) -> rusqlite::Result<(Incarnation, u64)> {
        last_batch(&Connection::open_with_flags(immutable(path), INSPECTING | OpenFlags::SQLITE_OPEN_URI)?)
    }

    /// The same; and what it finds in file and log together, which have to be whole.
    pub(crate) fn inspect(path: &Path) -> Result<[(Incarnation, u64); 2], DatabaseError> {
        let alone = Self::inspect_alone(path)?;
        let whole = Connection::open_with_flags(path, INSPECTING)?;
        whole.busy_timeout(BUSY)?;
        let count = |pragma: &str| whole.query_row(pragma, [], |row| row.get::<_, u64>(0));
        if count("PRAGMA page_count")? * count("PRAGMA page_size")? <= CHECKED_BYTES_MAX {
            quick_check(&whole)?;
        }
        Ok([alone, last_batch(&whole)?])
    }

    /// Moves all of the log into the database and empties it. Whether no reader was in the way.
    pub(crate) fn settle(&self) -> rusqlite::Result<bool> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(!row.get::<_, bool>(0)?))
    }

    /// Moves all of the log into the database and empties it, if no reader is in the way.
    pub(crate) fn close(self) -> rusqlite::Result<()> {
        self.settle()?;
        self.connection.close().map_err(|(_, error)| error)
    }

    fn file_bytes(&self) -> rusqlite::Result<u64> {
        let pages: u64 = self.connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        Ok(pages * self.page_bytes)
    }
}

fn last_batch(connection: &Connection) -> rusqlite::Result<(Incarnation, u64)> {
    let select = "SELECT incarnation, batch FROM identity, totals";
    connection.query_row(select, [], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Whether the file is whole.
fn quick_check(connection: &Connection) -> Result<(), DatabaseError> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(DatabaseError::Damaged(found)) }
}

/// The name under which SQLite reads a file as it is, without lock and log.
fn immutable(path: &Path) -> String {
    let mut name = if path.is_absolute() { "file://" } else { "file:" }.to_owned();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => name.push(byte.into()),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    name + "?immutable=1"
}

fn check_version() -> Result<(), DatabaseError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        return Err(DatabaseError::OldSqlite(rusqlite::version()));
    }
    Ok(())
}

/// Whether somebody else holds a lock on the file for the moment, which is not a fault of the disk.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether the disk has no room.
pub(crate) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// Writes the log that a gateway has left over once more, with the same bytes, and syncs it.
///
/// After a failed sync Linux takes the pages for clean: they can be read, and later syncs succeed, but they are not
/// on disk. A commit found in such a log would be believed and lost with the power.
fn rewrite_log(directory: &Path) -> io::Result<()> {
    let log = match OpenOptions::new().read(true).write(true).open(directory.join(files::LOG)) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut buffer = vec![0; 256 * 1024];
    let mut place = 0;
    loop {
        let read = log.read_at(&mut buffer, place)?;
        if read == 0 {
            return log.sync_all();
        }
        log.write_all_at(&buffer[..read], place)?;
        place += read as u64;
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory)?.sync_all()
}
