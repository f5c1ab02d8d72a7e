//! The one clock of a gateway: monotonic, counted from its start; and the wall clock, for people.

use nix::time::{ClockId, clock_gettime};
use pulsegate_core::time::Instant;
use pulsegate_shard::TimeOrigin;
use std::time::Duration;

/// Reads the monotonic clock, as instants of the core.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: TimeOrigin,
    /// The same instant or a little later, as the system counts it.
    origin_nanos: u64,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        let origin = TimeOrigin::new(std::time::Instant::now());
        Self { origin, origin_nanos: monotonic_nanos() }
    }

    /// The present.
    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(monotonic_nanos().saturating_sub(self.origin_nanos))
    }

    /// Where it begins.
    pub(crate) const fn origin(&self) -> TimeOrigin {
        self.origin
    }

    /// How long it is until `instant`; zero if it has come.
    pub(crate) fn until(&self, instant: Instant) -> Duration {
        instant.since(self.now())
    }
}

/// The system's monotonic clock, in nanoseconds. A shard reads it after each read of a socket, and the standard
/// library, which reads the same clock, takes four times as many instructions for an instant of ours.
fn monotonic_nanos() -> u64 {
    // For this clock it doesn't fail.
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// The time that people read, in milliseconds since 1970-01-01 UTC; 0 before that.
pub(crate) fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_of_the_system_lies_where_the_clock_says_and_never_earlier() {
        let clock = Clock::start();
        for _ in 0..100 {
            let before = clock.now();
            let instant = std::time::Instant::now();
            let at = clock.origin().at(instant);
            assert!(at >= before, "{at:?} is earlier than {before:?}");
            assert!(at.since(clock.now()) < Duration::from_secs(1));
        }
    }
}
