//! Clients' messages that a store on disk commits: what the committer's side of each costs.

use pulsegate_core::policy::SecondConnection;
use pulsegate_store::{Attach, Durability, Moment, Reply, Request, Seat, Store, StoreConfig};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;

/// Where all clients are.
const SOURCE: i64 = 1;
const TIME_TO_LIVE: Duration = Duration::from_secs(3600);

/// A store with sessions that take turns.
#[derive(Debug)]
pub struct Committing {
    replies: Receiver<Vec<Reply>>,
    seats: Vec<Seat>,
    /// The number of the messages of this round.
    number: u64,
    /// What will be the next batch.
    batch: Vec<Request>,
    store: Store,
    /// Removed after the store was closed.
    _folder: TempDir,
}

impl Committing {
    /// The number of sessions; each batch has one message of each.
    #[must_use]
    pub fn new(sessions: u32) -> Self {
        let folder = TempDir::new().expect("a folder");
        let (sender, replies) = channel();
        let config = StoreConfig { durability: Durability::Os, ..StoreConfig::default() };
        let deliver = move |replies| _ = sender.send(replies);
        let store = Store::open(folder.path(), config, Moment::default(), deliver).expect("a store");
        let mut committing =
            Self { replies, seats: Vec::new(), number: 1, batch: Vec::new(), store, _folder: folder };
        committing.batch.extend((0..sessions).map(|client| Request::Attach(attach(client).into())));
        for reply in committing.submit() {
            if let Reply::Attached(attached) = reply {
                committing.seats.push(attached.seat);
            }
        }
        committing
    }

    /// The next session has a message. With that of the last one all are committed, as one batch.
    pub fn commit(&mut self, payload: &[u8]) {
        let seat = self.seats[self.batch.len()];
        let (number, payload) = (self.number, payload.into());
        self.batch.push(Request::Message { seat, number, received_at_ms: 0, payload });
        if self.batch.len() == self.seats.len() {
            self.number += 1;
            self.submit();
        }
    }

    /// All of a batch is submitted at once, and each request has one answer.
    fn submit(&mut self) -> Vec<Reply> {
        let count = self.batch.len();
        self.store.submit_all(&mut self.batch).expect("there is room");
        let mut replies = Vec::with_capacity(count);
        while replies.len() < count {
            replies.extend(self.replies.recv().expect("the store runs"));
        }
        replies
    }
}

fn attach(client: u32) -> Attach {
    Attach {
        ticket: client.into(),
        client: format!("client {client:09}"),
        source: SOURCE,
        resume: None,
        token: [1; 16],
        second: SecondConnection::Allow,
        message_bytes_max: 64 * 1024,
        told_bytes_max: 64 * 1024,
        now: Moment::default(),
        time_to_live: TIME_TO_LIVE,
    }
}
