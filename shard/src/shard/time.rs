//! A shard's sense of time: the present on both of its clocks, and what people's clocks show. Reads no clock but that of
//! the [`Io`].

use crate::shard::io::Io;
use pulsegate_core::stall::StallGuard;
use pulsegate_core::time::{Instant, Now};
use pulsegate_sessions::Moment;

/// The time of one shard.
#[derive(Debug)]
pub(crate) struct ShardTime {
    guard: StallGuard,
    /// The poller has told of everything that came until then.
    pub(crate) horizon: Instant,
    /// What people's clocks showed when the turn began; a store wants to know.
    pub(crate) wall_ms: u64,
}

impl ShardTime {
    /// A shard's time from `now` on.
    pub(crate) const fn new(now: Instant) -> Self {
        Self { guard: StallGuard::new(now), horizon: now, wall_ms: 0 }
    }

    /// Reads the clock.
    pub(crate) fn read(&mut self, io: &mut impl Io) -> Now {
        self.guard.handle_reading(io.now())
    }

    /// All stalls credited so far.
    pub(crate) const fn stalled(&self) -> std::time::Duration {
        self.guard.stalled()
    }

    /// The shard goes to sleep until then; returns when it has to wake.
    pub(crate) fn sleep(&mut self, wake: Option<Instant>) -> Option<Instant> {
        self.guard.handle_sleep(wake)
    }

    /// The present, as a store wants to know it.
    pub(crate) const fn moment(&self, now: Now) -> Moment {
        Moment { wall_ms: self.wall_ms, uptime_ms: now.instant.as_nanos() / 1_000_000 }
    }
}
