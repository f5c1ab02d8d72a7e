//! One connection in virtual time: what it says is recorded, and what must hold after every call is checked
//! after every call.

use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::{Connection, Event, NotSent, Output, Totals, Written};
use pulsegate_core::lifetime::{Direction, Pause, Phase};
use pulsegate_core::policy::{Framing, Heartbeat, LifetimePolicy, Policy};
use pulsegate_core::time::{Instant, Now};
use pulsegate_core::timer::{Before, Timer};
use std::time::Duration;

/// When connections are accepted: not at the clock's origin, so that no rule works by accident of zero.
pub(crate) const START: Instant = Instant::from_nanos(1_000_000_000_123);
pub(crate) const NANO: Duration = Duration::from_nanos(1);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A long lifetime in which every time is so long that a test meets only those it sets itself.
pub(crate) fn patient() -> Policy {
    let hour = s(3_600);
    Policy { first_message: hour, ..long(hour, s(24 * 3_600)) }
}

pub(crate) fn long(heartbeat_timeout: Duration, max_age: Duration) -> Policy {
    Policy { lifetime: LifetimePolicy::Long { heartbeat_timeout, max_age }, ..Policy::default() }
}

pub(crate) fn short(deadline: Duration) -> Policy {
    Policy { lifetime: LifetimePolicy::Short { deadline }, first_message: deadline, ..Policy::default() }
}

/// The policy with lines as messages and `PING` as the only heartbeat.
pub(crate) fn with_ping(policy: Policy) -> Policy {
    Policy { framing: Framing::Lines, heartbeat: Heartbeat::Line(b"PING"[..].into()), ..policy }
}

/// Something that happens to a connection, for tables of such.
pub(crate) type Act = fn(&mut Driver);

/// An event, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Message(u64, Vec<u8>),
    InputEnded,
    Closed(CloseReason),
}

#[derive(Debug, Default)]
struct Recorder {
    transmit: Vec<u8>,
    /// What the kernel did not take yet.
    waiting: usize,
    events: Vec<Seen>,
}

impl Output for Recorder {
    fn transmit(&mut self) -> &mut Vec<u8> {
        &mut self.transmit
    }

    fn waiting(&self) -> usize {
        self.waiting
    }

    fn handle_event(&mut self, event: Event<'_>) {
        assert!(!matches!(self.events.last(), Some(Seen::Closed(_))), "{event:?} after the end");
        self.events.push(match event {
            Event::Message { number, payload } => Seen::Message(number, payload.to_vec()),
            Event::InputEnded => Seen::InputEnded,
            Event::Closed(reason) => Seen::Closed(reason),
            Event::Hello(_)
            | Event::TokenUsed
            | Event::Settled(_)
            | Event::Refused { .. }
            | Event::Confirmed(_)
            | Event::Room { .. }
            | Event::Detached { .. } => panic!("{event:?} on a raw connection"),
        });
    }
}

/// A connection with its owner. All times are counted from accept.
pub(crate) struct Driver {
    pub(crate) policy: Policy,
    connection: Connection,
    output: Recorder,
    now: Now,
    /// The instant at which the owner would look again: earlier than the next timeout is harmless, later
    /// means that a deadline is missed.
    filed: Option<Instant>,
    earlier: bool,
    totals: Totals,
}

impl Driver {
    pub(crate) fn new(policy: Policy) -> Self {
        Self::accepted_after(Duration::ZERO, policy)
    }

    /// One that was accepted by a shard that had stalled for so long before.
    pub(crate) fn accepted_after(stalled: Duration, policy: Policy) -> Self {
        let now = Now { instant: START, stalled };
        let connection = Connection::new(now, &policy);
        let filed = connection.poll_timeout(now.stalled, &policy).map(|(instant, _)| instant);
        let totals = connection.totals();
        Self { policy, connection, output: Recorder::default(), now, filed, earlier: false, totals }
    }

    /// One that has said its first message at accept.
    pub(crate) fn spoken(policy: Policy) -> Self {
        let mut driver = Self::new(policy);
        driver.receive_at(Duration::ZERO, b"hello\n");
        driver
    }

    /// Which deadline ended it, if one did.
    pub(crate) fn timer(&self) -> Option<Timer> {
        self.connection.lifetime().timer()
    }

    /// For how long the peer has been silent now.
    pub(crate) fn silent_for(&self) -> Duration {
        self.connection.lifetime().silent_for(self.now.own())
    }

    // What happens to it.

    pub(crate) fn receive_at(&mut self, when: Duration, bytes: &[u8]) {
        self.call_at(when, |connection, now, policy, output| {
            connection.handle_input(now, policy, bytes, output);
        });
    }

    pub(crate) fn end_input_at(&mut self, when: Duration) {
        self.call_at(when, |connection, now, policy, output| {
            connection.handle_input_end(now, policy, output);
        });
    }

    pub(crate) fn timeout_at(&mut self, when: Duration) {
        self.call_at(when, |connection, now, policy, output| connection.handle_timeout(now, policy, output));
    }

    /// The owner takes what is to be transmitted, and reports what came of writing.
    pub(crate) fn written_at(&mut self, when: Duration, written: Written) -> String {
        let taken = self.transmitted();
        self.call_at(when, |connection, now, policy, output| {
            connection.handle_written(now, policy, written, output);
        });
        taken
    }

    /// Writing left `waiting` bytes behind and took `bytes`.
    pub(crate) fn progress_at(&mut self, when: Duration, bytes: usize, waiting: usize) {
        self.written_at(when, Written { bytes, waiting, drained: false });
    }

    /// The kernel takes all there is, farewell included; something unread still lies in the socket.
    pub(crate) fn flush_at(&mut self, when: Duration) -> String {
        let mut sent = String::new();
        loop {
            let bytes = self.output.transmit.len();
            sent += &self.written_at(when, Written { bytes, waiting: 0, drained: false });
            if self.output.transmit.is_empty() {
                return sent;
            }
        }
    }

    pub(crate) fn send_at(&mut self, when: Duration, bytes: &[u8], waiting: usize) -> Result<(), NotSent> {
        self.call_at(when, |connection, now, policy, output| {
            connection.send(now, policy, bytes, waiting, output)
        })
    }

    pub(crate) fn finish_at(&mut self, when: Duration, waiting: usize) {
        self.call_at(when, |connection, now, policy, output| connection.finish(now, policy, waiting, output));
    }

    pub(crate) fn close_at(&mut self, when: Duration, reason: CloseReason) {
        self.call_at(when, |connection, now, policy, output| connection.close(now, policy, reason, output));
    }

    pub(crate) fn fail_at(&mut self, when: Duration, reason: CloseReason) {
        self.call_at(when, |connection, now, policy, output| {
            connection.handle_failure(now, policy, reason, output);
        });
    }

    /// So many bytes arrived after the end, or the peer's side ended (`None`).
    pub(crate) fn discard_at(&mut self, when: Duration, bytes: Option<usize>) {
        self.call_at(when, |connection, _, policy, _| connection.handle_discarded(policy, bytes));
    }

    pub(crate) fn pause_at(&mut self, when: Duration, why: Pause) {
        self.call_at(when, |connection, now, _, _| connection.pause(now, why));
    }

    pub(crate) fn sink_moves_at(&mut self, when: Duration) {
        self.call_at(when, |connection, now, _, _| connection.handle_sink_progress(now.own()));
    }

    pub(crate) fn resume_at(&mut self, when: Duration, why: Pause) {
        self.call_at(when, |connection, now, policy, _| connection.resume(now, policy, why));
    }

    /// Called at `when`, for the instant `deadline`.
    pub(crate) fn set_deadline_at(
        &mut self,
        when: Duration,
        direction: Direction,
        deadline: Option<Duration>,
    ) {
        let deadline = deadline.map(|deadline| START.after(deadline));
        self.call_at(when, |connection, _, _, _| connection.set_deadline(direction, deadline));
    }

    /// So much more time has been credited as a stall of the shard.
    pub(crate) fn stall(&mut self, span: Duration) {
        self.now.stalled += span;
    }

    // What it says.

    pub(crate) fn elapsed(&self) -> Duration {
        self.now.instant.since(START)
    }

    pub(crate) fn events(&self) -> &[Seen] {
        &self.output.events
    }

    pub(crate) fn payloads(&self) -> Vec<String> {
        let payload = |seen: &Seen| match seen {
            Seen::Message(_, payload) => Some(String::from_utf8_lossy(payload).into_owned()),
            Seen::InputEnded | Seen::Closed(_) => None,
        };
        self.output.events.iter().filter_map(payload).collect()
    }

    /// Takes what is to be transmitted.
    pub(crate) fn transmitted(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.output.transmit)).expect("tests send text")
    }

    pub(crate) fn reason(&self) -> Option<CloseReason> {
        self.connection.lifetime().reason()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.connection.lifetime().phase()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase() == Phase::Open
    }

    pub(crate) fn wants_read(&self) -> bool {
        self.connection.wants_read()
    }

    pub(crate) fn totals(&self) -> Totals {
        self.connection.totals()
    }

    /// The next timeout, counted from accept.
    pub(crate) fn next(&self) -> Option<(Duration, Timer)> {
        let (instant, timer) = self.connection.poll_timeout(self.now.stalled, &self.policy)?;
        Some((instant.since(START), timer))
    }

    pub(crate) fn due_at(&mut self, when: Duration) -> Option<Before> {
        self.call_at(when, |connection, now, policy, _| connection.due(now, policy))
    }

    /// Whether the last call said that the next timeout may have moved earlier.
    pub(crate) fn said_earlier(&self) -> bool {
        self.earlier
    }

    /// All that can be seen of its state.
    pub(crate) fn state(&self) -> String {
        format!("{:?} {:?}", self.connection, self.output)
    }

    /// It isn't ended one nanosecond before `when`, and is at `when`, for `reason`.
    #[track_caller]
    pub(crate) fn ends_exactly_at(&mut self, when: Duration, reason: CloseReason) {
        self.timeout_at(when - NANO);
        assert_eq!(self.reason(), None, "ended before {when:?}");
        self.timeout_at(when);
        assert_eq!(self.reason(), Some(reason), "not ended at {when:?}, next: {:?}", self.next());
    }

    /// Makes one call and checks what must hold after each.
    #[track_caller]
    fn call_at<T>(
        &mut self,
        when: Duration,
        call: impl FnOnce(&mut Connection, Now, &Policy, &mut Recorder) -> T,
    ) -> T {
        let instant = START.after(when);
        assert!(instant >= self.now.instant, "a test let time run backwards");
        self.now.instant = instant;
        let (phase, reason, events) = (self.phase(), self.reason(), self.events().len());
        let answer = call(&mut self.connection, self.now, &self.policy, &mut self.output);
        self.earlier = self.connection.take_earlier();
        assert!(!self.connection.take_earlier(), "taken means gone");
        let next = self.connection.poll_timeout(self.now.stalled, &self.policy).map(|(instant, _)| instant);
        if self.earlier {
            self.filed = next;
        } else {
            assert!(next.is_none() || next >= self.filed, "the timeout moved earlier in silence");
        }
        assert!(self.phase() >= phase, "{:?} after {phase:?}", self.phase());
        assert!(reason.is_none() || self.reason() == reason, "{:?} after {reason:?}", self.reason());
        assert!(phase == Phase::Open || self.events().len() == events, "an event after the end");
        let (old, totals) = (self.totals, self.totals());
        assert!(totals.bytes_in >= old.bytes_in && totals.bytes_out >= old.bytes_out);
        assert!(totals.messages >= old.messages);
        self.totals = totals;
        answer
    }
}
