//! A connection gets its session: tokens, epochs, cursors of both sides. Knows no time to live but the one given.

use super::{Batch, delete_outgoing};
use crate::config::millis;
use crate::request::{Attach, AttachRefusal, Attached, Outcome, Outgoing, Reply, Resume, Token};
use crate::sessions::refusals;
use crate::token;
use rusqlite::{Connection, OptionalExtension};

/// The highest number that a peer may claim: far beyond what a session can reach, and far below an overflow.
const NUMBER_MAX: u64 = 1 << 60;
/// The longest id of a client, in bytes (PROTOCOL.md section 9).
const CLIENT_BYTES_MAX: usize = 128;
/// The longest time to live, in milliseconds: 34 years.
const TTL_MS_MAX: u64 = 1 << 40;

impl Batch<'_> {
    pub(super) fn handle_attach(&mut self, attach: &Attach) -> rusqlite::Result<()> {
        let answer = if attach.client.len() > CLIENT_BYTES_MAX {
            Err(AttachRefusal::Impossible)
        } else {
            match attach.resume {
                Some(resume) => self.resume(attach, resume)?,
                None => self.begin(attach)?,
            }
        };
        self.replies.push(match answer {
            Ok(attached) => Reply::Attached(attached.into()),
            Err(why) => Reply::AttachRefused { ticket: attach.ticket, why },
        });
        Ok(())
    }

    fn begin(&mut self, attach: &Attach) -> rusqlite::Result<Result<Attached, AttachRefusal>> {
        if self.state.session_count >= self.config.sessions_max {
            return Ok(Err(AttachRefusal::SessionLimit));
        }
        self.connection
            .prepare_cached(
                "INSERT INTO sessions (client, token, epoch, committed, floor, out_last, out_committed, out_bytes,
                 quota_from_ms, quota_bytes, created_ms, last_seen_ms, ttl_ms)
                 VALUES (?1, ?2, 1, 0, 0, 0, 0, 0, ?3, 0, ?3, ?3, ?4)",
            )?
            .execute((&attach.client, &attach.token, attach.now.wall_ms, ttl_ms(attach)))?;
        self.state.session_count += 1;
        Ok(Ok(Attached {
            ticket: attach.ticket,
            session: u64::try_from(self.connection.last_insert_rowid()).unwrap_or(0),
            epoch: 1,
            outcome: Outcome::New,
            token: attach.token,
            committed: 0,
            floor: 0,
            acknowledged: 0,
            lost: None,
            refused: Vec::new(),
            outgoing: Vec::new(),
        }))
    }

    fn resume(
        &mut self,
        attach: &Attach,
        resume: Resume,
    ) -> rusqlite::Result<Result<Attached, AttachRefusal>> {
        let id = resume.session;
        let Some(mut held) = self.state.sessions.load(self.connection, id)? else {
            return self.begin(attach);
        };
        let session = &mut *held.session;
        let Some(tokens) = tokens(self.connection, id)? else { return self.begin(attach) };
        if !tokens.admit(&resume.token, session.previous_valid) {
            return Ok(Err(AttachRefusal::BadToken));
        }
        if *session.client != *attach.client {
            return Ok(Err(AttachRefusal::OtherClient));
        }
        if session.attached && !attach.replaces {
            return Ok(Err(AttachRefusal::InUse));
        }
        if resume.committed > NUMBER_MAX || resume.acknowledged > NUMBER_MAX {
            return Ok(Err(AttachRefusal::Impossible));
        }
        // What the client has receipts for and we know nothing of: a disk was restored, or power failed.
        let lost = (resume.acknowledged > session.cursor.committed)
            .then_some((session.cursor.committed + 1, resume.acknowledged));
        session.cursor.committed = session.cursor.committed.max(resume.acknowledged);
        session.floor = session.floor.max(resume.acknowledged);
        // The same the other way round: numbers that the client knows must not be used again.
        session.out_last = session.out_last.max(resume.committed);
        let freed = delete_outgoing(self.connection, id, session.out_committed, resume.committed)?;
        session.out_bytes = session.out_bytes.saturating_sub(freed);
        session.out_committed = session.out_committed.max(resume.committed);
        session.cursor.epoch += 1;
        (session.attached, session.previous_valid, session.receipt) = (true, true, None);
        (session.last_seen_ms, session.ttl_ms) = (attach.now.wall_ms, ttl_ms(attach));
        // The one that was shown stays valid: the client has it for certain, and may never get the next one.
        // A next one that nobody has used yet stays the next one: it may be in use before this is known.
        let next = if token::equal(&resume.token, &tokens.newest) { attach.token } else { tokens.newest };
        self.connection
            .prepare_cached(
                "UPDATE sessions SET token = ?2, previous_token = ?3, epoch = ?4, ttl_ms = ?5, expires_ms = NULL
                 WHERE id = ?1",
            )?
            .execute((id, &next, &resume.token, session.cursor.epoch, session.ttl_ms))?;
        let attached = Attached {
            ticket: attach.ticket,
            session: id,
            epoch: session.cursor.epoch,
            outcome: Outcome::Resumed,
            token: next,
            committed: session.cursor.committed,
            floor: session.floor,
            acknowledged: session.out_committed,
            lost,
            refused: refusals(self.connection, id, session.floor)?,
            outgoing: outgoing(self.connection, id, session.out_committed)?,
        };
        held.mark();
        Ok(Ok(attached))
    }
}

fn ttl_ms(attach: &Attach) -> u64 {
    millis(attach.time_to_live).min(TTL_MS_MAX)
}

struct Tokens {
    newest: Token,
    previous: Option<Token>,
}

impl Tokens {
    /// Whether a token admits its bearer, found out in the same time whatever it is.
    fn admit(&self, shown: &Token, previous_valid: bool) -> bool {
        let is_newest = token::equal(shown, &self.newest);
        let is_previous = token::equal(shown, &self.previous.unwrap_or(self.newest));
        is_newest | (is_previous & previous_valid)
    }
}

fn tokens(connection: &Connection, id: u64) -> rusqlite::Result<Option<Tokens>> {
    connection
        .prepare_cached("SELECT token, previous_token FROM sessions WHERE id = ?1")?
        .query_row([id], |row| Ok(Tokens { newest: row.get(0)?, previous: row.get(1)? }))
        .optional()
}

fn outgoing(connection: &Connection, id: u64, above: u64) -> rusqlite::Result<Vec<Outgoing>> {
    let mut select = connection.prepare_cached(
        "SELECT number, payload FROM outgoing WHERE session = ?1 AND number > ?2 ORDER BY number",
    )?;
    select.query_map([id, above], |row| Ok(Outgoing { number: row.get(0)?, payload: row.get(1)? }))?.collect()
}
