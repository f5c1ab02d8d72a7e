//! A shard's side of a committer: the requests of this turn, and the connections that wait until it has room.

use crate::id::ConnectionId;
use crate::origins::Origins;
use crate::shard::held::Held;
use crate::shard::resting::Resting;
use crate::shard::standstill::Standstill;
use pulsegate_core::close::CloseReason;
use pulsegate_core::frame::Durability;
use pulsegate_core::time::OwnInstant;
use pulsegate_sessions::{Attach, Committer, Limits, Request, SubmitError};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// All shards together let one byte in this many of a committer's queue wait in front of it. Above that nothing is
/// read, from pulse connections either: their windows bound each of them, but not the sum of very many.
pub const BACKLOG_PART: usize = 4;
/// A shard's part of that, in bytes: the least, so that a turn of many is not broken off, and the most.
pub const BACKLOG_BYTES: RangeInclusive<usize> = 256 * 1024..=4 * 1024 * 1024;
/// What a request counts beside what it carries.
const REQUEST_BYTES: usize = 128;

/// The sink of a store in memory takes nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stuck {
    /// When to look next for connections that have waited too long.
    pub(crate) check: OwnInstant,
    /// The time between two looks.
    pub(crate) every: Duration,
}

/// A shard's side of a store.
#[derive(Debug)]
pub(crate) struct Ledger {
    committer: Arc<dyn Committer>,
    /// What may wait here, in bytes, unless a test asks for less.
    pub(crate) backlog_bytes_max: usize,
    /// What "committed" means there.
    pub(crate) durability: Durability,
    /// Whose messages it forwards, if it is in memory.
    pub(crate) origins: Option<Arc<Origins>>,
    /// In the order in which they happened.
    requests: Vec<Request>,
    bytes: usize,
    /// The most that has waited when a turn ended, in tests.
    pub(crate) waited: usize,
    /// The store had no room for all of them.
    busy: bool,
    closed: bool,
    /// The store has stopped, perhaps for good.
    doubted: bool,
    /// How often the store has taken or answered something.
    moves: u64,
    /// How often it had committed something when that was last looked at.
    commits: u64,
    standstill: Standstill,
    /// When the store last made progress, for connections that wait for a reply.
    moved: OwnInstant,
    /// The store is in memory, and waits for a sink that takes nothing.
    pub(crate) stuck: Option<Stuck>,
    /// Ends to report to the sink after messages that the store has yet to forward.
    pub(crate) held: Held,
    pub(crate) paused: Vec<ConnectionId>,
    pub(crate) resting: Resting,
}

impl Ledger {
    /// The side of this committer, of one of so many shards.
    pub(crate) fn new(committer: Arc<dyn Committer>, origins: Option<Arc<Origins>>, shards: usize) -> Self {
        let Limits { durability, queue_bytes_max, .. } = committer.limits();
        let backlog = queue_bytes_max / BACKLOG_PART / shards.max(1);
        Self {
            committer,
            backlog_bytes_max: backlog.clamp(*BACKLOG_BYTES.start(), *BACKLOG_BYTES.end()),
            durability,
            origins,
            requests: Vec::new(),
            bytes: 0,
            waited: 0,
            busy: false,
            closed: false,
            doubted: false,
            moves: 0,
            commits: 0,
            standstill: Standstill::default(),
            moved: OwnInstant::ORIGIN,
            stuck: None,
            held: Held::default(),
            paused: Vec::new(),
            resting: Resting::default(),
        }
    }

    /// Asks for something at the end of the turn.
    pub(crate) fn request(&mut self, request: Request) {
        self.bytes += bytes(&request);
        self.requests.push(request);
    }

    /// A client has not accepted a message: the store counts it.
    pub(crate) fn note_unaccepted(&self) {
        self.committer.note_unaccepted();
    }

    /// Why nothing may be read for this store now, if nothing may.
    pub(crate) fn obstacle(&self) -> Option<CloseReason> {
        if self.closed {
            return Some(CloseReason::SinkFailed);
        }
        (self.bytes >= self.backlog_bytes_max).then_some(CloseReason::SinkStalled)
    }

    /// Whether the store has taken everything, or never will take anything.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.requests.is_empty()
    }

    /// Forgets what the store has not taken. Returns how many messages are lost by that: others are kept by their
    /// clients, who have no receipts.
    pub(crate) fn give_up(&mut self) -> u64 {
        self.bytes = 0;
        let requests = self.requests.drain(..);
        requests.filter(|request| matches!(request, Request::Append { .. })).count() as u64
    }

    /// What the store has yet to take, in bytes.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Since when it takes nothing although much waits for it.
    pub(crate) fn rests_since(&mut self, own: OwnInstant) -> Option<OwnInstant> {
        let is_full = self.bytes >= self.backlog_bytes_max || !self.paused.is_empty();
        // What it commits may make too little room for a word of it to its shards.
        let moves = self.moves + self.committer.commits();
        self.standstill.observe(is_full, moves, own)
    }

    /// Why it has no room for newcomers, whose wishes may overrun it, if it has none.
    pub(crate) fn obstacle_of_newcomers(
        &mut self,
        own: OwnInstant,
        sink_stall: Duration,
    ) -> Option<CloseReason> {
        if self.closed {
            return Some(CloseReason::SinkFailed);
        }
        let has_stalled = self.rests_since(own).is_some_and(|since| own.since(since) >= sink_stall);
        (has_stalled || self.bytes >= 2 * self.backlog_bytes_max).then_some(CloseReason::SinkStalled)
    }

    /// When the store has last moved, for those who wait for an answer. That it commits what brings no answer is found
    /// out only here: so who begins to wait has to ask, too.
    pub(crate) fn last_moved(&mut self, own: OwnInstant) -> OwnInstant {
        let commits = self.committer.commits();
        if std::mem::replace(&mut self.commits, commits) != commits {
            self.moved = own;
        }
        self.moved
    }

    /// The store has answered something.
    pub(crate) const fn handle_answer(&mut self, own: OwnInstant) {
        self.moves += 1;
        self.moved = own;
    }

    /// Whether its thread has died.
    pub(crate) const fn has_failed(&self) -> bool {
        self.closed
    }

    /// Makes sure that the end of the turn finds out whether its thread has died, though nothing may be left to hand
    /// over.
    pub(crate) const fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Hands over what was gathered. Returns whether the store, which had no room, has made some.
    pub(crate) fn submit(&mut self) -> bool {
        if cfg!(test) {
            self.waited = self.waited.max(self.bytes);
        }
        let was_busy = self.busy;
        let mut took = false;
        if std::mem::take(&mut self.doubted) || !self.requests.is_empty() {
            let before = self.requests.len();
            let outcome = self.committer.submit_all(&mut self.requests);
            took = self.requests.len() < before;
            self.moves += u64::from(took);
            self.busy = !self.requests.is_empty();
            match outcome {
                Ok(()) => self.bytes = 0,
                // The store says when there is room.
                Err(SubmitError::Busy) => self.bytes = self.requests.iter().map(bytes).sum(),
                Err(SubmitError::Closed) => {
                    self.closed = true;
                    self.requests.clear();
                    self.bytes = 0;
                }
            }
        }
        was_busy && took
    }

    /// Whether those who are held back may go on, or have to be ended.
    pub(crate) fn releases(&self) -> bool {
        !self.paused.is_empty() && (self.closed || self.bytes <= self.backlog_bytes_max / 2)
    }
}

/// What a request takes while it waits here, where nothing of its reply is held yet: the committer's queue counts that
/// too.
fn bytes(request: &Request) -> usize {
    let payload = match request {
        Request::Message { payload, .. }
        | Request::Push { payload, .. }
        | Request::Append { payload, .. } => payload.len(),
        Request::Attach(attach) => size_of::<Attach>() + attach.client.len(),
        Request::TokenUsed { .. }
        | Request::Confirm { .. }
        | Request::Load { .. }
        | Request::OutReceipt { .. }
        | Request::Detach { .. } => 0,
    };
    REQUEST_BYTES + payload
}
