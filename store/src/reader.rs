//! Reading the messages while a gateway writes, from any process. It can't write, and never stays in a
//! transaction: an idle reader holds up nobody's log.

use crate::files::{self, Identity};
use crate::migration::schema_version;
use crate::schema::SCHEMA_VERSION;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most messages in one page.
const PAGE_MESSAGES_MAX: usize = 10_000;
/// After how many bytes of payload a page ends.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a lock that stands in the way for a moment is waited for.
const BUSY: Duration = Duration::from_secs(2);

/// Why messages can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no store.
    #[error("there is no store in {}", .0.display())]
    Missing(PathBuf),
    /// This user may not read it.
    #[error("{} can't be read by this user", .0.display())]
    Forbidden(PathBuf),
    /// An older pulsegate has made the store.
    #[error(
        "the store has schema version {0}, of an older pulsegate; this one reads version {SCHEMA_VERSION}"
    )]
    Older(u32),
    /// A newer pulsegate has made the store.
    #[error(
        "the store has schema version {0}, of a newer pulsegate; this one reads version {SCHEMA_VERSION}"
    )]
    Newer(u32),
    /// SQLite can't read it.
    #[error("can't read the store: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl ReadError {
    /// Whether the file itself is at fault: what stands in it is no store, or is damaged.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
    }
}

/// A committed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its place in the order of commits, above 0; never used again.
    pub id: u64,
    /// The session that it came in; 0 if its client had none.
    pub session: u64,
    /// The client's id.
    pub client: String,
    /// Its number in the session; without one, as it was given to the store.
    pub number: u64,
    /// When it arrived, in milliseconds since 1970-01-01 UTC.
    pub received_at_ms: u64,
    /// What it says.
    pub payload: Vec<u8>,
}

/// Reads a store.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    file: PathBuf,
    identity: Identity,
}

impl Reader {
    /// Opens the store in a directory.
    ///
    /// # Errors
    /// If there is none, or it can't be read.
    pub fn open(directory: &Path) -> Result<Self, ReadError> {
        if let Some(path) = files::forbidden(directory, files::Use::Read) {
            return Err(ReadError::Forbidden(path));
        }
        let file = directory.join(files::DATABASE);
        if !file.is_file() {
            return Err(ReadError::Missing(directory.to_owned()));
        }
        let missing = |_| ReadError::Missing(directory.to_owned());
        // Looked at before it is opened: if another one comes between, that is noticed later.
        let identity = Identity::of(&file).map_err(missing)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&file, flags)?;
        connection.busy_timeout(BUSY)?;
        match schema_version(&connection)? {
            SCHEMA_VERSION => Ok(Self { connection, file, identity }),
            0 => Err(ReadError::Missing(directory.to_owned())),
            newer @ SCHEMA_VERSION.. => Err(ReadError::Newer(newer)),
            older => Err(ReadError::Older(older)),
        }
    }

    /// Whether its file is not the store in the directory any more: another one is there, or none. What this one had is
    /// still read.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        Identity::of(&self.file).ok() != Some(self.identity)
    }

    /// The messages above an id in the order of their commits: at most `limit`, 10,000, and some 16 MiB. An empty
    /// page means that there are no more yet.
    ///
    /// # Errors
    /// If SQLite can't read them.
    pub fn messages_after(&self, id: u64, limit: usize) -> Result<Vec<StoredMessage>, ReadError> {
        let mut select = self.connection.prepare_cached(
            "SELECT id, session, client, number, received_at_ms, payload FROM messages
             WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let after = i64::try_from(id).unwrap_or(i64::MAX);
        let mut rows = select.query((after, limit.min(PAGE_MESSAGES_MAX)))?;
        let (mut page, mut bytes) = (Vec::new(), 0);
        while bytes < PAGE_BYTES_MAX
            && let Some(row) = rows.next()?
        {
            let message = StoredMessage {
                id: row.get(0)?,
                session: row.get(1)?,
                client: row.get(2)?,
                number: row.get(3)?,
                received_at_ms: row.get(4)?,
                payload: row.get(5)?,
            };
            bytes += message.payload.len();
            page.push(message);
        }
        Ok(page)
    }

    /// The id of the newest message that was ever committed; 0 if there was none.
    ///
    /// # Errors
    /// If SQLite can't read it.
    pub fn newest(&self) -> Result<u64, ReadError> {
        let newest = "SELECT max(deleted_to, coalesce((SELECT max(id) FROM messages), 0)) FROM totals";
        Ok(self.connection.prepare_cached(newest)?.query_row([], |row| row.get(0))?)
    }

    /// Up to which id messages have been deleted, as they had been kept for as long, or as many, as they are kept.
    ///
    /// # Errors
    /// If SQLite can't read it.
    pub fn deleted_to(&self) -> Result<u64, ReadError> {
        Ok(self
            .connection
            .prepare_cached("SELECT deleted_to FROM totals")?
            .query_row([], |row| row.get(0))?)
    }
}
