//! Slow clients and slow sinks: what waits is bounded, nothing is lost or doubled, and who isn't to blame goes on.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::recorder::Recorder;
use common::{
    PATIENCE, Running, connect, hear_text, is_quiet, listener, long, millis, one_shard, reset, shut,
    wait_until,
};
use pulsegate::{CloseReason, Config, Framing, MinimumRate};
use socket2::SockRef;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// The smallest that a sink's queue may be.
const QUEUE_BYTES: usize = 64 * 1024;

#[test]
fn a_client_that_never_reads_its_echo_is_held_back_and_then_ended() {
    let gateway = Running::start(|listener| {
        listener.sink = "echo".to_owned();
        listener.policy.framing = Framing::Chunks;
        listener.policy.write_stall = millis(700);
    });
    let mut client = gateway.connect();
    SockRef::from(&client).set_recv_buffer_size(16 * 1024).unwrap();
    client.set_nonblocking(true).unwrap();
    let (block, start, mut written) = (vec![b'x'; 64 * 1024], Instant::now(), 0);
    let ended = || gateway.counts().ended(CloseReason::WriteStall) == 1;
    while !ended() && start.elapsed() < PATIENCE {
        match client.write(&block) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(millis(5)),
            // The end may show here before it shows in the counts.
            Err(_) => sleep(millis(5)),
        }
    }
    assert!(ended(), "{}", gateway.counts().reasons_phrase());
    assert!(start.elapsed() >= millis(700));
    assert!(written < 64 * 1024 * 1024, "{written} bytes were taken from a client that reads nothing");
    gateway.finish(&[(CloseReason::WriteStall, 1)]);
}

/// A gateway whose sink holds little, with so many shards.
fn narrow(shards: usize, sink_stall: Duration, heartbeat_timeout: Duration) -> Running {
    let listener = listener(|listener| {
        listener.policy.sink_stall = sink_stall;
        listener.policy.lifetime = long(heartbeat_timeout);
        listener.policy.farewell = Some("{reason}".into());
    });
    let listeners = vec![listener];
    let shards = NonZeroUsize::new(shards);
    let config = Config { listeners, shards, sink_queue_bytes_max: QUEUE_BYTES, ..Config::default() };
    Running::start_with(config)
}

const LINES: usize = 20_000;

/// About 2 MB in numbered lines; less if the connection ends before.
fn send_numbered(stream: &TcpStream) {
    let mut stream = std::io::BufWriter::new(stream);
    for number in 0..LINES {
        if writeln!(stream, "{number} {}", "x".repeat(90)).is_err() {
            return;
        }
    }
}

#[track_caller]
fn assert_numbered(recorder: &Recorder, connection: u64) {
    for (expected, text) in recorder.texts(connection).iter().enumerate() {
        assert_eq!(text.split(' ').next(), Some(expected.to_string().as_str()));
    }
    assert_eq!(recorder.message_count(connection), LINES);
}

/// So many clients send everything at once; all of it has to arrive.
#[track_caller]
fn everything_arrives(gateway: Running, clients: usize) {
    let clients: Vec<_> = (0..clients).map(|_| gateway.connect_known()).collect();
    scope(|scope| {
        for (client, _) in &clients {
            scope.spawn(|| {
                send_numbered(client);
                shut(client);
            });
        }
    });
    gateway.wait_all_ended(clients.len() as u64);
    for (_, number) in &clients {
        assert_eq!(gateway.recorder.reason(*number), CloseReason::PeerClosed);
        assert_numbered(&gateway.recorder, *number);
    }
    gateway.finish(&[(CloseReason::PeerClosed, clients.len() as u64)]);
}

#[test]
fn a_single_client_that_fills_the_sinks_queue_gets_everything_through() {
    everything_arrives(narrow(1, millis(5_000), PATIENCE * 2), 1);
}

#[test]
fn clients_of_several_shards_that_fill_one_queue_get_everything_through() {
    everything_arrives(narrow(4, millis(5_000), PATIENCE * 2), 8);
}

fn wait_until_reading_rests(gateway: &Running) {
    wait_until("reading rests", || {
        let before = gateway.counts().bytes_in();
        sleep(millis(200));
        before > 0 && gateway.counts().bytes_in() == before
    });
}

#[test]
fn while_the_sink_is_stuck_nobodys_silence_counts_and_then_all_goes_on() {
    let gateway = narrow(2, millis(8_000), millis(1_200));
    let clients: Vec<_> = (0..4).map(|_| gateway.connect_known()).collect();
    gateway.recorder.block();
    scope(|scope| {
        for (client, _) in &clients {
            scope.spawn(|| send_numbered(client));
        }
        wait_until_reading_rests(&gateway);
        assert!(gateway.counts().bytes_in() < 4 * 1024 * 1024, "{:?}", gateway.counts());
        sleep(millis(2_000));
        assert_eq!(gateway.counts().ended_in_all(), 0, "{}", gateway.counts().reasons_phrase());
        gateway.recorder.unblock();
    });
    // Each gets one full timeout from the moment it is read again, so nothing is lost to a slow reader.
    gateway.wait_all_ended(4);
    for (_, number) in &clients {
        assert_eq!(gateway.recorder.reason(*number), CloseReason::HeartbeatTimeout);
        assert_numbered(&gateway.recorder, *number);
    }
    gateway.finish(&[(CloseReason::HeartbeatTimeout, 4)]);
}

#[test]
fn a_sink_that_is_stuck_for_too_long_ends_who_waits_for_it_and_refuses_others() {
    let gateway = narrow(1, millis(500), PATIENCE * 2);
    gateway.recorder.block();
    let mut client = gateway.connect();
    let waiting = Instant::now();
    let sender = client.try_clone().unwrap();
    scope(|scope| {
        scope.spawn(|| send_numbered(&sender));
        let (heard, _) = common::hear_out(&mut client);
        assert_eq!(heard, b"sink stalled\n");
    });
    assert!(waiting.elapsed() >= millis(500));
    assert_eq!(hear_text(&mut gateway.connect()), "sink stalled\n");
    gateway.recorder.unblock();
    wait_until("the sink takes newcomers again", || is_quiet(&gateway.connect_after_a_moment()));
    let counts = gateway.stop().unwrap();
    assert!(counts.ended(CloseReason::SinkStalled) >= 2, "{}", counts.reasons_phrase());
}

impl Running {
    fn connect_after_a_moment(&self) -> TcpStream {
        let stream = self.connect();
        sleep(millis(50));
        stream
    }
}

#[test]
fn a_reset_is_seen_while_the_sink_keeps_us_from_reading() {
    let gateway = narrow(1, PATIENCE * 2, PATIENCE * 2);
    gateway.recorder.block();
    let client = gateway.connect();
    let sender = client.try_clone().unwrap();
    sender.set_write_timeout(Some(millis(500))).unwrap();
    send_numbered(&sender);
    wait_until_reading_rests(&gateway);
    drop(sender);
    reset(client);
    wait_until("the reset is seen", || gateway.counts().ended(CloseReason::PeerReset) == 1);
    gateway.recorder.unblock();
    gateway.finish(&[(CloseReason::PeerReset, 1)]);
}

#[test]
fn who_sends_below_the_minimum_rate_is_ended() {
    let grace = millis(800);
    let gateway = Running::start(|listener| {
        listener.policy.framing = Framing::Chunks;
        listener.policy.minimum_rate = Some(MinimumRate { bytes_per_second: 1000, grace });
    });
    let (mut slow, slow_number) = gateway.connect_known();
    let (mut fast, fast_number) = gateway.connect_known();
    let (start, mut last, mut gap) = (Instant::now(), Instant::now(), Duration::ZERO);
    while gateway.recorder.life(slow_number).ended.is_none() && start.elapsed() < PATIENCE {
        // The end may come between the look and the write.
        let _ = slow.write_all(b"x");
        let _ = fast.write_all(&[b'x'; 1000]);
        gap = gap.max(last.elapsed());
        last = Instant::now();
        sleep(millis(20));
    }
    let ended = gateway.recorder.ended(slow_number);
    assert_eq!(ended.reason, CloseReason::MinimumRate);
    assert!(ended.age >= grace);
    let fast_lives = gateway.recorder.life(fast_number).ended.is_none();
    assert!(fast_lives || gap >= grace, "the fast one was ended, though the longest gap was {gap:?}");
    gateway.stop().unwrap();
}

#[test]
fn a_paused_connection_meets_its_fixed_deadline_all_the_same() {
    let config = Config {
        sink_queue_bytes_max: QUEUE_BYTES,
        ..one_shard(vec![listener(|listener| {
            listener.policy.lifetime = pulsegate::LifetimePolicy::Short { deadline: millis(900) };
            listener.policy.first_message = millis(900);
        })])
    };
    let gateway = Running::start_with(config);
    gateway.recorder.block();
    let client = connect(gateway.address());
    client.set_write_timeout(Some(millis(300))).unwrap();
    send_numbered(&client);
    wait_until("the deadline", || gateway.counts().ended(CloseReason::ShortDeadline) == 1);
    gateway.recorder.unblock();
    gateway.finish(&[(CloseReason::ShortDeadline, 1)]);
}
