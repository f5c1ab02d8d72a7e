//! One batch: one transaction in which requests are judged and carried out, and the replies that are due when it
//! has been committed. Knows neither threads nor faults: after an error all of its state is void.

mod attaching;
mod upkeep;

use crate::config::{StoreConfig, millis};
use crate::request::{EndReason, Moment, PushRefusal, Recipient, Refusal, RefusalCode, Reply, Request};
use crate::sessions::Sessions;
use pulsegate_core::exchange::Verdict;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction, TransactionBehavior};

/// What a message counts beside its payload, in bytes.
const MESSAGE_BYTES: u64 = 64;
/// How many refusals of a session may stand unconfirmed; a client that keeps the protocol confirms after 8.
const REFUSALS_MAX: u64 = 64;
/// How many sessions may be changed by hints before they are written.
const HINTED_MAX: usize = 4096;

/// The row of the table `totals`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) messages: u64,
    pub(crate) message_bytes: u64,
    pub(crate) deleted_to: u64,
}

/// What the committer keeps in memory between batches: all of it is in the database as well.
#[derive(Debug)]
pub(crate) struct State {
    sessions: Sessions,
    pub(crate) totals: Totals,
    totals_written: Totals,
    next_message: u64,
    pub(crate) session_count: u64,
    now: Moment,
    /// Sessions may have expired.
    expiry_due: bool,
    /// Messages may have to go.
    retention_due: bool,
}

impl State {
    /// Reads the state of a database.
    pub(crate) fn load(connection: &Connection, now: Moment) -> rusqlite::Result<Self> {
        let totals =
            connection.query_row("SELECT messages, message_bytes, deleted_to FROM totals", [], |row| {
                Ok(Totals { messages: row.get(0)?, message_bytes: row.get(1)?, deleted_to: row.get(2)? })
            })?;
        let newest: Option<u64> =
            connection.query_row("SELECT max(id) FROM messages", [], |row| row.get(0))?;
        let session_count = connection.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0))?;
        Ok(Self {
            sessions: Sessions::default(),
            totals,
            totals_written: totals,
            next_message: newest.unwrap_or(0).max(totals.deleted_to) + 1,
            session_count,
            now,
            expiry_due: true,
            retention_due: true,
        })
    }

    /// Time has passed: look for what has to go.
    pub(crate) const fn handle_tick(&mut self, now: Moment) {
        self.now = now;
        self.expiry_due = true;
        self.retention_due = true;
    }

    /// Whether there is work that nobody has to ask for.
    pub(crate) const fn has_upkeep(&self) -> bool {
        self.expiry_due || self.retention_due
    }
}

/// Carries out the requests, and a piece of the upkeep, in one transaction. The replies are due now that it has
/// been committed.
pub(crate) fn commit(
    connection: &Connection,
    config: &StoreConfig,
    state: &mut State,
    requests: &[Request],
) -> rusqlite::Result<Vec<Reply>> {
    let only_hints = requests.iter().all(Request::is_hint);
    if only_hints && !state.has_upkeep() && state.sessions.dirty() < HINTED_MAX {
        // They change nothing but memory, and wait there for the next commit.
        return Batch::new(connection, config, state)?.work(requests, false);
    }
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let replies = Batch::new(connection, config, state)?.work(requests, true)?;
    transaction.commit()?;
    state.sessions.trim();
    Ok(replies)
}

struct Batch<'c> {
    connection: &'c Connection,
    config: &'c StoreConfig,
    state: &'c mut State,
    insert_message: CachedStatement<'c>,
    inserted: usize,
    replies: Vec<Reply>,
    /// Connections to which a receipt is due: session and epoch.
    receipts: Vec<(u64, u64)>,
}

/// Where a request comes from and where its reply goes.
#[derive(Clone, Copy)]
struct From {
    ticket: u64,
    session: u64,
    epoch: u64,
}

impl<'c> Batch<'c> {
    fn new(
        connection: &'c Connection,
        config: &'c StoreConfig,
        state: &'c mut State,
    ) -> rusqlite::Result<Self> {
        let insert_message = connection.prepare_cached(
            "INSERT INTO messages (id, session, number, received_at_ms, client, payload)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        let (replies, receipts) = (Vec::new(), Vec::new());
        Ok(Self { connection, config, state, insert_message, inserted: 0, replies, receipts })
    }

    fn work(mut self, requests: &[Request], writes: bool) -> rusqlite::Result<Vec<Reply>> {
        for request in requests {
            self.handle(request)?;
        }
        if writes {
            self.expire()?;
            self.retain()?;
            self.state.sessions.flush(self.connection)?;
            self.write_totals()?;
        }
        for (session, epoch) in self.receipts {
            if let Some((ticket, committed)) = self.state.sessions.take_receipt(session, epoch) {
                self.replies.push(Reply::Committed { ticket, session, epoch, committed });
            }
        }
        Ok(self.replies)
    }

    fn handle(&mut self, request: &Request) -> rusqlite::Result<()> {
        match *request {
            Request::Attach(ref attach) => self.handle_attach(attach),
            Request::Message { ticket, session, epoch, number, received_at_ms, ref payload } => {
                self.handle_message(From { ticket, session, epoch }, number, received_at_ms, payload)
            }
            Request::TokenUsed { session, epoch } => self.handle_token_used(session, epoch),
            Request::Confirm { session, epoch, floor } => self.handle_confirm(session, epoch, floor),
            Request::Push { ticket, ref to, now_ms, ref payload } => {
                self.handle_push(ticket, to, now_ms, payload)
            }
            Request::OutReceipt { session, epoch, committed } => {
                self.handle_out_receipt(session, epoch, committed)
            }
            Request::Detach { ticket, session, epoch, for_good, now } => {
                self.handle_detach(From { ticket, session, epoch }, for_good, now)
            }
        }
    }

    fn handle_message(
        &mut self,
        from: From,
        number: u64,
        received_at_ms: u64,
        payload: &[u8],
    ) -> rusqlite::Result<()> {
        let From { ticket, session: id, epoch } = from;
        let Some(mut held) = self.state.sessions.load(self.connection, id)? else { return Ok(()) };
        match held.session.cursor.judge(epoch, number) {
            Verdict::Stale => return Ok(()),
            Verdict::Gap => {
                self.end(from, number, EndReason::Gap);
                return Ok(());
            }
            Verdict::Known => {}
            Verdict::Commit => {
                let session = &mut *held.session;
                let bytes = payload.len() as u64 + MESSAGE_BYTES;
                if let Some(code) = refuse(self.config, session, payload.len(), bytes, received_at_ms) {
                    if session.refusals >= REFUSALS_MAX {
                        self.end(from, number, EndReason::Unconfirmed);
                        return Ok(());
                    }
                    session.refusals += 1;
                    let row = (id, number, code as u16);
                    self.connection
                        .prepare_cached("INSERT INTO refusals VALUES (?1, ?2, ?3)")?
                        .execute(row)?;
                    let refusal = Refusal { number, code };
                    self.replies.push(Reply::Refused { ticket, session: id, epoch, refusal });
                } else {
                    let row = (self.state.next_message, id, number, received_at_ms, &session.client, payload);
                    self.insert_message.execute(row)?;
                    self.state.next_message += 1;
                    self.inserted += 1;
                    self.state.totals.messages += 1;
                    self.state.totals.message_bytes += bytes + session.client.len() as u64;
                    session.quota_bytes += bytes;
                }
                session.cursor.committed = number;
                session.last_seen_ms = received_at_ms;
                held.mark();
            }
        }
        if held.session.receipt.replace(ticket).is_none() {
            self.receipts.push((id, epoch));
        }
        Ok(())
    }

    fn end(&mut self, from: From, number: u64, why: EndReason) {
        let From { ticket, session, epoch } = from;
        self.replies.push(Reply::Ended { ticket, session, epoch, number, why });
    }

    fn handle_token_used(&mut self, id: u64, epoch: u64) -> rusqlite::Result<()> {
        if let Some(mut held) = self.state.sessions.load(self.connection, id)?
            && held.session.cursor.epoch == epoch
            && held.session.previous_valid
        {
            held.session.previous_valid = false;
            held.mark();
        }
        Ok(())
    }

    fn handle_confirm(&mut self, id: u64, epoch: u64, floor: u64) -> rusqlite::Result<()> {
        if let Some(mut held) = self.state.sessions.load(self.connection, id)?
            && held.session.cursor.epoch == epoch
            && (held.session.floor + 1..=held.session.cursor.committed).contains(&floor)
        {
            held.session.floor = floor;
            held.mark();
        }
        Ok(())
    }

    fn handle_push(
        &mut self,
        ticket: u64,
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
            self.replies.push(Reply::PushRefused { ticket, why: PushRefusal::NoSession });
            return Ok(());
        };
        let session = &mut *held.session;
        let bytes = payload.len() as u64;
        let why = if payload.len() > self.config.message_bytes_max {
            Some(PushRefusal::TooLarge)
        } else if session.out_last - session.out_committed >= self.config.outgoing_messages_max
            || session.out_bytes + bytes > self.config.outgoing_bytes_max
        {
            Some(PushRefusal::Full)
        } else {
            None
        };
        if let Some(why) = why {
            self.replies.push(Reply::PushRefused { ticket, why });
            return Ok(());
        }
        session.out_last += 1;
        session.out_bytes += bytes;
        let number = session.out_last;
        self.connection
            .prepare_cached(
                "INSERT INTO outgoing (session, number, created_ms, payload) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((id, number, now_ms, payload))?;
        self.replies.push(Reply::Pushed {
            ticket,
            session: id,
            epoch: session.cursor.epoch,
            attached: session.attached,
            number,
            payload: payload.into(),
        });
        held.mark();
        Ok(())
    }

    fn handle_out_receipt(&mut self, id: u64, epoch: u64, committed: u64) -> rusqlite::Result<()> {
        if let Some(mut held) = self.state.sessions.load(self.connection, id)?
            && held.session.cursor.epoch == epoch
            && committed <= held.session.out_last
        {
            let session = &mut *held.session;
            let freed = delete_outgoing(self.connection, id, session.out_committed, committed)?;
            session.out_bytes = session.out_bytes.saturating_sub(freed);
            session.out_committed = session.out_committed.max(committed);
            held.mark();
        }
        Ok(())
    }

    fn handle_detach(&mut self, from: From, for_good: bool, now: Moment) -> rusqlite::Result<()> {
        let From { ticket, session: id, epoch } = from;
        let Some(held) = self.state.sessions.load(self.connection, id)? else { return Ok(()) };
        if held.session.cursor.epoch != epoch || !held.session.attached {
            return Ok(());
        }
        let forgotten = for_good && held.session.is_settled();
        if forgotten {
            self.state.sessions.forget(self.connection, id)?;
            self.state.session_count = self.state.session_count.saturating_sub(1);
        } else {
            held.session.attached = false;
            held.session.last_seen_ms = now.wall_ms;
            self.connection
                .prepare_cached("UPDATE sessions SET expires_ms = ?2, last_seen_ms = ?3 WHERE id = ?1")?
                .execute((id, now.uptime_ms + held.session.ttl_ms, now.wall_ms))?;
        }
        self.replies.push(Reply::Detached { ticket, session: id, epoch, forgotten });
        Ok(())
    }

    fn write_totals(&mut self) -> rusqlite::Result<()> {
        let totals = self.state.totals;
        if totals != self.state.totals_written {
            self.connection
                .prepare_cached("UPDATE totals SET messages = ?1, message_bytes = ?2, deleted_to = ?3")?
                .execute((totals.messages, totals.message_bytes, totals.deleted_to))?;
            self.state.totals_written = totals;
        }
        Ok(())
    }
}

/// Whether a message that is next is not accepted, and why.
fn refuse(
    config: &StoreConfig,
    session: &mut crate::sessions::Session,
    length: usize,
    bytes: u64,
    now_ms: u64,
) -> Option<RefusalCode> {
    if length > config.message_bytes_max {
        return Some(RefusalCode::TooLarge);
    }
    let since = session.quota_from_ms;
    if now_ms < since || now_ms - since >= millis(config.quota.every) {
        (session.quota_from_ms, session.quota_bytes) = (now_ms, 0);
    }
    (session.quota_bytes + bytes > config.quota.bytes).then_some(RefusalCode::OverQuota)
}

/// Deletes our messages to a client up to `committed`, of which those up to `before` are gone already. Returns
/// the bytes of their payloads.
fn delete_outgoing(connection: &Connection, id: u64, before: u64, committed: u64) -> rusqlite::Result<u64> {
    if committed <= before {
        return Ok(0);
    }
    let mut delete = connection.prepare_cached(
        "DELETE FROM outgoing WHERE session = ?1 AND number <= ?2 RETURNING octet_length(payload)",
    )?;
    delete.query_map([id, committed], |row| row.get::<_, u64>(0))?.sum()
}
