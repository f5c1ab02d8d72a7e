//! What comes out of a connection and what goes in, except bytes and time. Must not know: how a connection works.

use crate::close::CloseReason;
use crate::frame::{Durability, Hello, Refusals};

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
    /// The session is resumed; otherwise it is new.
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
    /// The longest payload that the client was ever told it may send in this session, in bytes. The listener's counts
    /// if that is more.
    pub message_bytes_max: u32,
    /// The first and the last of the client's messages that are lost.
    pub lost: Option<(u64, u64)>,
    /// Refusals that the client may not have received.
    pub refused: Refusals<'a>,
    /// Milliseconds since 1970-01-01 UTC.
    pub server_time_ms: u64,
}

/// What the owner of a connection has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message is complete. In the pulse protocol it is to be answered by [`commit`](super::Connection::commit),
    /// perhaps after [`refuse`](super::Connection::refuse).
    Message {
        /// Its number: on a raw connection, from 1; else in its session.
        number: u64,
        /// Its bytes, valid during the call.
        payload: &'a [u8],
    },
    /// The peer has ended its side. The connection stays until the owner says
    /// [`finish`](super::Connection::finish) and everything is sent, bounded by the half-close time.
    InputEnded,
    /// A client of the pulse protocol wants a session: [`welcome`](super::Connection::welcome), or an end.
    Hello(Hello<'a>),
    /// The client has used the token of WELCOME: the older one is no longer valid.
    TokenUsed,
    /// The client has committed or refused our messages up to this number.
    Settled(u64),
    /// The client's window has room for messages that its owner keeps and [`load`](super::Connection::load) has not
    /// brought yet.
    Room {
        /// The session, and the epoch of this connection.
        attachment: Attachment,
        /// Those with numbers above this one.
        above: u64,
        /// About this many bytes of them.
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
        /// The session need not be kept: the client said so, or never did anything in it.
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
    /// Whether the owner has bytes of its own to send after the last ones of the connection. Until it is called with these
    /// written, [`handle_written`](super::Connection::handle_written) takes nothing for the end.
    fn has_last_bytes(&self) -> bool {
        false
    }
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
    /// The socket has no unread input: it can be closed without destroying what is on its way.
    pub drained: bool,
}

/// Nothing was sent: the connection has ended, was told that nothing more would be sent, is past its deadline for
/// writing, or has more to send than its limit; or raw bytes would break the peer's protocol, or that is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSent;

impl std::fmt::Display for NotSent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not sent: the connection has ended, is about to end, or cannot take this now")
    }
}

impl std::error::Error for NotSent {}
