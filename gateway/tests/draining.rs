//! What clients are told when the gateway drains or stops.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::pulse::{PulseClient, Seen};
use common::{PATIENCE, Running, hear_text, listener, one_shard};
use pulsegate::config::defaults;
use pulsegate::{CloseReason, Framing, Protocol};
use std::time::Duration;

#[test]
fn who_is_drained_or_stopped_is_told_so() {
    let start = || Running::start(|listener| listener.policy.farewell = Some("{reason}, {retry}".into()));
    let gateway = start();
    let (mut client, _) = gateway.connect_known();
    gateway.control.drain(Duration::ZERO);
    assert_eq!(hear_text(&mut client), "drain, come back in 1 s\n");
    gateway.finish(&[(CloseReason::Drain, 1)]);
    let gateway = start();
    let (mut client, _) = gateway.connect_known();
    gateway.control.stop();
    assert_eq!(hear_text(&mut client), "stopped, come back in 5 s\n");
    gateway.finish(&[(CloseReason::Stopped, 1)]);
}

#[test]
fn while_it_drains_each_client_is_told_its_own_end_and_all_when_to_come_back() {
    let within = Duration::from_secs(400);
    let gateway = Running::start_with(one_shard(vec![listener(|listener| {
        listener.policy.protocol = Protocol::Pulse;
        listener.policy.framing = Framing::Chunks;
        listener.policy.lifetime = defaults::long(Some(PATIENCE), None);
    })]));
    let address = gateway.address();
    let mut clients: Vec<_> =
        (0..4).map(|n| PulseClient::attached(address, &format!("client-{n}")).0).collect();
    gateway.control.drain(within);
    for (n, client) in clients.iter_mut().enumerate() {
        let notice = client.wait_for(|seen| matches!(seen, Seen::Notice { code: 2, .. }));
        let Seen::Notice { in_ms: told, .. } = notice else { panic!("{notice:?}") };
        let planned = 100_000 * n as u32;
        assert!(told <= planned && told + 50_000 > planned, "client {n} is told {told} ms");
    }
    let delay = |client: &mut PulseClient| {
        let bye = client.wait_for(|seen| matches!(seen, Seen::Bye { code: 70, retry: 2, .. }));
        let Seen::Bye { delay_ms, .. } = bye else { panic!("{bye:?}") };
        delay_ms
    };
    // The whole drain, and a second.
    let expected = 351_000..402_000;
    let first = delay(&mut clients[0]);
    assert!(expected.contains(&first), "the first is told to come back in {first} ms");
    let mut late = PulseClient::connect(address, "late");
    let told = delay(&mut late);
    assert!(expected.contains(&told), "a newcomer is told to come back in {told} ms");
    gateway.stop().unwrap();
}
