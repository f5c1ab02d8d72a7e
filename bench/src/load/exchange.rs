//! `exchange`: messages go out, receipts come back, and are confirmed as the protocol asks (PROTOCOL.md section 7). Either
//! each session keeps so many in flight, or messages are due at a pace that doesn't wait for receipts; then their time counts
//! from when they were due, so that a server that stalls can't hide how many it kept waiting.

use super::{Load, Turn};
use crate::crowd::{Crowd, Happening, What, Written};
use crate::schedule::Rounds;
use crate::stage::Nanos;
use pulsegate_core::frame::Frame;
use pulsegate_core::pulse::{CONFIRM_MESSAGES, CONFIRM_WITHIN};
use std::collections::VecDeque;
use std::time::Duration;

/// Messages that become due in one turn.
const PER_TURN_MAX: usize = 256;
/// Of one session in one write.
const PER_WRITE_MAX: u64 = 256;
/// For receipts that are still on their way when the time is over.
const PATIENCE: Nanos = 5_000_000_000;

/// Messages that went out together.
struct Run {
    count: u64,
    at: Nanos,
}

/// One session's cursors.
#[derive(Default)]
struct Session {
    sent: u64,
    settled: u64,
    confirmed: u64,
    /// When the receipts that are not confirmed have to be; 0: there are none.
    confirm_by: Nanos,
    /// With a pace: how many messages were due so far.
    due: u64,
    /// Without one: what is in flight, oldest first.
    runs: VecDeque<Run>,
}

pub(super) struct Exchange {
    warm: Nanos,
    span: Nanos,
    ends_at: Nanos,
    payload: Vec<u8>,
    window: u64,
    /// Counted from the beginning of the round until it begins.
    pace: Option<Rounds>,
    sessions: Vec<Session>,
    in_flight: u64,
    /// Confirmations that become due, in order; some have gone out before that.
    confirmations: VecDeque<(Nanos, usize)>,
    frames: Vec<u8>,
}

impl Exchange {
    /// Counts for `span`, after it has run for `warm`.
    pub(super) const fn new(
        warm: Nanos,
        span: Nanos,
        payload: Vec<u8>,
        window: u64,
        pace: Option<Rounds>,
    ) -> Self {
        Self {
            warm,
            span,
            ends_at: 0,
            payload,
            window,
            pace,
            sessions: Vec::new(),
            in_flight: 0,
            confirmations: VecDeque::new(),
            frames: Vec::new(),
        }
    }

    /// Sends what the window has room for, and what is to be confirmed at once before it.
    fn fill(&mut self, crowd: &mut Crowd, index: usize, now: Nanos) {
        let session = &mut self.sessions[index];
        let mut count = self.window.saturating_sub(session.sent - session.settled).min(PER_WRITE_MAX);
        if self.pace.is_some() {
            count = count.min(session.due - session.sent);
        }
        if now >= self.ends_at {
            count = 0;
        }
        self.frames.clear();
        if session.settled - session.confirmed >= CONFIRM_MESSAGES {
            session.confirm(&mut self.frames);
        }
        for number in session.sent + 1..=session.sent + count {
            Frame::Message { number, payload: &self.payload }.encode(&mut self.frames);
        }
        if self.frames.is_empty() || crowd.push(index, &self.frames) == Written::Gone || count == 0 {
            return;
        }
        session.sent += count;
        self.in_flight += count;
        crowd.tally.sent += count;
        if self.pace.is_none() {
            session.runs.push_back(Run { count, at: crowd.mark(index) });
        }
    }

    fn handle_settled(&mut self, crowd: &mut Crowd, index: usize, at: Nanos, settled: u64) {
        let session = &mut self.sessions[index];
        if settled > session.sent {
            crowd.tally.faults += 1;
            return;
        }
        let count = settled.saturating_sub(session.settled);
        if count == 0 {
            return;
        }
        match &self.pace {
            None => session.record_runs(crowd, at, count),
            Some(pace) => {
                for round in session.settled..settled {
                    let due = pace.due_in(index, round).unwrap_or_default();
                    crowd.tally.spans.record(at.saturating_sub(due));
                }
            }
        }
        session.settled = settled;
        self.in_flight -= count;
        if at < self.ends_at {
            crowd.tally.settled += count;
        }
        if session.confirm_by == 0 {
            session.confirm_by = at + CONFIRM_WITHIN.as_nanos() as Nanos;
            self.confirmations.push_back((session.confirm_by, index));
        }
        self.fill(crowd, index, at);
    }

    fn confirm_due(&mut self, crowd: &mut Crowd, now: Nanos) {
        while let Some((due, index)) = self.confirmations.front().copied().filter(|(due, _)| *due <= now) {
            self.confirmations.pop_front();
            if self.sessions[index].confirm_by == due {
                self.confirm(crowd, index);
            }
        }
    }

    fn confirm(&mut self, crowd: &mut Crowd, index: usize) {
        self.frames.clear();
        self.sessions[index].confirm(&mut self.frames);
        crowd.push(index, &self.frames);
    }

    /// Everything that is due goes to its sessions. Returns when the next is.
    fn send_due(&mut self, crowd: &mut Crowd, now: Nanos) -> Option<Nanos> {
        for _ in 0..PER_TURN_MAX {
            let Some((index, due)) = self.pace.as_mut()?.take(now) else { break };
            if crowd.is_open(index) {
                crowd.tally.lag.record(now - due);
                self.sessions[index].due += 1;
                self.fill(crowd, index, now);
            }
        }
        self.pace.as_ref()?.due()
    }

    /// Nothing is sent any more; receipts are waited for.
    fn end(&mut self, crowd: &mut Crowd, now: Nanos) -> Turn {
        let patience_ends = self.ends_at + PATIENCE;
        if self.in_flight > 0 && now < patience_ends {
            self.confirm_due(crowd, now);
            let due = self.confirmations.front().map_or(patience_ends, |(due, _)| *due);
            return Turn::Until(due.min(patience_ends));
        }
        for index in 0..self.sessions.len() {
            if crowd.is_open(index) && self.sessions[index].settled > self.sessions[index].confirmed {
                self.confirm(crowd, index);
            }
        }
        crowd.tally.sending = Duration::from_nanos(self.span);
        crowd.tally.never = self.in_flight;
        if self.pace.is_some() {
            crowd.tally.unsent = self.sessions.iter().map(|session| session.due - session.sent).sum();
        }
        Turn::Done
    }
}

impl Session {
    fn confirm(&mut self, frames: &mut Vec<u8>) {
        self.confirmed = self.settled;
        self.confirm_by = 0;
        Frame::Confirm { floor: self.settled }.encode(frames);
    }

    /// The oldest `count` in flight are settled.
    fn record_runs(&mut self, crowd: &mut Crowd, at: Nanos, count: u64) {
        let mut left = count;
        while left > 0 {
            let Some(run) = self.runs.front_mut() else { return };
            let part = run.count.min(left);
            crowd.tally.spans.record_many(at.saturating_sub(run.at), part);
            run.count -= part;
            left -= part;
            if run.count == 0 {
                self.runs.pop_front();
            }
        }
    }
}

impl Load for Exchange {
    fn begin(&mut self, crowd: &mut Crowd, at: Nanos) {
        self.ends_at = at + self.warm + self.span;
        self.sessions = std::iter::repeat_with(Session::default).take(crowd.size()).collect();
        // What doesn't fit isn't sent at all.
        self.window = crowd.told().map_or(0, |told| told.messages(self.payload.len()).min(self.window));
        if let Some(pace) = &mut self.pace {
            *pace = pace.later(at);
            return;
        }
        for index in 0..crowd.size() {
            if crowd.is_open(index) {
                self.fill(crowd, index, at);
            }
        }
    }

    fn turn(&mut self, crowd: &mut Crowd, now: Nanos) -> Turn {
        if now >= self.ends_at {
            return self.end(crowd, now);
        }
        let next = self.send_due(crowd, now);
        self.confirm_due(crowd, now);
        let confirmation = self.confirmations.front().map(|(due, _)| *due);
        let due = next.into_iter().chain(confirmation).fold(self.ends_at, Nanos::min);
        if due <= now { Turn::Busy } else { Turn::Until(due) }
    }

    fn handle(&mut self, crowd: &mut Crowd, happening: Happening) {
        let index = happening.index;
        match happening.what {
            What::Settled(settled) => self.handle_settled(crowd, index, happening.at, settled),
            What::Ended => {
                let session = &self.sessions[index];
                let in_flight = session.sent - session.settled;
                self.in_flight -= in_flight;
                crowd.tally.unknown += in_flight;
                crowd.tally.dropped += 1;
                self.sessions[index] = Session::default();
            }
            What::Writable | What::Opened | What::Failed => {}
        }
    }

    /// Messages prove as much as heartbeats.
    fn beats(&self, index: usize) -> bool {
        self.sessions.get(index).is_none_or(|session| session.sent == session.settled)
    }
}
