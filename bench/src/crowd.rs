//! The connections of one worker: opened, written to, read and closed without ever waiting. A connection is a
//! descriptor, a state and one instant: thirteen bytes; `talk` adds what the pulse protocol needs. Must not know: when
//! anything is due, or what is measured.

mod talk;

use crate::dialect::Dialect;
use crate::pulse::{Peer, Told};
use crate::room::Sources;
use crate::stage::{Clock, Nanos};
use crate::tally::Tally;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Read at once; what the server sends is counted and discarded.
const BUFFER: usize = 16 * 1024;
/// Reads of one connection before the others are looked at again.
const READS_MAX: usize = 64;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    Connecting,
    /// Connected, but not counted yet: it waits for the server's answer.
    Awaiting,
    Open,
    Ended,
}

/// What an event means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// It is connected, and has sent its opening.
    Opened,
    /// It failed to connect.
    Failed,
    /// The server ended it.
    Ended,
    /// It takes bytes again.
    Writable,
    /// The server has settled all its messages up to this number.
    Settled(u64),
}

/// Something that happened to a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Happening {
    pub(crate) index: usize,
    /// When the poller told of it; of receipts, when they were read.
    pub(crate) at: Nanos,
    pub(crate) what: What,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Bytes(usize),
    /// The buffers are full.
    Full,
    /// The connection is over; the poller will tell how.
    Gone,
}

/// Where to, and from where.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) address: SocketAddr,
    pub(crate) sources: Sources,
    /// Which of all the sources this worker's first connection takes.
    pub(crate) first: usize,
}

/// The connections of one worker.
pub(crate) struct Crowd {
    registry: Registry,
    clock: Clock,
    route: Route,
    dialect: Arc<Dialect>,
    streams: Vec<Option<TcpStream>>,
    states: Vec<State>,
    /// Of each: when it began to connect, then when it last sent.
    marks: Vec<Nanos>,
    /// One for each that speaks the pulse protocol, else none at all.
    peers: Vec<Peer>,
    /// What the last WELCOME told.
    told: Option<Told>,
    /// Marks stay at the beginning of the connection.
    keeps_marks: bool,
    /// Ended ones, closed when there is nothing more urgent.
    corpses: VecDeque<TcpStream>,
    happenings: Vec<Happening>,
    buffer: Box<[u8]>,
    connecting: usize,
    open: usize,
    pub(crate) tally: Tally,
}

impl Crowd {
    /// Room for `size` connections, none of them open.
    pub(crate) fn new(
        registry: Registry,
        clock: Clock,
        route: Route,
        dialect: Arc<Dialect>,
        size: usize,
    ) -> Self {
        let peers = if dialect.pulse { size } else { 0 };
        Self {
            registry,
            clock,
            route,
            dialect,
            streams: std::iter::repeat_with(|| None).take(size).collect(),
            states: vec![State::Absent; size],
            marks: vec![0; size],
            peers: std::iter::repeat_with(Peer::default).take(peers).collect(),
            told: None,
            keeps_marks: false,
            corpses: VecDeque::new(),
            happenings: Vec::new(),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            connecting: 0,
            open: 0,
            tally: Tally::default(),
        }
    }

    /// Marks tell from now on when a connection began, not when it last sent.
    pub(crate) const fn keep_marks(&mut self) {
        self.keeps_marks = true;
    }

    pub(crate) const fn size(&self) -> usize {
        self.states.len()
    }

    pub(crate) const fn open_count(&self) -> usize {
        self.open
    }

    pub(crate) const fn connecting_count(&self) -> usize {
        self.connecting
    }

    pub(crate) fn is_open(&self, index: usize) -> bool {
        self.states[index] == State::Open
    }

    pub(crate) const fn told(&self) -> Option<Told> {
        self.told
    }

    pub(crate) fn mark(&self, index: usize) -> Nanos {
        self.marks[index]
    }

    /// Begins to connect; the outcome is reported by [`Self::handle`], or at once by what is returned.
    pub(crate) fn connect(&mut self, index: usize) -> bool {
        // Until it is closed, what is over goes by the same name in the poller.
        self.close_some(usize::MAX);
        self.marks[index] = self.clock.now();
        match self.try_connect(index) {
            Ok(stream) => {
                self.streams[index] = Some(stream);
                self.states[index] = State::Connecting;
                self.connecting += 1;
                true
            }
            Err(error) => {
                self.tally.note_failure(&error);
                self.states[index] = State::Absent;
                false
            }
        }
    }

    fn try_connect(&self, index: usize) -> io::Result<TcpStream> {
        let address = self.route.address;
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        if let Some(source) = self.route.sources.of(self.route.first + index) {
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => {
                return Err(error);
            }
            Ok(()) | Err(_) => {}
        }
        let stream = TcpStream::from(socket);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut SourceFd(&stream.as_raw_fd()), Token(index), interest)?;
        Ok(stream)
    }

    /// Takes in what the poller tells; [`Self::take_happenings`] has what it means.
    pub(crate) fn handle(&mut self, event: &Event, at: Nanos) {
        let index = event.token().0;
        if self.states.get(index) == Some(&State::Connecting) && (event.is_writable() || event.is_error()) {
            self.handle_connected(index, at);
        } else if event.is_writable() && !self.peers.is_empty() {
            self.flush(index);
        } else if self.states.get(index) == Some(&State::Open) && event.is_writable() {
            self.note(index, at, What::Writable);
        }
        let is_in = matches!(self.states.get(index), Some(State::Open | State::Awaiting));
        let hangup = event.is_read_closed() || event.is_error();
        if is_in && (event.is_readable() || hangup) {
            self.read(index, at, hangup);
        }
    }

    fn note(&mut self, index: usize, at: Nanos, what: What) {
        self.happenings.push(Happening { index, at, what });
    }

    fn handle_connected(&mut self, index: usize, at: Nanos) {
        let Some(stream) = &self.streams[index] else { return };
        if let Some(error) = stream.take_error().unwrap_or_else(Some) {
            self.tally.note_failure(&error);
            self.remove(index);
            self.note(index, at, What::Failed);
            return;
        }
        self.tally.connected += 1;
        self.states[index] = State::Awaiting;
        if self.dialect.pulse {
            self.open_pulse(index);
        } else {
            let opening = Arc::clone(&self.dialect);
            self.say(index, &opening.opening);
        }
        if !self.dialect.answered {
            self.handle_in(index, at);
        }
    }

    fn handle_in(&mut self, index: usize, at: Nanos) {
        self.connecting -= 1;
        self.open += 1;
        self.states[index] = State::Open;
        self.note(index, at, What::Opened);
    }

    /// Reads what is there. After a short read nothing is left, unless the end came with the same event, which isn't
    /// told twice.
    fn read(&mut self, index: usize, at: Nanos, hangup: bool) {
        for _ in 0..READS_MAX {
            let Some(mut stream) = self.streams[index].as_ref() else { return };
            match stream.read(&mut self.buffer) {
                Ok(0) => return self.bury(index, at, false),
                Ok(count) => {
                    self.tally.heard_bytes += count as u64;
                    if self.dialect.pulse && !self.hear(index, at, count) {
                        return;
                    }
                    if self.states[index] == State::Awaiting {
                        self.handle_in(index, at);
                    }
                    if count < self.buffer.len() && !hangup {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.bury(index, at, true),
            }
        }
    }

    fn bury(&mut self, index: usize, at: Nanos, by_reset: bool) {
        if self.dialect.pulse && self.states[index] == State::Awaiting {
            return self.refuse(index, at, "ended without WELCOME or BYE");
        }
        if by_reset {
            self.tally.reset += 1
        } else {
            self.tally.closed += 1
        }
        self.remove(index);
        self.states[index] = State::Ended;
        self.note(index, at, What::Ended);
    }

    fn remove(&mut self, index: usize) {
        match self.states[index] {
            State::Connecting | State::Awaiting => self.connecting -= 1,
            State::Open => self.open -= 1,
            State::Absent | State::Ended => {}
        }
        self.states[index] = State::Absent;
        self.corpses.extend(self.streams[index].take());
    }

    /// Counts as failed, and closes, what has had no answer for too long.
    pub(crate) fn give_up(&mut self) {
        for index in 0..self.states.len() {
            if matches!(self.states[index], State::Connecting | State::Awaiting) {
                self.tally.note_failure(&io::Error::from_raw_os_error(nix::errno::Errno::ETIMEDOUT as i32));
                self.remove(index);
            }
        }
    }

    /// Closes a connection of our own accord, some time soon.
    pub(crate) fn close(&mut self, index: usize) {
        self.remove(index);
    }

    /// Connections that are over still have to be closed.
    pub(crate) fn has_corpses(&self) -> bool {
        !self.corpses.is_empty()
    }

    /// Really closes up to `count` of the connections that are over.
    pub(crate) fn close_some(&mut self, count: usize) {
        self.corpses.drain(..count.min(self.corpses.len()));
    }

    /// Says the dialect's message, and notes when.
    pub(crate) fn send(&mut self, index: usize) -> Written {
        if self.dialect.pulse {
            return self.beat(index);
        }
        let dialect = Arc::clone(&self.dialect);
        self.say(index, &dialect.message)
    }

    fn say(&mut self, index: usize, bytes: &[u8]) -> Written {
        if !self.keeps_marks {
            // Before the write: the server may have the message before the write returns.
            self.marks[index] = self.clock.now();
        }
        let written = self.write(index, bytes);
        match written {
            Written::Bytes(count) if count == bytes.len() => self.tally.sent += 1,
            Written::Bytes(_) | Written::Full => self.tally.blocked += 1,
            Written::Gone => {}
        }
        written
    }

    /// Writes what goes in; counts the bytes and nothing else.
    pub(crate) fn write(&mut self, index: usize, bytes: &[u8]) -> Written {
        let Some(mut stream) = self.streams[index].as_ref() else { return Written::Gone };
        match stream.write(bytes) {
            Ok(count) => {
                self.tally.sent_bytes += count as u64;
                Written::Bytes(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Written::Full,
            Err(_) => Written::Gone,
        }
    }

    /// Nothing more will be sent on it.
    pub(crate) fn shut_down(&mut self, index: usize) {
        self.say_goodbye(index);
        if let Some(stream) = &self.streams[index] {
            // Fails only if the connection is over, which the poller tells.
            let _ = SockRef::from(stream).shutdown(Shutdown::Write);
        }
    }

    /// What has happened since the last time, in order; hand the vector back to [`Self::recycle`].
    pub(crate) fn take_happenings(&mut self) -> Vec<Happening> {
        std::mem::take(&mut self.happenings)
    }

    pub(crate) fn recycle(&mut self, mut happenings: Vec<Happening>) {
        happenings.clear();
        happenings.append(&mut self.happenings);
        self.happenings = happenings;
    }
}
