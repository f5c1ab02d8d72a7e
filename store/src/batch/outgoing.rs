//! What goes to clients: stored until their receipt, within limits. Knows no connection but its ticket.

use super::{Batch, MESSAGE_BYTES, NUMBER_MAX};
use pulsegate_sessions::{Attachment, LOAD_BYTES_MAX, Outgoing, PushRefusal, Recipient, Reply, Seat, Ticket};
use rusqlite::{Connection, OptionalExtension};

impl Batch<'_> {
    pub(super) fn handle_push(
        &mut self,
        ticket: Ticket,
        to: &Recipient,
        now_ms: u64,
        payload: &[u8],
    ) -> rusqlite::Result<()> {
        let id = match to {
            Recipient::Session(id) => Some(*id),
            Recipient::Client(client) => self
                .connection
                .prepare_cached("SELECT max(id) FROM sessions WHERE client = ?1")?
                .query_row([client], |row| row.get(0))
                .optional()?
                .flatten(),
        };
        let held = id.map(|id| self.state.sessions.load(self.connection, id)).transpose()?.flatten();
        let (Some(id), Some(mut held)) = (id, held) else {
            self.done.replies.push(Reply::PushRefused { ticket, why: PushRefusal::NoSession });
            return Ok(());
        };
        let session = &mut *held.session;
        let bytes = payload.len() as u64;
        let why = if payload.len() > self.config.message_bytes_max
            || bytes > u64::from(session.message_bytes_max)
        {
            Some(PushRefusal::TooLarge)
        } else if session.out_last >= NUMBER_MAX
            || session.out_last - session.out_committed >= self.config.outgoing_messages_max
            || session.out_bytes + bytes > self.config.outgoing_bytes_max
        {
            Some(PushRefusal::Full)
        } else if self.state.shares.is_full(self.connection, self.config, session.source, bytes)? {
            self.done.losses.refused += 1;
            Some(PushRefusal::StoreFull)
        } else {
            None
        };
        if let Some(why) = why {
            self.done.replies.push(Reply::PushRefused { ticket, why });
            return Ok(());
        }
        session.out_last += 1;
        self.state.shares.handle_pushed(self.connection, session, bytes)?;
        let number = session.out_last;
        self.connection
            .prepare_cached(
                "INSERT INTO outgoing (session, number, created_ms, payload) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((id, number, now_ms, payload))?;
        self.done.replies.push(Reply::Pushed {
            ticket,
            attachment: Attachment { session: id, epoch: session.cursor.epoch },
            connection: self.tickets.of(id),
            number,
            payload: payload.into(),
        });
        held.mark();
        Ok(())
    }

    /// Reads the next messages to a client. Only the newest connection of a session is answered: whoever attaches many
    /// times gets them once.
    pub(super) fn handle_load(&mut self, seat: Seat, above: u64, bytes_max: u32) -> rusqlite::Result<()> {
        let Attachment { session: id, epoch } = seat.attachment;
        let held = self.state.sessions.load(self.connection, id)?;
        if held.as_ref().is_none_or(|held| held.session.cursor.epoch < epoch) {
            self.orphan(seat);
            return Ok(());
        }
        let (Some(_), Ok(above)) =
            (held.filter(|held| held.session.cursor.epoch == epoch), i64::try_from(above))
        else {
            return Ok(());
        };
        let bytes_max = u64::from(bytes_max.min(LOAD_BYTES_MAX));
        let mut select = self.connection.prepare_cached(
            "SELECT number, payload FROM outgoing WHERE session = ?1 AND number > ?2 ORDER BY number",
        )?;
        let mut rows = select.query((id, above))?;
        let (mut messages, mut bytes, mut has_more) = (Vec::new(), 0, false);
        while let Some(row) = rows.next()? {
            let message = Outgoing { number: row.get(0)?, payload: row.get(1)? };
            bytes += message.payload.len() as u64 + MESSAGE_BYTES;
            if bytes > bytes_max && !messages.is_empty() {
                has_more = true;
                break;
            }
            messages.push(message);
        }
        self.done.replies.push(Reply::Loaded { seat, messages, has_more });
        Ok(())
    }

    pub(super) fn handle_out_receipt(&mut self, of: Attachment, committed: u64) -> rusqlite::Result<()> {
        let Attachment { session: id, epoch } = of;
        if let Some(mut held) = self.state.sessions.load(self.connection, id)?
            && held.session.cursor.epoch == epoch
            && committed <= held.session.out_last
        {
            let session = &mut *held.session;
            let freed = delete_outgoing(self.connection, id, session.out_committed, committed)?;
            self.state.shares.handle_settled(self.connection, session, freed)?;
            session.out_committed = session.out_committed.max(committed);
            held.mark();
        }
        Ok(())
    }
}

/// Deletes our messages to a client up to `committed`, of which those up to `before` are gone already. Returns
/// the bytes of their payloads.
pub(super) fn delete_outgoing(
    connection: &Connection,
    id: u64,
    before: u64,
    committed: u64,
) -> rusqlite::Result<u64> {
    if committed <= before {
        return Ok(0);
    }
    let mut delete = connection.prepare_cached(
        "DELETE FROM outgoing WHERE session = ?1 AND number <= ?2 RETURNING octet_length(payload)",
    )?;
    delete.query_map([id, committed], |row| row.get::<_, u64>(0))?.sum()
}
