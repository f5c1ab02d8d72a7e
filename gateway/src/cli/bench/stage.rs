//! What a round's threads share: one clock, the cues that the conductor gives, and live counts for whoever watches.
//! Must not know: what is played.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Nanoseconds since the start of a round.
pub(super) type Nanos = u64;

/// A duration in the clock's unit; what is too long to count is as long as can be counted.
pub(super) fn nanos(span: Duration) -> Nanos {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The one clock of a round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The present; never zero, which stands for "not yet".
    pub(super) fn now(&self) -> Nanos {
        nanos(self.origin.elapsed()).max(1)
    }
}

/// What a worker has at the moment, for progress and for the series over time.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) open: AtomicUsize,
    pub(super) failed: AtomicU64,
    pub(super) ended: AtomicU64,
    pub(super) sent: AtomicU64,
}

/// The sum of all workers' live counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LiveCounts {
    pub(super) open: usize,
    pub(super) failed: u64,
    pub(super) ended: u64,
    pub(super) sent: u64,
}

/// Shared by the conductor and its workers.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) clock: Clock,
    go_at: AtomicU64,
    leave: AtomicBool,
    abort: AtomicBool,
    ready: AtomicUsize,
    done: AtomicUsize,
    live: Vec<Live>,
}

impl Stage {
    pub(super) fn new(workers: usize) -> Self {
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
    pub(super) fn go(&self, at: Nanos) {
        self.go_at.store(at, Ordering::Release);
    }

    pub(super) fn go_at(&self) -> Option<Nanos> {
        Some(self.go_at.load(Ordering::Acquire)).filter(|at| *at > 0)
    }

    /// Everything is measured: workers close what they hold.
    pub(super) fn leave(&self) {
        self.leave.store(true, Ordering::Release);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leave.load(Ordering::Acquire) || self.is_aborted()
    }

    /// A worker has failed; there is nothing to wait for any more.
    pub(super) fn abort(&self) {
        self.abort.store(true, Ordering::Release);
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.abort.load(Ordering::Acquire)
    }

    pub(super) fn worker_is_ready(&self) {
        self.ready.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn worker_is_done(&self) {
        self.done.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn all_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) >= self.live.len()
    }

    pub(super) fn all_done(&self) -> bool {
        self.done.load(Ordering::Acquire) >= self.live.len()
    }

    pub(super) fn live(&self, worker: usize) -> &Live {
        &self.live[worker]
    }

    pub(super) fn counts(&self) -> LiveCounts {
        let add = |sum: LiveCounts, live: &Live| LiveCounts {
            open: sum.open + live.open.load(Ordering::Relaxed),
            failed: sum.failed + live.failed.load(Ordering::Relaxed),
            ended: sum.ended + live.ended.load(Ordering::Relaxed),
            sent: sum.sent + live.sent.load(Ordering::Relaxed),
        };
        self.live.iter().fold(LiveCounts::default(), add)
    }
}
