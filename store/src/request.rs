//! What a store is asked, and what it answers. Knows neither frames nor tables.
//!
//! A session's number is never 0.

use pulsegate_core::policy::SecondConnection;
use std::time::Duration;

/// 128 random bits that prove a session's owner.
pub type Token = [u8; 16];

/// The caller's own: whatever it needs to bring a reply where it belongs, such as a shard and a connection. The store
/// hands it back, remembers that of each session's connection, and does nothing else with it.
pub type Ticket = u128;

/// The most that one [`Request::Load`] brings, in bytes, overrun by one message.
pub const LOAD_BYTES_MAX: u32 = 64 * 1024;

/// Where a connection comes from, as its shares are counted: the caller's own number for an address or a network. 0 is
/// nobody's: it has no share, and no session or message of it is counted for one.
pub type Source = i64;

/// What a request counts in the queue beside what it carries.
pub(crate) const REQUEST_BYTES: usize = 128;

/// An instant on both clocks of the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    /// Milliseconds since 1970-01-01 UTC. It may jump: only what people read uses it.
    pub wall_ms: u64,
    /// Milliseconds on a clock that never goes back and runs while the gateway does, from wherever it begins.
    /// Sessions' times to live, the age of messages and the periods of quotas use it.
    pub uptime_ms: u64,
}

/// What a store may be asked.
///
/// Those of one session have to be submitted in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A connection wants a session. Answered by [`Reply::Attached`] or [`Reply::AttachRefused`].
    Attach(Box<Attach>),
    /// A client's message. Answered by [`Reply::Committed`], by [`Reply::Refused`] and [`Reply::Committed`], by
    /// [`Reply::Ended`], or not at all if the connection has been replaced. While 64 refusals of a session stand
    /// unconfirmed, the next that would be refused waits, and all behind it, for a [`Request::Confirm`]. If the session or
    /// the connection is not known, answered by [`Reply::Orphaned`].
    Message {
        /// Handed back.
        ticket: Ticket,
        /// The session on which it came,
        session: u64,
        /// and the epoch of the connection.
        epoch: u64,
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
    /// A frame has arrived on the connection that brought the newest token: the one before is void. Not answered,
    /// and made durable with the next commit or tick.
    TokenUsed {
        /// The session
        session: u64,
        /// and the epoch of the connection.
        epoch: u64,
    },
    /// The client holds receipts and refusals up to `floor`. Not answered, and made durable with the next
    /// commit or tick.
    Confirm {
        /// The session
        session: u64,
        /// and the epoch of the connection.
        epoch: u64,
        /// The highest number.
        floor: u64,
    },
    /// A message to a client. Answered by [`Reply::Pushed`] or [`Reply::PushRefused`].
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
    /// A connection's window has room for messages to its client. Answered by [`Reply::Loaded`] unless the connection has
    /// been replaced.
    Load {
        /// Handed back.
        ticket: Ticket,
        /// The session
        session: u64,
        /// and the epoch of the connection.
        epoch: u64,
        /// Those with numbers above this one,
        above: u64,
        /// as many as have so many bytes of payload, but one at least and [`LOAD_BYTES_MAX`](crate::LOAD_BYTES_MAX) at
        /// most; each counts 64 beside its payload.
        bytes_max: u32,
    },
    /// The client has committed or refused our messages up to `committed`: they are forgotten. Not answered.
    OutReceipt {
        /// The session
        session: u64,
        /// and the epoch of the connection.
        epoch: u64,
        /// The client's cursor.
        committed: u64,
    },
    /// A connection has ended. Answered by [`Reply::Detached`] unless another connection has replaced it. Never
    /// turned away by [`SubmitError::Busy`](crate::SubmitError::Busy): there is at most one for each attach.
    Detach {
        /// Handed back.
        ticket: Ticket,
        /// The session
        session: u64,
        /// and the epoch of the connection.
        epoch: u64,
        /// Whether the client has said that it is done for good: a session in which nothing is open goes at once.
        for_good: bool,
        /// When.
        now: Moment,
    },
}

/// A connection wants a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// Handed back.
    pub ticket: Ticket,
    /// The client's id.
    pub client: String,
    /// Where it is.
    pub source: Source,
    /// The session that it was in.
    pub resume: Option<Resume>,
    /// The next token, if a new one is needed: 128 random bits that were never used before.
    pub token: Token,
    /// What happens if the client has a connection already.
    pub second: SecondConnection,
    /// The longest payload that the client takes, in bytes. The newest value counts, even if it is the lower one.
    pub message_bytes_max: u32,
    /// The longest payload that the client is to be told it may send, in bytes. In a session the highest value counts.
    pub told_bytes_max: u32,
    /// When.
    pub now: Moment,
    /// How long the session is kept without a connection; at most 2^40 milliseconds count.
    pub time_to_live: Duration,
}

/// A session to go on with, as the client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Its number.
    pub session: u64,
    /// The newest token that the client has.
    pub token: Token,
    /// The client's cursor of our messages.
    pub committed: u64,
    /// The highest of its messages that it holds a receipt or a refusal for.
    pub acknowledged: u64,
}

/// To whom a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// To a session.
    Session(u64),
    /// To the newest session of the client with this id.
    Client(String),
}

/// What a store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A connection has a session.
    Attached(Box<Attached>),
    /// A connection gets no session; nothing was changed.
    AttachRefused {
        /// As given.
        ticket: Ticket,
        /// Why.
        why: AttachRefusal,
    },
    /// Everything up to `committed` is committed or was refused. At most one for a connection and batch, after the
    /// refusals.
    Committed {
        /// That of the last message.
        ticket: Ticket,
        /// The session
        session: u64,
        /// and the epoch of the connection.
        epoch: u64,
        /// The cursor.
        committed: u64,
    },
    /// A message is not accepted; the cursor has passed over it.
    Refused {
        /// As given.
        ticket: Ticket,
        /// The session
        session: u64,
        /// and the epoch of the connection.
        epoch: u64,
        /// Which, and why.
        refusal: Refusal,
    },
    /// A message can't come from a connection that keeps the protocol, or can't wait any longer: the connection has to
    /// end. Nothing was changed by that message. It comes after all other replies of its batch.
    Ended {
        /// As given.
        ticket: Ticket,
        /// The session
        session: u64,
        /// and the epoch of the connection.
        epoch: u64,
        /// The message's number.
        number: u64,
        /// Why.
        why: EndReason,
    },
    /// The store does not know the session, or not that it has this connection: it has lost what it knew. The connection
    /// has to end. Said to all of them after a fault, and to each that sends a message.
    Orphaned {
        /// As given, with the message or the [`Attach`].
        ticket: Ticket,
        /// The session
        session: u64,
        /// and the epoch of the connection.
        epoch: u64,
    },
    /// A message to a client is stored, and may go out.
    Pushed {
        /// As given.
        ticket: Ticket,
        /// The session
        session: u64,
        /// and the epoch of its connection.
        epoch: u64,
        /// Where it goes now: the ticket of that connection's [`Attach`]. Without one [`Request::Load`] brings it to the
        /// next.
        connection: Option<Ticket>,
        /// The number that it was given.
        number: u64,
        /// What it says.
        payload: Box<[u8]>,
    },
    /// Messages to a client, in order and without gaps.
    Loaded {
        /// As given.
        ticket: Ticket,
        /// The session
        session: u64,
        /// and the epoch of the connection.
        epoch: u64,
        /// Those that were asked for.
        messages: Vec<Outgoing>,
        /// There are more above them.
        has_more: bool,
    },
    /// A message to a client was not stored.
    PushRefused {
        /// As given.
        ticket: Ticket,
        /// Why.
        why: PushRefusal,
    },
    /// A connection's end is known to the store.
    Detached {
        /// As given.
        ticket: Ticket,
        /// The session
        session: u64,
        /// and the epoch of the connection.
        epoch: u64,
        /// Whether the session is gone.
        forgotten: bool,
    },
    /// A session has expired.
    Expired {
        /// Which.
        session: u64,
        /// The first and the last of our messages to it whose fate nobody knows.
        unknown: Option<(u64, u64)>,
    },
    /// Those who have used up their share of what is kept: nothing more is to be read from them until they stand here no
    /// longer. What has been read is committed all the same. All of them are named each time, and sessions may be told
    /// that have no connection.
    Resting {
        /// Sessions.
        sessions: Box<[u64]>,
        /// Sources, with all of their sessions and raw clients.
        sources: Box<[Source]>,
    },
    /// The queue takes requests again, after [`SubmitError::Busy`](crate::SubmitError::Busy).
    Ready,
    /// Nothing can be committed. What was submitted waits. Said once for a fault.
    Stopped {
        /// A sentence for the operator: it names paths, and is not for clients.
        why: String,
    },
    /// Commits go on: all that waited is committed, or a tick has passed without another fault.
    GoesOn,
}

/// A connection has a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// As given.
    pub ticket: Ticket,
    /// The session.
    pub session: u64,
    /// The epoch of the connection.
    pub epoch: u64,
    /// The ticket of the connection that this one has replaced, and that has to end (PROTOCOL.md section 5.6).
    pub replaced: Option<Ticket>,
    /// Whether it is a new one.
    pub outcome: Outcome,
    /// The token for WELCOME: the one that was given, or the one that went out before and was never used.
    pub token: Token,
    /// The cursor of the client's messages.
    pub committed: u64,
    /// What the client holds receipts for.
    pub floor: u64,
    /// The cursor of our messages: the client has committed or refused up to here.
    pub acknowledged: u64,
    /// The longest payload that the client may send, in bytes: the highest that it was ever told in this session.
    pub told_bytes_max: u32,
    /// The first and the last of the client's messages that were acknowledged and are lost. Said again with each
    /// WELCOME until one of them is known to have arrived.
    pub lost: Option<(u64, u64)>,
    /// Refusals that the client may not have got, lowest first. WELCOME names them (PROTOCOL.md section 5.7);
    /// otherwise the client would take these messages for committed.
    pub refused: Vec<Refusal>,
    /// There are messages of ours above `acknowledged`; [`Request::Load`] brings them.
    pub is_behind: bool,
}

/// Which session a connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A new one.
    New,
    /// The one that it asked for.
    Resumed,
}

/// A message to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its number.
    pub number: u64,
    /// What it says.
    pub payload: Box<[u8]>,
}

/// A message that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// Its number.
    pub number: u64,
    /// Why.
    pub code: RefusalCode,
}

/// Why a message is not accepted; the codes of REFUSE (PROTOCOL.md section 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum RefusalCode {
    /// Its payload is longer than the store takes.
    TooLarge = 1,
    /// Its session has used up its quota.
    OverQuota = 2,
}

impl RefusalCode {
    pub(crate) const fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::TooLarge),
            2 => Some(Self::OverQuota),
            _ => None,
        }
    }
}

/// Why a connection gets no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttachRefusal {
    /// The token is neither the session's newest nor the one before it.
    BadToken,
    /// The session belongs to a client with another id.
    OtherClient,
    /// The client has a connection, which is not to be replaced.
    InUse,
    /// There are as many sessions as there may be, in all or of this source, and in each of them something was committed.
    SessionLimit,
    /// A cursor is beyond what a session can reach, or the client's id is longer than 128 bytes.
    Impossible,
}

/// Why a message to a client was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PushRefusal {
    /// There is no such session.
    NoSession,
    /// Its payload is longer than the store takes, or the client.
    TooLarge,
    /// As much waits for this client's receipt as may.
    Full,
    /// As much waits for the receipts of all clients as may, or of those of this client's source.
    StoreFull,
    /// The store has ended before it answered: nobody knows whether the message is stored. A store never says so itself.
    Unknown,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// A message before this one is missing.
    Gap,
    /// Messages wait for the client to confirm refusals: for too long, or too much in all sessions together.
    Unconfirmed,
}

impl Request {
    /// Whether it brings a message that nobody else keeps: who has sent it gets no receipt.
    pub(crate) const fn is_unkept(&self) -> bool {
        matches!(self, Self::Append { .. })
    }

    /// Whether it is only a hint, which may be lost and may wait for the next commit.
    pub(crate) const fn is_hint(&self) -> bool {
        matches!(self, Self::TokenUsed { .. } | Self::Confirm { .. })
    }

    /// Whether it makes a token that a client will be told.
    pub(crate) const fn has_token(&self) -> bool {
        matches!(self, Self::Attach(_))
    }

    /// Whether it is taken even by a full queue.
    pub(crate) const fn is_always_taken(&self) -> bool {
        matches!(self, Self::Detach { .. })
    }
}

/// Why requests were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// As much waits as may. [`Reply::Ready`] says when there is room again.
    #[error("the store's queue is full")]
    Busy,
    /// The store has been closed, or its thread has died.
    #[error("the store is closed")]
    Closed,
}

const _: () = assert!(size_of::<Request>() <= REQUEST_BYTES);
