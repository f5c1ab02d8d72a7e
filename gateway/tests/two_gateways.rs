//! An address belongs to one gateway, however close together two of them start.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{listener, own_loopback};
use pulsegate::{Config, Gateway, StartError};
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::thread::scope;

fn start(address: SocketAddr, shards: usize) -> Result<Gateway, StartError> {
    let listeners = vec![listener(|listener| {
        listener.listen = address;
        listener.sink = "discard".to_owned();
    })];
    let config = Config { listeners, shards: NonZeroUsize::new(shards), ..Config::default() };
    Gateway::builder().config(config).start()
}

#[test]
fn a_second_gateway_is_refused() {
    let first = start(([127, 0, 0, 1], 0).into(), 2).unwrap();
    let address = first.addresses()[0];
    let refused = start(address, 2).unwrap_err();
    assert!(matches!(refused, StartError::Listen { address: named, .. } if named == address), "{refused}");
    first.control().stop();
    first.wait().unwrap();
    start(address, 2).expect("the address is free again");
}

#[test]
fn of_two_that_start_at_once_at_most_one_gets_the_address() {
    for _ in 0..50 {
        let free = TcpListener::bind(own_loopback(1)).unwrap().local_addr().unwrap();
        let barrier = Barrier::new(2);
        let started = scope(|scope| {
            let start = || {
                barrier.wait();
                start(free, 16)
            };
            let threads = [scope.spawn(start), scope.spawn(start)];
            // Kept until both have tried: who stops at once leaves the address to the other, and rightly so.
            threads.map(|thread| thread.join().unwrap())
        });
        assert!(started.iter().any(Result::is_err), "both listen on {free}");
    }
}
