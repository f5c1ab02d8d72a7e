//! The trait of whatever commits: it takes many requests at a time, and replies when they are durable. Must not know:
//! any storage.

use crate::figures::Figures;
use crate::request::Request;
use crate::seat::Moment;
use pulsegate_core::frame::Durability;
use std::fmt::{Debug, Display, Formatter};
use std::time::Duration;

/// A commit point: the owner of the connections submits [`Request`]s, and gets a [`Reply`](crate::Reply) to each once
/// it is as durable as [`Limits::durability`] says. How replies are delivered is agreed when a committer is made. They
/// are delivered on a thread of the committer's own; those of one session in the order of their requests.
///
/// No method blocks, except [`close`](Self::close).
pub trait Committer: Debug + Send + Sync {
    /// Takes as many requests as there is room for, from the front. What finds no room stays in `requests`.
    ///
    /// # Errors
    /// If not all of them were taken.
    fn submit_all(&self, requests: &mut Vec<Request>) -> Result<(), SubmitError>;

    /// Submits one request.
    ///
    /// # Errors
    /// If it was not taken.
    fn submit(&self, request: Request) -> Result<(), SubmitError> {
        self.submit_all(&mut vec![request])
    }

    /// Says what time it is, about once a second. Upon this happens what nobody asks for: sessions expire, and what
    /// failed is tried again.
    fn tick(&self, now: Moment);

    /// A client has not accepted a message. For committers that count that.
    fn note_unaccepted(&self) {}

    /// How often it has committed something so far. It never decreases, and asking is cheap. A connection that waits
    /// for room, or for a reply behind requests that have none, is not ended as long as this grows. If it is always 0,
    /// only replies and room count as progress.
    fn commits(&self) -> u64 {
        0
    }

    /// What it holds, as of its last commit.
    fn figures(&self) -> Figures {
        Figures::default()
    }

    /// What it promises and takes. Never changes.
    fn limits(&self) -> Limits;

    /// Takes nothing more and starts to end; [`close`](Self::close) waits for that.
    fn begin_close(&self);

    /// Whether it has ended, for whatever reason: it sends no more replies.
    fn has_ended(&self) -> bool;

    /// Takes nothing more, commits what was submitted, as far as it can be committed, and ends. Returns how many
    /// messages it has lost of those that nobody else keeps ([`Request::Append`]).
    ///
    /// # Errors
    /// The same number, if it has not ended `within` this time.
    fn close(&self, within: Duration) -> Result<u64, u64>;
}

/// What a committer promises and takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What a committed message survives.
    pub durability: Durability,
    /// The longest payload of a message, in either direction, in bytes. A client's longer one is refused.
    pub message_bytes_max: usize,
    /// The most that waits for it, in bytes, what it is working on included. The gateway lets a quarter of that wait in
    /// front of it, at least 256 KiB and at most 4 MiB per shard, before it stops reading.
    pub queue_bytes_max: usize,
}

/// Why requests were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// The queue is full. [`Reply::Ready`](crate::Reply::Ready) says when there is room again.
    Busy,
    /// The committer has been closed, or has failed for good.
    Closed,
}

impl Display for SubmitError {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Busy => "the store's queue is full",
            Self::Closed => "the store is closed",
        })
    }
}

impl std::error::Error for SubmitError {}
