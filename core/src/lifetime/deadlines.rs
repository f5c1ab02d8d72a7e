//! When a lifetime ends, and by which timer, from the instants that it keeps. Changes nothing.

use super::{Lifetime, Phase, Silence};
use crate::policy::{LifetimePolicy, Policy};
use crate::time::{Instant, Now, OwnInstant};
use crate::timer::Timer;
use std::time::Duration;

impl Lifetime {
    /// The earliest deadline, in real time, and which one it is. `None` once the socket may be closed.
    #[must_use]
    pub fn poll_timeout(
        &self,
        stalled: Duration,
        policy: &Policy,
        silence: Silence,
    ) -> Option<(Instant, Timer)> {
        match self.phase {
            Phase::Open => Some(self.earliest(stalled, policy, silence)),
            Phase::Flushing => Some((self.closing()?.until, Timer::Flush)),
            Phase::Lingering => Some((self.closing()?.until, Timer::Linger)),
            Phase::Closed | Phase::Aborted => None,
        }
    }

    /// The fixed deadline that has passed by `now`, if one has: what has arrived since counts for nothing.
    #[must_use]
    #[inline]
    pub fn passed(&self, now: Now, policy: &Policy) -> Option<Timer> {
        let age = self.age_limit(policy);
        let read = self.read_deadline().map(|deadline| (deadline, Timer::ReadDeadline));
        let (deadline, timer) = read.map_or(age, |read| read.min(age));
        (deadline <= now.instant).then_some(timer)
    }

    /// The planned end, in real time, and its name.
    #[must_use]
    pub fn age_limit(&self, policy: &Policy) -> (Instant, Timer) {
        let timer = match policy.lifetime {
            LifetimePolicy::Short { .. } => Timer::ShortDeadline,
            LifetimePolicy::Long { .. } => Timer::MaxAge,
        };
        (self.opened.after(policy.age_max()), timer)
    }

    /// After the end of input there is nothing left to read in time.
    fn read_deadline(&self) -> Option<Instant> {
        self.exceptions().filter(|exceptions| exceptions.input_ended.is_none())?.read_deadline
    }

    /// When the peer's silence leads to something, and to what.
    fn silence_limit(&self, policy: &Policy, silence: Silence) -> Option<(OwnInstant, Timer)> {
        if !self.spoken {
            return Some((self.heard.after(policy.first_message), Timer::FirstMessage));
        }
        if silence == Silence::Ours {
            return Some((self.heard.after(policy.sink_stall), Timer::SinkStall));
        }
        let LifetimePolicy::Long { heartbeat_timeout, .. } = policy.lifetime else { return None };
        Some(match silence {
            Silence::Ends | Silence::Ours => (self.heard.after(heartbeat_timeout), Timer::Heartbeat),
            Silence::Asks { timeout, answer, asked: None } => {
                (self.heard.after(timeout.saturating_sub(answer)), Timer::Question)
            }
            // However late the question went out: the peer has the full time for its answer.
            Silence::Asks { timeout, answer, asked: Some(asked) } => {
                (self.heard.after(timeout).max(asked.after(answer)), Timer::Heartbeat)
            }
        })
    }

    fn earliest(&self, stalled: Duration, policy: &Policy, silence: Silence) -> (Instant, Timer) {
        let real = |own: OwnInstant| own.real(stalled);
        let mut earliest = self.age_limit(policy);
        if !self.is_paused()
            && !self.input_ended()
            && let Some((own, timer)) = self.silence_limit(policy, silence)
        {
            earliest = earliest.min((real(own), timer));
        }
        let Some(exceptions) = self.exceptions() else { return earliest };
        let paused = exceptions.is_paused() || exceptions.input_ended.is_some();
        let rate = exceptions.rate_until.filter(|_| !paused);
        let write_deadline = exceptions.write_deadline.filter(|_| exceptions.output_moved.is_some());
        let sink_paused = exceptions.sink_paused.as_ref();
        let others = [
            (self.read_deadline(), Timer::ReadDeadline),
            (write_deadline, Timer::WriteDeadline),
            (sink_paused.map(|pause| real(pause.since.after(policy.sink_stall))), Timer::SinkStall),
            (exceptions.output_paused.map(|since| real(since.after(policy.sink_stall))), Timer::OutputRest),
            (exceptions.input_ended.map(|since| real(since.after(policy.half_close))), Timer::HalfClose),
            (exceptions.output_moved.map(|since| real(since.after(policy.write_stall))), Timer::WriteStall),
            (rate.map(real), Timer::MinimumRate),
        ];
        others.into_iter().filter_map(|(deadline, timer)| Some((deadline?, timer))).fold(earliest, Ord::min)
    }
}
