//! Where the messages of sessions in memory come from, so that what their committer has judged gets to the sink
//! under the name of its connection. Touched when a client attaches and leaves, and once for each batch.

use crate::mailbox::{Command, Mailbox, Refused};
use crate::sink::queue::{Batch, From, SinkQueue};
use parking_lot::Mutex;
use pulsegate_core::connection::Attachment;
use pulsegate_store::Forwarded;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait before an echo that its shard has no room for is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// Where a session's messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To the sink with this place.
    Lane(usize),
    /// Back to their client.
    Echo,
}

/// The connection that a session has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) epoch: u64,
    pub(crate) shard: usize,
    pub(crate) from: From,
    pub(crate) route: Route,
}

/// The connections of the sessions in memory, and the way to the sinks.
#[derive(Debug)]
pub(crate) struct Origins {
    known: Mutex<HashMap<u64, Origin>>,
    queues: Box<[Arc<SinkQueue>]>,
    mailboxes: Arc<[Arc<Mailbox>]>,
}

impl Origins {
    /// Knows nobody yet.
    pub(crate) fn new(queues: Box<[Arc<SinkQueue>]>, mailboxes: Arc<[Arc<Mailbox>]>) -> Self {
        Self { known: Mutex::default(), queues, mailboxes }
    }

    /// A session has this connection now.
    pub(crate) fn insert(&self, session: u64, origin: Origin) {
        let mut known = self.known.lock();
        let is_newer = known.get(&session).is_none_or(|other| other.epoch <= origin.epoch);
        if is_newer {
            known.insert(session, origin);
        }
    }

    /// A connection has left its session.
    pub(crate) fn remove(&self, attachment: Attachment) {
        let mut known = self.known.lock();
        if known.get(&attachment.session).is_some_and(|origin| origin.epoch == attachment.epoch) {
            known.remove(&attachment.session);
        }
    }

    /// Hands committed messages over to their sinks, and waits for as long as there is no room. Called by the
    /// committer.
    pub(crate) fn forward(&self, messages: Vec<Forwarded>) {
        let mut batches: HashMap<(usize, usize), Batch> = HashMap::new();
        for Forwarded { session, epoch, number, payload, .. } in messages {
            let origin = self.known.lock().get(&session).copied();
            let Some(origin) = origin.filter(|origin| origin.epoch == epoch) else { continue };
            match origin.route {
                Route::Lane(lane) => {
                    let batch = batches.entry((origin.shard, lane)).or_default();
                    batch.push_message(origin.from, number, &payload);
                }
                Route::Echo => self.echo(&origin, payload),
            }
        }
        for ((shard, lane), batch) in batches {
            self.queues[lane].push_when_there_is_room(shard, batch);
        }
    }

    fn echo(&self, origin: &Origin, payload: Box<[u8]>) {
        let mailbox = &self.mailboxes[origin.shard];
        while mailbox.post(Command::Send(origin.from.id, payload.clone())) == Err(Refused::Full) {
            std::thread::sleep(RETRY_AFTER);
        }
    }
}
