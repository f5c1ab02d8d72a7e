//! What a round's threads share: one clock, the cues that the conductor gives, and live counts for whoever watches.
//! Must not know: what is played.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Nanoseconds since the start of a round.
pub(crate) type Nanos = u64;

/// A duration in the clock's unit; what is too long to count is as long as can be counted.
pub(crate) fn nanos(span: Duration) -> Nanos {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The one clock of a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The present; never zero, which stands for "not yet".
    pub(crate) fn now(&self) -> Nanos {
        nanos(self.origin.elapsed()).max(1)
    }
}

/// What a worker has at the moment, for progress and for the series over time.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) open: AtomicUsize,
    pub(crate) failed: AtomicU64,
    pub(crate) ended: AtomicU64,
    pub(crate) sent: AtomicU64,
}

/// The sum of all workers' live counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LiveCounts {
    pub(crate) open: usize,
    pub(crate) failed: u64,
    pub(crate) ended: u64,
    pub(crate) sent: u64,
}

/// Shared by the conductor and its workers.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) clock: Clock,
    go_at: AtomicU64,
    leave: AtomicBool,
    abort: AtomicBool,
    ready: AtomicUsize,
    done: AtomicUsize,
    live: Vec<Live>,
}

impl Stage {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            clock: Clock::start(),
            go_at: AtomicU64::new(0),
            leave: AtomicBool::new(false),
            abort: AtomicBool::new(false),
            ready: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            live: (0..workers).map(|_| Live::default()).collect(),
        }
    }

    /// The measured part begins then, for all.
    pub(crate) fn go(&self, at: Nanos) {
        self.go_at.store(at, Ordering::Release);
    }

    pub(crate) fn go_at(&self) -> Option<Nanos> {
        Some(self.go_at.load(Ordering::Acquire)).filter(|at| *at > 0)
    }

    /// Everything is measured: workers close what they hold.
    pub(crate) fn leave(&self) {
        self.leave.store(true, Ordering::Release);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leave.load(Ordering::Acquire) || self.is_aborted()
    }

    /// A worker has failed; there is nothing to wait for any more.
    pub(crate) fn abort(&self) {
        self.abort.store(true, Ordering::Release);
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.abort.load(Ordering::Acquire)
    }

    pub(crate) fn worker_is_ready(&self) {
        self.ready.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn worker_is_done(&self) {
        self.done.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn all_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) >= self.live.len()
    }

    pub(crate) fn all_done(&self) -> bool {
        self.done.load(Ordering::Acquire) >= self.live.len()
    }

    pub(crate) fn live(&self, worker: usize) -> &Live {
        &self.live[worker]
    }

    pub(crate) fn counts(&self) -> LiveCounts {
        let add = |sum: LiveCounts, live: &Live| LiveCounts {
            open: sum.open + live.open.load(Ordering::Relaxed),
            failed: sum.failed + live.failed.load(Ordering::Relaxed),
            ended: sum.ended + live.ended.load(Ordering::Relaxed),
            sent: sum.sent + live.sent.load(Ordering::Relaxed),
        };
        self.live.iter().fold(LiveCounts::default(), add)
    }
}
