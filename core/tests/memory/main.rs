//! What an idle connection of the pulse protocol costs on the heap, and that it costs no more after it has carried
//! messages. Counted is the memory of the whole process, of which everything else is made before; so this test has
//! a program of its own.

#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;

use common::{admission, bytes, hello};
use pulsegate_core::connection::{Connection, Event, Output, Written};
use pulsegate_core::frame::{Beat, Frame, PREFACE};
use pulsegate_core::policy::{Policy, Protocol};
use pulsegate_core::time::{Instant, Now};
use std::time::Duration;

/// So many that pages and the allocator's own tables don't matter.
const CONNECTIONS: usize = 100_000;
/// An idle attached connection costs at most this, in bytes, with what the allocator adds.
const IDLE_BYTES_MAX: usize = 240;
/// What traffic may leave behind of each, in bytes: less than the smallest thing that can be allocated.
const LEFT_BYTES_MAX: usize = 8;

#[derive(Default)]
struct Peer {
    transmit: Vec<u8>,
    messages: u64,
}

impl Output for Peer {
    fn transmit(&mut self) -> &mut Vec<u8> {
        &mut self.transmit
    }

    fn waiting(&self) -> usize {
        0
    }

    fn handle_event(&mut self, event: Event<'_>) {
        assert!(!matches!(event, Event::Closed(_)), "{event:?}");
        self.messages += u64::from(matches!(event, Event::Message { .. }));
    }
}

/// Bytes of memory that this process has in use.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it names memory");
    let kibibytes = line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number");
    kibibytes * 1024
}

fn at(millis: u64) -> Now {
    Now::at(Instant::ORIGIN.after(Duration::from_millis(millis)))
}

fn attach(connection: &mut Connection, policy: &Policy, peer: &mut Peer) {
    connection.handle_input(at(1), policy, &PREFACE[..5], peer);
    connection.handle_input(at(1), policy, &PREFACE[5..], peer);
    connection.handle_input(at(1), policy, &bytes(&[Frame::Hello(hello())]), peer);
    connection.welcome(at(2), policy, &admission(), [], peer);
    write(connection, 2, policy, peer);
    assert!(connection.attachment().is_some());
}

/// Messages in both directions, of which some have to wait for the socket, up to their confirmations.
fn talk(connection: &mut Connection, policy: &Policy, peer: &mut Peer) {
    let payload = [7; 300];
    let messages: Vec<Frame<'_>> =
        (1..=5).map(|number| Frame::Message { number, payload: &payload }).collect();
    let sent = bytes(&messages);
    connection.handle_input(at(10), policy, &sent[..777], peer);
    connection.handle_input(at(10), policy, &sent[777..], peer);
    connection.refuse(5, 3, "no");
    connection.commit(at(11), policy, 5, peer);
    for _ in 0..15 {
        connection.push(at(12), policy, payload.into(), peer).expect("it is attached");
    }
    let waiting = peer.transmit.len();
    peer.transmit.clear();
    connection.handle_written(at(12), policy, Written { bytes: 0, waiting, drained: true }, peer);
    for committed in [10, 15] {
        write(connection, 13, policy, peer);
        let receipt =
            [Frame::Receipt { committed }, Frame::Confirm { floor: 5 }, Frame::Beat(Beat::Question)];
        connection.handle_input(at(13), policy, &bytes(&receipt), peer);
    }
    connection.handle_timeout(at(40), policy, peer);
    write(connection, 40, policy, peer);
    assert_eq!(std::mem::take(&mut peer.messages), 5);
}

fn write(connection: &mut Connection, millis: u64, policy: &Policy, peer: &mut Peer) {
    loop {
        let written = Written { bytes: peer.transmit.len(), waiting: 0, drained: true };
        peer.transmit.clear();
        connection.handle_written(at(millis), policy, written, peer);
        if peer.transmit.is_empty() {
            return;
        }
    }
}

#[test]
fn an_idle_connection_costs_little_and_no_more_after_it_has_carried_messages() {
    let policy = Policy { protocol: Protocol::Pulse, ..Policy::default() };
    let mut peer = Peer::default();
    // One goes ahead, so that what is made once is made before.
    let mut first = Connection::new(at(0), &policy);
    attach(&mut first, &policy, &mut peer);
    talk(&mut first, &policy, &mut peer);
    let mut connections: Vec<Connection> =
        (0..CONNECTIONS).map(|_| Connection::new(at(0), &policy)).collect();

    let empty = resident_bytes();
    connections.iter_mut().for_each(|connection| attach(connection, &policy, &mut peer));
    let idle = resident_bytes();
    connections.iter_mut().for_each(|connection| talk(connection, &policy, &mut peer));
    let after = resident_bytes();

    let idle_bytes = idle.saturating_sub(empty) / CONNECTIONS;
    let left_bytes = after.saturating_sub(idle) / CONNECTIONS;
    println!("an idle attached connection: {idle_bytes} bytes on the heap, {left_bytes} more after messages");
    assert!(idle_bytes <= IDLE_BYTES_MAX, "{idle_bytes} bytes");
    assert!(left_bytes <= LEFT_BYTES_MAX, "messages leave {left_bytes} bytes behind");
}
