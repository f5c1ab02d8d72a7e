//! The outbox on disk: one SQLite file with the messages that are not settled, the session and its cursors
//! (PROTOCOL.md section 5.8), and the thread that writes it in batches. Must not know connections, nor wait for
//! any.

mod access;
mod database;

use crate::journal::{Entry, Found, Journal, Report};
use database::{Database, may_pass};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How many entries one transaction takes at most.
const BATCH_ENTRIES_MAX: usize = 4096;
/// How long a disk that takes nothing is left alone before it is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Why an outbox can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// Another client has it.
    #[error("the outbox {} is in use by another client; give each client a file of its own", .0.display())]
    InUse(PathBuf),
    /// It was made for a client with another id.
    #[error("the outbox {} belongs to the client {owner:?}; use that id or another file", path.display())]
    OtherClient {
        /// The file.
        path: PathBuf,
        /// The id for which it was made.
        owner: String,
    },
    /// It is no outbox.
    #[error("{} is not an outbox; use another file", .0.display())]
    Foreign(PathBuf),
    /// It was made by a newer version.
    #[error("the outbox {} was made by a newer version; use that version, or another file", .0.display())]
    Newer(PathBuf),
    /// The file may not be read and written, or none be made where it is to be.
    #[error("the outbox can't be opened: {0}")]
    Denied(String),
    /// The file can't be opened or read.
    #[error("the outbox {} can't be used: {error}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
}

type Opened = (Journal, Found, mpsc::UnboundedReceiver<Report>);

/// Opens an outbox, or makes it, on a thread of its own, which lives until the journal ends and all of it is
/// stored.
pub(crate) async fn open(path: PathBuf, client: String) -> Result<Opened, OutboxError> {
    let (answer, answer_of) = oneshot::channel();
    let (entries, entries_of) = mpsc::unbounded_channel();
    let (reports, reports_of) = mpsc::unbounded_channel();
    let failed = |error: String| OutboxError::Failed { path: path.clone(), error };
    let file = path.clone();
    let thread = std::thread::Builder::new().name("pulsegate-outbox".to_owned());
    let run = move || match Database::open(&file, &client) {
        Ok((mut database, found)) => {
            if answer.send(Ok(found)).is_ok() {
                write(|batch| database.store(batch), entries_of, &reports);
            }
        }
        // The client may have been dropped.
        Err(error) => drop(answer.send(Err(error))),
    };
    thread.spawn(run).map_err(|error| failed(error.to_string()))?;
    let found = answer_of.await.map_err(|_| failed("its thread is gone".to_owned()))??;
    Ok((Journal::on_disk(entries), found, reports_of))
}

/// Stores entries as they come, all that wait in one transaction, until no more can come. What the disk doesn't take is
/// tried again, and said, until it does, or the client has ended.
fn write(
    mut store: impl FnMut(&[Entry]) -> rusqlite::Result<()>,
    mut entries: mpsc::UnboundedReceiver<Entry>,
    reports: &mpsc::UnboundedSender<Report>,
) {
    let mut place = 0;
    while let Some(first) = entries.blocking_recv() {
        let more = std::iter::from_fn(|| entries.try_recv().ok()).take(BATCH_ENTRIES_MAX - 1);
        let batch: Vec<Entry> = std::iter::once(first).chain(more).collect();
        place += batch.len() as u64;
        let mut pause = RETRY.0;
        while let Err(error) = store(&batch) {
            if !may_pass(&error) || entries.is_closed() {
                // The client may have been dropped.
                let _ = reports.send(Report::Failed(error.to_string()));
                return;
            }
            // Said once: it is the same until it is over.
            if pause == RETRY.0 && reports.send(Report::Stuck(error.to_string())).is_err() {
                return;
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(RETRY.1);
        }
        if reports.send(Report::Stored(place)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[tokio::test]
    async fn what_cannot_be_stored_is_reported_and_ends_the_thread() {
        let directory = tempfile::TempDir::new().unwrap();
        let (mut journal, _, mut reports) =
            open(directory.path().join("outbox.db"), "x".into()).await.unwrap();
        journal.write(Entry::Insert(1, Bytes::from_static(b"a")));
        assert!(matches!(reports.recv().await, Some(Report::Stored(1))));
        journal.write(Entry::Insert(1, Bytes::from_static(b"the id is taken")));
        assert!(matches!(reports.recv().await, Some(Report::Failed(_))));
        assert!(reports.recv().await.is_none());
    }

    /// What version 1 made.
    const VERSION_1: &str = "
        PRAGMA journal_mode = WAL;
        CREATE TABLE session (
            one         INTEGER PRIMARY KEY CHECK (one = 1),
            client      TEXT NOT NULL,
            number      INTEGER NOT NULL DEFAULT 0,
            token       BLOB NOT NULL DEFAULT (zeroblob(16)),
            settled     INTEGER NOT NULL DEFAULT 0,
            marked      INTEGER NOT NULL DEFAULT 0,
            committed   INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE TABLE messages (
            id          INTEGER PRIMARY KEY AUTOINCREMENT,
            payload     BLOB NOT NULL
        ) STRICT;
        CREATE TABLE refusals (
            number      INTEGER PRIMARY KEY,
            code        INTEGER NOT NULL
        ) STRICT;
        PRAGMA application_id = 0x50554c53;
        PRAGMA user_version = 1;
        INSERT INTO session (one, client, number, settled, marked, committed) VALUES (1, 'x', 7, 3, 4, 5);
        INSERT INTO messages VALUES (4, x'04'), (5, x'05');
        INSERT INTO refusals VALUES (5, 2);";

    #[tokio::test]
    async fn a_file_of_version_1_goes_on_and_one_of_a_newer_version_is_refused() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("outbox.db");
        rusqlite::Connection::open(&path).unwrap().execute_batch(VERSION_1).unwrap();
        for told_max in [0, 5_000] {
            let (mut journal, found, mut reports) = open(path.clone(), "x".into()).await.unwrap();
            assert_eq!((found.session, found.settled, found.committed, found.told_max), (7, 3, 5, told_max));
            assert_eq!((found.marked, found.messages.len(), &found.refused[..]), (4, 2, &[(5, 2)][..]));
            journal.write(Entry::Tell(5_000));
            journal.end();
            assert!(matches!(reports.recv().await, Some(Report::Stored(1))));
            assert!(reports.recv().await.is_none(), "the file is free");
        }
        rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 3").unwrap();
        let error = open(path, "x".into()).await.err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("was made by a newer version")));
    }

    fn failing(code: std::ffi::c_int) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None)
    }

    #[test]
    fn a_full_disk_is_waited_for_and_nothing_is_left_out() {
        let (sender, entries) = mpsc::unbounded_channel();
        let (reports, mut reports_of) = mpsc::unbounded_channel();
        for id in 1..=2 {
            sender.send(Entry::Mark(id)).unwrap();
        }
        let (mut left, mut stored) = (2, Vec::new());
        let writing = std::thread::spawn(move || {
            let store = |batch: &[Entry]| {
                if left > 0 {
                    left -= 1;
                    return Err(failing(rusqlite::ffi::SQLITE_FULL));
                }
                stored.extend_from_slice(batch);
                Ok(())
            };
            write(store, entries, &reports);
            stored
        });
        assert!(matches!(reports_of.blocking_recv(), Some(Report::Stuck(why)) if why.contains("full")));
        assert!(matches!(reports_of.blocking_recv(), Some(Report::Stored(2))));
        drop(sender);
        assert_eq!(writing.join().unwrap(), [Entry::Mark(1), Entry::Mark(2)]);
    }

    #[test]
    fn a_client_that_ends_waits_for_no_disk() {
        let (sender, entries) = mpsc::unbounded_channel();
        let (reports, mut reports_of) = mpsc::unbounded_channel();
        sender.send(Entry::Mark(1)).unwrap();
        let writing = std::thread::spawn(move || {
            write(|_| Err(failing(rusqlite::ffi::SQLITE_IOERR_WRITE)), entries, &reports);
        });
        assert!(matches!(reports_of.blocking_recv(), Some(Report::Stuck(_))));
        drop(sender);
        assert!(matches!(reports_of.blocking_recv(), Some(Report::Failed(_))));
        writing.join().unwrap();
    }
}
