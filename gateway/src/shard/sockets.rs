//! The real [`Io`]: mio's sockets and poller, and the monotonic clock.

use crate::clock::{self, Clock};
use crate::id::ConnectionId;
use crate::shard::io::Io;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use pulsegate_core::time::Instant;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

/// Sockets of one shard.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) registry: Registry,
    pub(crate) clock: Clock,
}

/// What the poller tells of each connection: that there is something to read, and urgent data, at whose mark a read stops.
const INPUT: Interest = Interest::READABLE.add(Interest::PRIORITY);

/// The poller's name for a connection.
pub(crate) const fn token(id: ConnectionId) -> Token {
    Token(id.to_bits() as usize)
}

impl Io for Sockets {
    type Stream = TcpStream;

    fn now(&mut self) -> Instant {
        self.clock.now()
    }

    fn wall_ms(&mut self) -> u64 {
        clock::wall_ms()
    }

    fn token(&mut self) -> io::Result<[u8; 16]> {
        let mut token = [0; 16];
        getrandom::fill(&mut token)?;
        Ok(token)
    }

    fn watch(&mut self, stream: &mut TcpStream, id: ConnectionId) -> io::Result<()> {
        self.registry.register(stream, token(id), INPUT)
    }

    fn watch_writable(&mut self, stream: &mut TcpStream, id: ConnectionId, wanted: bool) -> io::Result<()> {
        let interest = if wanted { INPUT | Interest::WRITABLE } else { INPUT };
        self.registry.reregister(stream, token(id), interest)
    }

    fn read(&mut self, stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        stream.read(buffer)
    }

    fn has_unread(&mut self, stream: &TcpStream) -> bool {
        !matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    fn peek(&mut self, stream: &TcpStream, buffer: &mut [u8]) -> usize {
        // Of an error the next read tells.
        stream.peek(buffer).unwrap_or(0)
    }

    fn write(&mut self, stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
        stream.write(bytes)
    }

    fn shut_down(&mut self, stream: &TcpStream) {
        // It fails only for a connection that is gone already; reading will tell.
        let _ = stream.shutdown(Shutdown::Write);
    }

    fn failure(&mut self, stream: &TcpStream) -> Option<io::Error> {
        stream.take_error().ok().flatten()
    }

    fn close(&mut self, stream: TcpStream, abort: bool) {
        if abort {
            // Without it the close is an orderly one, in the background: no harm to anybody else.
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        // Closing the only descriptor of a socket takes it out of the poller too.
        drop(stream);
    }
}
