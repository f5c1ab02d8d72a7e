//! A backend as a database is one: of a session it writes only the part that has changed, refusals and messages to clients
//! are rows of their own, and what it is asked for it looks up when it is asked. A plain value. Judges nothing.

use pulsegate_sessions::{
    Effect, Holding, Loss, Need, Outgoing, Part, Refusal, RefusalCode, Reply, Request, Session, Sessions,
    Source, Sums, loaded,
};
use std::collections::BTreeMap;
use std::convert::Infallible;

/// What is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Rows {
    /// Without their refusals.
    pub(crate) sessions: BTreeMap<u64, Session>,
    /// By session and number.
    pub(crate) refusals: BTreeMap<(u64, u64), RefusalCode>,
    /// By session and number.
    pub(crate) outgoing: BTreeMap<(u64, u64), Box<[u8]>>,
    pub(crate) sources: BTreeMap<Source, Holding>,
    /// The highest number that a session ever had.
    pub(crate) newest: u64,
}

/// An effect, with what it is about: so it can be applied later.
#[derive(Debug)]
pub(crate) enum Write {
    Save(u64, Part, Box<Session>),
    Push((u64, u64), Box<[u8]>),
    Effect(Effect),
}

/// What a batch comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) replies: Vec<Reply>,
    /// The places of the messages that are committed.
    pub(crate) messages: Vec<usize>,
    /// The places of those that can't be judged yet.
    pub(crate) held: Vec<usize>,
    pub(crate) losses: Vec<Loss>,
    /// What is to be said before all that.
    pub(crate) news: Option<Reply>,
}

impl Rows {
    /// What is known of all sessions from the start.
    pub(crate) fn sums(&self) -> Sums {
        let outgoing_bytes = self.outgoing.values().map(|payload| payload.len() as u64).sum();
        Sums { sessions: self.sessions.len() as u64, newest: self.newest, outgoing_bytes }
    }

    /// A session as it is stored.
    pub(crate) fn session(&self, number: u64) -> Option<Session> {
        let mut session = self.sessions.get(&number)?.clone();
        let refusals = self.refusals.range((number, 0)..=(number, u64::MAX));
        session.refusals = refusals.map(|(&(_, number), &code)| Refusal { number, code }).collect();
        Some(session)
    }

    /// Notes what an effect is about.
    pub(crate) fn note(effect: Effect, sessions: &Sessions, requests: &[Request]) -> Option<Write> {
        if let Effect::Save(number, part) = effect {
            return Some(Write::Save(number, part, sessions.session(number)?.clone().into()));
        }
        if let Effect::Push { place, session, number } = effect {
            let Some(Request::Push { payload, .. }) = requests.get(place) else {
                panic!("nothing is to be pushed at {place}");
            };
            return Some(Write::Push((session, number), payload.clone()));
        }
        Some(Write::Effect(effect))
    }

    /// Does what is to be done.
    pub(crate) fn apply(&mut self, write: Write, done: &mut Done) {
        match write {
            Write::Save(number, part, session) => self.save(number, part, &session),
            Write::Push(key, payload) => assert_eq!(self.outgoing.insert(key, payload), None, "once"),
            Write::Effect(Effect::Reply(reply)) => done.replies.push(reply),
            Write::Effect(Effect::Commit { place, .. } | Effect::Append(place)) => done.messages.push(place),
            Write::Effect(Effect::Hold(place)) => done.held.push(place),
            Write::Effect(Effect::Loss(loss)) => done.losses.push(loss),
            Write::Effect(Effect::Refuse(session, Refusal { number, code })) => {
                assert_eq!(self.refusals.insert((session, number), code), None, "refused once");
            }
            Write::Effect(Effect::ForgetRefusals(session, to)) => {
                self.refusals.retain(|(of, number), _| *of != session || *number > to);
            }
            Write::Effect(Effect::Settle(session, to)) => {
                self.outgoing.retain(|(of, number), _| *of != session || *number > to);
            }
            Write::Effect(Effect::Load { seat, above, bytes_max }) => {
                let range = self.outgoing.range((seat.session(), above + 1)..=(seat.session(), u64::MAX));
                let outgoing = range.map(|((_, number), payload)| {
                    Ok::<_, Infallible>(Outgoing { number: *number, payload: payload.clone() })
                });
                done.replies.extend(loaded(seat, bytes_max, outgoing));
            }
            Write::Effect(Effect::SaveSource(source, holding)) => {
                self.sources.insert(source, holding);
                self.sources.retain(|_, holding| *holding != Holding::default());
            }
            Write::Effect(Effect::Forget(number)) => {
                self.sessions.remove(&number);
                self.refusals.retain(|(of, _), _| *of != number);
                self.outgoing.retain(|(of, _), _| *of != number);
            }
            Write::Effect(Effect::Save(..) | Effect::Push { .. }) => panic!("what it is about is not noted"),
        }
    }

    fn save(&mut self, number: u64, part: Part, session: &Session) {
        let row = match part {
            Part::New => self.sessions.entry(number).or_default(),
            Part::Cursor | Part::Exchange | Part::Connection => {
                self.sessions.get_mut(&number).expect("a session that was saved")
            }
        };
        row.cursor.committed = session.cursor.committed;
        row.floor = session.floor;
        (row.quota_from_ms, row.quota_bytes) = (session.quota_from_ms, session.quota_bytes);
        (row.last_seen_ms, row.message_bytes) = (session.last_seen_ms, session.message_bytes);
        if part >= Part::Exchange {
            (row.out_last, row.out_committed) = (session.out_last, session.out_committed);
            row.out_bytes = session.out_bytes;
            (row.previous, row.lost) = (session.previous, session.lost);
        }
        if part >= Part::Connection {
            (row.token, row.cursor.epoch) = (session.token, session.cursor.epoch);
            (row.connection, row.source) = (session.connection, session.source);
            (row.ttl_ms, row.expires_ms) = (session.ttl_ms, session.expires_ms);
            row.message_bytes_max = session.message_bytes_max;
            row.told_bytes_max = session.told_bytes_max;
        }
        if part == Part::New {
            (row.client, row.created_ms) = (session.client.clone(), session.created_ms);
            self.newest = self.newest.max(number);
        }
    }

    /// Looks something up.
    pub(crate) fn provide(&self, need: Need<'_>, sessions: &mut Sessions) {
        match need {
            Need::Session(number) => sessions.put_session(number, self.session(number)),
            Need::Source(source) => {
                sessions.put_source(source, self.sources.get(&source).copied().unwrap_or_default());
            }
            Need::Attached { client, but } => {
                let is_attached = |row: &Session| *row.client == *client && row.expires_ms.is_none();
                let mut others = self.sessions.iter().filter(|(number, _)| **number != but);
                sessions.put_attached(others.any(|(_, row)| is_attached(row)));
            }
            Need::Newest(client) => {
                let mut newest_first = self.sessions.iter().rev();
                let newest = newest_first.find(|(_, row)| *row.client == *client);
                sessions.put_newest(newest.map(|(number, _)| *number));
            }
            Need::Unused(source) => {
                let is_of = |row: &Session| source.is_none_or(|source| row.source == source);
                let unused = self.sessions.iter().filter(|(_, row)| !row.is_used() && is_of(row));
                let oldest = unused.filter_map(|(number, row)| Some((row.expires_ms?, *number))).min();
                sessions.put_unused(oldest.map(|(_, number)| number));
            }
            Need::Outgoing { session, to } => {
                let payloads = self.outgoing.range((session, 0)..=(session, to));
                sessions.put_outgoing(payloads.map(|(_, payload)| payload.len() as u64).sum());
            }
            Need::Expired { now_ms, count } => {
                let over = self.sessions.iter().filter_map(|(number, row)| Some((row.expires_ms?, *number)));
                let mut over: Vec<_> = over.filter(|(expires_ms, _)| *expires_ms <= now_ms).collect();
                over.sort_unstable();
                over.truncate(count);
                sessions.put_expired(over.into_iter().map(|(_, number)| number).collect());
            }
        }
    }
}
