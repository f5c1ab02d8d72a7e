//! One batch: one transaction in which requests are judged by the rules of sessions and carried out, and the replies
//! that are due when it has been committed. Knows neither threads nor faults: after an error all of its state is void.

mod applying;
mod deleted;
mod upkeep;

use crate::config::StoreConfig;
use crate::rows;
use crate::tickets::{Present, Tickets};
use crate::warnings::Losses;
use pulsegate_core::frame::Durability;
use pulsegate_sessions::{Effect, Loss, MESSAGE_BYTES, Moment, Reply, Request, Seat, Sessions, Sums};
use rusqlite::{CachedStatement, Connection, Transaction, TransactionBehavior};
use std::collections::HashMap;

/// What stands for the session of a client that has none.
const NO_SESSION: u64 = 0;
/// How many sessions stay in use between batches.
const IN_USE_MAX: usize = 1_024;
/// How many sessions may be changed by hints before they are written.
const HINTED_MAX: usize = 4096;

/// How much the messages are; the table `totals` has this as well.
#[derive(Debug)]
pub(crate) struct Totals {
    pub(crate) messages: u64,
    pub(crate) message_bytes: u64,
    deleted_to: u64,
    /// The id of the next message.
    next: u64,
}

/// What the committer keeps in memory between batches: all of it is in the database as well.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) sessions: Sessions,
    /// What is still to be done: nothing, between batches.
    effects: Vec<Effect>,
    pub(crate) totals: Totals,
    /// The number of the last batch that has changed anything.
    pub(crate) batch: u64,
    now: Moment,
    /// Sessions may have expired.
    expiry_due: bool,
    /// Messages may have to go.
    retention_due: bool,
    /// For how long gateways have run on this store, in milliseconds. The age of messages and the periods of quotas
    /// are counted on this clock: the wall clock may be wrong for a moment, and what was deleted stays deleted.
    age_ms: u64,
    /// On this clock: when it was last written down which message was the newest.
    marked_ms: Option<u64>,
    /// Up to which id messages are older than they are kept.
    aged_to: u64,
}

impl State {
    /// Reads the state of a database.
    pub(crate) fn load(connection: &Connection, config: &StoreConfig, now: Moment) -> rusqlite::Result<Self> {
        let newest: Option<u64> =
            connection.query_row("SELECT max(id) FROM messages", [], |row| row.get(0))?;
        let marked_ms = connection.query_row("SELECT max(age_ms) FROM ages", [], |row| row.get(0))?;
        let (totals, batch, age_ms) = connection.query_row(
            "SELECT messages, message_bytes, deleted_to, batch, age_ms FROM totals",
            [],
            |row| {
                let (messages, message_bytes, deleted_to) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let next = newest.unwrap_or(0).max(deleted_to) + 1;
                Ok((Totals { messages, message_bytes, deleted_to, next }, row.get(3)?, row.get(4)?))
            },
        )?;
        let mut sessions = Sessions::new(config.rules(), sums(connection)?);
        sessions.set_age(age_ms);
        Ok(Self {
            sessions,
            effects: Vec::new(),
            totals,
            batch,
            now,
            expiry_due: true,
            retention_due: true,
            age_ms,
            marked_ms,
            aged_to: 0,
        })
    }

    /// Time has passed: look for what has to go.
    pub(crate) const fn handle_tick(&mut self, now: Moment) {
        self.age_ms += now.uptime_ms.saturating_sub(self.now.uptime_ms);
        self.sessions.set_age(self.age_ms);
        self.now = now;
        self.expiry_due = true;
        self.retention_due = true;
    }

    /// No session expires before the next tick: the times to live are not to be believed yet.
    pub(crate) const fn defer_expiry(&mut self) {
        self.expiry_due = false;
    }

    /// Whether there is work that nobody has to ask for.
    pub(crate) const fn has_upkeep(&self) -> bool {
        self.expiry_due || self.retention_due
    }
}

/// What is known of all sessions from the start.
fn sums(connection: &Connection) -> rusqlite::Result<Sums> {
    connection.query_row(
        "SELECT (SELECT count(*) FROM sessions),
                coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = 'sessions'), 0),
                (SELECT coalesce(sum(outgoing_bytes), 0) FROM sources)",
        [],
        |row| Ok(Sums { sessions: row.get(0)?, newest: row.get(1)?, outgoing_bytes: row.get(2)? }),
    )
}

/// What a batch comes to.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) replies: Vec<Reply>,
    /// The places of the messages that can't be judged yet.
    pub(crate) unjudged: Vec<usize>,
    pub(crate) appends_refused: u64,
    pub(crate) losses: Losses,
    /// [`State::batch`] if it is committed.
    pub(crate) batch: u64,
}

impl Done {
    fn note(&mut self, loss: Loss) {
        self.appends_refused += u64::from(loss == Loss::Append);
        self.losses.note(loss);
    }
}

/// Why a batch is not known to be committed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: rusqlite::Error,
    /// What it comes to if it is committed all the same: the commit itself failed, and only the file can tell.
    pub(crate) in_doubt: Option<Box<Done>>,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self { error, in_doubt: None }
    }
}

/// Carries out the requests, and a piece of the upkeep, in one transaction. What comes of it is due now that it
/// has been committed; the tickets are still to be told.
pub(crate) fn commit(
    connection: &Connection,
    config: &StoreConfig,
    state: &mut State,
    tickets: &mut Tickets,
    requests: &[Request],
) -> Result<Done, Failure> {
    state.sessions.set_rules(config.rules());
    let only_hints = requests.iter().all(Request::is_hint);
    if only_hints && !state.has_upkeep() && state.sessions.changed() < HINTED_MAX {
        // They change nothing but memory, and wait there for the next commit.
        return Ok(Batch::new(connection, config, state, tickets, requests)?.work(false)?);
    }
    // Tokens are synced whatever the durability of messages: a lost one locks its client out.
    let is_sync_due = config.durability == Durability::Os && requests.iter().any(Request::has_token);
    if is_sync_due {
        connection.pragma_update(None, "synchronous", "FULL")?;
    }
    let transaction = Running::begin(connection)?;
    let done = Batch::new(connection, config, state, tickets, requests)?.work(true)?;
    if let Err(error) = transaction.commit() {
        return Err(Failure { error, in_doubt: Some(done.into()) });
    }
    state.sessions.trim(IN_USE_MAX);
    if is_sync_due {
        connection.pragma_update(None, "synchronous", "NORMAL")?;
    }
    Ok(done)
}

/// The transaction of a batch: as rusqlite's, but what begins and ends it is parsed once, not for each batch. Dropped
/// before it is committed, it has never been.
struct Running<'c>(&'c Connection);

impl<'c> Running<'c> {
    fn begin(connection: &'c Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self(connection))
    }

    fn commit(self) -> rusqlite::Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // A fault may have rolled it back already. If this fails, the connection is closed with what is in it.
        if !self.0.is_autocommit() {
            let _ = self.0.execute_batch("ROLLBACK");
        }
    }
}

/// Makes the tickets follow a database that has been opened anew. It may have lost what was committed, so that a
/// connection is not attached there, or one is that has ended: that one's session would never expire. Returns what the
/// connections have to be told that are not attached any more.
///
/// Numbers and epochs that were given out are not given again, so that nothing such a connection has left behind is
/// taken for another one's.
pub(crate) fn follow_database(
    connection: &Connection,
    tickets: &mut Tickets,
    now: Moment,
) -> rusqlite::Result<Vec<Reply>> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let attached: HashMap<u64, u64> = connection
        .prepare("SELECT id, epoch FROM sessions INDEXED BY sessions_attached WHERE expires_ms IS NULL")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let gone = tickets.retain(&attached);
    let mut raise = connection.prepare("UPDATE sessions SET epoch = ?2 WHERE id = ?1 AND epoch < ?2")?;
    for (session, present) in &gone {
        raise.execute((session, present.epoch))?;
    }
    let mut end = connection.prepare("UPDATE sessions SET expires_ms = ?2 + ttl_ms WHERE id = ?1")?;
    for session in attached.keys().filter(|session| tickets.of(**session).is_none()) {
        end.execute((session, now.uptime_ms))?;
    }
    begin_sessions_above(connection, tickets.session_max())?;
    transaction.commit()?;
    let orphan = |(session, present): (u64, Present)| Reply::Orphaned {
        seat: Seat::new(present.ticket, session, present.epoch),
    };
    Ok(gone.into_iter().map(orphan).collect())
}

/// No session gets a number up to this one any more.
pub(crate) fn begin_sessions_above(connection: &Connection, number: u64) -> rusqlite::Result<()> {
    connection.execute("UPDATE sqlite_sequence SET seq = max(seq, ?1) WHERE name = 'sessions'", [number])?;
    connection.execute(
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'sessions', ?1
         WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'sessions')",
        [number],
    )?;
    Ok(())
}

struct Batch<'c> {
    connection: &'c Connection,
    config: &'c StoreConfig,
    state: &'c mut State,
    tickets: &'c mut Tickets,
    requests: &'c [Request],
    insert_message: CachedStatement<'c>,
    update_cursor: CachedStatement<'c>,
    inserted: usize,
    done: Done,
}

impl<'c> Batch<'c> {
    fn new(
        connection: &'c Connection,
        config: &'c StoreConfig,
        state: &'c mut State,
        tickets: &'c mut Tickets,
        requests: &'c [Request],
    ) -> rusqlite::Result<Self> {
        let insert_message = connection.prepare_cached(
            "INSERT INTO messages (id, session, number, received_at_ms, client, payload, source)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        Ok(Self {
            connection,
            config,
            state,
            tickets,
            requests,
            insert_message,
            update_cursor: rows::prepare_cursor(connection)?,
            inserted: 0,
            done: Done::default(),
        })
    }

    fn work(mut self, writes: bool) -> rusqlite::Result<Done> {
        let changes = self.connection.total_changes();
        for (place, request) in self.requests.iter().enumerate() {
            self.handle(place, request)?;
        }
        if writes {
            self.expire()?;
            self.retain()?;
            self.state.sessions.save(&mut self.state.effects);
            self.apply()?;
            if self.connection.total_changes() != changes {
                self.write_totals()?;
            }
        }
        self.state.sessions.finish(&mut self.state.effects);
        self.apply()?;
        if let Some(news) = self.state.sessions.take_news() {
            self.done.replies.insert(0, news);
        }
        Ok(Done { batch: self.state.batch, ..self.done })
    }

    fn handle(&mut self, place: usize, request: &Request) -> rusqlite::Result<()> {
        while let Err(need) = self.state.sessions.handle(place, request, &mut self.state.effects) {
            self.provide(need)?;
        }
        self.apply()
    }

    /// Marks the transaction as one that is found in the file if, and only if, it was committed.
    fn write_totals(&mut self) -> rusqlite::Result<()> {
        let Totals { messages, message_bytes, deleted_to, .. } = self.state.totals;
        self.state.batch += 1;
        self.connection
            .prepare_cached(
                // With its id, SQLite knows that it is one row, and keeps nothing to undo half of several.
                "UPDATE totals SET messages = ?1, message_bytes = ?2, deleted_to = ?3, batch = ?4, age_ms = ?5
                 WHERE id = 1",
            )?
            .execute((messages, message_bytes, deleted_to, self.state.batch, self.state.age_ms))?;
        Ok(())
    }
}
