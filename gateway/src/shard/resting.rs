//! Those who have used up their share of what a store keeps: nothing more is read from them until the store has made
//! room, and the time doesn't count as silence. As with a sink that takes nothing, `sink_stall` bounds it.

use crate::id::ConnectionId;
use crate::peer::Source;
use crate::shard::Shard;
use crate::shard::io::Io;
use crate::shard::table::{Numbered, Table};
use pulsegate_core::connection::Attachment;
use pulsegate_core::frame::{NOTICE_GOES_ON, NOTICE_RESTS, PREFACE};
use pulsegate_core::lifetime::Pause;
use pulsegate_core::time::{Instant, Now};
use std::time::Duration;

const RESTS: &str =
    "nothing more is read: this session, or its address, has used up its share of what is kept";
const GOES_ON: &str = "receipts go on";

/// At most one line about each kind in this time.
const SILENCE_BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Of so many that have ended it's not worth asking.
const ENDED_MIN: usize = 64;

/// What a shard knows of them: few, since each has a share.
#[derive(Debug, Default)]
pub(crate) struct Resting {
    sessions: Box<[u64]>,
    sources: Box<[pulsegate_store::Source]>,
    /// The connections that are held back for it.
    held: Vec<ConnectionId>,
    /// When the log was last told.
    told: Option<Instant>,
}

impl Resting {
    /// How many are held back, and some who have ended.
    #[cfg(test)]
    pub(crate) const fn held(&self) -> usize {
        self.held.len()
    }

    const fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.sources.is_empty()
    }

    fn names(&self, source: Source, session: Option<u64>) -> bool {
        self.sources.contains(&source.number())
            || session.is_some_and(|session| self.sessions.contains(&session))
    }

    /// Notes one more that is held back. Those who end meanwhile are forgotten before they are more than the others.
    fn hold<T: Numbered>(&mut self, id: ConnectionId, table: &mut Table<T>) {
        self.held.push(id);
        if self.held.len() > 2 * table.len() + ENDED_MIN {
            self.held.retain(|id| table.find(*id).is_some());
        }
    }

    /// Nobody is held back any more.
    pub(crate) fn release_all(&mut self) {
        self.held.clear();
    }

    /// Says in the log, once in a while, who rests that did not before, and how many do.
    fn tell(&mut self, now: Instant, sessions: &[u64], sources: &[pulsegate_store::Source]) {
        let session = sessions.iter().find(|session| !self.sessions.contains(session));
        let source = sources.iter().find(|source| !self.sources.contains(source));
        let is_silent = self.told.is_some_and(|told| now.since(told) < SILENCE_BETWEEN_LINES);
        if is_silent || session.is_none() && source.is_none() {
            return;
        }
        self.told = Some(now);
        if let Some(session) = session {
            tracing::warn!(
                session,
                sessions = sessions.len(),
                "a session has used up its share of what the store keeps: nothing more is read from it until older \
                 messages have gone; retention_bytes_per_session says how much that is"
            );
        }
        if let Some(source) = source {
            tracing::warn!(
                address = %Source::from_number(*source),
                addresses = sources.len(),
                "an address has used up its share of what the store keeps: nothing more is read from its clients until \
                 older messages have gone; if all clients come through a proxy there, set retention_bytes_per_address to \
                 retention_bytes, which means no share"
            );
        }
    }
}

impl<I: Io> Shard<I> {
    /// The store names all who rest now.
    pub(crate) fn handle_resting(
        &mut self,
        now: Now,
        ledger: usize,
        sessions: Box<[u64]>,
        sources: Box<[pulsegate_store::Source]>,
    ) {
        let resting = &mut self.ledgers[ledger].resting;
        if self.index == 0 {
            resting.tell(now.instant, &sessions, &sources);
        }
        (resting.sessions, resting.sources) = (sessions, sources);
        for id in std::mem::take(&mut resting.held) {
            let Some(key) = self.table.find(id) else { continue };
            if self.rests(key) {
                self.ledgers[ledger].resting.held.push(id);
                continue;
            }
            self.act(key, now, |connection, policy, courier| {
                connection.resume(now, policy, Pause::Share);
                connection.notify(now, policy, NOTICE_GOES_ON, Duration::ZERO, GOES_ON, courier);
            });
            self.list(key);
            self.settle(key, now);
        }
    }

    /// How much may be read of a connection with regard to its share. Who has yet to show what it speaks, or to get its
    /// session, can't send a message by that.
    pub(crate) fn share_of(&mut self, key: u32) -> usize {
        if !self.rests(key) {
            return usize::MAX;
        }
        let Some(entry) = self.table.at(key) else { return 0 };
        let policy = &self.shared.doors[usize::from(entry.listener)].policy;
        if entry.connection.is_undecided(policy) {
            return PREFACE.len();
        }
        let is_attaching = entry.connection.is_pulse() && entry.connection.attachment().is_none();
        if is_attaching { usize::MAX } else { 0 }
    }

    /// Holds a connection back until the store has made room.
    pub(crate) fn hold_for_share(&mut self, key: u32, now: Now) {
        let Some(ledger) = self.ledger_of(key) else { return };
        let Some(entry) = self.table.at(key) else { return };
        let id = entry.id(key);
        self.ledgers[ledger].resting.hold(id, &mut self.table);
        self.act(key, now, |connection, policy, courier| {
            connection.pause(now, Pause::Share);
            connection.notify(now, policy, NOTICE_RESTS, Duration::ZERO, RESTS, courier);
        });
        self.settle(key, now);
    }

    fn rests(&mut self, key: u32) -> bool {
        let Some(ledger) = self.ledger_of(key).filter(|ledger| !self.ledgers[*ledger].resting.is_empty())
        else {
            return false;
        };
        let Some(entry) = self.table.at(key) else { return false };
        let session = entry.connection.attachment().map(|Attachment { session, .. }| session);
        self.ledgers[ledger].resting.names(entry.peer.source().network(), session)
    }
}
