//! The seam between a shard's decisions and the world: sockets and the clock. The real one is
//! [`Sockets`](crate::shard::sockets::Sockets); a simulation brings its own, and runs in virtual time.

use crate::id::ConnectionId;
use pulsegate_core::time::Instant;
use std::io;

/// What a shard needs of the world. All calls return at once.
pub(crate) trait Io {
    /// A connection's socket.
    type Stream;

    /// Reads the clock.
    fn now(&mut self) -> Instant;
    /// The time that people read, in milliseconds since 1970-01-01 UTC. It may jump.
    fn wall_ms(&mut self) -> u64;
    /// 128 bits that nobody can guess.
    fn token(&mut self) -> io::Result<[u8; 16]>;
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
