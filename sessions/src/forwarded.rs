//! What a committer in memory forwards: committed messages. Must not know: where they go.

use crate::request::Request;
use crate::seat::Seat;

/// A committed message that a committer in memory forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// That of the [`Request::Message`].
    pub seat: Seat,
    /// Its number.
    pub number: u64,
    /// When it arrived, in milliseconds since 1970-01-01 UTC.
    pub received_at_ms: u64,
    /// What it says.
    pub payload: Box<[u8]>,
}

impl Forwarded {
    /// Takes the message out of a request, which has no more use then.
    #[must_use]
    pub fn take_from(request: &mut Request) -> Option<Self> {
        let Request::Message { seat, number, received_at_ms, payload } = request else { return None };
        let payload = std::mem::take(payload);
        Some(Self { seat: *seat, number: *number, received_at_ms: *received_at_ms, payload })
    }
}

/// Nothing takes the messages of a committer in memory any more, and nothing ever will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotForwarded;

impl std::fmt::Display for NotForwarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("what takes its messages has failed")
    }
}

impl std::error::Error for NotForwarded {}
