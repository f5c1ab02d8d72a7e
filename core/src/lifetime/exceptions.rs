//! What most connections never have in their lifetime, in a box of its own.

use crate::time::Instant;

/// What an idle connection has no use for; it costs it one empty pointer.
#[derive(Debug)]
pub(super) enum Extra {
    Open(Exceptions),
    Ended(Closing),
}

/// Each connection that ends makes one, and so does each answer that isn't taken at once.
const _: () = assert!(size_of::<Extra>() <= 128);

/// Instants of a connection that lives.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Exceptions {
    pub(super) read_deadline: Option<Instant>,
    pub(super) write_deadline: Option<Instant>,
    pub(super) sink_paused: Option<SinkPause>,
    /// Own time.
    pub(super) output_paused: Option<Instant>,
    /// The last progress of waiting output, in own time.
    pub(super) output_moved: Option<Instant>,
    /// Own time.
    pub(super) input_ended: Option<Instant>,
    /// Until when the received bytes are enough, in own time.
    pub(super) rate_until: Option<Instant>,
}

/// A phase after the end.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) until: Instant,
    /// Bytes thrown away.
    pub(super) discarded: usize,
}

/// Reading rests until there is room for what the peer sends. Own time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SinkPause {
    /// Since when there is none, as far as that counts.
    pub(super) since: Instant,
    /// When the peer was last told that we live though we don't read, or when that began.
    pub(super) assured: Instant,
    /// The sink may take messages, but no more of this peer's.
    pub(super) for_share: bool,
}

impl Exceptions {
    /// Whether reading is stopped.
    pub(super) const fn is_paused(&self) -> bool {
        self.sink_paused.is_some() || self.output_paused.is_some()
    }
}
