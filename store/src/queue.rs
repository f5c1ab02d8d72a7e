//! Between those who ask and the committer: requests, bounded in bytes. Nobody who asks ever waits here.

use parking_lot::{Condvar, Mutex};
use pulsegate_sessions::{Moment, Request, SubmitError};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The most requests in one batch.
const BATCH_REQUESTS_MAX: usize = 8192;
/// The most bytes in one batch, overrun by one request.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the committer has to do next.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub(crate) requests: Vec<Request>,
    /// What the requests count, until [`Queue::release`].
    pub(crate) bytes: usize,
    pub(crate) tick: Option<Moment>,
    /// Nothing more will come after these requests.
    pub(crate) closed: bool,
}

/// What waits for the committer.
#[derive(Debug)]
pub(crate) struct Queue {
    bytes_max: usize,
    inbox: Mutex<Inbox>,
    filled: Condvar,
    /// Messages that their clients have not accepted, since somebody looked.
    unaccepted: AtomicU64,
    /// How often the committer was done with something.
    commits: AtomicU64,
}

#[derive(Debug, Default)]
struct Inbox {
    requests: VecDeque<Request>,
    /// Of these, and of those that the committer has taken and not released.
    bytes: usize,
    /// Somebody was turned away and wants to hear when there is room.
    awaited: bool,
    /// Of those that the committer has taken and not released, the messages that nobody else keeps.
    unkept_taken: u64,
    tick: Option<Moment>,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            inbox: Mutex::default(),
            filled: Condvar::new(),
            unaccepted: AtomicU64::new(0),
            commits: AtomicU64::new(0),
        }
    }

    /// Takes as many of the requests as there is room for, from the front.
    pub(crate) fn push_all(&self, requests: &mut Vec<Request>) -> Result<(), SubmitError> {
        let mut inbox = self.inbox.lock();
        if inbox.closed {
            return Err(SubmitError::Closed);
        }
        let mut taken = 0;
        for request in requests.iter() {
            let bytes = request.bytes();
            let has_room = inbox.bytes == 0 || inbox.bytes + bytes <= self.bytes_max;
            if !has_room && !request.is_always_taken() {
                break;
            }
            inbox.bytes += bytes;
            taken += 1;
        }
        let was_empty = inbox.requests.is_empty();
        inbox.requests.extend(requests.drain(..taken));
        let busy = !requests.is_empty();
        inbox.awaited |= busy;
        drop(inbox);
        if was_empty && taken > 0 {
            self.filled.notify_one();
        }
        if busy { Err(SubmitError::Busy) } else { Ok(()) }
    }

    /// A client has not accepted a message.
    pub(crate) fn note_unaccepted(&self) {
        self.unaccepted.fetch_add(1, Relaxed);
    }

    /// How often that was so since the last call.
    pub(crate) fn take_unaccepted(&self) -> u64 {
        self.unaccepted.swap(0, Relaxed)
    }

    /// Time has passed.
    pub(crate) fn tick(&self, now: Moment) {
        self.inbox.lock().tick = Some(now);
        self.filled.notify_one();
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.inbox.lock().closed = true;
        self.filled.notify_one();
    }

    /// What waits, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.inbox.lock().bytes
    }

    /// Whether nothing waits to be taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.inbox.lock().requests.is_empty()
    }

    /// How many messages wait that nobody else keeps, those counted in that are being worked on.
    pub(crate) fn unkept(&self) -> u64 {
        let inbox = self.inbox.lock();
        inbox.requests.iter().filter(|request| request.is_unkept()).count() as u64 + inbox.unkept_taken
    }

    /// Waits for something to do. While the committer can't write it `takes` no requests; with `at_once` it has
    /// something to do anyway.
    pub(crate) fn wait(&self, takes: bool, at_once: bool) -> Turn {
        let mut inbox = self.inbox.lock();
        while !(at_once || inbox.closed || inbox.tick.is_some() || takes && !inbox.requests.is_empty()) {
            self.filled.wait(&mut inbox);
        }
        let mut turn = Turn { tick: inbox.tick.take(), ..Turn::default() };
        if takes {
            let mut count = 0;
            while count < inbox.requests.len() && count < BATCH_REQUESTS_MAX && turn.bytes < BATCH_BYTES_MAX {
                turn.bytes += inbox.requests[count].bytes();
                count += 1;
            }
            turn.requests.extend(inbox.requests.drain(..count));
            inbox.unkept_taken = turn.requests.iter().filter(|request| request.is_unkept()).count() as u64;
        }
        turn.closed = inbox.closed && (inbox.requests.is_empty() || !takes);
        turn
    }

    /// How often the committer was done with something.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Relaxed)
    }

    /// The committer is done with so many bytes. Whether somebody has to be told that there is room again.
    pub(crate) fn release(&self, bytes: usize) -> bool {
        self.commits.fetch_add(u64::from(bytes > 0), Relaxed);
        let mut inbox = self.inbox.lock();
        inbox.bytes -= bytes;
        inbox.unkept_taken = 0;
        let ready = inbox.awaited && inbox.bytes <= self.bytes_max / 2;
        if ready {
            inbox.awaited = false;
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulsegate_sessions::{Attachment, Seat};

    const REQUEST_BYTES: usize = 128;

    fn confirm(floor: u64) -> Request {
        Request::Confirm { attachment: Attachment { session: 1, epoch: 1 }, floor }
    }

    fn detach() -> Request {
        Request::Detach { seat: Seat::new(0, 1, 1), for_good: false, now: Moment::default() }
    }

    #[test]
    fn a_full_queue_takes_ends_of_connections_only_and_says_when_it_has_room() {
        let queue = Queue::new(4 * REQUEST_BYTES);
        let mut requests: Vec<_> = (0..6).map(confirm).collect();
        assert_eq!(queue.push_all(&mut requests), Err(SubmitError::Busy));
        assert_eq!(requests, [confirm(4), confirm(5)], "those that found no room are left, in order");
        assert_eq!(queue.push_all(&mut vec![detach()]), Ok(()));
        let turn = queue.wait(true, false);
        assert_eq!(turn.requests.len(), 5);
        assert_eq!(queue.push_all(&mut requests), Err(SubmitError::Busy), "taken is not released");
        assert!(!queue.release(2 * REQUEST_BYTES));
        assert!(queue.release(3 * REQUEST_BYTES));
        assert_eq!((queue.push_all(&mut requests), queue.release(0)), (Ok(()), false));
    }

    #[test]
    fn a_commit_counts_once_its_requests_are_done_with() {
        let queue = Queue::new(1 << 20);
        queue.push_all(&mut vec![confirm(1), confirm(2)]).unwrap();
        let turn = queue.wait(true, false);
        assert_eq!(queue.commits(), 0, "taken is not committed");
        queue.release(turn.bytes);
        assert_eq!(queue.commits(), 1);
        queue.release(0);
        assert_eq!(queue.commits(), 1, "nothing was asked for");
    }

    #[test]
    fn a_committer_that_cannot_write_hears_of_time_and_of_the_end() {
        let queue = Queue::new(1 << 20);
        queue.push_all(&mut vec![confirm(1)]).unwrap();
        let now = Moment { wall_ms: 1, uptime_ms: 2 };
        queue.tick(now);
        let turn = queue.wait(false, false);
        assert_eq!((turn.tick, turn.requests.len(), turn.closed), (Some(now), 0, false));
        queue.close();
        assert!(queue.wait(false, false).closed);
        assert_eq!(queue.push_all(&mut vec![confirm(1)]), Err(SubmitError::Closed));
        let turn = queue.wait(true, false);
        assert_eq!((turn.requests.len(), turn.closed), (1, true));
    }
}
