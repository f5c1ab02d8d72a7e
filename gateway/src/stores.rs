//! The stores of a gateway: opened, told the time, and their answers brought to the shards that asked.

mod awaited;

use crate::clock::{self, Clock};
use awaited::LastWord;
pub(crate) use awaited::{Awaited, Committers};
use parking_lot::{Condvar, Mutex};
use pulsegate_core::frame::Durability;
use pulsegate_sessions::{Committer, Moment, Reply};
use pulsegate_shard::{Mailbox, Opened, Origins, Post, SinkQueue};
use pulsegate_store::{OpenError, Store, StoreConfig};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a store is told the time: sessions expire and old messages go to the second.
const TICK: Duration = Duration::from_secs(1);

/// Delivers a committer's replies. The committer's thread owns it: dropping it says that nothing will be answered any
/// more.
#[derive(Debug)]
pub struct Replies {
    post: Post,
    last_word: LastWord,
}

impl Replies {
    /// Delivers the replies of a batch, in order, now that it is committed. Never blocks.
    pub fn deliver(&self, replies: Vec<Reply>) {
        self.last_word.deliver(&self.post, replies);
    }
}

/// Where the answers of the stores go.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) mailboxes: Arc<[Arc<Mailbox>]>,
    pub(crate) awaited: Arc<Awaited>,
}

impl Destination {
    /// The way of the answers of the `ledger`-th committer.
    pub(crate) fn replies(&self, ledger: usize) -> Replies {
        let post = Post::new(ledger, Arc::clone(&self.mailboxes));
        Replies { post, last_word: LastWord::new(&self.awaited, ledger) }
    }

    /// Opens the store in a directory, as the `ledger`-th.
    #[cfg(feature = "sqlite")]
    pub(crate) fn open(
        &self,
        ledger: usize,
        directory: &std::path::Path,
        config: StoreConfig,
        clock: Clock,
    ) -> Result<Opened, OpenError> {
        let replies = self.replies(ledger);
        let store = Store::open(directory, config, moment(clock), move |all| replies.deliver(all))?;
        Ok(Opened { name: "the store".into(), committer: Arc::new(store), origins: None })
    }

    /// Makes the store in memory of those listeners whose messages go to this sink, or to none that has a thread, as
    /// the `ledger`-th.
    pub(crate) fn open_in_memory(
        &self,
        ledger: usize,
        config: StoreConfig,
        clock: Clock,
        queue: Option<Arc<SinkQueue>>,
    ) -> Result<Opened, OpenError> {
        let config = StoreConfig { durability: Durability::None, ..config };
        let replies = self.replies(ledger);
        let deliver = move |all| replies.deliver(all);
        let origins = Arc::new(Origins::new(ledger, queue, Arc::clone(&self.mailboxes)));
        let forwarding = Arc::clone(&origins);
        let forward = move |messages| forwarding.forward(messages);
        let store = Store::open_in_memory(config, moment(clock), deliver, forward)?;
        Ok(Opened { name: "the store in memory".into(), committer: Arc::new(store), origins: Some(origins) })
    }
}

fn moment(clock: Clock) -> Moment {
    Moment { wall_ms: clock::wall_ms(), uptime_ms: clock.now().as_nanos() / 1_000_000 }
}

/// Tells the stores the time, on a thread of its own, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticker {
    ended: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts to tell these committers the time; `look` is called after each time.
    pub(crate) fn start(
        committers: Vec<Arc<dyn Committer>>,
        clock: Clock,
        look: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let ended = Arc::new((Mutex::new(false), Condvar::new()));
        let end = Arc::clone(&ended);
        let thread = std::thread::Builder::new().name("store-clock".to_owned()).spawn(move || {
            let mut has_ended = end.0.lock();
            while !*has_ended {
                end.1.wait_for(&mut has_ended, TICK);
                committers.iter().for_each(|committer| committer.tick(moment(clock)));
                look();
            }
        })?;
        Ok(Self { ended, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        *self.ended.0.lock() = true;
        self.ended.1.notify_one();
        if let Some(thread) = self.thread.take() {
            // It can only have panicked by a fault of the store, which the store's thread reports.
            let _ = thread.join();
        }
    }
}
