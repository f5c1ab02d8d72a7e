//! The store as its user sees it: made in memory, asked, told the time, closed. Knows no database.

use crate::config::{ConfigError, StoreConfig};
use crate::in_memory::{self, InMemory};
use crate::parts::{Deliver, Parts};
use crate::queue::Queue;
use crate::warnings::Warnings;
use parking_lot::{Condvar, Mutex};
use pulsegate_core::frame::Durability;
use pulsegate_sessions::{
    Figures, Forwarded, Limits, Memory, Moment, NotForwarded, Reply, Request, SubmitError, Unjudged,
};
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// Up to where the sessions of a store in memory begin, at random: far enough apart that two never meet, and numbers that
/// every JSON reader can tell apart.
const FIRST_SESSION_MAX: u64 = (1 << 52) - 1;

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The settings can't be kept.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another gateway has the directory.
    #[error("another pulsegate uses the store in {}: stop it first, or choose another directory", .0.display())]
    Held(PathBuf),
    /// The directory or the file can't be used as it is.
    #[error("can't open the store in {}: {why}", .directory.display())]
    Unusable {
        /// Which.
        directory: PathBuf,
        /// A sentence for people.
        why: String,
    },
    /// The committer's thread can't be started.
    #[error("can't start the store's thread: {0}")]
    Thread(std::io::Error),
}

/// An open store. Dropping it commits what was submitted, as far as it can be committed, and closes it.
#[derive(Debug)]
pub struct Store {
    queue: Arc<Queue>,
    figures: Arc<Mutex<Figures>>,
    limits: Limits,
    committer: Option<JoinHandle<()>>,
    ended: Arc<(Mutex<bool>, Condvar)>,
    /// Nobody waits for the committer any more.
    detached: AtomicBool,
}

impl Store {
    /// Makes a store in memory, whose sessions end with it. Sessions, cursors, refusals and messages to clients are as in
    /// a directory, with [`Durability::None`]; but clients' messages aren't kept. `forward` gets those of each
    /// batch, in their order, on the committer's thread, after the batch is committed and before any of its replies is
    /// delivered: so where they go has them before a receipt leaves.
    ///
    /// `forward` may wait there for as long as there is no room, which is how a slow destination holds up the
    /// clients: nothing is committed meanwhile, so no receipt leaves, the clients' windows fill, and what they send
    /// nevertheless is bounded by [`StoreConfig::queue_bytes_max`]. When there is no destination any more it has to say
    /// so: then nothing of the batch is answered, and the store ends.
    ///
    /// [`Request::Append`] is for stores in a directory: here it is counted as refused.
    ///
    /// # Errors
    /// If the settings can't be kept, or its thread can't be started.
    pub fn open_in_memory(
        config: StoreConfig,
        now: Moment,
        deliver: impl Fn(Vec<Reply>) + Send + Sync + 'static,
        forward: impl FnMut(Vec<Forwarded>) -> Result<(), NotForwarded> + Send + 'static,
    ) -> Result<Self, OpenError> {
        config.check()?;
        if config.durability != Durability::None {
            return Err(ConfigError::Memory.into());
        }
        // Nobody remembers which numbers the store before this one has given out.
        let above = RandomState::new().hash_one(now) & FIRST_SESSION_MAX;
        let memory = Memory::new(config.rules(), above, now.uptime_ms);
        let figures = in_memory::figures(&memory);
        let forward = Box::new(forward);
        let run = move |parts| InMemory { parts, memory, forward, now }.run();
        Self::begin(&config, figures, Arc::new(deliver), run)
    }

    /// Starts the committer's thread, which runs with the parts that each committer has. It holds so much already.
    pub(crate) fn begin(
        config: &StoreConfig,
        figures: Figures,
        deliver: Arc<Deliver>,
        run: impl FnOnce(Parts) + Send + 'static,
    ) -> Result<Self, OpenError> {
        let &StoreConfig { durability, message_bytes_max, queue_bytes_max, .. } = config;
        let limits = Limits { durability, message_bytes_max, queue_bytes_max };
        let queue = Arc::new(Queue::new(queue_bytes_max));
        let figures = Arc::new(Mutex::new(figures));
        let parts = Parts {
            queue: Arc::clone(&queue),
            figures: Arc::clone(&figures),
            deliver: Arc::clone(&deliver),
            unjudged: Unjudged::new(config.unjudged_bytes_max),
            warnings: Warnings::default(),
        };
        let closing = Arc::clone(&queue);
        let ended = Arc::<(Mutex<bool>, Condvar)>::default();
        let end = Arc::clone(&ended);
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || {
            if catch_unwind(AssertUnwindSafe(|| run(parts))).is_err() {
                closing.close();
                let why = "the store's thread has died; nothing is acknowledged any more".to_owned();
                tracing::error!("{why}");
                deliver(vec![Reply::Stopped { why }]);
            }
            *end.0.lock() = true;
            end.1.notify_all();
        });
        let committer = Some(thread.map_err(OpenError::Thread)?);
        Ok(Self { queue, figures, limits, committer, ended, detached: AtomicBool::new(false) })
    }

    /// Asks for one thing. Never blocks.
    ///
    /// # Errors
    /// If it was not taken; [`submit_all`](Self::submit_all) keeps what isn't.
    pub fn submit(&self, request: Request) -> Result<(), SubmitError> {
        self.submit_all(&mut vec![request])
    }

    /// Asks for many things, in order, under one lock. Never blocks. What finds no room stays in `requests`.
    ///
    /// # Errors
    /// If not all of them were taken.
    pub fn submit_all(&self, requests: &mut Vec<Request>) -> Result<(), SubmitError> {
        self.queue.push_all(requests)
    }

    /// Says what time it is: once a second, or so. Sessions expire, old messages go and attempts after a fault are
    /// made by this and not by themselves. Never blocks, and is never turned away.
    pub fn tick(&self, now: Moment) {
        self.queue.tick(now);
    }

    /// A client has not accepted a message of ours. Counted and said in the log, joined to one line a minute.
    pub fn note_unaccepted(&self) {
        self.queue.note_unaccepted();
    }

    /// Takes nothing more and begins to end; [`close`](Self::close) waits for that.
    pub fn begin_close(&self) {
        self.queue.close();
    }

    /// Whether its thread has ended, by whatever cause: it answers nothing any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        *self.ended.0.lock()
    }

    /// Takes nothing more, commits what was submitted, as far as it can be committed, and ends. Returns how many
    /// messages it has lost of those that nobody else keeps ([`Request::Append`]).
    ///
    /// # Errors
    /// The same number, if it has not ended `within` this time. It goes on trying, and dropping it does not wait for it.
    pub fn close(&self, within: Duration) -> Result<u64, u64> {
        self.queue.close();
        let mut ended = self.ended.0.lock();
        self.ended.1.wait_while_for(&mut ended, |ended| !*ended, within);
        if *ended {
            return Ok(self.queue.unkept());
        }
        self.detached.store(true, Relaxed);
        Err(self.queue.unkept())
    }

    /// How often it has committed something since it was opened.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.queue.commits()
    }

    /// What it holds.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures { queue_bytes: self.queue.bytes(), ..*self.figures.lock() }
    }
}

impl pulsegate_sessions::Committer for Store {
    fn submit_all(&self, requests: &mut Vec<Request>) -> Result<(), SubmitError> {
        Self::submit_all(self, requests)
    }

    fn tick(&self, now: Moment) {
        Self::tick(self, now);
    }

    fn note_unaccepted(&self) {
        Self::note_unaccepted(self);
    }

    fn commits(&self) -> u64 {
        Self::commits(self)
    }

    fn figures(&self) -> Figures {
        Self::figures(self)
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn begin_close(&self) {
        Self::begin_close(self);
    }

    fn has_ended(&self) -> bool {
        Self::has_ended(self)
    }

    fn close(&self, within: Duration) -> Result<u64, u64> {
        Self::close(self, within)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.queue.close();
        let committer = self.committer.take();
        let is_awaited = !self.detached.load(Relaxed) || *self.ended.0.lock();
        // The last owner may be the callback itself; a thread can't wait for itself.
        if let Some(committer) =
            committer.filter(|thread| is_awaited && thread.thread().id() != std::thread::current().id())
        {
            let _ = committer.join();
        }
    }
}
