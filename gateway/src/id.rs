//! The name of a connection, by which everybody but its shard refers to it.

/// Names one connection of a shard for ever: its place in the table and the low half of its number. A place
/// is used again, a number is not, so a stale id finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(u64);

impl ConnectionId {
    /// The id of the connection with this number at this place.
    pub(crate) const fn new(key: u32, number: u64) -> Self {
        Self((key as u64) << 32 | number & 0xFFFF_FFFF)
    }

    /// Its place.
    pub(crate) const fn key(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// As one machine word, for the poller.
    pub(crate) const fn to_bits(self) -> u64 {
        self.0
    }

    /// From the poller's word.
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}
