//! A store that commits when it is told to: at once, late, or not at all for a time. It keeps everything that it
//! has ever committed, for the model to compare with what clients and sinks have seen.

use crate::origins::Origins;
use crate::stores::Post;
use parking_lot::Mutex;
use pulsegate_core::exchange::{Cursor, Verdict};
use pulsegate_core::frame::Durability;
use pulsegate_store::{
    Attach, AttachRefusal, Attached, Attachment, Committer, EndReason, Forwarded, Limits, Moment, Outcome,
    Outgoing, PushRefusal, Recipient, Reply, Request, Seat, Source, SubmitError, Ticket, Token,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// So few that it is busy at times.
const REQUESTS_MAX: usize = 24;
/// What it promises and takes.
pub(super) const LIMITS: Limits =
    Limits { durability: Durability::None, message_bytes_max: usize::MAX, queue_bytes_max: 16 * 1024 * 1024 };
/// So few messages to a client come at once.
const LOADED_MESSAGES: usize = 2;

/// What has come of a session, also after it was forgotten.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// The client's messages, in the order of their numbers.
    pub(super) committed: Vec<Box<[u8]>>,
    /// The messages for the client, in the order of their numbers.
    pub(super) pushed: Vec<Box<[u8]>>,
}

#[derive(Debug)]
struct Session {
    client: String,
    newest: Token,
    previous: Option<Token>,
    cursor: Cursor,
    floor: u64,
    acknowledged: u64,
    connection: Option<Ticket>,
    /// To whom the batch owes a receipt.
    receipt: Option<Ticket>,
}

#[derive(Debug, Default)]
struct Books {
    requests: VecDeque<Request>,
    awaited: bool,
    stopped: bool,
    dead: bool,
    sessions: BTreeMap<u64, Session>,
    stories: BTreeMap<u64, Story>,
    replies: Vec<Reply>,
    forwarded: Vec<Forwarded>,
}

/// The store of a simulation.
#[derive(Debug)]
pub(super) struct Judge {
    books: Mutex<Books>,
    post: Post,
    origins: Arc<Origins>,
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

    fn limits(&self) -> Limits {
        LIMITS
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
    pub(super) fn new(post: Post, origins: Arc<Origins>) -> Self {
        Self { books: Mutex::default(), post, origins }
    }

    /// Commits so many requests as one batch, unless it has stopped. Returns whether nothing is left to be done.
    pub(super) fn commit(&self, requests: usize) -> bool {
        let mut books = self.books.lock();
        if books.stopped || books.dead {
            return false;
        }
        let count = requests.min(books.requests.len());
        let batch: Vec<Request> = books.requests.drain(..count).collect();
        batch.into_iter().for_each(|request| books.handle(request));
        books.write_receipts();
        if books.awaited && books.requests.len() <= REQUESTS_MAX / 2 {
            books.awaited = false;
            books.replies.push(Reply::Ready);
        }
        let idle = books.requests.is_empty();
        let (forwarded, replies) = (std::mem::take(&mut books.forwarded), std::mem::take(&mut books.replies));
        drop(books);
        if !forwarded.is_empty() && self.origins.forward(forwarded).is_err() {
            self.die();
            return false;
        }
        self.post.deliver(replies);
        idle
    }

    /// Nothing is committed until it goes on.
    pub(super) fn stop(&self) {
        let mut books = self.books.lock();
        if !books.dead && !std::mem::replace(&mut books.stopped, true) {
            self.post.deliver(vec![Reply::Stopped { why: "the disk is full".to_owned() }]);
        }
    }

    pub(super) fn go_on(&self) {
        let mut books = self.books.lock();
        if !books.dead && std::mem::take(&mut books.stopped) {
            self.post.deliver(vec![Reply::GoesOn]);
        }
    }

    /// It names all who have used up their share. Returns whether it did.
    pub(super) fn rest(&self, sessions: &[u64], sources: &[Source]) -> bool {
        let is_alive = !self.is_dead();
        if is_alive {
            self.post.deliver(vec![Reply::Resting { sessions: sessions.into(), sources: sources.into() }]);
        }
        is_alive
    }

    /// It takes no message for this connection's client.
    pub(super) fn refuse_push(&self, ticket: Ticket, why: PushRefusal) {
        self.post.deliver(vec![Reply::PushRefused { ticket, why }]);
    }

    /// Its thread dies: what waits there is lost, and after its last word it says and takes nothing any more.
    pub(super) fn die(&self) {
        let mut books = self.books.lock();
        books.dead = true;
        books.requests.clear();
        drop(books);
        self.post.deliver(vec![Reply::Stopped { why: "its thread has died".to_owned() }]);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.books.lock().dead
    }

    /// It has lost what it knew of a session, as after a fault. Those who are attached to it are told then.
    pub(super) fn forget(&self, session: u64) {
        let mut books = self.books.lock();
        let forgotten = if books.dead { None } else { books.sessions.remove(&session) };
        if let Some(Session { connection: Some(ticket), cursor, .. }) = forgotten {
            drop(books);
            self.post.deliver(vec![Reply::Orphaned { seat: Seat::new(ticket, session, cursor.epoch) }]);
        }
    }

    /// How many sessions were ever begun; they have the numbers from 1 on.
    pub(super) fn begun(&self) -> u64 {
        self.books.lock().stories.len() as u64
    }

    /// What has come of a session.
    pub(super) fn with_story<T>(&self, session: u64, look: impl FnOnce(&Story) -> T) -> T {
        look(self.books.lock().stories.get(&session).expect("a session that clients know was begun here"))
    }
}

impl Books {
    fn handle(&mut self, request: Request) {
        match request {
            Request::Attach(attach) => self.attach(*attach),
            Request::Message { seat, number, received_at_ms, payload } => {
                self.judge(Forwarded { seat, number, received_at_ms, payload });
            }
            Request::Append { .. } => panic!("this store is in memory"),
            Request::TokenUsed { attachment } => {
                if let Some(session) = self.present(attachment) {
                    session.previous = None;
                }
            }
            Request::Confirm { attachment, floor } => {
                if let Some(session) = self.present(attachment) {
                    assert!(floor <= session.cursor.committed, "nobody confirms what has no receipt");
                    session.floor = session.floor.max(floor);
                }
            }
            Request::Push { ticket, to, payload, .. } => self.push(ticket, &to, payload),
            Request::Load { seat, above, .. } => self.load(seat, above),
            Request::OutReceipt { attachment, committed } => {
                let pushed =
                    self.stories.get(&attachment.session).map_or(0, |story| story.pushed.len() as u64);
                if let Some(session) = self.present(attachment) {
                    assert!(committed <= pushed, "nobody acknowledges what was not pushed");
                    session.acknowledged = session.acknowledged.max(committed);
                }
            }
            Request::Detach { seat, for_good, .. } => self.detach(seat, for_good),
        }
    }

    fn present(&mut self, of: Attachment) -> Option<&mut Session> {
        self.sessions.get_mut(&of.session).filter(|session| session.cursor.epoch == of.epoch)
    }

    fn attach(&mut self, attach: Attach) {
        let ticket = attach.ticket;
        let known = attach.resume.filter(|resume| self.sessions.contains_key(&resume.session));
        let outcome = if known.is_some() { Outcome::Resumed } else { Outcome::New };
        let number = known.map_or(self.stories.len() as u64 + 1, |resume| resume.session);
        let story = self.stories.entry(number).or_default();
        let session = self.sessions.entry(number).or_insert_with(|| Session {
            client: attach.client.clone(),
            newest: attach.token,
            previous: None,
            cursor: Cursor::default(),
            floor: 0,
            acknowledged: 0,
            connection: None,
            receipt: None,
        });
        if let Some(resume) = known {
            assert_eq!(session.client, attach.client);
            assert!(resume.acknowledged <= session.cursor.committed, "what has a receipt is committed");
            if resume.token != session.newest && Some(resume.token) != session.previous {
                return self.replies.push(Reply::AttachRefused { ticket, why: AttachRefusal::BadToken });
            }
            if resume.token == session.newest {
                session.newest = attach.token;
            }
            session.previous = Some(resume.token);
            session.floor = session.floor.max(resume.acknowledged);
            session.acknowledged = session.acknowledged.max(resume.committed);
        }
        session.cursor.epoch += 1;
        session.receipt = None;
        self.replies.push(Reply::Attached(Box::new(Attached {
            seat: Seat::new(ticket, number, session.cursor.epoch),
            client: attach.client.as_str().into(),
            replaced: session.connection.replace(ticket),
            outcome,
            token: session.newest,
            committed: session.cursor.committed,
            floor: session.floor,
            acknowledged: session.acknowledged,
            told_bytes_max: attach.told_bytes_max,
            lost: None,
            refused: Vec::new(),
            is_behind: session.acknowledged < story.pushed.len() as u64,
        })));
    }

    fn judge(&mut self, message: Forwarded) {
        let Seat { ticket, attachment: Attachment { session: number, epoch } } = message.seat;
        let Some(session) = self.sessions.get_mut(&number) else {
            return self.replies.push(Reply::Orphaned { seat: message.seat });
        };
        match session.cursor.judge(epoch, message.number) {
            Verdict::Commit => {
                session.cursor.committed += 1;
                session.receipt = Some(ticket);
                self.stories.entry(number).or_default().committed.push(message.payload.clone());
                self.forwarded.push(message);
            }
            Verdict::Known => session.receipt = Some(ticket),
            Verdict::Stale => {}
            Verdict::Gap => self.replies.push(Reply::Ended {
                seat: message.seat,
                number: message.number,
                why: EndReason::Gap,
            }),
        }
    }

    fn push(&mut self, ticket: Ticket, to: &Recipient, payload: Box<[u8]>) {
        let Recipient::Session(number) = *to else { panic!("a shard names the session") };
        let Some(session) = self.sessions.get(&number) else {
            return self.replies.push(Reply::PushRefused { ticket, why: PushRefusal::NoSession });
        };
        let story = self.stories.entry(number).or_default();
        story.pushed.push(payload.clone());
        self.replies.push(Reply::Pushed {
            ticket,
            attachment: Attachment { session: number, epoch: session.cursor.epoch },
            connection: session.connection,
            number: story.pushed.len() as u64,
            payload,
        });
    }

    /// Brings a few at a time, so that the next question always has something to ask for.
    fn load(&mut self, seat: Seat, above: u64) {
        if !self.sessions.contains_key(&seat.session()) {
            return self.replies.push(Reply::Orphaned { seat });
        }
        if self.present(seat.attachment).is_none() {
            return;
        }
        let pushed = self.stories.get(&seat.session()).map_or(&[][..], |story| &story.pushed);
        let rest = (above + 1..).zip(pushed.iter().skip(above as usize));
        let messages: Vec<_> = rest
            .map(|(number, payload)| Outgoing { number, payload: payload.clone() })
            .take(LOADED_MESSAGES)
            .collect();
        let has_more = above + (messages.len() as u64) < pushed.len() as u64;
        self.replies.push(Reply::Loaded { seat, messages, has_more });
    }

    fn detach(&mut self, seat: Seat, for_good: bool) {
        let number = seat.session();
        let pushed = self.stories.get(&number).map_or(0, |story| story.pushed.len() as u64);
        if !self.sessions.contains_key(&number) {
            return self.replies.push(Reply::Detached { seat, forgotten: true });
        }
        let Some(session) = self.present(seat.attachment).filter(|session| session.connection.is_some())
        else {
            return;
        };
        let settled = session.floor == session.cursor.committed && session.acknowledged == pushed;
        session.connection = None;
        let forgotten = for_good && settled;
        if forgotten {
            self.sessions.remove(&number);
        }
        self.replies.push(Reply::Detached { seat, forgotten });
    }

    fn write_receipts(&mut self) {
        for (&number, session) in &mut self.sessions {
            if let Some(ticket) = session.receipt.take() {
                let Cursor { epoch, committed } = session.cursor;
                self.replies.push(Reply::Committed { seat: Seat::new(ticket, number, epoch), committed });
            }
        }
    }
}
