//! Letting input gather: where much arrives, a shard that wakes for each message spends most of its time on waking. So
//! it sleeps for a moment before it polls again, if it expects more than one message by then. Must not know: sockets.

use pulsegate_core::time::Instant;
use std::time::Duration;

/// It pays only if at least this many events are expected meanwhile.
const EVENTS_WORTH: u32 = 2;
/// The weight of what was before in the mean gap, against one of the present.
const MEMORY: u32 = 7;
/// No gap counts for more, so that after a pause the mean soon follows what comes.
const GAP_MAX: Duration = Duration::from_millis(100);

/// What a shard knows of how fast input comes.
#[derive(Debug)]
pub(crate) struct Gathering {
    /// How long input may gather; zero switches it off.
    longest: Duration,
    last: Instant,
    /// The mean gap between two events.
    gap: Duration,
}

impl Gathering {
    /// Nothing has come yet.
    pub(crate) const fn new(longest: Duration, now: Instant) -> Self {
        Self { longest, last: now, gap: GAP_MAX }
    }

    /// A turn that began at `began` has handled this many events. Returns how long to let input gather now; the time
    /// that the turn itself took counts as such.
    pub(crate) fn handle_turn(&mut self, began: Instant, now: Instant, events: u32) -> Option<Duration> {
        if self.longest.is_zero() || events == 0 {
            return None;
        }
        let gap = (began.since(self.last) / events).min(GAP_MAX);
        self.gap = (self.gap * MEMORY + gap) / (MEMORY + 1);
        self.last = began;
        let is_worth_it = self.gap * EVENTS_WORTH <= self.longest;
        let left = self.longest.saturating_sub(now.since(began));
        (is_worth_it && !left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Events that come one by one at this distance; returns the outcome of the last turn.
    fn after(gathering: &mut Gathering, turns: u32, gap: Duration) -> Option<Duration> {
        let mut span = None;
        for _ in 0..turns {
            let now = gathering.last.after(gap);
            span = gathering.handle_turn(now, now, 1);
        }
        span
    }

    #[test]
    fn it_gathers_where_much_comes_and_nowhere_else() {
        let mut gathering = Gathering::new(MS, Instant::ORIGIN);
        assert_eq!(after(&mut gathering, 100, 10 * MS), None);
        assert_eq!(after(&mut gathering, 100, MS / 5), Some(MS));
        assert_eq!(after(&mut gathering, 1, Duration::from_secs(9)), None, "a pause ends the rush");
        assert_eq!(after(&mut gathering, 100, 600 * MS / 1000), None, "one more is not worth it");
    }

    #[test]
    fn the_time_of_the_turn_counts_and_an_empty_turn_waits_for_nothing() {
        let mut gathering = Gathering::new(MS, Instant::ORIGIN);
        after(&mut gathering, 100, MS / 10);
        let began = gathering.last.after(MS);
        assert_eq!(gathering.handle_turn(began, began.after(MS / 4), 10), Some(MS * 3 / 4));
        assert_eq!(gathering.handle_turn(began.after(MS), began.after(3 * MS), 10), None);
        assert_eq!(gathering.handle_turn(began.after(3 * MS), began.after(3 * MS), 0), None);
        let mut off = Gathering::new(Duration::ZERO, Instant::ORIGIN);
        assert_eq!(after(&mut off, 100, MS / 10), None);
    }
}
