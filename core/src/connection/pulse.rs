//! What is special to connections of the pulse protocol: what the client's frames cause, the question before an end for
//! silence, notices, and what is sent (PROTOCOL.md sections 6 to 8). [`Pulse`](crate::pulse::Pulse) has the frames and
//! the exchange.

use super::Connection;
use super::bye::announcement;
use super::dialogue::{Dialogue, Goodbye, URGENT_BYTES_MAX, ms};
use super::event::{Event, Output};
use super::speech::Speech;
use crate::close::CloseReason;
use crate::frame::{Beat, NOTICE_END};
use crate::lifetime::Phase;
use crate::policy::Policy;
use crate::pulse::PulseEvent;
use crate::time::Now;
use crate::timer::Timer;
use std::time::Duration;

/// The most bytes of messages that are produced before the kernel has taken them: urgent frames wait for no more than
/// that.
const TRANSMIT_BYTES: usize = 16 * 1024;
/// BYE of a client that is done for good (PROTOCOL.md section 8.3).
const GOODBYE_FOR_GOOD: u16 = 0;

impl Connection {
    pub(super) fn handle_pulse(&mut self, now: Now, policy: &Policy, input: &[u8], output: &mut impl Output) {
        let Self { lifetime, speech, totals } = self;
        let Some(Speech::Pulse(dialogue)) = speech.as_deref_mut() else { return };
        let is_attached = dialogue.attachment().is_some();
        // Its question would wait behind what it sends (PROTOCOL.md section 6).
        let heard = dialogue.is_receiving().then(|| lifetime.heard());
        let mut is_message = false;
        let Dialogue { pulse, asked, goodbye, interval_ms, timeout_ms, token_used, .. } = dialogue;
        let outcome = pulse.handle_input(now.instant, input, |event| {
            // Before WELCOME there is no token to be used.
            let is_first_use = is_attached && !*token_used && !matches!(event, PulseEvent::Bye(_));
            if is_first_use {
                *token_used = true;
                output.handle_event(Event::TokenUsed);
            }
            // While it waits for WELCOME, nothing that it sends extends the wait.
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
                // Clients never send these.
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

    /// Ends it if the client has ended its side, once the receipts for what it has sent are sent.
    pub(super) fn finish_if_done(&mut self, now: Now, policy: &Policy, output: &mut impl Output) {
        let is_done = self.dialogue().is_some_and(|dialogue| !dialogue.pulse.owes_receipts());
        if is_done && self.lifetime.input_ended() {
            self.finish(now, policy, output.waiting(), output);
        }
    }

    /// A timer has expired that makes us send something.
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
        // A peer for whom output waits already needs nothing more.
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
        if dialogue.is_quiet() {
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
            self.strike(now, policy, Timer::WriteDeadline, output);
        }
    }
}
