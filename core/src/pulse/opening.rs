//! The first bytes of a stream: raw, or the pulse protocol.

use crate::frame::{PREFACE, VERSION_PLACE};

/// What a stream begins with (PROTOCOL.md section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Too little to tell.
    Undecided,
    /// The preface, in our version: frames follow.
    Pulse,
    /// The preface in another version.
    OtherVersion,
    /// Something else.
    Raw,
}

/// Judges the first bytes of a stream.
#[must_use]
pub fn judge_opening(bytes: &[u8]) -> Opening {
    let differs =
        |place: usize| place != VERSION_PLACE && bytes.get(place).is_some_and(|byte| *byte != PREFACE[place]);
    if (0..PREFACE.len()).any(differs) {
        Opening::Raw
    } else if bytes.len() < PREFACE.len() {
        Opening::Undecided
    } else if bytes[VERSION_PLACE] == PREFACE[VERSION_PLACE] {
        Opening::Pulse
    } else {
        Opening::OtherVersion
    }
}
