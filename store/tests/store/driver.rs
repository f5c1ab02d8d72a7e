//! Asks a store and waits for its replies.

use pulsegate_store::{
    Attach, Attached, Forwarded, Moment, OpenError, Outgoing, Recipient, Reply, Request, Resume, Seat,
    SecondConnection, Store, StoreConfig, StoredMessage, Ticket, Token,
};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Far longer than any reply takes: what fails by it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// The ticket of the request whose reply shows that everything before it is done.
const BARRIER: Ticket = Ticket::MAX;
const START: Moment = Moment { wall_ms: 1_800_000_000_000, uptime_ms: 5_000 };
pub(crate) const TTL: Duration = Duration::from_secs(60);

pub(crate) struct Driver {
    pub(crate) store: Store,
    pub(crate) directory: PathBuf,
    /// What a store in memory has handed on.
    forwarded: Arc<Mutex<Vec<Forwarded>>>,
    replies: Receiver<Vec<Reply>>,
    backlog: VecDeque<Reply>,
    pub(crate) now: Moment,
}

impl Driver {
    pub(crate) fn open(directory: &Path) -> Self {
        Self::open_with(directory, StoreConfig::default())
    }

    pub(crate) fn open_with(directory: &Path, config: StoreConfig) -> Self {
        Self::try_open(directory, config).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn try_open(directory: &Path, config: StoreConfig) -> Result<Self, OpenError> {
        let (sender, replies) = channel();
        let store = Store::open(directory, config, START, move |batch| {
            let _ = sender.send(batch);
        })?;
        Ok(Self::new(store, directory, Arc::default(), replies))
    }

    pub(crate) fn open_in_memory(config: StoreConfig) -> Self {
        let (sender, replies) = channel();
        let deliver = move |batch| {
            let _ = sender.send(batch);
        };
        let forwarded = Arc::<Mutex<Vec<Forwarded>>>::default();
        let destination = Arc::clone(&forwarded);
        let forward = move |messages| {
            destination.lock().unwrap().extend(messages);
            Ok(())
        };
        let store = Store::open_in_memory(config, START, deliver, forward).unwrap();
        Self::new(store, Path::new(""), forwarded, replies)
    }

    fn new(
        store: Store,
        directory: &Path,
        forwarded: Arc<Mutex<Vec<Forwarded>>>,
        replies: Receiver<Vec<Reply>>,
    ) -> Self {
        let directory = directory.to_owned();
        Self { store, directory, forwarded, replies, backlog: VecDeque::new(), now: START }
    }

    /// The next reply.
    pub(crate) fn reply(&mut self) -> Reply {
        loop {
            if let Some(reply) = self.backlog.pop_front() {
                return reply;
            }
            self.backlog.extend(self.replies.recv_timeout(PATIENCE).expect("a reply comes"));
        }
    }

    /// The replies of the next batch that has any.
    pub(crate) fn batch(&mut self) -> Vec<Reply> {
        self.replies.recv_timeout(PATIENCE).expect("a batch comes")
    }

    /// All replies to these requests.
    pub(crate) fn ask(&mut self, requests: impl IntoIterator<Item = Request>) -> Vec<Reply> {
        let mut requests: Vec<_> = requests.into_iter().collect();
        requests.push(push(BARRIER, Recipient::Session(u64::MAX), b""));
        self.store.submit_all(&mut requests).expect("there is room");
        let mut replies: Vec<_> = self.backlog.drain(..).collect();
        loop {
            let batch = self.replies.recv_timeout(PATIENCE).expect("a reply comes");
            let is_last = |reply: &Reply| matches!(reply, Reply::PushRefused { ticket: BARRIER, .. });
            let done = batch.iter().any(is_last);
            replies.extend(batch.into_iter().filter(|reply| !is_last(reply)));
            if done {
                return replies;
            }
        }
    }

    /// Lets time pass on both clocks, and all be done that is due then.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Reply> {
        let ms = u64::try_from(time.as_millis()).unwrap();
        self.now = Moment { wall_ms: self.now.wall_ms + ms, uptime_ms: self.now.uptime_ms + ms };
        self.tick();
        self.ask([])
    }

    pub(crate) fn tick(&self) {
        self.store.tick(self.now);
    }

    pub(crate) fn attach(&mut self, attach: Attach) -> Result<Attached, Reply> {
        let mut replies = self.ask([Request::Attach(Box::new(attach))]);
        assert_eq!(replies.len(), 1, "{replies:?}");
        match replies.remove(0) {
            Reply::Attached(attached) => Ok(*attached),
            other => Err(other),
        }
    }

    /// All messages to a client above a number, in the pieces in which they come.
    pub(crate) fn load(&mut self, session: u64, epoch: u64, mut above: u64) -> Vec<Outgoing> {
        let mut all = Vec::new();
        loop {
            let mut replies = self.ask([load(session, epoch, above)]);
            assert_eq!(replies.len(), 1, "{replies:?}");
            let Reply::Loaded { messages, has_more, .. } = replies.remove(0) else { panic!("{replies:?}") };
            above += messages.len() as u64;
            all.extend(messages);
            if !has_more {
                return all;
            }
        }
    }

    /// A new session, with this token.
    pub(crate) fn begin(&mut self, client: &str, token: u8) -> Attached {
        self.attach(newcomer(client, token, self.now)).unwrap()
    }

    /// What a store in memory has handed on.
    pub(crate) fn forwarded(&self) -> Vec<Forwarded> {
        self.forwarded.lock().unwrap().clone()
    }

    /// What is stored.
    pub(crate) fn stored(&self) -> Vec<StoredMessage> {
        stored(&self.directory)
    }
}

/// What is stored in a directory.
pub(crate) fn stored(directory: &Path) -> Vec<StoredMessage> {
    let reader = pulsegate_store::Reader::open(directory).unwrap();
    let mut messages = Vec::new();
    loop {
        let page =
            reader.messages_after(messages.last().map_or(0, |last: &StoredMessage| last.id), 1000).unwrap();
        if page.is_empty() {
            return messages;
        }
        messages.extend(page);
    }
}

pub(crate) fn token(byte: u8) -> Token {
    [byte; 16]
}

pub(crate) fn newcomer(client: &str, next_token: u8, now: Moment) -> Attach {
    Attach {
        ticket: 7,
        client: client.to_owned(),
        source: 0,
        resume: None,
        token: token(next_token),
        second: SecondConnection::Allow,
        message_bytes_max: 1 << 20,
        told_bytes_max: 1 << 20,
        now,
        time_to_live: TTL,
    }
}

/// Goes on with a session: shows one token, gets the next.
pub(crate) fn returner(client: &str, session: u64, shown: u8, next_token: u8, now: Moment) -> Attach {
    let resume = Resume { session, token: token(shown), committed: 0, acknowledged: 0 };
    Attach { resume: Some(resume), ..newcomer(client, next_token, now) }
}

pub(crate) fn message(session: u64, epoch: u64, number: u64, payload: &[u8]) -> Request {
    message_at(session, epoch, number, payload, 1_800_000_000_000)
}

pub(crate) fn message_at(
    session: u64,
    epoch: u64,
    number: u64,
    payload: &[u8],
    received_at_ms: u64,
) -> Request {
    Request::Message {
        seat: Seat::new(100 + Ticket::from(number), session, epoch),
        number,
        received_at_ms,
        payload: payload.into(),
    }
}

pub(crate) fn append(client: &str, number: u64, payload: &[u8]) -> Request {
    let (client, payload) = (client.into(), payload.into());
    Request::Append { client, source: 0, number, received_at_ms: 1_800_000_000_000, payload }
}

pub(crate) fn push(ticket: Ticket, to: Recipient, payload: &[u8]) -> Request {
    Request::Push { ticket, to, now_ms: 1_800_000_000_000, payload: payload.into() }
}

pub(crate) fn load(session: u64, epoch: u64, above: u64) -> Request {
    Request::Load { seat: Seat::new(7, session, epoch), above, bytes_max: u32::MAX }
}

pub(crate) fn committed(session: u64, epoch: u64, committed: u64) -> Reply {
    Reply::Committed { seat: Seat::new(100 + Ticket::from(committed), session, epoch), committed }
}

pub(crate) fn detach(session: u64, epoch: u64, for_good: bool, now: Moment) -> Request {
    Request::Detach { seat: Seat::new(9, session, epoch), for_good, now }
}
