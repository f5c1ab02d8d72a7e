//! The real [`Io`]: mio's sockets and poller, and the monotonic clock.

use crate::clock::{self, Clock};
use crate::listening;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use pulsegate_core::time::Instant;
use pulsegate_shard::{ConnectionId, Io, Place, Reach, Ready};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

/// Sockets of one shard.
#[derive(Debug)]
pub(crate) struct Sockets {
    registry: Registry,
    clock: Clock,
    /// A descriptor to give up when no other is left, for as long as it takes to answer a newcomer.
    spare: Option<File>,
}

impl Sockets {
    /// No socket yet; this poller reports what happens to those that come.
    pub(crate) const fn new(registry: Registry, clock: Clock) -> Self {
        Self { registry, clock, spare: None }
    }
}

/// An entry of a shard's table is as small as with a bare descriptor; debug builds keep an extra word beside it.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<TcpStream>() == size_of::<std::os::fd::OwnedFd>());

/// What the poller tells of each connection: that there is something to read, and urgent data, at whose mark a read
/// stops.
const INPUT: Interest = Interest::READABLE.add(Interest::PRIORITY);

/// The upper half of the tokens that are not connections'; no table grows that far.
const OTHERS: usize = (u32::MAX as usize) << 32;
/// The token of a shard's timer.
pub(crate) const TIMER: Token = Token(OTHERS);
/// The token of the mailbox's waker.
pub(crate) const WAKER: Token = Token(OTHERS + 1);
/// The token of the listener with the number 0; the others follow.
const LISTENERS: usize = OTHERS + 2;

/// The poller's token of a connection.
const fn token(id: ConnectionId) -> Token {
    Token(id.to_bits() as usize)
}

/// What the poller says about a socket.
pub(crate) fn ready(event: &Event) -> Ready {
    let Token(token) = event.token();
    if token >= LISTENERS {
        return Ready::Listener((token - LISTENERS) as u16);
    }
    let is_more = event.is_read_closed() || event.is_error() || event.is_priority();
    let reach = if is_more { Reach::End } else { Reach::ShortRead };
    Ready::Connection {
        id: ConnectionId::from_bits(token as u64),
        writable: event.is_writable(),
        readable: (event.is_readable() || is_more).then_some(reach),
    }
}

impl Io for Sockets {
    type Stream = TcpStream;
    type Listener = TcpListener;

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

    fn listen(&mut self, place: &Place, number: u16) -> io::Result<(TcpListener, SocketAddr)> {
        let (mut listener, address) = listening::open(place)?;
        let token = Token(LISTENERS + usize::from(number));
        self.registry.register(&mut listener, token, Interest::READABLE)?;
        Ok((listener, address))
    }

    fn accept(&mut self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        listener.accept()
    }

    fn unlisten(&mut self, listener: TcpListener) {
        drop(listener);
    }

    fn keep_spare(&mut self) {
        if self.spare.is_none() {
            self.spare = File::open("/dev/null").ok();
        }
    }

    fn give_up_spare(&mut self) -> bool {
        self.spare.take().is_some()
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
        // The next read reports an error.
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
