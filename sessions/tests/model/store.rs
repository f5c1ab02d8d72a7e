//! The committer: the shipping rules over plain rows, made anew for each batch, so that what is stored is all that there
//! is. What is wrong on purpose is wrong in what the rules are handed, or in what is done with what they say.

use crate::common::rows::{Done, Rows};
use crate::wiring::{Forgetting, Refusing, Tokens, Wiring};
use crate::world::{Answer, Broken, Sights};
use pulsegate_sessions::{
    Attach, AttachRefusal, Attached, Attachment, Effect, EndReason, Loss, Need, Refusal, RefusalCode, Reply,
    Request, Rules, Seat, Session, Sessions, Sums,
};

/// Nobody comes to any limit but the one of refusals.
const RULES: Rules = Rules {
    quota_every_ms: 0,
    outgoing_messages_max: 0,
    outgoing_bytes_max: 0,
    outgoing_bytes_of_source: 0,
    outgoing_bytes_of_all: 0,
    ..Rules::UNLIMITED
};
/// How many refusals of a session may stand unconfirmed (PROTOCOL.md section 7.3).
const REFUSALS_MAX: u64 = 64;
/// Above the numbers of all messages that a scenario has: refusals of messages that never were.
const NEVER: u64 = 1 << 40;
/// For a message that carries no epoch.
pub(crate) const NO_EPOCH: u64 = 0;

/// What a crash leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) rows: Rows,
    /// Sessions whose cursor is not known any more; only variants forget it while the session lives.
    pub(crate) forgotten: Vec<u64>,
    /// Session and payload, in the order in which they were committed.
    pub(crate) committed: Vec<(u64, u8)>,
    /// Session, number and payload of what was committed and is gone.
    pub(crate) missing: Vec<(u64, u64, u8)>,
    /// One bit for each payload that was committed and is gone.
    pub(crate) gone: u8,
    /// One bit for each session that has expired.
    pub(crate) expired: u8,
    /// One bit for each new session from which nothing had come when its connection ended.
    pub(crate) unheard: u8,
}

/// What a batch comes to.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) after: Store,
    pub(crate) answers: Vec<Answer>,
    pub(crate) held: Vec<usize>,
    /// The sessions that are forgotten.
    pub(crate) forgotten: Vec<u64>,
    pub(crate) refusals: u8,
}

/// One batch being committed.
struct Committing<'b> {
    store: Store,
    sessions: Sessions,
    effects: Vec<Effect>,
    done: Done,
    forgotten: Vec<u64>,
    refusals: u8,
    requests: &'b [Request],
    wiring: &'b Wiring,
}

impl Store {
    /// Begins without any connection, after a crash.
    pub(crate) fn start(&mut self) {
        for row in self.rows.sessions.values_mut() {
            (row.connection, row.expires_ms) = (None, Some(0));
        }
    }

    /// The last message of a session goes, as if a disk had been restored.
    pub(crate) fn lose_last(&mut self) {
        let Some((session, payload)) = self.committed.pop() else { return };
        self.gone |= 1 << payload;
        if let Some(row) = self.rows.sessions.get_mut(&session) {
            self.missing.push((session, row.cursor.committed, payload));
            row.cursor.committed -= 1;
            row.floor = row.floor.min(row.cursor.committed);
        }
    }

    /// The cursor of a session is forgotten, unless the session has a newer connection.
    pub(crate) fn forget_cursor(&mut self, at: Attachment) {
        let row = self.rows.sessions.get(&at.session);
        if row.is_some_and(|row| row.cursor.epoch == at.epoch) && !self.forgotten.contains(&at.session) {
            self.forgotten.push(at.session);
        }
    }

    /// A session goes that was found to have no connection.
    pub(crate) fn expire(&self, session: u64, wiring: &Wiring) -> Batch {
        let mut committing = Committing::new(self, &[], wiring);
        while let Err(need) = committing.sessions.expire(0, &mut committing.effects) {
            if matches!(need, Need::Expired { .. }) {
                committing.sessions.put_expired(vec![session]);
            } else {
                committing.provide(need);
            }
        }
        committing.store.expired |= 1 << session;
        committing.finish()
    }

    /// Carries out a batch, of which the messages in some places are not accepted.
    pub(crate) fn commit(
        &self,
        requests: &[Request],
        refused: u8,
        wiring: &Wiring,
        sights: &mut Sights,
    ) -> Result<Batch, Broken> {
        let requests: Vec<Request> = requests.iter().map(|it| self.altered(it, wiring)).collect();
        let mut committing = Committing::new(self, &requests, wiring);
        let mut silent = Vec::new();
        for (place, request) in requests.iter().enumerate() {
            let is_refused = refused >> place & 1 == 1;
            committing.sessions.set_rules(if is_refused {
                Rules { message_bytes_max: 0, ..RULES }
            } else {
                RULES
            });
            let before = committing.effects.len();
            while let Err(need) = committing.sessions.handle(place, request, &mut committing.effects) {
                committing.provide(need);
            }
            if committing.effects.len() == before
                && let Request::Message { seat, number, .. } = request
            {
                silent.push((*seat, *number));
            }
            committing.check(before, request, self, sights)?;
        }
        let batch = committing.finish();
        for (seat, number) in silent {
            let is_known = batch.answers.iter().any(|answer| {
                matches!(answer, Answer::Committed { connection, committed }
                    if u128::from(*connection) == seat.ticket && number <= *committed)
            });
            if is_known { sights.known += 1 } else { sights.stale += 1 }
        }
        Ok(batch)
    }

    /// A request as the rules get it.
    fn altered(&self, request: &Request, wiring: &Wiring) -> Request {
        let mut request = request.clone();
        let epoch_of = |session| self.rows.sessions.get(&session).map_or(NO_EPOCH, |row| row.cursor.epoch);
        if let Request::Message { seat: Seat { attachment, .. }, .. } | Request::Confirm { attachment, .. } =
            &mut request
            && attachment.epoch == NO_EPOCH
        {
            attachment.epoch = epoch_of(attachment.session);
        }
        if let Request::Attach(attach) = &mut request
            && wiring.tokens == Tokens::Unchecked
            && let Some(resume) = &mut attach.resume
            && let Some(row) = self.rows.sessions.get(&resume.session)
        {
            resume.token = row.token;
        }
        request
    }
}

impl<'b> Committing<'b> {
    fn new(store: &Store, requests: &'b [Request], wiring: &'b Wiring) -> Self {
        let mut sums = store.rows.sums();
        if wiring.is_number_reused {
            sums = Sums { newest: store.rows.sessions.keys().max().copied().unwrap_or(0), ..sums };
        }
        Self {
            store: store.clone(),
            sessions: Sessions::new(RULES, sums),
            effects: Vec::new(),
            done: Done::default(),
            forgotten: Vec::new(),
            refusals: 0,
            requests,
            wiring,
        }
    }

    /// Looks something up.
    fn provide(&mut self, need: Need<'_>) {
        self.apply();
        let Need::Session(number) = need else { return self.store.rows.provide(need, &mut self.sessions) };
        let mut session = self.store.rows.session(number);
        if let Some(session) = &mut session {
            if self.wiring.is_crowded {
                // All places but one are taken, for good.
                let taken = (1..REFUSALS_MAX).map(|number| NEVER + number);
                session.refusals.extend(taken.map(|number| Refusal { number, code: RefusalCode::TooLarge }));
            }
            if self.store.forgotten.contains(&number)
                && let Some(committed) = self.named_cursor(number, session)
            {
                session.cursor.committed = committed;
                self.store.forgotten.retain(|it| *it != number);
            }
        }
        self.sessions.put_session(number, session);
    }

    /// Where nothing is known, whatever comes next is new: the cursor as the batch names it first.
    fn named_cursor(&self, number: u64, session: &Session) -> Option<u64> {
        let here = Attachment { session: number, epoch: session.cursor.epoch };
        let is_proof = |request: &Request| *request == Request::TokenUsed { attachment: here };
        let is_proven = self.requests.iter().any(is_proof);
        let is_valid = |token| token == session.token || !is_proven && Some(token) == session.previous;
        self.requests.iter().find_map(|request| {
            if let Request::Attach(attach) = request {
                let resume = attach.resume.filter(|it| it.session == number && is_valid(it.token))?;
                return Some(resume.acknowledged);
            }
            let Request::Message { seat, number, .. } = request else { return None };
            (seat.attachment == here).then_some(number - 1)
        })
    }

    /// Does what is to be done, and notes what comes of it.
    fn apply(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            if let Effect::Commit { place, .. } = effect {
                self.note_commit(place);
            } else if let Effect::Forget(number) = effect {
                self.forgotten.push(number);
            } else if let Effect::Refuse(..) = effect {
                self.refusals += 1;
                if self.wiring.refusing == Refusing::PassedOver {
                    continue;
                }
            }
            if let Some(write) = Rows::note(effect, &self.sessions, self.requests) {
                self.store.rows.apply(write, &mut self.done);
            }
        }
    }

    fn note_commit(&mut self, place: usize) {
        let Request::Message { seat, number, payload, .. } = &self.requests[place] else {
            panic!("not to be committed: {:?}", self.requests[place]);
        };
        self.store.missing.retain(|(session, lost, _)| (*session, *lost) != (seat.session(), *number));
        self.store.committed.push((seat.session(), payload[0]));
    }

    /// Looks at what the rules made of a request.
    fn check(
        &self,
        from: usize,
        request: &Request,
        before: &Store,
        sights: &mut Sights,
    ) -> Result<(), Broken> {
        for effect in self.effects.get(from..).unwrap_or_default() {
            match (effect, request) {
                (Effect::Hold(_), _) => sights.held += 1,
                (Effect::Refuse(..), _) => sights.refused += 1,
                (Effect::Loss(Loss::Acknowledged(count)), Request::Attach(attach)) => {
                    sights.lost += count;
                    let Some(resume) = attach.resume else { return Err(Broken::AcknowledgedIsLost) };
                    let is_missing = |number: u64| {
                        before.missing.iter().any(|it| (it.0, it.1) == (resume.session, number))
                    };
                    if !(resume.acknowledged + 1 - count..=resume.acknowledged).all(is_missing) {
                        return Err(Broken::AcknowledgedIsLost);
                    }
                }
                (Effect::Loss(_), _) => return Err(Broken::AcknowledgedIsLost),
                (Effect::Reply(Reply::Attached(attached)), Request::Attach(attach)) => {
                    let row = before.rows.sessions.get(&attached.session());
                    let shown = attach.resume.map(|resume| resume.token);
                    sights.lost_again +=
                        u64::from(row.is_some_and(|row| row.lost.is_some()) && attached.lost.is_some());
                    sights.token_before +=
                        u64::from(row.is_some_and(|row| row.previous.is_some() && row.previous == shown));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends the batch.
    fn finish(mut self) -> Batch {
        self.sessions.save(&mut self.effects);
        self.sessions.finish(&mut self.effects);
        self.apply();
        let mut replies = std::mem::take(&mut self.done.replies);
        self.spoil(&mut replies);
        let answers = replies.into_iter().filter_map(|reply| self.answer(reply)).collect();
        let Self { store: after, done, forgotten, refusals, .. } = self;
        Batch { after, answers, held: done.held, forgotten, refusals }
    }

    /// What is wrong on purpose in what is stored, and in what is said.
    fn spoil(&mut self, replies: &mut [Reply]) {
        let number_of = |request: &Request| {
            let Request::Message { number, .. } = request else { return None };
            Some(*number)
        };
        let last = self.requests.iter().rev().find_map(number_of);
        if self.wiring.forgetting == Forgetting::CursorAtConfirm {
            for request in self.requests {
                let Request::Confirm { attachment, floor } = *request else { continue };
                let row = self.store.rows.sessions.get(&attachment.session);
                if row.is_some_and(|row| row.cursor.committed == floor) {
                    self.store.forget_cursor(attachment);
                }
            }
        }
        for reply in replies {
            if let Reply::Committed { committed, .. } = reply
                && self.wiring.is_known_by_number
            {
                *committed = last.unwrap_or(*committed).min(*committed);
            }
            let Reply::Attached(attached) = reply else { continue };
            let asked = self.requests.iter().find_map(|request| {
                let Request::Attach(attach) = request else { return None };
                (attach.ticket == attached.seat.ticket).then_some(attach)
            });
            if let Some(asked) = asked {
                spoil_attach(&mut self.store.rows, asked, attached, self.wiring);
            }
        }
    }

    fn answer(&self, reply: Reply) -> Option<Answer> {
        Some(match reply {
            Reply::Attached(attached) => self.welcome(&attached),
            Reply::AttachRefused { ticket, why } => Answer::AttachRefused {
                connection: ticket as u8,
                is_bad_token: why == AttachRefusal::BadToken,
            },
            Reply::Committed { seat, committed } => {
                Answer::Committed { connection: seat.ticket as u8, committed }
            }
            Reply::Refused { seat, refusal } => {
                Answer::Refused { connection: seat.ticket as u8, number: refusal.number }
            }
            Reply::Ended { seat, why, .. } => {
                Answer::Ended { connection: seat.ticket as u8, is_gap: why == EndReason::Gap }
            }
            Reply::Orphaned { seat } => Answer::Ended { connection: seat.ticket as u8, is_gap: false },
            Reply::Detached { .. } | Reply::Expired { .. } => return None,
            Reply::Pushed { .. }
            | Reply::Loaded { .. }
            | Reply::PushRefused { .. }
            | Reply::Resting { .. }
            | Reply::Ready
            | Reply::Stopped { .. }
            | Reply::GoesOn => panic!("nobody has asked for this: {reply:?}"),
        })
    }

    fn welcome(&self, attached: &Attached) -> Answer {
        let numbers = attached.refused.iter().map(|refusal| refusal.number);
        let refused = numbers.filter(|number| *number < NEVER).fold(0, |all, number| all | 1 << number);
        let is_lost = |number: u64| attached.lost.is_some_and(|(from, to)| (from..=to).contains(&number));
        let missing = self.store.missing.iter();
        let lost = missing.filter(|(session, number, _)| *session == attached.session() && is_lost(*number));
        Answer::Attached {
            connection: attached.seat.ticket as u8,
            at: attached.seat.attachment,
            token: attached.token[0],
            committed: attached.committed,
            floor: attached.floor,
            refused,
            lost: lost.fold(0, |all, (_, _, payload)| all | 1 << payload),
            is_resumed: attached.outcome == pulsegate_sessions::Outcome::Resumed,
            replaced: attached.replaced.map(|ticket| ticket as u8),
        }
    }
}

/// What is wrong on purpose where a session is resumed.
fn spoil_attach(rows: &mut Rows, asked: &Attach, attached: &mut Attached, wiring: &Wiring) {
    let (Some(resume), Some(row)) = (asked.resume, rows.sessions.get_mut(&attached.session())) else {
        return;
    };
    if wiring.is_loss_told_once {
        row.lost = None;
    }
    match wiring.tokens {
        Tokens::Checked | Tokens::Unchecked => {}
        Tokens::NewestAndBefore if row.token != asked.token => row.previous = Some(row.token),
        Tokens::NewestAndBefore => {}
        Tokens::NewestAndShown => row.previous = Some(resume.token),
    }
    if matches!(wiring.tokens, Tokens::NewestAndBefore | Tokens::NewestAndShown) {
        (row.token, attached.token) = (asked.token, asked.token);
    }
}
