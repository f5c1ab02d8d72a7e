//! The exchange of messages in three legs (PROTOCOL.md section 7): one sending half and one receiving half,
//! used in both directions by both sides, and the rule by which a committer judges what is new. Knows no
//! frames, no time and no store.
//!
//! Numbers begin at 1; 0 stands for "none yet". A session outlives its connections, and so do these.
//!
//! Modules, each using only those after it: `sending`, `receiving`, `cursor`.

mod cursor;
mod receiving;
mod sending;

pub use cursor::{Cursor, Verdict};
pub use receiving::Receiving;
pub use sending::{Sending, Unsettled};

/// What the peer has done that the exchange doesn't allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Violation {
    /// A message's number is not the next one.
    SequenceGap,
    /// More is in flight than the window allows.
    WindowExceeded,
    /// A receipt, refusal or confirmation for something that was never sent.
    NeverSent,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SequenceGap => "the number of a message is not the next one",
            Self::WindowExceeded => "more is in flight than the window allows",
            Self::NeverSent => "a receipt, refusal or confirmation names what was never sent",
        })
    }
}

impl std::error::Error for Violation {}

/// How much may be in flight, as the receiver has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Messages; at least 1.
    pub messages: u32,
    /// Bytes of payload; at least one largest message.
    pub bytes: u32,
}
