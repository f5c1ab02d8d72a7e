//! Where the messages of sessions in memory come from, so that what their committer has judged gets to the sink
//! under the name of its connection. Touched when a client attaches and leaves, and once for each batch.

use crate::id::ConnectionId;
use crate::mailbox::{Command, Mailbox, Refused};
use crate::sink::queue::{Batch, From, SinkQueue};
use crate::sink::{Message, Sender};
use parking_lot::Mutex;
use pulsegate_core::connection::Attachment;
use pulsegate_sessions::{Forwarded, NotForwarded};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait before an echo that its shard has no room for is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// The connection that a session has.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) epoch: u64,
    pub(crate) shard: usize,
    pub(crate) from: From,
    /// The client's id.
    pub(crate) client: Arc<str>,
}

/// The connections of the sessions of one store in memory, and the way to where their messages go.
#[derive(Debug)]
pub struct Origins {
    known: Mutex<HashMap<u64, Origin>>,
    /// The store's place among the ledgers of each shard.
    ledger: usize,
    /// The one sink of these sessions. Without one, messages go back to their clients.
    queue: Option<Arc<SinkQueue>>,
    mailboxes: Arc<[Arc<Mailbox>]>,
}

impl Origins {
    /// Knows nobody yet.
    pub fn new(ledger: usize, queue: Option<Arc<SinkQueue>>, mailboxes: Arc<[Arc<Mailbox>]>) -> Self {
        Self { known: Mutex::default(), ledger, queue, mailboxes }
    }

    /// A session has this connection now.
    pub(crate) fn insert(&self, session: u64, origin: Origin) {
        let mut known = self.known.lock();
        let is_newer = known.get(&session).is_none_or(|other| other.epoch <= origin.epoch);
        if is_newer {
            known.insert(session, origin);
        }
    }

    /// A connection has left its session, and with it whoever had it before: a newer one may never have got as far as
    /// here.
    pub(crate) fn remove(&self, attachment: Attachment) {
        let mut known = self.known.lock();
        if known.get(&attachment.session).is_some_and(|origin| origin.epoch <= attachment.epoch) {
            known.remove(&attachment.session);
        }
    }

    /// How many sessions have a connection.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.known.lock().len()
    }

    /// Hands committed messages over to their sink, and waits for as long as there is no room. Called by the
    /// committer.
    ///
    /// # Errors
    /// If the sink has failed: what it has not got, it never will.
    pub fn forward(&self, messages: Vec<Forwarded>) -> Result<(), NotForwarded> {
        let mut batches: HashMap<usize, Batch> = HashMap::new();
        for Forwarded { seat, number, payload, .. } in messages {
            let session = seat.session();
            let known = self.known.lock();
            let origin = known.get(&session).filter(|origin| origin.epoch == seat.epoch());
            let Some(Origin { shard, from, client, .. }) = origin else { continue };
            if self.queue.is_some() {
                let sender = Some(Sender { client, session });
                let message = Message { number, payload: &payload, sender };
                batches.entry(*shard).or_default().push_message(*from, &message);
            } else {
                let (shard, id) = (*shard, from.id);
                // It may have to wait.
                drop(known);
                self.echo(shard, id, &payload);
            }
        }
        let Some(queue) = &self.queue else { return Ok(()) };
        for (shard, batch) in batches {
            queue.push_when_there_is_room(shard, batch, |is_stuck| self.tell_stuck(is_stuck))?;
        }
        Ok(())
    }

    /// Receipts have stopped because the sink takes nothing, or they go on.
    pub(crate) fn tell_stuck(&self, is_stuck: bool) {
        if is_stuck {
            tracing::warn!("a sink takes nothing: receipts for its clients have stopped");
        } else {
            tracing::info!("the sink takes messages again: receipts continue");
        }
        for mailbox in self.mailboxes.iter() {
            // A shard that has ended has nobody to tell.
            let _ = mailbox.post(Command::SinkStuck(self.ledger, is_stuck));
        }
    }

    /// Nobody waits for the sink any more.
    pub fn give_up(&self) {
        if let Some(queue) = &self.queue {
            queue.fail();
        }
    }

    fn echo(&self, shard: usize, id: ConnectionId, payload: &[u8]) {
        let mailbox = &self.mailboxes[shard];
        while mailbox.post(Command::Send(id, payload.into())) == Err(Refused::Full) {
            std::thread::sleep(RETRY_AFTER);
        }
    }
}
