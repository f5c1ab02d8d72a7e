//! What handles and messages ask of the driver. Must not know how it is done.

use crate::delivery::Ticket;
use crate::options::SavedSession;
use bytes::Bytes;
use tokio::sync::oneshot;

/// What the driver is asked.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send this.
    Push(Ticket, Bytes),
    /// The application has judged a message.
    Judge {
        /// Of which session it is, as the inbound half counts them.
        epoch: u64,
        /// Its number.
        number: u64,
        /// What was judged.
        verdict: Verdict,
    },
    /// Settle everything and say goodbye.
    Close,
    /// Say goodbye, to come back later; the session is handed over.
    Leave(oneshot::Sender<SavedSession>),
}

/// What the application thinks of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It has it for good.
    Accepted,
    /// It does not take it, with the code of PROTOCOL.md section 7.3 and a sentence.
    Refused(u16, String),
}
