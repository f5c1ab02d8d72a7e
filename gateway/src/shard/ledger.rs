//! A shard's side of a store: what this turn has gathered for it, and who waits until the store has room.

use crate::id::ConnectionId;
use crate::shard::held::Held;
use pulsegate_core::close::CloseReason;
use pulsegate_core::frame::Durability;
use pulsegate_store::{Request, Store, SubmitError};
use std::sync::Arc;

/// What may wait in a shard because the store's queue is full. Above it reading rests, of pulse connections
/// too: their windows bound each of them, but not the sum of very many.
const BACKLOG_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a request counts beside what it carries.
const REQUEST_BYTES: usize = 128;

/// Who commits what shards ask for, and answers through their mailboxes. The real one is [`Store`]; a simulation
/// brings its own.
pub(crate) trait Committing: std::fmt::Debug + Send + Sync {
    /// Takes as many requests as there is room for, from the front, without waiting. The others stay.
    fn submit_all(&self, requests: &mut Vec<Request>) -> Result<(), SubmitError>;
}

impl Committing for Store {
    fn submit_all(&self, requests: &mut Vec<Request>) -> Result<(), SubmitError> {
        Self::submit_all(self, requests)
    }
}

/// A shard's side of a store.
#[derive(Debug)]
pub(crate) struct Ledger {
    store: Arc<dyn Committing>,
    /// What "committed" means there.
    pub(crate) durability: Durability,
    /// In the order in which they happened.
    requests: Vec<Request>,
    bytes: usize,
    closed: bool,
    /// The store has stopped, perhaps for good.
    doubted: bool,
    /// Ends that the sink is to hear of after messages that the store has yet to forward.
    pub(crate) held: Held,
    pub(crate) paused: Vec<ConnectionId>,
}

impl Ledger {
    /// The side of this store.
    pub(crate) fn new(store: Arc<dyn Committing>, durability: Durability) -> Self {
        Self {
            store,
            durability,
            requests: Vec::new(),
            bytes: 0,
            closed: false,
            doubted: false,
            held: Held::default(),
            paused: Vec::new(),
        }
    }

    /// Asks for something at the end of the turn.
    pub(crate) fn request(&mut self, request: Request) {
        self.bytes += bytes(&request);
        self.requests.push(request);
    }

    /// Why nothing may be read for this store now, if nothing may.
    pub(crate) fn obstacle(&self) -> Option<CloseReason> {
        if self.closed {
            return Some(CloseReason::SinkFailed);
        }
        (self.bytes >= BACKLOG_BYTES_MAX).then_some(CloseReason::SinkStalled)
    }

    /// What the store has yet to take, in bytes.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
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

    /// Hands over what was gathered. Returns whether those who are held back may go on, or have to be ended.
    pub(crate) fn submit(&mut self) -> bool {
        if std::mem::take(&mut self.doubted) || !self.requests.is_empty() {
            match self.store.submit_all(&mut self.requests) {
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
        !self.paused.is_empty() && (self.closed || self.bytes <= BACKLOG_BYTES_MAX / 2)
    }
}

fn bytes(request: &Request) -> usize {
    let payload = match request {
        Request::Message { payload, .. }
        | Request::Push { payload, .. }
        | Request::Append { payload, .. } => payload.len(),
        Request::Attach(_)
        | Request::TokenUsed { .. }
        | Request::Confirm { .. }
        | Request::Load { .. }
        | Request::OutReceipt { .. }
        | Request::Detach { .. } => 0,
    };
    REQUEST_BYTES + payload
}
