//! What has to go without being asked: expired sessions, old messages. In pieces that ride on the batches, so
//! that no commit waits long for them.

use super::{Batch, MESSAGE_BYTES};
use crate::config::millis;
use crate::request::Reply;

/// The most sessions that expire with one batch.
const EXPIRED_MAX: usize = 256;
/// The most messages that go with a batch; twice as many as come with it if that is more.
const DELETED_MAX: usize = 512;

impl Batch<'_> {
    /// Ends the sessions whose time is over.
    pub(super) fn expire(&mut self) -> rusqlite::Result<()> {
        if !self.state.expiry_due {
            return Ok(());
        }
        let expired = self
            .connection
            .prepare_cached(
                "SELECT id, out_committed, out_last FROM sessions WHERE expires_ms <= ?1
                 ORDER BY expires_ms LIMIT ?2",
            )?
            .query_map((self.state.now.uptime_ms, EXPIRED_MAX), |row| {
                Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?, row.get::<_, u64>(2)?))
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        for &(session, committed, last) in &expired {
            self.forget(session)?;
            let unknown = (committed < last).then_some((committed + 1, last));
            self.done.replies.push(Reply::Expired { session, unknown });
        }
        self.state.expiry_due = expired.len() == EXPIRED_MAX;
        Ok(())
    }

    /// Deletes the oldest messages: those above the bytes that are kept, and those above the age.
    pub(super) fn retain(&mut self) -> rusqlite::Result<()> {
        let too_many = self.state.totals.message_bytes > self.config.retention_bytes;
        if !self.state.retention_due && !too_many {
            return Ok(());
        }
        let piece = DELETED_MAX.max(2 * self.inserted);
        let oldest_ms = self.state.now.wall_ms.saturating_sub(millis(self.config.retention_age));
        let totals = &mut self.state.totals;
        let mut select = self.connection.prepare_cached(
            "SELECT id, received_at_ms, octet_length(payload) + octet_length(client) FROM messages
             WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let mut rows = select.query((totals.deleted_to, piece))?;
        let (mut deleted, mut to) = (0, totals.deleted_to);
        while let Some(row) = rows.next()? {
            let (id, received_at_ms, bytes): (u64, u64, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if totals.message_bytes <= self.config.retention_bytes && received_at_ms >= oldest_ms {
                break;
            }
            totals.message_bytes = totals.message_bytes.saturating_sub(bytes + MESSAGE_BYTES);
            totals.messages = totals.messages.saturating_sub(1);
            (deleted, to) = (deleted + 1, id);
        }
        drop(rows);
        if deleted > 0 {
            self.connection.prepare_cached("DELETE FROM messages WHERE id <= ?1")?.execute([to])?;
            totals.deleted_to = to;
        }
        self.state.retention_due = deleted == piece;
        Ok(())
    }
}
