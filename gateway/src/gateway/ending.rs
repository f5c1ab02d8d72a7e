//! The end of a gateway: what its parts still hold is handed over, within a time. What can't be is given up, counted
//! and logged. A thread that still hangs then is abandoned.

use super::{Control, Gateway, RunError, SinkThread};
use parking_lot::Mutex;
use pulsegate_shard::{Batch, Command, Leftover, Opened};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// How long after the last planned end everything is over, whatever hangs.
pub(super) const HANDOVER: Duration = Duration::from_secs(5);
/// The same after a stop while it drains.
const HANDOVER_FORCED: Duration = Duration::from_secs(2);
/// The part of this time that the sinks have for themselves, after the stores.
const FOR_SINKS: Duration = Duration::from_secs(1);
/// How long a sink that tries again may take to see that it is given up.
const GIVING_UP: Duration = Duration::from_millis(100);

/// When everything is over at the latest; set by the first that ends the gateway.
#[derive(Debug, Default)]
pub(super) struct Deadline(Mutex<Option<Instant>>);

impl Deadline {
    /// A drain begins.
    pub(super) fn drain(&self, within: Duration) {
        let mut deadline = self.0.lock();
        *deadline = deadline.or_else(|| Instant::now().checked_add(within)?.checked_add(HANDOVER));
    }

    /// Everything is to end at once; even sooner if it is ending already.
    pub(super) fn stop(&self) {
        let now = Instant::now();
        let mut deadline = self.0.lock();
        *deadline = Some(deadline.map_or(now + HANDOVER, |before| before.min(now + HANDOVER_FORCED)));
    }

    /// Whether the end has begun.
    pub(super) fn is_set(&self) -> bool {
        self.0.lock().is_some()
    }

    /// What is left until `before` this end.
    fn left(&self, before: Duration) -> Duration {
        let left = self.0.lock().map_or(HANDOVER, |end| end.saturating_duration_since(Instant::now()));
        left.saturating_sub(before)
    }
}

/// What has gone wrong, and what was lost by it.
#[derive(Default)]
struct Losses {
    failure: Option<RunError>,
    messages: u64,
}

impl Losses {
    fn note<T>(&mut self, outcome: Result<T, RunError>) -> Option<T> {
        outcome.map_err(|error| self.failure.get_or_insert(error)).ok()
    }

    fn lose(&mut self, messages: u64, where_from: &str) {
        if messages > 0 {
            tracing::error!(messages, "given up: {where_from} could not take them in time");
            self.messages += messages;
        }
    }

    /// A store was closed, or could not be in time. It has lost so many messages.
    fn close_store(&mut self, Opened { name, committer, origins }: &Opened, lost: u64) {
        self.lose(lost, name);
        // In memory it is the sink that has failed.
        if origins.is_none() && committer.figures().stopped {
            self.note::<()>(Err(RunError::StoreStopped));
        }
    }
}

impl Gateway {
    /// Waits for the shards, then hands over what is left. Returns what has failed.
    pub(super) fn end(&mut self) -> Option<RunError> {
        let mut losses = Losses::default();
        let mut ends = BTreeMap::<(usize, usize), Batch>::new();
        for (index, shard) in std::mem::take(&mut self.shards).into_iter().enumerate() {
            let name = shard.thread().name().unwrap_or("shard").to_owned();
            let outcome = shard.join().map_err(|_| RunError::Panic(name)).and_then(|ran| Ok(ran?));
            if let Some(Leftover { ends: of_shard, messages }) = losses.note(outcome) {
                let of_stores = self.stores.iter().zip(messages);
                of_stores.for_each(|(store, lost)| losses.lose(lost, &store.name));
                for end in of_shard {
                    ends.entry((index, end.lane)).or_default().push_closed(end.from, end.end);
                }
            }
        }
        let has_dead_store = self.close_stores(&mut losses);
        // Only now can nothing more come before them.
        for ((shard, lane), batch) in ends {
            if let Some(sink) = self.sinks.get(lane) {
                sink.queue.push(shard, batch);
            }
        }
        self.close_sinks(&mut losses);
        if has_dead_store {
            // After the sinks: one that has failed takes its store with it.
            losses.note::<()>(Err(RunError::Store));
        }
        if losses.messages > 0 {
            losses.failure.get_or_insert(RunError::GivenUp { messages: losses.messages });
        }
        losses.failure
    }

    /// Commits what was submitted, as far as it can be, and forwards what goes to sinks. Whether a store had ended
    /// before its time.
    fn close_stores(&mut self, losses: &mut Losses) -> bool {
        self.ticker = None;
        let deadline = Arc::clone(&self.control.deadline);
        let stores = std::mem::take(&mut self.stores);
        let has_dead = stores.iter().any(|opened| opened.committer.has_ended());
        // All before the first is waited for: one that hangs takes no time from the others.
        stores.iter().for_each(|opened| opened.committer.begin_close());
        let mut late = Vec::new();
        for opened in stores {
            match opened.committer.close(deadline.left(FOR_SINKS)) {
                Ok(lost) => losses.close_store(&opened, lost),
                Err(lost) => late.push((opened, lost)),
            }
        }
        // These wait for a sink that takes nothing: what they still have is not receipted.
        late.iter().filter_map(|(opened, _)| opened.origins.as_ref()).for_each(|origins| origins.give_up());
        for (opened, mut lost) in late {
            if opened.origins.is_some() {
                lost = opened.committer.close(deadline.left(FOR_SINKS / 2)).unwrap_or_else(|lost| lost);
            }
            losses.close_store(&opened, lost);
        }
        has_dead
    }

    fn close_sinks(&mut self, losses: &mut Losses) {
        let sinks = std::mem::take(&mut self.sinks);
        sinks.iter().for_each(|sink| sink.queue.close());
        for SinkThread { name, queue, thread, ended } in sinks {
            // Nothing is ever sent: the thread's end closes the channel.
            let has_ended = |within| ended.recv_timeout(within) != Err(RecvTimeoutError::Timeout);
            let in_time = has_ended(self.control.deadline.left(Duration::ZERO));
            if !in_time {
                queue.give_up();
            }
            if in_time || has_ended(GIVING_UP) {
                let outcome = thread.join().map_err(|_| RunError::Panic(name.clone()));
                let outcome = outcome
                    .and_then(|served| served.map_err(|error| RunError::Sink { name: name.clone(), error }));
                losses.note(outcome);
            } else if queue.messages() == 0 {
                // What it has taken may be in a buffer of its own.
                losses.note::<()>(Err(RunError::Sink { name: name.clone(), error: "it hangs".into() }));
            }
            losses.lose(queue.messages(), &format!("sink {name}"));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.control.stop();
        // What has failed, only those learn who wait.
        self.end();
    }
}

impl Control {
    /// Stops gracefully: accepts no more connections, and closes those that are open evenly over `within`. What the
    /// sinks and stores have not taken 5 seconds after that is given up.
    pub fn drain(&self, within: Duration) {
        self.deadline.drain(within);
        self.tell_all(|| Command::Drain(within));
    }

    /// Closes everything now. Sinks and stores have 5 seconds to take what is left; 2 if a drain had begun.
    pub fn stop(&self) {
        self.deadline.stop();
        self.tell_all(|| Command::Stop);
    }
}
