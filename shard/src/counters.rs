//! What is counted, for each listener. A shard counts for itself and publishes at the end of a turn; whoever asks adds
//! the shards up, and the listeners if it wants to know about the whole.

use pulsegate_core::close::CloseReason;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const REASONS: usize = CloseReason::ALL.len();

/// Declares what is counted besides the ends: one line for each.
macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident, $method:ident;)+) => {
        /// What is counted of the connections of a listener, besides their ends.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Counter {
            $($(#[doc = $doc])+ $name,)+
        }

        const COUNTERS: usize = [$(Counter::$name),+].len();

        impl Counts {
            $($(#[doc = $doc])+
            #[must_use]
            pub const fn $method(&self) -> u64 {
                self.counters[Counter::$name as usize]
            })+
        }
    };
}

counters! {
    /// Connections taken from the kernel, those refused at once included.
    Accepted, accepted;
    /// Complete messages.
    Messages, messages;
    /// Bytes received.
    BytesIn, bytes_in;
    /// Bytes sent.
    BytesOut, bytes_out;
}

/// The counts of a gateway, or of a part of it, since it started.
///
/// `accepted` is always `open` plus all `ended`: every connection ends with exactly one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    counters: [u64; COUNTERS],
    stalled_ms: u64,
    ended: [u64; REASONS],
    /// The sum of these.
    ended_in_all: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self { counters: [0; COUNTERS], stalled_ms: 0, ended: [0; REASONS], ended_in_all: 0 }
    }
}

impl Counts {
    /// Stalls credited to connections, in milliseconds, the worst shard's.
    #[must_use]
    pub const fn stalled_ms(&self) -> u64 {
        self.stalled_ms
    }

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
        self.accepted().saturating_sub(self.ended_in_all)
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
        let mut difference = self.clone();
        for (count, before) in difference.all_mut().zip(earlier.all()) {
            *count = count.saturating_sub(before);
        }
        difference.stalled_ms = self.stalled_ms.saturating_sub(earlier.stalled_ms);
        difference
    }

    /// Adds another part's counts.
    pub(crate) fn add(&mut self, other: &Self) {
        for (count, more) in self.all_mut().zip(other.all()) {
            *count += more;
        }
        self.stalled_ms = self.stalled_ms.max(other.stalled_ms);
    }

    /// Adds this many.
    pub(crate) const fn count(&mut self, counter: Counter, more: u64) {
        self.counters[counter as usize] += more;
    }

    pub(crate) const fn count_end(&mut self, reason: CloseReason) {
        self.ended[reason.index()] += 1;
        self.ended_in_all += 1;
    }

    /// All that can be added up.
    fn all(&self) -> impl Iterator<Item = u64> {
        self.counters.into_iter().chain(self.ended).chain([self.ended_in_all])
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        self.counters.iter_mut().chain(&mut self.ended).chain([&mut self.ended_in_all])
    }
}

/// What one shard counts, for each listener in the order of the configuration.
#[derive(Debug)]
pub(crate) struct ShardCounts(Box<[Row]>);

#[derive(Clone, Debug, Default)]
struct Row {
    counts: Counts,
    /// It may differ from what is published.
    changed: bool,
}

impl ShardCounts {
    /// For so many listeners.
    pub(crate) fn new(listeners: usize) -> Self {
        Self(vec![Row::default(); listeners].into())
    }

    /// Those of one listener, to be changed.
    pub(crate) fn of(&mut self, listener: u16) -> &mut Counts {
        let row = &mut self.0[usize::from(listener)];
        row.changed = true;
        &mut row.counts
    }

    /// Those of all listeners.
    #[cfg(test)]
    pub(crate) fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.0.iter().for_each(|row| total.add(&row.counts));
        total
    }
}

/// One shard's counts, readable from elsewhere.
#[derive(Debug)]
pub struct Published {
    rows: Box<[PublishedRow]>,
    stalled_ms: AtomicU64,
}

#[derive(Debug)]
struct PublishedRow {
    counters: [AtomicU64; COUNTERS],
    ended: [AtomicU64; REASONS],
    ended_in_all: AtomicU64,
}

impl Published {
    /// For so many listeners.
    pub fn new(listeners: usize) -> Self {
        let row = |_| PublishedRow {
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            ended: std::array::from_fn(|_| AtomicU64::new(0)),
            ended_in_all: AtomicU64::new(0),
        };
        Self { rows: (0..listeners).map(row).collect(), stalled_ms: AtomicU64::new(0) }
    }

    /// Publishes; only the owning shard does. A reader may see one turn half published; between turns, and
    /// once the shard has stopped, the counts are exact.
    pub(crate) fn store(&self, counts: &mut ShardCounts, stalled_ms: u64) {
        for (published, row) in self.rows.iter().zip(&mut counts.0) {
            if std::mem::take(&mut row.changed) {
                published.store(&row.counts);
            }
        }
        self.stalled_ms.store(stalled_ms, Relaxed);
    }

    /// What all of these shards have published last.
    #[must_use]
    pub fn sum(shards: &[Arc<Self>]) -> Counts {
        let mut counts = Counts::default();
        shards.iter().flat_map(|published| published.load()).for_each(|row| counts.add(&row));
        counts
    }

    /// The same for each listener, in the order of the configuration.
    #[must_use]
    pub fn sums_of_listeners(shards: &[Arc<Self>]) -> Vec<Counts> {
        let mut listeners = Vec::new();
        for published in shards {
            listeners.resize(published.rows.len(), Counts::default());
            listeners
                .iter_mut()
                .zip(published.load())
                .for_each(|(counts, row): (&mut Counts, _)| counts.add(&row));
        }
        listeners
    }

    /// The counts as last published, of each listener in its order.
    fn load(&self) -> impl Iterator<Item = Counts> {
        let stalled_ms = self.stalled_ms.load(Relaxed);
        self.rows.iter().map(move |row| row.load(stalled_ms))
    }
}

impl PublishedRow {
    fn store(&self, counts: &Counts) {
        // Most turns end nobody, and need not touch so many counts.
        if self.ended_in_all.load(Relaxed) != counts.ended_in_all {
            for (published, &ended) in self.ended.iter().zip(&counts.ended) {
                published.store(ended, Relaxed);
            }
            self.ended_in_all.store(counts.ended_in_all, Relaxed);
        }
        for (published, &count) in self.counters.iter().zip(&counts.counters) {
            published.store(count, Relaxed);
        }
    }

    fn load(&self, stalled_ms: u64) -> Counts {
        let ended: [u64; REASONS] = std::array::from_fn(|place| self.ended[place].load(Relaxed));
        Counts {
            counters: std::array::from_fn(|place| self.counters[place].load(Relaxed)),
            stalled_ms,
            ended,
            ended_in_all: ended.iter().sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_what_was_counted_for_each_listener_and_the_sum_is_the_whole() {
        let (mut counts, published) = (ShardCounts::new(3), Published::new(3));
        for listener in [0, 2, 2] {
            counts.of(listener).count(Counter::Accepted, 1);
            counts.of(listener).count(Counter::BytesIn, 10);
        }
        counts.of(2).count_end(CloseReason::PeerClosed);
        published.store(&mut counts, 7);
        published.store(&mut counts, 7);
        let rows: Vec<Counts> = published.load().collect();
        let numbers = |counts: &Counts| (counts.accepted(), counts.open(), counts.bytes_in());
        assert_eq!(rows.iter().map(numbers).collect::<Vec<_>>(), [(1, 1, 10), (0, 0, 0), (2, 1, 20)]);
        let mut sum = Counts::default();
        rows.iter().for_each(|row| sum.add(row));
        assert_eq!((sum.accepted(), sum.stalled_ms(), sum.ended(CloseReason::PeerClosed)), (3, 7, 1));
        assert_eq!(sum.since(&rows[2]).accepted(), 1);
        assert_eq!(Counts { stalled_ms: 7, ..counts.total() }, sum);
    }
}
