//! Where a shard keeps its connections: a slab in chunks, lowest place first, so that memory is given back
//! when connections leave. Knows nothing of what it keeps but its number.

use crate::id::{ConnectionId, ConnectionNumber};
use std::collections::BTreeSet;

/// A chunk is larger than this, so that the C library's allocator maps it on its own and unmaps it when it
/// is freed (its threshold for that grows with use, up to here). A smaller one would stay in the process
/// when the connections have left. Pages of a chunk that were never used cost nothing.
const CHUNK_BYTES_MIN: usize = 32 * 1024 * 1024;
/// An empty chunk of which no more than this was ever used is kept: where few connections come and go, each of them
/// would have it mapped and unmapped.
const KEPT_BYTES_MAX: usize = 128 * 1024;

/// What a table keeps.
pub(crate) trait Numbered {
    /// Its number, never used twice.
    fn number(&self) -> ConnectionNumber;
}

/// A slab of `T` in chunks.
#[derive(Debug)]
pub(crate) struct Table<T> {
    chunks: Vec<Option<Box<Chunk<T>>>>,
    /// Chunks with a free place, those without memory too.
    roomy: BTreeSet<usize>,
    len: usize,
}

#[derive(Debug)]
struct Chunk<T> {
    /// A bit per place; grows with `slots`.
    used: Vec<u64>,
    /// No word before this one has a free bit.
    roomy_word: usize,
    /// Grows as places are first used, within memory that is reserved as a whole.
    slots: Vec<Option<T>>,
    len: usize,
}

impl<T> Chunk<T> {
    /// Places per chunk.
    const PLACES: usize = (CHUNK_BYTES_MIN / size_of::<Option<T>>() + 1).next_power_of_two();
}

impl<T: Numbered> Table<T> {
    /// An empty table.
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), roomy: BTreeSet::new(), len: 0 }
    }

    /// How many it holds.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts `value` at the lowest free place, which is returned.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let index = self.roomy.first().copied().unwrap_or(self.chunks.len());
        if index == self.chunks.len() {
            self.chunks.push(None);
            self.roomy.insert(index);
        }
        let chunk = self.chunks[index].get_or_insert_with(|| Box::new(Chunk::new()));
        let place = chunk.insert(value);
        if chunk.len == Chunk::<T>::PLACES {
            self.roomy.remove(&index);
        }
        self.len += 1;
        (index * Chunk::<T>::PLACES + place) as u32
    }

    /// What is at `key`. To serve a connection, ask for it by its id.
    pub(crate) fn at(&mut self, key: u32) -> Option<&mut T> {
        let (index, place) = split::<T>(key);
        self.chunks.get_mut(index)?.as_mut()?.slots.get_mut(place)?.as_mut()
    }

    /// What has this id, if it is still there.
    pub(crate) fn get(&mut self, id: ConnectionId) -> Option<&mut T> {
        let key = id.key();
        self.at(key).filter(|value| ConnectionId::new(key, value.number()) == id)
    }

    /// The id of what stands at `key`.
    pub(crate) fn id_at(&mut self, key: u32) -> Option<ConnectionId> {
        Some(ConnectionId::new(key, self.at(key)?.number()))
    }

    /// The id of the first that stands at or after `from`.
    pub(crate) fn next(&mut self, from: u32) -> Option<ConnectionId> {
        let key = self.next_key(from)?;
        self.id_at(key)
    }

    /// Takes out what stands at `key`.
    pub(crate) fn remove(&mut self, key: u32) -> Option<T> {
        let (index, place) = split::<T>(key);
        let chunk = self.chunks.get_mut(index)?.as_mut()?;
        let value = chunk.remove(place)?;
        self.len -= 1;
        self.roomy.insert(index);
        if chunk.len == 0 && chunk.used_bytes() > KEPT_BYTES_MAX {
            self.chunks[index] = None;
        }
        Some(value)
    }

    /// The first occupied place at or after `from`.
    fn next_key(&self, from: u32) -> Option<u32> {
        let (first, place) = split::<T>(from);
        for (index, chunk) in self.chunks.iter().enumerate().skip(first) {
            let start = if index == first { place } else { 0 };
            if let Some(place) = chunk.as_ref().and_then(|chunk| chunk.next_used(start)) {
                return Some((index * Chunk::<T>::PLACES + place) as u32);
            }
        }
        None
    }
}

/// The chunk of a key, and the place in it.
const fn split<T>(key: u32) -> (usize, usize) {
    (key as usize / Chunk::<T>::PLACES, key as usize % Chunk::<T>::PLACES)
}

impl<T> Chunk<T> {
    fn new() -> Self {
        Self { used: Vec::new(), roomy_word: 0, slots: Vec::with_capacity(Self::PLACES), len: 0 }
    }

    fn insert(&mut self, value: T) -> usize {
        while self.used.get(self.roomy_word) == Some(&u64::MAX) {
            self.roomy_word += 1;
        }
        if self.roomy_word == self.used.len() {
            self.used.push(0);
        }
        let word = &mut self.used[self.roomy_word];
        let place = self.roomy_word * 64 + word.trailing_ones() as usize;
        *word |= 1 << (place % 64);
        self.len += 1;
        if place == self.slots.len() {
            self.slots.push(Some(value));
        } else {
            self.slots[place] = Some(value);
        }
        place
    }

    fn remove(&mut self, place: usize) -> Option<T> {
        let value = self.slots.get_mut(place)?.take()?;
        self.used[place / 64] &= !(1 << (place % 64));
        self.roomy_word = self.roomy_word.min(place / 64);
        self.len -= 1;
        Some(value)
    }

    /// Of the places that were ever used, those that are empty now included.
    const fn used_bytes(&self) -> usize {
        self.slots.len() * size_of::<Option<T>>()
    }

    fn next_used(&self, from: usize) -> Option<usize> {
        let mut mask = u64::MAX << (from % 64);
        for (word, used) in self.used.iter().enumerate().skip(from / 64) {
            let found = used & mask;
            if found != 0 {
                return Some(word * 64 + found.trailing_zeros() as usize);
            }
            mask = u64::MAX;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Numbered for u64 {
        fn number(&self) -> ConnectionNumber {
            ConnectionNumber::from_bits(*self)
        }
    }

    #[test]
    fn the_lowest_free_place_is_taken_and_a_stale_id_finds_nothing() {
        let mut table = Table::new();
        let keys: Vec<u32> = (0..3000u64).map(|number| table.insert(number)).collect();
        assert_eq!(keys, (0..3000).collect::<Vec<u32>>());
        assert_eq!(table.remove(7), Some(7));
        assert_eq!(table.remove(7), None);
        assert_eq!(table.get(id(7, 7)), None);
        assert_eq!(table.insert(5000), 7);
        assert_eq!(table.get(id(7, 7)), None);
        assert_eq!(table.get(id(7, 5000)), Some(&mut 5000));
        assert_eq!(table.len(), 3000);
    }

    fn id(key: u32, number: u64) -> ConnectionId {
        ConnectionId::new(key, ConnectionNumber::from_bits(number))
    }

    /// So large that a chunk has few places.
    struct Large(u64, [u64; 4096]);

    impl Numbered for Large {
        fn number(&self) -> ConnectionNumber {
            ConnectionNumber::from_bits(self.0)
        }
    }

    #[test]
    fn an_empty_chunk_is_given_back_and_used_again() {
        let places = Chunk::<Large>::PLACES as u32;
        let mut table = Table::new();
        for number in 0..places + 3 {
            table.insert(Large(number.into(), [0; 4096]));
        }
        for key in 0..places {
            assert_eq!(table.remove(key).map(|large| (large.0, large.1[7])), Some((key.into(), 0)));
        }
        assert!(table.chunks[0].is_none());
        assert_eq!(table.next_key(0), Some(places));
        assert_eq!(table.insert(Large(9999, [0; 4096])), 0);
        assert_eq!(table.next_key(1), Some(places));
        assert_eq!(table.next_key(places + 3), None);
    }

    #[test]
    fn an_empty_chunk_that_was_used_little_is_kept() {
        let mut table = Table::new();
        for number in 0..5 {
            let key = table.insert(Large(number, [0; 4096]));
            assert!(table.remove(key).is_some() && table.is_empty());
            assert!(table.chunks[0].is_some());
        }
        for number in 0..5 {
            table.insert(Large(number, [0; 4096]));
        }
        assert!((0..5).all(|key| table.remove(key).is_some()));
        assert!(table.chunks[0].is_none(), "it was used more");
    }

    #[test]
    fn walking_by_next_key_sees_each_once() {
        let mut table = Table::new();
        for number in 0..200u64 {
            table.insert(number);
        }
        for key in (0..200).step_by(3) {
            table.remove(key);
        }
        let mut seen = Vec::new();
        let mut from = 0;
        while let Some(key) = table.next_key(from) {
            seen.push(key);
            from = key + 1;
        }
        assert_eq!(seen, (0..200).filter(|key| key % 3 != 0).collect::<Vec<u32>>());
    }
}
