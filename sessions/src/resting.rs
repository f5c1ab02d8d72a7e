//! Who has used up its share of what is kept, so that nothing more is read from it until some of that has gone. Few by
//! nature: each has a share. Knows no connection.

use crate::reply::Reply;
use crate::seat::Source;
use std::collections::BTreeSet;

/// A share that was used up is free again when no more than so many parts of [`PARTS`] of it are.
const FREE_PARTS: u64 = 7;
const PARTS: u64 = 8;

/// Those who rest.
#[derive(Debug, Default)]
pub(crate) struct Resting {
    sessions: BTreeSet<u64>,
    sources: BTreeSet<Source>,
    has_changed: bool,
}

impl Resting {
    /// Nobody rests, which has yet to be told.
    pub(crate) fn start_anew(&mut self) {
        *self = Self { has_changed: true, ..Self::default() };
    }

    /// A session has so many bytes of messages.
    pub(crate) fn handle_session(&mut self, session: u64, bytes: u64, share: Option<u64>) {
        change(&mut self.sessions, &mut self.has_changed, session, bytes, share);
    }

    /// A source has so many bytes of messages.
    pub(crate) fn handle_source(&mut self, source: Source, bytes: u64, share: Option<u64>) {
        change(&mut self.sources, &mut self.has_changed, source, bytes, share);
    }

    /// A session is gone. What it has left behind is still its source's.
    pub(crate) fn forget(&mut self, session: u64) {
        self.has_changed |= self.sessions.remove(&session);
    }

    /// What is to be told, if it has changed.
    pub(crate) fn take_news(&mut self) -> Option<Reply> {
        std::mem::take(&mut self.has_changed).then(|| Reply::Resting {
            sessions: self.sessions.iter().copied().collect(),
            sources: self.sources.iter().copied().collect(),
        })
    }
}

/// Without a share nobody rests.
fn change<T: Ord>(resting: &mut BTreeSet<T>, has_changed: &mut bool, who: T, bytes: u64, share: Option<u64>) {
    let is_news = match share {
        Some(share) if bytes >= share => resting.insert(who),
        Some(share) if bytes > share / PARTS * FREE_PARTS => false,
        Some(_) | None => resting.remove(&who),
    };
    *has_changed |= is_news;
}
