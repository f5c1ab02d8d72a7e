//! What most connections never have in their lifetime, in a box of its own.

use crate::time::{Instant, OwnInstant};

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
    pub(super) output_paused: Option<OwnInstant>,
    /// The last progress of waiting output.
    pub(super) output_moved: Option<OwnInstant>,
    pub(super) input_ended: Option<OwnInstant>,
    /// Until when the received bytes are enough.
    pub(super) rate_until: Option<OwnInstant>,
}

/// A phase after the end.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) until: Instant,
    /// Bytes thrown away.
    pub(super) discarded: usize,
}

/// Reading rests until there is room for what the peer sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SinkPause {
    /// Since when there is none, as far as that counts.
    pub(super) since: OwnInstant,
    /// When the peer was last told that we live though we don't read, or when that began.
    pub(super) assured: OwnInstant,
    /// The sink may take messages, but no more of this peer's.
    pub(super) for_share: bool,
}

impl Exceptions {
    /// Whether reading is stopped.
    pub(super) const fn is_paused(&self) -> bool {
        self.sink_paused.is_some() || self.output_paused.is_some()
    }
}
