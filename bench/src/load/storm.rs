//! `storm`: everybody's connection breaks, and everybody connects anew at once.

use super::{Load, Opener, Turn};
use crate::crowd::{Crowd, Happening, What};
use crate::stage::Nanos;

/// After the last one is in: who is turned away yet shows it by then.
const SETTLING: Nanos = 500_000_000;

pub(super) struct Storm {
    within: Nanos,
    began_at: Nanos,
    opener: Option<Opener>,
    settled_at: Option<Nanos>,
}

impl Storm {
    pub(super) const fn new(within: Nanos) -> Self {
        Self { within, began_at: 0, opener: None, settled_at: None }
    }
}

impl Load for Storm {
    fn begin(&mut self, crowd: &mut Crowd, at: Nanos) {
        for index in 0..crowd.size() {
            crowd.close(index);
        }
        crowd.close_some(usize::MAX);
        self.began_at = at;
        self.opener = Some(Opener::new(at, 0, crowd.size(), usize::MAX));
    }

    fn turn(&mut self, crowd: &mut Crowd, now: Nanos) -> Turn {
        let Some(opener) = &mut self.opener else { return Turn::Done };
        let limit = self.began_at + self.within;
        let opening = opener.turn(crowd, now);
        if opening != Turn::Done && (now < limit || !opener.has_begun_all()) {
            return opening.and(Turn::Until(limit));
        }
        crowd.tally.never = crowd.connecting_count() as u64;
        let settled = *self.settled_at.get_or_insert(now + SETTLING);
        if now < settled { Turn::Until(settled) } else { Turn::Done }
    }

    fn handle(&mut self, crowd: &mut Crowd, happening: Happening) {
        match happening.what {
            What::Opened => crowd.tally.spans.record(happening.at.saturating_sub(self.began_at)),
            What::Ended => crowd.tally.dropped += 1,
            What::Failed | What::Writable | What::Settled(_) => {}
        }
    }
}
