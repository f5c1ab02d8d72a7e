//! Where a gateway's time begins, by which instants of the system's clock become those of the core. Reads no clock.

use pulsegate_core::time::Instant;

/// The instant of the system's clock at which a gateway's time begins.
#[derive(Clone, Copy, Debug)]
pub struct TimeOrigin(std::time::Instant);

impl TimeOrigin {
    /// Time begins then.
    pub const fn new(instant: std::time::Instant) -> Self {
        Self(instant)
    }

    /// An instant of the system's clock; one before the beginning is the beginning.
    pub fn at(self, instant: std::time::Instant) -> Instant {
        let span = instant.saturating_duration_since(self.0);
        Instant::from_nanos(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
    }
}
