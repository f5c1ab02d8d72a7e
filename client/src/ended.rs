//! Why a connection, or the whole client, has ended, and whether coming back makes sense. Must not know what is
//! done about it.

use pulsegate_core::close::{CloseReason, Retry};
use pulsegate_core::frame::Bye;
use std::fmt;
use std::time::Duration;

/// Why a connection or a client has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// [`Client::close`](crate::Client::close): everything is settled.
    Done,
    /// [`Client::leave`](crate::Client::leave): the client means to come back.
    BackSoon,
    /// The last handle of the client was dropped.
    Dropped,
    /// [`Client::close`](crate::Client::close) has waited for [`Options::close_timeout`](crate::Options) and
    /// not everything was settled.
    CloseTimeout,
    /// The gateway has said why, with this code (PROTOCOL.md section 8.3).
    Gateway(u16),
    /// The gateway has broken this rule of the protocol.
    BrokenRule(CloseReason),
    /// The gateway has said nothing for the heartbeat timeout, although it was asked.
    Silent,
    /// The gateway took nothing of what was sent for [`Options::write_stall`](crate::Options).
    Stalled,
    /// The gateway did not let the client in within [`Options::opening_timeout`](crate::Options).
    OpeningTimeout,
    /// No connection came about within [`Options::connect_timeout`](crate::Options), or the address is refused
    /// or unknown.
    Unreachable,
    /// The connection broke, or ended without a word.
    Lost,
    /// What answers is no gateway of the pulse protocol, or its listener is for raw clients.
    NotPulse,
    /// What the outbox is kept in can't be written, and never will be: a full disk is waited for.
    Outbox,
}

impl Reason {
    /// The close reason with this reason's code, if it is one that PROTOCOL.md knows.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        match self {
            Self::Gateway(code) => CloseReason::ALL.iter().copied().find(|reason| reason.code() == *code),
            Self::BrokenRule(reason) => Some(*reason),
            Self::Done
            | Self::BackSoon
            | Self::Dropped
            | Self::CloseTimeout
            | Self::Silent
            | Self::Stalled
            | Self::OpeningTimeout
            | Self::Unreachable
            | Self::Lost
            | Self::NotPulse
            | Self::Outbox => None,
        }
    }

    /// The code of PROTOCOL.md section 8.3 that went over the wire for it, in either direction; `None` if none
    /// did.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Done => Some(0),
            Self::BackSoon => Some(1),
            Self::Gateway(code) => Some(*code),
            Self::BrokenRule(reason) => Some(reason.code()),
            Self::Dropped
            | Self::CloseTimeout
            | Self::Silent
            | Self::Stalled
            | Self::OpeningTimeout
            | Self::Unreachable
            | Self::Lost
            | Self::NotPulse
            | Self::Outbox => None,
        }
    }

    /// The word for logs; for what a gateway says it is the gateway's own word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::BackSoon => "back soon",
            Self::Dropped => "dropped",
            Self::CloseTimeout => "close timeout",
            Self::Gateway(_) => self.close_reason().map_or("unknown code", CloseReason::as_str),
            Self::BrokenRule(reason) => reason.as_str(),
            Self::Silent => "gateway silent",
            Self::Stalled => "write stall",
            Self::OpeningTimeout => "opening timeout",
            Self::Unreachable => "unreachable",
            Self::Lost => "connection lost",
            Self::NotPulse => "not the pulse protocol",
            Self::Outbox => "outbox failed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a connection or a client has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Why.
    pub reason: Reason,
    /// Whether to come back, and when. As long as its [`Options::reconnect`](crate::Options) allows, a client
    /// does so by itself.
    pub retry: Retry,
    /// A sentence for people; it may be empty.
    pub text: String,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}

impl Closed {
    /// An end after which one may come back at once.
    pub(crate) fn now(reason: Reason, text: impl ToString) -> Self {
        Self { reason, retry: Retry::Now, text: text.to_string() }
    }

    /// An end after which nobody comes back.
    pub(crate) fn last(reason: Reason, text: impl ToString) -> Self {
        Self { reason, retry: Retry::Never, text: text.to_string() }
    }

    /// The gateway has broken a rule; whether to come back is the same as if the client had.
    pub(crate) fn broken(reason: CloseReason) -> Self {
        Self { reason: Reason::BrokenRule(reason), retry: reason.retry(), text: reason.sentence().to_owned() }
    }

    /// What came is no frame, where nothing else may come.
    pub(crate) fn not_pulse() -> Self {
        let text =
            "what answers is not a frame of it; give the address of a listener with protocol auto or pulse";
        Self::last(Reason::NotPulse, text)
    }

    /// What the gateway said.
    pub(crate) fn by_gateway(bye: &Bye<'_>) -> Self {
        let retry = match bye.retry {
            0 => Retry::Never,
            1 => Retry::Now,
            _ => Retry::After(Duration::from_millis(bye.delay_ms.into())),
        };
        Self { reason: Reason::Gateway(bye.code), retry, text: bye.text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gateway_says_keeps_its_word_and_its_code() {
        let reason = Reason::Gateway(CloseReason::Drain.code());
        assert_eq!((reason.as_str(), reason.code()), ("drain", Some(70)));
        assert_eq!(reason.close_reason(), Some(CloseReason::Drain));
        let reason = Reason::Gateway(999);
        assert_eq!(
            (reason.as_str(), reason.code(), reason.close_reason()),
            ("unknown code", Some(999), None)
        );
    }

    #[test]
    fn the_retry_class_is_the_one_that_was_told() {
        let bye = Bye { code: 999, retry: 2, delay_ms: 250, committed: 0, text: "later" };
        let closed = Closed::by_gateway(&bye);
        assert_eq!(closed.retry, Retry::After(Duration::from_millis(250)));
        assert_eq!(closed.to_string(), "unknown code: later");
        assert_eq!(Closed::by_gateway(&Bye { retry: 0, ..bye }).retry, Retry::Never);
        assert_eq!(Closed::by_gateway(&Bye { retry: 1, ..bye }).retry, Retry::Now);
    }
}
