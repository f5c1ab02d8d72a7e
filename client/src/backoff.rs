//! How long a client waits before it comes back (PROTOCOL.md section 8.2). Must not know why it left.

use std::time::Duration;

/// The wait before a client comes back: what the gateway asked for, and full jitter over a span that doubles with
/// each attempt that failed. An end that was announced is no failure, nor is one with which the gateway said to come
/// back now; a receipt begins anew. The defaults are those of PROTOCOL.md section 8.2; anything shorter is for tests and for
/// networks of one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The span after no failure, and the shortest time from the beginning of one attempt to that of the next; 100 ms by
    /// default.
    pub first: Duration,
    /// The longest span; 60 s by default.
    pub longest: Duration,
    /// A connection that was attached for so long was no failure: the span begins anew; 30 s by default.
    pub steady: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(60),
            steady: Duration::from_secs(30),
        }
    }
}

/// How an attempt has ended, as far as the next wait depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Course {
    /// For how long it was attached, if it ever was.
    pub(crate) attached: Option<Duration>,
    /// A receipt has settled something.
    pub(crate) has_settled: bool,
    /// The end was announced, or the gateway has said to come back now: nothing has failed.
    pub(crate) is_announced: bool,
    /// Another connection of the same session has come.
    pub(crate) is_replaced: bool,
}

impl Backoff {
    /// The random part of the wait after so many failures; `share`, from 0 to 1, is the random number.
    pub(crate) fn wait(&self, failures: u32, share: f64) -> Duration {
        let doubled = 2_u32.checked_pow(failures).and_then(|factor| self.first.checked_mul(factor));
        let span = doubled.map_or(self.longest, |span| span.min(self.longest));
        // The longest durations have no room for the rounding of a fraction.
        Duration::try_from_secs_f64(span.as_secs_f64() * share.clamp(0.0, 1.0)).unwrap_or(span)
    }

    /// The whole wait: never less than was asked for, and never so short that attempts follow each other faster than
    /// by `first`; the last one began `since` ago.
    pub(crate) fn pause(&self, asked: Duration, failures: u32, since: Duration, share: f64) -> Duration {
        let random = self.wait(failures, share);
        asked.saturating_add(random).max(self.first.saturating_sub(since))
    }

    /// How many failures there are after an attempt that has taken this course.
    pub(crate) fn failures(&self, before: u32, course: &Course) -> u32 {
        let was_steady = course.attached.is_some_and(|attached| attached >= self.steady);
        if was_steady || (course.has_settled && !course.is_replaced) {
            0
        } else if course.is_announced {
            before
        } else {
            before.saturating_add(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_span_doubles_up_to_a_minute() {
        let backoff = Backoff::default();
        assert_eq!(backoff.wait(0, 1.0), ms(100));
        assert_eq!(backoff.wait(1, 1.0), ms(200));
        assert_eq!(backoff.wait(9, 1.0), ms(51_200));
        for failures in [10, 31, 32, 33, u32::MAX] {
            assert_eq!(backoff.wait(failures, 1.0), ms(60_000), "{failures} failures");
        }
        assert_eq!((backoff.wait(5, 0.0), backoff.wait(5, 0.5)), (Duration::ZERO, ms(1_600)));
    }

    #[test]
    fn the_longest_spans_are_no_fault() {
        let backoff = Backoff { first: Duration::MAX, longest: Duration::MAX, steady: Duration::MAX };
        for failures in [0, 1, u32::MAX] {
            assert_eq!(backoff.pause(Duration::MAX, failures, Duration::ZERO, 1.0), Duration::MAX);
            assert!(backoff.wait(failures, 0.5) > Duration::from_secs(1 << 60));
        }
    }

    #[test]
    fn attempts_never_follow_each_other_without_a_pause() {
        let backoff = Backoff::default();
        assert_eq!(backoff.pause(Duration::ZERO, 0, ms(0), 0.0), ms(100));
        assert_eq!(backoff.pause(Duration::ZERO, 0, ms(70), 0.0), ms(30));
        assert_eq!(backoff.pause(Duration::ZERO, 0, ms(1_000), 0.0), ms(0), "a short life was pause enough");
        assert_eq!(backoff.pause(ms(5_000), 3, ms(0), 0.5), ms(5_400), "never before what was asked for");
    }

    #[test]
    fn only_a_connection_that_held_counts_as_none() {
        let (backoff, course) = (Backoff::default(), Course::default());
        let held = |attached| Course { attached: Some(attached), ..course };
        assert_eq!(backoff.failures(3, &course), 4);
        assert_eq!(backoff.failures(3, &held(ms(29_999))), 4);
        assert_eq!(backoff.failures(3, &held(ms(30_000))), 0);
        assert_eq!(backoff.failures(u32::MAX, &course), u32::MAX);
    }

    #[test]
    fn an_announced_end_is_no_failure_and_a_receipt_is_success() {
        let backoff = Backoff::default();
        let course = Course { attached: Some(ms(1_000)), ..Course::default() };
        assert_eq!(backoff.failures(3, &Course { is_announced: true, ..course }), 3);
        assert_eq!(backoff.failures(3, &Course { has_settled: true, ..course }), 0);
        let fight = Course { has_settled: true, is_replaced: true, ..course };
        assert_eq!(backoff.failures(3, &fight), 4, "two clients with one session don't chase each other");
    }
}
