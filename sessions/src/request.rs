//! Requests to a committer. Must not know: frames, or tables.
//!
//! A session's number is never 0.

use crate::attach::Attach;
use crate::seat::{Moment, Seat, Source, Ticket};
use pulsegate_core::connection::Attachment;

/// The most that one [`Request::Load`] brings, in bytes, overrun by one message.
pub const LOAD_BYTES_MAX: u32 = 64 * 1024;

/// What a request counts in the queue beside what it carries.
pub(crate) const REQUEST_BYTES: usize = 128;

/// A request to a committer.
///
/// Those of one session have to be submitted in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// A connection asks for a session. Answered by [`Reply::Attached`](crate::Reply::Attached) or
    /// [`Reply::AttachRefused`](crate::Reply::AttachRefused).
    Attach(Box<Attach>),
    /// A client's message. Answered by [`Reply::Committed`](crate::Reply::Committed), by
    /// [`Reply::Refused`](crate::Reply::Refused) and [`Reply::Committed`](crate::Reply::Committed), by
    /// [`Reply::Ended`](crate::Reply::Ended), or not at all if the connection has been replaced. While 64 refusals of a
    /// session stand unconfirmed, the next that would be refused waits, and all behind it, for a [`Request::Confirm`].
    /// If the session or the connection is not known, answered by [`Reply::Orphaned`](crate::Reply::Orphaned).
    Message {
        /// The session, the connection, and where replies go; returned in the reply.
        seat: Seat,
        /// Its number.
        number: u64,
        /// When it arrived, in milliseconds since 1970-01-01 UTC.
        received_at_ms: u64,
        /// What it says.
        payload: Box<[u8]>,
    },
    /// A message of a client that has no session: stored as it is, with session 0. Not answered, and without a
    /// receipt: nobody finds out whether one was committed twice.
    ///
    /// The caller promises that the payload is no longer than the store takes, the client's id no longer than
    /// 128 bytes, and that the store is one with a directory. What breaks this is not stored, but logged and counted
    /// ([`Figures::appends_refused`](crate::Figures::appends_refused)).
    Append {
        /// Who sent it,
        client: Box<str>,
        /// and from where.
        source: Source,
        /// Its number, whatever that means to the caller; below 2^63.
        number: u64,
        /// When it arrived, in milliseconds since 1970-01-01 UTC.
        received_at_ms: u64,
        /// What it says.
        payload: Box<[u8]>,
    },
    /// A frame has arrived on the connection that brought the newest token: the older one is no longer valid. Not
    /// answered, and made durable with the next commit or tick.
    TokenUsed {
        /// The connection.
        attachment: Attachment,
    },
    /// The client holds receipts and refusals up to `floor`. Not answered, and made durable with the next
    /// commit or tick.
    Confirm {
        /// The connection.
        attachment: Attachment,
        /// The highest number.
        floor: u64,
    },
    /// A message to a client. Answered by [`Reply::Pushed`](crate::Reply::Pushed) or
    /// [`Reply::PushRefused`](crate::Reply::PushRefused).
    Push {
        /// Handed back.
        ticket: Ticket,
        /// To whom.
        to: Recipient,
        /// When, in milliseconds since 1970-01-01 UTC.
        now_ms: u64,
        /// What it says.
        payload: Box<[u8]>,
    },
    /// A connection's window has room for messages to its client. Answered by [`Reply::Loaded`](crate::Reply::Loaded)
    /// unless the connection has been replaced.
    Load {
        /// The session, the connection, and where replies go; returned in the reply.
        seat: Seat,
        /// Those with numbers above this one,
        above: u64,
        /// as many as have so many bytes of payload, but one at least and [`LOAD_BYTES_MAX`](crate::LOAD_BYTES_MAX) at
        /// most; each counts 64 beside its payload.
        bytes_max: u32,
    },
    /// The client has committed or refused our messages up to `committed`: they are forgotten. Not answered.
    OutReceipt {
        /// The connection.
        attachment: Attachment,
        /// The client's cursor.
        committed: u64,
    },
    /// A connection has ended. Answered by [`Reply::Detached`](crate::Reply::Detached) unless another connection has
    /// replaced it. Never turned away by [`SubmitError::Busy`](crate::SubmitError::Busy): there is at most one for each
    /// attach.
    Detach {
        /// The session, the connection, and where replies go; returned in the reply.
        seat: Seat,
        /// Whether the client has said that it is done for good: a session in which nothing is open goes at once.
        for_good: bool,
        /// When.
        now: Moment,
    },
}

/// To whom a message goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Recipient {
    /// To a session.
    Session(u64),
    /// To the newest session of the client with this id.
    Client(String),
}

impl Request {
    /// Whether it brings a message that nobody else keeps: who has sent it gets no receipt.
    #[must_use]
    pub const fn is_unkept(&self) -> bool {
        matches!(self, Self::Append { .. })
    }

    /// Whether it is only a hint, which may be lost and may wait for the next commit.
    #[must_use]
    pub const fn is_hint(&self) -> bool {
        matches!(self, Self::TokenUsed { .. } | Self::Confirm { .. })
    }

    /// Whether it makes a token that a client will be told.
    #[must_use]
    pub const fn has_token(&self) -> bool {
        matches!(self, Self::Attach(_))
    }

    /// Whether it is taken even by a full queue.
    #[must_use]
    pub const fn is_always_taken(&self) -> bool {
        matches!(self, Self::Detach { .. })
    }
}

const _: () = assert!(size_of::<Request>() <= REQUEST_BYTES);
