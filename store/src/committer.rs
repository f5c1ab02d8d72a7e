//! The one thread that writes: takes batches, commits them, hands the replies out, and gets over faults. Judges
//! nothing itself.
//!
//! After any error the transaction is void, nothing of the batch is answered, and the batch is kept. The
//! database is closed and opened anew, on a schedule, until a commit works again: what an operating system
//! still shows of a file after a failed sync is not to be believed. If the file then turns out to have the batch, it is
//! answered and not carried out again.

use crate::batch::{self, Done, Failure};
use crate::config::StoreConfig;
use crate::database::{self, DatabaseError, Incarnation};
use crate::files::{Displaced, Files};
use crate::lock::Lock;
use crate::log_file::Used;
use crate::parts::Parts;
use crate::room::Room;
use crate::tickets::Tickets;
use crate::warnings::Losses;
use crate::working::Working;
use pulsegate_sessions::{Figures, Moment, Reply, Request};
use std::fmt::Display;
use std::path::PathBuf;
use tracing::{error, info, warn};

/// How long after a fault the next attempt is made; twice as long after each.
const RETRY_MS_MIN: u64 = 250;
/// At most so long.
const RETRY_MS_MAX: u64 = 8_000;

/// Where the store is.
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) files: Box<Files>,
    pub(crate) incarnation: Incarnation,
    pub(crate) room: Box<Room>,
    pub(crate) lock: Lock,
}

/// The committer's thread.
pub(crate) struct Committer {
    parts: Parts,
    place: Place,
    config: StoreConfig,
    phase: Phase,
    tickets: Tickets,
    /// The batch that is being worked on.
    kept: Vec<Request>,
    /// What it counts in the queue.
    kept_bytes: usize,
    /// What it comes to if the fault has left it committed.
    in_doubt: Option<Box<Done>>,
    /// The sessions still have the connections and the expiry that the gateway before has left.
    unstarted: bool,
    /// The disk has had no room.
    is_full: bool,
    /// The number of the last batch that was answered.
    batch: u64,
    now: Moment,
    /// It has been told that commits have stopped, and not yet that they go on; with how long the last pause was.
    resuming_ms: Option<u64>,
    /// Somebody has been told to rest.
    has_resting: bool,
}

/// Whether commits go on.
enum Phase {
    Working(Box<Working>),
    Faulted {
        retry_at_ms: u64,
        delay_ms: u64,
        /// Still open, since its files are not where they were: closing could be the end of them.
        displaced: Option<Box<Working>>,
    },
}

impl Committer {
    /// That of a database which is open. If it is `unstarted`, there was no room to begin with it.
    pub(crate) fn new(
        parts: Parts,
        place: Place,
        config: StoreConfig,
        working: Working,
        unstarted: bool,
        now: Moment,
    ) -> Self {
        Self {
            parts,
            place,
            config,
            batch: working.state.batch,
            phase: Phase::Working(working.into()),
            tickets: Tickets::default(),
            kept: Vec::new(),
            kept_bytes: 0,
            in_doubt: None,
            unstarted,
            is_full: false,
            now,
            resuming_ms: None,
            has_resting: false,
        }
    }

    /// The body of the thread.
    pub(crate) fn run(mut self) {
        if self.unstarted {
            self.handle_full();
            self.stop(&"there is no room on the disk to start with", None);
        }
        loop {
            let (takes, at_once) = match &self.phase {
                Phase::Working(working) => (true, working.state.has_upkeep()),
                Phase::Faulted { .. } => (false, false),
            };
            let turn = self.parts.queue.wait(takes, at_once || takes && self.parts.unjudged.is_due());
            if let Some(now) = turn.tick {
                self.now = now;
            }
            if turn.tick.is_some() || turn.closed {
                self.look();
            }
            if takes {
                (self.kept, self.kept_bytes) = (self.parts.unjudged.sort(turn.requests), turn.bytes);
                if turn.tick.is_some() {
                    self.handle_tick();
                    self.place.room.keep(self.now.uptime_ms);
                    self.parts.unjudged.handle_tick();
                }
                self.commit(turn.tick.is_some());
            } else {
                self.recover(turn.closed);
            }
            if turn.closed && self.is_done() {
                return self.close();
            }
        }
    }

    /// Time has passed: what has to go without being asked is looked for with the next batch.
    fn handle_tick(&mut self) {
        if let Phase::Working(working) = &mut self.phase {
            working.state.handle_tick(self.now);
        }
    }

    /// Commits what is kept, and hands the replies out.
    fn commit(&mut self, is_tick: bool) {
        let Phase::Working(working) = &mut self.phase else { return };
        let Working { database, state, .. } = &mut **working;
        let committed =
            batch::commit(&database.connection, &self.config, state, &mut self.tickets, &self.kept);
        match committed {
            Ok(done) => self.hand_out(done, is_tick),
            Err(Failure { error, in_doubt }) => {
                self.in_doubt = in_doubt;
                if database::is_full(&error) {
                    self.handle_full();
                }
                self.stop(&error, None);
            }
        }
    }

    /// Hands out what a committed batch has come to.
    fn hand_out(&mut self, done: Done, is_tick: bool) {
        let has_served = !self.kept.is_empty();
        self.tickets.handle_commit();
        let Phase::Working(working) = &self.phase else { return };
        let figures = working.figures(&self.tickets);
        let mut replies = self.answer(done, figures);
        // Said when all that has waited is through, or a tick: on a disk that stays full a first batch often finds room.
        let mut moved = Ok(());
        if self.resuming_ms.is_some() && (is_tick || has_served && self.parts.queue.is_empty()) {
            moved = self.move_log();
            if moved.is_ok() {
                info!("the store can write again");
                self.resuming_ms = None;
                replies.insert(0, Reply::GoesOn);
            }
        }
        if !replies.is_empty() {
            (self.parts.deliver)(replies);
        }
        if let Err(error) = moved.and_then(|()| self.move_log()) {
            if database::is_full(&error) {
                self.handle_full();
            }
            self.stop(&error, None);
        }
    }

    /// What a committed batch is to be answered; the store holds this much with it.
    fn answer(&mut self, done: Done, figures: Figures) -> Vec<Reply> {
        let Done { mut replies, unjudged, appends_refused, losses, batch } = done;
        self.batch = self.batch.max(batch);
        let losses = Losses { unaccepted: self.parts.queue.take_unaccepted(), ..losses };
        self.parts.warnings.handle_commit(losses, self.now.uptime_ms);
        self.has_resting = leaves_resting(&replies).unwrap_or(self.has_resting);
        if appends_refused > 0 {
            warn!(appends_refused, "messages without a session can't be stored: they are too long");
        }
        let mut known = self.parts.figures.lock();
        *known = Figures { appends_refused: known.appends_refused + appends_refused, ..figures };
        drop(known);
        self.parts.unjudged.handle_commit(std::mem::take(&mut self.kept), &unjudged);
        replies.append(&mut self.parts.unjudged.take_ended());
        if self.parts.queue.release(std::mem::take(&mut self.kept_bytes)) {
            replies.push(Reply::Ready);
        }
        replies
    }

    /// Moves the log into the database if it has grown enough, now that nobody waits for a reply.
    fn move_log(&mut self) -> rusqlite::Result<()> {
        let Phase::Working(working) = &mut self.phase else { return Ok(()) };
        working.move_log(self.config.wal_bytes)
    }

    /// Finds out whether the files are still where they were. If not, nothing more is acknowledged: it would be lost
    /// with the last who has them open.
    fn look(&mut self) {
        let Place { files, lock, .. } = &mut self.place;
        let Phase::Working(working) = &mut self.phase else { return };
        let found = files.check().and_then(|()| match working.is_intact() {
            true => lock.restore(),
            false => Err(files.handle_overwritten()),
        });
        let found = found.and_then(|is_restored| {
            files.check_log(working.database.log_used().map_or(0, Used::bytes))?;
            if working.has_its_log() { Ok(is_restored) } else { Err(files.handle_other_log()) }
        });
        match found {
            Ok(false) => {}
            Ok(true) => warn!("pulsegate.lock had been removed; it is there again"),
            // What is left of it turns out when it is opened anew.
            Err(lost @ (Displaced::CutShort(_) | Displaced::OtherLog { .. })) => self.stop(&lost, None),
            Err(displaced) => {
                let fault = Phase::Faulted { retry_at_ms: 0, delay_ms: 0, displaced: None };
                if let Phase::Working(working) = std::mem::replace(&mut self.phase, fault) {
                    if matches!(displaced, Displaced::Emptied(_)) {
                        files.handle_overwritten();
                    }
                    // What is open becomes whole in one file, wherever that is now; and whatever has taken the place
                    // of the database is not mixed with what its log has of another.
                    // Into one that has lost its content nothing is written: it would look like a database again.
                    if !matches!(displaced, Displaced::Emptied(_) | Displaced::Overwritten { .. })
                        && files.has_no_other_log()
                        && let Err(error) = working.database.settle()
                    {
                        warn!(%error, "the store's log can't be moved into the database that is open");
                    }
                    self.stop(&displaced, Some(working));
                }
            }
        }
    }

    /// Nothing can be committed for now.
    fn stop(&mut self, error: &dyn Display, displaced: Option<Box<Working>>) {
        let is_news = self.resuming_ms.is_none();
        let delay_ms = self.resuming_ms.map_or(RETRY_MS_MIN, |last| (2 * last).min(RETRY_MS_MAX));
        self.phase = Phase::Faulted { retry_at_ms: self.now.uptime_ms + delay_ms, delay_ms, displaced };
        self.parts.figures.lock().stopped = true;
        if is_news {
            error!(%error, "the store can't write: nothing is acknowledged until it can");
            (self.parts.deliver)(vec![Reply::Stopped { why: format!("the store can't write: {error}") }]);
        } else {
            warn!(%error, "the store still can't write");
        }
    }

    /// Tries again if it is time to.
    fn recover(&mut self, at_last: bool) {
        let Phase::Faulted { retry_at_ms, delay_ms, ref mut displaced } = self.phase else { return };
        if self.now.uptime_ms < retry_at_ms && !at_last {
            return;
        }
        let mut displaced = displaced.take();
        let has_waited = !self.kept.is_empty();
        let found = self.find_files(displaced.as_deref());
        let reopened = found.and_then(|()| {
            displaced = None;
            self.reopen()
        });
        match reopened {
            Ok(working) => {
                self.phase = Phase::Working(working.into());
                self.resuming_ms = Some(delay_ms);
                let is_answered = has_waited && self.kept.is_empty();
                match self.in_doubt.take() {
                    Some(done) => self.hand_out(*done, false),
                    None => self.commit(is_answered && self.parts.queue.is_empty()),
                }
            }
            Err(error) => {
                if error.is_full() {
                    self.handle_full();
                }
                warn!(%error, "the store still can't write");
                let delay_ms = (2 * delay_ms).min(RETRY_MS_MAX);
                let retry_at_ms = self.now.uptime_ms + delay_ms;
                self.phase = Phase::Faulted { retry_at_ms, delay_ms, displaced };
            }
        }
    }

    /// Whether the files are those that were open. If the log of a database that is still open has gone, all that it has
    /// is moved into the database.
    fn find_files(&self, displaced: Option<&Working>) -> Result<(), DatabaseError> {
        let files = &self.place.files;
        files.check_main()?;
        if let (Some(working), Err(error)) = (displaced, files.check()) {
            if !files.has_no_other_log() || !working.database.settle()? {
                return Err(error.into());
            }
            warn!("all that the store's log had is in the database now");
        }
        Ok(())
    }

    /// Opens the database anew, and makes what is in memory follow what is there: the batch in doubt, and tickets.
    fn reopen(&mut self) -> Result<Working, DatabaseError> {
        let Place { path, files, incarnation, .. } = &mut self.place;
        let mut working = Working::open(path, &self.config, self.now, true)?;
        let names_resting = |done: &Done| leaves_resting(&done.replies) == Some(true);
        if self.has_resting || self.in_doubt.as_deref().is_some_and(names_resting) {
            working.state.sessions.start_anew();
        }
        files.check_main()?;
        if working.database.incarnation != *incarnation {
            return Err(files.other_database().into());
        }
        files.handle_opened();
        let found = working.state.batch;
        if found < self.batch {
            error!(
                batches = self.batch - found,
                "the store has lost what was acknowledged: its files are older"
            );
            self.batch = found;
        }
        self.in_doubt = self.in_doubt.take().filter(|done| done.batch == found);
        if self.in_doubt.is_some() {
            self.tickets.handle_commit();
        } else {
            self.tickets.handle_rollback();
        }
        let gone = batch::follow_database(&working.database.connection, &mut self.tickets, self.now)?;
        working.state.sessions.begin_above(self.tickets.session_max());
        if !gone.is_empty() {
            error!(
                connections = gone.len(),
                "the store does not know the sessions of connections any more, or not these connections; they are ended"
            );
            (self.parts.deliver)(gone);
        }
        if self.is_full {
            // Before anything else is committed: the file tells of its last batch only.
            if let Some(done) = self.in_doubt.take() {
                let figures = Figures { stopped: true, ..working.figures(&self.tickets) };
                let replies = self.answer(*done, figures);
                if !replies.is_empty() {
                    (self.parts.deliver)(replies);
                }
            }
            self.make_room(&mut working)?;
        }
        if self.unstarted {
            working.start(self.now)?;
            self.unstarted = false;
        }
        Ok(working)
    }

    /// The disk has no room.
    fn handle_full(&mut self) {
        self.is_full = true;
        self.place.room.give_up(self.now.uptime_ms);
    }

    /// Deletes what may go, before anything else is written: it needs little room, and leaves pages to be used again. If
    /// it is the messages that fill the disk, fewer are kept from now on.
    fn make_room(&mut self, working: &mut Working) -> rusqlite::Result<()> {
        self.place.room.lower_retention(&mut self.config, working.state.totals.message_bytes);
        working.state.handle_tick(self.now);
        if self.unstarted {
            working.state.defer_expiry();
        }
        while working.state.has_upkeep() {
            let done = batch::commit(
                &working.database.connection,
                &self.config,
                &mut working.state,
                &mut self.tickets,
                &[],
            );
            let done = done.map_err(|failure| failure.error)?;
            self.tickets.handle_commit();
            self.batch = self.batch.max(done.batch);
            self.parts.warnings.handle_commit(done.losses, self.now.uptime_ms);
            self.has_resting = leaves_resting(&done.replies).unwrap_or(self.has_resting);
            if !done.replies.is_empty() {
                (self.parts.deliver)(done.replies);
            }
            working.checkpoint()?;
        }
        self.is_full = false;
        Ok(())
    }

    /// Whether nothing more will be tried: all is committed, or it can't be.
    fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Faulted { .. })
            || self.parts.queue.is_empty() && !self.parts.unjudged.is_due()
    }

    /// The last act.
    fn close(mut self) {
        // What hints have left in memory is written as well.
        self.handle_tick();
        self.commit(false);
        self.parts.warnings.handle_end();
        match &self.phase {
            Phase::Working(_) => {}
            Phase::Faulted { displaced: Some(_), .. } => error!(
                "the store ends while its files are not as they were: what was acknowledged is lost with what was removed"
            ),
            Phase::Faulted { displaced: None, .. } => {
                error!(
                    "the store ends while it can't write: what has come since is not stored, and not acknowledged"
                );
            }
        }
        if let Phase::Working(working) = self.phase
            && let Err(error) = working.database.close()
        {
            warn!(%error, "the store's log stays; the next gateway moves it into the database");
        }
    }
}

/// Whether a batch leaves anybody resting, if it changes who does.
fn leaves_resting(replies: &[Reply]) -> Option<bool> {
    let Some(Reply::Resting { sessions, sources }) = replies.first() else { return None };
    Some(!(sessions.is_empty() && sources.is_empty()))
}
