//! What tests of the pulse protocol share: a client's HELLO, what lets it in, and frames as bytes. Must not know
//! what is tested.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use pulsegate_core::connection::{Admission, Attachment};
use pulsegate_core::exchange::Window;
use pulsegate_core::frame::{Durability, Frame, Hello, LifetimeKind, Refusals};

/// The HELLO of a client that begins a session.
pub(crate) fn hello() -> Hello<'static> {
    Hello {
        lifetime: LifetimeKind::Any,
        beat_min_ms: 0,
        beat_max_ms: 0,
        window: Window { messages: 10, bytes: 100_000 },
        message_bytes_max: 50_000,
        session: 0,
        token: [0; 16],
        committed: 0,
        acknowledged: 0,
        id: "a client of 16 B",
        refused: Refusals::default(),
    }
}

/// What lets in the client of a new session.
pub(crate) fn admission() -> Admission<'static> {
    Admission {
        attachment: Attachment { session: 7, epoch: 1 },
        resumed: false,
        durability: Durability::Synced,
        token: [8; 16],
        committed: 0,
        floor: 0,
        acknowledged: 0,
        is_behind: false,
        message_bytes_max: 0,
        lost: None,
        refused: Refusals::default(),
        server_time_ms: 1_700_000_000_000,
    }
}

pub(crate) fn bytes(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    bytes
}
