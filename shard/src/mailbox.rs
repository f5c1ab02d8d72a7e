//! The one way into a shard from other threads: a bounded queue of commands and a waker.

use crate::id::ConnectionId;
use crate::place::Place;
use parking_lot::{Condvar, Mutex};
use pulsegate_core::lifetime::Direction;
use pulsegate_core::time::Instant;
use pulsegate_sessions::Reply;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::Sender;
use std::time::Duration;

/// The most that may wait in a mailbox, in bytes; a command counts its payload and [`COMMAND_BYTES`].
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a command counts beside its payload.
const COMMAND_BYTES: usize = 64;

/// What others ask of a shard.
#[derive(Debug)]
pub enum Command {
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
    /// The committer of this ledger waits for its sink, which takes nothing (`true`), or does so no longer.
    SinkStuck(usize, bool),
    /// The store with this place among the ledgers answers.
    Replies(usize, Vec<Reply>),
    /// A connection's session has been taken over by a newer connection.
    Replaced(ConnectionId),
    /// Open a socket for the listener with this number, and answer with its address. Nobody is accepted there yet.
    Listen(u16, Place, Sender<io::Result<SocketAddr>>),
    /// Accept from now on at all sockets that were opened.
    Accept,
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
            Self::SinkReady | Self::SinkStuck(..) | Self::Replaced(_) => 0,
            Self::Listen(..) | Self::Accept | Self::Drain(_) | Self::Stop => 0,
            // Counted by themselves: their sender waits.
            Self::Replies(..) => 0,
        }
    }
}

/// The mailbox holds as much as it may, or its shard has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It holds as much as it may.
    Full,
    /// Its shard has ended.
    Gone,
}

/// A shard's mailbox.
pub struct Mailbox {
    queue: Mutex<Queue>,
    /// Whether the shard has been woken and has not looked yet, so that it isn't woken twice.
    woken: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
    /// Wakes stores that wait until their replies are taken.
    taken: Condvar,
    /// What its shard has taken to send and can't pass on, in bytes.
    held_up: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    commands: Vec<Command>,
    bytes: usize,
    reply_bytes: usize,
    closed: bool,
}

impl Mailbox {
    /// An empty mailbox; `wake` makes its shard look into it.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            queue: Mutex::default(),
            woken: AtomicBool::new(false),
            wake: Box::new(wake),
            taken: Condvar::new(),
            held_up: AtomicUsize::new(0),
        }
    }

    /// Puts in what the shard may have to hold back: it is refused while too much is held back already.
    pub(crate) fn offer(&self, command: Command) -> Result<(), Refused> {
        if self.held_up.load(Relaxed) + command.bytes() > BYTES_MAX {
            return Err(Refused::Full);
        }
        self.post(command)
    }

    /// The shard holds back this many bytes that it was asked to send.
    pub(crate) fn set_held_up(&self, bytes: usize) {
        self.held_up.store(bytes, Relaxed);
    }

    /// Puts a store's replies in, and waits while too many of them have not been taken: else a store that is faster
    /// than a shard would fill the memory. A shard takes them with each turn, and waits for no store.
    pub(crate) fn post_replies(&self, ledger: usize, replies: Vec<Reply>) {
        let bytes: usize = replies.iter().map(Reply::bytes).sum();
        let mut queue = self.queue.lock();
        while !queue.closed && queue.reply_bytes > 0 && queue.reply_bytes + bytes > BYTES_MAX {
            self.taken.wait(&mut queue);
        }
        if queue.closed {
            return;
        }
        queue.reply_bytes += bytes;
        queue.commands.push(Command::Replies(ledger, replies));
        drop(queue);
        self.wake();
    }

    /// Puts a command in.
    ///
    /// # Errors
    /// If it holds as much as it may, or its shard has ended.
    pub fn post(&self, command: Command) -> Result<(), Refused> {
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
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        if !self.woken.swap(true, SeqCst) {
            (self.wake)();
        }
    }

    /// Takes all commands; `into` is empty before, and keeps its memory from turn to turn.
    pub(crate) fn take(&self, into: &mut Vec<Command>) {
        // The caller wakes the shard afterwards, unless it has been woken and has not looked yet.
        if !self.woken.load(SeqCst) {
            return;
        }
        self.woken.store(false, SeqCst);
        let mut queue = self.queue.lock();
        queue.bytes = 0;
        std::mem::swap(&mut queue.commands, into);
        if std::mem::take(&mut queue.reply_bytes) > 0 {
            self.taken.notify_all();
        }
    }

    /// The shard has ended: nothing is taken any more.
    pub(crate) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.commands = Vec::new();
        self.taken.notify_all();
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
    use crate::id::ConnectionNumber;
    use pulsegate_sessions::Attachment;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn one_wake_per_look_and_a_bound_in_bytes() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let mailbox = Mailbox::new(move || {
            counter.fetch_add(1, SeqCst);
        });
        let id = ConnectionId::new(1, ConnectionNumber::from_bits(1));
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

    #[test]
    fn what_its_shard_holds_back_counts_for_what_is_to_be_sent_and_for_nothing_else() {
        let mailbox = Mailbox::new(|| {});
        let id = ConnectionId::new(1, ConnectionNumber::from_bits(1));
        let send = || Command::Send(id, vec![0; BYTES_MAX / 2].into());
        mailbox.set_held_up(BYTES_MAX);
        assert_eq!((mailbox.offer(send()), mailbox.post(Command::Close(id))), (Err(Refused::Full), Ok(())));
        mailbox.set_held_up(0);
        assert_eq!(mailbox.offer(send()), Ok(()));
    }

    #[test]
    fn a_store_waits_until_its_replies_are_taken_or_nobody_is_left_to_take_them() {
        let mailbox = Arc::new(Mailbox::new(|| {}));
        let pushed = || {
            let payload = vec![0; BYTES_MAX].into();
            vec![Reply::Pushed {
                ticket: 1,
                attachment: Attachment { session: 1, epoch: 1 },
                connection: None,
                number: 1,
                payload,
            }]
        };
        mailbox.post_replies(0, pushed());
        let (posted, store) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&mailbox));
        let count = Arc::clone(&posted);
        let store = std::thread::spawn(move || {
            for _ in 0..3 {
                store.post_replies(0, pushed());
                count.fetch_add(1, SeqCst);
            }
        });
        for taken in 1..=3 {
            assert!(posted.load(SeqCst) < taken, "it is at most one ahead");
            let mut commands = Vec::new();
            while commands.is_empty() {
                mailbox.take(&mut commands);
                std::thread::yield_now();
            }
            assert_eq!(commands.len(), 1);
        }
        mailbox.close();
        store.join().unwrap();
    }
}
