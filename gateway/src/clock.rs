//! The one clock of a gateway: monotonic, counted from its start; and the wall's, for people.

use pulsegate_core::time::Instant;
use std::time::Duration;

/// Reads the monotonic clock and translates between it and the instants of the core.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    /// The present.
    pub(crate) fn now(&self) -> Instant {
        self.at(std::time::Instant::now())
    }

    /// An instant of the system's clock; one before the start is the start.
    pub(crate) fn at(&self, instant: std::time::Instant) -> Instant {
        let span = instant.saturating_duration_since(self.origin);
        Instant::from_nanos(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
    }

    /// How long it is until `instant`; zero if it has come.
    pub(crate) fn until(&self, instant: Instant) -> Duration {
        instant.since(self.now())
    }
}

/// The time that people read, in milliseconds since 1970-01-01 UTC; 0 before that.
pub(crate) fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
