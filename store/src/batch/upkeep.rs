//! What has to go without being asked: expired sessions, old messages. In pieces that ride on the batches, so
//! that no commit waits long for them.

use super::Batch;
use super::deleted::Deleted;
use pulsegate_sessions::{MESSAGE_BYTES, millis};

/// In how many steps the age of messages is told apart.
const AGES: u64 = 256;
/// The shortest of these steps.
const AGE_MS_MIN: u64 = 1_000;
/// The most messages that go with a batch; twice as many as come with it if that is more.
const DELETED_MAX: usize = 512;

impl Batch<'_> {
    /// Ends the sessions whose time is over.
    pub(super) fn expire(&mut self) -> rusqlite::Result<()> {
        if !self.state.expiry_due {
            return Ok(());
        }
        self.state.expiry_due = loop {
            let now_ms = self.state.now.uptime_ms;
            match self.state.sessions.expire(now_ms, &mut self.state.effects) {
                Ok(has_more) => break has_more,
                Err(need) => self.provide(need)?,
            }
        };
        self.apply()
    }

    /// Deletes the oldest messages: those above the bytes that are kept, and those above the age.
    pub(super) fn retain(&mut self) -> rusqlite::Result<()> {
        let too_many = self.state.totals.message_bytes > self.config.retention_bytes;
        if !self.state.retention_due && !too_many {
            return Ok(());
        }
        self.age()?;
        let piece = DELETED_MAX.max(2 * self.inserted);
        let aged_to = self.state.aged_to;
        let totals = &mut self.state.totals;
        let mut select = self.connection.prepare_cached(
            "SELECT id, octet_length(payload) + octet_length(client), session, source FROM messages
             WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let mut rows = select.query((totals.deleted_to, piece))?;
        let (mut deleted, mut to, mut of) = (0, totals.deleted_to, Deleted::default());
        while let Some(row) = rows.next()? {
            let (id, bytes): (u64, u64) = (row.get(0)?, row.get(1)?);
            let bytes = bytes + MESSAGE_BYTES;
            if totals.message_bytes <= self.config.retention_bytes && id > aged_to {
                break;
            }
            if id > aged_to {
                self.done.losses.messages += 1;
                self.done.losses.bytes += bytes;
            }
            of.note(row.get(2)?, row.get(3)?, bytes);
            totals.message_bytes = totals.message_bytes.saturating_sub(bytes);
            totals.messages = totals.messages.saturating_sub(1);
            (deleted, to) = (deleted + 1, id);
        }
        drop(rows);
        if deleted > 0 {
            self.connection.prepare_cached("DELETE FROM messages WHERE id <= ?1")?.execute([to])?;
            totals.deleted_to = to;
            self.handle_deleted(of)?;
        }
        self.state.retention_due = deleted == piece;
        Ok(())
    }

    /// Writes down which message is the newest now, and finds those that are older than messages are kept. They are kept
    /// for up to a step longer, and for as long as no gateway runs.
    fn age(&mut self) -> rusqlite::Result<()> {
        let state = &mut *self.state;
        let kept_ms = millis(self.config.retention_age);
        let step_ms = (kept_ms / AGES).max(AGE_MS_MIN);
        let is_due = state.marked_ms.is_none_or(|marked_ms| state.age_ms >= marked_ms + step_ms);
        if state.totals.messages > 0 && is_due {
            self.connection
                .prepare_cached("INSERT OR REPLACE INTO ages VALUES (?1, ?2)")?
                .execute((state.age_ms, state.totals.next - 1))?;
            state.marked_ms = Some(state.age_ms);
        }
        let Some(oldest_ms) = state.age_ms.checked_sub(kept_ms) else { return Ok(()) };
        let newest: Option<u64> = self
            .connection
            .prepare_cached("SELECT max(newest) FROM ages WHERE age_ms <= ?1")?
            .query_row([oldest_ms], |row| row.get(0))?;
        state.aged_to = state.aged_to.max(newest.unwrap_or(0));
        if newest.is_some_and(|newest| newest <= state.totals.deleted_to) {
            self.connection.prepare_cached("DELETE FROM ages WHERE age_ms <= ?1")?.execute([oldest_ms])?;
        }
        Ok(())
    }
}
