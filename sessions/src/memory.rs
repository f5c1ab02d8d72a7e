//! A backend without a disk: sessions in maps. What it commits can't fail, and is gone with it. Knows neither threads
//! nor time.

use crate::effect::{Effect, Holding, Loss, Need, Part};
use crate::number_hasher::NumberMap;
use crate::packed::Packed;
use crate::reply::{Outgoing, Reply};
use crate::request::Request;
use crate::rules::Rules;
use crate::seat::Source;
use crate::session::Session;
use crate::sessions::{Sessions, Sums, loaded};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};

/// How many sessions stay in use between batches. To unpack one is little work.
const IN_USE_MAX: usize = 64;

/// Sessions in memory.
#[derive(Debug)]
pub struct Memory {
    sessions: Sessions,
    kept: NumberMap<Packed>,
    sources: HashMap<Source, Holding>,
    /// Messages to clients, by session and number.
    outgoing: BTreeMap<(u64, u64), Box<[u8]>>,
    found: Found,
    /// Sessions may have expired.
    expiry_due: bool,
    uptime_ms: u64,
    effects: Vec<Effect>,
}

/// By what sessions are looked for.
#[derive(Debug, Default)]
struct Found {
    hasher: RandomState,
    /// By the hash of their client's id.
    clients: BTreeSet<(u64, u64)>,
    /// Of these, those with a connection.
    attached: BTreeSet<(u64, u64)>,
    /// Those without a connection, by when they expire.
    expiring: BTreeSet<(u64, u64)>,
    /// Of these, those that were never used: all, and by source.
    unused: BTreeSet<(u64, u64)>,
    unused_by_source: BTreeSet<(Source, u64, u64)>,
}

/// The outcome of a batch.
#[derive(Debug, Default)]
pub struct Committed {
    /// The replies.
    pub replies: Vec<Reply>,
    /// The places of the requests whose messages are forwarded, in their order, before the replies are sent.
    pub messages: Vec<usize>,
    /// The places of the messages that can't be judged yet.
    pub held: Vec<usize>,
    /// What was lost.
    pub losses: Vec<Loss>,
}

impl Memory {
    /// No session yet. The numbers of sessions begin above `above`; the second argument is the gateway's uptime.
    #[must_use]
    pub fn new(rules: Rules, above: u64, uptime_ms: u64) -> Self {
        let mut sessions = Sessions::new(rules, Sums { newest: above, ..Sums::default() });
        sessions.set_age(uptime_ms);
        Self {
            sessions,
            kept: NumberMap::default(),
            sources: HashMap::new(),
            outgoing: BTreeMap::new(),
            found: Found::default(),
            expiry_due: false,
            uptime_ms,
            effects: Vec::new(),
        }
    }

    /// This is the gateway's uptime now: sessions expire with the next batches.
    pub const fn handle_tick(&mut self, uptime_ms: u64) {
        self.uptime_ms = uptime_ms;
        self.sessions.set_age(uptime_ms);
        self.expiry_due = true;
    }

    /// Whether a batch is due though nobody asks for anything.
    #[must_use]
    pub const fn is_due(&self) -> bool {
        self.expiry_due
    }

    /// Carries out a batch.
    pub fn commit(&mut self, requests: &[Request]) -> Committed {
        let mut committed = Committed::default();
        for (place, request) in requests.iter().enumerate() {
            while let Err(need) = self.sessions.handle(place, request, &mut self.effects) {
                self.provide(need, requests, &mut committed);
            }
            self.apply(requests, &mut committed);
        }
        while self.expiry_due {
            match self.sessions.expire(self.uptime_ms, &mut self.effects) {
                Ok(has_more) => {
                    self.expiry_due = has_more;
                    break;
                }
                Err(need) => self.provide(need, requests, &mut committed),
            }
        }
        self.sessions.save(&mut self.effects);
        self.sessions.finish(&mut self.effects);
        self.apply(requests, &mut committed);
        if let Some(news) = self.sessions.take_news() {
            committed.replies.insert(0, news);
        }
        self.sessions.trim(IN_USE_MAX);
        committed
    }

    /// How many sessions there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.sessions.count()
    }

    /// How many of them have a connection.
    #[must_use]
    pub fn attached(&self) -> usize {
        self.found.attached.len()
    }

    /// Payload that waits for all clients together, in bytes.
    #[must_use]
    pub const fn outgoing_bytes(&self) -> u64 {
        self.sessions.outgoing_bytes()
    }

    /// A session as it is between batches.
    #[must_use]
    pub fn session(&self, number: u64) -> Option<Session> {
        self.kept.get(&number).map(Packed::unpack)
    }

    /// Loses a session, as a disk may: nobody is told.
    #[cfg(feature = "damage")]
    pub fn lose(&mut self, number: u64) -> Option<Session> {
        let lost = self.session(number)?;
        self.sessions.lose(number, &lost, &mut self.effects);
        self.apply(&[], &mut Committed::default());
        Some(lost)
    }

    /// Loses the last messages of a session, and which connection it has, as an older copy of a disk does: nobody is
    /// told. Returns what it was before and up to where its messages are committed now, if it has lost anything.
    #[cfg(feature = "damage")]
    pub fn set_back(&mut self, number: u64, messages: u64) -> Option<(Session, u64)> {
        let before = self.session(number).filter(|session| session.cursor.committed > 0 && messages > 0)?;
        let mut older = before.clone();
        older.cursor.committed = older.cursor.committed.saturating_sub(messages);
        // A copy from before a loss was found has nothing of what was lost.
        if let Some((first, last)) = older.lost
            && older.cursor.committed < last
        {
            older.cursor.committed = older.cursor.committed.min(first - 1);
            older.lost = None;
        }
        older.floor = older.floor.min(older.cursor.committed);
        older.refusals.retain(|refusal| refusal.number <= older.cursor.committed);
        older.connection = None;
        older.expires_ms = older.expires_ms.or(Some(u64::MAX));
        self.sessions.drop_row(number);
        self.found.remove(number, &before);
        self.found.insert(number, &older);
        self.kept.insert(number, Packed::new(&older));
        Some((before, older.cursor.committed))
    }

    fn apply(&mut self, requests: &[Request], committed: &mut Committed) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.apply_one(effect, requests, committed);
        }
        self.effects = effects;
    }

    fn apply_one(&mut self, effect: Effect, requests: &[Request], committed: &mut Committed) {
        match effect {
            Effect::Reply(reply) => committed.replies.push(reply),
            Effect::Commit { place, .. } | Effect::Append(place) => committed.messages.push(place),
            Effect::Hold(place) => committed.held.push(place),
            Effect::Loss(loss) => committed.losses.push(loss),
            // They are saved with their session.
            Effect::Refuse(..) | Effect::ForgetRefusals(..) => {}
            Effect::Push { place, session, number } => {
                if let Some(Request::Push { payload, .. }) = requests.get(place) {
                    self.outgoing.insert((session, number), payload.clone());
                }
            }
            Effect::Settle(session, to) => self.settle(session, to),
            Effect::Load { seat, above, bytes_max } => {
                let range = (seat.session(), above + 1)..=(seat.session(), u64::MAX);
                let outgoing = self.outgoing.range(range).map(|((_, number), payload)| {
                    Ok::<_, std::convert::Infallible>(Outgoing { number: *number, payload: payload.clone() })
                });
                match loaded(seat, bytes_max, outgoing) {
                    Ok(reply) => committed.replies.push(reply),
                    Err(never) => match never {},
                }
            }
            Effect::Save(number, part) => self.save(number, part),
            Effect::SaveSource(source, holding) => {
                if holding == Holding::default() {
                    self.sources.remove(&source);
                } else {
                    self.sources.insert(source, holding);
                }
            }
            Effect::Forget(number) => {
                if let Some(packed) = self.kept.remove(&number) {
                    self.found.remove(number, &packed.unpack());
                }
                self.settle(number, u64::MAX);
                self.shrink();
            }
        }
    }

    /// Frees the memory of sessions that are gone.
    fn shrink(&mut self) {
        const PLACES_MIN: usize = 1024;
        let places = self.kept.capacity();
        if places > PLACES_MIN && self.kept.len() < places / 4 {
            self.kept.shrink_to(2 * self.kept.len());
        }
    }

    fn settle(&mut self, session: u64, to: u64) {
        while let Some((&key, _)) = self.outgoing.range((session, 0)..=(session, to)).next() {
            self.outgoing.remove(&key);
        }
    }

    fn save(&mut self, number: u64, part: Part) {
        let Some(session) = self.sessions.session(number) else { return };
        let before = self.kept.insert(number, Packed::new(session));
        // Messages change nothing by which a session is looked for.
        if part >= Part::Connection {
            if let Some(before) = before {
                self.found.remove(number, &before.unpack());
            }
            self.found.insert(number, session);
        }
    }

    /// Looks something up.
    fn provide(&mut self, need: Need<'_>, requests: &[Request], committed: &mut Committed) {
        // What this batch has changed is looked for as well.
        self.sessions.save_for(&need, &mut self.effects);
        self.apply(requests, committed);
        match need {
            Need::Session(number) => self.sessions.put_session(number, self.session(number)),
            Need::Source(source) => {
                self.sessions.put_source(source, self.sources.get(&source).copied().unwrap_or_default());
            }
            Need::Attached { client, but } => {
                let mut attached = self.found.of(&self.found.attached, client).filter(|id| *id != but);
                let is_of = |id: u64| self.session(id).is_some_and(|session| *session.client == *client);
                let is_attached = attached.any(is_of);
                self.sessions.put_attached(is_attached);
            }
            Need::Newest(client) => {
                let is_of = |id: &u64| self.session(*id).is_some_and(|session| *session.client == *client);
                let newest = self.found.of(&self.found.clients, client).rev().find(is_of);
                self.sessions.put_newest(newest);
            }
            Need::Unused(source) => self.sessions.put_unused(self.found.unused(source)),
            Need::Outgoing { session, to } => {
                let payloads = self.outgoing.range((session, 0)..=(session, to));
                self.sessions.put_outgoing(payloads.map(|(_, payload)| payload.len() as u64).sum());
            }
            Need::Expired { now_ms, count } => {
                let expired = self.found.expiring.range(..=(now_ms, u64::MAX)).take(count);
                self.sessions.put_expired(expired.map(|(_, session)| *session).collect());
            }
        }
    }
}

impl Found {
    fn hash(&self, client: &str) -> u64 {
        self.hasher.hash_one(client)
    }

    /// The sessions whose client may be this one.
    fn of(&self, sessions: &BTreeSet<(u64, u64)>, client: &str) -> impl DoubleEndedIterator<Item = u64> {
        let hash = self.hash(client);
        sessions.range((hash, 0)..=(hash, u64::MAX)).map(|(_, session)| *session)
    }

    fn unused(&self, source: Option<Source>) -> Option<u64> {
        match source {
            None => self.unused.first().map(|(_, session)| *session),
            Some(source) => {
                let of_source = (source, 0, 0)..=(source, u64::MAX, u64::MAX);
                self.unused_by_source.range(of_source).next().map(|(_, _, session)| *session)
            }
        }
    }

    fn insert(&mut self, number: u64, session: &Session) {
        let hash = self.hash(&session.client);
        self.clients.insert((hash, number));
        match session.expires_ms {
            None => _ = self.attached.insert((hash, number)),
            Some(expires_ms) => {
                self.expiring.insert((expires_ms, number));
                if !session.is_used() {
                    self.unused.insert((expires_ms, number));
                    self.unused_by_source.insert((session.source, expires_ms, number));
                }
            }
        }
    }

    fn remove(&mut self, number: u64, session: &Session) {
        let hash = self.hash(&session.client);
        self.clients.remove(&(hash, number));
        match session.expires_ms {
            None => _ = self.attached.remove(&(hash, number)),
            Some(expires_ms) => {
                self.expiring.remove(&(expires_ms, number));
                self.unused.remove(&(expires_ms, number));
                self.unused_by_source.remove(&(session.source, expires_ms, number));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::Attach;
    use crate::request::Recipient;
    use crate::seat::{Moment, Seat};
    use pulsegate_core::policy::SecondConnection;
    use std::time::Duration;

    const RULES: Rules = Rules {
        keeps_messages: false,
        sessions_max: 1_000,
        sessions_of_source_max: 1_000,
        sessions_open: 1_000,
        sessions_few: 1_000,
        message_bytes_max: 1 << 20,
        quota_bytes: 1 << 30,
        quota_every_ms: 1_000,
        outgoing_messages_max: 1_000,
        outgoing_bytes_max: 1 << 20,
        outgoing_bytes_of_source: 1 << 30,
        outgoing_bytes_of_all: 1 << 30,
        kept_of_session: None,
        kept_of_source: None,
    };

    fn attach(ticket: u128) -> Request {
        Request::Attach(Box::new(Attach {
            ticket,
            client: "a".to_owned(),
            source: 1,
            resume: None,
            token: [7; 16],
            second: SecondConnection::Allow,
            message_bytes_max: 1 << 20,
            told_bytes_max: 1 << 20,
            now: Moment::default(),
            time_to_live: Duration::from_secs(1),
        }))
    }

    #[test]
    fn what_expired_sessions_have_left_is_given_back() {
        let mut memory = Memory::new(RULES, 7, 0);
        for session in 8..2_508 {
            let seat = Seat::new(session.into(), session, 1);
            let to = Recipient::Session(session);
            let Committed { replies, losses, .. } = memory.commit(&[
                attach(session.into()),
                Request::Push { ticket: 1, to, now_ms: 0, payload: vec![7; 100].into() },
                Request::Detach { seat, for_good: true, now: Moment::default() },
            ]);
            let Some(Reply::Attached(attached)) = replies.first() else {
                panic!("{replies:?}");
            };
            assert_eq!((attached.seat, replies.len(), losses.len()), (seat, 3, 0));
            if session == 1_007 {
                // As many as may be.
                memory.handle_tick(1_000);
                while memory.is_due() {
                    memory.commit(&[]);
                }
                assert_eq!((memory.count(), memory.attached(), memory.outgoing_bytes()), (0, 0, 0));
                assert!(memory.outgoing.is_empty() && memory.sources.is_empty());
                assert!(memory.found.clients.is_empty() && memory.found.expiring.is_empty());
                assert!(memory.found.unused.is_empty() && memory.found.unused_by_source.is_empty());
                assert!(memory.kept.is_empty() && memory.kept.capacity() < 1_024);
                return;
            }
        }
        panic!("never that many");
    }
}
