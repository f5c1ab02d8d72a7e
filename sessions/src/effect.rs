//! What a backend has to do, and what it has to look up. Must not know: the rules.

use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::seat::{Seat, Source};
use std::sync::Arc;

/// What is kept of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Holding {
    /// Sessions.
    pub sessions: u64,
    /// Messages that are kept, in bytes; each counts 64 beside its payload and its client's id.
    pub message_bytes: u64,
    /// Payload that waits for its clients, in bytes.
    pub outgoing_bytes: u64,
}

/// How much of a session has changed since it was last saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// What messages of its client change: `committed`, `floor`, the quota, `last_seen_ms`, `message_bytes`.
    Cursor,
    /// That, and what else is exchanged: messages to its client, whether the token before the newest is valid, what is
    /// lost.
    Exchange,
    /// That, and what comes and goes with a connection; and whether it is used.
    Connection,
    /// All of it: it is new.
    New,
}

/// What has to be done, in the order in which effects are appended: all of a batch, or nothing of it.
///
/// A *place* is that of the request in its batch, as the backend has named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this reply when the batch is durable, and not before.
    Reply(Reply),
    /// The client's message in the request at this place is committed: it is kept or forwarded.
    Commit {
        /// Of which request.
        place: usize,
        /// Who has sent it.
        client: Arc<str>,
        /// From where.
        source: Source,
    },
    /// The message in the request at this place, whose client has no session, is kept.
    Append(usize),
    /// The message of the request at this place can't be judged yet: [`Unjudged`](crate::Unjudged) has to hold it.
    Hold(usize),
    /// Keep a refusal.
    Refuse(u64, Refusal),
    /// Forget the refusals of this session up to that number.
    ForgetRefusals(u64, u64),
    /// Keep the message of the request at this place until its client's receipt, under this number.
    Push {
        /// Of which request.
        place: usize,
        /// For which session.
        session: u64,
        /// Its number there.
        number: u64,
    },
    /// Forget the messages to the client of this session up to that number.
    Settle(u64, u64),
    /// Read the messages to a client, and answer as [`loaded`](crate::loaded) says.
    Load {
        /// Whom to answer.
        seat: Seat,
        /// Those above this number,
        above: u64,
        /// up to about this many bytes.
        bytes_max: u32,
    },
    /// Save a session as [`Sessions::session`](crate::Sessions::session) has it.
    Save(u64, Part),
    /// Save what is kept of a source; if that is nothing, forget it.
    SaveSource(Source, Holding),
    /// Forget a session, its refusals and the messages to its client. Its own messages stay.
    Forget(u64),
    /// Something was lost, for backends that count that.
    Loss(Loss),
}

/// What was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A message without a session was not stored, since it can't be.
    Append,
    /// A message to a client was refused because too much waits for all of them, or for those of its source.
    Push,
    /// A session has expired with this many messages to its client.
    Expired(u64),
    /// A client has receipts for this many messages that are not there.
    Acknowledged(u64),
}

/// What has to be looked up before a request can be handled. A backend that has not carried out all effects has to do so
/// before it looks, those of [`Sessions::save_for`](crate::Sessions::save_for) included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need<'r> {
    /// A session, for [`Sessions::put_session`](crate::Sessions::put_session).
    Session(u64),
    /// What a source has, for [`Sessions::put_source`](crate::Sessions::put_source).
    Source(Source),
    /// Whether the client has a connection in any session but one, for
    /// [`Sessions::put_attached`](crate::Sessions::put_attached).
    Attached {
        /// Which client.
        client: &'r str,
        /// The session that doesn't count; 0: all count.
        but: u64,
    },
    /// The newest session of this client, for [`Sessions::put_newest`](crate::Sessions::put_newest).
    Newest(&'r str),
    /// The session that has been without a connection for the longest time and was never used
    /// ([`Session::is_used`](crate::Session::is_used)), of this source or of all, for
    /// [`Sessions::put_unused`](crate::Sessions::put_unused).
    Unused(Option<Source>),
    /// The bytes of payload to the client of a session up to a number, for
    /// [`Sessions::put_outgoing`](crate::Sessions::put_outgoing).
    Outgoing {
        /// Which session.
        session: u64,
        /// Up to which number.
        to: u64,
    },
    /// The sessions whose time is over, at most this many, those first that expired first, for
    /// [`Sessions::put_expired`](crate::Sessions::put_expired).
    Expired {
        /// Those whose `expires_ms` is at most this.
        now_ms: u64,
        /// How many at most.
        count: usize,
    },
}

impl Need<'_> {
    /// Whether it is a search among all sessions, which finds them as they were saved.
    pub(crate) const fn is_search(&self) -> bool {
        match self {
            Self::Session(_) | Self::Source(_) | Self::Outgoing { .. } => false,
            Self::Attached { .. } | Self::Newest(_) | Self::Unused(_) | Self::Expired { .. } => true,
        }
    }
}
