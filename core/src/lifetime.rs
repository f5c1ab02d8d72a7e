//! How long one connection may live, and how it ends: instants and the rules over them. Knows no bytes.
//!
//! Fixed deadlines (short, maximum age, those set by the application) stand on real time. What counts the
//! peer's silence stands on the shard's own time and rests while we don't read.
//!
//! Modules, each using only those after it: `deadlines`, `exceptions`.

mod deadlines;
mod exceptions;

use crate::close::CloseReason;
use crate::policy::{MinimumRate, Policy};
use crate::time::{Instant, Now, OwnInstant};
use crate::timer::Timer;
use exceptions::{Closing, Exceptions, Extra, SinkPause};
use std::time::Duration;

/// Where a connection stands on its one way from accept to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Open.
    Open,
    /// It has ended, and the last bytes are being sent.
    Flushing,
    /// Everything is sent and our side is shut; what still arrives is discarded until the peer closes too.
    Lingering,
    /// The socket may be closed.
    Closed,
    /// The socket is to be closed, and what is unsent discarded.
    Aborted,
}

/// Why reading is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The sink takes nothing.
    Sink,
    /// The peer has used up its share of what is kept. Its wait is bounded like a wait for the sink, but continues even
    /// if the sink makes progress.
    Share,
    /// The peer doesn't take the replies to its messages.
    Output,
}

/// What a connection's silence leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// To its end, after the listener's heartbeat timeout.
    Ends,
    /// To nothing: the peer waits for us, for no longer than a sink may take.
    Ours,
    /// To a question, and to the end if that is not answered.
    Asks {
        /// The longest silence.
        timeout: Duration,
        /// How long before that the peer is asked, and how long it has to answer.
        answer: Duration,
        /// When it was asked.
        asked: Option<OwnInstant>,
    },
}

/// Which direction a deadline set from outside is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Receiving.
    Read,
    /// Sending.
    Write,
    /// Both.
    Both,
}

/// The lifetime of one connection.
#[derive(Debug)]
pub struct Lifetime {
    /// Accept, in real time.
    opened: Instant,
    /// Accept until the first message is complete, then the last heartbeat.
    heard: OwnInstant,
    /// State that most connections never have.
    extra: Option<Box<Extra>>,
    spoken: bool,
    earlier: bool,
    finishing: bool,
    phase: Phase,
    reason: Option<CloseReason>,
    timer: Option<Timer>,
}

impl Lifetime {
    /// A connection accepted at `now`.
    #[must_use]
    pub fn new(now: Now, policy: &Policy) -> Self {
        let mut lifetime = Self {
            opened: now.instant,
            heard: now.own(),
            extra: None,
            spoken: false,
            earlier: false,
            finishing: false,
            phase: Phase::Open,
            reason: None,
            timer: None,
        };
        if let Some(rate) = policy.minimum_rate {
            lifetime.change(|exceptions| exceptions.rate_until = Some(now.own().after(rate.grace)));
        }
        lifetime
    }

    /// When it was accepted, in real time.
    #[must_use]
    pub const fn opened(&self) -> Instant {
        self.opened
    }

    /// The phase it is in.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Why it ended, once it has.
    #[must_use]
    pub const fn reason(&self) -> Option<CloseReason> {
        self.reason
    }

    /// Which deadline ended it, if one did.
    #[must_use]
    pub const fn timer(&self) -> Option<Timer> {
        self.timer
    }

    /// How long the peer has been silent: since its last heartbeat, or since accept while its first message is not
    /// complete. Time in which the owner didn't run or didn't read doesn't count, as for the heartbeat timeout.
    #[must_use]
    pub const fn silent_for(&self, own: OwnInstant) -> Duration {
        own.since(self.heard)
    }

    /// Accept until the first message is complete, then the last heartbeat.
    #[must_use]
    pub const fn heard(&self) -> OwnInstant {
        self.heard
    }

    /// Whether the first message is complete.
    #[must_use]
    pub const fn has_spoken(&self) -> bool {
        self.spoken
    }

    /// Whether reading is stopped.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.exceptions().is_some_and(|exceptions| exceptions.is_paused())
    }

    /// Whether the peer has ended its side.
    #[must_use]
    pub fn input_ended(&self) -> bool {
        self.exceptions().is_some_and(|exceptions| exceptions.input_ended.is_some())
    }

    /// Whether, since the last call, a change may have moved the next timeout earlier, so that the owner
    /// has to schedule it again. A heartbeat never does that: it only moves the timeout later.
    pub fn take_earlier(&mut self) -> bool {
        std::mem::take(&mut self.earlier)
    }

    /// The next timeout may have moved earlier.
    pub const fn mark_earlier(&mut self) {
        self.earlier = true;
    }

    /// The first message is complete: from now on heartbeats count.
    #[inline]
    pub fn handle_first_message(&mut self, now: Now) {
        if !self.spoken {
            self.spoken = true;
            self.heard = now.own();
            self.earlier = true;
        }
    }

    /// The peer has proved itself alive. Before the first message is complete this moves nothing.
    #[inline]
    pub fn handle_heartbeat(&mut self, now: Now) {
        if self.spoken {
            self.heard = now.own();
        }
    }

    /// A silence that we caused ends: silence counts from now on.
    pub const fn listen_anew(&mut self, now: OwnInstant) {
        self.heard = now;
        self.earlier = true;
    }

    /// `bytes` more have arrived.
    pub fn handle_received(&mut self, now: Now, rate: MinimumRate, bytes: usize) {
        let Some(exceptions) = self.exceptions_mut() else { return };
        if let Some(until) = exceptions.rate_until {
            let full = now.own().after(rate.grace);
            exceptions.rate_until = Some(until.after(earned(rate, bytes)).min(full));
        }
    }

    /// The peer has ended its side: from now on only what is left to send keeps the connection open.
    pub fn handle_input_end(&mut self, now: Now) {
        if self.phase != Phase::Open {
            return;
        }
        let input_ended = Some(now.own());
        match self.exceptions_mut() {
            Some(exceptions) => exceptions.input_ended = exceptions.input_ended.or(input_ended),
            // Nearly every peer does this once: cheaper than `change`, which looks whether anything is left.
            None => {
                let exceptions = Exceptions { input_ended, ..Exceptions::default() };
                self.extra = Some(Box::new(Extra::Open(exceptions)));
            }
        }
        self.earlier = true;
    }

    /// Nothing more will be sent than what waits already.
    pub const fn finish(&mut self) {
        self.finishing = true;
    }

    /// Whether the connection ends as soon as nothing waits to be sent.
    #[must_use]
    pub const fn is_finishing(&self) -> bool {
        self.finishing
    }

    /// Output waits (`true`), or none does (`false`). Waiting output starts the clock of the write stall.
    pub fn handle_output(&mut self, now: Now, waits: bool) {
        let had = self.exceptions().is_some_and(|exceptions| exceptions.output_moved.is_some());
        if had != waits {
            let own = now.own();
            self.change(|exceptions| exceptions.output_moved = waits.then_some(own));
        }
    }

    /// Some of the waiting output has left.
    pub fn handle_progress(&mut self, now: Now) {
        if let Some(moved) = self.exceptions_mut().and_then(|exceptions| exceptions.output_moved.as_mut()) {
            *moved = now.own();
        }
    }

    /// We stop reading.
    pub fn pause(&mut self, now: Now, why: Pause) {
        let own = now.own();
        self.change(|exceptions| match why {
            Pause::Sink | Pause::Share => {
                let for_share = why == Pause::Share;
                exceptions.sink_paused.get_or_insert(SinkPause { since: own, assured: own, for_share });
            }
            Pause::Output => {
                exceptions.output_paused.get_or_insert(own);
            }
        });
    }

    /// What keeps us from reading made progress at this time: the wait for it counts from then. With `waits` the peer
    /// waits for it too.
    pub(crate) fn handle_sink_progress(&mut self, own: OwnInstant, waits: bool) {
        let pause = self.exceptions_mut().and_then(|exceptions| exceptions.sink_paused.as_mut());
        if let Some(pause) = pause.filter(|pause| !pause.for_share) {
            pause.since = own.max(pause.since);
        }
        if waits {
            self.heard = own.max(self.heard);
        }
    }

    /// The cause of a pause is gone. When the last one is, reading continues, and the timers that were paused start
    /// again in full.
    pub fn resume(&mut self, now: Now, policy: &Policy, why: Pause) {
        if !self.is_paused() {
            return;
        }
        let own = now.own();
        self.change(|exceptions| {
            match why {
                Pause::Sink | Pause::Share => exceptions.sink_paused = None,
                Pause::Output => exceptions.output_paused = None,
            }
            if !exceptions.is_paused() && exceptions.rate_until.is_some() {
                exceptions.rate_until = policy.minimum_rate.map(|rate| own.after(rate.grace));
            }
        });
        if !self.is_paused() {
            self.heard = own;
        }
    }

    /// The peer has been sent a beat while we don't read.
    pub fn handle_assured(&mut self, now: Now) {
        if let Some(pause) = self.exceptions_mut().and_then(|exceptions| exceptions.sink_paused.as_mut()) {
            pause.assured = now.own();
            self.earlier = true;
        }
    }

    /// While reading is paused because of the sink: when the peer is due a beat, in real time.
    #[must_use]
    pub fn assurance(&self, stalled: Duration, interval: Duration) -> Option<Instant> {
        let pause = self.exceptions()?.sink_paused.as_ref()?;
        Some(pause.since.max(pause.assured).after(interval).real(stalled))
    }

    /// Sets (`Some`) or clears (`None`) a deadline, in the semantics of Go's `SetDeadline`,
    /// `SetReadDeadline` and `SetWriteDeadline`: absolute, for pending I/O too; an instant in the past
    /// has passed at once. It tightens what the policy allows and never loosens it.
    pub fn set_deadline(&mut self, direction: Direction, deadline: Option<Instant>) {
        self.change(|exceptions| {
            if direction != Direction::Write {
                exceptions.read_deadline = deadline;
            }
            if direction != Direction::Read {
                exceptions.write_deadline = deadline;
            }
        });
    }

    /// Whether the deadline for writing has passed, so that nothing may be sent any more.
    #[must_use]
    pub fn write_deadline_passed(&self, now: Now) -> bool {
        self.exceptions()
            .and_then(|exceptions| exceptions.write_deadline)
            .is_some_and(|deadline| deadline <= now.instant)
    }

    /// Ends it, by this timer if there is one: sending what is left may take until `until`. Only the first reason
    /// counts.
    pub fn end(&mut self, reason: CloseReason, timer: Option<Timer>, until: Instant) {
        if self.phase == Phase::Open {
            (self.reason, self.timer) = (Some(reason), timer);
            self.enter(Phase::Flushing, Some(until));
        }
    }

    /// Moves on to a later phase after the end.
    pub fn enter(&mut self, phase: Phase, until: Option<Instant>) {
        if phase > self.phase {
            self.phase = phase;
            let ended = until.map(|until| Extra::Ended(Closing { until, discarded: 0 }));
            // Most have a box by now, since their peers have ended their side: it is used again.
            match (ended, self.extra.as_deref_mut()) {
                (Some(ended), Some(extra)) => *extra = ended,
                (Some(ended), None) => self.extra = Some(Box::new(ended)),
                (None, _) => self.extra = None,
            }
            self.earlier = true;
        }
    }

    /// Counts bytes discarded after the end, and returns their total.
    pub fn discard(&mut self, bytes: usize) -> usize {
        let Some(Extra::Ended(closing)) = self.extra.as_deref_mut() else { return 0 };
        closing.discarded = closing.discarded.saturating_add(bytes);
        closing.discarded
    }

    fn exceptions(&self) -> Option<&Exceptions> {
        match self.extra.as_deref()? {
            Extra::Open(exceptions) => Some(exceptions),
            Extra::Ended(_) => None,
        }
    }

    fn exceptions_mut(&mut self) -> Option<&mut Exceptions> {
        match self.extra.as_deref_mut()? {
            Extra::Open(exceptions) => Some(exceptions),
            Extra::Ended(_) => None,
        }
    }

    fn closing(&self) -> Option<&Closing> {
        match self.extra.as_deref()? {
            Extra::Open(_) => None,
            Extra::Ended(closing) => Some(closing),
        }
    }

    /// Changes the exceptions, and frees their memory when there are none. After the end there are none.
    fn change(&mut self, change: impl FnOnce(&mut Exceptions)) {
        if self.phase != Phase::Open {
            return;
        }
        self.extra.get_or_insert_with(|| Box::new(Extra::Open(Exceptions::default())));
        if let Some(exceptions) = self.exceptions_mut() {
            change(exceptions);
            if *exceptions == Exceptions::default() {
                self.extra = None;
            }
        }
        self.earlier = true;
    }
}

/// The time that this many bytes earn.
fn earned(rate: MinimumRate, bytes: usize) -> Duration {
    let nanos = bytes as u128 * 1_000_000_000 / u128::from(rate.bytes_per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
