//! Warnings that would come with each batch, joined to one a minute.

use tracing::warn;

/// How long one warning stands for what comes after it.
const EVERY_MS: u64 = 60_000;

/// What there is to warn of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Messages that were deleted for want of room, before they were as old as messages get.
    pub(crate) messages: u64,
    /// What they counted, in bytes.
    pub(crate) bytes: u64,
    /// Messages to clients that were refused because too much waits for all of them, or for those of one source.
    pub(crate) refused: u64,
}

/// What has been told, and what has yet to be.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    untold: Losses,
    told_ms: Option<u64>,
}

impl Warnings {
    /// A batch has been committed that has come to these.
    pub(crate) fn handle_commit(&mut self, losses: Losses, now_ms: u64) {
        self.untold.messages += losses.messages;
        self.untold.bytes += losses.bytes;
        self.untold.refused += losses.refused;
        if self.untold == Losses::default() || self.told_ms.is_some_and(|told| now_ms < told + EVERY_MS) {
            return;
        }
        self.told_ms = Some(now_ms);
        let Losses { messages, bytes, refused } = std::mem::take(&mut self.untold);
        if messages > 0 {
            warn!(
                messages,
                bytes,
                "acknowledged messages younger than retention_age were deleted, since more came than retention_bytes \
                 keeps: raise it, or lower the shares of it"
            );
        }
        if refused > 0 {
            warn!(
                refused,
                "messages to clients were refused, since too much waits for all clients, or for those of one address: \
                 raise outgoing_bytes_in_all or outgoing_bytes_per_address"
            );
        }
    }
}
