//! The wheel against a sorted map: whatever is filed, moved and removed, and however polling is interrupted,
//! every key comes up, in time, and nothing else does.

use crate::driver::NANO;
use proptest::prelude::*;
use pulsegate_core::time::Instant;
use pulsegate_core::wheel::{Node, TICK, Wheel};
use std::collections::BTreeMap;
use std::time::Duration;

const KEYS: u32 = 24;
const LEVELS: usize = 8;
const TICK_NANOS: u64 = TICK.as_nanos() as u64;
/// The beginning of the clock's last tick, which has no later one to round up to.
const LAST_TICK: Instant = Instant::from_nanos(u64::MAX / TICK_NANOS * TICK_NANOS);

#[derive(Clone, Copy, Debug)]
enum Call {
    /// Files, or files again, so far ahead.
    File(u32, u64),
    /// Files with a deadline so far back.
    FilePast(u32, u64),
    /// Moves the real deadline later and tells the wheel nothing.
    Postpone(u32, u64),
    Remove(u32),
    Advance(u64),
    AdvanceToWake,
    AdvanceBeforeWake,
    /// Takes so many keys at most.
    Poll(usize),
    PollAll,
}

/// From nothing to beyond what any level holds, often just beside a boundary.
fn distances() -> impl Strategy<Value = u64> {
    let beside_a_power = (0_u32..48, 0_u64..130, 0_u64..3).prop_map(|(power, ticks, nanos)| {
        (1_u64 << power).saturating_add(ticks).saturating_mul(TICK_NANOS).saturating_add(nanos)
    });
    let before_a_power =
        (0_u32..48, 1_u64..3).prop_map(|(power, nanos)| (1_u64 << power) * TICK_NANOS - nanos);
    prop_oneof![
        1 => Just(0),
        4 => 0..3 * TICK_NANOS,
        4 => 0..200 * TICK_NANOS,
        4 => beside_a_power,
        2 => before_a_power,
        1 => any::<u64>(),
    ]
}

fn calls() -> impl Strategy<Value = Call> {
    let step = prop_oneof![Just(0), Just(1), 0..2 * TICK_NANOS, 0..5_000 * TICK_NANOS, 0..1_u64 << 44];
    prop_oneof![
        8 => (0..KEYS, distances()).prop_map(|(key, distance)| Call::File(key, distance)),
        1 => (0..KEYS, distances()).prop_map(|(key, distance)| Call::FilePast(key, distance)),
        4 => (0..KEYS, distances()).prop_map(|(key, distance)| Call::Postpone(key, distance)),
        2 => (0..KEYS).prop_map(Call::Remove),
        3 => step.prop_map(Call::Advance),
        3 => Just(Call::AdvanceToWake),
        1 => Just(Call::AdvanceBeforeWake),
        3 => (0_usize..4).prop_map(Call::Poll),
        3 => Just(Call::PollAll),
    ]
}

fn starts() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        any::<u64>().prop_map(|nanos| nanos / 2),
        (0_u32..47, 0_u64..200)
            .prop_map(|(power, back)| ((1_u64 << power).saturating_sub(back)) * TICK_NANOS + back),
        Just(u64::MAX - 1_000 * TICK_NANOS),
    ]
}

/// The owner of the keys, and the map that says what the wheel must do.
struct Owner {
    wheel: Wheel,
    nodes: Vec<Node>,
    now: Instant,
    /// The filed keys, by their real deadline.
    model: BTreeMap<(Instant, u32), ()>,
    deadlines: Vec<Option<Instant>>,
}

impl Owner {
    fn new(start: u64) -> Self {
        let now = Instant::from_nanos(start);
        Self {
            wheel: Wheel::new(now),
            nodes: vec![Node::UNFILED; KEYS as usize],
            now,
            model: BTreeMap::new(),
            deadlines: vec![None; KEYS as usize],
        }
    }

    fn forget(&mut self, key: u32) {
        if let Some(deadline) = self.deadlines[key as usize].take() {
            self.model.remove(&(deadline, key)).expect("model and deadlines agree");
        }
    }

    fn remember(&mut self, key: u32, deadline: Instant) {
        self.forget(key);
        self.deadlines[key as usize] = Some(deadline);
        self.model.insert((deadline, key), ());
    }

    fn file(&mut self, key: u32, deadline: Instant) {
        self.remember(key, deadline);
        self.wheel.file(&mut self.nodes, key, deadline);
    }

    fn call(&mut self, call: Call) {
        match call {
            Call::File(key, ahead) => self.file(key, self.now.after(Duration::from_nanos(ahead))),
            Call::FilePast(key, back) => self.file(key, self.now.before(Duration::from_nanos(back))),
            Call::Postpone(key, by) => {
                if let Some(deadline) = self.deadlines[key as usize] {
                    self.remember(key, deadline.after(Duration::from_nanos(by)));
                }
            }
            Call::Remove(key) => {
                self.forget(key);
                self.wheel.remove(&mut self.nodes, key);
            }
            Call::Advance(nanos) => self.now = self.now.after(Duration::from_nanos(nanos)),
            Call::AdvanceToWake => self.now = self.wake(),
            Call::AdvanceBeforeWake => self.now = self.now.max(self.wake().before(NANO)),
            Call::Poll(most) => drop(self.poll(most)),
            Call::PollAll => drop(self.poll_all()),
        }
        self.check();
    }

    /// Now, or the wake that the wheel asks for.
    fn wake(&self) -> Instant {
        let wake = self.wheel.next_wake().unwrap_or(self.now).max(self.now);
        // In the clock's last tick a key may come up before its deadline, over and over, until the end.
        if wake >= LAST_TICK { Instant::MAX } else { wake }
    }

    /// Takes at most so many keys, files again what is not due, and returns how many came up.
    fn poll(&mut self, most: usize) -> usize {
        for taken in 0..most {
            let Some(key) = self.wheel.poll(&mut self.nodes, self.now) else { return taken };
            assert!(!self.nodes[key as usize].is_filed());
            let deadline = self.deadlines[key as usize].expect("only what is filed comes up");
            if deadline > self.now {
                self.wheel.file(&mut self.nodes, key, deadline);
            } else {
                self.forget(key);
            }
        }
        most
    }

    fn poll_all(&mut self) -> usize {
        // A coarse slot hands a key out early, at most once a level.
        let bound = self.model.len() * (LEVELS + 1) + 1;
        let taken = self.poll(bound);
        assert!(taken < bound || self.now >= LAST_TICK, "a key comes up over and over within one instant");
        if self.now < LAST_TICK {
            self.check_nothing_is_late();
        }
        taken
    }

    fn check_nothing_is_late(&self) {
        if let Some(((deadline, key), ())) = self.model.first_key_value() {
            assert!(deadline.after(TICK) > self.now, "{key} was due at {deadline:?}, it is {:?}", self.now);
        }
        assert!(self.wheel.next_wake().is_none_or(|wake| wake > self.now), "polled in full, but due");
    }

    fn check(&self) {
        assert_eq!(self.wheel.len(), self.model.len());
        assert_eq!(self.wheel.is_empty(), self.model.is_empty());
        for (node, deadline) in self.nodes.iter().zip(&self.deadlines) {
            assert_eq!(node.is_filed(), deadline.is_some());
        }
        let earliest = self.model.first_key_value().map(|((deadline, _), ())| *deadline);
        assert_eq!(self.wheel.next_wake().is_some(), earliest.is_some());
        if let (Some(wake), Some(earliest)) = (self.wheel.next_wake(), earliest) {
            let in_time = wake <= self.now || wake.since(earliest) < TICK;
            assert!(in_time, "{earliest:?} would be missed at {wake:?}");
        }
    }

    /// From wake to wake until nothing is left; every wake is for something, and nobody is late.
    fn drain(&mut self) {
        self.poll_all();
        let mut wakes = 0;
        while !self.wheel.is_empty() {
            self.now = self.wake();
            assert!(self.poll_all() > 0, "woken for nothing");
            self.check();
            wakes += 1;
            // Postponed deadlines come up once for the old slot and then descend.
            assert!(wakes <= KEYS as usize * (LEVELS + 2), "the wheel doesn't come to an end");
        }
        assert!(self.model.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_key_comes_up_in_time_and_nothing_is_lost(
        start in starts(),
        calls in prop::collection::vec(calls(), 0..150),
    ) {
        let mut owner = Owner::new(start);
        for call in calls {
            owner.call(call);
        }
        owner.drain();
    }

    #[test]
    fn polled_at_every_wake_a_key_is_at_most_a_tick_late_and_never_early(
        start in starts(),
        distances in prop::collection::vec(distances(), 1..KEYS as usize),
    ) {
        let mut owner = Owner::new(start);
        for (key, distance) in (0..).zip(distances) {
            owner.call(Call::File(key, distance));
        }
        while let Some(((deadline, key), ())) = owner.model.first_key_value() {
            let (deadline, key) = (*deadline, *key);
            let mut rounds = 0;
            while owner.deadlines[key as usize].is_some() {
                owner.now = owner.wake();
                prop_assert!(owner.poll_all() > 0, "woken for nothing");
                rounds += 1;
                prop_assert!(rounds <= KEYS as usize * (LEVELS + 1), "{deadline:?} never comes up");
            }
            prop_assert!(owner.now >= deadline);
            prop_assert!(owner.now.since(deadline) < TICK, "{:?} came at {:?}", deadline, owner.now);
        }
    }
}
