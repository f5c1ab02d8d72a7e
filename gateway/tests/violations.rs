//! What bad input gets from a whole gateway: a BYE with its own code and sentence, and then the end.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::pulse::{PulseClient, Seen, answer_to, behind_preface, hello};
use common::{PATIENCE, Running, millis};
use pulsegate::{CloseReason, Config, Framing, ListenerConfig, Protocol, Retry, SecondConnection};
use pulsegate_core::exchange::{Receiving, Sending, Window};
use pulsegate_core::frame::{Frame, Hello};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

fn start(change: impl FnOnce(&mut ListenerConfig)) -> (Running, SocketAddr) {
    let running = Running::start(|listener| {
        listener.policy.protocol = Protocol::Pulse;
        listener.policy.framing = Framing::Chunks;
        change(listener);
    });
    let address = running.gateway.addresses()[0];
    (running, address)
}

fn frame(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

/// The BYE is the one for this reason, and the gateway has counted that.
#[track_caller]
fn check(running: &Running, bye: Option<Seen>, reason: CloseReason) {
    let Some(Seen::Bye { code, retry, delay_ms, text, .. }) = bye else { panic!("no BYE for {reason}") };
    let expected = match reason.retry() {
        Retry::Never => (0, 0),
        Retry::Now => (1, 0),
        Retry::After(delay) => (2, delay.as_millis() as u32),
    };
    assert_eq!((code, (retry, delay_ms), text.as_str()), (reason.code(), expected, reason.sentence()));
    common::wait_until("the end is counted", || running.control.counts().ended(reason) > 0);
}

#[test]
fn what_comes_before_welcome() {
    let mut bad_text = frame(&Frame::Hello(hello("x")));
    *bad_text.last_mut().unwrap() = 0xff;
    let hello_frame = frame(&Frame::Hello(hello("x")));
    for (bytes, then_end, reason) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), false, CloseReason::BadPreface),
        (b"PULSE\x00\x02\n".to_vec(), false, CloseReason::UnsupportedVersion),
        (b"PULS".to_vec(), true, CloseReason::TruncatedFrame),
        (behind_preface(&[3, 0, 0, 2, 0, 0]), false, CloseReason::MalformedFrame),
        (behind_preface(&[0x10, 0, 0, 0]), false, CloseReason::UnknownFrame),
        (behind_preface(&[4, 0xff, 0xff, 0xff]), false, CloseReason::FrameTooLarge),
        (behind_preface(&[3, 0, 0, 1, 0]), false, CloseReason::FrameOutOfPlace),
        (behind_preface(&bad_text), false, CloseReason::BadText),
        (behind_preface(&hello_frame[..40]), true, CloseReason::TruncatedFrame),
    ] {
        let (running, address) = start(|_| ());
        check(&running, answer_to(address, &bytes, then_end), reason);
    }
}

#[test]
fn no_hello_in_time() {
    let (running, address) = start(|listener| listener.policy.first_message = millis(100));
    check(&running, answer_to(address, &behind_preface(&[]), false), CloseReason::FirstMessageTimeout);
}

#[test]
fn what_comes_after_welcome() {
    let message = |number, payload| frame(&Frame::Message { number, payload });
    let large = vec![0; 65 * 1024];
    for (bytes, reason) in [
        (frame(&Frame::Hello(hello("x"))), CloseReason::SecondHello),
        (message(2, b"the first is missing"), CloseReason::SequenceGap),
        (
            [message(1, b"one"), message(2, b"two"), message(3, b"three")].concat(),
            CloseReason::WindowExceeded,
        ),
        (message(1, &large), CloseReason::FrameTooLarge),
        (message(0, b""), CloseReason::MalformedFrame),
        (frame(&Frame::Receipt { committed: 1 }), CloseReason::FrameOutOfPlace),
        (frame(&Frame::Confirm { floor: 1 }), CloseReason::FrameOutOfPlace),
        (frame(&Frame::Notice { code: 1, in_ms: 0, text: "" }), CloseReason::FrameOutOfPlace),
        (frame(&Frame::Refuse { number: 1, code: 1, text: "" }), CloseReason::FrameOutOfPlace),
        ([3, 0, 0, 1, 9].to_vec(), CloseReason::MalformedFrame),
    ] {
        let (running, address) = start(|listener| {
            listener.policy.pulse.window = Window { messages: 2, bytes: 128 * 1024 };
        });
        let (mut client, _) = PulseClient::attached(address, "x");
        client.send_raw(&bytes);
        client.bye();
        client.wait_for_end();
        let bye = client.seen.iter().find(|seen| matches!(seen, Seen::Bye { .. })).cloned();
        check(&running, bye, reason);
    }
}

#[test]
fn a_forged_token_changes_nothing() {
    let (running, address) = start(|_| ());
    let (mut owner, welcomed) = PulseClient::attached(address, "owner");
    owner.beat();
    for (id, token) in [("owner", [7; 16]), ("thief", welcomed.token)] {
        let forged = Hello { session: welcomed.session, token, ..hello(id) };
        let sending = Sending::new(common::pulse::WINDOW);
        let mut thief = PulseClient::connect_with(address, &forged, sending, Receiving::default());
        assert_eq!(thief.bye(), CloseReason::BadToken.code());
    }
    owner.send(b"still mine");
    owner.settled(1);
    common::wait_until("the ends are counted", || running.control.counts().ended(CloseReason::BadToken) == 2);
}

#[test]
fn limits_are_told() {
    let (running, address) =
        start(|listener| listener.policy.pulse.second_connection = SecondConnection::Refuse);
    let (mut first, _) = PulseClient::attached(address, "one");
    first.beat();
    assert_eq!(PulseClient::connect(address, "one").bye(), CloseReason::SessionInUse.code());
    common::wait_until("the ends are counted", || {
        running.control.counts().ended(CloseReason::SessionInUse) == 1
    });

    let mut config = Config { listeners: vec![common::listener(|_| ())], ..Config::default() };
    config.listeners[0].policy.protocol = Protocol::Pulse;
    config.listeners[0].policy.framing = Framing::Chunks;
    config.listeners[0].max_per_address = Some(2);
    config.store.sessions_max = 1;
    let running = Running::start_with(config);
    let address = running.gateway.addresses()[0];
    let (mut first, _) = PulseClient::attached(address, "one");
    first.beat();
    let mut second = PulseClient::connect(address, "two");
    assert_eq!(second.bye(), CloseReason::SessionLimit.code());
    let _third = PulseClient::connect(address, "three");
    check(&running, answer_to(address, b"", false), CloseReason::AddressLimit);
}

#[test]
fn a_silent_client_is_asked_before_it_is_ended() {
    let (running, address) = start(|listener| listener.policy.lifetime = common::long(millis(600)));
    let (mut client, welcomed) = PulseClient::attached(address, "quiet");
    assert_eq!((welcomed.interval_ms, welcomed.timeout_ms), (200, 600));
    // It answers by itself whenever it is asked, as long as it reads.
    let mut longest_pump = Duration::ZERO;
    for _ in 0..20 {
        let began = Instant::now();
        client.pump(millis(100));
        longest_pump = longest_pump.max(began.elapsed());
    }
    if client.seen.contains(&Seen::End) {
        // On a busy machine the test itself may be late with an answer, and then it is rightly ended.
        assert!(longest_pump >= millis(150), "{longest_pump:?}: {:?}", client.seen);
        return;
    }
    // Now it doesn't read, however long a busy machine takes to find that out.
    common::wait_until("it is ended", || running.control.counts().ended(CloseReason::HeartbeatTimeout) == 1);
    assert_eq!(client.bye(), CloseReason::HeartbeatTimeout.code());
}

#[test]
fn a_planned_end_is_announced() {
    let (_running, address) = start(|listener| {
        listener.policy.lifetime = pulsegate::LifetimePolicy::Short { deadline: millis(1000) };
        listener.policy.first_message = millis(1000);
    });
    let (mut client, welcomed) = PulseClient::attached(address, "short");
    assert!((1..=1000).contains(&welcomed.remaining_ms));
    let notice = client.wait_for(|seen| matches!(seen, Seen::Notice { code: 1, .. }));
    assert!(matches!(notice, Seen::Notice { in_ms: 0..=100, .. }), "{notice:?}");
    assert_eq!(client.bye(), CloseReason::ShortDeadline.code());
}

#[test]
fn a_drain_is_announced() {
    let (running, address) = start(|_| ());
    let mut clients: Vec<_> = (0..4).map(|_| PulseClient::attached(address, "x").0).collect();
    running.control.drain(millis(500));
    let last = clients.last_mut().unwrap();
    last.wait_for(|seen| matches!(seen, Seen::Notice { code: 2, in_ms: 0..=500 }));
    for client in &mut clients {
        assert_eq!(client.bye(), CloseReason::Drain.code());
    }
    assert!(running.gateway.wait().unwrap().ended(CloseReason::Drain) == 4, "within {PATIENCE:?}");
}
