//! Connects a worker's clients at an even pace. Must not know: what they are for.

use super::Turn;
use crate::crowd::Crowd;
use crate::schedule::Ramp;
use crate::stage::Nanos;

/// Connections begun in one turn.
const PER_TURN_MAX: usize = 64;
/// Without any progress for this long, the rest is given up: the kernel's own tries are 1, 3 and 7 seconds apart.
const PATIENCE: Nanos = 20_000_000_000;

/// Connects everybody once.
#[derive(Debug)]
pub(crate) struct Opener {
    ramp: Ramp,
    /// Connections that may be under way at the same time.
    at_once_max: usize,
    /// When something last moved, and what had moved until then.
    moved_at: Nanos,
    moved: u64,
}

impl Opener {
    /// Connects `count` clients evenly over `span`.
    pub(crate) fn new(start: Nanos, span: Nanos, count: usize, at_once_max: usize) -> Self {
        Self { ramp: Ramp::new(start, span, count as u64), at_once_max, moved_at: start, moved: 0 }
    }

    /// Begins what is due; done when each is in or has failed.
    pub(crate) fn turn(&mut self, crowd: &mut Crowd, now: Nanos) -> Turn {
        for _ in 0..PER_TURN_MAX {
            if crowd.connecting_count() >= self.at_once_max {
                break;
            }
            let Some(index) = self.ramp.take(now) else { break };
            crowd.connect(index);
        }
        let moved = crowd.tally.connected + crowd.tally.failed() + self.ramp.taken();
        if moved != self.moved {
            (self.moved, self.moved_at) = (moved, now);
        }
        if now.saturating_sub(self.moved_at) > PATIENCE && crowd.connecting_count() > 0 {
            crowd.give_up();
        }
        let patience_ends = self.moved_at + PATIENCE;
        match self.ramp.due() {
            None if crowd.connecting_count() == 0 => Turn::Done,
            None => Turn::Until(patience_ends),
            Some(_) if crowd.connecting_count() >= self.at_once_max => Turn::Until(patience_ends),
            Some(due) if due <= now => Turn::Busy,
            Some(due) => Turn::Until(due),
        }
    }

    /// Everybody was begun.
    pub(super) const fn has_begun_all(&self) -> bool {
        self.ramp.is_over()
    }
}

/// Waits until the server has ended everybody. Those whom it hasn't ended by `until` count as never ended.
pub(super) fn wait_for_ends(crowd: &mut Crowd, now: Nanos, until: Nanos) -> Turn {
    if crowd.open_count() > 0 && now < until {
        return Turn::Until(until);
    }
    crowd.tally.never = crowd.open_count() as u64;
    Turn::Done
}
