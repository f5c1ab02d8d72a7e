//! The one way into a shard from other threads: a bounded queue of commands and a waker.

use crate::id::ConnectionId;
use parking_lot::Mutex;
use pulsegate_core::lifetime::Direction;
use pulsegate_core::time::Instant;
use pulsegate_store::Reply;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// The most that may wait in a mailbox, in bytes; a command counts its payload and [`COMMAND_BYTES`].
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a command counts beside its payload.
const COMMAND_BYTES: usize = 64;

/// What others ask of a shard.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send bytes to a connection's peer.
    Send(ConnectionId, Box<[u8]>),
    /// End a connection when everything is sent.
    Finish(ConnectionId),
    /// End a connection, for the application.
    Close(ConnectionId),
    /// Set or clear deadlines of a connection.
    SetDeadline(ConnectionId, Direction, Option<Instant>),
    /// A sink takes messages again, or has failed.
    SinkReady,
    /// The store with this place among the ledgers answers.
    Replies(usize, Vec<Reply>),
    /// A connection's session has been taken over by a newer connection.
    Replaced(ConnectionId),
    /// Stop accepting, end all connections within this time, then end the shard.
    Drain(Duration),
    /// End everything now.
    Stop,
}

impl Command {
    fn bytes(&self) -> usize {
        match self {
            Self::Send(_, payload) => COMMAND_BYTES + payload.len(),
            Self::Finish(_) | Self::Close(_) | Self::SetDeadline(..) => COMMAND_BYTES,
            // Few by nature, and never to be refused.
            Self::SinkReady | Self::Replaced(_) | Self::Drain(_) | Self::Stop => 0,
            // Bounded by what the store's queue holds.
            Self::Replies(..) => 0,
        }
    }
}

/// The mailbox holds as much as it may, or its shard has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Gone,
}

/// A shard's mailbox.
pub(crate) struct Mailbox {
    queue: Mutex<Queue>,
    /// Whether the shard has been woken and has not looked yet, so that it isn't woken twice.
    woken: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Queue {
    commands: Vec<Command>,
    bytes: usize,
    closed: bool,
}

impl Mailbox {
    /// An empty mailbox; `wake` makes its shard look into it.
    pub(crate) fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { queue: Mutex::default(), woken: AtomicBool::new(false), wake: Box::new(wake) }
    }

    /// Puts a command in.
    pub(crate) fn post(&self, command: Command) -> Result<(), Refused> {
        let bytes = command.bytes();
        {
            let mut queue = self.queue.lock();
            if queue.closed {
                return Err(Refused::Gone);
            }
            if bytes > 0 && queue.bytes + bytes > BYTES_MAX {
                return Err(Refused::Full);
            }
            queue.bytes += bytes;
            queue.commands.push(command);
        }
        if !self.woken.swap(true, SeqCst) {
            (self.wake)();
        }
        Ok(())
    }

    /// Takes all commands; `into` is empty before, and keeps its memory from turn to turn.
    pub(crate) fn take(&self, into: &mut Vec<Command>) {
        // Whoever posts wakes the shard afterwards, unless it has been woken and has not looked yet.
        if !self.woken.load(SeqCst) {
            return;
        }
        self.woken.store(false, SeqCst);
        let mut queue = self.queue.lock();
        queue.bytes = 0;
        std::mem::swap(&mut queue.commands, into);
    }

    /// The shard has ended: nothing is taken any more.
    pub(crate) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.commands = Vec::new();
    }
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").field("woken", &self.woken).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn one_wake_per_look_and_a_bound_in_bytes() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let mailbox = Mailbox::new(move || {
            counter.fetch_add(1, SeqCst);
        });
        let id = ConnectionId::new(1, 1);
        let half = || Command::Send(id, vec![0; BYTES_MAX / 2].into());
        assert_eq!(mailbox.post(half()), Ok(()));
        assert_eq!(mailbox.post(half()), Err(Refused::Full));
        assert_eq!(mailbox.post(Command::Stop), Ok(()));
        assert_eq!(wakes.load(SeqCst), 1);
        let mut commands = Vec::new();
        mailbox.take(&mut commands);
        assert_eq!(commands.len(), 2);
        assert_eq!(mailbox.post(half()), Ok(()));
        assert_eq!(wakes.load(SeqCst), 2);
        mailbox.close();
        assert_eq!(mailbox.post(Command::Stop), Err(Refused::Gone));
    }
}
