//! A million connections, one wheel, more than a minute of virtual time: who beats lives, who falls silent ends
//! within a tick of its deadline, and nobody else does.

use crate::driver::{START, ms, s};
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::{Connection, Event, Output};
use pulsegate_core::policy::{LifetimePolicy, Policy};
use pulsegate_core::time::{Instant, Now};
use pulsegate_core::wheel::{Node, TICK, Wheel};
use std::time::Duration;

const CONNECTIONS: u32 = 1_000_000;
/// Everybody beats once in it, each at a phase of its own, in the order of the keys.
const INTERVAL: Duration = s(4);
const TIMEOUT: Duration = s(5);
/// The intervals in which everybody beats: a minute.
const ROUNDS: u32 = 15;

const fn falls_silent(key: u32) -> bool {
    key % 10 == 3
}

fn beat(round: u32, key: u32) -> Instant {
    START.after(INTERVAL * round + INTERVAL / CONNECTIONS * key)
}

#[derive(Default)]
struct Ending {
    transmit: Vec<u8>,
    reason: Option<CloseReason>,
}

impl Output for Ending {
    fn transmit(&mut self) -> &mut Vec<u8> {
        &mut self.transmit
    }

    fn waiting(&self) -> usize {
        0
    }

    fn handle_event(&mut self, event: Event<'_>) {
        if let Event::Closed(reason) = event {
            self.reason = Some(reason);
        }
    }
}

struct Shard {
    policy: Policy,
    connections: Vec<Connection>,
    nodes: Vec<Node>,
    wheel: Wheel,
    output: Ending,
    ended: Vec<bool>,
    handed_out: u64,
}

impl Shard {
    fn new() -> Self {
        let lifetime = LifetimePolicy::Long { heartbeat_timeout: TIMEOUT, max_age: s(3_600) };
        Self {
            policy: Policy { lifetime, ..Policy::default() },
            connections: Vec::new(),
            nodes: vec![Node::UNFILED; CONNECTIONS as usize],
            wheel: Wheel::new(START),
            output: Ending::default(),
            ended: vec![false; CONNECTIONS as usize],
            handed_out: 0,
        }
    }

    fn accept(&mut self, key: u32, now: Instant) {
        self.connections.push(Connection::new(Now::at(now), &self.policy));
        self.file(key);
    }

    fn file(&mut self, key: u32) {
        let timeout = self.connections[key as usize].poll_timeout(Duration::ZERO, &self.policy);
        if let Some((deadline, _)) = timeout {
            self.wheel.file(&mut self.nodes, key, deadline);
        }
    }

    fn beat(&mut self, key: u32, now: Instant) {
        let connection = &mut self.connections[key as usize];
        connection.handle_input(Now::at(now), &self.policy, b"beat", &mut self.output);
        if connection.take_earlier() {
            self.file(key);
        }
    }

    /// Sleeps from wake to wake until `now`.
    fn run_to(&mut self, now: Instant) {
        while let Some(wake) = self.wheel.next_wake().filter(|wake| *wake <= now) {
            let before = self.handed_out;
            while let Some(key) = self.wheel.poll(&mut self.nodes, wake) {
                self.handed_out += 1;
                // Once a timeout, once where it crosses a coarse slot, and a few for those that end:
                // however often they beat.
                assert!(self.handed_out < 25 * u64::from(CONNECTIONS), "the same come up over and over");
                self.expire(key, wake);
            }
            assert!(self.handed_out > before, "woken for nothing");
        }
    }

    fn expire(&mut self, key: u32, now: Instant) {
        self.connections[key as usize].handle_timeout(Now::at(now), &self.policy, &mut self.output);
        let Some(reason) = self.output.reason.take() else { return self.file(key) };
        assert_eq!(reason, CloseReason::HeartbeatTimeout);
        assert!(falls_silent(key), "{key} was alive");
        assert!(!std::mem::replace(&mut self.ended[key as usize], true), "{key} ended twice");
        let deadline = beat(ROUNDS - 1, key).after(TIMEOUT);
        assert!(now >= deadline, "{key} ended early");
        assert!(now.since(deadline) < TICK, "{key} ended {:?} late", now.since(deadline));
    }
}

#[test]
fn of_a_million_exactly_the_silent_end_each_within_a_tick_of_its_deadline() {
    let mut shard = Shard::new();
    for key in 0..CONNECTIONS {
        shard.accept(key, START);
    }
    let rounds = ROUNDS + 3;
    for round in 0..rounds {
        for key in 0..CONNECTIONS {
            if round >= ROUNDS && falls_silent(key) {
                continue;
            }
            let now = beat(round, key);
            shard.run_to(now);
            shard.beat(key, now);
        }
    }
    shard.run_to(beat(rounds, 0).after(ms(1)));
    let silent = (0..CONNECTIONS).filter(|key| falls_silent(*key)).count();
    assert_eq!(shard.ended.iter().filter(|ended| **ended).count(), silent);
    assert_eq!(shard.wheel.len(), CONNECTIONS as usize - silent);
}
