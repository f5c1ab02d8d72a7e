//! Where messages go. A sink lives on a thread of its own and gets what the shards have gathered, in batches;
//! the built-in `echo` and `discard` need no thread, a shard does them on the spot.

pub(crate) mod queue;

use crate::end::End;
use crate::handle::Handle;

/// A destination for messages and connection events, written by whoever embeds the gateway.
///
/// All calls come from one thread, in the order in which things happened on each connection. While a call
/// takes its time, the gateway continues; when too much waits, it stops reading from the connections
/// concerned, and their silence doesn't count. A sink that panics ends its connections with the reason
/// "sink failed".
pub trait Sink: Send + 'static {
    /// A connection was accepted.
    fn handle_opened(&mut self, connection: &Handle) {
        let _ = connection;
    }

    /// A message has arrived; within a session, once it is committed.
    fn handle_message(&mut self, connection: &Handle, message: &Message<'_>);

    /// The peer has closed its side and will send no more. What the sink still sends reaches it within the
    /// listener's half-close time. If this is not overridden, the connection ends as soon as everything is
    /// sent.
    fn handle_input_end(&mut self, connection: &Handle) {
        // Refused only by a gateway that is stopping, or so busy that the half-close deadline has to do it.
        let _ = connection.finish();
    }

    /// A connection has ended. Nothing more comes of it.
    fn handle_closed(&mut self, connection: &Handle, end: &End) {
        let _ = (connection, end);
    }

    /// Everything that was there for now has been handed over: a good moment to write out what was gathered.
    ///
    /// # Errors
    /// An error means that the sink can't go on: its connections end with the reason "sink failed".
    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message<'a> {
    /// Counts the messages of the connection, or of the session if it has one, from 1.
    pub number: u64,
    /// What it says.
    pub payload: &'a [u8],
    /// Who says it; `None` if it came as raw bytes.
    pub sender: Option<Sender<'a>>,
}

impl<'a> Message<'a> {
    /// A message that came as raw bytes. For tests of sinks; fields may come.
    #[doc(hidden)]
    #[must_use]
    pub const fn raw(number: u64, payload: &'a [u8]) -> Self {
        Self { number, payload, sender: None }
    }
}

/// A client of the pulse protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sender<'a> {
    /// Its id, as it says itself.
    pub client: &'a str,
    /// The number of its session.
    pub session: u64,
}

/// Why a sink can't go on.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// What a flush says that may succeed later: the sink keeps what it could not pass on.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct TryAgain {
    /// Why it could not.
    pub error: std::io::Error,
    /// Something has been passed on by this flush.
    pub moved: bool,
    /// How many messages the sink keeps, at most.
    pub messages: u64,
}
