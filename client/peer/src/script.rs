//! How the peer behaves. Knows no connection.

use bytes::Bytes;
use pulsegate_core::exchange::Window;
use pulsegate_core::frame::Welcome;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A goodbye (PROTOCOL.md section 8.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Why.
    pub code: u16,
    /// 0 never, 1 at once, 2 after the delay.
    pub retry: u8,
    /// In ms.
    pub delay_ms: u32,
    /// A sentence.
    pub text: String,
}

impl Answer {
    /// Without a delay or a text.
    #[must_use]
    pub const fn new(code: u16, retry: u8) -> Self {
        Self { code, retry, delay_ms: 0, text: String::new() }
    }
}

/// A change of a WELCOME before it goes out.
pub type Edit = Arc<dyn Fn(&mut Welcome<'_>) + Send + Sync>;

/// How the peer behaves; the default is well.
#[derive(Clone)]
pub struct Script {
    /// How often clients have to say something.
    pub beat_interval: Duration,
    /// What it says of its patience. It has more than that: silent clients are never ended.
    pub beat_timeout: Duration,
    /// What it takes.
    pub window: Window,
    /// The longest message that it takes, in bytes.
    pub message_bytes_max: u32,
    /// Messages that begin so are refused, with code 3 and the text "not wanted".
    pub refused: Option<Bytes>,
    /// Messages are received, and not committed until this is taken back.
    pub holds_receipts: bool,
    /// Each connection is cut after so many bytes, both directions together.
    pub cut_after: Option<Range<u64>>,
    /// Where the random numbers come from.
    pub random: fastrand::Rng,
    /// This many WELCOMEs are decided and never sent: the connection is cut instead.
    pub lost_welcomes: u32,
    /// HELLOs that are answered so, the next one first.
    pub answers: VecDeque<Answer>,
    /// Nothing is written any more.
    pub is_mute: bool,
    /// Nothing is read any more.
    pub is_deaf: bool,
    /// Changes WELCOMEs.
    pub edit: Option<Edit>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            beat_interval: Duration::from_secs(20),
            beat_timeout: Duration::from_secs(60),
            window: Window { messages: 64, bytes: 1 << 20 },
            message_bytes_max: 64 << 10,
            refused: None,
            holds_receipts: false,
            cut_after: None,
            random: fastrand::Rng::with_seed(1),
            lost_welcomes: 0,
            answers: VecDeque::new(),
            is_mute: false,
            is_deaf: false,
            edit: None,
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("cut_after", &self.cut_after).finish_non_exhaustive()
    }
}
