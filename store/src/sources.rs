//! What each source of connections has in the store, as it is in the running transaction: sessions, messages, messages to
//! its clients. Judges nothing.
//!
//! After a rollback all of this is void: whoever rolls back makes a new one.

use pulsegate_sessions::Source;
use rusqlite::{Connection, OptionalExtension};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// How many sources are kept in memory between batches: some 50 bytes each.
const CACHED_MAX: usize = 4_096;

/// What a source has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) sessions: u64,
    /// Counted as in the table `totals`.
    pub(crate) message_bytes: u64,
    /// Payload that waits for its clients.
    pub(crate) outgoing_bytes: u64,
}

#[derive(Debug)]
struct Row {
    holding: Holding,
    dirty: bool,
}

/// The sources that are in use.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    cached: HashMap<Source, Row>,
    dirty: Vec<Source>,
}

impl Sources {
    /// What a source has.
    pub(crate) fn of(&mut self, connection: &Connection, source: Source) -> rusqlite::Result<Holding> {
        Ok(self.row(connection, source)?.0.holding)
    }

    /// Changes what a source has. Returns what it has then.
    pub(crate) fn change(
        &mut self,
        connection: &Connection,
        source: Source,
        change: impl FnOnce(&mut Holding),
    ) -> rusqlite::Result<Holding> {
        let (row, dirty) = self.row(connection, source)?;
        change(&mut row.holding);
        if !row.dirty {
            row.dirty = true;
            dirty.push(source);
        }
        Ok(row.holding)
    }

    fn row(
        &mut self,
        connection: &Connection,
        source: Source,
    ) -> rusqlite::Result<(&mut Row, &mut Vec<Source>)> {
        let row = match self.cached.entry(source) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let holding = read(connection, source)?.unwrap_or_default();
                entry.insert(Row { holding, dirty: false })
            }
        };
        Ok((row, &mut self.dirty))
    }

    /// Writes what has changed. A source that has nothing any more is forgotten.
    pub(crate) fn flush(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.dirty.is_empty() {
            return Ok(());
        }
        let mut write = connection.prepare_cached("REPLACE INTO sources VALUES (?1, ?2, ?3, ?4)")?;
        let mut delete = connection.prepare_cached("DELETE FROM sources WHERE source = ?1")?;
        for source in self.dirty.drain(..) {
            let Some(row) = self.cached.get_mut(&source) else { continue };
            row.dirty = false;
            let Holding { sessions, message_bytes, outgoing_bytes } = row.holding;
            if row.holding == Holding::default() {
                delete.execute([source])?;
            } else {
                write.execute((source, sessions, message_bytes, outgoing_bytes))?;
            }
        }
        Ok(())
    }

    /// Keeps the memory within its bound; everything has to be flushed.
    pub(crate) fn trim(&mut self) {
        if self.cached.len() > CACHED_MAX && self.dirty.is_empty() {
            self.cached = HashMap::new();
        }
    }
}

fn read(connection: &Connection, source: Source) -> rusqlite::Result<Option<Holding>> {
    connection
        .prepare_cached("SELECT sessions, message_bytes, outgoing_bytes FROM sources WHERE source = ?1")?
        .query_row([source], |row| {
            Ok(Holding { sessions: row.get(0)?, message_bytes: row.get(1)?, outgoing_bytes: row.get(2)? })
        })
        .optional()
}
