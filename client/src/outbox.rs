//! The outbox on disk: one SQLite file with the messages that are not settled, the session and its cursors
//! (PROTOCOL.md section 5.8), and the thread that writes it in batches. Must not know connections, nor wait for
//! any.

mod database;

use crate::journal::{Entry, Found, Journal, Report};
use database::Database;
use std::path::PathBuf;
use tokio::sync::{mpsc, oneshot};

/// How many entries one transaction takes at most.
const BATCH_ENTRIES_MAX: usize = 4096;
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
    /// It is no outbox, or one of a newer version.
    #[error("{} is not an outbox that this version knows; use another file", .0.display())]
    Foreign(PathBuf),
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
                write(&mut database, entries_of, &reports);
            }
        }
        // Whoever asked may have gone.
        Err(error) => drop(answer.send(Err(error))),
    };
    thread.spawn(run).map_err(|error| failed(error.to_string()))?;
    let found = answer_of.await.map_err(|_| failed("its thread is gone".to_owned()))??;
    Ok((Journal::on_disk(entries), found, reports_of))
}

/// Stores entries as they come, all that wait in one transaction, until no more can come.
fn write(
    database: &mut Database,
    mut entries: mpsc::UnboundedReceiver<Entry>,
    reports: &mpsc::UnboundedSender<Report>,
) {
    let mut place = 0;
    while let Some(first) = entries.blocking_recv() {
        let more = std::iter::from_fn(|| entries.try_recv().ok()).take(BATCH_ENTRIES_MAX - 1);
        let batch: Vec<Entry> = std::iter::once(first).chain(more).collect();
        place += batch.len() as u64;
        let outcome = database.store(batch);
        let is_over = outcome.is_err();
        let report =
            outcome.map_or_else(|error| Report::Failed(error.to_string()), |()| Report::Stored(place));
        if reports.send(report).is_err() || is_over {
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
}
