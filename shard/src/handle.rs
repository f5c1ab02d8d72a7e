//! What an application holds of a connection: a small, cloneable name with which it can send, close and set
//! deadlines from any thread. Knows the mailbox of the connection's shard and nothing of the shard.

use crate::id::{ConnectionId, ConnectionNumber};
use crate::mailbox::{Command, Mailbox, Refused};
use crate::peer::Peer;
use crate::time_origin::TimeOrigin;
use pulsegate_core::lifetime::Direction;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// A handle of one connection. Cloning it costs one reference count; it may outlive the connection.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) origin: TimeOrigin,
    pub(crate) id: ConnectionId,
    pub(crate) number: ConnectionNumber,
    pub(crate) peer: Peer,
}

/// A call on a [`Handle`] was not taken. That it was taken does not say that the connection still lived:
/// the sink learns of each end by [`Sink::handle_closed`](crate::Sink::handle_closed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// The shard has more than 16 MiB of commands waiting, or of messages that a store takes no more of: try again
    /// later.
    #[error("the connection's shard has too much waiting; try again later")]
    Busy,
    /// The gateway has stopped.
    #[error("the gateway has stopped")]
    Stopped,
}

impl From<Refused> for HandleError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Busy,
            Refused::Gone => Self::Stopped,
        }
    }
}

impl Handle {
    /// The connection's number, which no other one ever has.
    #[must_use]
    pub const fn number(&self) -> ConnectionNumber {
        self.number
    }

    /// The peer's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer.address()
    }

    /// Sends bytes to the peer: as they are on a raw connection, as a message of its session in the pulse protocol. If they
    /// don't fit into what may wait for it, the connection ends with the reason "output full". To a client that has not
    /// shown yet what it speaks, or is not yet in its session, nothing is sent: answer what it says.
    ///
    /// In the pulse protocol a message is left out, and the connection stays, if it is longer than the client takes, or
    /// if what waits for other clients leaves no room for it in the store. Where that matters, use
    /// `Control::send`, which says what became of the message.
    ///
    /// # Errors
    /// See [`HandleError`].
    pub fn send(&self, bytes: impl Into<Box<[u8]>>) -> Result<(), HandleError> {
        self.mailbox.offer(Command::Send(self.id, bytes.into())).map_err(HandleError::from)
    }

    /// Ends the connection as soon as everything is sent, within the listener's limits.
    ///
    /// # Errors
    /// See [`HandleError`].
    pub fn finish(&self) -> Result<(), HandleError> {
        self.post(Command::Finish(self.id))
    }

    /// Ends the connection now; what can't be sent within the listener's `flush` time is given up.
    ///
    /// # Errors
    /// See [`HandleError`].
    pub fn close(&self) -> Result<(), HandleError> {
        self.post(Command::Close(self.id))
    }

    /// Sets or clears the deadlines for receiving and sending: absolute, for what is pending too, over at
    /// once if in the past. They only tighten what the listener's rules allow. When one passes, the
    /// connection ends.
    ///
    /// # Errors
    /// See [`HandleError`].
    pub fn set_deadline(&self, deadline: Option<Instant>) -> Result<(), HandleError> {
        self.set(Direction::Both, deadline)
    }

    /// Sets or clears the deadline for receiving; see [`set_deadline`](Self::set_deadline).
    ///
    /// # Errors
    /// See [`HandleError`].
    pub fn set_read_deadline(&self, deadline: Option<Instant>) -> Result<(), HandleError> {
        self.set(Direction::Read, deadline)
    }

    /// Sets or clears the deadline for sending; it ends the connection when it passes while bytes wait, or
    /// when something is to be sent after it. See [`set_deadline`](Self::set_deadline).
    ///
    /// # Errors
    /// See [`HandleError`].
    pub fn set_write_deadline(&self, deadline: Option<Instant>) -> Result<(), HandleError> {
        self.set(Direction::Write, deadline)
    }

    fn set(&self, direction: Direction, deadline: Option<Instant>) -> Result<(), HandleError> {
        let deadline = deadline.map(|deadline| self.origin.at(deadline));
        self.post(Command::SetDeadline(self.id, direction, deadline))
    }

    fn post(&self, command: Command) -> Result<(), HandleError> {
        self.mailbox.post(command).map_err(HandleError::from)
    }
}
