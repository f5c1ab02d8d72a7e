//! The last frame of a connection of the pulse protocol, and what announces it (PROTOCOL.md section 8).

use super::dialogue::ms;
use super::speech::Speech;
use crate::close::{CloseReason, Retry};
use crate::frame::{Bye, Frame};
use crate::timer::Timer;

/// From this code on are the ends of which the peer can't be told (PROTOCOL.md section 8.3).
const UNTOLD_CODES: u16 = 90;

/// The last frame, unless the peer has said its own, or is gone.
pub(super) fn say_bye(
    speech: Option<&mut Speech>,
    reason: CloseReason,
    retry: Retry,
    transmit: &mut Vec<u8>,
) {
    if reason.code() >= UNTOLD_CODES {
        return;
    }
    let committed = match speech {
        Some(Speech::Pulse(dialogue)) => dialogue.conclude(transmit),
        Some(Speech::Opening(_) | Speech::Lines(_)) | None => Some(0),
    };
    if let Some(committed) = committed {
        append_bye(transmit, reason, retry, committed);
    }
}

/// Appends the BYE for this reason (PROTOCOL.md section 8.2), with when to come back.
pub fn append_bye(transmit: &mut Vec<u8>, reason: CloseReason, retry: Retry, committed: u64) {
    let (retry, delay_ms) = match retry {
        Retry::Never => (0, 0),
        Retry::Now => (1, 0),
        Retry::After(delay) => (2, ms(delay)),
    };
    Frame::Bye(Bye { code: reason.code(), retry, delay_ms, committed, text: reason.sentence() })
        .encode(transmit);
}

/// What a client is told before its connection's planned end.
pub(super) fn announcement(end: Timer) -> &'static str {
    if end == Timer::ShortDeadline {
        "the fixed deadline of this short connection is near"
    } else {
        "the connection will soon reach its maximum age"
    }
}
