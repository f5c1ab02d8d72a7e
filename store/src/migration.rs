//! Brings the file of an older version up to date, step by step. Knows the tables by name only.
//!
//! Each step is one transaction, which also writes the version that it leads to: a process that ends in the middle of
//! one leaves the version before it, whole, and the next start goes on from there.

use crate::schema::{SCHEMA, SCHEMA_VERSION, STEPS};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How often a step that takes long is told of.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Why the tables of a file can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(
        "a newer pulsegate has made it: its schema has version {0}, and this one knows up to {SCHEMA_VERSION}; \
         use that pulsegate, or choose another directory"
    )]
    Newer(u32),
    #[error("its pulsegate.db is not a store of pulsegate: choose another directory")]
    Foreign,
}

/// What is told of a step.
#[derive(Debug)]
struct Progress {
    /// The version that it leads to.
    to: u32,
    /// How long it has taken so far.
    elapsed: Duration,
    /// How long the write-ahead log has become, in bytes: what the step has written, once it is more than a little.
    log_bytes: u64,
}

/// The schema's version of an open file; 0 if it has none.
pub(crate) fn schema_version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// The version of a file that this program can use as it is, or bring up to date; 0 if it is empty. Changes nothing.
pub(crate) fn usable_version(connection: &Connection) -> Result<u32, SchemaError> {
    let version = schema_version(connection)?;
    if version > SCHEMA_VERSION {
        return Err(SchemaError::Newer(version));
    }
    let (tables, ours): (u32, u32) = connection.query_row(
        "SELECT count(*), count(*) FILTER (WHERE name IN ('sessions', 'messages', 'totals') AND type = 'table')
         FROM sqlite_schema",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    if (version == 0 && tables == 0) || (version > 0 && ours == 3) {
        Ok(version)
    } else {
        Err(SchemaError::Foreign)
    }
}

/// Makes the tables in an empty file, or brings those of a file up to date. `log` is the file's write-ahead log.
pub(crate) fn migrate(connection: &Connection, log: &Path) -> Result<(), SchemaError> {
    match usable_version(connection)? {
        SCHEMA_VERSION => Ok(()),
        0 => {
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            Ok(transaction.commit()?)
        }
        from => {
            let pages: u64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            let page_bytes: u64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
            info!(
                from,
                to = SCHEMA_VERSION,
                bytes = pages * page_bytes,
                "the store is brought up to date; an older pulsegate can't open it after this"
            );
            let start = Instant::now();
            take_steps(connection, log, from, &STEPS, REPORT_EVERY, &|progress| {
                let Progress { to, elapsed, log_bytes } = progress;
                let seconds = elapsed.as_secs();
                info!(to, seconds, log_bytes, "the store is being brought up to date: don't end the gateway");
            })?;
            info!(seconds = start.elapsed().as_secs(), "the store is up to date");
            Ok(())
        }
    }
}

/// Takes the steps from a version on; the first leads from version 1 to version 2.
fn take_steps(
    connection: &Connection,
    log: &Path,
    from: u32,
    steps: &[&str],
    every: Duration,
    report: &(dyn Fn(&Progress) + Sync),
) -> rusqlite::Result<()> {
    for (step, to) in steps.iter().zip(2_u32..).filter(|(_, to)| *to > from) {
        let start = Instant::now();
        let tell = || {
            let log_bytes = std::fs::metadata(log).map_or(0, |metadata| metadata.len());
            report(&Progress { to, elapsed: start.elapsed(), log_bytes });
        };
        tell();
        std::thread::scope(|scope| {
            let (end, ended) = channel::<()>();
            let telling = std::thread::Builder::new().spawn_scoped(scope, move || {
                while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                    tell();
                }
            });
            if let Err(error) = telling {
                warn!(%error, "how far the store is can't be told");
            }
            let done = take_step(connection, to, step);
            drop(end);
            done
        })?;
    }
    Ok(())
}

fn take_step(connection: &Connection, to: u32, step: &str) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    transaction.execute_batch(step)?;
    transaction.pragma_update(None, "user_version", to)?;
    transaction.commit()?;
    // A step may have written as much as the store holds: the next one is not to need room for both.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

#[cfg(test)]
mod tests;
