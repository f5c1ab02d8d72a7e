//! `short`: clients connect, and keep sending until the server ends them at its fixed deadline.

use super::opener::wait_for_ends;
use super::{Load, Opener, Turn};
use crate::crowd::{Crowd, Happening, What};
use crate::stage::Nanos;

pub(super) struct Short {
    deadline: Nanos,
    spread: Nanos,
    grace: Nanos,
    opener: Option<Opener>,
    last_opened_at: Nanos,
}

impl Short {
    pub(super) const fn new(deadline: Nanos, spread: Nanos, grace: Nanos) -> Self {
        Self { deadline, spread, grace, opener: None, last_opened_at: 0 }
    }
}

impl Load for Short {
    fn begin(&mut self, crowd: &mut Crowd, at: Nanos) {
        // A mark is when the connection was begun, which is a little before the server accepts it.
        crowd.keep_marks();
        self.last_opened_at = at;
        self.opener = Some(Opener::new(at, self.spread, crowd.size(), crowd.size()));
    }

    fn turn(&mut self, crowd: &mut Crowd, now: Nanos) -> Turn {
        let Some(opener) = &mut self.opener else { return Turn::Done };
        let opening = opener.turn(crowd, now);
        if opening != Turn::Done {
            return opening;
        }
        wait_for_ends(crowd, now, self.last_opened_at + self.deadline + self.grace)
    }

    fn handle(&mut self, crowd: &mut Crowd, happening: Happening) {
        match happening.what {
            What::Opened => self.last_opened_at = happening.at,
            What::Ended => {
                let life = happening.at.saturating_sub(crowd.mark(happening.index));
                crowd.tally.late.push(life as i64 - self.deadline as i64);
            }
            What::Failed | What::Writable | What::Settled(_) => {}
        }
    }
}
