//! A gateway's connection with its owner and its kernel, in virtual time. What it says is recorded, and what must
//! hold after every call is checked after every call.

use crate::words::{Said, admission, hello, opening, read};
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::{Admission, Connection, Event, NotSent, Output, Totals, Written};
use pulsegate_core::frame::{Frame, Hello};
use pulsegate_core::lifetime::{Direction, Pause, Phase};
use pulsegate_core::policy::Policy;
use pulsegate_core::time::{Instant, Now};
use pulsegate_core::timer::{Before, Timer};
use std::collections::BTreeMap;
use std::time::Duration;

/// When connections are accepted: not at the clock's origin, so that no rule works by accident of zero.
const START: Instant = Instant::from_nanos(1_000_000_000_123);
/// So often may one instant bring a timeout: none stays due.
const TIMEOUTS_AT_ONCE_MAX: usize = 8;

/// An event, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Message(u64, Vec<u8>),
    InputEnded,
    Hello(u64),
    TokenUsed,
    Settled(u64),
    Refused(u64, u16),
    Confirmed(u64),
    Detached(bool),
    Closed(CloseReason),
}

#[derive(Debug, Default)]
struct Recorder {
    transmit: Vec<u8>,
    /// What the kernel did not take yet.
    waiting: usize,
    seen: Vec<Seen>,
    closed: bool,
    /// The owner is asked for what it has above this number, as many as have so many bytes.
    room: Option<(u64, u32)>,
}

impl Output for Recorder {
    fn transmit(&mut self) -> &mut Vec<u8> {
        &mut self.transmit
    }

    fn waiting(&self) -> usize {
        self.waiting
    }

    fn handle_event(&mut self, event: Event<'_>) {
        assert!(!self.closed, "{event:?} after the end");
        self.closed = matches!(event, Event::Closed(_));
        self.seen.push(match event {
            Event::Message { number, payload } => Seen::Message(number, payload.to_vec()),
            Event::InputEnded => Seen::InputEnded,
            Event::Hello(hello) => Seen::Hello(hello.session),
            Event::TokenUsed => Seen::TokenUsed,
            Event::Settled(last) => Seen::Settled(last),
            Event::Refused { number, code, .. } => Seen::Refused(number, code),
            Event::Confirmed(floor) => Seen::Confirmed(floor),
            Event::Room { above, bytes, .. } => {
                assert_eq!(self.room.replace((above, bytes)), None, "it asks once");
                return;
            }
            Event::Detached { for_good, .. } => Seen::Detached(for_good),
            Event::Closed(reason) => Seen::Closed(reason),
        });
    }
}

/// A connection with its owner. All times are counted from accept.
pub(crate) struct Driver {
    pub(crate) policy: Policy,
    /// So many bytes the kernel still takes.
    pub(crate) room: usize,
    connection: Connection,
    output: Recorder,
    now: Now,
    /// The instant at which the owner looks again: it files the timeout when it looks, and when it is told to.
    filed: Option<Instant>,
    /// What is said to a client of the pulse protocol is read at once: whole frames after every call.
    said: Vec<Said>,
    /// The same in bytes.
    heard: Vec<u8>,
    /// What is said to a raw client.
    raw: Option<Vec<u8>>,
    totals: Totals,
    /// What the owner keeps for the client, by number.
    owned: BTreeMap<u64, Box<[u8]>>,
    /// The last number that it gave.
    last: u64,
    /// How often it was asked for more.
    pub(crate) loads: usize,
}

impl Driver {
    pub(crate) fn new(policy: Policy) -> Self {
        let now = Now::at(START);
        let connection = Connection::new(now, &policy);
        let filed = connection.poll_timeout(now.stalled, &policy).map(|(instant, _)| instant);
        Self {
            policy,
            room: usize::MAX,
            connection,
            output: Recorder::default(),
            now,
            filed,
            said: Vec::new(),
            heard: Vec::new(),
            raw: None,
            totals: Totals::default(),
            owned: BTreeMap::new(),
            last: 0,
            loads: 0,
        }
    }

    /// One whose client turns out to be a raw one.
    pub(crate) fn raw(policy: Policy) -> Self {
        Self { raw: Some(Vec::new()), ..Self::new(policy) }
    }

    /// One whose client has said this HELLO at accept.
    #[track_caller]
    pub(crate) fn greeted(policy: Policy, hello: Hello<'_>) -> Self {
        let mut driver = Self::new(policy);
        driver.receive(&opening(&[Frame::Hello(hello)]));
        assert_eq!(driver.seen(), [Seen::Hello(hello.session)]);
        driver
    }

    /// One that is attached to a new session, at the instant of accept.
    #[track_caller]
    pub(crate) fn attached(policy: Policy) -> Self {
        let mut driver = Self::greeted(policy, hello());
        driver.welcome(&admission(), &[]);
        assert!(matches!(driver.said()[..], [Said::Welcome { .. }]));
        driver
    }

    // What happens to it.

    /// Time goes on, and nobody looks at the timeouts.
    pub(crate) fn at(&mut self, when: Duration) -> &mut Self {
        let instant = START.after(when);
        assert!(instant >= self.now.instant, "a test let time run backwards");
        self.now.instant = instant;
        self
    }

    /// Time goes on, and its owner looks whenever that has been filed.
    pub(crate) fn pass_to(&mut self, when: Duration) -> &mut Self {
        let until = START.after(when);
        while let Some(filed) = self.filed
            && filed <= until
        {
            self.now.instant = self.now.instant.max(filed);
            self.timeout();
        }
        self.at(when)
    }

    /// So much time goes on, and is credited as a stall of the shard.
    pub(crate) fn stall(&mut self, span: Duration) {
        self.now.stalled += span;
        self.now.instant = self.now.instant.after(span);
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.call(|connection, now, policy, output| connection.handle_input(now, policy, bytes, output));
        self.load();
    }

    /// It can't be kept, and sends this.
    pub(crate) fn turn_away(&mut self, bytes: &[u8], reason: CloseReason) {
        self.call(|connection, now, policy, output| {
            connection.turn_away(now, policy, bytes, (reason, reason.retry()), output);
        });
    }

    pub(crate) fn end_input(&mut self) {
        self.call(|connection, now, policy, output| connection.handle_input_end(now, policy, output));
    }

    /// The owner looks, and goes on as long as something is due.
    pub(crate) fn timeout(&mut self) {
        let is_due = |driver: &Self| driver.due().is_some();
        self.call(|connection, now, policy, output| connection.handle_timeout(now, policy, output));
        for _ in 0..TIMEOUTS_AT_ONCE_MAX {
            if !is_due(self) {
                break;
            }
            self.call(|connection, now, policy, output| connection.handle_timeout(now, policy, output));
        }
        assert!(!is_due(self), "stays due: {:?}", self.next());
        self.filed = self.next_instant();
    }

    /// The kernel takes so many bytes more.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.room = bytes;
        self.write();
        self.load();
    }

    pub(crate) fn welcome(&mut self, admission: &Admission<'_>, outgoing: &[&str]) {
        self.last = admission.acknowledged;
        outgoing.iter().for_each(|payload| self.own(payload.as_bytes()));
        let admission = Admission { is_behind: !outgoing.is_empty(), ..admission.clone() };
        self.call(|connection, now, policy, output| connection.welcome(now, policy, &admission, output));
        self.load();
    }

    fn own(&mut self, payload: &[u8]) {
        self.last += 1;
        self.owned.insert(self.last, payload.into());
    }

    /// The owner answers if it has been asked for more.
    fn load(&mut self) {
        while let Some((above, bytes)) = self.output.room.take() {
            self.loads += 1;
            let mut messages = Vec::new();
            let mut left = bytes as usize;
            for (number, payload) in self.owned.range(above + 1..) {
                if payload.len() > left && !messages.is_empty() {
                    break;
                }
                left = left.saturating_sub(payload.len());
                messages.push((*number, payload.clone()));
            }
            let has_more = messages.last().is_some_and(|(number, _)| *number < self.last);
            self.call(|connection, now, policy, output| {
                connection.load(now, policy, messages, has_more, output);
            });
        }
    }

    pub(crate) fn commit(&mut self, committed: u64) {
        self.call(|connection, now, policy, output| connection.commit(now, policy, committed, output));
    }

    pub(crate) fn refuse(&mut self, number: u64, code: u16) {
        self.refuse_saying(number, code, "no");
    }

    pub(crate) fn refuse_saying(&mut self, number: u64, code: u16, text: &str) {
        self.connection.refuse(number, code, text);
    }

    pub(crate) fn push(&mut self, payload: &[u8]) -> Result<u64, NotSent> {
        let number = self.last + 1;
        let payload: Box<[u8]> = payload.into();
        let pushed = self.call(|connection, now, policy, output| {
            connection.push(now, policy, number, payload.clone(), output)
        });
        pushed?;
        self.own(&payload);
        self.load();
        Ok(number)
    }

    pub(crate) fn notify(&mut self, code: u16, within: Duration) {
        self.call(|connection, now, policy, output| {
            connection.notify(now, policy, code, within, "", output);
        });
    }

    pub(crate) fn finish(&mut self) {
        self.call(|connection, now, policy, output| {
            connection.finish(now, policy, output.waiting, output);
        });
    }

    pub(crate) fn close(&mut self, reason: CloseReason) {
        self.call(|connection, now, policy, output| connection.close(now, policy, reason, output));
    }

    pub(crate) fn fail(&mut self, reason: CloseReason) {
        self.call(|connection, now, policy, output| connection.handle_failure(now, policy, reason, output));
    }

    /// What arrives after the end; `None`: its end.
    pub(crate) fn discard(&mut self, bytes: Option<usize>) {
        self.call(|connection, _, policy, _| connection.handle_discarded(policy, bytes));
    }

    /// Its owner stops reading, because so much waits or because the sink takes nothing.
    pub(crate) fn pause(&mut self, why: Pause) {
        self.call(|connection, now, _, _| connection.pause(now, why));
    }

    /// The cause of the pause is gone.
    pub(crate) fn resume(&mut self, why: Pause) {
        self.call(|connection, now, policy, _| connection.resume(now, policy, why));
    }

    pub(crate) fn set_deadline(&mut self, direction: Direction, deadline: Option<Duration>) {
        let deadline = deadline.map(|deadline| START.after(deadline));
        self.call(|connection, _, _, _| connection.set_deadline(direction, deadline));
    }

    // What it says.

    /// The events since the last look.
    pub(crate) fn seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.output.seen)
    }

    /// The frames since the last look.
    pub(crate) fn said(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }

    /// The bytes since the last look.
    pub(crate) fn heard(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.heard)
    }

    /// The bytes for a raw client since the last look.
    pub(crate) fn said_raw(&mut self) -> String {
        let raw = self.raw.as_mut().expect("a raw client");
        String::from_utf8(std::mem::take(raw)).expect("tests send text")
    }

    /// What the kernel did not take yet, in bytes.
    pub(crate) fn waiting(&self) -> usize {
        self.output.waiting
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now.instant.since(START)
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

    /// The next timeout, counted from accept.
    pub(crate) fn next(&self) -> Option<(Duration, Timer)> {
        let (instant, timer) = self.connection.poll_timeout(self.now.stalled, &self.policy)?;
        Some((instant.since(START), timer))
    }

    pub(crate) fn due(&self) -> Option<Before> {
        self.connection.due(self.now, &self.policy)
    }

    /// It isn't ended one nanosecond before `when`, and is at `when`, for `reason`.
    #[track_caller]
    pub(crate) fn ends_exactly_at(&mut self, when: Duration, reason: CloseReason) {
        self.pass_to(when - crate::words::NANO);
        assert_eq!(self.reason(), None, "ended before {when:?}");
        self.pass_to(when);
        assert_eq!(self.reason(), Some(reason), "not ended at {when:?}, next: {:?}", self.next());
    }

    /// It ended for `reason`: the last events, and the frames since the last look.
    #[track_caller]
    pub(crate) fn ended(&mut self, reason: CloseReason, seen: &[Seen], said: &[Said]) {
        let all = [seen, &[Seen::Closed(reason)]].concat();
        assert_eq!(self.seen(), all);
        assert_eq!(self.said(), said);
        assert_eq!(self.reason(), Some(reason));
    }

    fn next_instant(&self) -> Option<Instant> {
        self.connection.poll_timeout(self.now.stalled, &self.policy).map(|(instant, _)| instant)
    }

    /// Makes one call, and then writes, as an owner does.
    #[track_caller]
    fn call<T>(&mut self, call: impl FnOnce(&mut Connection, Now, &Policy, &mut Recorder) -> T) -> T {
        let answer = self.step(call);
        self.write();
        answer
    }

    /// Hands to the kernel what it takes, and reports that, until nothing comes of it.
    #[track_caller]
    fn write(&mut self) {
        let mut bytes = self.output.waiting.min(self.room);
        loop {
            self.room -= bytes;
            self.output.waiting -= bytes;
            let written = Written { bytes, waiting: self.output.waiting, drained: true };
            let before = self.output.waiting;
            self.step(|connection, now, policy, output| {
                connection.handle_written(now, policy, written, output);
            });
            if self.output.waiting == before {
                break;
            }
            bytes = self.output.waiting.min(self.room);
        }
    }

    /// Makes one call and checks what must hold after each.
    #[track_caller]
    fn step<T>(&mut self, call: impl FnOnce(&mut Connection, Now, &Policy, &mut Recorder) -> T) -> T {
        let (phase, reason, seen) = (self.phase(), self.reason(), self.output.seen.len());
        let answer = call(&mut self.connection, self.now, &self.policy, &mut self.output);
        let made = std::mem::take(&mut self.output.transmit);
        self.output.waiting += made.len();
        assert!(phase == Phase::Open || made.is_empty(), "something is said after the end");
        match &mut self.raw {
            Some(raw) => raw.extend_from_slice(&made),
            None => {
                self.said.extend(read(&made));
                self.heard.extend_from_slice(&made);
            }
        }
        if self.connection.take_earlier() {
            self.filed = self.next_instant();
        } else {
            let next = self.next_instant();
            assert!(next.is_none() || next >= self.filed, "moved earlier in silence: {:?}", self.next());
        }
        assert!(self.phase() >= phase, "{:?} after {phase:?}", self.phase());
        assert!(reason.is_none() || self.reason() == reason, "{:?} after {reason:?}", self.reason());
        assert!(phase == Phase::Open || self.output.seen.len() == seen, "an event after the end");
        assert_eq!(self.output.closed, self.reason().is_some(), "an end is an event");
        let (old, totals) = (self.totals, self.connection.totals());
        assert!(totals.bytes_in >= old.bytes_in && totals.bytes_out >= old.bytes_out);
        assert!(totals.messages >= old.messages);
        self.totals = totals;
        answer
    }
}
