//! `idle` and `beat`: connections are held for a time; heartbeats are the worker's rounds.

use super::{Load, Turn};
use crate::crowd::{Crowd, Happening, What};
use crate::stage::Nanos;

pub(super) struct Hold {
    span: Nanos,
    ends_at: Nanos,
}

impl Hold {
    pub(super) const fn new(span: Nanos) -> Self {
        Self { span, ends_at: 0 }
    }
}

impl Load for Hold {
    fn begin(&mut self, _crowd: &mut Crowd, at: Nanos) {
        self.ends_at = at + self.span;
    }

    fn turn(&mut self, _crowd: &mut Crowd, now: Nanos) -> Turn {
        if now >= self.ends_at { Turn::Done } else { Turn::Until(self.ends_at) }
    }

    fn handle(&mut self, crowd: &mut Crowd, happening: Happening) {
        if happening.what == What::Ended {
            crowd.tally.dropped += 1;
        }
    }
}
