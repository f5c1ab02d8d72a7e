//! What is special to connections of the pulse protocol: the way into a session, heartbeats that ask before they
//! end, notices (PROTOCOL.md sections 5, 6 and 8). The frames and the exchange are [`Pulse`]'s.

use super::bye::announcement;
use super::speech::Speech;
use super::{Connection, Ended, Event, Output};
use crate::close::CloseReason;
use crate::exchange::{Receiving, Sending, Window};
use crate::frame::{Beat, Durability, LifetimeKind, NOTICE_END, Refusals, Welcome};
use crate::lifetime::{Lifetime, Phase, Silence};
use crate::policy::{LifetimePolicy, Policy};
use crate::pulse::{Pulse, PulseEvent};
use crate::time::{Instant, Now};
use crate::timer::Timer;
use std::time::Duration;

/// The most that is made of messages before the kernel has taken it: what has to overtake them waits no longer.
const TRANSMIT_BYTES: usize = 16 * 1024;
/// The most control frames that wait for a peer that doesn't read: refusals and answers, which it causes itself.
const URGENT_BYTES_MAX: usize = 64 * 1024;
/// A peer is told so long before its connection's planned end, or for a tenth of its life if that is shorter.
const NOTICE_BEFORE: Duration = Duration::from_secs(10);
/// What part of the heartbeat timeout the peer has for its answer.
const ANSWER_PART: u32 = 4;
/// BYE of a client that is done for good (PROTOCOL.md section 8.3).
const GOODBYE_FOR_GOOD: u16 = 0;

/// The session that a connection is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attachment {
    /// The session's number.
    pub session: u64,
    /// The attach epoch.
    pub epoch: u64,
}

/// What the owner of the sessions says to a client that it lets in.
#[derive(Clone, Debug)]
pub struct Admission<'a> {
    /// The session, and the epoch of this connection.
    pub attachment: Attachment,
    /// The session goes on; else it is new.
    pub resumed: bool,
    /// What "committed" means.
    pub durability: Durability,
    /// For the next HELLO.
    pub token: [u8; 16],
    /// The cursor of the client's messages.
    pub committed: u64,
    /// What the client holds receipts for.
    pub floor: u64,
    /// The highest of our messages that is settled.
    pub acknowledged: u64,
    /// There are messages above that one: [`Event::Room`] asks for them.
    pub is_behind: bool,
    /// The longest payload that the client was ever told it may send in this session, in bytes. The listener's counts if
    /// that is more.
    pub message_bytes_max: u32,
    /// The first and the last of the client's messages that are lost.
    pub lost: Option<(u64, u64)>,
    /// Refusals that the client may not have got.
    pub refused: Refusals<'a>,
    /// Milliseconds since 1970-01-01 UTC.
    pub server_time_ms: u64,
}

/// Whether a client that has said BYE means to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goodbye {
    ForGood,
    ForNow,
}

/// One connection of the pulse protocol, with what its end needs to know.
#[derive(Debug)]
pub(super) struct Dialogue {
    pulse: Pulse<Box<[u8]>>,
    /// Of session 0, which nobody has, until it is attached.
    attachment: Attachment,
    interval_ms: u32,
    timeout_ms: u32,
    /// When the peer was asked whether it lives, in own time.
    asked: Option<Instant>,
    /// What the peer's BYE says.
    goodbye: Option<Goodbye>,
    /// As much waits as may: until some of it has left, nothing can be said.
    is_full: bool,
    /// The peer has been told that the planned end is near.
    noticed: bool,
    resumed: bool,
    token_used: bool,
    /// The owner has messages above those that are kept here.
    is_behind: bool,
    /// It has been asked for them.
    is_loading: bool,
}

/// Every idle session has one: with what the allocator adds, 192 bytes.
const _: () = assert!(size_of::<Dialogue>() <= 184);

impl Dialogue {
    pub(super) fn new(policy: &Policy) -> Self {
        let message_bytes_max = u32::try_from(policy.message_bytes_max).unwrap_or(u32::MAX);
        Self {
            pulse: Pulse::gateway(policy.pulse.window, message_bytes_max),
            attachment: Attachment { session: 0, epoch: 0 },
            interval_ms: 0,
            timeout_ms: 0,
            asked: None,
            goodbye: None,
            is_full: false,
            noticed: false,
            resumed: false,
            token_used: false,
            is_behind: false,
            is_loading: false,
        }
    }

    pub(super) fn attachment(&self) -> Option<Attachment> {
        (self.attachment.session != 0).then_some(self.attachment)
    }

    /// The client has said so, or nothing has ever come from it in the session that it got.
    pub(super) fn is_over_for_good(&self) -> bool {
        match self.goodbye {
            Some(goodbye) => goodbye == Goodbye::ForGood,
            None => !(self.resumed || self.token_used),
        }
    }

    /// What became of messages is said before the last frame, unless more of that waits than may. Returns the cursor that
    /// the last frame names; none if the peer has said its own.
    pub(super) fn conclude(&mut self, transmit: &mut Vec<u8>) -> Option<u64> {
        if self.goodbye.is_some() {
            return None;
        }
        if self.pulse.urgent_bytes() <= URGENT_BYTES_MAX {
            self.pulse.poll_outcomes(transmit);
        }
        Some(self.pulse.receiving().committed())
    }

    pub(super) fn silence(&self) -> Silence {
        if self.pulse.is_attaching() {
            return Silence::Ours;
        }
        let timeout = Duration::from_millis(self.timeout_ms.into());
        Silence::Asks { timeout, answer: timeout / ANSWER_PART, asked: self.asked }
    }

    /// When there is something to be said by itself, and what.
    pub(super) fn reminders(&self, planned: Instant, policy: &Policy) -> [Option<(Instant, Timer)>; 2] {
        let notice = (self.pulse.is_attached() && !self.noticed)
            .then(|| (planned.before(NOTICE_BEFORE.min(policy.age_max() / 10)), Timer::Notice));
        let confirm = self.pulse.poll_timeout().filter(|_| !self.is_full);
        [confirm.map(|due| (due, Timer::Confirm)), notice]
    }

    /// When the client is to be told that we live though we don't read.
    pub(super) fn assurance(&self, lifetime: &Lifetime, stalled: Duration) -> Option<(Instant, Timer)> {
        let interval = Duration::from_millis(self.interval_ms.into());
        let due = lifetime.assurance(stalled, interval).filter(|_| self.pulse.is_attached())?;
        Some((due, Timer::Assurance))
    }

    /// Whether the client, whose messages are on their way in, has waited long enough for a word of ours. Once in each
    /// interval that begins while they come: so nothing has to be kept of when the last one was said.
    fn awaits_word(&self, heard: Instant, now: Instant) -> bool {
        let interval = u64::from(self.interval_ms.max(1)) * 1_000_000;
        heard.as_nanos() / interval != now.as_nanos() / interval
    }
}

impl Connection {
    pub(super) fn dialogue(&self) -> Option<&Dialogue> {
        match self.speech.as_deref()? {
            Speech::Pulse(dialogue) => Some(dialogue),
            Speech::Opening(_) | Speech::Lines(_) => None,
        }
    }

    fn dialogue_mut(&mut self) -> Option<&mut Dialogue> {
        match self.speech.as_deref_mut()? {
            Speech::Pulse(dialogue) => Some(dialogue),
            Speech::Opening(_) | Speech::Lines(_) => None,
        }
    }

    /// The session that it is attached to.
    #[must_use]
    pub fn attachment(&self) -> Option<Attachment> {
        self.dialogue()?.attachment()
    }

    /// Whether the client has said HELLO and is to be let in, or turned away.
    #[must_use]
    pub fn awaits_welcome(&self) -> bool {
        self.dialogue().is_some_and(|dialogue| dialogue.pulse.is_attaching())
    }

    /// Whether the client waits for receipts.
    #[must_use]
    pub fn owes_receipts(&self) -> bool {
        self.dialogue().is_some_and(|dialogue| dialogue.pulse.owes_receipts())
    }

    /// Whether the pulse protocol is spoken.
    #[must_use]
    pub fn is_pulse(&self) -> bool {
        self.dialogue().is_some()
    }

    pub(super) fn handle_pulse(&mut self, now: Now, policy: &Policy, input: &[u8], output: &mut impl Output) {
        let Self { lifetime, speech, totals } = self;
        let Some(Speech::Pulse(dialogue)) = speech.as_deref_mut() else { return };
        let is_attached = dialogue.attachment().is_some();
        // Its question would wait behind what it sends (PROTOCOL.md section 6).
        let is_receiving =
            is_attached && (dialogue.pulse.is_inside_frame() || dialogue.pulse.owes_receipts());
        let heard = is_receiving.then(|| lifetime.heard());
        let mut is_message = false;
        let Dialogue { pulse, asked, goodbye, interval_ms, timeout_ms, token_used, .. } = dialogue;
        let outcome = pulse.handle_input(now.instant, input, |event| {
            // Before WELCOME there is no token to be used.
            let is_first_use = is_attached && !*token_used && !matches!(event, PulseEvent::Bye(_));
            if is_first_use {
                *token_used = true;
                output.handle_event(Event::TokenUsed);
            }
            // While it waits for WELCOME, nothing that it sends makes its wait longer.
            if is_attached {
                lifetime.handle_heartbeat(now);
                *asked = None;
            }
            match event {
                PulseEvent::Hello(hello) => {
                    lifetime.handle_first_message(now);
                    let millis = |ms: u32| Duration::from_millis(ms.into());
                    let beats = policy.beats(millis(hello.beat_min_ms), millis(hello.beat_max_ms));
                    (*interval_ms, *timeout_ms) = (ms(beats.interval), ms(beats.timeout));
                    output.handle_event(Event::Hello(hello));
                }
                PulseEvent::Message { number, payload } => {
                    totals.messages += 1;
                    is_message = true;
                    output.handle_event(Event::Message { number, payload });
                }
                PulseEvent::Settled { last, .. } => output.handle_event(Event::Settled(last)),
                PulseEvent::Refused { number, code, text } => {
                    output.handle_event(Event::Refused { number, code, text });
                }
                PulseEvent::Confirmed { floor } => output.handle_event(Event::Confirmed(floor)),
                PulseEvent::Bye(bye) if bye.code == GOODBYE_FOR_GOOD => *goodbye = Some(Goodbye::ForGood),
                PulseEvent::Bye(_) => *goodbye = Some(Goodbye::ForNow),
                // A gateway is told neither of these by anybody.
                PulseEvent::Welcome(_) | PulseEvent::Notice { .. } | PulseEvent::Alive => {}
            }
        });
        let has_left = goodbye.is_some();
        if let Some(heard) = heard
            && (is_message || dialogue.pulse.is_inside_frame())
            && dialogue.awaits_word(heard, lifetime.heard())
            && output.waiting() == 0
            && !lifetime.write_deadline_passed(now)
        {
            dialogue.pulse.beat(Beat::Beat);
        }
        match outcome {
            Err(reason) => self.close(now, policy, reason, output),
            Ok(()) if has_left => self.close(now, policy, CloseReason::PeerClosed, output),
            Ok(()) => self.speak(now, policy, output),
        }
    }

    pub(super) fn handle_pulse_end(&mut self, now: Now, policy: &Policy, output: &mut impl Output) {
        self.lifetime.handle_input_end(now);
        let Some(dialogue) = self.dialogue() else { return };
        if let Err(reason) = dialogue.pulse.handle_input_end() {
            return self.close(now, policy, reason, output);
        }
        self.finish_if_done(now, policy, output);
    }

    /// Ends it if the client has ended its side: but the receipts for what it has sent are worth waiting for.
    pub(super) fn finish_if_done(&mut self, now: Now, policy: &Policy, output: &mut impl Output) {
        let is_done = self.dialogue().is_some_and(|dialogue| !dialogue.pulse.owes_receipts());
        if is_done && self.lifetime.input_ended() {
            self.finish(now, policy, output.waiting(), output);
        }
    }

    /// Lets the client in that has said HELLO.
    pub fn welcome(
        &mut self,
        now: Now,
        policy: &Policy,
        admission: &Admission<'_>,
        output: &mut impl Output,
    ) {
        let remaining = self.lifetime.age_limit(policy).0.since(now.instant);
        let Some(dialogue) = self.dialogue_mut() else { return };
        let settled = admission.acknowledged;
        let sending = Sending::restore(settled, settled, [], policy.pulse.window);
        let receiving = Receiving::restore(admission.committed, admission.floor);
        let welcome = dialogue.answer(policy, admission, remaining);
        dialogue.resumed = admission.resumed;
        dialogue.is_behind = admission.is_behind;
        dialogue.attachment = admission.attachment;
        if let Err(reason) = dialogue.pulse.welcome(&welcome, sending, receiving) {
            return self.close(now, policy, reason, output);
        }
        self.lifetime.listen_anew(now.own());
        self.speak(now, policy, output);
    }

    /// Everything up to `committed` is committed, or was refused: the receipt goes out.
    pub fn commit(&mut self, now: Now, policy: &Policy, committed: u64, output: &mut impl Output) {
        let Some(dialogue) = self.dialogue_mut() else { return };
        dialogue.pulse.commit(committed);
        self.speak(now, policy, output);
        self.finish_if_done(now, policy, output);
    }

    /// A message is not accepted; [`commit`](Self::commit) of its number has to follow, and takes it along.
    pub fn refuse(&mut self, number: u64, code: u16, text: &str) {
        if let Some(dialogue) = self.dialogue_mut() {
            dialogue.pulse.refuse(number, code, text);
        }
    }

    /// A message for the client, which its owner keeps under this number. If it can't leave soon it is not kept here as
    /// well: [`Event::Room`] asks for it when it can.
    ///
    /// # Errors
    /// [`Ended`] if the connection isn't attached to a session.
    pub fn push(
        &mut self,
        now: Now,
        policy: &Policy,
        number: u64,
        payload: Box<[u8]>,
        output: &mut impl Output,
    ) -> Result<(), Ended> {
        let attached = |dialogue: &&mut Dialogue| dialogue.pulse.is_attached();
        let dialogue = self.dialogue_mut().filter(attached).ok_or(Ended)?;
        let sending = dialogue.pulse.sending();
        if number > sending.last() + 1 || number > sending.last() && sending.is_waiting() {
            dialogue.is_behind = true;
            return Ok(());
        }
        dialogue.keep(number, payload);
        self.speak(now, policy, output);
        Ok(())
    }

    /// The answer to [`Event::Room`]: messages with their numbers, in order, and whether there are more above them.
    pub fn load(
        &mut self,
        now: Now,
        policy: &Policy,
        messages: impl IntoIterator<Item = (u64, Box<[u8]>)>,
        has_more: bool,
        output: &mut impl Output,
    ) {
        let Some(dialogue) = self.dialogue_mut() else { return };
        (dialogue.is_loading, dialogue.is_behind) = (false, has_more);
        messages.into_iter().for_each(|(number, payload)| dialogue.keep(number, payload));
        self.speak(now, policy, output);
    }

    /// Tells a client of the pulse protocol something (PROTOCOL.md section 8.1).
    pub fn notify(
        &mut self,
        now: Now,
        policy: &Policy,
        code: u16,
        within: Duration,
        text: &str,
        output: &mut impl Output,
    ) {
        let attached = |dialogue: &&mut Dialogue| dialogue.pulse.is_attached();
        let Some(dialogue) = self.dialogue_mut().filter(attached) else { return };
        dialogue.pulse.notice(code, ms(within), text);
        self.speak(now, policy, output);
    }

    /// A timer has run out that makes us say something.
    pub(super) fn handle_reminder(
        &mut self,
        now: Now,
        policy: &Policy,
        timer: Timer,
        output: &mut impl Output,
    ) {
        self.lifetime.mark_earlier();
        let (planned, end) = self.lifetime.age_limit(policy);
        if timer == Timer::Assurance {
            self.lifetime.handle_assured(now);
        }
        let Some(dialogue) = self.dialogue_mut() else { return };
        if timer == Timer::Question {
            dialogue.asked = Some(now.own());
            dialogue.pulse.beat(Beat::Question);
        }
        // Whoever has a word of ours to take waits for no other.
        if timer == Timer::Assurance && !dialogue.is_full {
            dialogue.pulse.beat(Beat::Beat);
        }
        if timer == Timer::Notice {
            dialogue.noticed = true;
            dialogue.pulse.notice(NOTICE_END, ms(planned.since(now.instant)), announcement(end));
        }
        self.speak(now, policy, output);
    }

    /// Appends what is to be sent now. Messages only if nothing waits, so that the rest can overtake them.
    pub(super) fn speak(&mut self, now: Now, policy: &Policy, output: &mut impl Output) {
        if self.lifetime.phase() != Phase::Open {
            return;
        }
        let waiting = output.waiting();
        let Some(dialogue) = self.dialogue_mut() else { return };
        dialogue.is_full = waiting >= policy.output_bytes_max;
        if dialogue.is_full {
            if dialogue.pulse.urgent_bytes() > URGENT_BYTES_MAX {
                self.close(now, policy, CloseReason::OutputFull, output);
            }
            return;
        }
        let bytes_max = if waiting == 0 { TRANSMIT_BYTES.min(policy.output_bytes_max) } else { 0 };
        let before = output.transmit().len();
        dialogue.pulse.poll_transmit(now.instant, bytes_max, output.transmit());
        if let Some(event) = dialogue.poll_room() {
            output.handle_event(event);
        }
        let has_confirm = dialogue.pulse.poll_timeout().is_some();
        if has_confirm {
            self.lifetime.mark_earlier();
        }
        if output.transmit().len() > before && self.lifetime.write_deadline_passed(now) {
            output.transmit().truncate(before);
            self.close(now, policy, CloseReason::WriteDeadline, output);
        }
    }
}

impl Dialogue {
    /// Keeps a message if it is the next one: it may have come in both ways, pushed and loaded.
    fn keep(&mut self, number: u64, payload: Box<[u8]>) {
        if number == self.pulse.sending().last() + 1 {
            self.pulse.push(payload);
        }
    }

    /// The question for more messages, if there are more and they could leave.
    fn poll_room(&mut self) -> Option<Event<'static>> {
        if !self.is_behind || self.is_loading {
            return None;
        }
        let attachment = self.attachment()?;
        let sending = self.pulse.sending();
        let (above, bytes) = (sending.last(), sending.room()?);
        self.is_loading = true;
        Some(Event::Room { attachment, above, bytes })
    }

    fn answer<'a>(&self, policy: &Policy, admission: &Admission<'a>, remaining: Duration) -> Welcome<'a> {
        // Never lowered, so that what was sent once can be sent again.
        let message_bytes_max =
            u32::try_from(policy.message_bytes_max).unwrap_or(u32::MAX).max(admission.message_bytes_max);
        let Window { messages, bytes } = policy.pulse.window;
        Welcome {
            resumed: admission.resumed,
            lifetime: match policy.lifetime {
                LifetimePolicy::Short { .. } => LifetimeKind::Short,
                LifetimePolicy::Long { .. } => LifetimeKind::Long,
            },
            durability: admission.durability,
            beat_interval_ms: self.interval_ms,
            beat_timeout_ms: self.timeout_ms,
            remaining_ms: ms(remaining),
            session_ttl_ms: ms(policy.pulse.session_ttl),
            window: Window { messages, bytes: bytes.max(message_bytes_max) },
            message_bytes_max,
            server_time_ms: admission.server_time_ms,
            session: admission.attachment.session,
            token: admission.token,
            committed: admission.committed,
            acknowledged: admission.acknowledged,
            lost: admission.lost.unwrap_or_default(),
            refused: admission.refused,
        }
    }
}

/// Whole milliseconds, as frames say them.
pub(super) fn ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
