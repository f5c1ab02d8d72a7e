//! The timing wheel: which connections have to be looked at, and when. Knows keys and instants only.
//!
//! Hashed and hierarchical (Varghese and Lauck, "Hashed and hierarchical timing wheels", SOSP 1987): eight
//! levels of 64 slots, each level 64 times coarser than the one below, a bitmap of occupied slots per level.
//! Filing, removing and finding the next occupied slot are O(1) and allocate nothing.
//!
//! The wheel doesn't store deadlines and isn't told when one moves later. When a slot comes up, its keys are
//! handed out, and the owner looks at the real deadline: if it lies ahead, it files the key again. That one
//! rule serves both lazy re-filing (a heartbeat costs one store) and the descent from a coarse level.

use crate::time::Instant;

/// Nanoseconds of a tick as a power of two: 65.536 us.
const TICK_SHIFT: u32 = 16;
/// Slots per level as a power of two.
const SLOT_SHIFT: u32 = 6;
const SLOTS: usize = 1 << SLOT_SHIFT;
/// Eight levels of six bits hold every tick of a 64-bit nanosecond clock.
const LEVELS: usize = 8;
/// No key, no slot.
const NIL: u32 = u32::MAX;
const NO_SLOT: u16 = u16::MAX;

/// The length of a tick. A key is handed out at its deadline or up to one tick later, never before.
pub const TICK: std::time::Duration = std::time::Duration::from_nanos(1 << TICK_SHIFT);

/// A key's place in the wheel. The owner keeps one beside whatever the key stands for.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    next: u32,
    previous: u32,
    slot: u16,
}

impl Node {
    /// A node that is filed nowhere.
    pub const UNFILED: Self = Self { next: NIL, previous: NIL, slot: NO_SLOT };

    /// Whether the node is in a slot.
    #[must_use]
    pub const fn is_filed(&self) -> bool {
        self.slot != NO_SLOT
    }
}

/// Where the wheel finds the nodes of its keys.
pub trait Nodes {
    /// The node of a key that is, or is about to be, filed.
    fn node(&mut self, key: u32) -> &mut Node;
}

impl Nodes for Vec<Node> {
    fn node(&mut self, key: u32) -> &mut Node {
        &mut self[key as usize]
    }
}

/// A timing wheel over keys whose nodes live with their owner.
#[derive(Debug)]
pub struct Wheel {
    /// The tick that is being handed out; no earlier slot holds anything.
    tick: u64,
    filed: usize,
    occupied: [u64; LEVELS],
    heads: [[u32; SLOTS]; LEVELS],
}

impl Wheel {
    /// An empty wheel at `now`.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self {
            tick: now.as_nanos() >> TICK_SHIFT,
            filed: 0,
            occupied: [0; LEVELS],
            heads: [[NIL; SLOTS]; LEVELS],
        }
    }

    /// How many keys are filed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.filed
    }

    /// Whether no key is filed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.filed == 0
    }

    /// Files `key` to come up at `deadline`, wherever it stood before. A deadline in the past comes up
    /// within a tick.
    pub fn file(&mut self, nodes: &mut impl Nodes, key: u32, deadline: Instant) {
        self.remove(nodes, key);
        let tick = tick_at_or_after(deadline).max(self.tick);
        let level = level_between(self.tick, tick);
        let slot = slot_of(tick, level);
        let head = std::mem::replace(&mut self.heads[level][slot], key);
        *nodes.node(key) = Node { next: head, previous: NIL, slot: (level * SLOTS + slot) as u16 };
        if head != NIL {
            nodes.node(head).previous = key;
        }
        self.occupied[level] |= 1 << slot;
        self.filed += 1;
    }

    /// Takes `key` out, if it is filed.
    pub fn remove(&mut self, nodes: &mut impl Nodes, key: u32) {
        let Node { next, previous, slot } = std::mem::replace(nodes.node(key), Node::UNFILED);
        if slot == NO_SLOT {
            return;
        }
        if next != NIL {
            nodes.node(next).previous = previous;
        }
        if previous == NIL {
            let (level, slot) = (slot as usize / SLOTS, slot as usize % SLOTS);
            self.heads[level][slot] = next;
            if next == NIL {
                self.occupied[level] &= !(1 << slot);
            }
        } else {
            nodes.node(previous).next = next;
        }
        self.filed -= 1;
    }

    /// The next key whose slot has come by `now`, taken out of the wheel; `None` when there is no more.
    ///
    /// The owner compares the key's deadline with `now` and either acts on it or files the key again.
    /// Filing a key with a deadline later than `now` lets it come up again within the same `now` at most once
    /// per level, so a loop over `poll` ends.
    pub fn poll(&mut self, nodes: &mut impl Nodes, now: Instant) -> Option<u32> {
        let end = now.as_nanos() >> TICK_SHIFT;
        let next = self.next_occupied().filter(|&(tick, _)| tick <= end);
        self.tick = self.tick.max(next.map_or(end, |(tick, _)| tick));
        let (tick, level) = next?;
        let key = self.heads[level][slot_of(tick, level)];
        self.remove(nodes, key);
        Some(key)
    }

    /// When to [`poll`](Self::poll) next: the beginning of the earliest occupied slot. No deadline of a
    /// filed key lies before it, some may lie after.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let (tick, _) = self.next_occupied()?;
        Some(Instant::from_nanos(tick << TICK_SHIFT))
    }

    /// The earliest occupied slot: the tick at which it begins, and its level.
    fn next_occupied(&self) -> Option<(u64, usize)> {
        (0..LEVELS).filter_map(|level| Some((self.next_in_level(level)?, level))).min()
    }

    fn next_in_level(&self, level: usize) -> Option<u64> {
        let occupied = self.occupied[level];
        if occupied == 0 {
            return None;
        }
        let shift = SLOT_SHIFT * level as u32;
        let current = self.tick >> shift;
        // Keys lie at most 63 slots ahead of the current one, so the distance around the ring is unambiguous.
        let distance = occupied.rotate_right((current % SLOTS as u64) as u32).trailing_zeros();
        Some(((current + u64::from(distance)) << shift).max(self.tick))
    }
}

/// Rounded up, so that nothing comes up early; the last tick of the clock has no later one to round up to.
fn tick_at_or_after(deadline: Instant) -> u64 {
    deadline.as_nanos().div_ceil(1 << TICK_SHIFT).min(u64::MAX >> TICK_SHIFT)
}

/// The level whose slots tell `tick` from `current`: the place of the highest differing group of bits.
const fn level_between(current: u64, tick: u64) -> usize {
    let differing = current ^ tick;
    if differing == 0 { 0 } else { ((u64::BITS - 1 - differing.leading_zeros()) / SLOT_SHIFT) as usize }
}

const fn slot_of(tick: u64, level: usize) -> usize {
    (tick >> (SLOT_SHIFT * level as u32)) as usize % SLOTS
}
