//! What the rules have done to sessions is done to the database, and what they don't know is looked up in it. Judges
//! nothing.

use super::{Batch, MESSAGE_BYTES, NO_SESSION};
use crate::rows;
use pulsegate_sessions::{Effect, Need, Outgoing, Part, Reply, Request, Seat, Source, loaded};
use rusqlite::{Connection, OptionalExtension};

impl Batch<'_> {
    /// Does what is to be done, in its order.
    pub(super) fn apply(&mut self) -> rusqlite::Result<()> {
        let mut effects = std::mem::take(&mut self.state.effects);
        for effect in effects.drain(..) {
            self.apply_one(effect)?;
        }
        self.state.effects = effects;
        Ok(())
    }

    fn apply_one(&mut self, effect: Effect) -> rusqlite::Result<()> {
        match effect {
            Effect::Reply(reply) => self.done.replies.push(reply),
            Effect::Commit { place, client, source } => {
                if let Request::Message { seat, number, received_at_ms, payload } = &self.requests[place] {
                    self.keep((seat.session(), *number, *received_at_ms), &client, payload, source)?;
                }
            }
            Effect::Append(place) => {
                let request = &self.requests[place];
                if let Request::Append { client, source, number, received_at_ms, payload } = request {
                    self.keep((NO_SESSION, *number, *received_at_ms), client, payload, *source)?;
                }
            }
            Effect::Hold(place) => self.done.unjudged.push(place),
            Effect::Refuse(session, refusal) => {
                self.connection.prepare_cached("INSERT INTO refusals VALUES (?1, ?2, ?3)")?.execute((
                    session,
                    refusal.number,
                    refusal.code as u16,
                ))?;
            }
            Effect::ForgetRefusals(session, to) => {
                self.connection
                    .prepare_cached("DELETE FROM refusals WHERE session = ?1 AND number <= ?2")?
                    .execute((session, to))?;
            }
            Effect::Push { place, session, number } => {
                let Request::Push { now_ms, payload, .. } = &self.requests[place] else { return Ok(()) };
                self.connection
                    .prepare_cached(
                        "INSERT INTO outgoing (session, number, created_ms, payload) VALUES (?1, ?2, ?3, ?4)",
                    )?
                    .execute((session, number, now_ms, payload))?;
            }
            Effect::Settle(session, to) => {
                self.connection
                    .prepare_cached("DELETE FROM outgoing WHERE session = ?1 AND number <= ?2")?
                    .execute((session, to))?;
            }
            Effect::Load { seat, above, bytes_max } => {
                let reply = load(self.connection, seat, above, bytes_max)?;
                self.done.replies.push(reply);
            }
            Effect::Save(number, part) => {
                let Some(session) = self.state.sessions.session(number) else { return Ok(()) };
                if part == Part::Cursor {
                    // One of very many: the statement is made once for a batch.
                    return rows::save_cursor(&mut self.update_cursor, number, session);
                }
                rows::save(self.connection, number, session, part)?;
                if part >= Part::Connection {
                    self.tickets.follow(number, session.cursor.epoch, session.connection);
                }
            }
            Effect::SaveSource(source, holding) => rows::save_source(self.connection, source, holding)?,
            Effect::Forget(number) => {
                rows::forget(self.connection, number)?;
                self.tickets.detach(number);
            }
            Effect::Loss(loss) => self.done.note(loss),
        }
        Ok(())
    }

    /// Stores a client's message as the newest: its session, its number there, and when it came.
    fn keep(
        &mut self,
        (session, number, received_at_ms): (u64, u64, u64),
        client: &str,
        payload: &[u8],
        source: Source,
    ) -> rusqlite::Result<()> {
        let totals = &mut self.state.totals;
        self.insert_message.execute((
            totals.next,
            session,
            number,
            received_at_ms,
            client,
            payload,
            source,
        ))?;
        totals.next += 1;
        totals.messages += 1;
        totals.message_bytes += (payload.len() + client.len()) as u64 + MESSAGE_BYTES;
        self.inserted += 1;
        Ok(())
    }

    /// Looks something up.
    pub(super) fn provide(&mut self, need: Need<'_>) -> rusqlite::Result<()> {
        // What this batch has changed is looked for as well.
        self.state.sessions.save_for(&need, &mut self.state.effects);
        self.apply()?;
        let (connection, sessions) = (self.connection, &mut self.state.sessions);
        match need {
            Need::Session(number) => {
                sessions.put_session(number, rows::read(connection, self.tickets, number)?);
            }
            Need::Source(source) => sessions.put_source(source, rows::read_source(connection, source)?),
            Need::Attached { client, but } => {
                let mut select = connection.prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM sessions INDEXED BY sessions_attached
                     WHERE client = ?1 AND expires_ms IS NULL AND id <> ?2)",
                )?;
                sessions.put_attached(select.query_row((client, but), |row| row.get(0))?);
            }
            Need::Newest(client) => {
                let mut select =
                    connection.prepare_cached("SELECT max(id) FROM sessions WHERE client = ?1")?;
                sessions.put_newest(select.query_row([client], |row| row.get(0))?);
            }
            Need::Unused(source) => sessions.put_unused(unused(connection, source)?),
            Need::Outgoing { session, to } => {
                let mut select = connection.prepare_cached(
                    "SELECT coalesce(sum(octet_length(payload)), 0) FROM outgoing
                     WHERE session = ?1 AND number <= ?2",
                )?;
                sessions.put_outgoing(select.query_row((session, to), |row| row.get(0))?);
            }
            Need::Expired { now_ms, count } => {
                let mut select = connection.prepare_cached(
                    "SELECT id FROM sessions WHERE expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2",
                )?;
                let expired = select.query_map((now_ms, count), |row| row.get(0))?;
                sessions.put_expired(expired.collect::<rusqlite::Result<_>>()?);
            }
        }
        Ok(())
    }
}

/// The session that has been without a connection for the longest time and was never used.
fn unused(connection: &Connection, source: Option<Source>) -> rusqlite::Result<Option<u64>> {
    match source {
        Some(source) => connection
            .prepare_cached(
                "SELECT id FROM sessions INDEXED BY sessions_unused_by_source
                 WHERE source = ?1 AND expires_ms IS NOT NULL AND used = 0 ORDER BY expires_ms LIMIT 1",
            )?
            .query_row([source], |row| row.get(0))
            .optional(),
        None => connection
            .prepare_cached(
                "SELECT id FROM sessions INDEXED BY sessions_unused
                 WHERE expires_ms IS NOT NULL AND used = 0 ORDER BY expires_ms LIMIT 1",
            )?
            .query_row([], |row| row.get(0))
            .optional(),
    }
}

/// Reads the next messages to a client.
fn load(connection: &Connection, seat: Seat, above: u64, bytes_max: u32) -> rusqlite::Result<Reply> {
    let mut select = connection.prepare_cached(
        "SELECT number, payload FROM outgoing WHERE session = ?1 AND number > ?2 ORDER BY number",
    )?;
    let outgoing = |row: &rusqlite::Row<'_>| Ok(Outgoing { number: row.get(0)?, payload: row.get(1)? });
    let rows = select.query_map((seat.session(), above), outgoing)?;
    loaded(seat, bytes_max, rows)
}
