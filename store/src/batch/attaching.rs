//! A connection gets its session: tokens, epochs, cursors of both sides. Knows no time to live but the one given.

use super::outgoing::delete_outgoing;
use super::{Batch, NUMBER_MAX};
use crate::config::{CLIENT_BYTES_MAX, millis};
use crate::sessions::{Session, refusals};
use crate::token;
use pulsegate_core::policy::SecondConnection;
use pulsegate_sessions::{
    Attach, AttachRefusal, Attached, Attachment, Moment, Outcome, Reply, Resume, Seat, Source, Token,
};
use rusqlite::{Connection, OptionalExtension};

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
        self.done.replies.push(match answer {
            Ok(attached) => Reply::Attached(attached.into()),
            Err(why) => Reply::AttachRefused { ticket: attach.ticket, why },
        });
        Ok(())
    }

    fn begin(&mut self, attach: &Attach) -> rusqlite::Result<Result<Attached, AttachRefusal>> {
        if attach.second != SecondConnection::Allow && is_attached(self.connection, &attach.client, None)? {
            return Ok(Err(AttachRefusal::InUse));
        }
        if !self.make_room(attach.source)? {
            return Ok(Err(AttachRefusal::SessionLimit));
        }
        let session = self
            .connection
            .prepare_cached(
                "INSERT INTO sessions (client, token, epoch, committed, floor, out_last, out_committed, out_bytes,
                 message_max, quota_from_ms, quota_bytes, created_ms, last_seen_ms, ttl_ms, told_max, source)
                 VALUES (?1, ?2, 1, 0, 0, 0, 0, 0, ?3, ?6, 0, ?4, ?4, ?5, ?7, ?8) RETURNING id",
            )?
            .query_row(
                (
                    &attach.client,
                    &attach.token,
                    attach.message_bytes_max,
                    attach.now.wall_ms,
                    ttl_ms(attach),
                    self.state.age_ms,
                    attach.told_bytes_max,
                    attach.source,
                ),
                |row| row.get(0),
            )?;
        self.state.session_count += 1;
        self.state.shares.handle_begin(self.connection, attach.source)?;
        self.state.shares.observe(self.connection, self.config, attach.source, None)?;
        Ok(Ok(Attached {
            seat: Seat::new(attach.ticket, session, 1),
            replaced: self.tickets.attach(session, 1, attach.ticket),
            outcome: Outcome::New,
            token: attach.token,
            committed: 0,
            floor: 0,
            acknowledged: 0,
            lost: None,
            told_bytes_max: attach.told_bytes_max,
            refused: Vec::new(),
            is_behind: false,
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
        let is_in_use = match attach.second {
            SecondConnection::Allow => false,
            SecondConnection::Replace => is_attached(self.connection, &attach.client, Some(id))?,
            SecondConnection::Refuse => is_attached(self.connection, &attach.client, None)?,
        };
        if is_in_use {
            return Ok(Err(AttachRefusal::InUse));
        }
        if resume.committed > NUMBER_MAX || resume.acknowledged > NUMBER_MAX {
            return Ok(Err(AttachRefusal::Impossible));
        }
        let is_proven = token::equal(&resume.token, &tokens.newest);
        self.done.losses.note_lost(reconcile(session, &resume, is_proven));
        let freed = delete_outgoing(self.connection, id, session.out_committed, resume.committed)?;
        let shares = &mut self.state.shares;
        shares.handle_settled(self.connection, session, freed)?;
        shares.handle_resume(self.connection, session, attach.source)?;
        let of_session = Some((id, session.message_bytes));
        shares.observe(self.connection, self.config, attach.source, of_session)?;
        session.out_committed = session.out_committed.max(resume.committed);
        session.cursor.epoch += 1;
        (session.previous_valid, session.receipt) = (true, None);
        session.message_bytes_max = attach.message_bytes_max;
        session.told_bytes_max = session.told_bytes_max.max(attach.told_bytes_max);
        (session.last_seen_ms, session.ttl_ms) = (attach.now.wall_ms, ttl_ms(attach));
        // The one that was shown stays valid: the client has it for certain, and may never get the next one.
        // A next one that nobody has used yet stays the next one: it may be in use before this is known.
        let next = if is_proven { attach.token } else { tokens.newest };
        self.connection
            .prepare_cached(
                "UPDATE sessions SET token = ?2, previous_token = ?3, epoch = ?4, ttl_ms = ?5, message_max = ?6,
                 told_max = ?7, source = ?8, expires_ms = NULL WHERE id = ?1",
            )?
            .execute((
                id,
                &next,
                &resume.token,
                session.cursor.epoch,
                session.ttl_ms,
                session.message_bytes_max,
                session.told_bytes_max,
                session.source,
            ))?;
        let attached = Attached {
            seat: Seat::new(attach.ticket, id, session.cursor.epoch),
            replaced: self.tickets.attach(id, session.cursor.epoch, attach.ticket),
            outcome: Outcome::Resumed,
            token: next,
            committed: session.cursor.committed,
            floor: session.floor,
            acknowledged: session.out_committed,
            lost: session.lost,
            told_bytes_max: session.told_bytes_max,
            refused: refusals(self.connection, id, session.floor)?,
            is_behind: session.out_committed < session.out_last,
        };
        held.mark();
        Ok(Ok(attached))
    }

    /// Whether there is room for another session of this source. If there is none, the oldest goes that has no connection
    /// and in which nothing was ever committed or receipted: of this source if it has its share, else of all.
    fn make_room(&mut self, source: Source) -> rusqlite::Result<bool> {
        let has_share = self.state.shares.has_sessions(self.connection, self.config, source)?;
        if !has_share && self.state.session_count < self.config.sessions_max {
            return Ok(true);
        }
        // What this batch has changed is looked for as well.
        self.state.sessions.flush(self.connection)?;
        let unused = if has_share {
            self.connection
                .prepare_cached(
                    "SELECT id FROM sessions INDEXED BY sessions_unused_by_source WHERE source = ?1
                     AND expires_ms IS NOT NULL AND used = 0
                     ORDER BY expires_ms LIMIT 1",
                )?
                .query_row([source], |row| row.get(0))
                .optional()?
        } else {
            self.connection
                .prepare_cached(
                    "SELECT id FROM sessions INDEXED BY sessions_unused
                     WHERE expires_ms IS NOT NULL AND used = 0
                     ORDER BY expires_ms LIMIT 1",
                )?
                .query_row([], |row| row.get(0))
                .optional()?
        };
        let Some(unused) = unused else { return Ok(false) };
        self.expire_session(unused)?;
        Ok(self.state.session_count < self.config.sessions_max)
    }

    pub(super) fn handle_token_used(&mut self, of: Attachment) -> rusqlite::Result<()> {
        let Attachment { session: id, epoch } = of;
        if let Some(mut held) = self.state.sessions.load(self.connection, id)?
            && held.session.cursor.epoch == epoch
            && held.session.previous_valid
        {
            (held.session.previous_valid, held.session.lost) = (false, None);
            held.mark();
        }
        Ok(())
    }

    pub(super) fn handle_detach(&mut self, seat: Seat, for_good: bool, now: Moment) -> rusqlite::Result<()> {
        let Attachment { session: id, epoch } = seat.attachment;
        // What isn't known here is over as well: whoever waits to hear so must not wait for ever.
        let unknown = Reply::Detached { seat, forgotten: true };
        let Some(held) = self.state.sessions.load(self.connection, id)? else {
            self.done.replies.push(unknown);
            return Ok(());
        };
        if held.session.cursor.epoch < epoch {
            self.done.replies.push(unknown);
            return Ok(());
        }
        if held.session.cursor.epoch != epoch {
            return Ok(());
        }
        if self.tickets.of(id).is_none() {
            let forgotten = false;
            self.done.replies.push(Reply::Detached { seat, forgotten });
            return Ok(());
        }
        let forgotten = for_good && held.session.is_settled();
        if forgotten {
            self.forget(id)?;
        } else {
            self.tickets.detach(id);
            held.session.last_seen_ms = now.wall_ms;
            self.connection
                .prepare_cached("UPDATE sessions SET expires_ms = ?2, last_seen_ms = ?3 WHERE id = ?1")?
                .execute((id, now.uptime_ms + held.session.ttl_ms, now.wall_ms))?;
        }
        self.done.replies.push(Reply::Detached { seat, forgotten });
        Ok(())
    }

    /// Ends a session.
    pub(super) fn forget(&mut self, id: u64) -> rusqlite::Result<()> {
        self.tickets.detach(id);
        if let Some(held) = self.state.sessions.load(self.connection, id)? {
            self.state.shares.handle_end(self.connection, id, held.session)?;
        }
        self.state.session_count = self.state.session_count.saturating_sub(1);
        self.state.sessions.forget(self.connection, id)
    }
}

/// Brings the cursors in line with what the client knows. `is_proven`: it has had the WELCOME before this one. Returns how
/// many messages are found to be lost.
fn reconcile(session: &mut Session, resume: &Resume, is_proven: bool) -> u64 {
    if is_proven {
        session.lost = None;
    }
    // What the client has receipts for and we know nothing of: a disk was restored, or power failed. It is told until it
    // is known to have heard so; nothing can have been committed in between.
    let lost = resume.acknowledged.saturating_sub(session.cursor.committed);
    if resume.acknowledged > session.cursor.committed {
        let (first, _) = session.lost.unwrap_or((session.cursor.committed + 1, 0));
        session.lost = Some((first, resume.acknowledged));
    }
    session.cursor.committed = session.cursor.committed.max(resume.acknowledged);
    session.floor = session.floor.max(resume.acknowledged);
    // The same the other way round: numbers that the client knows must not be used again.
    session.out_last = session.out_last.max(resume.committed);
    lost
}

/// Whether the client has a connection in any session but one.
fn is_attached(connection: &Connection, client: &str, but: Option<u64>) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM sessions INDEXED BY sessions_attached
             WHERE client = ?1 AND expires_ms IS NULL AND id <> ?2)",
        )?
        .query_row((client, but.unwrap_or(0)), |row| row.get(0))
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
