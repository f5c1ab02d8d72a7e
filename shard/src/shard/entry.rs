//! One connection as its shard keeps it: the socket, the pure state, and a place in the wheel.

use crate::id::{ConnectionId, ConnectionNumber};
use crate::peer::Peer;
use crate::shard::pipe::Pipe;
use crate::shard::table::{Numbered, Table};
use crate::sink::queue::From;
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::Connection;
use pulsegate_core::wheel::{Node, Nodes};

/// An entry of a shard's table.
#[derive(Debug)]
pub(crate) struct Entry<S> {
    pub(crate) connection: Connection,
    pub(crate) pipe: Pipe,
    pub(crate) number: ConnectionNumber,
    pub(crate) node: Node,
    pub(crate) stream: S,
    pub(crate) peer: Peer,
    pub(crate) listener: u16,
    pub(crate) marks: Marks,
}

/// A million of these are held; a raw idle connection has nothing else in user memory. With a bare descriptor for its
/// stream, which is what that of the real [`Io`](crate::shard::io::Io) comes to.
const _: () = assert!(size_of::<Option<Entry<std::os::fd::OwnedFd>>>() <= 120);

/// What is known of a connection's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Input {
    /// There may be something to read.
    #[default]
    Open,
    /// The last read found nothing more.
    ReadDry,
    /// It stands in the shard's list of those to be read on without being told by the poller, whatever was read since.
    Listed,
}

/// Small facts about a connection's socket.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    /// What is known of its input.
    pub(crate) input: Input,
    /// The poller says when it becomes writable.
    pub(crate) watches_writable: bool,
    /// Writing failed for this reason: output is thrown away, and only what is left to read keeps the socket.
    pub(crate) write_failure: Option<CloseReason>,
    /// It can't be kept, and waits until it is known in which language to tell it why. No limit and no sink knows of it.
    pub(crate) turned_away: Option<CloseReason>,
}

impl Marks {
    /// Whether the last read found nothing more.
    pub(crate) fn is_read_dry(self) -> bool {
        self.input == Input::ReadDry
    }

    /// A read has found nothing more.
    pub(crate) fn note_read_dry(&mut self) {
        if self.input == Input::Open {
            self.input = Input::ReadDry;
        }
    }

    /// More has come.
    pub(crate) fn note_unread(&mut self) {
        if self.input == Input::ReadDry {
            self.input = Input::Open;
        }
    }
}

impl<S> Entry<S> {
    /// How a sink gets to know the connection, which has this id.
    pub(crate) const fn from(&self, id: ConnectionId) -> From {
        From { id, number: self.number, peer: self.peer }
    }
}

impl<S> Numbered for Entry<S> {
    fn number(&self) -> ConnectionNumber {
        self.number
    }
}

impl<S> Nodes for Table<Entry<S>> {
    /// A key in the wheel always has its entry: an entry leaves the wheel before it leaves the table.
    #[expect(clippy::expect_used, reason = "an invariant of the shard, not anybody's input")]
    fn node(&mut self, key: u32) -> &mut Node {
        &mut self.at(key).expect("a filed key has an entry").node
    }
}
