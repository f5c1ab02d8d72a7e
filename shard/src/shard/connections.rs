//! The connections of a shard: their table, and the wheel of their deadlines.

use crate::id::ConnectionId;
use crate::shard::entry::Entry;
use crate::shard::table::Table;
use pulsegate_core::time::Instant;
use pulsegate_core::wheel::Wheel;

/// The connections of a shard; `S` is a connection's socket.
#[derive(Debug)]
pub(crate) struct Connections<S> {
    pub(crate) table: Table<Entry<S>>,
    wheel: Wheel,
}

impl<S> Connections<S> {
    /// None.
    pub(crate) const fn new(now: Instant) -> Self {
        Self { table: Table::new(), wheel: Wheel::new(now) }
    }

    /// Puts one more in the table; its deadline is yet to be scheduled.
    pub(crate) fn insert(&mut self, entry: Entry<S>) -> ConnectionId {
        let number = entry.number;
        ConnectionId::new(self.table.insert(entry), number)
    }

    /// The one with this id, if it is still there.
    pub(crate) fn get(&mut self, id: ConnectionId) -> Option<&mut Entry<S>> {
        self.table.get(id)
    }

    /// Takes this one out.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Entry<S>> {
        self.table.get(id)?;
        self.wheel.remove(&mut self.table, id.key());
        self.table.remove(id.key())
    }

    /// This one, which is there, has its next deadline then.
    pub(crate) fn schedule(&mut self, id: ConnectionId, deadline: Instant) {
        self.wheel.file(&mut self.table, id.key(), deadline);
    }

    /// The next whose deadline may have come, no longer scheduled.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<ConnectionId> {
        let key = self.wheel.poll(&mut self.table, now)?;
        self.table.id_at(key)
    }

    /// When there may be one.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.wheel.next_wake()
    }
}
