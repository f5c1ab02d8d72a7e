//! A sink that takes nothing: it holds up no other sink's clients, and not the end.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::pulse::{PulseClient, Seen};
use common::recorder::Recorder;
use common::{RECORDER, listener, one_shard, wait_until};
use pulsegate::{Config, Gateway, Handle, ListenerConfig, Message, Protocol, RunError, Sink};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Takes one message, and then nothing until it is let.
struct Stuck(Receiver<()>);

impl Sink for Stuck {
    fn handle_message(&mut self, _: &Handle, _: &Message<'_>) {
        let _ = self.0.recv();
    }
}

/// A gateway with a listener that records, and one whose sink is stuck until the sender is dropped.
fn half_stuck() -> (Gateway, Recorder, Sender<()>) {
    let sound = listener(|listener| listener.policy.protocol = Protocol::Auto);
    let stuck = ListenerConfig { sink: "stuck".to_owned(), ..sound.clone() };
    let (release, waits) = channel();
    let recorder = Recorder::default();
    let gateway = Gateway::builder()
        .config(Config { sink_queue_bytes_max: 64 * 1024, ..one_shard(vec![sound, stuck]) })
        .sink(RECORDER, recorder.clone())
        .sink("stuck", Stuck(waits))
        .start()
        .unwrap();
    overfill(gateway.addresses()[1]);
    (gateway, recorder, release)
}

/// Sends more than the queue of a stuck sink takes.
fn overfill(address: SocketAddr) {
    let attached = |id| PulseClient::attached(address, id).0;
    for mut client in ["one", "two", "three"].map(attached) {
        (0..60).for_each(|_| _ = client.send(&[b'x'; 1000]));
        std::mem::forget(client);
    }
}

#[test]
fn a_sink_that_takes_nothing_holds_up_no_other_sinks_clients() {
    let (gateway, _, release) = half_stuck();
    let (mut client, _) = PulseClient::attached(gateway.addresses()[0], "other");
    client.send(b"hello");
    client.wait_for(|seen| matches!(seen, Seen::Settled(1, 1)));
    drop(release);
    gateway.control().drain(Duration::ZERO);
    gateway.wait().unwrap();
}

#[test]
fn a_sink_that_takes_nothing_costs_no_other_sink_what_it_is_handed_at_the_end() {
    let sound = listener(|listener| listener.policy.protocol = Protocol::Auto);
    let stuck = ListenerConfig { sink: "stuck".to_owned(), ..sound.clone() };
    let (release, waits) = channel();
    let recorder = Recorder::default();
    // Its store is closed first.
    let gateway = Gateway::builder()
        .config(Config { sink_queue_bytes_max: 64 * 1024, ..one_shard(vec![stuck, sound]) })
        .sink("stuck", Stuck(waits))
        .sink(RECORDER, recorder.clone())
        .start()
        .unwrap();
    overfill(gateway.addresses()[0]);
    let (mut client, _) = PulseClient::attached(gateway.addresses()[1], "other");
    client.send(b"hello");
    client.wait_for(|seen| matches!(seen, Seen::Settled(1, 1)));
    wait_until("all are in", || gateway.control().counts().messages() == 181);
    gateway.control().drain(Duration::ZERO);
    let outcome = gateway.wait();
    assert!(outcome.is_err(), "{outcome:?}");
    assert_eq!(recorder.lives(), 1);
    recorder.assert_sound();
    drop(release);
}

#[test]
fn a_drain_ends_within_its_bound_though_a_sink_takes_nothing() {
    let (gateway, recorder, release) = half_stuck();
    wait_until("all are in", || gateway.control().counts().messages() == 180);
    let start = Instant::now();
    gateway.control().drain(Duration::ZERO);
    let outcome = gateway.wait();
    assert!(matches!(outcome, Err(RunError::GivenUp { messages }) if messages > 0), "{outcome:?}");
    assert!(start.elapsed() >= Duration::from_secs(2), "it has waited for the sink");
    recorder.assert_sound();
    drop(release);
}
