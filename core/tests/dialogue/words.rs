//! What the two sides say, and the policies under which they say it.

pub(crate) use crate::common::{admission, bytes, hello};

use pulsegate_core::close::{CloseReason, Retry};
use pulsegate_core::connection::{Admission, Attachment};
use pulsegate_core::exchange::Window;
use pulsegate_core::frame::{Beat, Frame, FrameReader, Hello, LifetimeKind, MESSAGE_BYTES_MAX, PREFACE};
use pulsegate_core::policy::{LifetimePolicy, Policy, Protocol, PulsePolicy};
use std::time::Duration;

pub(crate) const NANO: Duration = Duration::from_nanos(1);
/// The heartbeat timeout of [`pulse`]: a quarter of it, and a third, are whole.
pub(crate) const TIMEOUT: Duration = s(12);
/// When the peer is asked, counted from when it was heard.
pub(crate) const ASKED: Duration = s(9);
/// The maximum age of [`pulse`].
pub(crate) const AGE: Duration = s(3_600);
/// The time for the first message of [`pulse`].
pub(crate) const FIRST: Duration = s(10);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A listener for the pulse protocol, with a long lifetime.
pub(crate) fn pulse() -> Policy {
    Policy {
        protocol: Protocol::Pulse,
        pulse: PulsePolicy { window: Window { messages: 20, bytes: 64 * 1024 }, ..PulsePolicy::default() },
        lifetime: LifetimePolicy::Long { heartbeat_timeout: TIMEOUT, max_age: AGE },
        first_message: FIRST,
        ..Policy::default()
    }
}

/// The same with a fixed deadline.
pub(crate) fn short(deadline: Duration) -> Policy {
    Policy { lifetime: LifetimePolicy::Short { deadline }, first_message: deadline.min(FIRST), ..pulse() }
}

/// The same for raw clients too, of whom each chunk is a message.
pub(crate) fn auto() -> Policy {
    Policy { protocol: Protocol::Auto, farewell: Some("bye {reason}".into()), ..pulse() }
}

/// One in which nobody is missed for a long time.
pub(crate) fn patient() -> Policy {
    Policy { lifetime: LifetimePolicy::Long { heartbeat_timeout: AGE, max_age: AGE }, ..pulse() }
}

/// The HELLO of one that comes back, and has committed so many of our messages.
pub(crate) fn hello_again(committed: u64) -> Hello<'static> {
    Hello { session: 7, token: [7; 16], committed, ..hello() }
}

/// What lets in the client of a session that goes on.
pub(crate) fn admission_again() -> Admission<'static> {
    Admission { attachment: Attachment { session: 7, epoch: 2 }, resumed: true, ..admission() }
}

/// The preface and these frames, in one piece.
pub(crate) fn opening(frames: &[Frame<'_>]) -> Vec<u8> {
    [&PREFACE[..], &bytes(frames)].concat()
}

pub(crate) fn beat() -> Vec<u8> {
    bytes(&[Frame::Beat(Beat::Beat)])
}

pub(crate) fn message(number: u64, payload: &[u8]) -> Vec<u8> {
    bytes(&[Frame::Message { number, payload }])
}

/// A frame of a type that is not known and is skipped.
pub(crate) fn skipped() -> Vec<u8> {
    vec![0xF0, 0, 0, 2, 1, 2]
}

/// A frame of ours, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Welcome {
        resumed: bool,
        lifetime: LifetimeKind,
        beats_ms: (u32, u32),
        remaining_ms: u32,
        committed: u64,
        acknowledged: u64,
    },
    Beat(Beat),
    Message(u64, Vec<u8>),
    Receipt(u64),
    Refuse(u64, u16),
    Confirm(u64),
    Notice {
        code: u16,
        in_ms: u32,
        text: String,
    },
    Bye {
        code: u16,
        retry: u8,
        delay_ms: u32,
        committed: u64,
        text: String,
    },
}

impl Said {
    fn of(frame: Frame<'_>) -> Self {
        match frame {
            Frame::Hello(_) => panic!("a gateway says no HELLO"),
            Frame::Welcome(welcome) => Self::Welcome {
                resumed: welcome.resumed,
                lifetime: welcome.lifetime,
                beats_ms: (welcome.beat_interval_ms, welcome.beat_timeout_ms),
                remaining_ms: welcome.remaining_ms,
                committed: welcome.committed,
                acknowledged: welcome.acknowledged,
            },
            Frame::Beat(beat) => Self::Beat(beat),
            Frame::Message { number, payload } => Self::Message(number, payload.to_vec()),
            Frame::Receipt { committed } => Self::Receipt(committed),
            Frame::Refuse { number, code, .. } => Self::Refuse(number, code),
            Frame::Confirm { floor } => Self::Confirm(floor),
            Frame::Notice { code, in_ms, text } => Self::Notice { code, in_ms, text: text.to_owned() },
            Frame::Bye(bye) => Self::Bye {
                code: bye.code,
                retry: bye.retry,
                delay_ms: bye.delay_ms,
                committed: bye.committed,
                text: bye.text.to_owned(),
            },
        }
    }

    /// The BYE that ends a connection for `reason`, with this cursor.
    pub(crate) fn bye(reason: CloseReason, committed: u64) -> Self {
        let (retry, delay_ms) = match reason.retry() {
            Retry::Never => (0, 0),
            Retry::Now => (1, 0),
            Retry::After(delay) => (2, delay.as_millis() as u32),
        };
        let text = reason.sentence().to_owned();
        Self::Bye { code: reason.code(), retry, delay_ms, committed, text }
    }

    pub(crate) fn message(number: u64, payload: &str) -> Self {
        Self::Message(number, payload.as_bytes().to_vec())
    }
}

/// Whole frames of ours.
#[track_caller]
pub(crate) fn read(bytes: &[u8]) -> Vec<Said> {
    let mut reader = FrameReader::default();
    let mut said = Vec::new();
    let outcome = reader.handle_input(bytes, MESSAGE_BYTES_MAX, |frame| {
        said.push(Said::of(frame));
        true
    });
    assert!(outcome.is_ok() && reader.is_between_frames(), "{outcome:?}: not whole frames: {bytes:?}");
    said
}
