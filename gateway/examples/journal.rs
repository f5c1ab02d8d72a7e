//! A commit point of one's own: clients' messages in a `Vec`, with sessions and receipts as the built-in store has them. A
//! real one would write to a database or a log of its own before it answers.
//!
//! `cargo run --release --example journal -- 127.0.0.1:7373`, and then for instance
//! `echo hello | cargo run --release -- connect 127.0.0.1:7373 --id me`

use pulsegate::{
    Attach, AttachRefusal, Attached, Attachment, Committer, Cursor, Durability, EndReason, Gateway, Limits,
    ListenerConfig, Moment, Outcome, PushRefusal, Replies, Reply, Request, Seat, StartError, SubmitError,
    Ticket, Token, Verdict,
};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const LIMITS: Limits =
    Limits { durability: Durability::None, message_bytes_max: 1 << 20, queue_bytes_max: 4 << 20 };
const SESSIONS_MAX: usize = 10_000;

/// A committed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) client: String,
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
    requests: VecDeque<Request>,
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
            let mut books = Books { messages, sessions: BTreeMap::new(), last: 0 };
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

/// What is known of a client beyond its connection.
struct Session {
    client: String,
    token: Token,
    /// Valid until the newest has shown up.
    previous: Option<Token>,
    cursor: Cursor,
    floor: u64,
    connection: Option<Ticket>,
    time_to_live: Duration,
    expires_ms: u64,
}

/// The state of the thread that commits.
struct Books {
    messages: Messages,
    sessions: BTreeMap<u64, Session>,
    /// The number of the newest session.
    last: u64,
}

impl Books {
    /// Commits what has come, and answers. Returns whether more may come.
    fn work(&mut self, shared: &Shared, replies: &Replies) -> bool {
        let mut inbox = shared.lock();
        while inbox.requests.is_empty() && !inbox.ticked && !inbox.closed {
            inbox = shared.changed.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        let (requests, now, is_last) = (std::mem::take(&mut inbox.requests), inbox.now, inbox.closed);
        (inbox.bytes, inbox.ticked) = (0, false);
        let is_awaited = std::mem::take(&mut inbox.awaited);
        drop(inbox);
        let mut answers = Vec::new();
        for request in requests {
            self.handle(request, &mut answers);
        }
        self.sessions.retain(|_, it| it.connection.is_some() || it.expires_ms > now.uptime_ms);
        // A real one makes all of this durable here.
        answers.extend(is_awaited.then_some(Reply::Ready));
        if !answers.is_empty() {
            replies.deliver(answers);
        }
        !is_last
    }

    fn handle(&mut self, request: Request, answers: &mut Vec<Reply>) {
        match request {
            Request::Attach(attach) => answers.push(self.attach(*attach)),
            Request::Message { seat, number, payload, .. } => {
                answers.extend(self.commit(seat, number, payload));
            }
            Request::Append { client, number, payload, .. } => {
                self.keep(Kept { client: client.into(), session: 0, number, payload });
            }
            Request::TokenUsed { attachment } => {
                if let Some(session) = self.attached(attachment) {
                    session.previous = None;
                }
            }
            Request::Confirm { attachment, floor } => {
                if let Some(session) = self.attached(attachment) {
                    session.floor = session.floor.max(floor);
                }
            }
            // It has nothing to say to clients.
            Request::Push { ticket, .. } => {
                answers.push(Reply::PushRefused { ticket, why: PushRefusal::NoSession });
            }
            Request::Load { seat, .. } => {
                answers.push(Reply::Loaded { seat, messages: Vec::new(), has_more: false });
            }
            Request::OutReceipt { .. } => {}
            Request::Detach { seat, for_good, now } => {
                let Some(session) = self.attached(seat.attachment) else { return };
                let expires_ms = now.uptime_ms + session.time_to_live.as_millis() as u64;
                (session.connection, session.expires_ms) = (None, expires_ms);
                let forgotten = for_good && session.floor == session.cursor.committed;
                if forgotten {
                    self.sessions.remove(&seat.session());
                }
                answers.push(Reply::Detached { seat, forgotten });
            }
        }
    }

    fn keep(&self, message: Kept) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    }

    /// The session that this connection has.
    fn attached(&mut self, Attachment { session, epoch }: Attachment) -> Option<&mut Session> {
        self.sessions.get_mut(&session).filter(|session| session.cursor.epoch == epoch)
    }

    fn attach(&mut self, attach: Attach) -> Reply {
        let ticket = attach.ticket;
        let known = attach.resume.filter(|resume| self.sessions.contains_key(&resume.session));
        let outcome = if known.is_some() { Outcome::Resumed } else { Outcome::New };
        let id = match known {
            Some(resume) => resume.session,
            None if self.sessions.len() >= SESSIONS_MAX => {
                return Reply::AttachRefused { ticket, why: AttachRefusal::SessionLimit };
            }
            None => self.last + 1,
        };
        self.last = self.last.max(id);
        // What it asks for of a client's second connection is left to the newest one.
        let session = self.sessions.entry(id).or_insert_with(|| Session {
            client: attach.client.clone(),
            token: attach.token,
            previous: None,
            cursor: Cursor::default(),
            floor: 0,
            connection: None,
            time_to_live: attach.time_to_live,
            expires_ms: 0,
        });
        if let Some(resume) = known {
            let is_newest = session.token == resume.token;
            if session.client != attach.client || !(is_newest || session.previous == Some(resume.token)) {
                return Reply::AttachRefused { ticket, why: AttachRefusal::BadToken };
            }
            // The one that was shown stays valid until the next has shown up.
            if is_newest {
                session.token = attach.token;
            }
            session.previous = Some(resume.token);
            session.floor = session.floor.max(resume.acknowledged).min(session.cursor.committed);
        }
        session.cursor.epoch += 1;
        session.time_to_live = attach.time_to_live;
        Reply::Attached(Box::new(Attached {
            seat: Seat::new(ticket, id, session.cursor.epoch),
            client: attach.client.into(),
            replaced: session.connection.replace(ticket),
            outcome,
            token: session.token,
            committed: session.cursor.committed,
            floor: session.floor,
            acknowledged: 0,
            told_bytes_max: attach.told_bytes_max,
            lost: None,
            refused: Vec::new(),
            is_behind: false,
        }))
    }

    fn commit(&mut self, seat: Seat, number: u64, payload: Box<[u8]>) -> Option<Reply> {
        let Some(session) = self.sessions.get_mut(&seat.session()) else {
            return Some(Reply::Orphaned { seat });
        };
        match session.cursor.judge(seat.epoch(), number) {
            Verdict::Stale => return None,
            Verdict::Gap => return Some(Reply::Ended { seat, number, why: EndReason::Gap }),
            Verdict::Known => {}
            Verdict::Commit => {
                session.cursor.committed = number;
                let client = session.client.clone();
                self.keep(Kept { client, session: seat.session(), number, payload });
            }
        }
        let committed = self.sessions[&seat.session()].cursor.committed;
        Some(Reply::Committed { seat, committed })
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
