//! Where the program listens, and for how many.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::program::Program;
use common::{connect, connect_from, hear_text, is_quiet, wait_until};
use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener};

#[test]
fn one_address_alone_keeps_nobody_out_and_it_is_said_what_to_do_for_a_proxy() {
    // One shard, so that they come in one after the other.
    let patient = ["--shards", "1", "--long", "60s", "--first-message", "60s"];
    let args = [&patient[..], &["--sink", "discard", "--max-connections", "8"]].concat();
    let (program, address) = Program::serve(&args);
    let room = "at most 8 connections in all, the last 2 only for addresses that have fewer than 4";
    wait_until("it is said for how many there is room", || program.stderr().contains(room));
    let crowd: Vec<_> = (0..8).map(|_| connect_from([127, 0, 0, 2], address)).collect();
    wait_until("six stay", || crowd.iter().filter(|client| is_quiet(client)).count() == 6);
    let others = [3, 4].map(|last| connect_from([127, 0, 0, last], address));
    wait_until("it is said", || {
        program.stderr().contains("set connections_per_address_max of the listener to 8")
    });
    assert!(program.stderr().contains("address=127.0.0.2 held=6"), "{}", program.stderr());
    assert_eq!(hear_text(&mut connect_from([127, 0, 0, 5], address)), "", "now it is full");
    assert!(others.iter().all(is_quiet));
    assert_eq!(crowd.iter().filter(|client| is_quiet(client)).count(), 6);
}

#[test]
fn both_families_may_be_listened_on_at_one_port() {
    let Ok(free) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) else {
        println!("SKIPPED: this machine has no IPv6");
        return;
    };
    let port = free.local_addr().unwrap().port();
    drop(free);
    for order in [["0.0.0.0", "[::]"], ["[::]", "0.0.0.0"]] {
        let [first, second] = order.map(|address| format!("{address}:{port}"));
        let (mut program, _) = Program::serve_at(&first, &["--listen", &second, "--sink", "echo"]);
        for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
            let mut client = connect(address.parse().unwrap());
            client.write_all(b"x").unwrap();
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 1, "{address}: {}", program.stderr());
        }
        program.signal("TERM");
        assert_eq!(program.wait(), Some(0));
    }
}
