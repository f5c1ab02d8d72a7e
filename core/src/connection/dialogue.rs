//! What is kept of a connection that speaks the pulse protocol, and what that alone decides (PROTOCOL.md sections 5, 6
//! and 8). Must not know: bytes, and what becomes of the connection.

use super::event::{Admission, Attachment, Event};
use crate::exchange::Window;
use crate::frame::{Beat, LifetimeKind, Welcome};
use crate::lifetime::{Lifetime, Silence};
use crate::policy::{LifetimePolicy, Policy};
use crate::pulse::Pulse;
use crate::time::{Instant, OwnInstant};
use crate::timer::Timer;
use std::time::Duration;

/// The most control frames that wait for a peer that doesn't read: refusals and answers, which it causes itself.
pub(super) const URGENT_BYTES_MAX: usize = 64 * 1024;
/// How long before its connection's planned end a peer is told, or a tenth of its life if that is shorter.
const NOTICE_BEFORE: Duration = Duration::from_secs(10);
/// What part of the heartbeat timeout the peer has for its answer.
const ANSWER_PART: u32 = 4;

/// Whether a client that has said BYE means to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goodbye {
    ForGood,
    ForNow,
}

/// One connection of the pulse protocol, with what its end needs to know.
#[derive(Debug)]
pub(super) struct Dialogue {
    pub(super) pulse: Pulse<Box<[u8]>>,
    /// Of session 0, which nobody has, until it is attached.
    pub(super) attachment: Attachment,
    pub(super) interval_ms: u32,
    pub(super) timeout_ms: u32,
    /// When the peer was asked whether it is alive.
    pub(super) asked: Option<OwnInstant>,
    /// What the peer's BYE says.
    pub(super) goodbye: Option<Goodbye>,
    /// The output is full: until some of it has been sent, nothing can be added.
    pub(super) is_full: bool,
    /// The peer has been told that the planned end is near.
    pub(super) noticed: bool,
    pub(super) resumed: bool,
    pub(super) token_used: bool,
    /// The owner has messages above those that are kept here.
    pub(super) is_behind: bool,
    /// It has been asked for them.
    pub(super) is_loading: bool,
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

    /// The client has said so, or has never sent anything in the session that it got.
    pub(super) fn is_over_for_good(&self) -> bool {
        match self.goodbye {
            Some(goodbye) => goodbye == Goodbye::ForGood,
            None => !(self.resumed || self.token_used),
        }
    }

    /// What became of messages is said before the last frame, unless more of that waits than may. Returns the cursor
    /// that the last frame names; none if the peer has said its own.
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

    /// When something has to be sent unasked, and what.
    pub(super) fn reminders(&self, planned: Instant, policy: &Policy) -> [Option<(Instant, Timer)>; 2] {
        let notice = (self.pulse.is_attached() && !self.noticed)
            .then(|| (planned.before(NOTICE_BEFORE.min(policy.age_max() / 10)), Timer::Notice));
        let confirm = self.pulse.poll_timeout().filter(|_| !self.is_full);
        [confirm.map(|due| (due, Timer::Confirm)), notice]
    }

    /// When the client is due a beat although we don't read.
    pub(super) fn assurance(&self, lifetime: &Lifetime, stalled: Duration) -> Option<(Instant, Timer)> {
        let interval = Duration::from_millis(self.interval_ms.into());
        let due = lifetime.assurance(stalled, interval).filter(|_| self.pulse.is_attached())?;
        Some((due, Timer::Assurance))
    }

    /// Whether the client, whose messages are arriving, is due a sign of life from us. Once in each interval that
    /// begins while they arrive, so that the time of the last one need not be stored.
    pub(super) fn awaits_word(&self, heard: OwnInstant, now: OwnInstant) -> bool {
        let interval = u64::from(self.interval_ms.max(1)) * 1_000_000;
        heard.as_nanos() / interval != now.as_nanos() / interval
    }

    /// Whether messages of the client are on their way in, so that a question of its own would wait behind them.
    pub(super) fn is_receiving(&self) -> bool {
        self.pulse.is_attached() && (self.pulse.is_inside_frame() || self.pulse.owes_receipts())
    }

    /// Its silence counts anew from `now` and not from `before`, since we did not read meanwhile: a word of ours that has
    /// become due by then must not be forgotten for that. It leaves with what is said next.
    pub(super) fn handle_heard_anew(&mut self, before: OwnInstant, now: OwnInstant) {
        let has_words = self.is_full || self.pulse.urgent_bytes() > 0;
        if self.is_receiving() && self.awaits_word(before, now) && !has_words {
            self.pulse.beat(Beat::Beat);
        }
    }

    /// Keeps a message if it is the next one: it may have come in both ways, pushed and loaded.
    pub(super) fn keep(&mut self, number: u64, payload: Box<[u8]>) {
        if number == self.pulse.sending().last() + 1 {
            self.pulse.push(payload);
        }
    }

    /// Whether there is nothing to send, and nothing to ask for.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.pulse.is_quiet() && !self.is_behind
    }

    /// The request for more messages, if there are more and they could be sent.
    pub(super) fn poll_room(&mut self) -> Option<Event<'static>> {
        if !self.is_behind || self.is_loading {
            return None;
        }
        let attachment = self.attachment()?;
        let sending = self.pulse.sending();
        let (above, bytes) = (sending.last(), sending.room()?);
        self.is_loading = true;
        Some(Event::Room { attachment, above, bytes })
    }

    pub(super) fn answer<'a>(
        &self,
        policy: &Policy,
        admission: &Admission<'a>,
        remaining: Duration,
    ) -> Welcome<'a> {
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
