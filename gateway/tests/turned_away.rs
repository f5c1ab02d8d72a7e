//! Who can't be kept is told why in its own language, also where both protocols are spoken: as soon as it has shown which,
//! and it waits no longer than a moment for that.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::pulse::{PulseClient, Seen, bye_to};
use common::{PATIENCE, Running, connect, hear_text, listener, one_shard, wait_until};
use pulsegate::{CloseReason, Protocol};
use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

/// A full gateway, and the one that fills it.
fn full() -> (Running, TcpStream) {
    let gateway = Running::start_with(one_shard(vec![listener(|listener| {
        listener.policy.protocol = Protocol::Auto;
        listener.policy.farewell = Some("{reason}".into());
        listener.max_connections = Some(1);
    })]));
    let keeper = gateway.connect();
    wait_until("it is in", || gateway.counts().open() == 1);
    (gateway, keeper)
}

#[test]
fn a_pulse_client_gets_its_bye_and_a_raw_one_its_farewell() {
    let (gateway, keeper) = full();
    let mut client = PulseClient::connect(gateway.address(), "meter");
    assert_eq!(client.bye(), CloseReason::AtCapacity.code());
    // One whose preface comes in two pieces.
    let mut client = connect(gateway.address());
    client.write_all(b"PULSE\0").unwrap();
    wait_until("it waits", || gateway.counts().open() == 2);
    client.write_all(b"\x01\n").unwrap();
    assert!(matches!(bye_to(&mut client), Some(Seen::Bye { code: 60, retry: 2, .. })));
    let mut client = connect(gateway.address());
    client.write_all(b"hello\n").unwrap();
    assert_eq!(hear_text(&mut client), "at capacity\n");
    drop(keeper);
    gateway.wait_all_ended(4);
    gateway.finish(&[(CloseReason::AtCapacity, 3), (CloseReason::PeerClosed, 1)]);
}

#[test]
fn who_shows_nothing_goes_untold_after_a_moment_and_crowds_wait_no_longer() {
    let (gateway, keeper) = full();
    let began = Instant::now();
    let mut crowd: Vec<TcpStream> = (0..200).map(|_| connect(gateway.address())).collect();
    wait_until("few of them wait", || {
        let counts = gateway.counts();
        counts.accepted() == 201 && counts.open() <= 1 + 32
    });
    assert!(crowd.iter_mut().all(|client| hear_text(client).is_empty()));
    assert!(began.elapsed() < PATIENCE);
    drop(keeper);
    gateway.wait_all_ended(201);
    gateway.finish(&[(CloseReason::AtCapacity, 200), (CloseReason::PeerClosed, 1)]);
}
