//! What a committer answers.

use crate::attach::Attached;
use crate::refusal::{AttachRefusal, EndReason, PushRefusal, Refusal};
use crate::seat::{Seat, Source, Ticket};
use pulsegate_core::connection::Attachment;

/// A reply of a committer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// A connection has a session.
    Attached(Box<Attached>),
    /// A connection gets no session; nothing was changed.
    AttachRefused {
        /// As in the request.
        ticket: Ticket,
        /// Why.
        why: AttachRefusal,
    },
    /// Everything up to `committed` is committed or was refused. At most one for a connection and batch, after the
    /// refusals.
    Committed {
        /// As in the request.
        seat: Seat,
        /// The cursor.
        committed: u64,
    },
    /// A message is not accepted; the cursor has passed over it.
    Refused {
        /// As in the request.
        seat: Seat,
        /// Which, and why.
        refusal: Refusal,
    },
    /// A message can't come from a connection that keeps the protocol, or can't wait any longer: the connection has to
    /// end. Nothing was changed by that message. It comes after all other replies of its batch.
    Ended {
        /// As in the request.
        seat: Seat,
        /// The message's number.
        number: u64,
        /// Why.
        why: EndReason,
    },
    /// The store does not know the session, or does not know that it has this connection: it has lost data. The
    /// connection has to end. Said to all of them after a fault, and to each that sends a message.
    Orphaned {
        /// As in the request.
        seat: Seat,
    },
    /// A message to a client is stored, and may be sent.
    Pushed {
        /// As in the request.
        ticket: Ticket,
        /// The session, and the epoch of its connection.
        attachment: Attachment,
        /// Where it goes now: the ticket of that connection's [`Attach`](crate::Attach). Without one
        /// [`Request::Load`](crate::Request::Load) brings it to the next.
        connection: Option<Ticket>,
        /// The number that it was given.
        number: u64,
        /// What it says.
        payload: Box<[u8]>,
    },
    /// Messages to a client, in order and without gaps.
    Loaded {
        /// As in the request.
        seat: Seat,
        /// Those that were asked for.
        messages: Vec<Outgoing>,
        /// There are more above them.
        has_more: bool,
    },
    /// A message to a client was not stored.
    PushRefused {
        /// As in the request.
        ticket: Ticket,
        /// Why.
        why: PushRefusal,
    },
    /// A connection's end is known to the store.
    Detached {
        /// As in the request.
        seat: Seat,
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
    /// All sessions and sources that have used up their share of what is kept: nothing more is to be read from them
    /// until they are no longer listed here. What has been read is committed all the same. Sessions without a
    /// connection may be listed too.
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
    /// Commits continue: all that waited is committed, or a tick has passed without another fault.
    GoesOn,
}

/// A message to a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outgoing {
    /// Its number.
    pub number: u64,
    /// What it says.
    pub payload: Box<[u8]>,
}
