//! What comes through the mailbox.

use crate::id::ConnectionId;
use crate::mailbox::Command;
use crate::shard::Shard;
use crate::shard::door::{Courier, Delivery, Door, Lane};
use crate::shard::drain::Drain;
use crate::shard::io::Io;
use crate::shard::sweep::Errand;
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::Connection;
use pulsegate_core::lifetime::Pause;
use pulsegate_core::policy::{Policy, Protocol};
use pulsegate_core::time::{Instant, Now};
use std::time::Duration;

impl<I: Io> Shard<I> {
    /// Does what others have asked for.
    pub(crate) fn handle_commands(&mut self) {
        let mut commands = std::mem::take(&mut self.commands);
        self.mailbox.take(&mut commands);
        for command in commands.drain(..) {
            let now = self.now();
            self.handle_command(now, command);
        }
        self.commands = commands;
        if self.lanes_free {
            let now = self.now();
            self.release_lanes(now);
        }
        self.sweep_step();
    }

    fn handle_command(&mut self, now: Now, command: Command) {
        match command {
            Command::Send(id, bytes) => self.send(now, id, bytes),
            Command::Finish(id) => self.command(id, now, |connection, policy, courier| {
                connection.finish(now, policy, courier.waiting, courier);
            }),
            Command::Close(id) => {
                if let Some(key) = self.table.find(id) {
                    self.end(key, now, CloseReason::Application);
                }
            }
            Command::SetDeadline(id, direction, deadline) => self.command(id, now, |connection, _, _| {
                connection.set_deadline(direction, deadline);
            }),
            Command::SinkReady => {
                self.lanes_free = true;
                if self.lanes.iter_mut().any(Lane::fails_now) {
                    self.sweep(Errand::Purge);
                }
            }
            Command::SinkStuck(ledger, is_stuck) => self.handle_stuck(now, ledger, is_stuck),
            Command::Replies(ledger, replies) => self.handle_replies(now, ledger, replies),
            Command::Replaced(id) => self.handle_replaced(now, id),
            Command::Drain(within) => self.begin_drain(now, within),
            Command::Stop => self.stop(now),
        }
    }

    pub(crate) fn command(
        &mut self,
        id: ConnectionId,
        now: Now,
        call: impl FnOnce(&mut Connection, &Policy, &mut Courier<'_>),
    ) {
        let Some(key) = self.table.find(id) else { return };
        self.act(key, now, call);
        self.settle(key, now);
    }

    /// Lets those read on that a full sink or store has held back.
    fn release_lanes(&mut self, now: Now) {
        self.lanes_free = false;
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].obstacle() != Some(CloseReason::SinkStalled) {
                let paused = std::mem::take(&mut self.lanes[lane].paused);
                self.resume(now, paused);
            }
        }
        for ledger in 0..self.ledgers.len() {
            if self.ledgers[ledger].obstacle() != Some(CloseReason::SinkStalled) {
                let paused = std::mem::take(&mut self.ledgers[ledger].paused);
                self.resume(now, paused);
            }
        }
    }

    fn resume(&mut self, now: Now, paused: Vec<ConnectionId>) {
        for id in paused {
            let Some(key) = self.table.find(id) else { continue };
            self.act(key, now, |connection, policy, _| connection.resume(now, policy, Pause::Sink));
            self.list(key);
            self.settle(key, now);
        }
    }

    /// Why nothing may be read from this connection now, if nothing may. Those who are held back already come
    /// first: else whoever sends most takes all the room there is, and they are ended for it.
    pub(crate) fn obstacle_of(&mut self, key: u32) -> Option<CloseReason> {
        let ledger = self.ledger_of(key);
        let door = &self.shared.doors[usize::from(self.table.at(key)?.listener)];
        let lane = self.lane_obstacle(door);
        let obstacle = match ledger {
            // Its messages go by the store, which waits for the sink; but what has failed stands in their way.
            Some(ledger) => {
                let failed = lane.filter(|reason| *reason == CloseReason::SinkFailed);
                failed.or_else(|| self.ledgers[ledger].obstacle())
            }
            None => lane,
        };
        obstacle.or_else(|| {
            let others = self.held_back(key).is_some_and(|paused| !paused.is_empty());
            others.then_some(CloseReason::SinkStalled)
        })
    }

    /// Why nobody is let in at this door for want of its sink or its sessions, if so. That they are full is no reason:
    /// reading rests for a newcomer as it does for all others.
    pub(crate) fn obstacle_of_newcomers(&mut self, door: &Door, own: Instant) -> Option<CloseReason> {
        let sink_stall = door.policy.sink_stall;
        let lane = match door.delivery {
            Delivery::Lane(lane) => self.lanes[lane].obstacle_of_newcomers(own, sink_stall),
            Delivery::Discard | Delivery::Echo(_) | Delivery::Store => None,
        };
        // Whoever turns out to be a raw client may not need the sessions at all.
        let needs_sessions = door.delivery == Delivery::Store || door.policy.protocol == Protocol::Pulse;
        let ledger = door.ledger.filter(|_| needs_sessions);
        lane.or_else(|| self.ledgers[ledger?].obstacle_of_newcomers(own, sink_stall))
    }

    /// Why this door's sink takes nothing, if it does not.
    pub(crate) fn lane_obstacle(&self, door: &Door) -> Option<CloseReason> {
        match door.delivery {
            Delivery::Lane(lane) => self.lanes[lane].obstacle(),
            Delivery::Discard | Delivery::Echo(_) | Delivery::Store => None,
        }
    }

    /// Notes who waits until there is room.
    pub(crate) fn note_paused(&mut self, key: u32) {
        let Some(entry) = self.table.at(key) else { return };
        let id = entry.id(key);
        if let Some(paused) = self.held_back(key) {
            paused.push(id);
        }
    }

    /// Those who wait until there is room where this connection's messages go.
    fn held_back(&mut self, key: u32) -> Option<&mut Vec<ConnectionId>> {
        if let Some(ledger) = self.ledger_of(key) {
            return Some(&mut self.ledgers[ledger].paused);
        }
        match self.shared.doors[usize::from(self.table.at(key)?.listener)].delivery {
            Delivery::Lane(lane) => Some(&mut self.lanes[lane].paused),
            Delivery::Discard | Delivery::Echo(_) | Delivery::Store => None,
        }
    }

    /// Ends everything now; what can't leave at once is given up.
    fn stop(&mut self, now: Now) {
        match &mut self.drain {
            Some(drain) => drain.hurry(now.instant),
            None => self.drain = Some(Drain::new(now.instant, Duration::ZERO, 0, Box::default())),
        }
        self.end_all();
    }

    /// Ends all connections, whatever is left to be sent.
    pub(crate) fn end_all(&mut self) {
        let now = self.now();
        let mut from = 0;
        while let Some(key) = self.table.next_key(from) {
            from = key + 1;
            self.end(key, now, CloseReason::Stopped);
            if self.table.at(key).is_some() {
                self.release(key, false);
            }
        }
        self.lanes.iter_mut().for_each(|lane| lane.paused.clear());
        for ledger in &mut self.ledgers {
            ledger.paused.clear();
            ledger.resting.release_all();
        }
    }
}
