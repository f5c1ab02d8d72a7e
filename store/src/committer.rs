//! The one thread that writes: takes batches, commits them, hands the replies out, and gets over faults. Judges
//! nothing itself.
//!
//! After any error the transaction is void, nothing of the batch is answered, and the batch is kept. The
//! database is closed and opened anew, on a schedule, until a commit works again: what an operating system
//! still shows of a file after a failed sync is not to be believed. If the file then turns out to have the batch, it is
//! answered and not carried out again. In memory an error can't be mended: it closes the store.

use crate::batch::{self, Done, Failure, State};
use crate::config::StoreConfig;
use crate::database::{self, Database, DatabaseError};
use crate::queue::Queue;
use crate::request::{Figures, Forwarded, Moment, Reply, Request};
use crate::tickets::Tickets;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::{error, info, warn};

/// How long after a fault the next attempt is made; twice as long after each.
const RETRY_MS_MIN: u64 = 250;
/// At most so long.
const RETRY_MS_MAX: u64 = 8_000;

/// From how many times its usual size on the log is warned about; again whenever it has doubled.
const WARN_LOGS: u64 = 16;

/// Takes the replies of a batch.
pub(crate) type Deliver = dyn Fn(Vec<Reply>) + Send + Sync;

/// Takes the messages of a batch.
pub(crate) type Forward = dyn FnMut(Vec<Forwarded>) + Send;

/// Where the store is.
pub(crate) enum Place {
    Directory(PathBuf),
    Memory(Box<Forward>),
}

/// The committer's thread.
pub(crate) struct Committer {
    pub(crate) place: Place,
    pub(crate) config: StoreConfig,
    pub(crate) queue: Arc<Queue>,
    pub(crate) figures: Arc<Mutex<Figures>>,
    pub(crate) deliver: Arc<Deliver>,
    pub(crate) phase: Phase,
    pub(crate) tickets: Tickets,
    /// The batch that is being worked on.
    pub(crate) kept: Vec<Request>,
    /// What it counts in the queue.
    pub(crate) kept_bytes: usize,
    /// What it comes to if the fault has left it committed.
    pub(crate) in_doubt: Option<Box<Done>>,
    pub(crate) now: Moment,
}

/// Whether commits go on.
pub(crate) enum Phase {
    Working(Box<Working>),
    Faulted { retry_at_ms: u64, delay_ms: u64 },
}

/// An open database and what is known of it.
pub(crate) struct Working {
    pub(crate) database: Database,
    pub(crate) state: State,
    /// At which size of the log a warning is due, in bytes.
    warn_bytes: u64,
}

impl Working {
    /// Opens the database and reads its state.
    pub(crate) fn open(
        directory: &Path,
        config: &StoreConfig,
        now: Moment,
        after_fault: bool,
    ) -> Result<Self, DatabaseError> {
        let database = Database::open(directory, config.durability, config.wal_bytes, after_fault)?;
        database.verify(after_fault)?;
        if after_fault {
            // What can't be moved today would stop the store again tomorrow. This also proves that it can write.
            database.checkpoint()?;
            database.connection.execute("UPDATE totals SET id = id", [])?;
        }
        Self::new(database, config, now)
    }

    /// Makes a database in memory.
    pub(crate) fn open_in_memory(config: &StoreConfig, now: Moment) -> Result<Self, DatabaseError> {
        Self::new(Database::open_in_memory()?, config, now)
    }

    fn new(database: Database, config: &StoreConfig, now: Moment) -> Result<Self, DatabaseError> {
        let state = State::load(&database.connection, now)?;
        Ok(Self { database, state, warn_bytes: WARN_LOGS * config.wal_bytes })
    }

    /// What the store holds.
    pub(crate) fn figures(&self, tickets: &Tickets) -> Figures {
        Figures {
            sessions: self.state.session_count,
            attached: tickets.committed() as u64,
            messages: self.state.totals.messages,
            message_bytes: self.state.totals.message_bytes,
            ..Figures::default()
        }
    }
}

impl Committer {
    /// The body of the thread.
    pub(crate) fn run(mut self) {
        loop {
            let (takes, at_once) = match &self.phase {
                Phase::Working(working) => (true, working.state.has_upkeep()),
                Phase::Faulted { .. } => (false, false),
            };
            let turn = self.queue.wait(takes, at_once);
            if let Some(now) = turn.tick {
                self.now = now;
            }
            if takes {
                (self.kept, self.kept_bytes) = (turn.requests, turn.bytes);
                if let (Phase::Working(working), Some(now)) = (&mut self.phase, turn.tick) {
                    working.state.handle_tick(now);
                }
                self.commit(false);
            } else {
                self.recover(turn.closed);
            }
            if turn.closed && self.is_done() {
                return self.close();
            }
        }
    }

    /// Commits what is kept, and hands the replies out.
    fn commit(&mut self, after_fault: bool) {
        let Phase::Working(working) = &mut self.phase else { return };
        let Working { database, state, .. } = &mut **working;
        match batch::commit(&database.connection, &self.config, state, &mut self.tickets, &self.kept) {
            Ok(done) => self.hand_out(done, after_fault),
            Err(Failure { error, in_doubt }) => {
                self.in_doubt = in_doubt;
                self.stop(&error, !after_fault);
            }
        }
    }

    /// Hands out what a committed batch has come to.
    fn hand_out(&mut self, done: Done, after_fault: bool) {
        let Phase::Working(working) = &self.phase else { return };
        let Done { mut replies, forwarded, appends_refused, .. } = done;
        self.tickets.handle_commit();
        if appends_refused > 0 {
            warn!(
                appends_refused,
                "messages without a session can't be stored: too long, or a store in memory"
            );
        }
        let mut figures = self.figures.lock();
        *figures = Figures {
            appends_refused: figures.appends_refused + appends_refused,
            ..working.figures(&self.tickets)
        };
        drop(figures);
        if let (Place::Memory(forward), false) = (&mut self.place, forwarded.is_empty()) {
            let kept = &mut self.kept;
            forward(
                forwarded.into_iter().filter_map(|place| Forwarded::take_from(&mut kept[place])).collect(),
            );
        }
        if after_fault {
            info!("the store goes on");
            replies.insert(0, Reply::GoesOn);
        }
        self.kept = Vec::new();
        if self.queue.release(std::mem::take(&mut self.kept_bytes)) {
            replies.push(Reply::Ready);
        }
        if !replies.is_empty() {
            (self.deliver)(replies);
        }
        if let Err(error) = self.move_log() {
            self.stop(&error, true);
        }
    }

    /// Moves the log into the database if it has grown enough, now that nobody waits for a reply.
    fn move_log(&mut self) -> rusqlite::Result<()> {
        let Phase::Working(working) = &mut self.phase else { return Ok(()) };
        let bytes = working.database.log_bytes()?;
        if bytes < self.config.wal_bytes {
            return Ok(());
        }
        if bytes >= working.warn_bytes {
            working.warn_bytes = 2 * bytes;
            warn!(
                bytes,
                "the store's log grows: some program keeps a transaction open on pulsegate.db; end it"
            );
        }
        match working.database.checkpoint() {
            Err(error) if database::is_busy(&error) => Ok(()),
            other => other,
        }
    }

    /// Nothing can be committed for now.
    fn stop(&mut self, error: &rusqlite::Error, is_news: bool) {
        let (retry_ms, delay_ms) = match self.phase {
            Phase::Working(_) if is_news => (RETRY_MS_MIN, RETRY_MS_MIN),
            Phase::Working(_) => (RETRY_MS_MAX, RETRY_MS_MAX),
            Phase::Faulted { delay_ms, .. } => (delay_ms, delay_ms),
        };
        self.phase = Phase::Faulted { retry_at_ms: self.now.uptime_ms + retry_ms, delay_ms };
        self.figures.lock().stopped = true;
        // Before anybody is told, so that who is told finds it closed.
        if matches!(self.place, Place::Memory(_)) {
            self.queue.close();
        }
        if is_news {
            error!(%error, "the store can't write: nothing is acknowledged until it can");
            (self.deliver)(vec![Reply::Stopped { why: format!("the store can't write: {error}") }]);
        }
    }

    /// Tries again if it is time to.
    fn recover(&mut self, at_last: bool) {
        let Phase::Faulted { retry_at_ms, delay_ms } = self.phase else { return };
        let Place::Directory(directory) = &self.place else { return };
        if self.now.uptime_ms < retry_at_ms && !at_last {
            return;
        }
        let directory = directory.clone();
        match self.reopen(&directory) {
            Ok(working) => {
                self.phase = Phase::Working(working.into());
                match self.in_doubt.take() {
                    Some(done) => self.hand_out(*done, true),
                    None => self.commit(true),
                }
            }
            Err(error) => {
                warn!(%error, "the store still can't write");
                let delay_ms = (2 * delay_ms).min(RETRY_MS_MAX);
                self.phase = Phase::Faulted { retry_at_ms: self.now.uptime_ms + delay_ms, delay_ms };
            }
        }
    }

    /// Opens the database anew, and makes what is in memory follow what is there: the batch in doubt, and tickets.
    fn reopen(&mut self, directory: &Path) -> Result<Working, DatabaseError> {
        let working = Working::open(directory, &self.config, self.now, true)?;
        self.in_doubt = self.in_doubt.take().filter(|done| done.batch == working.state.batch);
        if self.in_doubt.is_some() {
            self.tickets.handle_commit();
        } else {
            self.tickets.handle_rollback();
        }
        batch::follow_database(&working.database.connection, &mut self.tickets, self.now)?;
        Ok(working)
    }

    /// Whether nothing more will be tried: all is committed, or it can't be.
    fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Faulted { .. }) || self.queue.is_empty()
    }

    /// The last act.
    fn close(mut self) {
        if let Phase::Working(working) = &mut self.phase {
            // What hints have left in memory is written as well.
            working.state.handle_tick(self.now);
            self.commit(false);
        }
        if let Phase::Working(working) = self.phase
            && let Err(error) = working.database.close()
        {
            warn!(%error, "the store's log stays; the next gateway moves it into the database");
        }
    }
}
