//! What comes of the frames of a peer of the pulse protocol.

use crate::frame::{Bye, Hello, Welcome};

/// What has come of the peer's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PulseEvent<'a> {
    /// A client wants in. The gateway answers by `Pulse::welcome`, or ends the connection.
    Hello(Hello<'a>),
    /// The gateway has let us in. If the session is not the one resumed, `Pulse::take_left_over` has what
    /// was left of that; else the refusals that it names follow as events of their own. If its cursor is above
    /// everything that we have ever sent, nothing is settled and the connection is to be ended.
    Welcome(Welcome<'a>),
    /// A message; it is to be answered by `Pulse::commit` or `Pulse::refuse`.
    Message {
        /// Its number.
        number: u64,
        /// Its bytes, valid during the call.
        payload: &'a [u8],
    },
    /// These messages of ours are committed, but for those that were refused before, in [`Refused`](Self::Refused)
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
    /// Something to know (PROTOCOL.md section 8.1).
    Notice {
        /// What.
        code: u16,
        /// How long until then, in ms.
        in_ms: u32,
        /// A sentence for people.
        text: &'a str,
    },
    /// The peer has said its last word.
    Bye(Bye<'a>),
    /// A sign of life and no more: any other whole frame, or enough of a long one.
    Alive,
}
