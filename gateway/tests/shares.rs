//! What one address may have of the store, over real sockets: who has used up its share waits, and nobody else does.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::pulse::{PulseClient, Seen};
use common::{PATIENCE, connect_from, listener, millis};
use pulsegate::{CloseReason, Config, Framing, Gateway, Protocol, RunError, StartError};
use std::io::Write;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

fn config(directory: &tempfile::TempDir) -> Config {
    let listener = listener(|listener| {
        listener.sink = "store".to_owned();
        listener.policy.protocol = Protocol::Auto;
        listener.policy.framing = Framing::Chunks;
    });
    Config { listeners: vec![listener], data_dir: directory.path().to_owned(), ..Config::default() }
}

/// Sends messages until something like this was seen.
fn send_until(client: &mut PulseClient, is_it: impl Fn(&Seen) -> bool) -> u64 {
    let limit = Instant::now() + PATIENCE;
    loop {
        let number = client.send(b"x");
        client.pump(millis(20));
        if client.seen.iter().any(&is_it) {
            return number;
        }
        assert!(Instant::now() < limit, "this never came; seen: {:?}", client.seen);
    }
}

#[test]
fn an_address_that_has_used_up_its_share_is_not_read_until_its_messages_are_old_and_others_are() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(&directory);
    config.store.retention_bytes = 32 * MIB;
    config.store.retention_age = Duration::from_secs(4);
    let gateway = Gateway::builder().config(config).start().unwrap();
    let address = gateway.addresses()[0];
    let (mut neighbour, _) = PulseClient::attached_from([127, 0, 0, 2], address, "neighbour");
    let (mut other, _) = PulseClient::attached_from([127, 0, 0, 3], address, "other");
    let mut flood = connect_from([127, 0, 0, 2], address);
    let flooding = std::thread::spawn(move || {
        let chunk = [7; 64 * 1024];
        // Ends with the gateway.
        while flood.write_all(&chunk).is_ok() {}
    });
    let stopped = |seen: &Seen| matches!(seen, Seen::Notice { code: 5, .. });
    let last = send_until(&mut neighbour, stopped);
    for number in 1..=3 {
        assert_eq!(other.send(b"not held up"), number);
        other.settled(number);
    }
    let (_, welcomed) = PulseClient::attached_from([127, 0, 0, 2], address, "newcomer");
    assert!(!welcomed.resumed, "it is let in, and not read");
    neighbour.wait_for(|seen| matches!(seen, Seen::Notice { code: 4, .. }));
    neighbour.settled(last);
    assert!(!other.seen.iter().any(stopped), "{:?}", other.seen);
    assert_eq!(gateway.control().counts().ended(CloseReason::SinkStalled), 0);
    gateway.control().stop();
    // What the flood has waiting may be more than a busy machine stores within the bound of a stop.
    let outcome = gateway.wait();
    assert!(matches!(outcome, Ok(_) | Err(RunError::GivenUp { .. })), "{outcome:?}");
    flooding.join().unwrap();
}

#[test]
fn in_the_smallest_store_that_is_allowed_a_flood_from_one_address_pushes_out_nothing_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(&directory);
    config.shards = std::num::NonZeroUsize::new(1);
    config.store.retention_bytes = 31 * MIB;
    assert!(matches!(
        Gateway::builder().config(config.clone()).start(),
        Err(StartError::Config(faults)) if faults.0[0].key == "retention_bytes_max"
    ));
    config.store.retention_bytes = 32 * MIB;
    let gateway = Gateway::builder().config(config).start().unwrap();
    let address = gateway.addresses()[0];
    let (mut other, _) = PulseClient::attached_from([127, 0, 0, 3], address, "other");
    for number in 1..=10 {
        assert_eq!(other.send(b"kept"), number);
        other.settled(number);
    }
    let (mut neighbour, _) = PulseClient::attached_from([127, 0, 0, 2], address, "neighbour");
    let flooding: Vec<_> = (0..16)
        .map(|_| {
            let mut flood = connect_from([127, 0, 0, 2], address);
            std::thread::spawn(move || {
                let chunk = [7; 64 * 1024];
                // Ends with the gateway.
                while flood.write_all(&chunk).is_ok() {}
            })
        })
        .collect();
    send_until(&mut neighbour, |seen| matches!(seen, Seen::Notice { code: 5, .. }));
    // All that waited is through when this is.
    assert_eq!(other.send(b"kept"), 11);
    other.settled(11);
    gateway.control().stop();
    gateway.wait().unwrap();
    flooding.into_iter().for_each(|thread| thread.join().unwrap());
    let reader = pulsegate_store::Reader::open(directory.path()).unwrap();
    let (mut kept, mut last) = (0, 0);
    loop {
        let page = reader.messages_after(last, 100).unwrap();
        let Some(newest) = page.last() else { break };
        last = newest.id;
        kept += page.iter().filter(|message| message.client == "other").count();
    }
    assert_eq!(kept, 11);
}

#[test]
fn an_address_that_has_its_share_of_sessions_is_refused_and_others_are_let_in() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(&directory);
    config.store.sessions_per_source_max = Some(2);
    let gateway = Gateway::builder().config(config).start().unwrap();
    let address = gateway.addresses()[0];
    let clients: Vec<_> =
        ["a", "b"].map(|id| PulseClient::attached_from([127, 0, 0, 2], address, id).0).into_iter().collect();
    let mut refused = PulseClient::connect_from([127, 0, 0, 2], address, "c");
    assert_eq!(refused.bye(), CloseReason::SessionLimit.code());
    let (_, welcomed) = PulseClient::attached_from([127, 0, 0, 3], address, "d");
    assert!(!welcomed.resumed);
    drop(clients);
    gateway.control().stop();
    gateway.wait().unwrap();
}
