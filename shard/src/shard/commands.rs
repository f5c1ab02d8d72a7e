//! What comes through the mailbox.

use crate::id::ConnectionId;
use crate::mailbox::Command;
use crate::shard::Shard;
use crate::shard::agenda::Errand;
use crate::shard::drain::Drain;
use crate::shard::io::Io;
use pulsegate_core::close::CloseReason;
use pulsegate_core::lifetime::Pause;
use pulsegate_core::time::Now;
use std::time::Duration;

impl<I: Io> Shard<I> {
    /// Does what others have asked for.
    pub(crate) fn handle_commands(&mut self) {
        let mut commands = std::mem::take(&mut self.inbox.commands);
        self.inbox.mailbox.take(&mut commands);
        for command in commands.drain(..) {
            let now = self.now();
            self.handle_command(now, command);
        }
        self.inbox.commands = commands;
        if self.outlets.has_room() {
            self.resume_held_back();
        }
        self.sweep_step();
    }

    fn handle_command(&mut self, now: Now, command: Command) {
        match command {
            Command::Send(id, bytes) => self.send(now, id, bytes),
            Command::Finish(id) => {
                self.serve(id, |served| {
                    served.change(now, |connection, policy, output| {
                        connection.finish(now, policy, output.waiting, output);
                    });
                });
            }
            Command::Close(id) => self.end(id, now, CloseReason::Application),
            Command::SetDeadline(id, direction, deadline) => {
                self.serve(id, |served| {
                    served.change(now, |connection, _, _| connection.set_deadline(direction, deadline));
                });
            }
            Command::SinkReady => {
                self.outlets.handle_room();
                if self.outlets.sink_fails_now() {
                    self.agenda.sweep(Errand::Purge);
                }
            }
            Command::SinkStuck(ledger, is_stuck) => self.handle_stuck(now, ledger, is_stuck),
            Command::Replies(ledger, replies) => self.handle_replies(now, ledger, replies),
            Command::Replaced(id) => self.handle_replaced(now, id),
            Command::Listen(number, place, answer) => {
                // The thread that asked may have given up.
                let _ = answer.send(self.listen(number, &place));
            }
            Command::Accept => self.acceptor.begin(),
            Command::Drain(within) => self.begin_drain(now, within),
            Command::Stop => self.stop(now),
        }
    }

    /// Ends this connection, if it is there.
    pub(crate) fn end(&mut self, id: ConnectionId, now: Now, reason: CloseReason) {
        self.serve(id, |served| served.end(now, reason));
    }

    /// Resumes reading connections that were held back by a full sink or store: in their order, and before those that
    /// have just been read and have more.
    fn resume_held_back(&mut self) {
        let now = self.now();
        for id in self.outlets.take_released().into_iter().rev() {
            self.serve(id, |served| {
                served.act(now, |connection, policy, _| connection.resume(now, policy, Pause::Sink));
                served.list_first();
                served.reconcile(now);
            });
        }
    }

    /// Ends everything now; what can't leave at once is given up.
    fn stop(&mut self, now: Now) {
        match &mut self.agenda.drain {
            Some(drain) => drain.hurry(now.instant),
            None => self.agenda.drain = Some(Drain::new(now.instant, Duration::ZERO, 0, Box::default())),
        }
        self.end_all();
    }

    /// Ends all connections, whatever is left to be sent.
    pub(crate) fn end_all(&mut self) {
        let now = self.now();
        let mut from = 0;
        while let Some(id) = self.connections.table.next(from) {
            from = id.key() + 1;
            self.serve(id, |served| {
                served.end(now, CloseReason::Stopped);
                if !served.is_over() {
                    served.release(false);
                }
            });
        }
        self.outlets.forget_waiting();
    }
}
