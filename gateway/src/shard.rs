//! A shard: a part of the connections, with their sockets, their state and their deadlines.
//!
//! What a shard decides is plain logic over its table and its wheel; sockets and the clock lie behind
//! [`Io`]. Whoever drives it (the event loop, or a simulation) calls, in each turn and in this order:
//! [`Shard::expire`], then what became ready, then [`Shard::handle_commands`], [`Shard::read_listed`],
//! [`Shard::judge`], [`Shard::end_turn`]. Each is bounded, so that one loud peer, or ten thousand deadlines at
//! once, can't keep the others waiting.

pub(crate) mod acceptor;
mod commands;
mod deadlines;
pub(crate) mod door;
mod drain;
pub(crate) mod entry;
pub(crate) mod event_loop;
mod gathering;
mod held;
pub(crate) mod io;
pub(crate) mod ledger;
mod reading;
mod resting;
mod sessions;
mod settling;
#[cfg(test)]
mod simulation;
pub(crate) mod sockets;
mod standstill;
mod stuck;
mod sweep;
pub(crate) mod table;
mod turning_away;

use crate::counters::{Counts, Published};
use crate::id::ConnectionId;
use crate::mailbox::{Command, Mailbox};
use crate::peer::Peer;
use crate::shard::door::{After, Courier, Desk, Door, Lane};
use crate::shard::drain::Drain;
use crate::shard::entry::{Entry, Marks, Waiting};
use crate::shard::held::HeldEnd;
use crate::shard::io::Io;
use crate::shard::ledger::Ledger;
use crate::shard::settling::SPENT_PER_TURN;
use crate::shard::sweep::{Errand, Sweep};
use crate::shard::table::Table;
use crate::sink::Ended;
use crate::sink::queue::SinkQueue;
use crate::stores::{Opened, ticket};
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::Connection;
use pulsegate_core::policy::Policy;
use pulsegate_core::stall::StallGuard;
use pulsegate_core::time::{Instant, Now};
use pulsegate_core::wheel::{Node, Wheel};
use pulsegate_store::{Moment, Store};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The one read buffer of a shard; idle connections own none.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// What all shards of a gateway share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The listeners, in the order of the configuration.
    pub(crate) doors: Box<[Door]>,
    /// The sinks that have a thread.
    pub(crate) queues: Box<[Arc<SinkQueue>]>,
    /// The stores, in the order of the ledgers.
    pub(crate) stores: Box<[Opened]>,
    /// The number of the last accepted connection.
    pub(crate) numbers: AtomicU64,
}

/// What a shard could not hand over before it ended.
#[derive(Debug, Default)]
pub(crate) struct Leftover {
    /// Ends that the sinks are to hear of when the stores in memory have forwarded what they can.
    pub(crate) ends: Vec<HeldEnd>,
    /// Messages that are lost.
    pub(crate) messages: u64,
}

/// A part of the connections of a gateway.
pub(crate) struct Shard<I: Io> {
    index: usize,
    io: I,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    published: Arc<Published>,
    guard: StallGuard,
    table: Table<Entry<I::Stream>>,
    wheel: Wheel,
    /// The poller has told of everything that came until then.
    heard: Instant,
    /// What people's clocks showed when the turn began; a store wants to know.
    wall_ms: u64,
    lanes: Box<[Lane]>,
    ledgers: Box<[Ledger]>,
    buffer: Vec<u8>,
    /// Bytes for the peer of the connection that is being served; empty between calls.
    transmit: Vec<u8>,
    /// Taken out of the mailbox; empty between turns.
    commands: Vec<Command>,
    /// To be read on without being told by the poller.
    listed: VecDeque<ConnectionId>,
    /// Their time for silence or for writing is over, unless a last try says otherwise.
    suspects: VecDeque<ConnectionId>,
    /// A sink for which reading was stopped has room again.
    lanes_free: bool,
    /// Those who wait to be told why they can't be kept, and some who were told, oldest first.
    turned_away: VecDeque<ConnectionId>,
    sweeps: VecDeque<Sweep>,
    drain: Option<Drain>,
    /// What could not be handed over before it ended.
    pub(crate) leftover: Leftover,
    /// So many end at once that their sockets are closed later.
    rush: bool,
    /// Sockets whose end has been sent, and that are still to be closed.
    spent: VecDeque<I::Stream>,
    counts: Counts,
}

impl<I: Io> Shard<I> {
    /// An empty shard.
    pub(crate) fn new(
        index: usize,
        mut io: I,
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        published: Arc<Published>,
    ) -> Self {
        let now = io.now();
        let lanes = shared.queues.iter().map(|queue| Lane::new(Arc::clone(queue))).collect();
        let ledger = |opened: &Opened| {
            let store: Arc<Store> = Arc::clone(&opened.store);
            Ledger::new(store, opened.durability, opened.origins.clone())
        };
        let ledgers = shared.stores.iter().map(ledger).collect();
        Self {
            index,
            io,
            shared,
            mailbox,
            published,
            guard: StallGuard::new(now),
            table: Table::new(),
            wheel: Wheel::new(now),
            heard: now,
            wall_ms: 0,
            lanes,
            ledgers,
            buffer: vec![0; READ_BUFFER_BYTES],
            transmit: Vec::new(),
            commands: Vec::new(),
            listed: VecDeque::new(),
            suspects: VecDeque::new(),
            lanes_free: false,
            turned_away: VecDeque::new(),
            sweeps: VecDeque::new(),
            drain: None,
            leftover: Leftover::default(),
            rush: false,
            spent: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Reads the clock.
    pub(crate) fn now(&mut self) -> Now {
        let instant = self.io.now();
        self.guard.handle_reading(instant)
    }

    /// Takes in a connection, or gives it back with the reason for which it can't be kept.
    pub(crate) fn admit(
        &mut self,
        stream: I::Stream,
        peer: Peer,
        listener: u16,
    ) -> Result<(), (I::Stream, CloseReason)> {
        // A newcomer takes the place of one that has ended, so that these never add to the descriptors in use.
        self.close_spent(1);
        let now = self.now();
        self.counts.accepted += 1;
        let outcome = self
            .try_admit(now, stream, peer, listener)
            .or_else(|(stream, reason)| self.turn_away(now, stream, peer, listener, reason));
        if let Err((_, reason)) = &outcome {
            self.count_refusal(peer, *reason);
        }
        outcome
    }

    /// A connection was accepted only to be told that it can't be kept.
    pub(crate) fn count_refused(&mut self, peer: Peer, reason: CloseReason) {
        self.counts.accepted += 1;
        self.count_refusal(peer, reason);
    }

    fn count_refusal(&mut self, peer: Peer, reason: CloseReason) {
        self.counts.count_end(reason);
        tracing::debug!(peer = %peer.address(), %reason, "refused");
    }

    fn try_admit(
        &mut self,
        now: Now,
        stream: I::Stream,
        peer: Peer,
        listener: u16,
    ) -> Result<(), (I::Stream, CloseReason)> {
        let shared = Arc::clone(&self.shared);
        let door = &shared.doors[usize::from(listener)];
        let draining = self.drain.is_some().then_some(CloseReason::Drain);
        if let Some(reason) = draining.or_else(|| self.obstacle_of_newcomers(door, now.own())) {
            return Err((stream, reason));
        }
        if let Err(reason) = door.limits.enter(now.instant, peer.source()) {
            return Err((stream, reason));
        }
        let number = self.shared.numbers.fetch_add(1, Relaxed) + 1;
        let key = self.table.insert(Entry {
            connection: Connection::new(now, &door.policy),
            waiting: Waiting::default(),
            number,
            node: Node::UNFILED,
            stream,
            peer,
            listener,
            marks: Marks::default(),
        });
        if !self.watch(key) {
            door.limits.leave(peer.source(), true);
            return match self.table.remove(key) {
                Some(entry) => Err((entry.stream, CloseReason::OutOfDescriptors)),
                None => Ok(()),
            };
        }
        self.file(key, now);
        self.act(key, now, |_, _, courier| courier.announce());
        Ok(())
    }

    fn watch(&mut self, key: u32) -> bool {
        let Some(entry) = self.table.at(key) else { return false };
        let id = entry.id(key);
        self.io.watch(&mut entry.stream, id).is_ok()
    }

    /// Hands over what the turn has gathered for sinks and stores, and publishes the counts.
    pub(crate) fn end_turn(&mut self) {
        if !self.rush && !self.spent.is_empty() {
            self.close_spent(SPENT_PER_TURN);
        }
        // The stores come first: if one has died, the ends that waited for it go into these batches.
        self.check_stuck();
        self.submit();
        self.give_up_late();
        for lane in &mut self.lanes {
            if !lane.batch.is_empty() {
                lane.queue.push(self.index, std::mem::take(&mut lane.batch));
            }
            if lane.queue.is_full(0) {
                let own = self.guard.handle_reading(self.io.now()).own();
                lane.rests_since(own);
            }
            // Only now the queue counts all that stands in the way of those who are held back.
            if !lane.paused.is_empty() && !lane.queue.wait(self.index) {
                self.lanes_free = true;
            }
        }
        self.counts.stalled_ms = self.guard.stalled().as_millis() as u64;
        self.published.store(&self.counts);
    }

    /// Hands over what the turn has gathered for stores. From one that has died nothing more will come.
    fn submit(&mut self) {
        let mut held_up = 0;
        for place in 0..self.ledgers.len() {
            let ledger = &mut self.ledgers[place];
            let had_failed = ledger.has_failed();
            self.lanes_free |= ledger.submit();
            held_up += ledger.bytes();
            if ledger.has_failed() && !had_failed {
                ledger.held.release_all(&mut self.lanes);
                self.sweep(Errand::Purge);
            }
        }
        self.mailbox.set_held_up(held_up);
    }

    /// When the next turn is due though nothing becomes ready: now if work is left, `None` if nothing is
    /// to come. The shard counts as asleep until then.
    pub(crate) fn sleep(&mut self) -> Option<Instant> {
        let wake = if self.has_work() { Some(Instant::ORIGIN) } else { self.next_wake() };
        self.guard.handle_sleep(wake)
    }

    fn has_work(&self) -> bool {
        let waiting = [self.listed.len(), self.suspects.len(), self.sweeps.len(), self.spent.len()];
        self.lanes_free || waiting.into_iter().any(|count| count > 0)
    }

    fn next_wake(&self) -> Option<Instant> {
        let drain = self.drain.as_ref().and_then(Drain::next);
        let bound = self.drain.as_ref().map(Drain::bound).filter(|_| !self.is_done());
        let stuck = self.next_stuck_check();
        [self.wheel.next_wake(), drain, bound, stuck].into_iter().flatten().min()
    }

    /// Whether it has been told to stop and holds nothing any more.
    pub(crate) fn is_done(&self) -> bool {
        let is_told = |ledger: &Ledger| ledger.held.is_empty() && ledger.is_handed_over();
        let is_told = self.ledgers.iter().all(is_told);
        self.drain.is_some() && self.table.is_empty() && is_told && self.spent.is_empty()
    }

    /// Whether it takes no newcomers any more.
    pub(crate) const fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Changes a connection by one call, and does what the call leaves to be done, but for the socket:
    /// that is [`settle`](Self::settle)'s.
    fn act(&mut self, key: u32, now: Now, call: impl FnOnce(&mut Connection, &Policy, &mut Courier<'_>)) {
        let Some(entry) = self.table.at(key) else { return };
        let door = &self.shared.doors[usize::from(entry.listener)];
        let sessions = match door.ledger.and_then(|place| self.ledgers.get_mut(place)) {
            None => None,
            Some(ledger) => Some(Desk {
                ledger,
                policy: &door.policy,
                ticket: ticket(self.index, entry.id(key)),
                source: entry.peer.source().network(),
                attachment: entry.connection.attachment(),
                moment: moment(self.wall_ms, now),
            }),
        };
        let mut courier = Courier {
            transmit: &mut self.transmit,
            delivery: door.delivery,
            lanes: &mut self.lanes,
            from: entry.from(key),
            waiting: entry.waiting.len(),
            sessions,
            after: After::default(),
        };
        let was_newcomer = !entry.connection.lifetime().has_spoken();
        call(&mut entry.connection, &door.policy, &mut courier);
        if courier.after.finish {
            entry.connection.finish(now, &door.policy, courier.waiting, &mut courier);
        }
        if was_newcomer && entry.connection.lifetime().has_spoken() {
            door.limits.speak();
        }
        self.counts.messages += courier.after.messages;
        let After { attach, closed, .. } = std::mem::take(&mut courier.after);
        if let Some(reason) = closed {
            let age = now.instant.since(entry.connection.lifetime().opened());
            let ended = Ended { reason, age, totals: entry.connection.totals() };
            if entry.marks.turned_away.is_none() {
                courier.report(ended);
            }
            self.counts.count_end(reason);
            log_end(entry, &ended);
            if reason == CloseReason::RawListener {
                door.handle_lost_client(entry.peer);
            }
        }
        if let Some(attach) = attach {
            self.ask_for_session(key, now, attach);
        }
    }
}

/// The present, as a store wants to know it.
const fn moment(wall_ms: u64, now: Now) -> Moment {
    Moment { wall_ms, uptime_ms: now.instant.as_nanos() / 1_000_000 }
}

/// However a shard ends, nobody may go on writing to it.
impl<I: Io> Drop for Shard<I> {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

fn log_end<S>(entry: &Entry<S>, ended: &Ended) {
    let Ended { reason, age, totals } = ended;
    tracing::debug!(
        connection = entry.number,
        peer = %entry.peer.address(),
        %reason,
        who = reason.who().as_str(),
        age_ms = age.as_millis() as u64,
        messages = totals.messages,
        bytes_in = totals.bytes_in,
        bytes_out = totals.bytes_out,
        "ended"
    );
}
