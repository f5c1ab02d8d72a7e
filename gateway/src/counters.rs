//! What the gateway counts. A shard counts for itself and publishes at the end of a turn; whoever asks adds
//! the shards up.

use pulsegate_core::close::CloseReason;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const REASONS: usize = CloseReason::ALL.len();

/// The counts of a gateway, or of a part of it, since it started.
///
/// `accepted` is always `open` plus all `ended`: every connection ends with exactly one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Connections taken from the kernel, those refused at once included.
    pub accepted: u64,
    /// Complete messages.
    pub messages: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Stalls credited to connections, in milliseconds, the worst shard's.
    pub stalled_ms: u64,
    ended: [u64; REASONS],
    /// The sum of these.
    ended_in_all: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            accepted: 0,
            messages: 0,
            bytes_in: 0,
            bytes_out: 0,
            stalled_ms: 0,
            ended: [0; REASONS],
            ended_in_all: 0,
        }
    }
}

impl Counts {
    /// How many connections ended for this reason.
    #[must_use]
    pub const fn ended(&self, reason: CloseReason) -> u64 {
        self.ended[reason.index()]
    }

    /// How many connections ended in all.
    #[must_use]
    pub const fn ended_in_all(&self) -> u64 {
        self.ended_in_all
    }

    /// How many connections are open.
    #[must_use]
    pub const fn open(&self) -> u64 {
        self.accepted.saturating_sub(self.ended_in_all)
    }

    /// The reasons that occurred, with their counts, most frequent first.
    #[must_use]
    pub fn reasons(&self) -> Vec<(CloseReason, u64)> {
        let mut reasons: Vec<_> = CloseReason::ALL
            .iter()
            .map(|&reason| (reason, self.ended(reason)))
            .filter(|&(_, count)| count > 0)
            .collect();
        reasons.sort_by_key(|&(reason, count)| (std::cmp::Reverse(count), reason.index()));
        reasons
    }

    /// The ends by reason as a phrase: `heartbeat timeout 12, peer closed 3`.
    #[must_use]
    pub fn reasons_phrase(&self) -> String {
        let reasons = self.reasons();
        let phrases: Vec<String> =
            reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        if phrases.is_empty() { "none".to_owned() } else { phrases.join(", ") }
    }

    /// What has come since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = Self {
            accepted: self.accepted.saturating_sub(earlier.accepted),
            messages: self.messages.saturating_sub(earlier.messages),
            bytes_in: self.bytes_in.saturating_sub(earlier.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(earlier.bytes_out),
            stalled_ms: self.stalled_ms.saturating_sub(earlier.stalled_ms),
            ended: self.ended,
            ended_in_all: self.ended_in_all.saturating_sub(earlier.ended_in_all),
        };
        for (ended, before) in difference.ended.iter_mut().zip(earlier.ended) {
            *ended = ended.saturating_sub(before);
        }
        difference
    }

    /// Adds another part's counts.
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.messages += other.messages;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.stalled_ms = self.stalled_ms.max(other.stalled_ms);
        self.ended_in_all += other.ended_in_all;
        for (ended, more) in self.ended.iter_mut().zip(other.ended) {
            *ended += more;
        }
    }

    pub(crate) const fn count_end(&mut self, reason: CloseReason) {
        self.ended[reason.index()] += 1;
        self.ended_in_all += 1;
    }
}

/// One shard's counts, readable from elsewhere.
#[derive(Debug)]
pub(crate) struct Published {
    accepted: AtomicU64,
    messages: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    stalled_ms: AtomicU64,
    ended: [AtomicU64; REASONS],
    ended_in_all: AtomicU64,
}

impl Default for Published {
    fn default() -> Self {
        Self {
            accepted: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            stalled_ms: AtomicU64::new(0),
            ended: std::array::from_fn(|_| AtomicU64::new(0)),
            ended_in_all: AtomicU64::new(0),
        }
    }
}

impl Published {
    /// Publishes; only the owning shard does. A reader may see one turn half published; between turns, and
    /// once the shard has stopped, the counts are exact.
    pub(crate) fn store(&self, counts: &Counts) {
        // Most turns end nobody, and need not touch so many counts.
        if self.ended_in_all.load(Relaxed) != counts.ended_in_all {
            for (published, &ended) in self.ended.iter().zip(&counts.ended) {
                published.store(ended, Relaxed);
            }
            self.ended_in_all.store(counts.ended_in_all, Relaxed);
        }
        self.accepted.store(counts.accepted, Relaxed);
        self.messages.store(counts.messages, Relaxed);
        self.bytes_in.store(counts.bytes_in, Relaxed);
        self.bytes_out.store(counts.bytes_out, Relaxed);
        self.stalled_ms.store(counts.stalled_ms, Relaxed);
    }

    /// The counts as last published.
    pub(crate) fn load(&self) -> Counts {
        let mut counts = Counts::default();
        for (ended, published) in counts.ended.iter_mut().zip(&self.ended) {
            *ended = published.load(Relaxed);
        }
        counts.ended_in_all = counts.ended.iter().sum();
        counts.accepted = self.accepted.load(Relaxed);
        counts.messages = self.messages.load(Relaxed);
        counts.bytes_in = self.bytes_in.load(Relaxed);
        counts.bytes_out = self.bytes_out.load(Relaxed);
        counts.stalled_ms = self.stalled_ms.load(Relaxed);
        counts
    }
}
