//! The stall guard: time in which the shard itself could not run does not count as the peers' silence.

use crate::time::{Instant, Now};
use std::time::Duration;

/// A gap longer than this counts as a stall.
pub const STALL_MIN: Duration = Duration::from_millis(50);
/// The most that is credited at once.
pub const CREDIT_MAX: Duration = Duration::from_secs(30);
/// The longest single sleep. When a sleep ends late, nobody knows when the stall began: the sleep is credited from its
/// beginning, so that nobody is ended early, and this bounds the silence that is credited with it.
pub const SLEEP_MAX: Duration = Duration::from_millis(100);

/// Measures the stalls of one shard and keeps the sum that separates its own time from real time.
///
/// A stall is a gap of more than [`STALL_MIN`] between the instant at which the shard should have been
/// running (the wake it asked for, or its last reading of the clock) and now. It is credited once, in
/// O(1), for all connections, together with the sleep that it began in. The credit comes out of a budget of
/// [`CREDIT_MAX`] that refills at half the speed of real time, so that permanent overload can't keep the dead.
#[derive(Debug)]
pub struct StallGuard {
    /// The last reading of the clock.
    read: Instant,
    /// Until this instant the shard is known to have run, or to have slept because it wanted to.
    well_until: Instant,
    stalled: Duration,
    budget: Duration,
    refilled: Instant,
}

impl StallGuard {
    /// A guard that starts at `now` with a full budget.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { read: now, well_until: now, stalled: Duration::ZERO, budget: CREDIT_MAX, refilled: now }
    }

    /// Notes that the shard goes to sleep until `wake` (`None`: until something happens, since there is nobody whose
    /// silence counts). Returns when it has to wake, which may be earlier.
    pub fn handle_sleep(&mut self, wake: Option<Instant>) -> Option<Instant> {
        let wake = wake.map(|wake| wake.min(self.read.after(SLEEP_MAX)));
        self.well_until = self.well_until.max(wake.unwrap_or(Instant::MAX));
        wake
    }

    /// Takes a reading of the clock, credits a stall if there was one, and returns the present moment.
    #[inline]
    pub fn handle_reading(&mut self, instant: Instant) -> Now {
        if instant > self.well_until.after(STALL_MIN) {
            self.refill(instant);
            let credit = instant.since(self.read).min(self.budget);
            self.budget -= credit;
            self.stalled += credit;
        }
        (self.read, self.well_until) = (instant, instant);
        Now { instant, stalled: self.stalled }
    }

    /// All that was credited so far.
    #[must_use]
    pub const fn stalled(&self) -> Duration {
        self.stalled
    }

    fn refill(&mut self, instant: Instant) {
        self.budget = (self.budget + instant.since(self.refilled) / 2).min(CREDIT_MAX);
        self.refilled = instant;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ORIGIN.after(Duration::from_millis(millis))
    }

    #[test]
    fn a_punctual_wake_is_no_stall() {
        let mut guard = StallGuard::new(at(0));
        assert_eq!(guard.handle_sleep(Some(at(90))), Some(at(90)));
        assert_eq!(guard.handle_reading(at(140)).stalled, Duration::ZERO);
    }

    #[test]
    fn a_late_wake_is_credited_once_with_the_sleep_before_it() {
        let mut guard = StallGuard::new(at(0));
        guard.handle_sleep(Some(at(90)));
        let now = guard.handle_reading(at(8_000));
        assert_eq!(now.stalled, Duration::from_secs(8));
        assert_eq!(now.own(), Now::at(at(0)).own(), "whoever could not speak either has lost nothing");
        assert_eq!(guard.handle_reading(at(8_001)).stalled, Duration::from_secs(8));
    }

    #[test]
    fn no_sleep_is_long_so_that_little_silence_is_credited_with_a_stall() {
        let mut guard = StallGuard::new(at(0));
        let (mut now, mut wake) = (at(0), Some(at(60_000)));
        while wake != Some(at(59_950)) {
            wake = guard.handle_sleep(Some(at(59_950)));
            now = wake.unwrap_or(now);
            assert_eq!(guard.handle_reading(now).stalled, Duration::ZERO);
        }
        guard.handle_sleep(Some(at(120_000)));
        let now = guard.handle_reading(at(61_950));
        assert_eq!(now.stalled, Duration::from_secs(2), "of a minute without a word");
    }

    #[test]
    fn who_asks_again_before_it_sleeps_sleeps_no_longer() {
        let mut guard = StallGuard::new(at(0));
        assert_eq!(guard.handle_sleep(Some(at(60_000))), Some(at(100)));
        assert_eq!(guard.handle_sleep(Some(at(60_000))), Some(at(100)));
        assert_eq!(guard.handle_sleep(Some(at(10))), Some(at(10)));
        assert_eq!(guard.handle_sleep(Some(Instant::ORIGIN)), Some(Instant::ORIGIN), "at once");
    }

    #[test]
    fn a_gap_between_two_readings_is_a_stall() {
        let mut guard = StallGuard::new(at(0));
        assert_eq!(guard.handle_reading(at(51)).stalled, Duration::from_millis(51));
    }

    #[test]
    fn an_unbounded_sleep_is_no_stall() {
        let mut guard = StallGuard::new(at(0));
        guard.handle_sleep(None);
        assert_eq!(guard.handle_reading(at(3_600_000)).stalled, Duration::ZERO);
        assert_eq!(guard.handle_reading(at(3_600_100)).stalled, Duration::from_millis(100));
    }

    #[test]
    fn one_credit_is_at_most_thirty_seconds() {
        let mut guard = StallGuard::new(at(0));
        assert_eq!(guard.handle_reading(at(600_000)).stalled, CREDIT_MAX);
    }

    #[test]
    fn permanent_overload_is_credited_at_half_speed_at_most() {
        let mut guard = StallGuard::new(at(0));
        let mut instant = 0;
        while instant < 3_600_000 {
            instant += 100;
            guard.handle_reading(at(instant));
        }
        assert!(guard.stalled() <= Duration::from_secs(1_800) + CREDIT_MAX);
        assert!(guard.stalled() >= Duration::from_secs(1_790));
    }
}
