//! The names of a connection: its number, for people and for ever; and its id, by which everybody but its shard refers
//! to it while it lives.

/// How many bits of a number count the connections of its shard.
const SEQUENCE_BITS: u32 = 54;
/// How many of these count within the unit of time in which the shard began. More carry over into the next unit, which
/// is long over by then: no gateway accepts that many in that time.
const PLACE_BITS: u32 = 17;
/// The unit, in milliseconds.
const UNIT_MS: u64 = 10;
/// The year 2026 begins, in milliseconds since 1970-01-01 UTC.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// The number of a connection. It names the shard, on which the connection stays, and goes up from one connection of a
/// shard to the next.
///
/// No other connection of a gateway has it, whether before or after a restart: the first number of a shard comes from
/// the time at which it began. Only where the clock was set back between two starts a number may come again.
///
/// It reads as `1b2k9xc-0-17`: when the shard began, the shard, and which of its connections this was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionNumber(u64);

impl ConnectionNumber {
    /// From a word.
    #[cfg(test)]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As one word; its low half alone is unique among four thousand millions of a shard.
    pub(crate) const fn to_bits(self) -> u64 {
        self.0
    }

    /// The shard, counted from 0.
    #[must_use]
    pub const fn shard(self) -> usize {
        (self.0 >> SEQUENCE_BITS) as usize
    }
}

impl std::fmt::Display for ConnectionNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sequence = self.0 & ((1 << SEQUENCE_BITS) - 1);
        let (mut began, place) = (sequence >> PLACE_BITS, sequence & ((1 << PLACE_BITS) - 1));
        let mut digits = Vec::new();
        while began > 0 || digits.is_empty() {
            digits.extend(char::from_digit((began % 36) as u32, 36));
            began /= 36;
        }
        let began: String = digits.into_iter().rev().collect();
        write!(f, "{began}-{}-{place}", self.shard())
    }
}

impl std::fmt::Debug for ConnectionNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Gives the connections of one shard their numbers.
#[derive(Debug)]
pub struct Numbers(ConnectionNumber);

impl Numbers {
    /// Those of a shard that begins now, in milliseconds since 1970-01-01 UTC.
    pub const fn new(shard: usize, wall_ms: u64) -> Self {
        let began = wall_ms.saturating_sub(EPOCH_MS) / UNIT_MS;
        let sequence = (began << PLACE_BITS) & ((1 << SEQUENCE_BITS) - 1);
        Self(ConnectionNumber((shard as u64) << SEQUENCE_BITS | sequence))
    }

    /// The next one.
    pub const fn next(&mut self) -> ConnectionNumber {
        self.0.0 += 1;
        self.0
    }
}

/// Names one connection of a shard for ever: its place in the table and the low half of its number. A place
/// is used again, a number is not, so a stale id finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// The id of the connection with this number at this place.
    pub const fn new(key: u32, number: ConnectionNumber) -> Self {
        Self((key as u64) << 32 | number.to_bits() & 0xFFFF_FFFF)
    }

    /// Its place.
    pub(crate) const fn key(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// As one machine word, for the poller.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// From the poller's word.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_number_comes_again_from_another_shard_or_after_a_restart() {
        let mut seen = HashSet::new();
        // Each run begins a moment after the one before, which has accepted more than a place has room for.
        for (shard, began) in [(0, 0), (1, 0), (1023, 0), (0, 20), (1, 20), (1023, 20)] {
            let mut numbers = Numbers::new(shard, EPOCH_MS + 1_000_000_000 + began);
            let mut last = None;
            for _ in 0..(1 << PLACE_BITS) + 10 {
                let number = numbers.next();
                assert!(last < Some(number), "they go up");
                assert_eq!(number.shard(), shard);
                assert!(seen.insert(number), "{number}");
                last = Some(number);
            }
        }
        let texts: HashSet<String> = seen.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), seen.len());
    }

    #[test]
    fn a_number_is_short_enough_to_be_read_out() {
        let mut numbers = Numbers::new(3, EPOCH_MS + 365 * 86_400_000);
        numbers.next();
        assert_eq!(numbers.next().to_string(), "1g5klc0-3-2");
    }
}
