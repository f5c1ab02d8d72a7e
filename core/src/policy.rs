//! What a listener promises and demands: the rules that a connection is held to. Plain data; whoever reads
//! a configuration sees to it that the rules can be kept before the first connection meets them.

mod pulse;

pub use pulse::{Beats, Protocol, PulsePolicy, SecondConnection};

use std::time::Duration;

/// How long a connection may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifetimePolicy {
    /// A fixed deadline counted from accept; nothing that the client sends moves it.
    Short {
        /// From accept to the end.
        deadline: Duration,
    },
    /// Kept while heartbeats arrive.
    Long {
        /// The longest silence.
        heartbeat_timeout: Duration,
        /// From accept to the end, heartbeats or not.
        max_age: Duration,
    },
}

/// What proves the peer alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// Any received bytes.
    Any,
    /// Only this line, without its line end. It is a heartbeat and not a message: the sink doesn't see it.
    Line(Box<[u8]>),
}

/// How received bytes become messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Whatever one read returns is a message; the boundaries mean nothing.
    Chunks,
    /// A message is a line; `\n` or `\r\n` ends it and is not part of it. What stands after the last line
    /// end when the peer closes its side is not a message.
    Lines,
}

/// A floor under what the peer sends.
///
/// Each received byte earns `1 / bytes_per_second` of time; the credit never exceeds `grace`, which is also
/// what a new connection starts with. When the credit is used up, the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinimumRate {
    /// At least 1.
    pub bytes_per_second: u64,
    /// How long the peer may send nothing at all after it sent enough.
    pub grace: Duration,
}

/// The rules of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What is spoken.
    pub protocol: Protocol,
    /// The rules of the pulse protocol.
    pub pulse: PulsePolicy,
    /// Short or long.
    pub lifetime: LifetimePolicy,
    /// From accept to the first complete message.
    pub first_message: Duration,
    /// What moves a long connection's deadline.
    pub heartbeat: Heartbeat,
    /// How bytes become messages.
    pub framing: Framing,
    /// The longest message, in bytes.
    pub message_bytes_max: usize,
    /// The most that waits to be sent to one peer, in bytes.
    pub output_bytes_max: usize,
    /// How long what we send may make no progress.
    pub write_stall: Duration,
    /// From the peer's end of input to the end of the connection, while there is something left to send.
    pub half_close: Duration,
    /// How long reading may rest because the sink takes nothing, or because the peer takes less than half of what its
    /// messages make us send.
    pub sink_stall: Duration,
    /// The least that the peer has to send, if there is a least.
    pub minimum_rate: Option<MinimumRate>,
    /// A line sent for each complete message; `{n}` stands for the message's number.
    pub reply: Option<Box<str>>,
    /// A line sent before the gateway ends a connection; `{reason}` and `{retry}` stand for why, and
    /// whether to come back.
    pub farewell: Option<Box<str>>,
    /// From the decision to close until what can't be sent by then is given up.
    pub flush: Duration,
    /// From the last byte we sent until the socket is closed, if the peer doesn't close it before.
    pub linger: Duration,
    /// The most that is read and thrown away while lingering, in bytes.
    pub linger_bytes_max: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            pulse: PulsePolicy::default(),
            lifetime: LifetimePolicy::Long {
                heartbeat_timeout: Duration::from_secs(5),
                max_age: Duration::from_secs(24 * 3600),
            },
            first_message: Duration::from_secs(10),
            heartbeat: Heartbeat::Any,
            framing: Framing::Chunks,
            message_bytes_max: 64 * 1024,
            output_bytes_max: 64 * 1024,
            write_stall: Duration::from_secs(10),
            half_close: Duration::from_secs(10),
            sink_stall: Duration::from_secs(60),
            minimum_rate: None,
            reply: None,
            farewell: None,
            flush: Duration::from_millis(250),
            linger: Duration::from_secs(1),
            linger_bytes_max: 256 * 1024,
        }
    }
}

/// The longest duration that a rule may name: a year. Longer means "for ever", and nothing is kept for ever.
pub const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// The largest message, and the largest output limit, in bytes.
pub const BYTES_MAX: usize = 64 * 1024 * 1024;

impl Policy {
    /// The longest that a connection can live under this policy, counted from accept.
    #[must_use]
    pub const fn age_max(&self) -> Duration {
        match self.lifetime {
            LifetimePolicy::Short { deadline } => deadline,
            LifetimePolicy::Long { max_age, .. } => max_age,
        }
    }
}
