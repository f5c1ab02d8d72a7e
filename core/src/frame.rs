//! Frames of the pulse protocol (PROTOCOL.md sections 2, 3, 5 to 8): bytes to frames and back. Knows no
//! state: who may send what, and when, is not decided here.
//!
//! Modules, each using only those after it: `reader`, `decode`, `encode`.

mod decode;
mod encode;
mod reader;

use crate::exchange::Window;

pub use reader::FrameReader;

/// What a client sends first, with the version in its place (PROTOCOL.md section 2).
pub const PREFACE: [u8; 8] = *b"PULSE\x00\x01\n";
/// The place of the version in the preface.
pub const VERSION_PLACE: usize = 6;
/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 4;
/// The longest body of any frame but MESSAGE.
pub const BODY_BYTES_MAX: usize = 1024;
/// The longest id of a client, in bytes.
pub const ID_BYTES_MAX: usize = 128;
/// The longest text in a frame, in bytes.
pub const TEXT_BYTES_MAX: usize = 512;
/// The longest payload that a listener or a client may allow.
pub const MESSAGE_BYTES_MAX: u32 = 16_000_000;
/// The highest cursor that a HELLO or a WELCOME may name (PROTOCOL.md section 9).
pub const CURSOR_MAX: u64 = (1 << 63) - 1;
/// NOTICE (PROTOCOL.md section 8.1): the connection will be ended.
pub const NOTICE_END: u16 = 1;
/// NOTICE: the gateway is draining.
pub const NOTICE_DRAIN: u16 = 2;
/// NOTICE: receipts have stopped.
pub const NOTICE_STOPPED: u16 = 3;
/// NOTICE: receipts continue.
pub const NOTICE_GOES_ON: u16 = 4;
/// NOTICE: nothing more is read, since a share of what is kept is used up.
pub const NOTICE_RESTS: u16 = 5;
/// The most refusals that a HELLO or a WELCOME names.
pub const REFUSALS_MAX: usize = 64;
/// A refusal in a HELLO or a WELCOME: a number and a code.
const REFUSAL_BYTES: usize = 10;
/// What a HELLO has before the client's id.
const HELLO_BYTES: usize = 64;
/// What a WELCOME has before its refusals.
const WELCOME_BYTES: usize = 96;
/// What a MESSAGE's body has before its payload.
pub const NUMBER_BYTES: usize = 8;

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FrameError {
    /// A body's length or a field doesn't fit its type.
    Malformed,
    /// An unknown type that is not to be skipped.
    Unknown,
    /// A body longer than allowed.
    TooLarge,
    /// Text that is not UTF-8.
    BadText,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a frame's length or fields do not fit its type",
            Self::Unknown => "a frame has a type that does not exist",
            Self::TooLarge => "a frame is longer than allowed",
            Self::BadText => "a text in a frame is not UTF-8",
        })
    }
}

impl std::error::Error for FrameError {}

/// What the client asks for, or what it gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LifetimeKind {
    /// In a HELLO: whatever the listener gives.
    #[default]
    Any = 0,
    /// A fixed deadline.
    Short = 1,
    /// As long as heartbeats come.
    Long = 2,
}

/// What a committed message survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Durability {
    /// Nothing: it is in memory only.
    None,
    /// The end of the gateway, by whatever signal, since the operating system has it; not the loss of power.
    Os,
    /// The loss of power as well: it is synced to disk.
    Synced,
    /// A value that this version doesn't know, as a client may be told by a newer gateway.
    Other(u8),
}

impl Durability {
    /// The level with this number (PROTOCOL.md section 5.2).
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::None,
            1 => Self::Os,
            2 => Self::Synced,
            other => Self::Other(other),
        }
    }

    /// Its number on the wire (PROTOCOL.md section 5.2).
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Os => 1,
            Self::Synced => 2,
            Self::Other(code) => code,
        }
    }
}

/// In words, as they stand behind "committed".
impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("in memory only"),
            Self::Os => f.write_str("with the operating system"),
            Self::Synced => f.write_str("synced to disk"),
            Self::Other(code) => write!(f, "at durability {code}"),
        }
    }
}

/// A client's first frame (PROTOCOL.md section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// What the client asks for.
    pub lifetime: LifetimeKind,
    /// The shortest interval between its heartbeats that suits it, in ms.
    pub beat_min_ms: u32,
    /// The longest one, in ms; 0: no wish.
    pub beat_max_ms: u32,
    /// How much may be in flight to it.
    pub window: Window,
    /// The longest payload that it takes, in bytes.
    pub message_bytes_max: u32,
    /// The session to resume; 0: none.
    pub session: u64,
    /// The newest token of that session.
    pub token: [u8; 16],
    /// What it has committed of the gateway's messages.
    pub committed: u64,
    /// The highest of its own messages up to which it knows the fate of all.
    pub acknowledged: u64,
    /// Who it is.
    pub id: &'a str,
    /// Which of the gateway's messages up to `committed` it has refused, where that is not confirmed.
    pub refused: Refusals<'a>,
}

/// The gateway's answer (PROTOCOL.md section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome<'a> {
    /// The session is resumed; otherwise it is new.
    pub resumed: bool,
    /// Short or long.
    pub lifetime: LifetimeKind,
    /// What "committed" means.
    pub durability: Durability,
    /// How often the client has to send something, in ms.
    pub beat_interval_ms: u32,
    /// After this much silence the connection is ended, in ms.
    pub beat_timeout_ms: u32,
    /// Until the connection's planned end, in ms.
    pub remaining_ms: u32,
    /// How long the session is kept without a connection, in ms.
    pub session_ttl_ms: u32,
    /// How much may be in flight to the gateway.
    pub window: Window,
    /// The longest payload that the gateway takes, in bytes.
    pub message_bytes_max: u32,
    /// Milliseconds since 1970-01-01 UTC.
    pub server_time_ms: u64,
    /// The session's number.
    pub session: u64,
    /// For the next HELLO.
    pub token: [u8; 16],
    /// The gateway's cursor of the client's messages.
    pub committed: u64,
    /// The highest of its own messages that the gateway holds a receipt for.
    pub acknowledged: u64,
    /// The client's messages that the gateway has lost, first and last; 0 and 0: none.
    pub lost: (u64, u64),
    /// Which of the client's messages up to `committed` were refused, where that is not confirmed.
    pub refused: Refusals<'a>,
}

/// Refusals in a HELLO or a WELCOME, lowest number first, as they are on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals<'a> {
    bytes: &'a [u8],
}

impl<'a> Refusals<'a> {
    /// None.
    pub const EMPTY: Self = Self { bytes: &[] };

    /// Writes refusals, number and code, in the order of their numbers, for [`read`](Self::read).
    pub fn write(refusals: impl IntoIterator<Item = (u64, u16)>) -> Vec<u8> {
        let bytes = |(number, code): (u64, u16)| number.to_be_bytes().into_iter().chain(code.to_be_bytes());
        refusals.into_iter().flat_map(bytes).collect()
    }

    /// Reads what stands on the wire.
    ///
    /// # Errors
    /// [`FrameError::Malformed`] if there are too many, or they are not in the order of their numbers from 1
    /// up to `committed`.
    pub fn read(bytes: &'a [u8], committed: u64) -> Result<Self, FrameError> {
        let refusals = Self { bytes };
        let is_whole =
            bytes.len().is_multiple_of(REFUSAL_BYTES) && bytes.len() <= REFUSALS_MAX * REFUSAL_BYTES;
        let numbers = || std::iter::once(0).chain(refusals.iter().map(|(number, _)| number));
        let is_ordered = numbers().zip(numbers().skip(1)).all(|(one, next)| one < next && next <= committed);
        if is_whole && is_ordered { Ok(refusals) } else { Err(FrameError::Malformed) }
    }

    /// The refused numbers with their codes.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u16)> + use<'a> {
        self.bytes.as_chunks::<REFUSAL_BYTES>().0.iter().map(|refusal| {
            let [n0, n1, n2, n3, n4, n5, n6, n7, c0, c1] = *refusal;
            (u64::from_be_bytes([n0, n1, n2, n3, n4, n5, n6, n7]), u16::from_be_bytes([c0, c1]))
        })
    }
}

/// What a BEAT is (PROTOCOL.md section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Beat {
    /// A sign of life; nothing answers it.
    Beat = 0,
    /// A question; it is answered at once.
    Question = 1,
    /// The answer.
    Answer = 2,
}

/// The last frame of its sender (PROTOCOL.md section 8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bye<'a> {
    /// Why (PROTOCOL.md section 8.3).
    pub code: u16,
    /// 0 never with the same, 1 at once, 2 after `delay_ms`.
    pub retry: u8,
    /// With retry 2, in ms.
    pub delay_ms: u32,
    /// The sender's cursor, at least.
    pub committed: u64,
    /// A sentence for people.
    pub text: &'a str,
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// See [`Hello`].
    Hello(Hello<'a>),
    /// See [`Welcome`].
    Welcome(Welcome<'a>),
    /// See [`Beat`].
    Beat(Beat),
    /// A message (PROTOCOL.md section 7.1).
    Message {
        /// Its number.
        number: u64,
        /// Its payload.
        payload: &'a [u8],
    },
    /// Everything up to this number is committed or refused (PROTOCOL.md section 7.2).
    Receipt {
        /// The cursor.
        committed: u64,
    },
    /// A message was not accepted (PROTOCOL.md section 7.3).
    Refuse {
        /// Its number.
        number: u64,
        /// Why.
        code: u16,
        /// A sentence for people.
        text: &'a str,
    },
    /// Receipts are held up to this number (PROTOCOL.md section 7.4).
    Confirm {
        /// The number.
        floor: u64,
    },
    /// A notice (PROTOCOL.md section 8.1).
    Notice {
        /// What.
        code: u16,
        /// How long until then, in ms.
        in_ms: u32,
        /// A sentence for people.
        text: &'a str,
    },
    /// See [`Bye`].
    Bye(Bye<'a>),
}

const HELLO: u8 = 0x01;
const WELCOME: u8 = 0x02;
const BEAT: u8 = 0x03;
const MESSAGE: u8 = 0x04;
const RECEIPT: u8 = 0x05;
const REFUSE: u8 = 0x06;
const CONFIRM: u8 = 0x07;
const NOTICE: u8 = 0x08;
const BYE: u8 = 0x09;
/// Types from here on are skipped when they are not known.
const SKIPPED: u8 = 0x80;

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    kind: u8,
    length: u32,
}

impl Header {
    /// Reads a header.
    #[must_use]
    pub const fn decode(bytes: [u8; HEADER_BYTES]) -> Self {
        let header = u32::from_be_bytes(bytes);
        Self { kind: (header >> 24) as u8, length: header & 0xFF_FFFF }
    }

    /// The length of the body, in bytes. Look at it only after [`check`](Self::check).
    #[must_use]
    pub const fn body_bytes(self) -> usize {
        self.length as usize
    }

    /// Whether this body is allowed, before memory is allocated for it.
    ///
    /// # Errors
    /// [`FrameError::Unknown`], [`FrameError::Malformed`] or [`FrameError::TooLarge`]
    /// (PROTOCOL.md sections 3.1 to 3.3).
    pub const fn check(self, message_bytes_max: u32) -> Result<(), FrameError> {
        let length = self.body_bytes();
        let (min, max, fault) = match self.kind {
            HELLO => {
                let max = HELLO_BYTES + ID_BYTES_MAX + REFUSALS_MAX * REFUSAL_BYTES;
                (HELLO_BYTES + 1, max, FrameError::Malformed)
            }
            WELCOME => (WELCOME_BYTES, WELCOME_BYTES + REFUSALS_MAX * REFUSAL_BYTES, FrameError::Malformed),
            BEAT => (1, 1, FrameError::Malformed),
            MESSAGE => (NUMBER_BYTES, NUMBER_BYTES + message_bytes_max as usize, FrameError::TooLarge),
            RECEIPT | CONFIRM => (8, 8, FrameError::Malformed),
            REFUSE => (10, 10 + TEXT_BYTES_MAX, FrameError::Malformed),
            NOTICE => (6, 6 + TEXT_BYTES_MAX, FrameError::Malformed),
            BYE => (16, 16 + TEXT_BYTES_MAX, FrameError::Malformed),
            SKIPPED.. => (0, BODY_BYTES_MAX, FrameError::TooLarge),
            _ => return Err(FrameError::Unknown),
        };
        if length < min {
            Err(FrameError::Malformed)
        } else if length > max {
            Err(if length > BODY_BYTES_MAX { FrameError::TooLarge } else { fault })
        } else {
            Ok(())
        }
    }

    /// Whether this is a MESSAGE.
    #[must_use]
    pub const fn is_message(self) -> bool {
        self.kind == MESSAGE
    }
}
