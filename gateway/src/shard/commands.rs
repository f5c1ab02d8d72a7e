//! What comes through the mailbox.

use crate::id::ConnectionId;
use crate::mailbox::Command;
use crate::shard::Shard;
use crate::shard::door::{Courier, Delivery, Lane};
use crate::shard::drain::{Drain, ENDS_PER_TURN};
use crate::shard::rim::Rim;
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::Connection;
use pulsegate_core::lifetime::Pause;
use pulsegate_core::policy::Policy;
use pulsegate_core::time::Now;

impl<R: Rim> Shard<R> {
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
        self.purge_step();
    }

    fn handle_command(&mut self, now: Now, command: Command) {
        match command {
            Command::Send(id, bytes) => self.command(id, now, |connection, policy, courier| {
                // Nobody left to send to: the sink has been told by the connection's end.
                let _ = connection.send(now, policy, &bytes, courier.waiting, courier);
            }),
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
                if self.lanes.iter().any(|lane| lane.queue.has_failed()) {
                    self.purge = Some(0);
                }
            }
            Command::Drain(within) => {
                let total = self.table.len();
                self.drain.get_or_insert_with(|| Drain::new(now.instant, within, total));
            }
            Command::Stop => self.stop(now),
        }
    }

    fn command(
        &mut self,
        id: ConnectionId,
        now: Now,
        call: impl FnOnce(&mut Connection, &Policy, &mut Courier<'_>),
    ) {
        let Some(key) = self.table.find(id) else { return };
        self.act(key, now, call);
        self.settle(key, now);
    }

    /// Lets those read on that a full sink has held back.
    fn release_lanes(&mut self, now: Now) {
        self.lanes_free = false;
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].obstacle() == Some(CloseReason::SinkStalled) {
                continue;
            }
            for id in std::mem::take(&mut self.lanes[lane].paused) {
                let Some(key) = self.table.find(id) else { continue };
                self.act(key, now, |connection, policy, _| connection.resume(now, policy, Pause::Sink));
                self.list(key);
                self.settle(key, now);
            }
        }
    }

    /// Ends the connections of failed sinks, so many at a time that the others are served meanwhile.
    fn purge_step(&mut self) {
        for _ in 0..ENDS_PER_TURN {
            let Some(key) = self.purge.and_then(|from| self.table.next_key(from)) else {
                self.purge = None;
                return;
            };
            self.purge = Some(key + 1);
            if self.lane_of(key).is_some_and(|lane| lane.queue.has_failed()) {
                let now = self.now();
                self.end(key, now, CloseReason::SinkFailed);
            }
        }
    }

    /// The lane to the connection's sink, if that has one.
    pub(crate) fn lane_of(&mut self, key: u32) -> Option<&Lane> {
        let listener = self.table.at(key)?.listener;
        match self.shared.doors[usize::from(listener)].delivery {
            Delivery::Lane(lane) => self.lanes.get(lane),
            Delivery::Discard | Delivery::Echo(_) => None,
        }
    }

    /// Ends so many connections that the drain keeps its pace.
    pub(crate) fn drain_step(&mut self) {
        let now = self.now();
        while let Some(key) = self.drain.as_mut().and_then(|drain| drain.take(now.instant, &self.table)) {
            self.end(key, now, CloseReason::Drain);
        }
    }

    /// Ends everything now; what can't leave at once is given up.
    fn stop(&mut self, now: Now) {
        self.drain.get_or_insert_with(|| Drain::new(now.instant, std::time::Duration::ZERO, 0));
        let mut from = 0;
        while let Some(key) = self.table.next_key(from) {
            from = key + 1;
            self.end(key, now, CloseReason::Stopped);
            if self.table.at(key).is_some() {
                self.release(key, false);
            }
        }
        self.lanes.iter_mut().for_each(|lane: &mut Lane| lane.paused.clear());
    }
}
