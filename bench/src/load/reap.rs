//! `reap`: clients say their last, and the server has to end them, not before its time-out and not long after. A part
//! may keep beating; none of those may be ended.

use super::{Load, Turn};
use crate::crowd::{Crowd, Happening, What, Written};
use crate::schedule::Ramp;
use crate::stage::Nanos;

/// Last messages in one turn.
const PER_TURN_MAX: usize = 256;

pub(super) struct Reap {
    /// The first so many fall silent.
    silent: usize,
    timeout: Nanos,
    spread: Nanos,
    grace: Nanos,
    ramp: Ramp,
    /// Silent, and not ended yet.
    waiting: u64,
    last_sent_at: Nanos,
}

impl Reap {
    pub(super) const fn new(silent: usize, timeout: Nanos, spread: Nanos, grace: Nanos) -> Self {
        let ramp = Ramp::new(Nanos::MAX, 0, silent as u64);
        Self { silent, timeout, spread, grace, ramp, waiting: 0, last_sent_at: 0 }
    }

    /// It has said its last.
    const fn is_silent(&self, index: usize) -> bool {
        (index as u64) < self.ramp.taken()
    }
}

impl Load for Reap {
    fn begin(&mut self, _crowd: &mut Crowd, at: Nanos) {
        self.ramp = Ramp::new(at, self.spread, self.silent as u64);
        self.last_sent_at = at;
    }

    fn turn(&mut self, crowd: &mut Crowd, now: Nanos) -> Turn {
        for _ in 0..PER_TURN_MAX {
            let Some(index) = self.ramp.take(now) else { break };
            if crowd.is_open(index) && crowd.send(index) != Written::Gone {
                crowd.mute(index);
                self.waiting += 1;
                self.last_sent_at = crowd.mark(index);
            }
        }
        let patience_ends = self.last_sent_at + self.timeout + self.grace;
        match self.ramp.due() {
            Some(due) if due <= now => Turn::Busy,
            Some(due) => Turn::Until(due),
            None if self.waiting > 0 && now < patience_ends => Turn::Until(patience_ends),
            None => {
                crowd.tally.never = self.waiting;
                Turn::Done
            }
        }
    }

    fn handle(&mut self, crowd: &mut Crowd, happening: Happening) {
        if happening.what != What::Ended {
            return;
        }
        if self.is_silent(happening.index) && self.waiting > 0 {
            self.waiting -= 1;
            let silence = happening.at.saturating_sub(crowd.mark(happening.index));
            crowd.tally.late.push(silence as i64 - self.timeout as i64);
        } else {
            crowd.tally.dropped += 1;
        }
    }

    fn beats(&self, index: usize) -> bool {
        !self.is_silent(index)
    }
}
