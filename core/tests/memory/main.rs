//! What an idle connection costs on the heap, to the byte, and that it costs no more after it has carried messages. An
//! allocator counts for the whole process; so this is a program with one thread and no test harness.

#[path = "../common/mod.rs"]
mod common;

use cap::Cap;
use common::{admission, bytes, hello};
use pulsegate_core::connection::{Connection, Event, Output, Written};
use pulsegate_core::frame::{Beat, Frame, PREFACE};
use pulsegate_core::policy::{Framing, Policy, Protocol};
use pulsegate_core::time::{Instant, Now};
use std::alloc::System;
use std::time::Duration;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

const CONNECTIONS: usize = 1_000;
/// An idle connection that is attached to a session, in bytes.
const ATTACHED_BYTES_MAX: usize = 184;

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

fn at(millis: u64) -> Now {
    Now::at(Instant::ORIGIN.after(Duration::from_millis(millis)))
}

fn attach(connection: &mut Connection, policy: &Policy, peer: &mut Peer) {
    connection.handle_input(at(1), policy, &PREFACE[..5], peer);
    connection.handle_input(at(1), policy, &PREFACE[5..], peer);
    connection.handle_input(at(1), policy, &bytes(&[Frame::Hello(hello())]), peer);
    connection.welcome(at(2), policy, &admission(), peer);
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
    for number in 1..=15 {
        connection.push(at(12), policy, number, payload.into(), peer).expect("it is attached");
    }
    let waiting = peer.transmit.len();
    peer.transmit.clear();
    connection.handle_written(at(12), policy, Written { bytes: 0, waiting, drained: true }, peer);
    for committed in [10, 15] {
        write(connection, 13, policy, peer);
        let receipt =
            [Frame::Receipt { committed }, Frame::Confirm { floor: 5 }, Frame::Beat(Beat::Question)];
        connection.handle_input(at(13), policy, &bytes(&receipt), peer);
        let rest = (committed + 1..=15).map(|number| (number, payload.into()));
        connection.load(at(13), policy, rest, false, peer);
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

/// A raw connection's line, in two pieces, and its answer.
fn chat(connection: &mut Connection, policy: &Policy, peer: &mut Peer) {
    connection.handle_input(at(10), policy, b"a li", peer);
    connection.handle_input(at(10), policy, b"ne\n", peer);
    write(connection, 10, policy, peer);
    assert_eq!(std::mem::take(&mut peer.messages), 1);
}

/// What is on the heap for each of them after this has been done to all.
fn bytes_each(
    connections: &mut [Connection],
    before: usize,
    mut change: impl FnMut(&mut Connection),
) -> usize {
    connections.iter_mut().for_each(&mut change);
    HEAP.allocated().saturating_sub(before).div_ceil(connections.len())
}

fn main() {
    an_idle_connection_costs_little_and_no_more_after_it_has_carried_messages();
}

fn an_idle_connection_costs_little_and_no_more_after_it_has_carried_messages() {
    let raw = Policy { framing: Framing::Lines, reply: Some("ok {n}".into()), ..Policy::default() };
    let pulse = Policy { protocol: Protocol::Pulse, ..Policy::default() };
    let mut peer = Peer::default();
    // One of each goes ahead, so that what is made once is made before.
    let mut first = [Connection::new(at(0), &raw), Connection::new(at(0), &pulse)];
    chat(&mut first[0], &raw, &mut peer);
    attach(&mut first[1], &pulse, &mut peer);
    talk(&mut first[1], &pulse, &mut peer);
    let crowd = |policy| (0..CONNECTIONS).map(|_| Connection::new(at(0), policy)).collect::<Vec<_>>();
    let (mut raws, mut pulses) = (crowd(&raw), crowd(&pulse));

    let before = HEAP.allocated();
    let chatted = bytes_each(&mut raws, before, |connection| chat(connection, &raw, &mut peer));
    let attached = bytes_each(&mut pulses, before, |connection| attach(connection, &pulse, &mut peer));
    let talked = bytes_each(&mut pulses, before, |connection| talk(connection, &pulse, &mut peer));
    println!("bytes on the heap: raw {chatted}, attached {attached}, after messages {talked}");
    assert_eq!(chatted, 0, "an idle raw connection has nothing on the heap, whatever it has carried");
    assert!(attached <= ATTACHED_BYTES_MAX, "an attached one keeps {attached} bytes");
    assert!(talked <= attached, "messages leave {talked} bytes of {attached}");
}
