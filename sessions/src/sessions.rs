//! All sessions that are in use, what they have together, and the rules among them. Knows no storage: what is missing is
//! named, what is to be done is said.
//!
//! Modules, each using only those after it: `attaching`, `exchanging`, `leaving`.

mod attaching;
mod exchanging;
mod leaving;

pub use exchanging::loaded;

use crate::effect::{Effect, Holding, Need, Part};
use crate::number_hasher::NumberMap;
use crate::refusal::EndReason;
use crate::reply::Reply;
use crate::request::Request;
use crate::rules::Rules;
use crate::seat::{Seat, Source, Ticket};
use crate::session::Session;
use crate::shares::Shares;
use pulsegate_core::connection::Attachment;
use std::collections::HashSet;

/// What is known of all sessions from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many there are.
    pub sessions: u64,
    /// The highest number that a session ever had.
    pub newest: u64,
    /// Payload that waits for all clients together, in bytes.
    pub outgoing_bytes: u64,
}

/// The sessions that are in use, as they are in the running batch. After a batch that was not committed it is void:
/// whoever rolls back makes a new one.
#[derive(Debug)]
pub struct Sessions {
    rules: Rules,
    /// Apart from each other, so that a map of many has no room for more of them.
    rows: NumberMap<Box<Row>>,
    changed: Changed,
    shares: Shares,
    count: u64,
    newest: u64,
    age_ms: u64,
    answers: Answers,
    expired: Option<leaving::Expired>,
    batch: Batch,
}

/// Those that have to be saved; some of them have been, meanwhile.
#[derive(Debug, Default)]
struct Changed {
    all: Vec<u64>,
    /// Those in which something has changed by which sessions are searched for.
    searched: Vec<u64>,
}

#[derive(Debug)]
struct Row {
    session: Session,
    /// What has to be saved.
    changed: Option<Part>,
    /// The ticket to which this batch owes a receipt.
    receipt: Option<Ticket>,
}

/// What was looked up for the request that is being handled.
#[derive(Debug, Default)]
struct Answers {
    /// There are no such sessions.
    absent: Vec<u64>,
    attached: Option<bool>,
    newest: Option<Option<u64>>,
    unused: Option<Option<u64>>,
    outgoing: Option<u64>,
}

/// What a batch still has to say.
#[derive(Debug, Default)]
struct Batch {
    /// Connections to which a receipt is due.
    receipts: Vec<Attachment>,
    /// Connections of which a message can't be judged yet, so that none after it can.
    held: HashSet<Attachment>,
    /// Connections that have to end: told last, so that each learns before what became of its messages.
    ended: Vec<Reply>,
    /// Those of them of which nobody knows.
    orphans: HashSet<Attachment>,
}

impl Sessions {
    /// No session is in use yet.
    #[must_use]
    pub fn new(rules: Rules, sums: Sums) -> Self {
        let Sums { sessions, newest, outgoing_bytes } = sums;
        Self {
            rules,
            rows: NumberMap::default(),
            changed: Changed::default(),
            shares: Shares::new(outgoing_bytes),
            count: sessions,
            newest,
            age_ms: 0,
            answers: Answers::default(),
            expired: None,
            batch: Batch::default(),
        }
    }

    /// These limits hold from now on.
    pub const fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// The clock of quotas: for how long gateways have run on these sessions, in milliseconds. Never goes back.
    pub const fn set_age(&mut self, age_ms: u64) {
        self.age_ms = age_ms;
    }

    /// No session gets a number up to this one.
    pub const fn begin_above(&mut self, number: u64) {
        if self.newest < number {
            self.newest = number;
        }
    }

    /// Those who have heard who rests have to hear it anew: nobody is known to.
    pub fn start_anew(&mut self) {
        self.shares.resting.start_anew();
    }

    /// Handles the request at this place of its batch: appends what has to be done.
    ///
    /// # Errors
    /// If something has to be looked up before. Nothing has changed then.
    pub fn handle<'r>(
        &mut self,
        place: usize,
        request: &'r Request,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Need<'r>> {
        match *request {
            Request::Attach(ref attach) => self.handle_attach(attach, effects)?,
            Request::Message { seat, number, received_at_ms, ref payload } => {
                let message = exchanging::Message { place, number, received_at_ms, bytes: payload.len() };
                self.handle_message(seat, message, effects)?;
            }
            Request::Append { ref client, source, number, ref payload, .. } => {
                let message = exchanging::Message { place, number, received_at_ms: 0, bytes: payload.len() };
                self.handle_append(client, source, message, effects)?;
            }
            Request::TokenUsed { attachment: Attachment { session, epoch } } => {
                self.change(session, Part::Exchange, |session| session.handle_token_used(epoch))?;
            }
            Request::Confirm { attachment: Attachment { session, epoch }, floor } => {
                self.change(session, Part::Cursor, |session| session.handle_confirm(epoch, floor))?;
            }
            Request::Push { ticket, ref to, ref payload, .. } => {
                self.handle_push(place, ticket, to, payload, effects)?;
            }
            Request::Load { seat, above, bytes_max } => {
                self.handle_load(seat, above, bytes_max, effects)?;
            }
            Request::OutReceipt { attachment, committed } => {
                self.handle_out_receipt(attachment, committed, effects)?;
            }
            Request::Detach { seat, for_good, now } => self.handle_detach(seat, for_good, now, effects)?,
        }
        self.answers = Answers::default();
        Ok(())
    }

    /// Has everything saved that has changed: at the end of a batch.
    pub fn save(&mut self, effects: &mut Vec<Effect>) {
        self.changed.searched.clear();
        for number in self.changed.all.drain(..) {
            // One that was changed may have been forgotten since.
            if let Some(row) = self.rows.get_mut(&number) {
                row.save(number, effects);
            }
        }
        self.shares.save(effects);
    }

    /// Has saved what has changed and what this need may find: before it is looked up. Messages alone change nothing that is
    /// searched for.
    pub fn save_for(&mut self, need: &Need<'_>, effects: &mut Vec<Effect>) {
        if !need.is_search() {
            return;
        }
        for number in self.changed.searched.drain(..) {
            if let Some(row) = self.rows.get_mut(&number) {
                row.save(number, effects);
            }
        }
    }

    /// Ends a batch: appends what it still has to say.
    pub fn finish(&mut self, effects: &mut Vec<Effect>) {
        for attachment in self.batch.receipts.drain(..) {
            let row = self.rows.get_mut(&attachment.session);
            let Some(row) = row.filter(|row| row.session.cursor.epoch == attachment.epoch) else { continue };
            if let Some(ticket) = row.receipt.take() {
                let committed = row.session.cursor.committed;
                effects
                    .push(Effect::Reply(Reply::Committed { seat: Seat { ticket, attachment }, committed }));
            }
        }
        effects.extend(self.batch.ended.drain(..).map(Effect::Reply));
        if !self.batch.held.is_empty() {
            self.batch.held.clear();
        }
        if !self.batch.orphans.is_empty() {
            self.batch.orphans.clear();
        }
    }

    /// Who rests, if that has changed: to be said before anything else, so that nobody is let in who rests without whoever
    /// reads from it knowing.
    pub fn take_news(&mut self) -> Option<Reply> {
        self.shares.take_news()
    }

    /// Between batches: no more sessions than so many stay in use, of some 350 bytes each. Those of idle clients need not
    /// be.
    pub fn trim(&mut self, sessions_max: usize) {
        if self.rows.len() > sessions_max && self.changed.all.is_empty() {
            self.rows = NumberMap::default();
        }
        self.shares.trim();
    }

    /// A session is in use no longer. Between batches.
    #[cfg(feature = "damage")]
    pub(crate) fn drop_row(&mut self, number: u64) {
        self.rows.remove(&number);
    }

    /// A session that is in use.
    #[must_use]
    pub fn session(&self, number: u64) -> Option<&Session> {
        self.rows.get(&number).map(|row| &row.session)
    }

    /// How many sessions there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Payload that waits for all clients together, in bytes.
    #[must_use]
    pub const fn outgoing_bytes(&self) -> u64 {
        self.shares.outgoing_bytes
    }

    /// How many sessions have changed since they were saved, at most.
    #[must_use]
    pub const fn changed(&self) -> usize {
        self.changed.all.len()
    }

    /// The answer to [`Need::Session`].
    pub fn put_session(&mut self, number: u64, session: Option<Session>) {
        match session {
            Some(session) => {
                self.rows.entry(number).or_insert_with(|| Row::new(session));
            }
            None => self.answers.absent.push(number),
        }
    }

    /// The answer to [`Need::Source`].
    pub fn put_source(&mut self, source: Source, holding: Holding) {
        self.shares.put(source, holding);
    }

    /// The answer to [`Need::Attached`].
    pub const fn put_attached(&mut self, is_attached: bool) {
        self.answers.attached = Some(is_attached);
    }

    /// The answer to [`Need::Newest`].
    pub const fn put_newest(&mut self, session: Option<u64>) {
        self.answers.newest = Some(session);
    }

    /// The answer to [`Need::Unused`].
    pub const fn put_unused(&mut self, session: Option<u64>) {
        self.answers.unused = Some(session);
    }

    /// The answer to [`Need::Outgoing`].
    pub const fn put_outgoing(&mut self, bytes: u64) {
        self.answers.outgoing = Some(bytes);
    }

    /// The answer to [`Need::Expired`].
    pub fn put_expired(&mut self, sessions: Vec<u64>) {
        self.expired = Some(leaving::Expired::new(sessions));
    }

    /// Changes a session, if there is one; `change` says whether it has.
    fn change(
        &mut self,
        number: u64,
        part: Part,
        change: impl FnOnce(&mut Session) -> bool,
    ) -> Result<(), Need<'static>> {
        if let Some(row) = find(&mut self.rows, &self.answers, number)?
            && change(&mut row.session)
        {
            row.mark(number, part, &mut self.changed);
        }
        Ok(())
    }
}

/// The session with this number, if there is one.
fn find<'s>(
    rows: &'s mut NumberMap<Box<Row>>,
    answers: &Answers,
    number: u64,
) -> Result<Option<&'s mut Row>, Need<'static>> {
    match rows.get_mut(&number) {
        Some(row) => Ok(Some(row)),
        None if answers.absent.contains(&number) => Ok(None),
        None => Err(Need::Session(number)),
    }
}

impl Batch {
    /// Nobody knows where this belongs.
    fn orphan(&mut self, seat: Seat) {
        if self.orphans.insert(seat.attachment) {
            self.ended.push(Reply::Orphaned { seat });
        }
    }

    fn end(&mut self, seat: Seat, number: u64, why: EndReason) {
        self.ended.push(Reply::Ended { seat, number, why });
    }
}

impl Row {
    fn new(session: Session) -> Box<Self> {
        Box::new(Self { session, changed: None, receipt: None })
    }

    /// It has been changed, and has to be saved.
    fn mark(&mut self, number: u64, part: Part, changed: &mut Changed) {
        if self.changed.is_none() {
            changed.all.push(number);
        }
        if part >= Part::Connection && self.changed < Some(Part::Connection) {
            changed.searched.push(number);
        }
        self.changed = self.changed.max(Some(part));
    }

    /// Has saved what has changed of it.
    fn save(&mut self, number: u64, effects: &mut Vec<Effect>) {
        let Some(part) = self.changed.take() else { return };
        if self.session.forget_confirmed() {
            effects.push(Effect::ForgetRefusals(number, self.session.floor));
        }
        effects.push(Effect::Save(number, part));
    }
}
