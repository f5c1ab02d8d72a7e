//! The settings of a store, with defaults, and what of them can't be kept. Knows no file of settings.

use pulsegate_core::frame::Durability;
use pulsegate_sessions::{Rules, millis};
use std::time::Duration;

/// The largest payload that any store takes, in bytes.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 16_000_000;

/// How much one session may store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    /// Bytes; each message counts 64 beside its payload.
    pub bytes: u64,
    /// Within this time.
    pub every: Duration,
}

/// The settings of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// What a committed message survives: nothing in a store in memory, and in it only.
    pub durability: Durability,
    /// The most that waits for the committer, in bytes, what it is working on included.
    pub queue_bytes_max: usize,
    /// The most sessions; when there are as many, newcomers are refused.
    pub sessions_max: u64,
    /// The most sessions of one source; `None`: 1/16 of all, but 16 at least.
    pub sessions_per_source_max: Option<u64>,
    /// The longest payload of a message, in either direction, in bytes.
    pub message_bytes_max: usize,
    /// How much one session may store.
    pub quota: Quota,
    /// The most messages to one client that wait for its receipt.
    pub outgoing_messages_max: u64,
    /// The most bytes of payload to one client that wait for its receipt.
    pub outgoing_bytes_max: u64,
    /// The most bytes of messages, of all sessions together, that wait for their clients to confirm refusals; each
    /// counts 128 beside its payload. Above it those who wait for the longest time are ended.
    pub unjudged_bytes_max: usize,
    /// The most bytes of payload to all clients together that wait for their receipts; `None`: 256 MiB, but as much as to
    /// one client at least.
    pub outgoing_bytes_in_all: Option<u64>,
    /// Of these, the most to the clients of one source; `None`: 1/4, but as much as to one client at least.
    pub outgoing_bytes_per_source: Option<u64>,
    /// How long messages are kept, in time in which the store is open, whatever the wall clock says; up to a
    /// 256th or a second longer.
    pub retention_age: Duration,
    /// How many bytes of messages are kept; each counts 64 beside its payload and its client's id.
    pub retention_bytes: u64,
    /// How many of these bytes one session may have before nothing more is read from it; `None`: 1/16. From 7/8 on: as
    /// many as there are.
    pub retention_bytes_per_session: Option<u64>,
    /// How many of these bytes one source may have before nothing more is read from it; `None`: 1/4. From 7/8 on: as
    /// many as there are.
    pub retention_bytes_per_source: Option<u64>,
    /// At which size of the write-ahead log its content is moved into the database, in bytes. Commits wait
    /// meanwhile, so that a larger one means fewer and longer waits: some 4 ms for each MiB.
    pub wal_bytes: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Synced,
            queue_bytes_max: 16 * 1024 * 1024,
            sessions_max: 1_000_000,
            sessions_per_source_max: None,
            message_bytes_max: 1024 * 1024,
            quota: Quota { bytes: 8 << 30, every: Duration::from_secs(3600) },
            outgoing_messages_max: 1_000,
            outgoing_bytes_max: 1024 * 1024,
            outgoing_bytes_in_all: None,
            outgoing_bytes_per_source: None,
            unjudged_bytes_max: 16 * 1024 * 1024,
            retention_age: Duration::from_secs(7 * 24 * 3600),
            retention_bytes: 8 << 30,
            retention_bytes_per_session: None,
            retention_bytes_per_source: None,
            wal_bytes: 4 * 1024 * 1024,
        }
    }
}

/// What can't be kept, as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A payload would be too long for any store.
    #[error("the longest message has to be of 1 to 16,000,000 bytes")]
    MessageBytes,
    /// One message would fill the queue.
    #[error("the store's queue has to hold at least two of the longest messages, and 64 KiB")]
    QueueBytes,
    /// A limit of zero.
    #[error("sessions, messages to a client and bytes to a client have to be limited to at least 1")]
    Limits,
    /// A limit beyond what the files can say.
    #[error("limits and times of the store have to be below 2^62")]
    TooLarge,
    /// A quota that no message fits in.
    #[error("a session's quota has to be at least one of the longest messages, in at least a second")]
    Quota,
    /// A retention that keeps nothing.
    #[error("messages have to be kept for at least a second, and at least 1 MiB of them")]
    Retention,
    /// A share of what is kept that is next to nothing.
    #[error(
        "a session's and an address's share of the bytes that are kept have to be at least 1/1024 of them"
    )]
    Share,
    /// Less for all than for one.
    #[error(
        "as many bytes have to be allowed to the clients of an address, and to all, as to a single client"
    )]
    Outgoing,
    /// A directory for nothing.
    #[error("a store in a directory has durability os or synced")]
    Directory,
    /// A promise that memory can't keep.
    #[error("a store in memory survives nothing: its durability has to be none")]
    Memory,
    /// A log that is moved all the time, or never.
    #[error("the write-ahead log's size has to be between 256 KiB and 1 GiB")]
    Wal,
}

/// What waits for all clients together, where nothing else is said, in bytes.
const OUTGOING_BYTES_IN_ALL: u64 = 256 * 1024 * 1024;
/// No share of what is kept is less than one of so many parts of it, so that few can have used up theirs.
const SHARES_MAX: u64 = 1024;
/// A share of so many parts of [`SHARE_PARTS`] of what is kept is none.
const SHARE_PARTS_MAX: u64 = 7;
const SHARE_PARTS: u64 = 8;

/// One in so many places of the table of sessions is kept for sources that hold few.
const KEPT_PART: u64 = 4;
/// It takes at least so many sources that hold few to fill these,
const FEW_PART: u64 = 4;
/// and more where they are many: nobody with so many sessions holds few.
const FEW_MAX: u64 = 16;

impl StoreConfig {
    /// The most sessions of one source.
    #[must_use]
    pub fn sessions_of_source_max(&self) -> u64 {
        self.sessions_per_source_max.unwrap_or_else(|| (self.sessions_max / 16).max(16))
    }

    /// The most bytes of payload that wait for all clients together.
    #[must_use]
    pub fn outgoing_bytes_of_all(&self) -> u64 {
        self.outgoing_bytes_in_all.unwrap_or_else(|| self.outgoing_bytes_max.max(OUTGOING_BYTES_IN_ALL))
    }

    /// The most bytes of payload that wait for the clients of one source.
    #[must_use]
    pub fn outgoing_bytes_of_source(&self) -> u64 {
        let default = || (self.outgoing_bytes_of_all() / 4).max(self.outgoing_bytes_max);
        self.outgoing_bytes_per_source.unwrap_or_else(default)
    }

    /// What one session may have of the bytes that are kept; `None`: all of them, as they make room for newer ones.
    #[must_use]
    pub fn retention_bytes_of_session(&self) -> Option<u64> {
        self.share(self.retention_bytes_per_session.unwrap_or(self.retention_bytes / 16))
    }

    /// What one source may have of the bytes that are kept; `None`: all of them, as they make room for newer ones.
    #[must_use]
    pub fn retention_bytes_of_source(&self) -> Option<u64> {
        self.share(self.retention_bytes_per_source.unwrap_or(self.retention_bytes / 4))
    }

    /// So large a share is none: whoever has nearly all of what is kept would rest until it is old, since only above
    /// `retention_bytes` do messages make room for newer ones.
    fn share(&self, bytes: u64) -> Option<u64> {
        (bytes < self.retention_bytes / SHARE_PARTS * SHARE_PARTS_MAX).then_some(bytes)
    }

    /// How many places of the table are kept for sources that hold few, so that few sources can't fill it: their sessions
    /// stay as long as they were told. None if one may have more than the others, as where a proxy stands.
    fn kept_sessions(&self) -> u64 {
        let kept = self.sessions_max / KEPT_PART;
        if self.sessions_of_source_max() > self.sessions_max - kept { 0 } else { kept }
    }

    /// What of this the rules of sessions have to know.
    pub(crate) fn rules(&self) -> Rules {
        let kept_sessions = self.kept_sessions();
        Rules {
            keeps_messages: self.durability != Durability::None,
            sessions_max: self.sessions_max,
            sessions_of_source_max: self.sessions_of_source_max(),
            sessions_open: self.sessions_max - kept_sessions,
            // Where no place is kept, everybody has the same share up to the last one.
            sessions_few: match kept_sessions {
                0 => self.sessions_of_source_max(),
                kept => (kept / FEW_PART).clamp(1, FEW_MAX),
            },
            message_bytes_max: self.message_bytes_max,
            quota_bytes: self.quota.bytes,
            quota_every_ms: millis(self.quota.every),
            outgoing_messages_max: self.outgoing_messages_max,
            outgoing_bytes_max: self.outgoing_bytes_max,
            outgoing_bytes_of_source: self.outgoing_bytes_of_source(),
            outgoing_bytes_of_all: self.outgoing_bytes_of_all(),
            kept_of_session: self.retention_bytes_of_session(),
            kept_of_source: self.retention_bytes_of_source(),
        }
    }

    /// Whether all of this can be kept.
    ///
    /// # Errors
    /// The first thing that can't.
    pub fn check(&self) -> Result<(), ConfigError> {
        const HUGE: u64 = 1 << 62;
        let second = Duration::from_secs(1);
        let message = self.message_bytes_max as u64;
        if !(1..=PAYLOAD_BYTES_MAX).contains(&self.message_bytes_max) {
            return Err(ConfigError::MessageBytes);
        }
        if self.queue_bytes_max < 2 * self.message_bytes_max || self.queue_bytes_max < 64 * 1024 {
            return Err(ConfigError::QueueBytes);
        }
        if self.sessions_max == 0
            || self.sessions_of_source_max() == 0
            || self.outgoing_messages_max == 0
            || self.outgoing_bytes_max == 0
        {
            return Err(ConfigError::Limits);
        }
        let times = [self.quota.every, self.retention_age];
        let sizes = [self.sessions_max, self.outgoing_messages_max, self.outgoing_bytes_max];
        if times.iter().any(|time| time.as_millis() >= u128::from(HUGE))
            || sizes.iter().chain([&self.quota.bytes, &self.retention_bytes]).any(|size| *size >= HUGE)
        {
            return Err(ConfigError::TooLarge);
        }
        if self.quota.bytes < message + 64 || self.quota.every < second {
            return Err(ConfigError::Quota);
        }
        if self.retention_age < second || self.retention_bytes < 1024 * 1024 {
            return Err(ConfigError::Retention);
        }
        let shares = [self.retention_bytes_of_session(), self.retention_bytes_of_source()];
        let share_min = self.retention_bytes.div_ceil(SHARES_MAX);
        if shares.iter().flatten().any(|share| *share < share_min) {
            return Err(ConfigError::Share);
        }
        if self.outgoing_bytes_of_all() < self.outgoing_bytes_max
            || self.outgoing_bytes_of_source() < self.outgoing_bytes_max
        {
            return Err(ConfigError::Outgoing);
        }
        if !(256 * 1024..=1 << 30).contains(&self.wal_bytes) {
            return Err(ConfigError::Wal);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be_kept_and_nonsense_is_named() {
        assert_eq!(StoreConfig::default().check(), Ok(()));
        let check = |change: fn(&mut StoreConfig)| {
            let mut config = StoreConfig::default();
            change(&mut config);
            config.check()
        };
        assert_eq!(check(|config| config.message_bytes_max = 0), Err(ConfigError::MessageBytes));
        assert_eq!(check(|config| config.queue_bytes_max = 1024), Err(ConfigError::QueueBytes));
        assert_eq!(check(|config| config.sessions_max = 0), Err(ConfigError::Limits));
        assert_eq!(check(|config| config.retention_bytes = u64::MAX), Err(ConfigError::TooLarge));
        assert_eq!(check(|config| config.quota.bytes = 1), Err(ConfigError::Quota));
        assert_eq!(check(|config| config.retention_age = Duration::ZERO), Err(ConfigError::Retention));
        assert_eq!(check(|config| config.wal_bytes = 1), Err(ConfigError::Wal));
    }
}
