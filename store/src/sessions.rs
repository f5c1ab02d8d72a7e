//! The sessions that are in use, as they are in the running transaction. Judges nothing.
//!
//! After a rollback all of this is void: whoever rolls back makes a new one.

use pulsegate_core::exchange::Cursor;
use pulsegate_sessions::{Attachment, Refusal, RefusalCode, Source, Ticket};
use rusqlite::{Connection, OptionalExtension, Row};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// How many sessions are kept in memory between batches: some 250 bytes each. Those of idle clients need not be.
const CACHED_MAX: usize = 1_024;

/// What of a session is needed for its messages.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Box<str>,
    pub(crate) cursor: Cursor,
    pub(crate) floor: u64,
    pub(crate) out_last: u64,
    pub(crate) out_committed: u64,
    pub(crate) out_bytes: u64,
    pub(crate) quota_from_ms: u64,
    pub(crate) quota_bytes: u64,
    pub(crate) last_seen_ms: u64,
    pub(crate) ttl_ms: u64,
    /// Where its client was last.
    pub(crate) source: Source,
    /// What its messages that are still kept count.
    pub(crate) message_bytes: u64,
    /// How many refusals are kept: at least those above the floor.
    pub(crate) refusals: u64,
    /// The longest payload that its client takes.
    pub(crate) message_bytes_max: u32,
    /// The longest payload that its client was ever told that it may send.
    pub(crate) told_bytes_max: u32,
    /// The first and the last of its messages that were acknowledged and are lost, until it is known to have heard so.
    pub(crate) lost: Option<(u64, u64)>,
    /// Whether the token before the newest is still valid.
    pub(crate) previous_valid: bool,
    /// Whether it is known in the table that anything was committed or receipted in it.
    is_used: bool,
    /// The ticket to which this batch owes a receipt.
    pub(crate) receipt: Option<Ticket>,
    dirty: bool,
}

impl Session {
    /// Whether nothing is left to remember.
    pub(crate) const fn is_settled(&self) -> bool {
        self.floor == self.cursor.committed && self.out_committed == self.out_last
    }

    /// Deletes the refusals up to the floor, which has to be written in the same transaction.
    pub(crate) fn forget_confirmed(&mut self, connection: &Connection, id: u64) -> rusqlite::Result<()> {
        let gone = connection
            .prepare_cached("DELETE FROM refusals WHERE session = ?1 AND number <= ?2")?
            .execute((id, self.floor))?;
        self.refusals = self.refusals.saturating_sub(gone as u64);
        Ok(())
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            client: row.get(0)?,
            cursor: Cursor { epoch: row.get(1)?, committed: row.get(2)? },
            floor: row.get(3)?,
            out_last: row.get(4)?,
            out_committed: row.get(5)?,
            out_bytes: row.get(6)?,
            quota_from_ms: row.get(7)?,
            quota_bytes: row.get(8)?,
            last_seen_ms: row.get(9)?,
            ttl_ms: row.get(10)?,
            message_bytes_max: row.get(11)?,
            previous_valid: row.get(12)?,
            refusals: row.get(13)?,
            told_bytes_max: row.get(14)?,
            lost: Some((row.get(15)?, row.get(16)?)).filter(|(first, _)| *first > 0),
            source: row.get(17)?,
            message_bytes: row.get(18)?,
            is_used: row.get(19)?,
            receipt: None,
            dirty: false,
        })
    }
}

/// A session that is being worked on.
pub(crate) struct Held<'s> {
    id: u64,
    dirty: &'s mut Vec<u64>,
    pub(crate) session: &'s mut Session,
}

impl Held<'_> {
    /// It has been changed, and has to be written before the commit.
    pub(crate) fn mark(&mut self) {
        if !self.session.dirty {
            self.session.dirty = true;
            self.dirty.push(self.id);
        }
    }
}

/// The sessions that are in use.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    cached: HashMap<u64, Session>,
    dirty: Vec<u64>,
}

impl Sessions {
    /// The session with this number, if there is one.
    pub(crate) fn load(&mut self, connection: &Connection, id: u64) -> rusqlite::Result<Option<Held<'_>>> {
        let Self { cached, dirty } = self;
        let session = match cached.entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let Some(session) = read(connection, id)? else { return Ok(None) };
                entry.insert(session)
            }
        };
        Ok(Some(Held { id, dirty, session }))
    }

    /// The ticket to which a receipt is owed by this batch, and the cursor, if the epoch is still the same.
    pub(crate) fn take_receipt(&mut self, of: Attachment) -> Option<(Ticket, u64)> {
        let session = self.cached.get_mut(&of.session).filter(|session| session.cursor.epoch == of.epoch)?;
        Some((session.receipt.take()?, session.cursor.committed))
    }

    /// Writes what has changed.
    pub(crate) fn flush(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.dirty.is_empty() {
            return Ok(());
        }
        let mut update = connection.prepare_cached(
            "UPDATE sessions SET committed = ?2, floor = ?3, out_last = ?4, out_committed = ?5, out_bytes = ?6,
             quota_from_ms = ?7, quota_bytes = ?8, last_seen_ms = ?9,
             previous_token = CASE WHEN ?10 THEN previous_token END, lost_from = ?11, lost_to = ?12,
             message_bytes = ?13 WHERE id = ?1",
        )?;
        for id in self.dirty.drain(..) {
            // One that was marked may have been forgotten since.
            let Some(session) = self.cached.get_mut(&id) else { continue };
            session.dirty = false;
            let (lost_from, lost_to) = session.lost.unwrap_or_default();
            update.execute((
                id,
                session.cursor.committed,
                session.floor,
                session.out_last,
                session.out_committed,
                session.out_bytes,
                session.quota_from_ms,
                session.quota_bytes,
                session.last_seen_ms,
                session.previous_valid,
                lost_from,
                lost_to,
                session.message_bytes,
            ))?;
            if session.refusals > 0 {
                session.forget_confirmed(connection, id)?;
            }
            if !session.is_used && session.cursor.committed.max(session.out_committed) > 0 {
                session.is_used = true;
                connection.prepare_cached("UPDATE sessions SET used = 1 WHERE id = ?1")?.execute([id])?;
            }
        }
        Ok(())
    }

    /// How many have changed since the last flush.
    pub(crate) const fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// Keeps the memory within its bound; everything has to be flushed.
    pub(crate) fn trim(&mut self) {
        if self.cached.len() > CACHED_MAX && self.dirty.is_empty() {
            self.cached = HashMap::new();
        }
    }

    /// Deletes a session and all that waits for its client. Its messages stay.
    pub(crate) fn forget(&mut self, connection: &Connection, id: u64) -> rusqlite::Result<()> {
        self.cached.remove(&id);
        connection.prepare_cached("DELETE FROM sessions WHERE id = ?1")?.execute([id])?;
        connection.prepare_cached("DELETE FROM outgoing WHERE session = ?1")?.execute([id])?;
        connection.prepare_cached("DELETE FROM refusals WHERE session = ?1")?.execute([id])?;
        Ok(())
    }
}

/// The refusals of a session above `floor`, lowest first.
pub(crate) fn refusals(connection: &Connection, id: u64, floor: u64) -> rusqlite::Result<Vec<Refusal>> {
    let mut select = connection.prepare_cached(
        "SELECT number, code FROM refusals WHERE session = ?1 AND number > ?2 ORDER BY number",
    )?;
    let refusals = select.query_map([id, floor], |row| {
        let code: u16 = row.get(1)?;
        let code =
            RefusalCode::from_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(1, code.into()))?;
        Ok(Refusal { number: row.get(0)?, code })
    })?;
    refusals.collect()
}

fn read(connection: &Connection, id: u64) -> rusqlite::Result<Option<Session>> {
    // A peer names this number: it may be anything.
    let Ok(id) = i64::try_from(id) else { return Ok(None) };
    connection
        .prepare_cached(
            "SELECT client, epoch, committed, floor, out_last, out_committed, out_bytes, quota_from_ms, quota_bytes,
             last_seen_ms, ttl_ms, message_max, previous_token IS NOT NULL,
             (SELECT count(*) FROM refusals WHERE session = ?1), told_max, lost_from, lost_to,
             source, message_bytes, used
             FROM sessions WHERE id = ?1",
        )?
        .query_row([id], Session::read)
        .optional()
}
