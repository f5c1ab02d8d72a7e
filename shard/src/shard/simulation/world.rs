//! A world without a kernel: sockets are buffers, the clock stands until it is moved, and what the poller
//! would say is kept in order, edge by edge.

use super::framing_layer::ClientSide;
use super::kernel::Kernel;
use crate::id::ConnectionId;
use crate::place::Place;
use crate::shard::io::{Io, Reach, Ready};
use pulsegate_core::time::Instant;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;

/// The most that a simulated kernel keeps for a client that doesn't read.
const SEND_BUFFER: usize = 4096;

/// One connection's socket, with both ends.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Sent by the client, not yet read.
    pub(crate) inbound: VecDeque<u8>,
    /// So many of these bytes stand before a mark of urgent data, where a read stops.
    pub(crate) urgent: Option<usize>,
    /// So much of it was read.
    pub(crate) read: usize,
    /// So much of that before the gateway ended its side.
    pub(crate) heard: usize,
    /// The client has ended its side.
    pub(crate) fin: bool,
    /// The same, or its layer has said so.
    has_finished: bool,
    /// The client has reset the connection.
    pub(crate) reset: bool,
    /// That was told to whoever read, wrote or asked first; from then on reads find an end.
    reset_told: bool,
    /// Sent by the gateway, not yet read by the client.
    pub(crate) outbound: Vec<u8>,
    /// All that the gateway has ever sent.
    pub(crate) history: Vec<u8>,
    /// What was unsent has been thrown away.
    pub(crate) aborted: bool,
    /// When the gateway ended its side, or closed the socket.
    pub(crate) ended: Option<Instant>,
    /// The gateway has closed the socket.
    pub(crate) closed: bool,
    pub(crate) id: Option<ConnectionId>,
    wants_writable: bool,
    /// The client's side of the layer that stands between, if one does.
    pub(super) side: Option<ClientSide>,
}

impl Link {
    /// A connection with this side of a layer, if any.
    pub(super) fn new(side: Option<ClientSide>) -> Self {
        Self { side, ..Self::default() }
    }

    /// The client doesn't read, and the kernel takes no more for it.
    fn is_stuck(&self) -> bool {
        self.outbound.len() >= SEND_BUFFER
    }

    /// All that the gateway has ever said by what it has sent.
    pub(super) fn told(&self) -> Vec<u8> {
        self.side.as_ref().map_or_else(|| self.history.clone(), |side| side.history(&self.history).plain)
    }

    /// How much the gateway has yet to read, or to be sent.
    pub(super) fn backlog(&self) -> usize {
        self.inbound.len() + self.side.as_ref().map_or(0, ClientSide::waiting)
    }

    /// It is over before it was accepted.
    fn go(&mut self, now: Instant) {
        (self.closed, self.ended) = (true, Some(now));
    }

    /// The gateway ends its side, or closes the socket.
    fn end(&mut self, now: Instant) {
        if self.ended.is_none() {
            (self.ended, self.heard) = (Some(now), self.read);
        }
    }

    /// Whether the connection was reset and nobody was told yet.
    fn tell_reset(&mut self) -> bool {
        self.reset && !std::mem::replace(&mut self.reset_told, self.reset)
    }
}

/// All sockets and the clock.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) kernel: Kernel,
    pub(crate) links: BTreeMap<usize, Link>,
    pub(crate) ready: VecDeque<Ready>,
    /// How often a socket was read.
    pub(crate) reads: usize,
}

impl World {
    pub(crate) fn new() -> Rc<RefCell<Self>> {
        let now = Instant::from_nanos(1_000_000_000);
        let (links, ready) = (BTreeMap::new(), VecDeque::new());
        Rc::new(RefCell::new(Self { now, kernel: Kernel::new(), links, ready, reads: 0 }))
    }

    /// A client does something to its end; the poller tells.
    pub(crate) fn touch(&mut self, client: usize, change: impl FnOnce(&mut Link)) {
        let Some(link) = self.links.get_mut(&client) else { return };
        if link.closed {
            return;
        }
        change(link);
        self.tell(client);
    }

    /// The client has not taken what was sent to it, or the gateway has not been told yet that it has.
    pub(crate) fn is_behind(&self, client: usize) -> bool {
        self.links.get(&client).is_some_and(|link| {
            let is_told = |ready: &Ready| matches!(ready, Ready::Connection { id, writable: true, .. } if Some(*id) == link.id);
            link.is_stuck() || self.ready.iter().any(is_told)
        })
    }

    /// The client reads what there is.
    pub(crate) fn drink(&mut self, client: usize) -> Vec<u8> {
        let Some(link) = self.links.get_mut(&client) else { return Vec::new() };
        let bytes = std::mem::take(&mut link.outbound);
        let bytes = match &mut link.side {
            Some(side) => side.take_in(&bytes),
            None => bytes,
        };
        if link.wants_writable && !link.closed {
            self.tell(client);
        }
        bytes
    }

    /// The client says something. Returns what has been sent whole by that: without a layer, just this.
    pub(super) fn say(&mut self, client: usize, bytes: &[u8], all: bool) -> Vec<u8> {
        let Some(link) = self.links.get_mut(&client) else { return Vec::new() };
        if let Some(side) = &mut link.side {
            // Nothing comes after its last, though it waits to be accepted.
            if !link.has_finished {
                side.say(bytes);
            }
            return self.pump(client, all);
        }
        self.touch(client, |link| link.inbound.extend(bytes));
        bytes.to_vec()
    }

    /// The client's side of a layer goes on, as far as it can, or a part of that. Returns what has been sent whole by that.
    pub(super) fn pump(&mut self, client: usize, all: bool) -> Vec<u8> {
        let side = |world: &Self| Some(world.links.get(&client)?.side.as_ref()?.is_open());
        let Some(is_open) = side(self) else { return Vec::new() };
        if !is_open {
            self.drink(client);
        }
        let Some(link) = self.links.get_mut(&client) else { return Vec::new() };
        if link.fin || link.reset || link.closed {
            return Vec::new();
        }
        let Some(side) = link.side.as_mut() else { return Vec::new() };
        let (wire, whole) = side.poll(all);
        if !wire.is_empty() {
            self.touch(client, |link| link.inbound.extend(wire));
        }
        whole
    }

    /// The client ends its side. Returns what has been sent whole by that.
    pub(super) fn finish(&mut self, client: usize) -> Vec<u8> {
        let Some(link) = self.links.get_mut(&client) else { return Vec::new() };
        let is_new = !link.fin && !link.reset && !link.closed && !link.has_finished;
        link.has_finished = true;
        let Some(side) = link.side.as_mut().filter(|_| is_new) else {
            self.touch(client, |link| link.fin = true);
            return Vec::new();
        };
        let (wire, whole, fin) = side.finish();
        self.touch(client, |link| {
            link.inbound.extend(wire);
            link.fin = fin;
        });
        whole
    }

    /// The gateway accepts the client that has waited longest, unless it has gone and the kernel says so.
    fn accept(&mut self, listener: usize) -> io::Result<(usize, SocketAddr)> {
        let now = self.now;
        let (client, address) = self.kernel.accept(listener, now)?;
        let link = self.links.get_mut(&client).expect("who comes has a socket");
        if link.reset && client % 2 == 0 {
            self.kernel.give_back();
            link.go(now);
            return Err(ErrorKind::ConnectionAborted.into());
        }
        Ok((client, address))
    }

    /// The gateway closes a listener; those who wait there are reset.
    fn unlisten(&mut self, listener: usize) {
        let now = self.now;
        let told = !self.ready.contains(&Ready::Listener(listener as u16));
        for (client, _) in self.kernel.unlisten(listener, now, told) {
            self.links.get_mut(&client).expect("who comes has a socket").go(now);
        }
    }

    fn tell(&mut self, client: usize) {
        let Some(link) = self.links.get(&client) else { return };
        if let Some(id) = link.id {
            let writable = link.wants_writable && !link.is_stuck();
            let is_more = link.fin || link.reset || link.urgent.is_some();
            let reach = if is_more { Reach::End } else { Reach::ShortRead };
            self.ready.push_back(Ready::Connection { id, writable, readable: Some(reach) });
        }
    }
}

/// A shard's view of the world. A stream is the number of its client.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedIo(pub(crate) Rc<RefCell<World>>);

impl SimulatedIo {
    fn with<T>(&self, client: usize, call: impl FnOnce(&mut Link) -> T) -> T {
        call(self.0.borrow_mut().links.get_mut(&client).expect("a socket is used only while it is there"))
    }
}

impl Io for SimulatedIo {
    type Stream = usize;
    /// The number of its listener.
    type Listener = usize;

    fn now(&mut self) -> Instant {
        self.0.borrow().now
    }

    fn wall_ms(&mut self) -> u64 {
        self.0.borrow().now.as_nanos() / 1_000_000
    }

    fn token(&mut self) -> io::Result<[u8; 16]> {
        Ok(u128::from(self.0.borrow().now.as_nanos()).to_be_bytes())
    }

    fn listen(&mut self, place: &Place, number: u16) -> io::Result<(usize, SocketAddr)> {
        let listener = usize::from(number);
        self.0.borrow_mut().kernel.listen(listener);
        Ok((listener, place.address))
    }

    fn accept(&mut self, listener: &usize) -> io::Result<(usize, SocketAddr)> {
        self.0.borrow_mut().accept(*listener)
    }

    fn unlisten(&mut self, listener: usize) {
        self.0.borrow_mut().unlisten(listener);
    }

    fn keep_spare(&mut self) {
        let world = &mut *self.0.borrow_mut();
        world.kernel.keep_spare(world.now);
    }

    fn give_up_spare(&mut self) -> bool {
        let world = &mut *self.0.borrow_mut();
        world.kernel.give_up_spare(world.now)
    }

    fn watch(&mut self, stream: &mut usize, id: ConnectionId) -> io::Result<()> {
        let now = self.now();
        self.0.borrow_mut().kernel.watch(now)?;
        self.with(*stream, |link| link.id = Some(id));
        let mut world = self.0.borrow_mut();
        let has_something =
            world.links.get(stream).is_some_and(|link| !link.inbound.is_empty() || link.fin || link.reset);
        if has_something {
            world.tell(*stream);
        }
        Ok(())
    }

    fn watch_writable(&mut self, stream: &mut usize, _: ConnectionId, wanted: bool) -> io::Result<()> {
        self.with(*stream, |link| link.wants_writable = wanted);
        // Changing what is watched tells the present state, as epoll does.
        self.0.borrow_mut().tell(*stream);
        Ok(())
    }

    fn read(&mut self, stream: &mut usize, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().reads += 1;
        self.with(*stream, |link| {
            if link.reset {
                return if link.tell_reset() { Err(ErrorKind::ConnectionReset.into()) } else { Ok(0) };
            }
            let before_mark = link.urgent.take().filter(|bytes| *bytes > 0);
            let count = link.inbound.len().min(buffer.len()).min(before_mark.unwrap_or(usize::MAX));
            link.read += count;
            // The mark stays in the way until something behind it is read.
            link.urgent = before_mark.map(|bytes| bytes - count);
            if count == 0 {
                return if link.fin { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
            }
            for (place, byte) in buffer.iter_mut().zip(link.inbound.drain(..count)) {
                *place = byte;
            }
            Ok(count)
        })
    }

    fn has_unread(&mut self, stream: &usize) -> bool {
        self.with(*stream, |link| !link.inbound.is_empty() || link.fin || link.reset)
    }

    fn peek(&mut self, stream: &usize, buffer: &mut [u8]) -> usize {
        self.with(*stream, |link| {
            let bytes = buffer.iter_mut().zip(&link.inbound);
            bytes.map(|(place, byte)| *place = *byte).count()
        })
    }

    fn write(&mut self, stream: &mut usize, bytes: &[u8]) -> io::Result<usize> {
        self.with(*stream, |link| {
            if link.reset {
                link.tell_reset();
                return Err(ErrorKind::BrokenPipe.into());
            }
            let room = SEND_BUFFER.saturating_sub(link.outbound.len());
            if room == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            let count = room.min(bytes.len());
            link.outbound.extend_from_slice(&bytes[..count]);
            link.history.extend_from_slice(&bytes[..count]);
            Ok(count)
        })
    }

    fn shut_down(&mut self, stream: &usize) {
        let now = self.now();
        self.with(*stream, |link| {
            assert!(!link.closed, "a closed socket is not used any more");
            link.end(now);
        });
    }

    fn failure(&mut self, stream: &usize) -> Option<io::Error> {
        self.with(*stream, |link| link.tell_reset().then(|| ErrorKind::ConnectionReset.into()))
    }

    fn close(&mut self, stream: usize, abort: bool) {
        let now = self.now();
        self.with(stream, |link| {
            assert!(!link.closed, "a socket is closed once");
            link.closed = true;
            link.aborted = abort;
            link.end(now);
        });
        self.0.borrow_mut().kernel.give_back();
    }
}
