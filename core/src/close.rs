//! Why a connection ended: one closed enum, the same word on the wire, in the log, in metrics and in the API.

use crate::exchange::Violation;
use crate::frame::FrameError;
use std::time::Duration;

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// The client.
    Peer,
    /// The gateway, by one of its rules.
    Gateway,
    /// The operator of the gateway, or the application that embeds it.
    Operator,
    /// The kernel: the peer could not be reached any more, or the socket failed.
    Kernel,
}

impl Who {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Gateway => "gateway",
            Self::Operator => "operator",
            Self::Kernel => "kernel",
        }
    }
}

/// Whether, and when, the client should come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same would happen again: the client has to change something first.
    Never,
    /// At once.
    Now,
    /// After this time at the earliest.
    After(Duration),
}

impl std::fmt::Display for Retry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Never => f.write_str("do not come back unchanged"),
            Self::Now => f.write_str("come back at once"),
            Self::After(span) if span.as_millis().is_multiple_of(1_000) => {
                write!(f, "come back in {} s", span.as_secs())
            }
            Self::After(span) => write!(f, "come back in {} ms", span.as_millis()),
        }
    }
}

/// Declares the enum together with everything that has to be said of each reason, so that none can be
/// added without its word, its author, its retry class and its sentence.
macro_rules! close_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $word:literal, $who:ident, $retry:expr, $sentence:literal;)+) => {
        /// Why a connection ended. Every connection ends with exactly one of these.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum CloseReason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl CloseReason {
            /// All reasons, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The stable number for this reason on the wire (PROTOCOL.md section 8.3).
            #[must_use]
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code,)+ }
            }

            /// The stable word for this reason.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// Who ended the connection.
            #[must_use]
            pub const fn who(self) -> Who {
                match self { $(Self::$name => Who::$who,)+ }
            }

            /// Whether the client should come back.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self { $(Self::$name => $retry,)+ }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)+ }
            }
        }
    };
}

const SOON: Retry = Retry::After(Duration::from_secs(1));
const LATER: Retry = Retry::After(Duration::from_secs(5));

close_reasons! {
    /// The peer closed its side and everything for it was sent.
    PeerClosed = 90, "peer closed", Peer, Retry::Now, "the client closed the connection";
    /// The peer reset the connection.
    PeerReset = 91, "peer reset", Peer, Retry::Now, "the client reset the connection";
    /// The kernel gave the peer up: keepalive or unacknowledged data ran into their time-outs.
    PeerVanished = 92, "peer vanished", Kernel, Retry::Now, "the client could not be reached any more";
    /// The socket failed in another way.
    SocketError = 93, "socket error", Kernel, Retry::Now, "the socket failed";
    /// No complete first message in time.
    FirstMessageTimeout = 10, "first message timeout", Gateway, Retry::Now, "no complete message came in time after accept";
    /// No heartbeat for the heartbeat timeout.
    HeartbeatTimeout = 11, "heartbeat timeout", Gateway, Retry::Now, "no heartbeat came in time";
    /// The fixed deadline of a short connection.
    ShortDeadline = 12, "short deadline", Gateway, Retry::Now, "the fixed deadline of a short connection has come";
    /// The maximum age of a long connection.
    MaxAge = 13, "maximum age", Gateway, Retry::Now, "the connection has reached its maximum age";
    /// The peer ended its side, and what was left to send took too long.
    HalfCloseTimeout = 14, "half-close timeout", Gateway, Retry::Now, "the client closed its side and the rest took too long";
    /// What we send made no progress.
    WriteStall = 20, "write stall", Gateway, SOON, "the client does not take what is sent to it";
    /// Fewer bytes arrived than the listener's minimum rate asks for.
    MinimumRate = 21, "below minimum rate", Gateway, LATER, "the client sends too slowly";
    /// A message is longer than the listener allows.
    MessageTooLarge = 41, "message too large", Gateway, Retry::Never, "a message is longer than the listener allows";
    /// More was to be sent than the listener's output limit holds.
    OutputFull = 22, "output full", Gateway, SOON, "more was to be sent than the client takes";
    /// The read deadline that the application set.
    ReadDeadline = 73, "read deadline", Operator, Retry::Now, "the application's deadline for reading has come";
    /// The write deadline that the application set.
    WriteDeadline = 74, "write deadline", Operator, Retry::Now, "the application's deadline for writing has come";
    /// The application closed the connection.
    Application = 72, "application", Operator, Retry::Now, "the application closed the connection";
    /// The sink took nothing for too long.
    SinkStalled = 65, "sink stalled", Gateway, LATER, "the gateway could not pass messages on for too long";
    /// The sink failed for good.
    SinkFailed = 66, "sink failed", Gateway, LATER, "the gateway's sink failed";
    /// The first bytes are the preface, and the listener serves raw clients only.
    RawListener = 49, "raw listener", Gateway, Retry::Never, "this port serves raw clients only; its listener needs the protocol auto or pulse";
    /// The first bytes are not the preface, and the listener takes nothing else.
    BadPreface = 30, "bad preface", Gateway, Retry::Never, "this port speaks the pulse protocol only";
    /// A version of the protocol that the gateway doesn't know.
    UnsupportedVersion = 31, "unsupported version", Gateway, Retry::Never, "this gateway speaks version 1 of the protocol";
    /// A frame whose length or fields don't fit its type.
    MalformedFrame = 32, "malformed frame", Gateway, Retry::Never, "a frame's length or fields do not fit its type";
    /// A frame of a type that is not known, and not to be skipped.
    UnknownFrame = 33, "unknown frame", Gateway, Retry::Never, "a frame has a type that does not exist";
    /// A frame longer than allowed.
    FrameTooLarge = 34, "frame too large", Gateway, Retry::Never, "a frame is longer than was told";
    /// A frame that its sender may not send now.
    FrameOutOfPlace = 35, "frame out of place", Gateway, Retry::Never, "this frame is not allowed here or now";
    /// A second HELLO on one connection.
    SecondHello = 36, "second hello", Gateway, Retry::Never, "a connection has one HELLO";
    /// A message's number is not the next one.
    SequenceGap = 37, "sequence gap", Gateway, Retry::Never, "the number of a message is not the next one";
    /// More is in flight than the window allows.
    WindowExceeded = 38, "window exceeded", Gateway, Retry::Never, "more is in flight than the window allows";
    /// Messages wait for the client to confirm refusals, for too long or too many of them in all sessions together.
    UnconfirmedRefusals = 48, "refusals not confirmed", Gateway, SOON, "too much waits for the client to confirm refusals";
    /// Text that is not UTF-8.
    BadText = 39, "text is not utf-8", Gateway, Retry::Never, "a text in a frame is not UTF-8";
    /// The peer's side ended inside a frame.
    TruncatedFrame = 40, "truncated frame", Gateway, Retry::Now, "the stream ended inside a frame";
    /// A token that is not the session's.
    BadToken = 50, "bad token", Gateway, Retry::Never, "the token is not this session's";
    /// A newer connection of the same session has come.
    Replaced = 51, "replaced", Gateway, LATER, "another connection of this session has come";
    /// The session is attached elsewhere, and the listener doesn't let it be replaced.
    SessionInUse = 52, "session in use", Gateway, LATER, "this session is attached to another connection";
    /// The gateway holds as many sessions as it may.
    SessionLimit = 53, "session limit", Gateway, LATER, "the gateway holds as many sessions as it may";
    /// The gateway holds as many connections as it may.
    AtCapacity = 60, "at capacity", Gateway, LATER, "the gateway is full";
    /// This source address holds as many connections as it may.
    AddressLimit = 61, "address limit", Gateway, LATER, "too many connections from this address";
    /// Too many connections have not said anything yet.
    NewcomerLimit = 62, "newcomer limit", Gateway, SOON, "too many connections have not said anything yet";
    /// Connections come faster than the listener allows.
    AcceptRate = 63, "accept rate", Gateway, SOON, "connections come faster than the listener allows";
    /// No descriptor was left.
    OutOfDescriptors = 64, "out of descriptors", Gateway, LATER, "the gateway has no file descriptor left";
    /// The gateway is being stopped gracefully.
    Drain = 70, "drain", Operator, SOON, "the gateway is draining";
    /// The gateway was stopped at once.
    Stopped = 71, "stopped", Operator, LATER, "the gateway was stopped";
}

impl CloseReason {
    /// The reason's place in [`CloseReason::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether the peer has just been found to say nothing at all.
    #[must_use]
    pub const fn peer_is_silent(self) -> bool {
        matches!(self, Self::HeartbeatTimeout | Self::FirstMessageTimeout)
    }

    /// Whether the peer may still be there to be told anything.
    #[must_use]
    pub fn peer_listens(self) -> bool {
        !matches!(self, Self::PeerReset | Self::PeerVanished | Self::SocketError)
    }
}

impl From<FrameError> for CloseReason {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Malformed => Self::MalformedFrame,
            FrameError::Unknown => Self::UnknownFrame,
            FrameError::TooLarge => Self::FrameTooLarge,
            FrameError::BadText => Self::BadText,
        }
    }
}

impl From<Violation> for CloseReason {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::SequenceGap => Self::SequenceGap,
            Violation::WindowExceeded => Self::WindowExceeded,
            Violation::NeverSent => Self::FrameOutOfPlace,
        }
    }
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn words_and_codes_are_unique() {
        let codes: HashSet<_> = CloseReason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), CloseReason::ALL.len());
        let words: HashSet<_> = CloseReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), CloseReason::ALL.len());
        for (place, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place);
        }
    }

    #[test]
    fn an_optional_reason_is_one_byte() {
        assert_eq!(size_of::<Option<CloseReason>>(), 1);
    }

    #[test]
    fn retry_reads_as_a_sentence() {
        assert_eq!(Retry::After(Duration::from_secs(5)).to_string(), "come back in 5 s");
        assert_eq!(Retry::After(Duration::from_millis(250)).to_string(), "come back in 250 ms");
    }
}
