//! The kinds of deadline that a connection can have, each with the reason it ends the connection for and
//! what has to be tried before that.

use crate::close::CloseReason;

/// What has to be tried before a connection may be ended for a timer that has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing: the deadline is fixed, and what arrives after it counts for nothing.
    Nothing,
    /// Reading: what proves the peer alive may be waiting in our own receive buffer.
    Reading,
    /// Writing: the peer may have made room meanwhile.
    Writing,
    /// Emptying our own mailbox: news that the sink takes messages again, or its answers, may be waiting there.
    Hearing,
}

/// Declared from the most fixed to the least: of two that expire at the same instant, the first is the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Timer {
    /// A short connection's deadline, counted from accept.
    ShortDeadline,
    /// A long connection's greatest age.
    MaxAge,
    /// The deadline for reading, set by the application.
    ReadDeadline,
    /// The deadline for writing, set by the application.
    WriteDeadline,
    /// How long the sink may keep us from reading.
    SinkStall,
    /// From the end of the peer's input to the end.
    HalfClose,
    /// How long our output may make no progress.
    WriteStall,
    /// How long reading may be paused because the peer doesn't take the replies to its messages.
    OutputRest,
    /// From accept to the first complete message.
    FirstMessage,
    /// The longest silence.
    Heartbeat,
    /// When the credit of received bytes is used up.
    MinimumRate,
    /// The peer has been silent for long enough to be asked whether it is alive.
    Question,
    /// Reading has been paused for long enough that the peer is sent a beat.
    Assurance,
    /// The connection's planned end is near, and the peer is told.
    Notice,
    /// A confirmation has waited for as long as it may.
    Confirm,
    /// How long sending the last bytes may take, once the connection has ended.
    Flush,
    /// How long to wait for the peer to close, once the last bytes are sent.
    Linger,
}

impl Timer {
    /// The word for logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ShortDeadline => "short deadline",
            Self::MaxAge => "maximum age",
            Self::ReadDeadline => "read deadline",
            Self::WriteDeadline => "write deadline",
            Self::SinkStall => "sink stall",
            Self::HalfClose => "half-close",
            Self::WriteStall => "write stall",
            Self::OutputRest => "output rest",
            Self::FirstMessage => "first message",
            Self::Heartbeat => "heartbeat",
            Self::MinimumRate => "minimum rate",
            Self::Question => "question",
            Self::Assurance => "assurance",
            Self::Notice => "notice",
            Self::Confirm => "confirm",
            Self::Flush => "flush",
            Self::Linger => "linger",
        }
    }

    /// The reason for which this timer ends a connection; `None` for those that only make us send something, and those
    /// that run after the end.
    #[must_use]
    pub const fn reason(self) -> Option<CloseReason> {
        Some(match self {
            Self::ShortDeadline => CloseReason::ShortDeadline,
            Self::MaxAge => CloseReason::MaxAge,
            Self::ReadDeadline => CloseReason::ReadDeadline,
            Self::WriteDeadline => CloseReason::WriteDeadline,
            Self::SinkStall => CloseReason::SinkStalled,
            Self::HalfClose => CloseReason::HalfCloseTimeout,
            Self::WriteStall => CloseReason::WriteStall,
            Self::OutputRest => CloseReason::OutputFull,
            Self::FirstMessage => CloseReason::FirstMessageTimeout,
            Self::Heartbeat => CloseReason::HeartbeatTimeout,
            Self::MinimumRate => CloseReason::MinimumRate,
            Self::Question | Self::Assurance | Self::Notice | Self::Confirm | Self::Flush | Self::Linger => {
                return None;
            }
        })
    }

    /// What has to be tried first.
    #[must_use]
    pub const fn before(self) -> Before {
        match self {
            Self::FirstMessage | Self::Heartbeat | Self::MinimumRate | Self::Question => Before::Reading,
            Self::WriteStall | Self::OutputRest => Before::Writing,
            Self::SinkStall => Before::Hearing,
            Self::ShortDeadline
            | Self::MaxAge
            | Self::ReadDeadline
            | Self::WriteDeadline
            | Self::HalfClose
            | Self::Assurance
            | Self::Notice
            | Self::Confirm
            | Self::Flush
            | Self::Linger => Before::Nothing,
        }
    }
}

impl std::fmt::Display for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
