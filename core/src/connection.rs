//! One connection, pure: bytes, end of input, timeouts and commands go in; bytes to transmit, events and the next
//! timeout come out. Knows no socket and no clock.
//!
//! Here is what all connections have in common: the methods of [`Connection`], its phases and its one exit. `raw` and
//! `pulse` are the two protocols, `opening` tells them apart, and `speech` and `dialogue` are their state.
//!
//! Modules, each using only those after it: `opening`, `session`, `pulse`, `raw`, `bye`, `speech`, `dialogue`, `event`.

mod bye;
mod dialogue;
mod event;
mod opening;
mod pulse;
mod raw;
mod session;
mod speech;

pub use bye::append_bye;
pub use event::{Admission, Attachment, Event, NotSent, Output, Totals, Written};
pub use raw::{farewell_line, reply_bytes_max};

use crate::close::{CloseReason, Retry};
use crate::lifetime::{Direction, Lifetime, Pause, Phase, Silence};
use crate::policy::{Policy, Protocol};
use crate::time::{Instant, Now, OwnInstant};
use crate::timer::{Before, Timer};
use speech::{Dialect, Speech};
use std::time::Duration;

/// One connection on the gateway's side.
///
/// Its owner has the socket, the clock, the [`Policy`] of the listener and a buffer for output. It hands `now` and the
/// policy to each call, and takes what comes out by an [`Output`] that it lends for the call. A `now` must not be
/// earlier than the one before. There are four kinds of methods:
///
/// 1. Getters, such as [`totals`](Self::totals) and [`wants_read`](Self::wants_read), change nothing and may be called
///    at any time.
/// 2. `handle_` takes what has happened: received bytes ([`handle_input`](Self::handle_input)), the end of input
///    ([`handle_input_end`](Self::handle_input_end)), a failed socket ([`handle_failure`](Self::handle_failure)), a
///    timeout ([`handle_timeout`](Self::handle_timeout)), an attempt to write
///    ([`handle_written`](Self::handle_written)). None of them fails: a violation ends the connection with a reason. A
///    call that has no meaning in the present phase does nothing, and neither does a timeout that comes too early.
/// 3. Commands say what the owner wants: [`send`](Self::send), [`finish`](Self::finish), [`close`](Self::close), pauses
///    and deadlines for all; [`welcome`](Self::welcome), [`commit`](Self::commit), [`push`](Self::push) and the rest of
///    a session for the pulse protocol. If they come too late, those that carry bytes return [`NotSent`]; the others do
///    nothing.
/// 4. [`poll_timeout`](Self::poll_timeout) says what to wait for. [`take_earlier`](Self::take_earlier) says whether it
///    may have moved earlier. That it has moved later, the owner finds out when the old one comes.
///
/// After calls of kinds 2 and 3, before it waits for anything, the owner does three things, in this order:
///
/// 1. It writes what the calls appended to the transmit buffer, empties the buffer of it, keeps what the socket didn't
///    take, and calls `handle_written`, also when there was nothing to write. If that appends a farewell, it repeats
///    this.
/// 2. It looks at [`phase`](Lifetime::phase): `Flushing` waits for the socket to take the rest, `Lingering` reads and
///    calls [`handle_discarded`](Self::handle_discarded), `Closed` and `Aborted` mean that the socket has to be closed.
/// 3. It asks `take_earlier`, and if so schedules `poll_timeout` anew.
///
/// Outputs are handed over during the call rather than kept to be polled, so that nothing is copied or stored for them.
/// That is also why the owner must not call the connection from within [`Output::handle_event`]; it notes what it wants
/// to do. Bytes that it appends to the transmit buffer there are sent in their order.
///
/// [`Event::Closed`] comes exactly once and is the last event. From then on only kinds 1, 4 and `handle_written`,
/// `handle_discarded`, `handle_timeout`, `handle_failure` do anything.
#[derive(Debug)]
pub struct Connection {
    lifetime: Lifetime,
    /// The state of the protocol. A raw connection between two messages has none.
    speech: Option<Box<Speech>>,
    totals: Totals,
}

/// An idle connection costs its owner this and little more; there may be a million.
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
        if let Some(timer) = self.lifetime.passed(now, policy) {
            return self.strike(now, policy, timer, output);
        }
        self.totals.bytes_in += input.len() as u64;
        if let Some(rate) = policy.minimum_rate {
            self.lifetime.handle_received(now, rate, input.len());
        }
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
        if let Some(timer) = self.lifetime.passed(now, policy) {
            return self.strike(now, policy, timer, output);
        }
        match self.dialect(policy) {
            Dialect::Undecided => self.handle_opening_end(now, policy, output),
            Dialect::Raw => self.handle_raw_end(now, output),
            Dialect::Pulse => self.handle_pulse_end(now, policy, output),
        }
    }

    /// The socket has failed, for `reason`. In any phase this ends it for good.
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

    /// Ends the connection if a deadline has passed; otherwise does nothing.
    ///
    /// The owner first tries what [`Timer::before`] of the timer asks for.
    pub fn handle_timeout(&mut self, now: Now, policy: &Policy, output: &mut impl Output) {
        let Some((deadline, timer)) = self.poll_timeout(now.stalled, policy) else { return };
        if deadline > now.instant {
            return;
        }
        match (timer, timer.reason()) {
            (_, Some(_)) => self.strike(now, policy, timer, output),
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
        let is_all_said = output.transmit().is_empty() && !output.has_last_bytes();
        if self.lifetime.phase() == Phase::Flushing && written.waiting == 0 && is_all_said {
            self.handle_flushed(now, policy, written.drained);
        }
    }

    /// While lingering: `bytes` arrived and were discarded, or the peer's side ended (`None`).
    pub fn handle_discarded(&mut self, policy: &Policy, bytes: Option<usize>) {
        if self.lifetime.phase() != Phase::Lingering {
            return;
        }
        if bytes.is_none_or(|bytes| self.lifetime.discard(bytes) >= policy.linger_bytes_max) {
            self.lifetime.enter(Phase::Closed, None);
        }
    }

    /// Sends bytes to the peer of a raw connection; [`push`](Self::push) is for the pulse protocol. If they exceed the
    /// output limit together with the `waiting` bytes that wait already, the connection ends: the peer is too slow, and
    /// nothing is dropped silently.
    ///
    /// # Errors
    /// [`NotSent`] if the connection has ended.
    pub fn send(
        &mut self,
        now: Now,
        policy: &Policy,
        bytes: &[u8],
        waiting: usize,
        output: &mut impl Output,
    ) -> Result<(), NotSent> {
        // A client that speaks the pulse protocol, or may yet do so, would take raw bytes for a broken frame.
        let is_over = self.lifetime.phase() != Phase::Open || self.lifetime.is_finishing();
        if is_over || self.dialect(policy) != Dialect::Raw {
            return Err(NotSent);
        }
        if self.lifetime.write_deadline_passed(now) {
            self.strike(now, policy, Timer::WriteDeadline, output);
            return Err(NotSent);
        }
        if waiting.saturating_add(bytes.len()) > policy.output_bytes_max {
            self.close(now, policy, CloseReason::OutputFull, output);
            return Err(NotSent);
        }
        output.transmit().extend_from_slice(bytes);
        Ok(())
    }

    /// Nothing more will be sent: ends the connection as soon as the `waiting` bytes have been sent. The reason is that
    /// the peer closed, if it did, otherwise that the application did.
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

    /// The owner stops reading.
    pub fn pause(&mut self, now: Now, why: Pause) {
        // A pulse connection's output is bounded where it is produced: its heartbeats have to get through.
        let is_exempt = why == Pause::Output && self.dialogue().is_some();
        if self.lifetime.phase() == Phase::Open && !is_exempt {
            self.lifetime.pause(now, why);
        }
    }

    /// The cause of a pause is gone.
    pub fn resume(&mut self, now: Now, policy: &Policy, why: Pause) {
        if self.lifetime.phase() != Phase::Open {
            return;
        }
        let before = self.lifetime.heard();
        self.lifetime.resume(now, policy, why);
        let heard = self.lifetime.heard();
        if let Some(dialogue) = self.dialogue_mut() {
            dialogue.handle_heard_anew(before, heard);
        }
    }

    /// What it waits for, its sink or the owner of its session, made progress at `own`: the wait starts again from
    /// then.
    pub fn handle_sink_progress(&mut self, own: OwnInstant) {
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

    /// The next timeout, in real time, and its kind.
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

    /// What has to be tried before [`handle_timeout`](Self::handle_timeout), if a deadline has passed by `now`.
    #[must_use]
    pub fn due(&self, now: Now, policy: &Policy) -> Option<Before> {
        let (deadline, timer) = self.poll_timeout(now.stalled, policy)?;
        (deadline <= now.instant).then(|| timer.before())
    }

    /// Whether the next timeout may have moved earlier since the last call.
    pub fn take_earlier(&mut self) -> bool {
        self.lifetime.take_earlier()
    }

    /// Its lifetime.
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

    /// Ends the connection, and tells the peer to come back at another time than the reason's own.
    pub fn close_until(
        &mut self,
        now: Now,
        policy: &Policy,
        reason: CloseReason,
        retry: Retry,
        output: &mut impl Output,
    ) {
        self.end(now, policy, (reason, None), retry, output);
    }

    /// A deadline has passed: ends the connection if it is one of those that do.
    fn strike(&mut self, now: Now, policy: &Policy, timer: Timer, output: &mut impl Output) {
        if let Some(reason) = timer.reason() {
            self.end(now, policy, (reason, Some(timer)), reason.retry(), output);
        }
    }

    /// The one exit.
    fn end(
        &mut self,
        now: Now,
        policy: &Policy,
        (reason, timer): (CloseReason, Option<Timer>),
        retry: Retry,
        output: &mut impl Output,
    ) {
        if self.lifetime.phase() != Phase::Open {
            return;
        }
        let mut speech = self.speech.take();
        self.say_farewell(policy, reason, retry, speech.as_deref_mut(), output);
        self.lifetime.end(reason, timer, now.instant.after(policy.flush));
        if let Some(Speech::Pulse(dialogue)) = speech.as_deref()
            && let Some(attachment) = dialogue.attachment()
        {
            let for_good = dialogue.is_over_for_good();
            output.handle_event(Event::Detached { attachment, for_good });
        }
        output.handle_event(Event::Closed(reason));
    }

    /// Appends the farewell in the peer's protocol; none as long as that is not known.
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
