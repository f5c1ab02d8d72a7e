//! One session: what outlives its connections, and what each thing that happens makes of it. Knows no other session.

use crate::attach::{Attach, Attached, Outcome, Resume, Token};
use crate::effect::Part;
use crate::refusal::{AttachRefusal, PushRefusal, Refusal, RefusalCode};
use crate::rules::{MESSAGE_BYTES, NUMBER_MAX, REFUSALS_MAX, Rules, TTL_MS_MAX, millis};
use crate::seat::{Moment, Seat, Source, Ticket};
use crate::token;
use pulsegate_core::exchange::{Cursor, Verdict};
use std::sync::Arc;

/// What outlives a connection: an identity, four cursors, what is in flight. A plain value, which a backend keeps as it
/// likes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Session {
    /// Who the client says that it is.
    pub client: Arc<str>,
    /// The newest token.
    pub token: Token,
    /// The one before it, as long as it is valid: until a frame arrives under the newest.
    pub previous: Option<Token>,
    /// The epoch of the newest connection; the client's messages are committed or refused up to here.
    pub cursor: Cursor,
    /// ... and the client knows up to here.
    pub floor: u64,
    /// Of messages to the client: the last number given.
    pub out_last: u64,
    /// ... and the client has them up to here.
    pub out_committed: u64,
    /// Payload of those between, in bytes.
    pub out_bytes: u64,
    /// Since when its quota is counted, on the clock of [`Sessions::set_age`](crate::Sessions::set_age).
    pub quota_from_ms: u64,
    /// How much of it is used.
    pub quota_bytes: u64,
    /// When it began, in milliseconds since 1970-01-01 UTC.
    pub created_ms: u64,
    /// When its client was last there, in milliseconds since 1970-01-01 UTC.
    pub last_seen_ms: u64,
    /// How long it is kept without a connection.
    pub ttl_ms: u64,
    /// When it expires, on the gateway's uptime; `None`: it has a connection.
    pub expires_ms: Option<u64>,
    /// The ticket of its connection.
    pub connection: Option<Ticket>,
    /// Where its client was last.
    pub source: Source,
    /// What its messages that are still kept count.
    pub message_bytes: u64,
    /// The longest payload that its client takes, in bytes.
    pub message_bytes_max: u32,
    /// The longest payload that its client was ever told that it may send, in bytes.
    pub told_bytes_max: u32,
    /// The first and the last of its messages that were acknowledged and are lost, until it is known to have heard so.
    pub lost: Option<(u64, u64)>,
    /// Refusals, lowest first: at least those above the floor.
    pub refusals: Vec<Refusal>,
}

/// What becomes of a client's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It comes from a connection that has been replaced: nothing is done, and nobody is told.
    Stale,
    /// It comes from a connection that this session never had: what is known here is older.
    Unknown,
    /// It can't come from a connection that keeps the protocol.
    Gap,
    /// It was committed or refused before.
    Known,
    /// It would have to be refused, and as many refusals as may are unconfirmed: it waits, and all behind it.
    Waits,
    /// It is to be refused.
    Refused(RefusalCode),
    /// It is to be committed.
    Taken,
}

impl Session {
    /// A new session.
    pub(crate) fn begin(attach: &Attach, age_ms: u64) -> Self {
        Self {
            client: attach.client.as_str().into(),
            token: attach.token,
            previous: None,
            cursor: Cursor { epoch: 1, committed: 0 },
            floor: 0,
            out_last: 0,
            out_committed: 0,
            out_bytes: 0,
            quota_from_ms: age_ms,
            quota_bytes: 0,
            created_ms: attach.now.wall_ms,
            last_seen_ms: attach.now.wall_ms,
            ttl_ms: ttl_ms(attach),
            expires_ms: None,
            connection: Some(attach.ticket),
            source: attach.source,
            message_bytes: 0,
            message_bytes_max: attach.message_bytes_max,
            told_bytes_max: attach.told_bytes_max,
            lost: None,
            refusals: Vec::new(),
        }
    }

    /// Whether a connection may go on with it, as far as the session alone can tell. A token is compared in the same time
    /// whatever it is.
    pub(crate) fn admit(&self, client: &str, shown: &Token) -> Result<(), AttachRefusal> {
        let is_newest = token::equal(shown, &self.token);
        let is_previous = token::equal(shown, &self.previous.unwrap_or(self.token));
        if !(is_newest | (is_previous & self.previous.is_some())) {
            return Err(AttachRefusal::BadToken);
        }
        if *self.client != *client {
            return Err(AttachRefusal::OtherClient);
        }
        Ok(())
    }

    /// A connection goes on with it. Returns how many messages are found to be lost.
    pub(crate) fn resume(&mut self, attach: &Attach, resume: &Resume) -> u64 {
        let is_proven = token::equal(&resume.token, &self.token);
        let lost = self.reconcile(resume, is_proven);
        self.cursor.epoch += 1;
        // The one that was shown stays valid: the client has it for certain, and may never get the next one.
        // A next one that nobody has used yet stays the next one: it may be in use before this is known.
        if is_proven {
            self.token = attach.token;
        }
        self.previous = Some(resume.token);
        self.message_bytes_max = attach.message_bytes_max;
        self.told_bytes_max = self.told_bytes_max.max(attach.told_bytes_max);
        (self.last_seen_ms, self.ttl_ms) = (attach.now.wall_ms, ttl_ms(attach));
        (self.source, self.expires_ms) = (attach.source, None);
        lost
    }

    /// Brings the cursors in line with what the client knows. `is_proven`: it has had the WELCOME before this one. Returns
    /// how many messages are found to be lost.
    fn reconcile(&mut self, resume: &Resume, is_proven: bool) -> u64 {
        if is_proven {
            self.lost = None;
        }
        // What the client has receipts for and we know nothing of: a disk was restored, or power failed. It is told
        // until it is known to have heard so; nothing can have been committed in between.
        let lost = resume.acknowledged.saturating_sub(self.cursor.committed);
        if lost > 0 {
            let (first, _) = self.lost.unwrap_or((self.cursor.committed + 1, 0));
            self.lost = Some((first, resume.acknowledged));
        }
        self.cursor.committed = self.cursor.committed.max(resume.acknowledged);
        self.floor = self.floor.max(resume.acknowledged);
        // The same the other way round: numbers that the client knows must not be used again.
        self.out_last = self.out_last.max(resume.committed);
        lost
    }

    /// What a connection is told that is attached to it now.
    pub(crate) fn welcome(
        &self,
        number: u64,
        ticket: Ticket,
        replaced: Option<Ticket>,
        outcome: Outcome,
    ) -> Attached {
        Attached {
            seat: Seat::new(ticket, number, self.cursor.epoch),
            client: Arc::clone(&self.client),
            replaced,
            outcome,
            token: self.token,
            committed: self.cursor.committed,
            floor: self.floor,
            acknowledged: self.out_committed,
            told_bytes_max: self.told_bytes_max,
            lost: self.lost,
            refused: self.refusals.iter().filter(|refusal| refusal.number > self.floor).copied().collect(),
            is_behind: self.out_committed < self.out_last,
        }
    }

    /// A frame has arrived under the newest token. Whether that is news.
    pub(crate) const fn handle_token_used(&mut self, epoch: u64) -> bool {
        let is_news = self.cursor.epoch == epoch && self.previous.is_some();
        if is_news {
            (self.previous, self.lost) = (None, None);
        }
        is_news
    }

    /// The client holds receipts and refusals up to `floor`. Whether that is news.
    pub(crate) const fn handle_confirm(&mut self, epoch: u64, floor: u64) -> bool {
        let is_news = self.cursor.epoch == epoch && floor > self.floor && floor <= self.cursor.committed;
        if is_news {
            self.floor = floor;
        }
        is_news
    }

    /// Judges a message of its client. Changes nothing but when its quota began.
    pub(crate) fn judge(
        &mut self,
        rules: &Rules,
        age_ms: u64,
        epoch: u64,
        number: u64,
        bytes: usize,
    ) -> Judged {
        match self.cursor.judge(epoch, number) {
            Verdict::Stale if epoch > self.cursor.epoch => return Judged::Unknown,
            Verdict::Stale => return Judged::Stale,
            Verdict::Gap => return Judged::Gap,
            Verdict::Known => return Judged::Known,
            // There is no next number any more.
            Verdict::Commit if number > NUMBER_MAX => return Judged::Gap,
            Verdict::Commit => {}
        }
        let Some(code) = self.refusal_of(rules, age_ms, bytes) else { return Judged::Taken };
        if self.unconfirmed() >= REFUSALS_MAX { Judged::Waits } else { Judged::Refused(code) }
    }

    /// Whether a message that is next is not accepted, and why.
    fn refusal_of(&mut self, rules: &Rules, age_ms: u64, bytes: usize) -> Option<RefusalCode> {
        if bytes > rules.message_bytes_max {
            return Some(RefusalCode::TooLarge);
        }
        let since = self.quota_from_ms;
        if age_ms < since || age_ms - since >= rules.quota_every_ms {
            (self.quota_from_ms, self.quota_bytes) = (age_ms, 0);
        }
        (self.quota_bytes + quota_of(bytes) > rules.quota_bytes).then_some(RefusalCode::OverQuota)
    }

    /// How many refusals the client may not have got.
    fn unconfirmed(&self) -> usize {
        self.refusals.iter().filter(|refusal| refusal.number > self.floor).count()
    }

    /// The message that was judged is committed.
    pub(crate) const fn take(&mut self, number: u64, received_at_ms: u64, bytes: usize) {
        self.quota_bytes += quota_of(bytes);
        self.pass(number, received_at_ms);
    }

    /// The message that was judged is refused.
    pub(crate) fn refuse(&mut self, refusal: Refusal, received_at_ms: u64) {
        self.refusals.push(refusal);
        self.pass(refusal.number, received_at_ms);
    }

    const fn pass(&mut self, number: u64, received_at_ms: u64) {
        self.cursor.committed = number;
        self.last_seen_ms = received_at_ms;
    }

    /// Forgets the refusals that its client has confirmed. Whether there were any.
    pub(crate) fn forget_confirmed(&mut self) -> bool {
        let before = self.refusals.len();
        if before > 0 {
            self.refusals.retain(|refusal| refusal.number > self.floor);
        }
        self.refusals.len() < before
    }

    /// Why a message to its client is not taken, if it is for the session alone to say.
    pub(crate) fn push_refusal(&self, rules: &Rules, bytes: usize) -> Option<PushRefusal> {
        if bytes > rules.message_bytes_max || bytes as u64 > u64::from(self.message_bytes_max) {
            return Some(PushRefusal::TooLarge);
        }
        let is_full = self.out_last >= NUMBER_MAX
            || self.out_last - self.out_committed >= rules.outgoing_messages_max
            || self.out_bytes + bytes as u64 > rules.outgoing_bytes_max;
        is_full.then_some(PushRefusal::Full)
    }

    /// A message to its client gets the next number.
    pub(crate) const fn push(&mut self, bytes: usize) -> u64 {
        self.out_last += 1;
        self.out_bytes += bytes as u64;
        self.out_last
    }

    /// The payload of messages to its client that go with a receipt up to `to`, if that can be told without looking at
    /// them.
    pub(crate) const fn freed_by(&self, to: u64) -> Option<u64> {
        if to <= self.out_committed {
            Some(0)
        } else if to >= self.out_last {
            Some(self.out_bytes)
        } else {
            None
        }
    }

    /// Its client has our messages up to `to`, of which this frees so many bytes. Whether that is news.
    pub(crate) const fn handle_settled(&mut self, to: u64, freed: u64) -> bool {
        let is_news = to > self.out_committed;
        if is_news {
            self.out_committed = to;
            self.out_bytes = self.out_bytes.saturating_sub(freed);
        }
        is_news
    }

    /// Its connection has ended.
    pub(crate) const fn detach(&mut self, now: Moment) {
        self.connection = None;
        self.last_seen_ms = now.wall_ms;
        self.expires_ms = Some(now.uptime_ms + self.ttl_ms);
    }

    /// What a message of its client changes, before it does.
    pub(crate) const fn part_of_message(&self) -> Part {
        if self.is_used() { Part::Cursor } else { Part::Connection }
    }

    /// What a receipt of its client changes, before it does.
    pub(crate) const fn part_of_receipt(&self) -> Part {
        if self.is_used() { Part::Exchange } else { Part::Connection }
    }

    /// Whether nothing is left to remember.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.floor == self.cursor.committed && self.out_committed == self.out_last
    }

    /// Whether anything was ever committed or receipted in it. Those that are not go first when there is no room.
    #[must_use]
    pub const fn is_used(&self) -> bool {
        self.cursor.committed > 0 || self.out_committed > 0
    }
}

/// What a message counts of its session's quota.
const fn quota_of(bytes: usize) -> u64 {
    bytes as u64 + MESSAGE_BYTES
}

fn ttl_ms(attach: &Attach) -> u64 {
    millis(attach.time_to_live).min(TTL_MS_MAX)
}
