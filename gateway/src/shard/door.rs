//! What a shard knows of a listener: its rules, its limits, and the way to its sink.

use crate::id::ConnectionId;
use crate::limits::Limits;
use crate::sink::Ended;
use crate::sink::queue::{Batch, From, SinkQueue};
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::{Event, Output};
use pulsegate_core::policy::Policy;
use std::sync::Arc;

/// One listener, as all shards share it.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) policy: Policy,
    pub(crate) limits: Limits,
    pub(crate) delivery: Delivery,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It is counted and forgotten.
    Discard,
    /// It goes back to its sender, with this line end.
    Echo(&'static [u8]),
    /// It goes to the sink with this place in the shard's lanes.
    Lane(usize),
}

/// A shard's side of one sink: what this turn has gathered, and who waits until the sink has room.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) queue: Arc<SinkQueue>,
    pub(crate) batch: Batch,
    pub(crate) paused: Vec<ConnectionId>,
}

impl Lane {
    /// An empty lane to this queue.
    pub(crate) fn new(queue: Arc<SinkQueue>) -> Self {
        Self { queue, batch: Batch::default(), paused: Vec::new() }
    }

    /// Why nothing may be read for this sink now, if nothing may.
    pub(crate) fn obstacle(&self) -> Option<CloseReason> {
        if self.queue.has_failed() {
            return Some(CloseReason::SinkFailed);
        }
        self.queue.is_full(self.batch.bytes()).then_some(CloseReason::SinkStalled)
    }
}

/// Carries one connection's outputs to where they belong, during one call.
pub(crate) struct Courier<'a> {
    pub(crate) transmit: &'a mut Vec<u8>,
    pub(crate) delivery: Delivery,
    pub(crate) lanes: &'a mut [Lane],
    pub(crate) from: From,
    /// Output that waits already, in bytes.
    pub(crate) waiting: usize,
    pub(crate) after: After,
}

/// What a call has left for the shard to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct After {
    /// Messages delivered.
    pub(crate) messages: u64,
    /// The peer's side ended, and nobody but the shard can say that nothing more is to be sent.
    pub(crate) finish: bool,
    /// The connection ended.
    pub(crate) closed: Option<CloseReason>,
}

impl Courier<'_> {
    /// Tells the sink, if it is one that listens, that a connection was accepted.
    pub(crate) fn announce(&mut self) {
        if let Delivery::Lane(lane) = self.delivery {
            self.lanes[lane].batch.push_opened(self.from);
        }
    }

    /// Tells the sink that the connection has ended.
    pub(crate) fn report(&mut self, ended: Ended) {
        if let Delivery::Lane(lane) = self.delivery {
            self.lanes[lane].batch.push_closed(self.from, ended);
        }
    }
}

impl Output for Courier<'_> {
    fn transmit(&mut self) -> &mut Vec<u8> {
        self.transmit
    }

    fn waiting(&self) -> usize {
        self.waiting
    }

    fn handle_event(&mut self, event: Event<'_>) {
        match event {
            Event::Hello(_)
            | Event::TokenUsed
            | Event::Settled(_)
            | Event::Refused { .. }
            | Event::Confirmed(_)
            | Event::Detached { .. } => {}
            Event::Message { number, payload } => {
                self.after.messages += 1;
                match self.delivery {
                    Delivery::Discard => {}
                    Delivery::Echo(line_end) => {
                        self.transmit.extend_from_slice(payload);
                        self.transmit.extend_from_slice(line_end);
                    }
                    Delivery::Lane(lane) => self.lanes[lane].batch.push_message(self.from, number, payload),
                }
            }
            Event::InputEnded => match self.delivery {
                Delivery::Discard | Delivery::Echo(_) => self.after.finish = true,
                Delivery::Lane(lane) => self.lanes[lane].batch.push_input_end(self.from),
            },
            Event::Closed(reason) => self.after.closed = Some(reason),
        }
    }
}
