//! The events that the frames of a peer of the pulse protocol cause.

use crate::frame::{Bye, Hello, Welcome};

/// An event that the peer's frames have caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PulseEvent<'a> {
    /// A client asks for a session. The gateway answers by `Pulse::welcome`, or ends the connection.
    Hello(Hello<'a>),
    /// The gateway has attached us. If the session is not the one we asked to resume, `Pulse::take_left_over` has what
    /// was left of that one; otherwise the refusals that it names follow as events of their own. If its cursor is above
    /// everything that we have ever sent, nothing is settled and the connection is to be ended.
    Welcome(Welcome<'a>),
    /// A message; it is to be answered by `Pulse::commit` or `Pulse::refuse`.
    Message {
        /// Its number.
        number: u64,
        /// Its bytes, valid during the call.
        payload: &'a [u8],
    },
    /// These messages of ours are committed, except those that were refused before, in [`Refused`](Self::Refused)
    /// or, at the gateway, in HELLO.
    Settled {
        /// The first one.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// This message of ours was not accepted.
    Refused {
        /// Its number.
        number: u64,
        /// Why (PROTOCOL.md section 7.3).
        code: u16,
        /// A sentence for people.
        text: &'a str,
    },
    /// The peer holds receipts up to here.
    Confirmed {
        /// The number.
        floor: u64,
    },
    /// A notice (PROTOCOL.md section 8.1).
    Notice {
        /// What.
        code: u16,
        /// How long until then, in ms.
        in_ms: u32,
        /// A sentence for people.
        text: &'a str,
    },
    /// The peer has said BYE.
    Bye(Bye<'a>),
    /// A sign of life and no more: any other whole frame, or enough of a long one.
    Alive,
}
