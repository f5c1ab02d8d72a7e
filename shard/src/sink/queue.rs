//! Between the shards and a sink's thread: batches, bounded in bytes by stopping to read, never by waiting.

use crate::end::End;
use crate::handle::Handle;
use crate::id::{ConnectionId, ConnectionNumber};
use crate::mailbox::{Command, Mailbox};
use crate::peer::Peer;
use crate::sink::{Message, Sender, Sink, SinkError, TryAgain};
use crate::time_origin::TimeOrigin;
use parking_lot::{Condvar, Mutex, MutexGuard};
use pulsegate_sessions::NotForwarded;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::time::{Duration, Instant};

/// What a record counts beside its payload.
const RECORD_BYTES: usize = size_of::<Record>();

/// A sink that has been handed so much more has moved.
const PROGRESS_BYTES: usize = 4096;

/// How long a sink may take nothing before clients that wait for it are told.
const STUCK_AFTER: Duration = Duration::from_secs(2);

/// How many batches a busy sink takes between two flushes.
const BATCHES_PER_FLUSH: usize = 64;
/// After how many bytes it is flushed even so: a sink that must try again keeps what it has got since.
const BYTES_PER_FLUSH: usize = 64 * 1024;

/// How long after a flush that may succeed later the next attempt is made; twice as long after each.
const RETRY_MIN: Duration = Duration::from_millis(250);
/// At most so long.
const RETRY_MAX: Duration = Duration::from_secs(8);

/// Who a record is about.
#[derive(Clone, Copy, Debug)]
pub struct From {
    /// Its id.
    pub id: ConnectionId,
    /// Its number.
    pub number: ConnectionNumber,
    /// Its peer.
    pub peer: Peer,
}

impl From {
    /// What an application gets of the connection.
    pub const fn handle(self, mailbox: Arc<Mailbox>, origin: TimeOrigin) -> Handle {
        Handle { mailbox, origin, id: self.id, number: self.number, peer: self.peer }
    }
}

#[derive(Debug)]
enum Kind {
    Opened,
    /// A message of this many bytes. If it came in a session, the client's id is in front of it.
    Message {
        number: u64,
        length: usize,
        sender: Option<(u64, u8)>,
    },
    InputEnd,
    /// In a box, so that each message doesn't take its room.
    Closed(Box<End>),
}

#[derive(Debug)]
struct Record {
    from: From,
    kind: Kind,
}

/// What one shard has gathered for one sink in one turn.
#[derive(Debug, Default)]
pub struct Batch {
    records: Vec<Record>,
    payloads: Vec<u8>,
    messages: u64,
}

impl Batch {
    pub(crate) fn push_opened(&mut self, from: From) {
        self.records.push(Record { from, kind: Kind::Opened });
    }

    /// The connection says something.
    pub fn push_message(&mut self, from: From, message: &Message<'_>) {
        let Message { number, payload, sender } = *message;
        // PROTOCOL.md bounds an id by 128 bytes.
        let sender = sender.and_then(|Sender { client, session }| {
            let length = u8::try_from(client.len()).ok()?;
            self.payloads.extend_from_slice(client.as_bytes());
            Some((session, length))
        });
        self.records.push(Record { from, kind: Kind::Message { number, length: payload.len(), sender } });
        self.payloads.extend_from_slice(payload);
        self.messages += 1;
    }

    pub(crate) fn push_input_end(&mut self, from: From) {
        self.records.push(Record { from, kind: Kind::InputEnd });
    }

    /// The connection has ended.
    pub fn push_closed(&mut self, from: From, end: End) {
        self.records.push(Record { from, kind: Kind::Closed(Box::new(end)) });
    }

    pub(crate) fn bytes(&self) -> usize {
        self.payloads.len() + self.records.len() * RECORD_BYTES
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

/// One sink's queue, shared by all shards and the sink's thread.
#[derive(Debug)]
pub struct SinkQueue {
    bytes_max: usize,
    bytes: AtomicUsize,
    inbox: Mutex<Inbox>,
    filled: Condvar,
    /// There is room again, for those who wait on the spot.
    emptied: Condvar,
    failed: AtomicBool,
    /// Grows whenever the sink has taken something.
    taken: AtomicU64,
    /// Messages that the sink has not taken yet.
    messages: AtomicU64,
    shards: Vec<Waiter>,
}

#[derive(Debug, Default)]
struct Inbox {
    batches: VecDeque<(usize, Batch)>,
    closed: bool,
    given_up: bool,
}

/// A shard that has stopped reading because of this sink, and has to be told when there is room again.
#[derive(Debug)]
struct Waiter {
    waits: AtomicBool,
    mailbox: Arc<Mailbox>,
}

impl SinkQueue {
    /// A queue of at most `bytes_max` bytes, overrun by no more than what a shard reads at once.
    pub fn new(bytes_max: usize, mailboxes: &[Arc<Mailbox>]) -> Self {
        let waiter =
            |mailbox: &Arc<Mailbox>| Waiter { waits: AtomicBool::new(false), mailbox: Arc::clone(mailbox) };
        Self {
            bytes_max,
            bytes: AtomicUsize::new(0),
            inbox: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            failed: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            shards: mailboxes.iter().map(waiter).collect(),
        }
    }

    /// Whether there is no room, `more` bytes of a batch that is still being filled counted in.
    pub fn is_full(&self, more: usize) -> bool {
        self.bytes.load(SeqCst) + more >= self.bytes_max
    }

    /// Whether even that is used up which newcomers may overrun it by: their beginnings and ends are told to a sink
    /// that takes nothing else.
    pub(crate) fn is_overrun(&self, more: usize) -> bool {
        self.bytes.load(SeqCst) + more >= 2 * self.bytes_max
    }

    /// A number that grows whenever the sink has taken something.
    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// How many messages the sink has not taken.
    pub fn messages(&self) -> u64 {
        self.messages.load(SeqCst)
    }

    /// What waits, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.load(SeqCst)
    }

    /// The sink has taken a part of a batch.
    #[cfg(test)]
    pub(crate) fn note_taken(&self) {
        self.taken.fetch_add(1, Relaxed);
    }

    /// Nothing is handed over any more, and nobody waits.
    pub(crate) fn fail(&self) {
        self.failed.store(true, SeqCst);
        self.wake_pushers();
        for waiter in &self.shards {
            let _ = waiter.mailbox.post(Command::SinkReady);
        }
    }

    /// Whether the sink's thread has died.
    pub fn has_failed(&self) -> bool {
        self.failed.load(SeqCst)
    }

    /// Shard `shard` wants a [`Command::SinkReady`] when half of the queue is free. `false` if that is so
    /// already.
    pub(crate) fn wait(&self, shard: usize) -> bool {
        self.shards[shard].waits.store(true, SeqCst);
        // The sink may have caught up before it could see the mark.
        if self.bytes.load(SeqCst) <= self.bytes_max / 2 || self.has_failed() {
            self.shards[shard].waits.store(false, SeqCst);
            return false;
        }
        true
    }

    /// Hands over what shard `shard` has gathered.
    pub fn push(&self, shard: usize, batch: Batch) {
        if self.has_failed() {
            return;
        }
        self.bytes.fetch_add(batch.bytes(), SeqCst);
        self.messages.fetch_add(batch.messages, SeqCst);
        self.inbox.lock().batches.push_back((shard, batch));
        self.filled.notify_one();
    }

    /// Hands over a batch of connections of this shard as soon as there is room. For threads that may wait. If the
    /// sink takes nothing for long, `tell_stuck` is called with `true`, and with `false` when that is over.
    ///
    /// # Errors
    /// If the sink has failed, which ends the wait.
    pub(crate) fn push_when_there_is_room(
        &self,
        shard: usize,
        batch: Batch,
        tell_stuck: impl Fn(bool),
    ) -> Result<(), NotForwarded> {
        let mut is_stuck = false;
        let mut inbox = self.inbox.lock();
        while self.is_full(0) && !self.has_failed() {
            let before = self.taken();
            let is_late = self.emptied.wait_for(&mut inbox, STUCK_AFTER).timed_out();
            if is_late && !is_stuck && self.taken() == before {
                is_stuck = true;
                MutexGuard::unlocked(&mut inbox, || tell_stuck(true));
            }
        }
        drop(inbox);
        if is_stuck {
            tell_stuck(false);
        }
        if self.has_failed() {
            return Err(NotForwarded);
        }
        self.push(shard, batch);
        Ok(())
    }

    /// No more batches will come: the thread ends when it has taken all.
    pub fn close(&self) {
        self.inbox.lock().closed = true;
        self.filled.notify_one();
    }

    /// What the sink could not take so far is given up: no flush is tried again.
    pub fn give_up(&self) {
        self.inbox.lock().given_up = true;
        self.filled.notify_one();
    }

    /// The body of the sink's thread.
    ///
    /// # Errors
    /// What the sink's flush said: the sink has failed.
    pub fn serve(&self, mut sink: Box<dyn Sink>, origin: TimeOrigin) -> Result<(), SinkError> {
        let mut alarm = Alarm { queue: self, failed: true };
        loop {
            let emptied = self.serve_some(&mut *sink, origin);
            self.flush(&mut *sink)?;
            if emptied && !self.wait_for_more() {
                alarm.failed = false;
                return Ok(());
            }
        }
    }

    /// Hands batches over until there are none for now, or a flush is due: flushed now and then even if the queue never
    /// gets empty, since that is how a sink says that it failed. Returns whether there are none.
    fn serve_some(&self, sink: &mut dyn Sink, origin: TimeOrigin) -> bool {
        let mut bytes = 0;
        for _ in 0..BATCHES_PER_FLUSH {
            let Some(of_batch) = self.serve_one(sink, origin) else { return true };
            bytes += of_batch;
            if bytes >= BYTES_PER_FLUSH {
                break;
            }
        }
        false
    }

    /// Hands the oldest batch over to the sink; returns its bytes, if there is one.
    pub(crate) fn serve_one(&self, sink: &mut dyn Sink, origin: TimeOrigin) -> Option<usize> {
        let (shard, batch) = self.inbox.lock().batches.pop_front()?;
        self.hand_over(sink, shard, &batch, origin);
        let left = self.bytes.fetch_sub(batch.bytes(), SeqCst) - batch.bytes();
        if left <= self.bytes_max / 2 {
            self.wake_waiters();
            self.wake_pushers();
        }
        Some(batch.bytes())
    }

    /// Flushes the sink, again and again if that may help. Meanwhile the queue fills, as with a sink that hangs.
    fn flush(&self, sink: &mut dyn Sink) -> Result<(), SinkError> {
        let mut pause = RETRY_MIN;
        // What the sink has got and could not pass on counts as not taken.
        let mut kept = 0;
        loop {
            let outcome = sink.flush();
            let again = outcome.as_ref().err().and_then(|error| error.downcast_ref::<TryAgain>());
            let Some(&TryAgain { moved, messages, .. }) = again else {
                if outcome.is_ok() {
                    self.messages.fetch_sub(kept, SeqCst);
                }
                return outcome;
            };
            self.messages.fetch_add(messages, SeqCst);
            self.messages.fetch_sub(std::mem::replace(&mut kept, messages), SeqCst);
            if moved {
                self.taken.fetch_add(1, Relaxed);
                pause = RETRY_MIN;
            }
            if !self.pause(pause) {
                return outcome;
            }
            pause = (2 * pause).min(RETRY_MAX);
        }
    }

    /// Waits before the next attempt, not for long once the queue is closed; `false` when there is to be none.
    fn pause(&self, pause: Duration) -> bool {
        let mut inbox = self.inbox.lock();
        let was_closed = inbox.closed;
        let until = Instant::now() + if was_closed { RETRY_MIN } else { pause };
        while !inbox.given_up && inbox.closed == was_closed {
            if self.filled.wait_until(&mut inbox, until).timed_out() {
                break;
            }
        }
        !inbox.given_up
    }

    /// Waits for a batch; `false` when none will come any more.
    fn wait_for_more(&self) -> bool {
        let mut inbox = self.inbox.lock();
        while inbox.batches.is_empty() && !inbox.closed {
            self.filled.wait(&mut inbox);
        }
        !inbox.batches.is_empty()
    }

    fn hand_over(&self, sink: &mut dyn Sink, shard: usize, batch: &Batch, origin: TimeOrigin) {
        let Some(Record { from: first, .. }) = batch.records.first() else { return };
        let mut handle = first.handle(Arc::clone(&self.shards[shard].mailbox), origin);
        let mut payloads = batch.payloads.as_slice();
        let mut handed = Handed { queue: self, bytes: 0, messages: 0 };
        for Record { from, kind } in &batch.records {
            (handle.id, handle.number, handle.peer) = (from.id, from.number, from.peer);
            match kind {
                Kind::Opened => sink.handle_opened(&handle),
                Kind::Message { number, length, sender } => {
                    let sender = sender.map(|(session, length)| {
                        let client = payloads.split_off(..usize::from(length)).unwrap_or_default();
                        Sender { client: std::str::from_utf8(client).unwrap_or_default(), session }
                    });
                    let payload = payloads.split_off(..*length).unwrap_or_default();
                    sink.handle_message(&handle, &Message { number: *number, payload, sender });
                }
                Kind::InputEnd => sink.handle_input_end(&handle),
                Kind::Closed(end) => sink.handle_closed(&handle, end),
            }
            handed.note(kind);
        }
    }

    /// The lock sees to it that nobody is between looking and waiting.
    fn wake_pushers(&self) {
        drop(self.inbox.lock());
        self.emptied.notify_all();
    }

    fn wake_waiters(&self) {
        for waiter in &self.shards {
            if waiter.waits.swap(false, SeqCst) {
                // A shard that has ended waits for nothing.
                let _ = waiter.mailbox.post(Command::SinkReady);
            }
        }
    }
}

/// Counts what the sink has taken of a batch, so that a large one doesn't hide that it moves.
struct Handed<'a> {
    queue: &'a SinkQueue,
    bytes: usize,
    messages: u64,
}

impl Handed<'_> {
    fn note(&mut self, kind: &Kind) {
        self.bytes += RECORD_BYTES;
        if let Kind::Message { length, sender, .. } = kind {
            self.bytes += length + sender.map_or(0, |(_, length)| usize::from(length));
            self.messages += 1;
        }
        if self.bytes >= PROGRESS_BYTES {
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.queue.taken.fetch_add(1, Relaxed);
        self.queue.messages.fetch_sub(std::mem::take(&mut self.messages), SeqCst);
        self.bytes = 0;
    }
}

impl Drop for Handed<'_> {
    fn drop(&mut self) {
        self.publish();
    }
}

/// Tells the shards if the sink's thread ends before its time, be it by an error or by a panic.
struct Alarm<'a> {
    queue: &'a SinkQueue,
    failed: bool,
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if self.failed {
            self.queue.fail();
        }
    }
}
