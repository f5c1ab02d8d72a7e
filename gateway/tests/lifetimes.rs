//! How long connections live, over real sockets: never ended early, and ended without anybody's poll.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{PATIENCE, Running, is_quiet, long, millis, shut, wait_until};
use pulsegate::{CloseReason, Framing, Heartbeat, LifetimePolicy};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// Sends `text` at an even pace for `span`, or until the connection ends. Returns whether it was open all the
/// time, and the longest gap between two sends: on a busy machine the test itself may fall silent.
fn beat(stream: &mut TcpStream, text: &str, pace: Duration, span: Duration) -> (bool, Duration) {
    let (start, mut last, mut gap) = (Instant::now(), Instant::now(), Duration::ZERO);
    while start.elapsed() < span {
        let sent = stream.write_all(text.as_bytes());
        gap = gap.max(last.elapsed());
        last = Instant::now();
        if sent.is_err() || !is_quiet(stream) {
            return (false, gap);
        }
        sleep(pace);
    }
    (true, gap)
}

#[test]
fn silence_ends_a_long_connection_not_before_its_time_and_the_client_sees_it_at_once() {
    let timeout = millis(400);
    let gateway = Running::start(|listener| listener.policy.lifetime = long(timeout));
    let (mut client, number) = gateway.connect_known();
    for _ in 0..3 {
        client.write_all(b"beat\n").unwrap();
        sleep(millis(50));
    }
    let last = Instant::now();
    client.write_all(b"beat\n").unwrap();
    assert_eq!(client.read(&mut [0; 16]).unwrap(), 0);
    assert!(last.elapsed() >= timeout, "ended after {:?}", last.elapsed());
    let ended = gateway.recorder.ended(number);
    assert_eq!((ended.reason, ended.totals.messages), (CloseReason::HeartbeatTimeout, 4));
    assert!(ended.age >= timeout + millis(150), "{:?}", ended.age);
    gateway.finish(&[(CloseReason::HeartbeatTimeout, 1)]);
}

#[test]
fn beats_keep_a_long_connection_far_beyond_its_timeout() {
    let timeout = millis(800);
    let gateway = Running::start(|listener| {
        listener.policy.lifetime = long(timeout);
        listener.policy.framing = Framing::Chunks;
    });
    let (mut client, number) = gateway.connect_known();
    let (kept, gap) = beat(&mut client, "x", millis(50), millis(2_500));
    assert!(kept || gap >= timeout, "ended though the longest gap was {gap:?}");
    shut(&client);
    assert_eq!(client.read(&mut [0; 16]).unwrap(), 0);
    let reason = gateway.recorder.reason(number);
    assert_eq!(reason, if kept { CloseReason::PeerClosed } else { CloseReason::HeartbeatTimeout });
    gateway.finish(&[(reason, 1)]);
}

/// Each line says when it was sent, in microseconds since `epoch`. The last one that is counted may not have left.
fn send_stamps(stream: &TcpStream, epoch: Instant, stop: &AtomicBool, sent: &AtomicUsize) {
    let mut stream = stream;
    while !stop.load(SeqCst) {
        sent.fetch_add(1, SeqCst);
        if writeln!(stream, "{}", epoch.elapsed().as_micros()).is_err() {
            break;
        }
        sleep(Duration::from_micros(100));
    }
}

#[test]
fn a_short_connection_ends_while_its_client_sends_and_nothing_later_is_delivered() {
    let deadline = millis(500);
    let gateway = Running::start(|listener| {
        listener.policy.lifetime = LifetimePolicy::Short { deadline };
        listener.policy.first_message = deadline;
    });
    let epoch = Instant::now();
    let (mut client, number) = gateway.connect_known();
    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let sender = client.try_clone().unwrap();
    scope(|scope| {
        let sending = scope.spawn(|| send_stamps(&sender, epoch, &stop, &sent));
        // Though the client goes on sending, the end is an orderly one.
        assert_eq!(client.read(&mut [0; 16]).unwrap(), 0);
        let before = sent.load(SeqCst);
        wait_until("more is sent", || sent.load(SeqCst) > before || sending.is_finished());
        stop.store(true, SeqCst);
    });
    let sent = sent.into_inner();
    let ended = gateway.recorder.ended(number);
    assert_eq!(ended.reason, CloseReason::ShortDeadline);
    assert!(ended.age >= deadline);
    let life = gateway.recorder.life(number);
    assert!(!life.messages.is_empty() && life.messages.len() < sent, "{} of {sent}", life.messages.len());
    // The sink hears of a connection after it was accepted, so this is never too strict.
    let latest = life.opened_at + deadline;
    for message in &life.messages {
        let micros = std::str::from_utf8(message).unwrap().parse().unwrap();
        let sent_at = epoch + Duration::from_micros(micros);
        assert!(sent_at <= latest, "sent {:?} after the deadline", sent_at - latest);
    }
    gateway.finish(&[(CloseReason::ShortDeadline, 1)]);
}

#[test]
fn without_a_first_message_a_connection_ends_whatever_drips() {
    let first_message = millis(400);
    let gateway = Running::start(|listener| listener.policy.first_message = first_message);
    let (mut silent, silent_number) = gateway.connect_known();
    let (mut drip, drip_number) = gateway.connect_known();
    let dripping = Instant::now();
    while is_quiet(&drip) && dripping.elapsed() < PATIENCE {
        // The end may come between the look and the write.
        let _ = drip.write_all(b"x");
        sleep(millis(20));
    }
    assert_eq!(silent.read(&mut [0; 16]).unwrap(), 0);
    for number in [silent_number, drip_number] {
        let ended = gateway.recorder.ended(number);
        assert_eq!((ended.reason, ended.totals.messages), (CloseReason::FirstMessageTimeout, 0));
        assert!(ended.age >= first_message, "{:?}", ended.age);
    }
    gateway.finish(&[(CloseReason::FirstMessageTimeout, 2)]);
}

#[test]
fn the_maximum_age_ends_a_connection_that_beats() {
    let max_age = millis(900);
    let gateway = Running::start(|listener| {
        listener.policy.lifetime = LifetimePolicy::Long { heartbeat_timeout: max_age, max_age };
        listener.policy.first_message = max_age;
    });
    let (mut client, number) = gateway.connect_known();
    let (kept, _) = beat(&mut client, "beat\n", millis(20), PATIENCE);
    assert!(!kept, "it lives for ever");
    let ended = gateway.recorder.ended(number);
    assert_eq!(ended.reason, CloseReason::MaxAge);
    assert!(ended.age >= max_age, "{:?}", ended.age);
    gateway.finish(&[(CloseReason::MaxAge, 1)]);
}

fn start_named(timeout: Duration, sink: &str) -> Running {
    Running::start(|listener| {
        listener.policy.lifetime = long(timeout);
        listener.policy.heartbeat = Heartbeat::Line(b"PING"[..].into());
        listener.sink = sink.to_owned();
    })
}

#[test]
fn a_named_heartbeat_keeps_the_connection_and_is_no_message() {
    let timeout = millis(800);
    let gateway = start_named(timeout, common::RECORDER);
    let (mut client, number) = gateway.connect_known();
    client.write_all(b"first\r\n").unwrap();
    let (kept, gap) = beat(&mut client, "PING\r\n", millis(50), millis(2_500));
    assert!(kept || gap >= timeout, "ended though the longest gap was {gap:?}");
    gateway.recorder.handle(number).close().unwrap();
    gateway.recorder.ended(number);
    assert_eq!(gateway.recorder.texts(number), ["first"]);
    gateway.stop().unwrap();
}

#[test]
fn other_lines_are_delivered_but_keep_nobody_alive() {
    let timeout = millis(500);
    let gateway = start_named(timeout, common::RECORDER);
    let (mut client, number) = gateway.connect_known();
    client.write_all(b"PING\n").unwrap();
    let (kept, _) = beat(&mut client, "PING?\n", millis(20), PATIENCE);
    assert!(!kept, "it lives for ever");
    let ended = gateway.recorder.ended(number);
    assert_eq!(ended.reason, CloseReason::HeartbeatTimeout);
    assert!(ended.age >= timeout);
    let texts = gateway.recorder.texts(number);
    assert!(!texts.is_empty() && texts.iter().all(|text| text == "PING?"), "{texts:?}");
    gateway.finish(&[(CloseReason::HeartbeatTimeout, 1)]);
}

#[test]
fn a_flood_that_never_holds_the_named_heartbeat_keeps_nobody_alive() {
    let gateway = start_named(millis(500), "discard");
    let line = [vec![b'x'; 60_000], vec![b'\n']].concat().repeat(16);
    scope(|scope| {
        for _ in 0..4 {
            let mut client = gateway.connect();
            let line = &line;
            scope.spawn(move || {
                let start = Instant::now();
                while start.elapsed() < PATIENCE * 2 && client.write_all(line).is_ok() {}
            });
        }
    });
    gateway.wait_all_ended(4);
    gateway.finish(&[(CloseReason::HeartbeatTimeout, 4)]);
}
