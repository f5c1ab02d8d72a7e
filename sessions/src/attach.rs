//! The request of a connection for a session, and the answer.

use crate::refusal::Refusal;
use crate::seat::{Moment, Seat, Source, Ticket};
use pulsegate_core::policy::SecondConnection;
use std::sync::Arc;
use std::time::Duration;

/// 128 random bits that prove a session's owner.
pub type Token = [u8; 16];

/// A connection asks for a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attach {
    /// Returned in the reply.
    pub ticket: Ticket,
    /// The client's id.
    pub client: String,
    /// The source of the connection.
    pub source: Source,
    /// The session to resume.
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

/// A session to resume, as the client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// A connection has a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attached {
    /// The ticket as given, the session, and the epoch of the connection.
    pub seat: Seat,
    /// The client's id.
    pub client: Arc<str>,
    /// The ticket of the connection that this one has replaced, and that has to end (PROTOCOL.md section 5.6).
    pub replaced: Option<Ticket>,
    /// Whether it is a new one.
    pub outcome: Outcome,
    /// The token for WELCOME: the one that was given, or one that was sent before and never used.
    pub token: Token,
    /// The cursor of the client's messages.
    pub committed: u64,
    /// What the client holds receipts for.
    pub floor: u64,
    /// The cursor of our messages: the client has committed or refused up to here.
    pub acknowledged: u64,
    /// The longest payload that the client may send, in bytes: the highest that it was ever told in this session.
    pub told_bytes_max: u32,
    /// The first and the last of the client's messages that were acknowledged and are lost. Repeated in each
    /// WELCOME until one of them is known to have arrived.
    pub lost: Option<(u64, u64)>,
    /// Refusals that the client may not have received, lowest first. WELCOME names them (PROTOCOL.md section 5.7);
    /// otherwise the client would take these messages for committed.
    pub refused: Vec<Refusal>,
    /// There are messages of ours above `acknowledged`; [`Request::Load`](crate::Request::Load) brings them.
    pub is_behind: bool,
}

impl Attached {
    /// The session's number.
    #[must_use]
    pub const fn session(&self) -> u64 {
        self.seat.session()
    }

    /// The epoch of the connection.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.seat.epoch()
    }
}

/// Which session a connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A new one.
    New,
    /// The one that it asked for.
    Resumed,
}
