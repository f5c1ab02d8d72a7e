//! One connection, pure: bytes, end of input, timeouts and commands go in; bytes to transmit, events
//! and the next timeout come out. Knows no socket and no clock.
//!
//! What is common to all stands here; `raw` and `dialogue` are the two protocols, and `speech` tells them apart.
//!
//! The contract: change it by one call, write out everything that the call appended to the output, file the
//! timeout again if [`Connection::take_earlier`] says so, then wait for the next thing to happen. No
//! `handle_` call fails: a violation ends the connection with a reason, and [`Event::Closed`] is the last
//! event, exactly once. A spurious timeout does nothing.

mod bye;
mod dialogue;
mod raw;
mod speech;

pub use bye::append_bye;
pub use dialogue::{Admission, Attachment};
pub use raw::{farewell_line, reply_bytes_max};

use crate::close::{CloseReason, Retry};
use crate::frame::Hello;
use crate::lifetime::{Direction, Lifetime, Pause, Phase, Silence};
use crate::policy::{Policy, Protocol};
use crate::time::{Instant, Now};
use crate::timer::{Before, Timer};
use speech::{Dialect, Speech};
use std::time::Duration;

/// What the owner of a connection has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message is complete. In the pulse protocol it is to be answered by [`Connection::commit`], perhaps after
    /// [`Connection::refuse`].
    Message {
        /// Its number: on a raw connection, from 1; else in its session.
        number: u64,
        /// Its bytes, valid during the call.
        payload: &'a [u8],
    },
    /// The peer has ended its side. The connection stays until the owner says [`Connection::finish`] and
    /// everything is sent, bounded by the half-close time.
    InputEnded,
    /// A client of the pulse protocol wants a session: [`Connection::welcome`], or an end.
    Hello(Hello<'a>),
    /// The client has used what WELCOME told it: an older token is void.
    TokenUsed,
    /// The client has committed or refused our messages up to this number.
    Settled(u64),
    /// The client's window has room for messages that its owner keeps and [`Connection::load`] has not brought yet.
    Room {
        /// The session, and the epoch of this connection.
        attachment: Attachment,
        /// Those with numbers above this one.
        above: u64,
        /// As many as have about so many bytes.
        bytes: u32,
    },
    /// The client has not accepted one of our messages; [`Settled`](Self::Settled) will cover it.
    Refused {
        /// Its number.
        number: u64,
        /// Why (PROTOCOL.md section 7.3).
        code: u16,
        /// A sentence for people.
        text: &'a str,
    },
    /// The client holds receipts up to this number.
    Confirmed(u64),
    /// The connection leaves its session.
    Detached {
        /// The session, and the epoch of this connection.
        attachment: Attachment,
        /// The client, or the little that it did, says that the session need not be kept.
        for_good: bool,
    },
    /// The connection has ended. Nothing comes after this.
    Closed(CloseReason),
}

/// Where a connection's outputs go. The owner keeps the buffer.
pub trait Output {
    /// The buffer to which bytes for the peer are appended.
    fn transmit(&mut self) -> &mut Vec<u8>;
    /// How many bytes wait already, before those in the transmit buffer.
    fn waiting(&self) -> usize;
    /// Takes an event. The owner may append an answer to the transmit buffer right here.
    fn handle_event(&mut self, event: Event<'_>);
}

/// The numbers of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes that the kernel took from us.
    pub bytes_out: u64,
    /// Complete messages, heartbeats not counted.
    pub messages: u64,
}

/// What came of an attempt to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// What the kernel took, in bytes.
    pub bytes: usize,
    /// What still has to wait, in bytes.
    pub waiting: usize,
    /// Nothing unread lies in the socket: it may be closed without destroying what is on its way.
    pub drained: bool,
}

/// A command came too late: the connection has ended, was told that nothing more is to be sent, or is past
/// its deadline for writing. Or bytes to be sent came where they would break what is spoken, or too early to know what
/// that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

/// The state of one connection on the gateway's side.
#[derive(Debug)]
pub struct Connection {
    lifetime: Lifetime,
    /// What is kept of what the peer says. A raw connection between two messages keeps nothing.
    speech: Option<Box<Speech>>,
    totals: Totals,
}

/// An idle connection costs its owner this and little more, a million times.
const _: () = assert!(size_of::<Connection>() <= 64);

impl Connection {
    /// A connection accepted at `now`.
    #[must_use]
    pub fn new(now: Now, policy: &Policy) -> Self {
        Self { lifetime: Lifetime::new(now, policy), speech: None, totals: Totals::default() }
    }

    /// Takes received bytes. Fixed deadlines come first: what arrives after one is not delivered.
    pub fn handle_input(&mut self, now: Now, policy: &Policy, input: &[u8], output: &mut impl Output) {
        if self.lifetime.phase() != Phase::Open || input.is_empty() {
            return;
        }
        if let Some(reason) = self.lifetime.passed(now, policy).and_then(Timer::reason) {
            return self.close(now, policy, reason, output);
        }
        self.totals.bytes_in += input.len() as u64;
        self.lifetime.handle_received(now, policy.minimum_rate, input.len());
        match self.dialect(policy) {
            Dialect::Undecided => self.handle_opening(now, policy, input, output),
            Dialect::Raw => self.handle_raw(now, policy, input, output),
            Dialect::Pulse => self.handle_pulse(now, policy, input, output),
        }
    }

    /// The peer has ended its side.
    pub fn handle_input_end(&mut self, now: Now, policy: &Policy, output: &mut impl Output) {
        if self.lifetime.phase() != Phase::Open || self.lifetime.input_ended() {
            return;
        }
        if let Some(reason) = self.lifetime.passed(now, policy).and_then(Timer::reason) {
            return self.close(now, policy, reason, output);
        }
        match self.dialect(policy) {
            Dialect::Undecided => self.handle_opening_end(now, policy, output),
            Dialect::Raw => self.handle_raw_end(now, output),
            Dialect::Pulse => self.handle_pulse_end(now, policy, output),
        }
    }

    /// The socket is gone, for `reason`. In any phase this is the last of it.
    pub fn handle_failure(
        &mut self,
        now: Now,
        policy: &Policy,
        reason: CloseReason,
        output: &mut impl Output,
    ) {
        self.close(now, policy, reason, output);
        self.lifetime.enter(Phase::Aborted, None);
    }

    /// Time has passed. Ends the connection if a deadline has; else does nothing.
    ///
    /// The owner first tries what [`Timer::before`] of the timer asks for.
    pub fn handle_timeout(&mut self, now: Now, policy: &Policy, output: &mut impl Output) {
        let Some((deadline, timer)) = self.poll_timeout(now.stalled, policy) else { return };
        if deadline > now.instant {
            return;
        }
        match (timer, timer.reason()) {
            (_, Some(reason)) => self.close(now, policy, reason, output),
            (Timer::Question | Timer::Assurance | Timer::Notice | Timer::Confirm, None) => {
                self.handle_reminder(now, policy, timer, output);
            }
            (Timer::Flush, None) => self.lifetime.enter(Phase::Aborted, None),
            (_, None) => self.lifetime.enter(Phase::Closed, None),
        }
    }

    /// Writing was tried; called after every attempt, also when there was nothing to write, with an empty
    /// transmit buffer. It may append a farewell to it, and then wants to be called again.
    pub fn handle_written(&mut self, now: Now, policy: &Policy, written: Written, output: &mut impl Output) {
        self.totals.bytes_out += written.bytes as u64;
        if self.lifetime.phase() == Phase::Open {
            if written.bytes > 0 {
                self.lifetime.handle_progress(now);
            }
            self.lifetime.handle_output(now, written.waiting > 0);
            if written.waiting == 0 && self.lifetime.is_finishing() {
                self.close(now, policy, self.finished_reason(), output);
            } else if written.waiting == 0 {
                self.speak(now, policy, output);
                self.finish_if_done(now, policy, output);
            }
        }
        if self.lifetime.phase() == Phase::Flushing && written.waiting == 0 && output.transmit().is_empty() {
            self.handle_flushed(now, policy, written.drained);
        }
    }

    /// While lingering: `bytes` arrived and were thrown away, or the peer's side ended (`None`).
    pub fn handle_discarded(&mut self, policy: &Policy, bytes: Option<usize>) {
        if self.lifetime.phase() != Phase::Lingering {
            return;
        }
        if bytes.is_none_or(|bytes| self.lifetime.discard(bytes) >= policy.linger_bytes_max) {
            self.lifetime.enter(Phase::Closed, None);
        }
    }

    /// Sends bytes to the peer of a raw connection; [`push`](Self::push) is for the pulse protocol. More than the output limit, together with the `waiting` bytes that wait
    /// already, ends the connection: the peer is too slow, and nothing is dropped in silence.
    ///
    /// # Errors
    /// [`Ended`] when there is nobody left to send to.
    pub fn send(
        &mut self,
        now: Now,
        policy: &Policy,
        bytes: &[u8],
        waiting: usize,
        output: &mut impl Output,
    ) -> Result<(), Ended> {
        // Whoever speaks the pulse protocol, or may yet do so, takes raw bytes for a broken frame.
        let is_over = self.lifetime.phase() != Phase::Open || self.lifetime.is_finishing();
        if is_over || self.dialect(policy) != Dialect::Raw {
            return Err(Ended);
        }
        if self.lifetime.write_deadline_passed(now) {
            self.close(now, policy, CloseReason::WriteDeadline, output);
            return Err(Ended);
        }
        if waiting.saturating_add(bytes.len()) > policy.output_bytes_max {
            self.close(now, policy, CloseReason::OutputFull, output);
            return Err(Ended);
        }
        output.transmit().extend_from_slice(bytes);
        Ok(())
    }

    /// Nothing more is to be sent: ends the connection as soon as the `waiting` bytes have left. The reason
    /// is that the peer closed, if it did, else that the application did.
    pub fn finish(&mut self, now: Now, policy: &Policy, waiting: usize, output: &mut impl Output) {
        if self.lifetime.phase() != Phase::Open {
            return;
        }
        self.lifetime.finish();
        if waiting == 0 && output.transmit().is_empty() {
            self.close(now, policy, self.finished_reason(), output);
        }
    }

    /// Sets or clears deadlines from outside; see [`Lifetime::set_deadline`].
    pub fn set_deadline(&mut self, direction: Direction, deadline: Option<Instant>) {
        if self.lifetime.phase() == Phase::Open {
            self.lifetime.set_deadline(direction, deadline);
        }
    }

    /// We stop reading.
    pub fn pause(&mut self, now: Now, why: Pause) {
        // A pulse connection's output is bounded where it is made: its heartbeats have to get through.
        let is_exempt = why == Pause::Output && self.dialogue().is_some();
        if self.lifetime.phase() == Phase::Open && !is_exempt {
            self.lifetime.pause(now, why);
        }
    }

    /// The cause of a pause is gone.
    pub fn resume(&mut self, now: Now, policy: &Policy, why: Pause) {
        if self.lifetime.phase() == Phase::Open {
            self.lifetime.resume(now, policy, why);
        }
    }

    /// What it waits for, its sink or the owner of its session, has moved at `own`, in own time: it may wait from then
    /// on anew.
    pub fn handle_sink_progress(&mut self, own: Instant) {
        if self.lifetime.phase() == Phase::Open {
            self.lifetime.handle_sink_progress(own, self.awaits_welcome());
        }
    }

    /// Whether bytes are wanted.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        match self.lifetime.phase() {
            Phase::Open => !self.lifetime.is_paused() && !self.lifetime.input_ended(),
            Phase::Lingering => true,
            Phase::Flushing | Phase::Closed | Phase::Aborted => false,
        }
    }

    /// The next timeout, in real time, and its name.
    #[must_use]
    pub fn poll_timeout(&self, stalled: Duration, policy: &Policy) -> Option<(Instant, Timer)> {
        let Some(dialogue) = self.dialogue() else {
            return self.lifetime.poll_timeout(stalled, policy, Silence::Ends);
        };
        let earliest = self.lifetime.poll_timeout(stalled, policy, dialogue.silence())?;
        if self.lifetime.phase() != Phase::Open {
            return Some(earliest);
        }
        let planned = self.lifetime.age_limit(policy).0;
        let assurance = dialogue.assurance(&self.lifetime, stalled);
        let reminders = dialogue.reminders(planned, policy);
        Some(reminders.into_iter().chain([assurance]).flatten().fold(earliest, Ord::min))
    }

    /// What has to be tried before [`handle_timeout`](Self::handle_timeout), if a deadline has come by `now`.
    #[must_use]
    pub fn due(&self, now: Now, policy: &Policy) -> Option<Before> {
        let (deadline, timer) = self.poll_timeout(now.stalled, policy)?;
        (deadline <= now.instant).then(|| timer.before())
    }

    /// Whether the next timeout may have moved earlier since the last call.
    pub fn take_earlier(&mut self) -> bool {
        self.lifetime.take_earlier()
    }

    /// The rules at work.
    #[must_use]
    pub const fn lifetime(&self) -> &Lifetime {
        &self.lifetime
    }

    /// The numbers so far.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    fn finished_reason(&self) -> CloseReason {
        if self.lifetime.input_ended() { CloseReason::PeerClosed } else { CloseReason::Application }
    }

    fn handle_flushed(&mut self, now: Now, policy: &Policy, drained: bool) {
        // A socket closed with unread input, or before the peer has stopped sending, resets the connection,
        // and the reset may destroy what the peer has not read yet. Only a peer that is silent, and that was
        // never sent anything, need not be waited for.
        let reason = self.lifetime.reason();
        let is_silent =
            reason.is_some_and(CloseReason::peer_is_silent) && drained && self.totals.bytes_out == 0;
        let safe = reason == Some(CloseReason::PeerClosed) || is_silent;
        if safe {
            self.lifetime.enter(Phase::Closed, None);
        } else {
            self.lifetime.enter(Phase::Lingering, Some(now.instant.after(policy.linger)));
        }
    }

    /// Ends the connection. Only the first reason counts.
    pub fn close(&mut self, now: Now, policy: &Policy, reason: CloseReason, output: &mut impl Output) {
        self.close_until(now, policy, reason, reason.retry(), output);
    }

    /// Ends the connection, and tells the peer another time to come back than the reason's own.
    pub fn close_until(
        &mut self,
        now: Now,
        policy: &Policy,
        reason: CloseReason,
        retry: Retry,
        output: &mut impl Output,
    ) {
        if self.lifetime.phase() != Phase::Open {
            return;
        }
        let mut speech = self.speech.take();
        self.say_farewell(policy, reason, retry, speech.as_deref_mut(), output);
        self.lifetime.end(reason, now.instant.after(policy.flush));
        if let Some(Speech::Pulse(dialogue)) = speech.as_deref()
            && let Some(attachment) = dialogue.attachment()
        {
            let for_good = dialogue.is_over_for_good();
            output.handle_event(Event::Detached { attachment, for_good });
        }
        output.handle_event(Event::Closed(reason));
    }

    /// The last words, in the language of the peer. Before the peer has shown which that is, there are none.
    fn say_farewell(
        &self,
        policy: &Policy,
        reason: CloseReason,
        retry: Retry,
        speech: Option<&mut Speech>,
        output: &mut impl Output,
    ) {
        if !reason.peer_listens() {
            return;
        }
        match self.dialect_of(policy, speech.as_deref()) {
            Dialect::Pulse => bye::say_bye(speech, reason, retry, output.transmit()),
            Dialect::Undecided if policy.protocol == Protocol::Pulse => {
                bye::say_bye(None, reason, retry, output.transmit());
            }
            Dialect::Undecided => {}
            Dialect::Raw => raw::say_farewell(policy, reason, retry, output.transmit()),
        }
    }
}
