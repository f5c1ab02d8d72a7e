//! What requests and replies take where they wait.

use crate::attach::{Attach, Attached};
use crate::refusal::Refusal;
use crate::reply::{Outgoing, Reply};
use crate::request::{LOAD_BYTES_MAX, REQUEST_BYTES, Recipient, Request};

impl Reply {
    /// What it takes until its receiver has taken it, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let carried = match self {
            Self::Attached(attached) => size_of::<Attached>() + attached.refused.len() * size_of::<Refusal>(),
            Self::Pushed { payload, .. } => payload.len(),
            Self::Loaded { messages, .. } => {
                messages.iter().map(|message| size_of::<Outgoing>() + message.payload.len()).sum()
            }
            Self::Resting { sessions, sources } => 8 * (sessions.len() + sources.len()),
            Self::AttachRefused { .. }
            | Self::Committed { .. }
            | Self::Refused { .. }
            | Self::Ended { .. }
            | Self::Orphaned { .. }
            | Self::PushRefused { .. }
            | Self::Detached { .. }
            | Self::Expired { .. }
            | Self::Ready
            | Self::Stopped { .. }
            | Self::GoesOn => 0,
        };
        size_of::<Self>() + carried
    }
}

impl Request {
    /// What it counts in the queue, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        REQUEST_BYTES
            + match self {
                Self::Attach(attach) => size_of::<Attach>() + attach.client.len(),
                Self::Message { payload, .. } => payload.len(),
                Self::Push { to: Recipient::Client(client), payload, .. } => payload.len() + client.len(),
                Self::Push { to: Recipient::Session(_), payload, .. } => payload.len(),
                Self::Append { client, payload, .. } => payload.len() + client.len(),
                Self::TokenUsed { .. } | Self::Confirm { .. } => 0,
                Self::OutReceipt { .. } | Self::Detach { .. } => 0,
                // Its reply is what takes room.
                Self::Load { bytes_max, .. } => (*bytes_max).min(LOAD_BYTES_MAX) as usize,
            }
    }
}
