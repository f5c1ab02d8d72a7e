//! What is refused, and why.

use std::error::Error;
use std::fmt::{self, Display, Formatter};

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
    /// The code of a number, if it has one.
    #[must_use]
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::TooLarge),
            2 => Some(Self::OverQuota),
            _ => None,
        }
    }
}

/// Why a message to a client was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PushRefusal {
    /// There is no such session.
    NoSession,
    /// Its payload is longer than the store takes, or the client.
    TooLarge,
    /// The most that may wait for this client's receipt waits already.
    Full,
    /// The most that may wait for the receipts of all clients, or of those of this client's source, waits already.
    StoreFull,
    /// The store has ended before it answered: nobody knows whether the message is stored. A store never says so
    /// itself.
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

/// Why a connection gets no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttachRefusal {
    /// The token is neither the session's newest nor the one before it.
    BadToken,
    /// The session belongs to a client with another id.
    OtherClient,
    /// The client has another connection, which is not to be replaced.
    InUse,
    /// There is the maximum number of sessions, in total or of this source, and something was committed in each of
    /// them.
    SessionLimit,
    /// A cursor is beyond what a session can reach, or the client's id is longer than 128 bytes.
    Impossible,
}

impl Display for PushRefusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSession => "there is no such session",
            Self::TooLarge => "the message is longer than the store or the client takes",
            Self::Full => "too much waits for this client",
            Self::StoreFull => "too much waits for all clients, or for those of one address",
            Self::Unknown => "the store ended before it answered: the message may or may not be stored",
        })
    }
}

impl Error for PushRefusal {}

impl Display for EndReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gap => "a message before this one is missing",
            Self::Unconfirmed => "too much waits for the client to confirm refusals",
        })
    }
}

impl Error for EndReason {}

impl Display for AttachRefusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadToken => "the token is not this session's",
            Self::OtherClient => "the session belongs to another client",
            Self::InUse => "the client has another connection",
            Self::SessionLimit => "there are as many sessions as there may be",
            Self::Impossible => "a cursor or the client's id is out of range",
        })
    }
}

impl Error for AttachRefusal {}
