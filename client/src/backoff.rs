//! How long a client waits before it comes back (PROTOCOL.md section 8.2). Must not know why it left.

use std::time::Duration;

/// The random part of the wait before a client comes back: full jitter over a span that doubles with each
/// attempt that failed. The defaults are those of PROTOCOL.md section 8.2; anything shorter is for tests and for
/// networks of one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The span before the first attempt; 100 ms by default.
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

impl Backoff {
    /// The random part of the wait after so many failures; `share`, from 0 to 1, is the random number.
    pub(crate) fn wait(&self, failures: u32, share: f64) -> Duration {
        let doubled = 2_u32.checked_pow(failures).and_then(|factor| self.first.checked_mul(factor));
        doubled.map_or(self.longest, |span| span.min(self.longest)).mul_f64(share.clamp(0.0, 1.0))
    }

    /// How many failures there are after a connection has ended that was attached for `attached`, or never.
    pub(crate) fn failures(&self, before: u32, attached: Option<Duration>) -> u32 {
        let was_steady = attached.is_some_and(|attached| attached >= self.steady);
        if was_steady { 0 } else { before.saturating_add(1) }
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
    fn only_a_connection_that_held_counts_as_none() {
        let backoff = Backoff::default();
        assert_eq!(backoff.failures(3, None), 4);
        assert_eq!(backoff.failures(3, Some(ms(29_999))), 4);
        assert_eq!(backoff.failures(3, Some(ms(30_000))), 0);
        assert_eq!(backoff.failures(u32::MAX, None), u32::MAX);
    }
}
