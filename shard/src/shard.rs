//! A shard: a part of the connections, with their sockets, their state and their deadlines.
//!
//! What a shard decides is plain logic over its table and its wheel; sockets and the clock lie behind [`Io`]. The event
//! loop, or a simulation, calls [`Shard::turn`] with what the poller reports, and [`Shard::sleep`] to learn when the
//! next turn is due.
//!
//! Its state has owners: the connections, the outlets, the agenda. Each event about one connection is handled by a
//! [`Served`].
//!
//! Modules, each using only those after it: `simulation`, `commands`, `accepting`, `sessions`, `shares`, `stuck`,
//! `draining`, `errands`, `deadlines`, `turning_away`, `reading`, `layered`, `reconciling`, `served`, `output`, `ends`,
//! `listener`, `outlets`, `ledger`, `held`, `lane`, `resting`, `standstill`, `agenda`, `drain`, `acceptor`,
//! `connections`, `entry`, `pipe`, `layer`, `byte_queue`, `table`, `time`, `io`.

mod accepting;
mod acceptor;
mod agenda;
mod byte_queue;
mod commands;
mod connections;
mod deadlines;
mod drain;
mod draining;
mod ends;
pub(crate) mod entry;
mod errands;
pub(crate) mod held;
pub(crate) mod io;
mod lane;
pub(crate) mod layer;
mod layered;
pub(crate) mod ledger;
pub(crate) mod listener;
mod outlets;
mod output;
mod pipe;
mod reading;
mod reconciling;
mod resting;
mod served;
mod sessions;
mod shares;
#[cfg(test)]
mod simulation;
mod standstill;
mod stuck;
pub(crate) mod table;
mod time;
mod turning_away;

use crate::counters::{Counter, Published, ShardCounts};
use crate::id::{ConnectionId, Numbers};
use crate::mailbox::{Command, Mailbox};
use crate::peer::Peer;
use crate::post::Opened;
use crate::shard::acceptor::Acceptor;
use crate::shard::agenda::{Agenda, CLOSED_PER_TURN, Errand};
use crate::shard::connections::Connections;
use crate::shard::drain::Drain;
use crate::shard::ends::record_end;
use crate::shard::entry::{Entry, Marks};
use crate::shard::io::{Io, Ready};
use crate::shard::listener::Listener;
use crate::shard::outlets::Outlets;
use crate::shard::served::{Fate, Served};
use crate::shard::time::ShardTime;
use crate::sink::queue::SinkQueue;
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::Connection;
use pulsegate_core::time::{Instant, Now};
use pulsegate_core::wheel::Node;
use std::sync::Arc;

pub use crate::shard::outlets::Leftover;

/// The one read buffer of a shard; idle connections own none.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// What all shards of a gateway share.
#[derive(Debug)]
pub struct Shared {
    /// The listeners, in the order of the configuration.
    pub listeners: Box<[Listener]>,
    /// The sinks that have a thread.
    pub queues: Box<[Arc<SinkQueue>]>,
    /// The stores, in the order of the ledgers.
    pub stores: Box<[Opened]>,
    /// How many share all of this.
    pub shards: usize,
}

/// A part of the connections of a gateway.
pub struct Shard<I: Io> {
    io: I,
    time: ShardTime,
    shared: Arc<Shared>,
    inbox: Inbox,
    acceptor: Acceptor<I::Listener>,
    connections: Connections<I::Stream>,
    outlets: Outlets,
    agenda: Agenda<I::Stream>,
    buffers: Buffers,
    counts: ShardCounts,
    numbers: Numbers,
    published: Arc<Published>,
}

/// Commands from other threads.
struct Inbox {
    mailbox: Arc<Mailbox>,
    /// Taken out of the mailbox; empty between turns.
    commands: Vec<Command>,
}

/// Buffers that bytes pass through; empty between events.
struct Buffers {
    read: Box<[u8]>,
    /// Bytes for the peer of the connection that is being served.
    transmit: Vec<u8>,
}

impl<I: Io> Shard<I> {
    /// An empty shard.
    pub fn new(
        index: usize,
        mut io: I,
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        published: Arc<Published>,
    ) -> Self {
        let now = io.now();
        let counts = ShardCounts::new(shared.listeners.len());
        let numbers = Numbers::new(index, io.wall_ms());
        Self {
            io,
            time: ShardTime::new(now),
            outlets: Outlets::new(index, shared.shards, &shared.queues, &shared.stores),
            shared,
            inbox: Inbox { mailbox, commands: Vec::new() },
            acceptor: Acceptor::new(),
            connections: Connections::new(now),
            agenda: Agenda::new(),
            buffers: Buffers { read: vec![0; READ_BUFFER_BYTES].into(), transmit: Vec::new() },
            counts,
            numbers,
            published,
        }
    }

    /// Reads the clock.
    pub(crate) fn now(&mut self) -> Now {
        self.time.read(&mut self.io)
    }

    /// Serves the connection with this id, if it is still there, and then does what its fate says.
    pub(crate) fn serve<T>(
        &mut self,
        id: ConnectionId,
        call: impl FnOnce(&mut Served<'_, I>) -> T,
    ) -> Option<T> {
        let entry = self.connections.get(id)?;
        let listener = entry.listener;
        let mut served = Served {
            id,
            listener: &self.shared.listeners[usize::from(listener)],
            entry,
            io: &mut self.io,
            time: &mut self.time,
            outlets: &mut self.outlets,
            agenda: &mut self.agenda,
            counts: self.counts.of(listener),
            buffer: &mut self.buffers.read,
            transmit: &mut self.buffers.transmit,
            fate: Fate::Stays,
        };
        let outcome = call(&mut served);
        match served.fate {
            Fate::Stays => {}
            Fate::Reschedule => {
                if let Some(deadline) = served.deadline() {
                    self.connections.schedule(id, deadline);
                }
            }
            Fate::Release { abort } => self.release(id, abort),
        }
        Some(outcome)
    }

    /// One turn. What arrived until `horizon` is known already, or is among what is `ready`.
    ///
    /// Only this method knows the order of the steps. Each is bounded, so that one loud peer, or ten thousand deadlines
    /// at once, can't keep the others waiting.
    pub fn turn(&mut self, horizon: Instant, ready: impl IntoIterator<Item = Ready>) {
        // What arrives after a fixed deadline counts for nothing, so these expire before anything is read.
        self.expire(horizon);
        for ready in ready {
            self.handle_ready(ready);
        }
        self.accept();
        self.handle_commands();
        self.read_listed();
        // Last of what reads: a heartbeat may wait in our own buffer.
        self.judge();
        if self.is_draining() {
            self.drain_step();
        }
        self.end_turn();
        self.close_listeners();
    }

    fn handle_ready(&mut self, ready: Ready) {
        match ready {
            Ready::Listener(number) => self.acceptor.handle_ready(number),
            Ready::Connection { id, writable, readable } => {
                if writable {
                    self.handle_writable(id);
                }
                if let Some(reach) = readable {
                    self.handle_readable(id, reach);
                }
            }
        }
    }

    /// Takes in a newcomer, and says whether something was read of it; or tells it why it can't be kept, and says that.
    fn admit(&mut self, stream: I::Stream, peer: Peer, listener: u16) -> Result<bool, CloseReason> {
        // A newcomer takes the place of one that has ended, so that these never add to the descriptors in use.
        self.close_ended(1);
        let now = self.now();
        self.counts.of(listener).count(Counter::Accepted, 1);
        let (stream, reason) = match self.try_admit(now, stream, peer, listener) {
            Ok(has_sent) => return Ok(has_sent),
            Err(refused) => refused,
        };
        if let Err((stream, reason)) = self.turn_away(now, stream, peer, listener, reason) {
            self.record_refusal(now, peer, listener, reason);
            self.refuse(stream, listener, reason);
        }
        Err(reason)
    }

    /// Records the end of a newcomer that never became one of the connections.
    fn record_refusal(&mut self, now: Now, peer: Peer, listener: u16, reason: CloseReason) {
        let of = &self.shared.listeners[usize::from(listener)];
        record_end(of, self.counts.of(listener), now, (self.numbers.next(), peer), reason, None);
    }

    fn try_admit(
        &mut self,
        now: Now,
        stream: I::Stream,
        peer: Peer,
        place: u16,
    ) -> Result<bool, (I::Stream, CloseReason)> {
        let listener = &self.shared.listeners[usize::from(place)];
        let obstacle = if self.agenda.drain.is_some() {
            Some(CloseReason::Drain)
        } else {
            let sink_stall = listener.policy.sink_stall;
            self.outlets.obstacle_of_newcomers(listener.of_newcomers(), now.own(), sink_stall)
        };
        if let Some(reason) = obstacle {
            return Err((stream, reason));
        }
        if let Err(reason) = listener.limits.enter(now.instant, peer.source()) {
            return Err((stream, reason));
        }
        let connection = Connection::new(now, &listener.policy);
        match self.insert(connection, stream, peer, place, Marks::default()) {
            Ok(id) => {
                let has_sent = self.serve(id, |served| {
                    served.announce();
                    served.read_first()
                });
                Ok(has_sent.unwrap_or(false))
            }
            Err(stream) => {
                self.shared.listeners[usize::from(place)].limits.leave(peer.source(), true);
                Err((stream, CloseReason::OutOfDescriptors))
            }
        }
    }

    /// Puts one more among the connections, whose next deadline is yet to be scheduled; or gives its socket back, if
    /// that can't be watched.
    fn insert(
        &mut self,
        connection: Connection,
        stream: I::Stream,
        peer: Peer,
        listener: u16,
        marks: Marks,
    ) -> Result<ConnectionId, I::Stream> {
        let number = self.numbers.next();
        let (pipe, node) = (self.shared.listeners[usize::from(listener)].pipe(), Node::UNFILED);
        let entry = Entry { connection, pipe, number, node, stream, peer, listener, marks };
        let id = self.connections.insert(entry);
        let entry = self.connections.get(id);
        if entry.is_some_and(|entry| self.io.watch(&mut entry.stream, id).is_ok()) {
            return Ok(id);
        }
        self.connections.remove(id).map_or(Ok(id), |entry| Err(entry.stream))
    }

    /// A connection is over: everything that it held is given back.
    fn release(&mut self, id: ConnectionId, abort: bool) {
        let Some(entry) = self.connections.remove(id) else { return };
        if entry.marks.turned_away.is_none() {
            let listener = &self.shared.listeners[usize::from(entry.listener)];
            listener.limits.leave(entry.peer.source(), !entry.connection.lifetime().has_spoken());
        }
        if self.agenda.closes_later() && !abort {
            // The peer is told now. The rest of a close, a third of its cost, must not keep the next one waiting.
            self.io.shut_down(&entry.stream);
            self.agenda.close_later(entry.stream);
        } else {
            self.io.close(entry.stream, abort);
        }
    }

    /// Closes up to `count` of those whose end has been sent. Returns how many.
    pub(crate) fn close_ended(&mut self, count: usize) -> usize {
        let streams = self.agenda.take_unclosed(count);
        let count = streams.len();
        for stream in streams {
            self.io.close(stream, false);
        }
        count
    }

    /// Hands over what the turn has gathered for sinks and stores, and publishes the counts.
    fn end_turn(&mut self) {
        if !self.agenda.closes_later() {
            self.close_ended(CLOSED_PER_TURN);
        }
        // The stores come first: if one has died, the ends that waited for it go into these batches.
        self.check_stuck();
        self.submit();
        self.give_up_late();
        self.forget_ended();
        let (time, io) = (&mut self.time, &mut self.io);
        self.outlets.push(|| time.read(io).own());
        self.published.store(&mut self.counts, self.time.stalled().as_millis() as u64);
    }

    /// Hands over what the turn has gathered for stores. From one that has died nothing more will come.
    fn submit(&mut self) {
        let (time, io) = (&mut self.time, &mut self.io);
        if self.outlets.submit(|| time.read(io).own()) {
            self.agenda.sweep(Errand::Purge);
        }
        self.inbox.mailbox.set_held_up(self.outlets.held_up_bytes());
    }

    /// When the next turn is due even if nothing becomes ready: now if work is left, `None` if there is nothing to wait
    /// for. The shard counts as asleep until then.
    pub fn sleep(&mut self) -> Option<Instant> {
        let wake = if self.has_work() { Some(Instant::ORIGIN) } else { self.next_wake() };
        self.time.sleep(wake)
    }

    fn has_work(&self) -> bool {
        self.outlets.has_room() || self.agenda.has_work()
    }

    fn next_wake(&self) -> Option<Instant> {
        let drain = self.agenda.drain.as_ref().and_then(Drain::next);
        let bound = self.agenda.drain.as_ref().map(Drain::bound).filter(|_| !self.is_done());
        let (stuck, accept) = (self.next_stuck_check(), self.acceptor.next_wake());
        [self.connections.next_wake(), drain, bound, stuck, accept].into_iter().flatten().min()
    }

    /// Whether it has been told to stop and holds nothing any more.
    pub(crate) fn is_done(&self) -> bool {
        let holds_nothing = self.connections.table.is_empty() && self.outlets.is_handed_over();
        self.agenda.drain.is_some() && holds_nothing && self.agenda.has_closed_all()
    }

    /// Whether nothing is left to be done, and nobody can come any more.
    pub fn is_over(&self) -> bool {
        self.is_done() && self.acceptor.is_closed()
    }

    /// Whether it takes no newcomers any more.
    const fn is_draining(&self) -> bool {
        self.agenda.drain.is_some()
    }

    /// Takes what could not be handed over before it ended.
    pub fn take_leftover(&mut self) -> Leftover {
        std::mem::take(&mut self.outlets.leftover)
    }
}

/// However a shard ends, nothing more may be posted to it.
impl<I: Io> Drop for Shard<I> {
    fn drop(&mut self) {
        self.inbox.mailbox.close();
    }
}
