//! The timing wheel at its edges: every level's wrap-around, slot and tick boundaries, both ends of the clock,
//! a clock that stands still, and polling that stops halfway.

use crate::driver::{NANO, s};
use pulsegate_core::time::Instant;
use pulsegate_core::wheel::{Node, Nodes, TICK, Wheel};
use std::time::Duration;

const LEVELS: u32 = 8;
const TICK_NANOS: u64 = TICK.as_nanos() as u64;
/// Most ticks that a 64-bit clock of nanoseconds has.
const TICKS: u64 = u64::MAX / TICK_NANOS;

const fn tick(number: u64) -> Instant {
    Instant::from_nanos(number * TICK_NANOS)
}

/// A wheel with its nodes.
struct Timers {
    wheel: Wheel,
    nodes: Vec<Node>,
    handed_out: u32,
}

impl Timers {
    fn new(now: Instant) -> Self {
        Self { wheel: Wheel::new(now), nodes: vec![Node::UNFILED; 16], handed_out: 0 }
    }

    fn file(&mut self, key: u32, deadline: Instant) {
        self.wheel.file(&mut self.nodes, key, deadline);
        assert!(self.nodes.node(key).is_filed());
    }

    fn remove(&mut self, key: u32) {
        self.wheel.remove(&mut self.nodes, key);
        assert!(!self.nodes.node(key).is_filed());
    }

    fn poll(&mut self, now: Instant) -> Option<u32> {
        let key = self.wheel.poll(&mut self.nodes, now);
        self.handed_out += u32::from(key.is_some());
        assert!(self.handed_out < 1_000, "the same come up over and over");
        assert!(key.is_none_or(|key| !self.nodes.node(key).is_filed()), "handed out means taken out");
        key
    }

    fn poll_all(&mut self, now: Instant) -> Vec<u32> {
        let mut keys: Vec<u32> = std::iter::from_fn(|| self.poll(now)).collect();
        keys.sort_unstable();
        keys
    }

    /// Sleeps from wake to wake until `key`, filed for `deadline`, is due; files it again when it comes up
    /// before. Returns when it was due.
    fn wait(&mut self, key: u32, deadline: Instant) -> Instant {
        self.file(key, deadline);
        let mut last = Instant::ORIGIN;
        for _ in 0..=LEVELS {
            let now = self.wheel.next_wake().expect("a key is filed").max(last);
            assert_eq!(self.poll(now), Some(key), "woken for nothing at {now:?}");
            if now >= deadline {
                return now;
            }
            self.file(key, deadline);
            assert_eq!(self.poll(now), None, "again within the same instant");
            last = now;
        }
        panic!("still not due after {LEVELS} descents");
    }
}

#[test]
fn a_deadline_at_any_distance_comes_up_in_time_from_any_place_in_the_ring() {
    let slots = 64_u64;
    for level in 0..LEVELS {
        let width = slots.pow(level);
        for place in [0, 1, width - 1, width, 63 * width, 64 * width - 1] {
            for distance in [0, 1, width - 1, width, width + 1, 63 * width, 64 * width - 1, 64 * width] {
                let (start, end) = (1_000_000 * slots + place, 1_000_000 * slots + place + distance);
                if end > TICKS {
                    continue;
                }
                let mut timers = Timers::new(tick(start));
                for deadline in [tick(end).before(NANO), tick(end), tick(end).after(NANO)] {
                    let due = timers.wait(0, deadline);
                    assert!(due >= deadline && due.since(deadline) < TICK, "{deadline:?} came up at {due:?}");
                    assert!(timers.wheel.is_empty());
                }
            }
        }
    }
}

#[test]
fn every_level_wraps_around() {
    for level in 0..LEVELS - 1 {
        // The last tick before the ring of this level begins anew.
        let wrap = 64_u64.pow(level + 1) * 5;
        let deadline = |key: u32| tick(wrap - 1 + u64::from(key));
        let mut timers = Timers::new(deadline(0));
        (0..8).for_each(|key| timers.file(key, deadline(key)));
        for key in 0..8 {
            assert_eq!(timers.poll(deadline(key).before(NANO)), None, "level {level}, key {key}");
            let mut due = Vec::new();
            while let Some(up) = timers.poll(deadline(key)) {
                if up > key { timers.file(up, deadline(up)) } else { due.push(up) }
            }
            assert_eq!(due, [key], "level {level}");
        }
    }
}

#[test]
fn a_deadline_on_a_tick_comes_up_exactly_there() {
    let mut timers = Timers::new(tick(100));
    timers.file(0, tick(110));
    assert_eq!(timers.wheel.next_wake(), Some(tick(110)));
    assert_eq!(timers.poll(tick(109)), None, "one tick before");
    assert_eq!(timers.poll(tick(110).before(NANO)), None, "one nanosecond before");
    assert_eq!(timers.poll(tick(110)), Some(0));
}

#[test]
fn a_deadline_between_two_ticks_comes_up_at_the_later_one() {
    for deadline in [tick(109).after(NANO), tick(110).before(NANO)] {
        let mut timers = Timers::new(tick(100));
        timers.file(0, deadline);
        assert_eq!(timers.wheel.next_wake(), Some(tick(110)));
        assert_eq!(timers.poll(deadline), None);
        assert_eq!(timers.poll(tick(110)), Some(0));
    }
}

#[test]
fn a_deadline_in_the_past_comes_up_at_the_next_poll() {
    for deadline in [Instant::ORIGIN, tick(1), tick(99), tick(100)] {
        let mut timers = Timers::new(tick(100));
        timers.file(0, deadline);
        assert_eq!(timers.wheel.next_wake(), Some(tick(100)));
        assert_eq!(timers.poll_all(tick(100)), [0]);
    }
}

#[test]
fn two_keys_at_the_same_instant_both_come_up() {
    let mut timers = Timers::new(tick(100));
    for key in 0..3 {
        timers.file(key, tick(5_000));
    }
    assert_eq!(timers.wheel.len(), 3);
    assert_eq!(timers.poll_all(tick(5_000)), [0, 1, 2]);
}

#[test]
fn a_key_filed_again_comes_up_once_for_the_last_deadline() {
    for (first, last) in [(110, 110), (110, 120), (120, 110)] {
        let mut timers = Timers::new(tick(100));
        timers.file(0, tick(first));
        timers.file(0, tick(last));
        assert_eq!(timers.wheel.len(), 1);
        assert_eq!(timers.poll(tick(last - 1)), None);
        assert_eq!(timers.poll_all(tick(200)), [0]);
    }
}

#[test]
fn the_first_the_middle_and_the_last_of_a_slot_can_be_removed() {
    for removed in 0..3_u32 {
        let mut timers = Timers::new(tick(100));
        for key in 0..3 {
            timers.file(key, tick(110));
        }
        timers.remove(removed);
        timers.remove(removed);
        assert_eq!(timers.wheel.len(), 2);
        let others: Vec<u32> = (0..3).filter(|&key| key != removed).collect();
        assert_eq!(timers.poll_all(tick(110)), others);
    }
}

#[test]
fn an_emptied_wheel_wakes_nobody() {
    let mut timers = Timers::new(tick(100));
    assert_eq!((timers.wheel.next_wake(), timers.wheel.is_empty()), (None, true));
    timers.file(0, tick(110));
    assert!(!timers.wheel.is_empty());
    timers.remove(0);
    assert_eq!((timers.wheel.next_wake(), timers.wheel.is_empty()), (None, true));
    assert_eq!(timers.poll(Instant::MAX), None);
}

#[test]
fn while_the_clock_stands_still_what_is_not_due_stays() {
    let mut timers = Timers::new(tick(100));
    timers.file(0, tick(100));
    timers.file(1, tick(101));
    for round in 0..10 {
        assert_eq!(timers.poll_all(tick(100)), if round == 0 { vec![0] } else { vec![] });
        assert_eq!(timers.wheel.next_wake(), Some(tick(101)));
    }
}

#[test]
fn the_end_of_the_clock_can_be_named_and_reached() {
    for start in [Instant::ORIGIN, tick(1 << 40), tick(TICKS - 1), Instant::MAX] {
        let mut timers = Timers::new(start);
        timers.file(0, Instant::MAX);
        timers.file(1, Instant::MAX.before(NANO));
        assert_eq!(timers.poll(start.min(tick(TICKS - 1))), None, "from {start:?}");
        assert_eq!(timers.poll_all(Instant::MAX), [0, 1]);
    }
}

#[test]
fn a_wheel_that_starts_late_works_like_any_other() {
    for start in [tick(1 << 20), tick((1 << 42) - 1), tick(1 << 47), Instant::from_nanos(1 << 63)] {
        for distance in [NANO, TICK, s(5), s(86_400)] {
            let deadline = start.after(distance);
            let due = Timers::new(start).wait(0, deadline);
            assert!(due >= deadline && due.since(deadline) < TICK, "{start:?} + {distance:?}: {due:?}");
        }
    }
}

#[test]
fn a_key_filed_earlier_while_polling_has_stopped_halfway_comes_up_in_its_turn() {
    let mut timers = Timers::new(tick(100));
    for key in 0..4 {
        timers.file(key, tick(200 + 100 * u64::from(key)));
    }
    let now = tick(1_000);
    assert_eq!(timers.poll(now), Some(0));
    timers.file(3, tick(150));
    timers.file(5, tick(50));
    timers.file(6, tick(1_000));
    timers.file(7, tick(5_000));
    assert_eq!(timers.poll_all(now), [1, 2, 3, 5, 6]);
    assert_eq!(timers.wheel.next_wake(), Some(tick(4_096)), "the slot of 5,000");
}

#[test]
fn what_was_left_by_bounded_polling_comes_up_later() {
    let mut timers = Timers::new(tick(100));
    for key in 0..8 {
        timers.file(key, tick(110));
    }
    let mut seen = Vec::new();
    for later in 0..8 {
        assert!(timers.wheel.next_wake().unwrap() <= tick(110), "the rest is due still");
        seen.extend(timers.poll(tick(110 + 1_000 * later)));
    }
    seen.sort_unstable();
    assert_eq!((seen, timers.wheel.len()), ((0..8).collect(), 0));
}

#[test]
fn a_key_filed_for_later_after_an_idle_time_does_not_come_up_now() {
    let mut timers = Timers::new(tick(0));
    assert_eq!(timers.poll(tick(100)), None);
    timers.file(0, tick(110));
    assert_eq!(timers.poll(tick(100)), None);
}

#[test]
fn a_key_filed_for_later_after_a_poll_for_nothing_does_not_come_up_now() {
    let mut timers = Timers::new(tick(0));
    timers.file(1, tick(1 << 20));
    assert_eq!(timers.poll(tick(100)), None);
    timers.file(0, tick(110));
    assert_eq!(timers.poll(tick(100)), None);
    assert_eq!(timers.wheel.next_wake(), Some(tick(110)));
}

#[test]
fn a_tick_is_what_the_design_allows() {
    assert!(TICK <= Duration::from_micros(128));
}
