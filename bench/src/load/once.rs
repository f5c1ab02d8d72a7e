//! `reap --once`: clients connect, send once as soon as they are connected, and fall silent: what a server does between
//! accepting a client and reading it shows in how late it ends it.

use super::opener::wait_for_ends;
use super::{Load, Opener, Turn};
use crate::crowd::{Crowd, Happening, What};
use crate::stage::Nanos;

pub(super) struct Once {
    timeout: Nanos,
    spread: Nanos,
    grace: Nanos,
    opener: Option<Opener>,
    last_sent_at: Nanos,
}

impl Once {
    pub(super) const fn new(timeout: Nanos, spread: Nanos, grace: Nanos) -> Self {
        Self { timeout, spread, grace, opener: None, last_sent_at: 0 }
    }
}

impl Load for Once {
    fn begin(&mut self, crowd: &mut Crowd, at: Nanos) {
        self.last_sent_at = at;
        self.opener = Some(Opener::new(at, self.spread, crowd.size(), crowd.size()));
    }

    fn turn(&mut self, crowd: &mut Crowd, now: Nanos) -> Turn {
        let Some(opener) = &mut self.opener else { return Turn::Done };
        let opening = opener.turn(crowd, now);
        if opening != Turn::Done {
            return opening;
        }
        wait_for_ends(crowd, now, self.last_sent_at + self.timeout + self.grace)
    }

    fn handle(&mut self, crowd: &mut Crowd, happening: Happening) {
        let sent_at = crowd.mark(happening.index);
        match happening.what {
            // It has sent already: that is how it opens.
            What::Opened => self.last_sent_at = sent_at,
            What::Ended => {
                let silence = happening.at.saturating_sub(sent_at);
                crowd.tally.late.push(silence as i64 - self.timeout as i64);
            }
            What::Failed | What::Writable | What::Settled(_) => {}
        }
    }
}
