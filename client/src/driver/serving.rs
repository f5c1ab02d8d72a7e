//! The driver on one connection: bytes both ways, heartbeats, questions, goodbyes.

use super::{Driver, End, Intent, Status, close_timeout, wait_until};
use crate::backoff::Course;
use crate::deadlined::later;
use crate::ended::{Closed, Reason};
use crate::event::Connected;
use crate::link::{Link, Moved, OUTPUT_BYTES, Rhythm, Silence};
use crate::session::LastWord;
use bytes::Bytes;
use pulsegate_core::close::{CloseReason, Retry};
use pulsegate_core::frame::{Beat, FrameError, Header};
use pulsegate_core::pulse::{CONFIRM_WITHIN, Pulse};
use tokio::time::Instant;

/// The most that waits before all messages, in bytes: more than all refusals that may be kept, with their texts.
const URGENT_BYTES_MAX: usize = 128 * 1024;

/// A connection being served.
struct Service {
    link: Link,
    pulse: Pulse<Bytes>,
    rhythm: Option<Rhythm>,
    attached: Option<Instant>,
    /// Anything has come.
    has_heard: bool,
    /// The gateway's side of the stream has ended before that.
    is_unanswered: bool,
}

/// What woke the driver up.
enum Woken {
    Moved(Result<Moved, Closed>),
    Input(super::Input),
    /// Some timer, which finds out by itself whether it is due.
    Timer,
    CloseTimeout,
}

impl Driver {
    /// Serves a connection until it ends.
    pub(super) async fn serve(&mut self, link: Link) -> End {
        link.set_read_deadline(later(Instant::now(), self.options.opening_timeout));
        let pulse = self.session.open(&self.options);
        let mut service =
            Service { link, pulse, rhythm: None, attached: None, has_heard: false, is_unanswered: false };
        let closed = loop {
            if let Err(closed) = self.turn(&mut service).await {
                break closed;
            }
        };
        let Service { mut link, mut pulse, attached, is_unanswered, .. } = service;
        if let Some((code, text)) = self.last_word(&closed) {
            pulse.bye(code, 0, 0, text, &mut link.output);
            link.farewell().await;
        }
        let has_renewed = self.session.contradiction().is_some();
        let course = self.course_of(&closed, attached);
        self.session.close(pulse);
        End { closed, course, has_renewed, is_unanswered }
    }

    /// What the next wait depends on (PROTOCOL.md section 8.2).
    fn course_of(&self, closed: &Closed, attached: Option<Instant>) -> Course {
        let is = |reason: CloseReason| closed.reason == Reason::Gateway(reason.code());
        let says_now = closed.retry == Retry::Now && matches!(closed.reason, Reason::Gateway(_));
        let is_announced = attached.is_some() && (says_now || self.session.is_announced());
        Course {
            attached: attached.map(|since| since.elapsed()),
            has_settled: self.session.has_settled(),
            is_announced: is_announced || is(CloseReason::Drain),
            is_replaced: is(CloseReason::Replaced),
        }
    }

    /// Sends what there is to be sent, waits for the next thing to happen, and does what it asks for.
    async fn turn(&mut self, service: &mut Service) -> Result<(), Closed> {
        self.transmit(service)?;
        // What waits for the disk continues when the disk reports.
        let timer = if self.session.is_held() { None } else { service.timer(self.origin) };
        let deadline = self.close_deadline();
        let woken = tokio::select! {
            moved = service.link.turn() => Woken::Moved(moved),
            input = self.inputs.next() => Woken::Input(input),
            () = wait_until(timer) => Woken::Timer,
            () = wait_until(deadline) => Woken::CloseTimeout,
        };
        match woken {
            Woken::Moved(moved) => self.handle_moved(service, moved?).await,
            Woken::Input(input) => self.handle_all(input).map_or(Ok(()), Err),
            Woken::Timer => Ok(()),
            Woken::CloseTimeout => Err(close_timeout()),
        }
    }

    fn transmit(&mut self, service: &mut Service) -> Result<(), Closed> {
        if matches!(self.intent, Some(Intent::Leave(_))) {
            return Err(Closed::last(Reason::BackSoon, ""));
        }
        let Service { link, pulse, rhythm, .. } = service;
        if !link.is_written() || self.session.is_held() {
            return Ok(());
        }
        let now = Instant::now();
        if let Some(rhythm) = rhythm.as_mut().filter(|rhythm| rhythm.beat_at() <= now) {
            pulse.beat(Beat::Beat);
            rhythm.handle_said(now);
        }
        let mut instant = self.now();
        let is_closing = matches!(self.intent, Some(Intent::Close(_)));
        if is_closing && self.session.ledger.is_empty() {
            // Nothing more is coming that a confirmation could be joined with.
            instant = instant.after(CONFIRM_WITHIN);
        }
        self.session.transmit(pulse, instant, OUTPUT_BYTES, &mut link.output);
        link.handle_output();
        // Where there is no session yet, nothing is known to the gateway that would have to be settled.
        let is_let_in = pulse.is_attached() || self.session.number() == 0;
        if is_closing && is_let_in && self.session.is_done(pulse) {
            return Err(Closed::last(Reason::Done, ""));
        }
        Ok(())
    }

    async fn handle_moved(&mut self, service: &mut Service, moved: Moved) -> Result<(), Closed> {
        match moved {
            Moved::Read(0) => Err(service.handle_stream_end()),
            Moved::Read(bytes) => self.handle_bytes(service, bytes),
            Moved::Written => {
                if let Some(rhythm) = &mut service.rhythm {
                    rhythm.handle_said(Instant::now());
                }
                if service.link.is_written() {
                    self.session.handle_written();
                }
                Ok(())
            }
            Moved::Nothing => match service.link.read_again().await? {
                Moved::Read(0) => Err(service.handle_stream_end()),
                Moved::Read(bytes) => {
                    self.handle_bytes(service, bytes)?;
                    // A part of a frame is no answer.
                    if service.rhythm.is_none() { service.handle_silence() } else { Ok(()) }
                }
                Moved::Written | Moved::Nothing => service.handle_silence(),
            },
        }
    }

    fn handle_bytes(&mut self, service: &mut Service, bytes: usize) -> Result<(), Closed> {
        // Of something that is no gateway, less than a header may be all that ever comes.
        let first = service.link.input(bytes).first().copied().unwrap_or_default();
        if !std::mem::replace(&mut service.has_heard, true) && is_no_type(first) {
            return Err(Closed::not_pulse());
        }
        let now = self.now();
        let was_attached = service.pulse.is_attached();
        self.session.handle_input(&mut service.pulse, now, service.link.input(bytes))?;
        if !was_attached && let Some(connected) = self.session.connected().copied() {
            self.handle_connected(service, &connected);
        }
        service.handle_heard();
        if service.pulse.urgent_bytes() > URGENT_BYTES_MAX {
            return Err(Closed::now(Reason::Stalled, "the gateway asks more than it takes answers"));
        }
        Ok(())
    }

    fn handle_connected(&mut self, service: &mut Service, connected: &Connected) {
        let now = Instant::now();
        service.rhythm = Some(Rhythm::new(now, connected.beat_interval, connected.beat_timeout));
        service.attached = Some(now);
        self.has_renewed = false;
        if !connected.resumed {
            // A new session is forgotten with its connection as long as nothing has come from its client
            // (PROTOCOL.md section 5.4). No message has a number before this is written.
            service.pulse.beat(Beat::Beat);
        }
        let Connected { session, message_bytes_max, .. } = *connected;
        self.status.send_replace(Status::Attached { session, message_bytes_max });
    }

    /// What the gateway is told at the end, if it still listens.
    fn last_word(&self, closed: &Closed) -> Option<LastWord> {
        match closed.reason {
            _ if self.session.contradiction().is_some() => self.session.contradiction(),
            Reason::BrokenRule(CloseReason::TruncatedFrame) => None,
            Reason::BrokenRule(reason) => Some((reason.code(), reason.sentence())),
            Reason::Done => Some((0, "")),
            Reason::BackSoon | Reason::CloseTimeout => Some((1, "")),
            Reason::Dropped
            | Reason::Gateway(_)
            | Reason::Silent
            | Reason::Stalled
            | Reason::OpeningTimeout
            | Reason::Unreachable
            | Reason::Lost
            | Reason::NotPulse
            | Reason::Outbox => None,
        }
    }
}

impl Service {
    /// When something is to be looked at, if nothing happens before.
    fn timer(&self, origin: Instant) -> Option<Instant> {
        if !self.link.is_written() {
            return None;
        }
        let confirm = self.pulse.poll_timeout();
        let confirm = confirm.map(|at| origin + std::time::Duration::from_nanos(at.as_nanos()));
        let beat = self.rhythm.as_ref().map(Rhythm::beat_at);
        [confirm, beat].into_iter().flatten().min()
    }

    fn handle_stream_end(&mut self) -> Closed {
        self.is_unanswered = !self.has_heard;
        let text = match self.pulse.handle_input_end() {
            Ok(()) if self.is_unanswered => {
                "the connection was ended without a word; does that listener have protocol auto or pulse?"
            }
            Ok(()) => "the gateway has ended the connection without a word",
            Err(reason) => reason.sentence(),
        };
        Closed::now(Reason::Lost, text)
    }

    fn handle_heard(&mut self) {
        let now = Instant::now();
        if let Some(rhythm) = &mut self.rhythm {
            rhythm.handle_heard(now);
            self.link.set_read_deadline(rhythm.silence_at());
        }
    }

    /// The deadline for reading has passed, and nothing was there.
    fn handle_silence(&mut self) -> Result<(), Closed> {
        let now = Instant::now();
        let is_written = self.link.is_written();
        let Some(rhythm) = &mut self.rhythm else {
            let text =
                "the gateway has not answered the greeting; does its listener have protocol auto or pulse?";
            return Err(Closed::now(Reason::OpeningTimeout, text));
        };
        if !is_written {
            // What we send is on its way, and the gateway may have nothing to say before it has all of it: whether
            // it still takes anything is what decides.
            self.link.set_read_deadline(now + rhythm.patience());
            return Ok(());
        }
        match rhythm.judge(now) {
            Silence::TooLong => {
                return Err(Closed::now(Reason::Silent, "the gateway does not answer"));
            }
            Silence::Ask => {
                self.pulse.beat(Beat::Question);
                rhythm.handle_asked(now);
            }
            Silence::Bearable => {}
        }
        self.link.set_read_deadline(rhythm.silence_at());
        Ok(())
    }
}

/// Whether no frame begins so.
fn is_no_type(first: u8) -> bool {
    Header::decode([first, 0, 0, 0]).check(0) == Err(FrameError::Unknown)
}
