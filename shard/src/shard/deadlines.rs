//! Deadlines: fixed ones strike at once, before anything is read; silence is judged when everything that came before its
//! deadline has been read.

use crate::shard::Shard;
use crate::shard::entry::Input;
use crate::shard::io::{Io, Reach};
use crate::shard::served::Served;
use pulsegate_core::close::CloseReason;
use pulsegate_core::time::{Instant, Now};
use pulsegate_core::timer::Before;

/// How many connections are ended, or put on trial, in one turn.
const VERDICTS_PER_TURN: usize = 256;
/// How many connections the wheel hands out in one turn; most are only scheduled again.
const LOOKS_PER_TURN: usize = 4096;

impl<I: Io> Shard<I> {
    /// Ends those whose fixed deadline has come, and notes the suspects. What came until `horizon` is known, or among
    /// what became ready in this turn.
    pub(crate) fn expire(&mut self, horizon: Instant) {
        self.time.horizon = horizon;
        if !self.outlets.ledgers.is_empty() {
            self.time.wall_ms = self.io.wall_ms();
        }
        let now = self.now();
        self.agenda.begin_strikes();
        for _ in 0..LOOKS_PER_TURN {
            if self.agenda.struck() == VERDICTS_PER_TURN {
                break;
            }
            let Some(id) = self.connections.next_due(now.instant) else { break };
            self.serve(id, |served| served.expire(now));
        }
        self.agenda.end_strikes();
    }

    /// Ends the suspects that a last try doesn't clear.
    pub(crate) fn judge(&mut self) {
        while let Some(id) = self.agenda.suspects.pop_front() {
            self.serve(id, |served| served.judge());
        }
    }
}

impl<I: Io> Served<'_, I> {
    fn expire(&mut self, now: Now) {
        match self.due(now) {
            None => self.reschedule(),
            Some(Before::Nothing) => {
                self.agenda.note_strike();
                self.time_out(now);
            }
            Some(Before::Reading | Before::Writing | Before::Hearing) => {
                self.agenda.note_strike();
                self.agenda.suspects.push_back(self.id);
            }
        }
    }

    fn judge(&mut self) {
        let now = self.now();
        match self.due(now) {
            None => {}
            Some(Before::Nothing) => self.time_out(now),
            // The mailbox has been emptied since it became a suspect.
            Some(Before::Hearing) => {
                self.note_progress(now);
                if self.due(now).is_some() {
                    self.time_out(now);
                }
            }
            Some(Before::Writing) => {
                self.reconcile(now);
                self.end_if_due();
            }
            Some(Before::Reading) if self.is_heard_out() => self.time_out(now),
            Some(Before::Reading) if self.is_silent_and_would_be_held() => self.time_out(now),
            Some(Before::Reading) => {
                self.read(Reach::End);
                self.end_if_due();
            }
        }
        self.reschedule();
    }

    fn end_if_due(&mut self) {
        let now = self.now();
        // If it had more to read than its share of a turn, the verdict waits.
        if self.entry.marks.input != Input::Listed && self.due(now).is_some() {
            self.time_out(now);
        }
    }

    fn time_out(&mut self, now: Now) {
        if !self.end_turned_away(now) {
            self.change(now, |connection, policy, output| connection.handle_timeout(now, policy, output));
        }
    }

    /// All that it had sent by its deadline has been read, so that another read would find nothing.
    fn is_heard_out(&self) -> bool {
        let horizon = self.time.horizon;
        self.entry.marks.is_read_dry() && self.deadline().is_some_and(|deadline| deadline <= horizon)
    }

    /// Nothing may be read because the sink is full, or its share is used up, but there is nothing to be read either.
    fn is_silent_and_would_be_held(&mut self) -> bool {
        let may_not_be_read = self.share() == 0 || self.obstacle() == Some(CloseReason::SinkStalled);
        may_not_be_read && !self.has_unread()
    }
}
