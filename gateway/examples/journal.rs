//! A commit point of one's own: clients' messages in a `Vec`, with sessions and receipts as the built-in store has them. A
//! real one would write to a database or a log of its own before it answers.
//!
//! `cargo run --release --example journal -- 127.0.0.1:7373`, and then for instance
//! `echo hello | cargo run --release -- connect 127.0.0.1:7373 --id me`

use pulsegate::{
    Committer, Durability, Gateway, Limits, ListenerConfig, Moment, Replies, Reply, Request, StartError,
    SubmitError,
};
use pulsegate_sessions::{Committed, Forwarded, Memory, Rules, Unjudged};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const LIMITS: Limits =
    Limits { durability: Durability::None, message_bytes_max: 1 << 20, queue_bytes_max: 4 << 20 };
/// How much the sessions may have. The messages themselves are no affair of the rules.
const RULES: Rules = Rules {
    keeps_messages: false,
    sessions_max: 10_000,
    sessions_of_source_max: 10_000,
    sessions_open: 10_000,
    sessions_few: 10_000,
    message_bytes_max: LIMITS.message_bytes_max,
    quota_bytes: u64::MAX,
    quota_every_ms: u64::MAX,
    outgoing_messages_max: 1_000,
    outgoing_bytes_max: 1 << 20,
    outgoing_bytes_of_source: 16 << 20,
    outgoing_bytes_of_all: 64 << 20,
    kept_of_session: None,
    kept_of_source: None,
};

/// A committed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) client: Arc<str>,
    /// 0: it had no session.
    pub(crate) session: u64,
    pub(crate) number: u64,
    pub(crate) payload: Box<[u8]>,
}

/// The messages, for whoever reads them.
pub(crate) type Messages = Arc<Mutex<Vec<Kept>>>;

/// What waits for the thread that commits.
#[derive(Debug, Default)]
struct Inbox {
    requests: Vec<Request>,
    bytes: usize,
    /// Somebody was turned away.
    awaited: bool,
    now: Moment,
    ticked: bool,
    closed: bool,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The commit point, as the gateway sees it.
#[derive(Debug)]
pub(crate) struct Journal {
    shared: Arc<Shared>,
    _thread: JoinHandle<()>,
}

impl Journal {
    pub(crate) fn open(messages: Messages, replies: Replies) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("journal".to_owned());
        let thread = thread.spawn(move || {
            let mut books = Books::new(messages);
            while books.work(&of_thread, &replies) {}
            of_thread.lock().ended = true;
            of_thread.changed.notify_all();
        })?;
        Ok(Self { shared, _thread: thread })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.begin_close();
    }
}

impl Committer for Journal {
    fn submit_all(&self, requests: &mut Vec<Request>) -> Result<(), SubmitError> {
        let mut inbox = self.shared.lock();
        if inbox.closed {
            return Err(SubmitError::Closed);
        }
        let mut taken = 0;
        while taken < requests.len() && inbox.bytes < LIMITS.queue_bytes_max {
            inbox.bytes += requests[taken].bytes();
            taken += 1;
        }
        inbox.requests.extend(requests.drain(..taken));
        inbox.awaited |= !requests.is_empty();
        self.shared.changed.notify_all();
        if requests.is_empty() { Ok(()) } else { Err(SubmitError::Busy) }
    }

    fn tick(&self, now: Moment) {
        let mut inbox = self.shared.lock();
        (inbox.now, inbox.ticked) = (now, true);
        self.shared.changed.notify_all();
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn begin_close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }

    fn has_ended(&self) -> bool {
        self.shared.lock().ended
    }

    fn close(&self, within: Duration) -> Result<u64, u64> {
        self.begin_close();
        let inbox = self.shared.lock();
        let ended = self.shared.changed.wait_timeout_while(inbox, within, |inbox| !inbox.ended);
        let (inbox, _) = ended.unwrap_or_else(PoisonError::into_inner);
        if inbox.ended { Ok(0) } else { Err(inbox.requests.len() as u64) }
    }
}

/// The state of the thread that commits. What becomes of a request is for the rules of sessions to say, by which the
/// built-in store goes too.
struct Books {
    messages: Messages,
    sessions: Memory,
    /// Messages that can't be judged yet.
    unjudged: Unjudged,
    /// The clients of the sessions.
    clients: BTreeMap<u64, Arc<str>>,
}

impl Books {
    fn new(messages: Messages) -> Self {
        let (sessions, unjudged) = (Memory::new(RULES, 0, 0), Unjudged::new(LIMITS.queue_bytes_max));
        Self { messages, sessions, unjudged, clients: BTreeMap::new() }
    }

    /// Commits what has come, and answers. Returns whether more may come.
    fn work(&mut self, shared: &Shared, replies: &Replies) -> bool {
        let is_due = self.sessions.is_due() || self.unjudged.is_due();
        let mut inbox = shared.lock();
        while inbox.requests.is_empty() && !inbox.ticked && !inbox.closed && !is_due {
            inbox = shared.changed.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        let (requests, now, is_last) = (std::mem::take(&mut inbox.requests), inbox.now, inbox.closed);
        let ticked = std::mem::take(&mut inbox.ticked);
        inbox.bytes = 0;
        let is_awaited = std::mem::take(&mut inbox.awaited);
        drop(inbox);
        let requests = self.unjudged.sort(requests);
        if ticked {
            self.sessions.handle_tick(now.uptime_ms);
            self.unjudged.handle_tick();
            self.clients.retain(|session, _| self.sessions.session(*session).is_some());
        }
        let mut answers = self.commit(requests);
        answers.extend(is_awaited.then_some(Reply::Ready));
        if !answers.is_empty() {
            replies.deliver(answers);
        }
        !is_last
    }

    fn commit(&mut self, mut requests: Vec<Request>) -> Vec<Reply> {
        let Committed { mut replies, messages, held, .. } = self.sessions.commit(&requests);
        for reply in &replies {
            if let Reply::Attached(attached) = reply {
                self.clients.insert(attached.session(), Arc::clone(&attached.client));
            }
        }
        // A real one makes all of this durable here.
        for place in messages {
            let message = Forwarded::take_from(&mut requests[place]);
            let Some(Forwarded { seat, number, payload, .. }) = message else { continue };
            let (client, session) = (self.clients.get(&seat.session()).cloned(), seat.session());
            self.keep(Kept { client: client.unwrap_or_default(), session, number, payload });
        }
        // Raw clients have no session, so that no rule is about these.
        for request in &mut requests {
            if let Request::Append { client, number, payload, .. } = request {
                let (client, payload) = (client.as_ref().into(), std::mem::take(payload));
                self.keep(Kept { client, session: 0, number: *number, payload });
            }
        }
        self.unjudged.handle_commit(requests, &held);
        replies.append(&mut self.unjudged.take_ended());
        replies
    }

    fn keep(&self, message: Kept) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    }
}

pub(crate) fn start(listen: SocketAddr, messages: &Messages) -> Result<Gateway, StartError> {
    let listener = ListenerConfig { listen, sink: "journal".to_owned(), ..ListenerConfig::default() };
    let messages = Arc::clone(messages);
    Gateway::builder()
        .listener(listener)
        .committer("journal", |replies| Ok(Journal::open(messages, replies)?))
        .start()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7373".to_owned());
    let messages = Messages::default();
    let gateway = start(listen.parse()?, &messages)?;
    println!("listening on {}", gateway.addresses()[0]);
    let counts = gateway.wait()?;
    let kept = messages.lock().unwrap_or_else(PoisonError::into_inner).len();
    println!("{} messages came, {kept} are kept", counts.messages());
    Ok(())
}
