//! Thousands of connections on the real binary: silent ones end on time, beating ones never, memory comes
//! back, and a stopped process drops nobody. The full sizes take the machine for themselves; they run with
//! `cargo test --release -p pulsegate-cli --test hold -- --ignored --nocapture --test-threads 1`.

mod crowd;
mod memory;
mod server;

use crowd::{Crowd, Figures};
use server::Server;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Half of the clients fall silent, the others beat: exactly the silent ones end, none of them early.
fn hold(silent: usize, beating: usize) {
    let server = Server::start(&["--long", "5s", "--first-message", "60s", "--sink", "discard"]);
    let base = server.memory();
    let mut crowd = Crowd::connect(server.address(), silent + beating);
    crowd.greet();
    let held = server.memory();
    crowd.beat_for(Duration::from_secs(3), 0..silent + beating);
    crowd.beat_for(TIMEOUT + Duration::from_secs(4), silent..silent + beating);
    let early = crowd.ended().filter(|end| end.silence < TIMEOUT).count();
    let beating_ended = crowd.ended().filter(|end| end.client >= silent).count();
    let silent_ended = crowd.ended().filter(|end| end.client < silent).count();
    let late = Figures::of(crowd.ended().map(|end| end.silence.saturating_sub(TIMEOUT)));
    drop(crowd);
    server.wait_for_open(0);
    let left = server.memory();
    println!(
        "{silent} silent, {beating} beating: {silent_ended} silent ended, {early} early, {beating_ended} beating ended; \
         late {late}; memory {base} -> {held} -> {left} bytes, {} per connection",
        held.saturating_sub(base) / (silent + beating)
    );
    assert_eq!((silent_ended, early, beating_ended), (silent, 0, 0));
    let log = server.stop();
    assert!(log.contains(&format!("heartbeat timeout {silent}")), "{log}");
}

/// The process is stopped for longer than the timeout while beats pile up in the kernel: nobody is dropped.
fn stop_and_continue(clients: usize, timeout: Duration, stopped: Duration) {
    let long = format!("{}s", timeout.as_secs());
    let server = Server::start(&["--long", &long, "--first-message", "60s", "--sink", "discard"]);
    let mut crowd = Crowd::connect(server.address(), clients);
    crowd.greet();
    crowd.beat_for(timeout, 0..clients);
    server.signal("STOP");
    crowd.beat_for(stopped, 0..clients);
    server.signal("CONT");
    crowd.beat_for(timeout + Duration::from_secs(2), 0..clients);
    let dropped = crowd.ended().count();
    println!("{clients} beating, stopped for {stopped:?} with a timeout of {timeout:?}: {dropped} dropped");
    assert_eq!(dropped, 0);
    crowd.rest_for(timeout + Duration::from_secs(3));
    assert_eq!(crowd.ended().count(), clients, "those that fall silent afterwards are ended");
    drop(crowd);
    server.stop();
}

#[test]
fn silent_clients_end_and_beating_ones_stay() {
    hold(300, 300);
}

#[test]
#[ignore = "holds 19,000 connections: takes the machine for itself"]
fn silent_clients_end_and_beating_ones_stay_19000() {
    hold(9_500, 9_500);
}

#[test]
fn a_stopped_process_drops_nobody() {
    stop_and_continue(300, Duration::from_secs(3), Duration::from_secs(5));
}

#[test]
#[ignore = "holds 9,000 connections: takes the machine for itself"]
fn a_stopped_process_drops_nobody_9000() {
    stop_and_continue(9_000, TIMEOUT, Duration::from_secs(8));
}
