//! `churn`: each client connects, says one thing, closes its side, waits for the server to close, and comes again.

use super::{Load, Turn};
use crate::crowd::{Crowd, Happening, What};
use crate::schedule::Ramp;
use crate::stage::Nanos;

/// Connections begun in one turn.
const PER_TURN_MAX: usize = 32;
/// After a connection that couldn't even be begun.
const REST: Nanos = 1_000_000;
/// For the last ones to be closed by the server.
const PATIENCE: Nanos = 5_000_000_000;

pub(super) struct Churn {
    span: Nanos,
    /// How many in all, if the pace is given.
    count: Option<u64>,
    ramp: Option<Ramp>,
    ends_at: Nanos,
    free: Vec<usize>,
    rests_until: Nanos,
}

impl Churn {
    pub(super) const fn new(span: Nanos, count: Option<u64>) -> Self {
        Self { span, count, ramp: None, ends_at: 0, free: Vec::new(), rests_until: 0 }
    }

    /// Whether another one may be begun.
    fn may_begin(&mut self, now: Nanos) -> bool {
        !self.free.is_empty() && self.ramp.as_mut().is_none_or(|ramp| ramp.take(now).is_some())
    }

    fn begin_some(&mut self, crowd: &mut Crowd, now: Nanos) -> Turn {
        if now < self.rests_until {
            return Turn::Until(self.rests_until);
        }
        for _ in 0..PER_TURN_MAX {
            if !self.may_begin(now) {
                let next = self.ramp.as_ref().and_then(Ramp::due).filter(|_| !self.free.is_empty());
                return Turn::Until(next.unwrap_or(self.ends_at).min(self.ends_at));
            }
            let Some(index) = self.free.pop() else { break };
            if !crowd.connect(index) {
                self.free.push(index);
                self.rests_until = now + REST;
                return Turn::Until(self.rests_until);
            }
        }
        Turn::Busy
    }
}

impl Load for Churn {
    fn begin(&mut self, crowd: &mut Crowd, at: Nanos) {
        // A mark is when the connection was begun: a span is its whole life.
        crowd.keep_marks();
        self.ends_at = at + self.span;
        self.ramp = self.count.map(|count| Ramp::new(at, self.span, count));
        self.free = (0..crowd.size()).rev().collect();
    }

    fn turn(&mut self, crowd: &mut Crowd, now: Nanos) -> Turn {
        if now < self.ends_at {
            return self.begin_some(crowd, now);
        }
        let patience_ends = self.ends_at + PATIENCE;
        if self.free.len() < crowd.size() && now < patience_ends {
            return Turn::Until(patience_ends);
        }
        crowd.tally.never = (crowd.size() - self.free.len()) as u64;
        Turn::Done
    }

    fn handle(&mut self, crowd: &mut Crowd, happening: Happening) {
        match happening.what {
            What::Opened => crowd.shut_down(happening.index),
            What::Failed => self.free.push(happening.index),
            What::Ended => {
                crowd.tally.spans.record(happening.at.saturating_sub(crowd.mark(happening.index)));
                self.free.push(happening.index);
            }
            What::Writable | What::Settled(_) => {}
        }
    }
}
