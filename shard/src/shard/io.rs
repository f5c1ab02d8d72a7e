//! The seam between a shard's decisions and the world: sockets and the clock. The real one polls
//! sockets; a simulation brings its own, and runs in virtual time.

use crate::id::ConnectionId;
use crate::place::Place;
use pulsegate_core::time::Instant;
use std::io;
use std::net::SocketAddr;

/// How far a connection is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Until a read returns less than it could: the poller tells of what comes later.
    ShortRead,
    /// Until there is nothing more: an end, an error or a mark of urgent data, at which a read stops, may stand behind
    /// the bytes, and nobody will tell again.
    End,
}

/// What the poller tells of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Somebody has come to the listener with this number.
    Listener(u16),
    /// Something has happened to a connection.
    Connection {
        /// Its id.
        id: ConnectionId,
        /// There is room to write.
        writable: bool,
        /// There is something to read, and it reaches so far.
        readable: Option<Reach>,
    },
}

/// What a shard needs of the world. All calls return at once. Connecting to others, once a shard does that, belongs
/// beside [`accept`](Self::accept): it returns a stream whose first word is that it is writable, or an error.
pub trait Io {
    /// A connection's socket.
    type Stream;
    /// A socket to which newcomers come.
    type Listener;

    /// Reads the clock.
    fn now(&mut self) -> Instant;
    /// The time that people read, in milliseconds since 1970-01-01 UTC. It may jump.
    fn wall_ms(&mut self) -> u64;
    /// 128 bits that nobody can guess.
    fn token(&mut self) -> io::Result<[u8; 16]>;

    /// Listens at a place, and from now on says when somebody has come, under this number. Returns the address too,
    /// with its port if a free one was taken.
    fn listen(&mut self, place: &Place, number: u16) -> io::Result<(Self::Listener, SocketAddr)>;
    /// Takes the connection that has waited longest. The kernel wants a descriptor for it before it looks whether
    /// anybody waits.
    fn accept(&mut self, listener: &Self::Listener) -> io::Result<(Self::Stream, SocketAddr)>;
    /// Listens no more. Who still waits is reset.
    fn unlisten(&mut self, listener: Self::Listener);
    /// Keeps a descriptor in reserve, unless one is kept already, or none is to be had.
    fn keep_spare(&mut self);
    /// Gives up the descriptor that is kept in reserve, so that the next accept can have it. Returns whether there was
    /// one.
    fn give_up_spare(&mut self) -> bool;

    /// From now on says when the stream becomes readable, under this id.
    fn watch(&mut self, stream: &mut Self::Stream, id: ConnectionId) -> io::Result<()>;
    /// From now on says, or no longer says, when it becomes writable too.
    fn watch_writable(&mut self, stream: &mut Self::Stream, id: ConnectionId, wanted: bool)
    -> io::Result<()>;
    /// Reads what is there; `Ok(0)` is the end of the peer's side.
    fn read(&mut self, stream: &mut Self::Stream, buffer: &mut [u8]) -> io::Result<usize>;
    /// Whether something unread lies in the socket, an end or an error included.
    fn has_unread(&mut self, stream: &Self::Stream) -> bool;
    /// Copies the first bytes of what is there, and leaves them there.
    fn peek(&mut self, stream: &Self::Stream, buffer: &mut [u8]) -> usize;
    /// Writes what there is room for.
    fn write(&mut self, stream: &mut Self::Stream, bytes: &[u8]) -> io::Result<usize>;
    /// Ends our side.
    fn shut_down(&mut self, stream: &Self::Stream);
    /// The error that the socket has come to, if any.
    fn failure(&mut self, stream: &Self::Stream) -> Option<io::Error>;
    /// Closes the socket; `abort` throws away what is unsent and resets the connection.
    fn close(&mut self, stream: Self::Stream, abort: bool);
}
