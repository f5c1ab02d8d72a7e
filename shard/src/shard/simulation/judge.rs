//! A store that commits when it is told to: at once, late, or not at all for a time. It keeps everything that it
//! has ever committed, for the model to compare with what clients and sinks have seen.

use crate::origins::Origins;
use crate::post::Post;
use parking_lot::Mutex;
use pulsegate_core::frame::Durability;
use pulsegate_core::time::Instant;
use pulsegate_sessions::{
    Attachment, Committed, Committer, Forwarded, Limits, Memory, Moment, PushRefusal, Reply, Request, Rules,
    Seat, Session, Source, SubmitError, Ticket, Unjudged,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// So few that it is busy at times.
const REQUESTS_MAX: usize = 24;
/// What it promises and takes.
pub(super) const LIMITS: Limits =
    Limits { durability: Durability::None, message_bytes_max: usize::MAX, queue_bytes_max: 16 * 1024 * 1024 };
/// So few bytes of messages to a client come at once: two, if they are short.
const LOADED_BYTES: u32 = 200;
/// How much may wait that can't be judged yet: more than windows let through.
const UNJUDGED_BYTES_MAX: usize = 1 << 20;
/// A quota that is used up soon, and how long it takes until there is a new one.
const QUOTA_BYTES: u64 = 1_500;
const QUOTA_EVERY_MS: u64 = 2_000;
/// Clients come to the end of their quota.
pub(super) const RULES_SCARCE: Rules =
    Rules { quota_bytes: QUOTA_BYTES, quota_every_ms: QUOTA_EVERY_MS, ..Rules::UNLIMITED };

/// What has come of a session, also after it was forgotten.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// The client's messages by their numbers: what they say, or nothing if they were refused.
    pub(super) fates: BTreeMap<u64, Option<Box<[u8]>>>,
    /// Some of them were lost once.
    pub(super) was_set_back: bool,
    /// The messages for the client, in the order of their numbers.
    pub(super) pushed: Vec<Box<[u8]>>,
}

#[derive(Debug)]
struct Books {
    requests: VecDeque<Request>,
    /// How often something was committed.
    commits: u64,
    awaited: bool,
    stopped: bool,
    dead: bool,
    memory: Memory,
    unjudged: Unjudged,
    stories: BTreeMap<u64, Story>,
    /// The messages of raw clients, by their addresses.
    appended: BTreeMap<Box<str>, Vec<Box<[u8]>>>,
}

/// The store of a simulation.
#[derive(Debug)]
pub(super) struct Judge {
    books: Mutex<Books>,
    post: Post,
    /// Where it hands on what it has committed, if it is in memory.
    origins: Option<Arc<Origins>>,
    /// What a commit means here.
    durability: Durability,
}

impl Story {
    fn note(&mut self, number: u64, fate: Option<Box<[u8]>>) {
        let before = self.fates.insert(number, fate);
        assert!(before.is_none(), "message {number} is judged once");
    }

    /// The messages that are committed, in the order of their numbers.
    pub(super) fn committed(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.fates.iter().filter_map(|(number, fate)| Some((*number, fate.as_deref()?)))
    }
}

impl Committer for Judge {
    fn submit_all(&self, requests: &mut Vec<Request>) -> Result<(), SubmitError> {
        let mut books = self.books.lock();
        if books.dead {
            return Err(SubmitError::Closed);
        }
        let mut taken = 0;
        for request in requests.iter() {
            let always = matches!(request, Request::Detach { .. });
            if !always && books.requests.len() + taken >= REQUESTS_MAX {
                break;
            }
            taken += 1;
        }
        books.requests.extend(requests.drain(..taken));
        books.awaited |= !requests.is_empty();
        if requests.is_empty() { Ok(()) } else { Err(SubmitError::Busy) }
    }

    fn tick(&self, _: Moment) {}

    fn commits(&self) -> u64 {
        self.books.lock().commits
    }

    fn limits(&self) -> Limits {
        Limits { durability: self.durability, ..LIMITS }
    }

    fn begin_close(&self) {}

    fn has_ended(&self) -> bool {
        self.books.lock().dead
    }

    fn close(&self, _: Duration) -> Result<u64, u64> {
        Ok(0)
    }
}

impl Judge {
    pub(super) fn new(
        post: Post,
        origins: Option<Arc<Origins>>,
        durability: Durability,
        rules: Rules,
    ) -> Self {
        let books = Books {
            requests: VecDeque::new(),
            commits: 0,
            awaited: false,
            stopped: false,
            dead: false,
            memory: Memory::new(rules, 0, 0),
            unjudged: Unjudged::new(UNJUDGED_BYTES_MAX),
            stories: BTreeMap::new(),
            appended: BTreeMap::new(),
        };
        Self { books: Mutex::new(books), post, origins, durability }
    }

    /// Nobody asks here what has become of an application's messages.
    fn deliver(&self, replies: Vec<Reply>) {
        self.post.deliver(replies, |_, _| {});
    }

    /// Commits so many requests as one batch, unless it has stopped. Returns whether nothing is left to be done.
    pub(super) fn commit(&self, requests: usize) -> bool {
        let mut books = self.books.lock();
        if books.stopped || books.dead {
            return false;
        }
        let count = requests.min(books.requests.len());
        books.commits += u64::from(count > 0);
        let batch: Vec<Request> = books.requests.drain(..count).collect();
        let batch = books.unjudged.sort(batch);
        let mut batch: Vec<Request> = batch.into_iter().filter_map(|request| books.append(request)).collect();
        batch.iter_mut().for_each(|request| books.look_at(request));
        let Committed { mut replies, messages, held, .. } = books.memory.commit(&batch);
        let forwarded: Vec<Forwarded> = messages.into_iter().map(|place| forwarded(&batch[place])).collect();
        books.tell(&forwarded, &replies);
        books.unjudged.handle_commit(batch, &held);
        replies.append(&mut books.unjudged.take_ended());
        if books.awaited && books.requests.len() <= REQUESTS_MAX / 2 {
            books.awaited = false;
            replies.push(Reply::Ready);
        }
        let idle = books.requests.is_empty() && !books.unjudged.is_due();
        drop(books);
        if let Some(origins) = self.origins.as_ref().filter(|_| !forwarded.is_empty())
            && origins.forward(forwarded).is_err()
        {
            self.die();
            return false;
        }
        self.deliver(replies);
        idle
    }

    /// It is so late now.
    pub(super) fn tell_time(&self, now: Instant) {
        self.books.lock().memory.handle_tick(now.as_nanos() / 1_000_000);
    }

    /// Nothing is committed until it goes on.
    pub(super) fn stop(&self) {
        let mut books = self.books.lock();
        if !books.dead && !std::mem::replace(&mut books.stopped, true) {
            self.deliver(vec![Reply::Stopped { why: "the disk is full".to_owned() }]);
        }
    }

    pub(super) fn go_on(&self) {
        let mut books = self.books.lock();
        if !books.dead && std::mem::take(&mut books.stopped) {
            self.deliver(vec![Reply::GoesOn]);
        }
    }

    /// It names all who have used up their share. Returns whether it did.
    pub(super) fn rest(&self, sessions: &[u64], sources: &[Source]) -> bool {
        let is_alive = !self.is_dead();
        if is_alive {
            self.deliver(vec![Reply::Resting { sessions: sessions.into(), sources: sources.into() }]);
        }
        is_alive
    }

    /// It takes no message for this connection's client.
    pub(super) fn refuse_push(&self, ticket: Ticket, why: PushRefusal) {
        self.deliver(vec![Reply::PushRefused { ticket, why }]);
    }

    /// Its thread dies: what waits there is lost, and after its last word it says and takes nothing any more.
    pub(super) fn die(&self) {
        let mut books = self.books.lock();
        books.dead = true;
        books.requests.clear();
        drop(books);
        self.deliver(vec![Reply::Stopped { why: "its thread has died".to_owned() }]);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.books.lock().dead
    }

    /// It has lost what it knew of a session, as after a fault. Those who are attached to it are told then, or when they
    /// send something.
    pub(super) fn forget(&self, number: u64, is_noticed: bool) {
        let mut books = self.books.lock();
        let forgotten = if books.dead { None } else { books.memory.lose(number) };
        if let Some(session) = forgotten.filter(|_| is_noticed) {
            drop(books);
            self.tell_orphan(number, &session);
        }
    }

    /// It has lost the last messages of a session, as with an older copy of a disk, and who has a connection.
    pub(super) fn set_back(&self, number: u64, messages: u64) {
        let mut books = self.books.lock();
        let before = if books.dead { None } else { books.memory.set_back(number, messages) };
        let Some((session, committed)) = before else { return };
        let story = books.stories.entry(number).or_default();
        story.was_set_back = true;
        story.fates.retain(|number, _| *number <= committed);
        drop(books);
        self.tell_orphan(number, &session);
    }

    fn tell_orphan(&self, number: u64, session: &Session) {
        if let Some(ticket) = session.connection {
            let seat = Seat::new(ticket, number, session.cursor.epoch);
            self.deliver(vec![Reply::Orphaned { seat }]);
        }
    }

    /// How many sessions were ever begun; they have the numbers from 1 on.
    pub(super) fn begun(&self) -> u64 {
        self.books.lock().stories.len() as u64
    }

    /// Whether it commits, when it is told to.
    pub(super) fn works(&self) -> bool {
        let books = self.books.lock();
        !books.stopped && !books.dead
    }

    /// The messages of the raw client with this address.
    pub(super) fn appended(&self, client: &str) -> Vec<Box<[u8]>> {
        self.books.lock().appended.get(client).cloned().unwrap_or_default()
    }

    /// What has come of a session.
    pub(super) fn with_story<T>(&self, session: u64, look: impl FnOnce(&Story) -> T) -> T {
        look(self.books.lock().stories.get(&session).expect("a session that clients know was begun here"))
    }
}

impl Books {
    /// Keeps what a raw client has sent. Gives any other request back.
    fn append(&mut self, request: Request) -> Option<Request> {
        let Request::Append { client, number, payload, .. } = request else { return Some(request) };
        let appended = self.appended.entry(client).or_default();
        appended.push(payload);
        assert_eq!(number, appended.len() as u64, "each comes once, in order");
        None
    }

    /// Checks what a shard asks for, and brings a few messages at a time, so that the next question always has something
    /// to ask for.
    fn look_at(&self, request: &mut Request) {
        let present = |of: &Attachment| {
            self.memory.session(of.session).filter(|session| session.cursor.epoch == of.epoch)
        };
        match request {
            Request::Attach(attach) => {
                let resumed = attach.resume.and_then(|it| Some((it, self.memory.session(it.session)?)));
                if let Some((resume, session)) = resumed {
                    assert_eq!(*session.client, *attach.client);
                    let is_committed = resume.acknowledged <= session.cursor.committed;
                    assert!(
                        is_committed || self.was_set_back(resume.session),
                        "what has a receipt is committed"
                    );
                }
            }
            Request::Confirm { attachment, floor } => {
                if let Some(session) = present(attachment) {
                    let is_committed = *floor <= session.cursor.committed;
                    let was_set_back = self.was_set_back(attachment.session);
                    assert!(is_committed || was_set_back, "nobody confirms what has no receipt");
                }
            }
            Request::OutReceipt { attachment, committed } => {
                if let Some(session) = present(attachment) {
                    assert!(*committed <= session.out_last, "nobody acknowledges what was not pushed");
                }
            }
            Request::Load { bytes_max, .. } => *bytes_max = (*bytes_max).min(LOADED_BYTES),
            Request::Append { .. } => panic!("it belongs to no session"),
            Request::Message { .. }
            | Request::TokenUsed { .. }
            | Request::Push { .. }
            | Request::Detach { .. } => {}
        }
    }

    fn was_set_back(&self, session: u64) -> bool {
        self.stories.get(&session).is_some_and(|story| story.was_set_back)
    }

    /// Notes what has come of sessions.
    fn tell(&mut self, forwarded: &[Forwarded], replies: &[Reply]) {
        for message in forwarded {
            let story = self.stories.entry(message.seat.session()).or_default();
            story.note(message.number, Some(message.payload.clone()));
        }
        for reply in replies {
            if let Reply::Attached(attached) = reply {
                self.stories.entry(attached.session()).or_default();
            } else if let Reply::Pushed { attachment, payload, .. } = reply {
                self.stories.entry(attachment.session).or_default().pushed.push(payload.clone());
            } else if let Reply::Refused { seat, refusal } = reply {
                self.stories.entry(seat.session()).or_default().note(refusal.number, None);
            }
        }
    }
}

fn forwarded(request: &Request) -> Forwarded {
    let Request::Message { seat, number, received_at_ms, payload } = request else {
        panic!("no message: {request:?}");
    };
    Forwarded { seat: *seat, number: *number, received_at_ms: *received_at_ms, payload: payload.clone() }
}
