//! What commits: asked for many things at a time, and answering when they are durable. Knows no storage.

use crate::figures::Figures;
use crate::request::Request;
use crate::seat::Moment;
use pulsegate_core::frame::Durability;
use std::fmt::{Debug, Display, Formatter};
use std::time::Duration;

/// A commit point: whoever owns connections hands [`Request`]s in, and hears of each what became of it by a
/// [`Reply`](crate::Reply), which is given only once it is as durable as [`Limits::durability`] says. How replies are
/// delivered is agreed when a committer is made; it is done on a thread of the committer's own, in the order of the
/// requests as far as they are of one session.
///
/// Nothing of this waits but [`close`](Self::close).
pub trait Committer: Debug + Send + Sync {
    /// Takes as many requests as there is room for, from the front. What finds no room stays in `requests`.
    ///
    /// # Errors
    /// If not all of them were taken.
    fn submit_all(&self, requests: &mut Vec<Request>) -> Result<(), SubmitError>;

    /// Asks for one thing.
    ///
    /// # Errors
    /// If it was not taken.
    fn submit(&self, request: Request) -> Result<(), SubmitError> {
        self.submit_all(&mut vec![request])
    }

    /// Says what time it is: once a second, or so. Whatever nobody asks for happens by this: sessions expire, and
    /// what failed is tried again.
    fn tick(&self, now: Moment);

    /// A client has not accepted a message to it: for those who count such things.
    fn note_unaccepted(&self) {}

    /// How often it has committed something so far. It only grows, and asking is cheap. Who waits for an answer behind
    /// requests that bring none, or for room, is not ended as long as this grows. With 0 for good, only replies and
    /// room count.
    fn commits(&self) -> u64 {
        0
    }

    /// What it holds, as of its last commit.
    fn figures(&self) -> Figures {
        Figures::default()
    }

    /// What it promises and takes. Never changes.
    fn limits(&self) -> Limits;

    /// Takes nothing more and begins to end; [`close`](Self::close) waits for that.
    fn begin_close(&self);

    /// Whether it has ended, by whatever cause: it answers nothing any more.
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
    /// front of it, at least 256 KiB and at most 4 MiB for each shard, before it rests from reading.
    pub queue_bytes_max: usize,
}

/// Why requests were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// As much waits as may. [`Reply::Ready`](crate::Reply::Ready) says when there is room again.
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
