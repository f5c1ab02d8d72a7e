//! Sessions and sources as rows of the database. Judges nothing.

use crate::tickets::Tickets;
use pulsegate_core::exchange::Cursor;
use pulsegate_sessions::{Holding, Part, Refusal, RefusalCode, Session, Source};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, ToSql};
use std::sync::Arc;

/// Reads a session.
pub(crate) fn read(
    connection: &Connection,
    tickets: &Tickets,
    number: u64,
) -> rusqlite::Result<Option<Session>> {
    // A peer names this number: it may be anything.
    let Ok(id) = i64::try_from(number) else { return Ok(None) };
    let found = connection
        .prepare_cached(
            "SELECT client, token, previous_token, epoch, committed, floor, out_last, out_committed, out_bytes,
             quota_from_ms, quota_bytes, created_ms, last_seen_ms, ttl_ms, expires_ms, source, message_bytes,
             message_max, told_max, lost_from, lost_to, (SELECT count(*) FROM refusals WHERE session = ?1)
             FROM sessions WHERE id = ?1",
        )?
        .query_row([id], |row| Ok((session(row)?, row.get::<_, u64>(21)?)))
        .optional()?;
    let Some((mut session, refusals)) = found else { return Ok(None) };
    if refusals > 0 {
        session.refusals = read_refusals(connection, id)?;
    }
    session.connection = tickets.of(number);
    Ok(Some(session))
}

fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        client: Arc::from(row.get_ref(0)?.as_str()?),
        token: row.get(1)?,
        previous: row.get(2)?,
        cursor: Cursor { epoch: row.get(3)?, committed: row.get(4)? },
        floor: row.get(5)?,
        out_last: row.get(6)?,
        out_committed: row.get(7)?,
        out_bytes: row.get(8)?,
        quota_from_ms: row.get(9)?,
        quota_bytes: row.get(10)?,
        created_ms: row.get(11)?,
        last_seen_ms: row.get(12)?,
        ttl_ms: row.get(13)?,
        expires_ms: row.get(14)?,
        connection: None,
        source: row.get(15)?,
        message_bytes: row.get(16)?,
        message_bytes_max: row.get(17)?,
        told_bytes_max: row.get(18)?,
        lost: Some((row.get(19)?, row.get(20)?)).filter(|(first, _)| *first > 0),
        refusals: Vec::new(),
    })
}

fn read_refusals(connection: &Connection, id: i64) -> rusqlite::Result<Vec<Refusal>> {
    let mut select =
        connection.prepare_cached("SELECT number, code FROM refusals WHERE session = ?1 ORDER BY number")?;
    let refusals = select.query_map([id], |row| {
        let code: u16 = row.get(1)?;
        let code =
            RefusalCode::from_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(1, code.into()))?;
        Ok(Refusal { number: row.get(0)?, code })
    })?;
    refusals.collect()
}

/// What messages change of a session: no column of any index.
pub(crate) fn prepare_cursor(connection: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    connection.prepare_cached(
        "UPDATE sessions SET committed = ?2, floor = ?3, quota_from_ms = ?4, quota_bytes = ?5,
         last_seen_ms = ?6, message_bytes = ?7 WHERE id = ?1",
    )
}

/// Writes that.
pub(crate) fn save_cursor(
    update: &mut CachedStatement<'_>,
    id: u64,
    session: &Session,
) -> rusqlite::Result<()> {
    update.execute((
        id,
        session.cursor.committed,
        session.floor,
        session.quota_from_ms,
        session.quota_bytes,
        session.last_seen_ms,
        session.message_bytes,
    ))?;
    Ok(())
}

/// Writes what of a session has changed, or more.
pub(crate) fn save(connection: &Connection, id: u64, session: &Session, part: Part) -> rusqlite::Result<()> {
    match part {
        Part::Cursor | Part::Exchange => {
            let (lost_from, lost_to) = session.lost.unwrap_or_default();
            connection
                .prepare_cached(
                    "UPDATE sessions SET committed = ?2, floor = ?3, out_last = ?4, out_committed = ?5,
                     out_bytes = ?6, quota_from_ms = ?7, quota_bytes = ?8, last_seen_ms = ?9, previous_token = ?10,
                     lost_from = ?11, lost_to = ?12, message_bytes = ?13 WHERE id = ?1",
                )?
                .execute((
                    id,
                    session.cursor.committed,
                    session.floor,
                    session.out_last,
                    session.out_committed,
                    session.out_bytes,
                    session.quota_from_ms,
                    session.quota_bytes,
                    session.last_seen_ms,
                    session.previous,
                    lost_from,
                    lost_to,
                    session.message_bytes,
                ))
        }
        Part::Connection => save_all(
            connection,
            "UPDATE sessions SET client = ?2, token = ?3, previous_token = ?4, epoch = ?5, committed = ?6,
             floor = ?7, out_last = ?8, out_committed = ?9, out_bytes = ?10, message_max = ?11, quota_from_ms = ?12,
             quota_bytes = ?13, created_ms = ?14, last_seen_ms = ?15, ttl_ms = ?16, expires_ms = ?17,
             told_max = ?18, lost_from = ?19, lost_to = ?20, source = ?21, message_bytes = ?22, used = ?23
             WHERE id = ?1",
            id,
            session,
        ),
        Part::New => save_all(
            connection,
            "INSERT INTO sessions (id, client, token, previous_token, epoch, committed, floor, out_last,
             out_committed, out_bytes, message_max, quota_from_ms, quota_bytes, created_ms, last_seen_ms, ttl_ms,
             expires_ms, told_max, lost_from, lost_to, source, message_bytes, used)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
             ?21, ?22, ?23)",
            id,
            session,
        ),
    }?;
    Ok(())
}

fn save_all(connection: &Connection, sql: &str, id: u64, session: &Session) -> rusqlite::Result<usize> {
    let (lost_from, lost_to) = session.lost.unwrap_or_default();
    let values: [&dyn ToSql; 23] = [
        &id,
        &session.client,
        &session.token,
        &session.previous,
        &session.cursor.epoch,
        &session.cursor.committed,
        &session.floor,
        &session.out_last,
        &session.out_committed,
        &session.out_bytes,
        &session.message_bytes_max,
        &session.quota_from_ms,
        &session.quota_bytes,
        &session.created_ms,
        &session.last_seen_ms,
        &session.ttl_ms,
        &session.expires_ms,
        &session.told_bytes_max,
        &lost_from,
        &lost_to,
        &session.source,
        &session.message_bytes,
        &session.is_used(),
    ];
    connection.prepare_cached(sql)?.execute(&values[..])
}

/// Deletes a session and all that waits for its client. Its messages stay.
pub(crate) fn forget(connection: &Connection, id: u64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM sessions WHERE id = ?1")?.execute([id])?;
    connection.prepare_cached("DELETE FROM outgoing WHERE session = ?1")?.execute([id])?;
    connection.prepare_cached("DELETE FROM refusals WHERE session = ?1")?.execute([id])?;
    Ok(())
}

/// Reads what a source has.
pub(crate) fn read_source(connection: &Connection, source: Source) -> rusqlite::Result<Holding> {
    let found = connection
        .prepare_cached("SELECT sessions, message_bytes, outgoing_bytes FROM sources WHERE source = ?1")?
        .query_row([source], |row| {
            Ok(Holding { sessions: row.get(0)?, message_bytes: row.get(1)?, outgoing_bytes: row.get(2)? })
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// Writes what a source has. One that has nothing any more is forgotten.
pub(crate) fn save_source(connection: &Connection, source: Source, holding: Holding) -> rusqlite::Result<()> {
    let Holding { sessions, message_bytes, outgoing_bytes } = holding;
    if holding == Holding::default() {
        connection.prepare_cached("DELETE FROM sources WHERE source = ?1")?.execute([source])?;
    } else {
        connection.prepare_cached("REPLACE INTO sources VALUES (?1, ?2, ?3, ?4)")?.execute((
            source,
            sessions,
            message_bytes,
            outgoing_bytes,
        ))?;
    }
    Ok(())
}
