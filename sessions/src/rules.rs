//! How much sessions may have: the limits as plain numbers. Knows no session.

use pulsegate_core::frame::CURSOR_MAX;
use std::time::Duration;

/// The highest number that a message may have, and that a peer may claim (PROTOCOL.md section 9).
pub(crate) const NUMBER_MAX: u64 = CURSOR_MAX;
/// What a message counts beside its payload, in bytes.
pub const MESSAGE_BYTES: u64 = 64;
/// The longest id of a client, in bytes (PROTOCOL.md section 9).
pub const CLIENT_BYTES_MAX: usize = 128;
/// How many refusals of a session may stand unconfirmed. What would have to be refused beyond them waits.
pub(crate) const REFUSALS_MAX: usize = 64;
/// The longest time to live, in milliseconds: 34 years.
pub(crate) const TTL_MS_MAX: u64 = 1 << 40;
/// The most sessions that expire at once.
pub(crate) const EXPIRED_MAX: usize = 256;
/// After how many messages that wait for their clients no more sessions expire at once.
pub(crate) const EXPIRED_OUTGOING_MAX: u64 = 2_048;

/// How much sessions may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether clients' messages are kept and counted; else they go on to somewhere else.
    pub keeps_messages: bool,
    /// The most sessions.
    pub sessions_max: u64,
    /// The most sessions of one source.
    pub sessions_of_source_max: u64,
    /// From so many sessions on, a new one is only for sources that hold few.
    pub sessions_open: u64,
    /// Whoever holds fewer sessions than this holds few.
    pub sessions_few: u64,
    /// The longest payload of a message, in either direction, in bytes.
    pub message_bytes_max: usize,
    /// How much one session may have committed, in bytes; each message counts 64 beside its payload,
    pub quota_bytes: u64,
    /// within so many milliseconds.
    pub quota_every_ms: u64,
    /// The most messages to one client that wait for its receipt.
    pub outgoing_messages_max: u64,
    /// The most bytes of payload to one client that wait for its receipt.
    pub outgoing_bytes_max: u64,
    /// The most bytes of payload that wait for the clients of one source.
    pub outgoing_bytes_of_source: u64,
    /// The most bytes of payload that wait for all clients together.
    pub outgoing_bytes_of_all: u64,
    /// What one session may have of the bytes that are kept; `None`: all of them.
    pub kept_of_session: Option<u64>,
    /// What one source may have of the bytes that are kept; `None`: all of them.
    pub kept_of_source: Option<u64>,
}

impl Rules {
    /// Nothing is kept, and nobody comes to a limit: what tests begin with that are about something else.
    pub const UNLIMITED: Self = Self {
        keeps_messages: false,
        sessions_max: u64::MAX,
        sessions_of_source_max: u64::MAX,
        sessions_open: u64::MAX,
        sessions_few: u64::MAX,
        message_bytes_max: usize::MAX,
        quota_bytes: u64::MAX,
        quota_every_ms: u64::MAX,
        outgoing_messages_max: u64::MAX,
        outgoing_bytes_max: u64::MAX,
        outgoing_bytes_of_source: u64::MAX,
        outgoing_bytes_of_all: u64::MAX,
        kept_of_session: None,
        kept_of_source: None,
    };
}

/// A duration in whole milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
