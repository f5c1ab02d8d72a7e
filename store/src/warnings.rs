//! Warnings that would come with each batch, joined to one a minute.

use pulsegate_sessions::Loss;
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
    /// Sessions that have expired with messages to their clients.
    pub(crate) expired: u64,
    /// Those messages: nobody knows whether the clients have them.
    pub(crate) unknown: u64,
    /// Clients that had receipts for messages that are not in the store.
    pub(crate) bereft: u64,
    /// Those messages, as far as the clients are to be believed.
    pub(crate) lost: u64,
    /// Messages that their clients have not accepted.
    pub(crate) unaccepted: u64,
}

impl Losses {
    /// What somebody has lost by a batch; messages without a session are counted elsewhere.
    pub(crate) const fn note(&mut self, loss: Loss) {
        match loss {
            Loss::Append => {}
            Loss::Push => self.refused += 1,
            Loss::Expired(messages) => {
                self.expired += 1;
                self.unknown += messages;
            }
            Loss::Acknowledged(messages) => self.note_lost(messages),
        }
    }

    /// A client has receipts for so many messages that are not in the store, which is not known yet.
    pub(crate) const fn note_lost(&mut self, messages: u64) {
        self.bereft += (messages > 0) as u64;
        self.lost = self.lost.saturating_add(messages);
    }

    const fn add(&mut self, more: Self) {
        let Self { messages, bytes, refused, expired, unknown, bereft, lost, unaccepted } = more;
        self.messages += messages;
        self.bytes += bytes;
        self.refused += refused;
        self.expired += expired;
        self.unknown += unknown;
        self.bereft += bereft;
        // A client says how many.
        self.lost = self.lost.saturating_add(lost);
        self.unaccepted += unaccepted;
    }

    fn tell(self) {
        let Self { messages, bytes, refused, expired, unknown, bereft, lost, unaccepted } = self;
        if messages > 0 {
            warn!(
                messages,
                bytes,
                "acknowledged messages younger than retention_age_max were deleted, since more came than retention_bytes_max \
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
        if expired > 0 {
            warn!(
                sessions = expired,
                messages = unknown,
                "sessions have expired with messages for clients that did not come back: it is unknown whether they have \
                 them; the time to live of sessions says how long they are waited for"
            );
        }
        if bereft > 0 {
            warn!(
                clients = bereft,
                messages = lost,
                "clients say that messages were acknowledged that are not in the store: they are lost if its files were \
                 restored or power has failed; debug says which"
            );
        }
        if unaccepted > 0 {
            warn!(
                messages = unaccepted,
                "clients have not accepted messages to them; debug says which, and why"
            );
        }
    }
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
        if let Some(due) = self.join(losses, now_ms) {
            due.tell();
        }
    }

    /// Nothing more comes.
    pub(crate) fn handle_end(&mut self) {
        std::mem::take(&mut self.untold).tell();
    }

    /// What is to be told now.
    fn join(&mut self, losses: Losses, now_ms: u64) -> Option<Losses> {
        self.untold.add(losses);
        if self.untold == Losses::default() || self.told_ms.is_some_and(|told| now_ms < told + EVERY_MS) {
            return None;
        }
        self.told_ms = Some(now_ms);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_come_one_warning_a_minute_counts_them() {
        let mut warnings = Warnings::default();
        let one =
            Losses { expired: 1, unknown: 3, bereft: 1, lost: u64::MAX, unaccepted: 1, ..Losses::default() };
        assert_eq!(warnings.join(one, 5_000), Some(one), "the first at once");
        let told: Vec<_> = (6..125).filter_map(|second| warnings.join(one, 1_000 * second)).collect();
        let joined = Losses { expired: 60, unknown: 180, bereft: 60, unaccepted: 60, ..one };
        assert_eq!(told, [joined]);
        assert_eq!(
            warnings.join(Losses::default(), 125_000).map(|losses| losses.expired),
            Some(59),
            "with the time"
        );
        assert_eq!(warnings.join(Losses::default(), 500_000), None, "and nothing is nothing");
    }
}
