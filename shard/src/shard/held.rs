//! Ends of connections that their sink is not told of yet: messages of theirs are still with the committer of one
//! ledger, which may die with them.

use crate::end::End;
use crate::id::ConnectionId;
use crate::shard::lane::Lane;
use crate::sink::queue::From;
use std::collections::HashMap;

/// An end, and the sink that is to be told.
#[derive(Clone, Debug)]
pub struct HeldEnd {
    /// The place of the sink.
    pub lane: usize,
    /// Whose end it is.
    pub from: From,
    /// Its record.
    pub end: End,
}

impl HeldEnd {
    /// Tells the sink.
    pub(crate) fn report(self, lanes: &mut [Lane]) {
        lanes[self.lane].batch.push_closed(self.from, self.end);
    }
}

/// The ends that are held back, at most one for each connection that has left its session and whose store has not
/// said so yet.
#[derive(Debug, Default)]
pub(crate) struct Held(HashMap<ConnectionId, HeldEnd>);

impl Held {
    /// Holds an end back.
    pub(crate) fn insert(&mut self, end: HeldEnd) {
        self.0.insert(end.from.id, end);
    }

    /// The messages of this connection have gone before.
    pub(crate) fn release(&mut self, id: ConnectionId, lanes: &mut [Lane]) {
        if let Some(end) = self.0.remove(&id) {
            end.report(lanes);
        }
    }

    /// Nothing more will come: they are all told now.
    pub(crate) fn release_all(&mut self, lanes: &mut [Lane]) {
        for (_, end) in self.0.drain() {
            end.report(lanes);
        }
    }

    /// Those that are still held back, to be reported when their store has ended.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = HeldEnd> {
        self.0.drain().map(|(_, end)| end)
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
