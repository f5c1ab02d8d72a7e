//! Instants and the present moment as a shard sees it. Knows no clock: whoever owns one hands the time in.

use std::num::NonZeroU64;
use std::time::Duration;

/// A point on the owner's monotonic clock, in nanoseconds since an origin that the owner chose.
///
/// Eight bytes, and `Option<Instant>` is eight bytes too, because a connection keeps several of them.
/// Range: 584 years from the origin; arithmetic saturates at both ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(NonZeroU64);

impl Instant {
    /// The origin of the owner's clock.
    pub const ORIGIN: Self = Self(NonZeroU64::MIN);
    /// The farthest instant that can be named.
    pub const MAX: Self = Self(NonZeroU64::MAX);

    /// The instant that lies `nanos` nanoseconds after the origin (saturating).
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// This instant, moved later by `span` (saturating).
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }

    /// This instant, moved earlier by `span`, but never before the origin.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self::from_nanos(self.as_nanos().saturating_sub(nanos(span)))
    }

    /// The time from `earlier` to this instant; zero if `earlier` is in fact later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl std::fmt::Debug for Instant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Instant({:?})", Duration::from_nanos(self.as_nanos()))
    }
}

/// A point in a shard's own time: real time minus the stalls, in which the shard itself could not listen (see
/// [`StallGuard`](crate::stall::StallGuard)).
///
/// A type of its own, so that nobody takes one for the other: between the two there is only [`Now::own`] and
/// [`real`](Self::real). As small as an [`Instant`]. It means nothing to another shard, which has had other stalls.
///
/// ```
/// # use pulsegate_core::time::{Instant, Now};
/// # use std::time::Duration;
/// let now = Now { instant: Instant::from_nanos(5), stalled: Duration::from_nanos(2) };
/// assert!(now.own().real(now.stalled) <= now.instant);
/// ```
/// ```compile_fail,E0308
/// # use pulsegate_core::time::{Instant, Now};
/// # use std::time::Duration;
/// let now = Now { instant: Instant::from_nanos(5), stalled: Duration::from_nanos(2) };
/// assert!(now.own() <= now.instant);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnInstant(Instant);

impl OwnInstant {
    /// The earliest one.
    pub const ORIGIN: Self = Self(Instant::ORIGIN);

    /// This instant, moved later by `span` (saturating).
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.after(span))
    }

    /// The own time from `earlier` to this instant; zero if `earlier` is in fact later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.since(earlier.0)
    }

    /// When this instant comes in real time, if the shard has `stalled` so long in all by then.
    #[must_use]
    pub fn real(self, stalled: Duration) -> Instant {
        self.0.after(stalled)
    }

    /// Nanoseconds of own time since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0.as_nanos()
    }
}

impl std::fmt::Debug for OwnInstant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OwnInstant({:?})", Duration::from_nanos(self.as_nanos()))
    }
}

/// The present moment on both of a shard's clocks.
///
/// Promises towards the peer (short deadline, maximum age) count real time. Silence counts the shard's own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Real monotonic time.
    pub instant: Instant,
    /// All stalls credited so far.
    pub stalled: Duration,
}

impl Now {
    /// A moment of a clock that never stalled.
    #[must_use]
    pub const fn at(instant: Instant) -> Self {
        Self { instant, stalled: Duration::ZERO }
    }

    /// The shard's own time.
    #[must_use]
    pub fn own(self) -> OwnInstant {
        OwnInstant(self.instant.before(self.stalled))
    }
}

const fn nanos(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000_000).saturating_add(span.subsec_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Instant::MAX.after(Duration::from_secs(1)), Instant::MAX);
        assert_eq!(Instant::ORIGIN.before(Duration::from_secs(1)), Instant::ORIGIN);
        assert_eq!(Instant::ORIGIN.after(Duration::MAX), Instant::MAX);
        assert_eq!(Instant::ORIGIN.since(Instant::MAX), Duration::ZERO);
        assert_eq!(Instant::from_nanos(7).as_nanos(), 7);
    }

    #[test]
    fn an_optional_instant_costs_no_more_than_an_instant() {
        assert_eq!((size_of::<Option<Instant>>(), size_of::<Option<OwnInstant>>()), (8, 8));
    }

    #[test]
    fn own_time_comes_later_in_real_time_by_the_stalls() {
        let now = Now { instant: Instant::from_nanos(9), stalled: Duration::from_nanos(4) };
        assert_eq!(now.own().real(now.stalled), now.instant);
        assert_eq!(
            now.own().after(Duration::from_nanos(2)).real(Duration::from_nanos(5)),
            Instant::from_nanos(12)
        );
        assert_eq!(now.own().since(Now::at(Instant::from_nanos(2)).own()), Duration::from_nanos(3));
    }
}
