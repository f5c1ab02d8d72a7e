//! Limits on who may enter, over real sockets: each refuses with its own reason, and lets others in again when
//! somebody leaves.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Running, connect, connect_from, hear_text, is_quiet, millis, wait_until};
use pulsegate::{CloseReason, Config, Counts, ListenerConfig};
use std::io::Write;
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::thread::sleep;

fn start(change: impl FnOnce(&mut ListenerConfig)) -> Running {
    Running::start(|listener| {
        listener.policy.farewell = Some("{reason}".into());
        change(listener);
    })
}

fn wait_open(gateway: &Running, open: u64) {
    wait_until("the count of open connections", || gateway.counts().open() == open);
}

/// Connections come in one after the other, so that it is certain who is over the limit.
#[track_caller]
fn enter(gateway: &Running, connect: impl Fn() -> TcpStream) -> TcpStream {
    let before = gateway.counts().open();
    let stream = connect();
    wait_open(gateway, before + 1);
    stream
}

#[test]
fn each_address_has_its_own_share() {
    let gateway = start(|listener| listener.max_per_address = Some(2));
    let address = gateway.address();
    let come = |last: u8| move || connect_from([127, 0, 0, last], address);
    let first = enter(&gateway, come(2));
    let second = enter(&gateway, come(2));
    assert_eq!(hear_text(&mut come(2)()), "address limit\n");
    let other = enter(&gateway, come(3));
    drop(first);
    wait_open(&gateway, 2);
    let again = enter(&gateway, come(2));
    assert_eq!(hear_text(&mut come(2)()), "address limit\n");
    assert!([&second, &other, &again].into_iter().all(is_quiet));
    drop((second, other, again));
    gateway.wait_all_ended(6);
    gateway.finish(&[(CloseReason::AddressLimit, 2), (CloseReason::PeerClosed, 4)]);
}

#[test]
fn an_ipv6_address_has_its_share_too() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        // This machine has no IPv6.
        return;
    }
    let gateway = start(|listener| {
        listener.listen = (Ipv6Addr::LOCALHOST, 0).into();
        listener.max_per_address = Some(1);
    });
    let address = gateway.address();
    let first = enter(&gateway, || connect(address));
    assert_eq!(hear_text(&mut connect(address)), "address limit\n");
    wait_until("the sink hears of it", || gateway.recorder.lives() == 1);
    assert_eq!(gateway.recorder.handle(1).peer(), first.local_addr().unwrap());
    drop(first);
    wait_open(&gateway, 0);
    let again = enter(&gateway, || connect(address));
    assert!(is_quiet(&again));
    gateway.stop().unwrap();
}

#[test]
fn who_has_not_spoken_is_a_newcomer_until_it_speaks_or_leaves() {
    let gateway = start(|listener| listener.max_newcomers = Some(2));
    let come = || gateway.connect();
    let mut first = enter(&gateway, come);
    let second = enter(&gateway, come);
    assert_eq!(hear_text(&mut come()), "newcomer limit\n");
    first.write_all(b"half a line").unwrap();
    assert_eq!(hear_text(&mut come()), "newcomer limit\n");
    first.write_all(b", and the rest\n").unwrap();
    wait_until("the message", || gateway.counts().messages() == 1);
    let third = enter(&gateway, come);
    assert_eq!(hear_text(&mut come()), "newcomer limit\n");
    drop(second);
    wait_open(&gateway, 2);
    let fourth = enter(&gateway, come);
    assert_eq!(hear_text(&mut come()), "newcomer limit\n");
    assert!([&first, &third, &fourth].into_iter().all(is_quiet));
    gateway.finish(&[
        (CloseReason::NewcomerLimit, 4),
        (CloseReason::PeerClosed, 1),
        (CloseReason::Stopped, 3),
    ]);
}

#[test]
fn the_listeners_limit_is_apart_from_the_gateways() {
    let small = common::listener(|listener| {
        listener.max_connections = Some(1);
        listener.policy.farewell = Some("{reason}".into());
    });
    let large = ListenerConfig { max_connections: None, ..small.clone() };
    let config = Config { listeners: vec![small, large], max_connections: Some(3), ..Config::default() };
    let gateway = Running::start_with(config);
    let addresses = gateway.gateway.addresses().to_vec();
    let come = |listener: usize| {
        let address = addresses[listener];
        move || connect(address)
    };
    let first = enter(&gateway, come(0));
    assert_eq!(hear_text(&mut come(0)()), "at capacity\n");
    let second = enter(&gateway, come(1));
    let third = enter(&gateway, come(1));
    assert_eq!(hear_text(&mut come(1)()), "at capacity\n");
    drop(first);
    wait_open(&gateway, 2);
    let fourth = enter(&gateway, come(1));
    assert_eq!(hear_text(&mut come(0)()), "at capacity\n");
    drop(second);
    wait_open(&gateway, 2);
    let fifth = enter(&gateway, come(0));
    assert!([&third, &fourth, &fifth].into_iter().all(is_quiet));
    gateway.finish(&[(CloseReason::AtCapacity, 3), (CloseReason::PeerClosed, 2), (CloseReason::Stopped, 3)]);
}

fn refused(counts: &Counts) -> u64 {
    counts.ended(CloseReason::AcceptRate)
}

#[test]
fn who_comes_too_fast_is_refused_until_the_pace_allows_it_again() {
    let gateway = start(|listener| listener.accept_rate = 5);
    let clients: Vec<_> = (0..100).map(|_| gateway.connect()).collect();
    wait_until("all are answered", || gateway.counts().accepted() == 100);
    let counts = gateway.counts();
    // A slow machine earns more than the burst while they come.
    assert!(
        counts.open() >= 5 && refused(&counts) > 0,
        "{} open, {} refused",
        counts.open(),
        refused(&counts)
    );
    assert_eq!(counts.open() + refused(&counts), 100);
    sleep(millis(500));
    let again = enter(&gateway, || gateway.connect());
    assert!(is_quiet(&again));
    drop((clients, again));
    gateway.wait_all_ended(101);
    gateway.stop().unwrap();
}

#[test]
fn lingering_connections_still_count_and_then_leave() {
    let gateway = start(|listener| {
        listener.max_connections = Some(1);
        listener.policy.linger = millis(300);
    });
    let (mut client, number) = gateway.connect_known();
    client.write_all(b"hello\n").unwrap();
    gateway.recorder.handle(number).close().unwrap();
    assert_eq!(hear_text(&mut client), "application\n");
    // The client never closes: the gateway waits for it, and then no longer.
    wait_until("somebody else may come in", || {
        let next = gateway.connect();
        sleep(millis(20));
        is_quiet(&next)
    });
    gateway.stop().unwrap();
}
