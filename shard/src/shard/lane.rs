//! A shard's side of a sink: the batch of this turn, and the connections that wait until the sink has room.

use crate::id::ConnectionId;
use crate::shard::standstill::Standstill;
use crate::sink::queue::{Batch, SinkQueue};
use pulsegate_core::close::CloseReason;
use pulsegate_core::time::OwnInstant;
use std::sync::Arc;
use std::time::Duration;

/// A shard's side of one sink.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) queue: Arc<SinkQueue>,
    pub(crate) batch: Batch,
    pub(crate) paused: Vec<ConnectionId>,
    standstill: Standstill,
    /// The sink has failed, and those whose messages go there are being ended.
    purged: bool,
}

impl Lane {
    /// An empty lane to this queue.
    pub(crate) fn new(queue: Arc<SinkQueue>) -> Self {
        Self {
            queue,
            batch: Batch::default(),
            paused: Vec::new(),
            standstill: Standstill::default(),
            purged: false,
        }
    }

    /// Whether the sink has failed and this is the first time that it's asked.
    pub(crate) fn fails_now(&mut self) -> bool {
        self.queue.has_failed() && !std::mem::replace(&mut self.purged, true)
    }

    /// Why nothing may be read for this sink now, if nothing may.
    pub(crate) fn obstacle(&self) -> Option<CloseReason> {
        if self.queue.has_failed() {
            return Some(CloseReason::SinkFailed);
        }
        self.queue.is_full(self.batch.bytes()).then_some(CloseReason::SinkStalled)
    }

    /// Since when the sink has no room and takes nothing.
    pub(crate) fn rests_since(&mut self, own: OwnInstant) -> Option<OwnInstant> {
        let is_full = self.queue.is_full(self.batch.bytes()) || !self.paused.is_empty();
        self.standstill.observe(is_full, self.queue.taken(), own)
    }

    /// Why it has no room for newcomers, which may overrun it, if it has none.
    pub(crate) fn obstacle_of_newcomers(
        &mut self,
        own: OwnInstant,
        sink_stall: Duration,
    ) -> Option<CloseReason> {
        if self.queue.has_failed() {
            return Some(CloseReason::SinkFailed);
        }
        let has_stalled = self.rests_since(own).is_some_and(|since| own.since(since) >= sink_stall);
        (has_stalled || self.queue.is_overrun(self.batch.bytes())).then_some(CloseReason::SinkStalled)
    }
}
