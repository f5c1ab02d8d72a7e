//! The outbox's file: its tables, what is found in it, and one transaction of changes. Knows no thread.

use super::OutboxError;
use crate::journal::{Entry, Found};
use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, params};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Tells the file from others of SQLite.
const APPLICATION_ID: i32 = 0x5055_4c53;
/// Goes up when the tables change.
const SCHEMA_VERSION: i32 = 2;
/// How long a client that is just ending is waited for.
const BUSY: Duration = Duration::from_millis(500);
/// How much of the write-ahead log stays on disk when it is empty, in bytes.
const LOG_BYTES_MAX: u32 = 8 << 20;

/// `marked` is an id, all other cursors are numbers. A message's number is not stored: it is `settled` and its place
/// among those that are marked. `told_max` is the longest message, in bytes, that the gateway was told of in the session;
/// 0: nothing is known.
const SCHEMA: &str = "
CREATE TABLE session (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    client      TEXT NOT NULL,
    number      INTEGER NOT NULL DEFAULT 0,
    token       BLOB NOT NULL DEFAULT (zeroblob(16)),
    settled     INTEGER NOT NULL DEFAULT 0,
    marked      INTEGER NOT NULL DEFAULT 0,
    committed   INTEGER NOT NULL DEFAULT 0,
    told_max    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE messages (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    payload     BLOB NOT NULL
) STRICT;
CREATE TABLE refusals (
    number      INTEGER PRIMARY KEY,
    code        INTEGER NOT NULL
) STRICT;
";

/// What makes a file of version 1 one of version 2. What it told of its session nobody knows.
const STEP_TO_2: &str = "ALTER TABLE session ADD COLUMN told_max INTEGER NOT NULL DEFAULT 0";

/// What a step of opening can fail by.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("its journal can't be a write-ahead log")]
    NoLog,
    #[error("it belongs to another client")]
    OtherClient(String),
    #[error("it is no outbox")]
    Foreign,
    #[error("it was made by a newer version")]
    Newer,
}

impl Fault {
    fn at(self, path: &Path) -> OutboxError {
        let path = path.to_owned();
        match self {
            Self::OtherClient(owner) => OutboxError::OtherClient { path, owner },
            Self::Foreign => OutboxError::Foreign(path),
            Self::Newer => OutboxError::Newer(path),
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OutboxError::InUse(path),
                Some(ErrorCode::NotADatabase) => OutboxError::Foreign(path),
                _ => super::access::denied(&path).map_or_else(
                    || OutboxError::Failed { path, error: error.to_string() },
                    OutboxError::Denied,
                ),
            },
            fault @ (Self::Io(_) | Self::NoLog) => OutboxError::Failed { path, error: fault.to_string() },
        }
    }
}

/// An open outbox. Nobody else can open it as long as it lives.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
}

impl Database {
    /// Opens the file, or makes it, and reads what there is.
    pub(super) fn open(path: &Path, client: &str) -> Result<(Self, Found), OutboxError> {
        let open = || {
            let mut connection = Connection::open(path)?;
            prepare(&connection)?;
            let found = take_up(&mut connection, client)?;
            sync_directory(path)?;
            Ok((Self { connection }, found))
        };
        open().map_err(|fault: Fault| fault.at(path))
    }

    /// Stores changes. When it returns they are on disk.
    pub(super) fn store(&mut self, entries: &[Entry]) -> rusqlite::Result<()> {
        let outcome = self.try_to_store(entries);
        if outcome.is_err() {
            // What the log holds may be most of what the disk has no room for. If this fails too, nothing is lost.
            let _ = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
        outcome
    }

    fn try_to_store(&mut self, entries: &[Entry]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        for entry in entries {
            apply(&transaction, entry)?;
        }
        transaction.commit()
    }
}

fn prepare(connection: &Connection) -> Result<(), Fault> {
    connection.busy_timeout(BUSY)?;
    // Without shared memory, whose lock others could join.
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE")?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fault::NoLog);
    }
    connection.execute_batch(&format!(
        "PRAGMA synchronous = FULL;
         PRAGMA journal_size_limit = {LOG_BYTES_MAX};
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;"
    ))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// Takes the file for this client, and reads it.
fn take_up(connection: &mut Connection, client: &str) -> Result<Found, Fault> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive)?;
    let pragma = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let tables: u32 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.execute("INSERT INTO session (one, client) VALUES (1, ?1)", [client])?;
    } else if pragma("application_id")? != APPLICATION_ID {
        return Err(Fault::Foreign);
    } else {
        match pragma("user_version")? {
            SCHEMA_VERSION => {}
            1 => {
                transaction.execute_batch(STEP_TO_2)?;
                transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            }
            version if version > SCHEMA_VERSION => return Err(Fault::Newer),
            _ => return Err(Fault::Foreign),
        }
    }
    let found = read(&transaction, client)?;
    transaction.commit()?;
    Ok(found)
}

fn read(transaction: &Transaction<'_>, client: &str) -> Result<Found, Fault> {
    let select = "SELECT client, number, token, settled, marked, committed, told_max FROM session";
    let (owner, mut found) = transaction.query_row(select, [], |row| {
        let found = Found {
            session: row.get(1)?,
            token: row.get(2)?,
            settled: row.get(3)?,
            marked: row.get(4)?,
            committed: row.get(5)?,
            told_max: row.get(6)?,
            ..Found::default()
        };
        Ok((row.get::<_, String>(0)?, found))
    })?;
    if owner != client {
        return Err(Fault::OtherClient(owner));
    }
    let last_id = "SELECT seq FROM sqlite_sequence WHERE name = 'messages'";
    found.last_id = transaction.query_row(last_id, [], |row| row.get(0)).optional()?.unwrap_or(0);
    let mut messages = transaction.prepare("SELECT id, payload FROM messages ORDER BY id")?;
    let message = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, Bytes::from(row.get::<_, Vec<u8>>(1)?)));
    found.messages = messages.query_map([], message)?.collect::<Result<_, _>>()?;
    let mut refusals = transaction.prepare("SELECT number, code FROM refusals ORDER BY number")?;
    found.refused =
        refusals.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    Ok(found)
}

fn apply(transaction: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        transaction.prepare_cached(sql)?.execute(values).map(|_| ())
    };
    match entry {
        Entry::Insert(id, payload) => {
            run("INSERT INTO messages (id, payload) VALUES (?1, ?2)", params![id, &payload[..]])
        }
        Entry::Remove(id) => run("DELETE FROM messages WHERE id = ?1", params![id]),
        Entry::Mark(id) => run("UPDATE session SET marked = max(marked, ?1)", params![id]),
        Entry::Settle { id, number } => {
            run("DELETE FROM messages WHERE id <= ?1", params![id])?;
            run("UPDATE session SET settled = ?1", params![number])
        }
        Entry::Resume(token) => run("UPDATE session SET token = ?1", params![token]),
        Entry::Tell(told_max) => run("UPDATE session SET told_max = ?1", params![told_max]),
        Entry::Begin { session, token, forget, told_max } => {
            run("DELETE FROM messages WHERE id <= ?1", params![forget])?;
            run("DELETE FROM refusals", params![])?;
            run(
                "UPDATE session SET number = ?1, token = ?2, marked = ?3, settled = 0, committed = 0, told_max = ?4",
                params![session, token, forget, told_max],
            )
        }
        Entry::Cursor(committed, refused) => {
            for (number, code) in refused {
                run("INSERT INTO refusals (number, code) VALUES (?1, ?2)", params![number, code])?;
            }
            run("UPDATE session SET committed = ?1", params![committed])
        }
        Entry::Known(floor) => run("DELETE FROM refusals WHERE number <= ?1", params![floor]),
    }
}

/// Whether the same may work later, with nothing changed but the disk: there is room again, or it answers again.
pub(super) fn may_pass(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
        )
    )
}

/// A new file is only there for good when its directory says so.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
