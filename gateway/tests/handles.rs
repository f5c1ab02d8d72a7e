//! What an application can do with a connection's handle, from any thread and at any time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::pulse::PulseClient;
use common::{
    PATIENCE, RECORDER, Running, hear_out, hear_text, is_quiet, listener, long, millis, one_shard, wait_until,
};
use pulsegate::{CloseReason, Framing, Gateway, Handle, HandleError, Protocol, Recipient, SendError};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::{scope, sleep};
use std::time::Instant;

fn known(gateway: &Running) -> (TcpStream, Handle) {
    let (client, number) = gateway.connect_known();
    (client, gateway.recorder.handle(number))
}

#[test]
fn what_is_sent_before_finish_arrives_whole_and_close_ends_at_once() {
    let gateway = Running::start(|_| {});
    let (mut client, handle) = known(&gateway);
    let text = "0123456789".repeat(6_000);
    handle.send(text.as_bytes()).unwrap();
    handle.finish().unwrap();
    handle.send(*b"too late").unwrap();
    assert_eq!(hear_text(&mut client), text);
    let (mut closed, handle) = known(&gateway);
    handle.close().unwrap();
    assert_eq!(hear_text(&mut closed), "");
    gateway.wait_all_ended(2);
    gateway.finish(&[(CloseReason::Application, 2)]);
}

#[test]
fn a_deadline_ends_a_silent_peer_not_before_its_time() {
    let gateway = Running::start(|_| {});
    for set in [Handle::set_deadline, Handle::set_read_deadline] {
        let (mut client, handle) = known(&gateway);
        let deadline = Instant::now() + millis(300);
        set(&handle, Some(deadline)).unwrap();
        assert_eq!(hear_text(&mut client), "");
        assert!(Instant::now() >= deadline);
        assert_eq!(gateway.recorder.reason(gateway.recorder.place_of(&handle)), CloseReason::ReadDeadline);
        let (mut client, handle) = known(&gateway);
        set(&handle, Some(Instant::now() - millis(1))).unwrap();
        assert_eq!(hear_text(&mut client), "");
    }
    gateway.finish(&[(CloseReason::ReadDeadline, 4)]);
}

#[test]
fn a_deadline_can_be_moved_and_cleared_while_the_peer_is_silent() {
    let gateway = Running::start(|_| {});
    let begun = Instant::now();
    let (mut later, later_handle) = known(&gateway);
    let (mut sooner, sooner_handle) = known(&gateway);
    let (kept, kept_handle) = known(&gateway);
    later_handle.set_read_deadline(Some(begun + millis(600))).unwrap();
    later_handle.set_read_deadline(Some(begun + millis(1_200))).unwrap();
    sooner_handle.set_deadline(Some(begun + PATIENCE * 2)).unwrap();
    sooner_handle.set_deadline(Some(begun + millis(500))).unwrap();
    kept_handle.set_deadline(Some(begun + millis(500))).unwrap();
    kept_handle.set_deadline(None).unwrap();
    assert_eq!(hear_text(&mut sooner), "");
    assert!(begun.elapsed() >= millis(500));
    assert_eq!(hear_text(&mut later), "");
    assert!(begun.elapsed() >= millis(1_200));
    assert!(is_quiet(&kept), "a cleared deadline ends nothing");
    assert_eq!(gateway.recorder.reason(gateway.recorder.place_of(&sooner_handle)), CloseReason::ReadDeadline);
    gateway.finish(&[(CloseReason::ReadDeadline, 2), (CloseReason::Stopped, 1)]);
}

#[test]
fn a_deadline_only_tightens_what_the_listener_allows() {
    let gateway = Running::start(|listener| listener.policy.lifetime = long(millis(300)));
    let (mut client, handle) = known(&gateway);
    handle.set_deadline(Some(Instant::now() + PATIENCE * 100)).unwrap();
    client.write_all(b"hello\n").unwrap();
    assert_eq!(hear_text(&mut client), "");
    gateway.wait_all_ended(1);
    gateway.finish(&[(CloseReason::HeartbeatTimeout, 1)]);
}

#[test]
fn a_write_deadline_ends_only_who_has_something_to_take() {
    let gateway = Running::start(|listener| listener.policy.output_bytes_max = 64 * 1024 * 1024);
    let (idle, idle_handle) = known(&gateway);
    idle_handle.set_write_deadline(Some(Instant::now() - millis(1))).unwrap();
    let (_stuck, stuck_handle) = known(&gateway);
    let begun = Instant::now();
    // More than all buffers between here and there.
    for _ in 0..4 {
        stuck_handle.send(vec![0; 3_900_000]).unwrap();
        sleep(millis(50));
    }
    stuck_handle.set_write_deadline(Some(begun + millis(500))).unwrap();
    let ended = gateway.recorder.ended(gateway.recorder.place_of(&stuck_handle));
    assert_eq!(ended.reason, CloseReason::WriteDeadline);
    assert!(begun.elapsed() >= millis(500));
    assert!(is_quiet(&idle), "nothing was to be sent");
    idle_handle.send(*b"x").unwrap();
    assert_eq!(gateway.recorder.reason(gateway.recorder.place_of(&idle_handle)), CloseReason::WriteDeadline);
    gateway.finish(&[(CloseReason::WriteDeadline, 2)]);
}

#[test]
fn a_handle_that_outlives_its_connection_touches_no_other() {
    let gateway = Running::start_with(one_shard(vec![listener(|_| {})]));
    let (client, stale) = known(&gateway);
    drop(client);
    gateway.recorder.ended(gateway.recorder.place_of(&stale));
    let (mut next, next_handle) = known(&gateway);
    stale.send(*b"not for you").unwrap();
    stale.set_deadline(Some(Instant::now())).unwrap();
    stale.close().unwrap();
    stale.finish().unwrap();
    next_handle.send(*b"for you").unwrap();
    let mut heard = [0; 7];
    next.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"for you");
    assert!(is_quiet(&next));
    assert_ne!(stale.number(), next_handle.number());
    gateway.finish(&[(CloseReason::PeerClosed, 1), (CloseReason::Stopped, 1)]);
}

#[test]
fn more_than_the_output_limit_ends_the_connection() {
    let gateway = Running::start(|listener| listener.policy.output_bytes_max = 10_000);
    let (mut client, handle) = known(&gateway);
    handle.send(vec![b'x'; 10_000]).unwrap();
    client.read_exact(&mut [0; 10_000]).unwrap();
    handle.send(vec![b'x'; 10_001]).unwrap();
    assert_eq!(hear_text(&mut client), "");
    let (_stuck, stuck_handle) = known(&gateway);
    wait_until("the output is full", || {
        let _ = stuck_handle.send(vec![b'x'; 5_000]);
        gateway.recorder.life(gateway.recorder.place_of(&stuck_handle)).ended.is_some()
    });
    gateway.finish(&[(CloseReason::OutputFull, 2)]);
}

#[test]
fn clones_send_from_many_threads_and_nothing_is_mixed_up() {
    const LINES: usize = 200;
    let gateway = Running::start(|listener| listener.policy.output_bytes_max = 1024 * 1024);
    let (mut client, handle) = known(&gateway);
    scope(|scope| {
        for thread in 0..8 {
            let handle = handle.clone();
            scope.spawn(move || {
                for line in 0..LINES {
                    handle.send(format!("{thread} {line}\n").into_bytes()).unwrap();
                }
            });
        }
    });
    handle.finish().unwrap();
    let mut next = [0; 8];
    for line in hear_text(&mut client).lines() {
        let (thread, number) = line.split_once(' ').unwrap();
        let thread: usize = thread.parse().unwrap();
        assert_eq!(number, next[thread].to_string());
        next[thread] += 1;
    }
    assert_eq!(next, [LINES; 8]);
    gateway.finish(&[(CloseReason::Application, 1)]);
}

fn refused(handle: &Handle) -> bool {
    handle.send(*b"x") == Err(HandleError::Stopped)
        && handle.close() == Err(HandleError::Stopped)
        && handle.finish() == Err(HandleError::Stopped)
        && handle.set_deadline(None) == Err(HandleError::Stopped)
}

#[test]
fn after_the_gateway_has_stopped_a_handle_says_so() {
    let gateway = Running::start(|_| {});
    let (mut client, handle) = known(&gateway);
    gateway.finish(&[(CloseReason::Stopped, 1)]);
    assert!(refused(&handle));
    let (heard, _) = hear_out(&mut client);
    assert_eq!(heard, b"");
}

#[test]
fn after_the_gateway_was_dropped_a_handle_says_so_and_the_sink_has_heard_of_every_end() {
    for _ in 0..20 {
        let recorder = common::recorder::Recorder::default();
        let gateway =
            Gateway::builder().listener(listener(|_| {})).sink(RECORDER, recorder.clone()).start().unwrap();
        let client = common::connect(gateway.addresses()[0]);
        wait_until("the sink hears of it", || recorder.lives() == 1);
        let handle = recorder.handle(1);
        drop(gateway);
        recorder.ended(1);
        wait_until("the handle knows", || refused(&handle));
        drop(client);
    }
}

#[test]
fn while_its_store_is_held_up_a_client_is_sent_no_more_than_fits_and_senders_hear_that_it_is_busy() {
    let mut config = one_shard(vec![listener(|listener| {
        listener.policy.protocol = Protocol::Pulse;
        listener.policy.framing = Framing::Chunks;
    })]);
    config.sink_queue_bytes_max = 64 * 1024;
    (config.store.outgoing_messages_max, config.store.outgoing_bytes_max) = (1_000_000, 1 << 30);
    let gateway = Running::start_with(config);
    let (mut client, welcomed) = PulseClient::attached(gateway.address(), "a");
    wait_until("the sink hears of it", || gateway.recorder.lives() == 1);
    gateway.recorder.block();
    // What is in the sink's hands, what fills its queue, what the store then waits with.
    for number in 1..=3 {
        client.send(&[7; 60_000]);
        if number < 3 {
            client.settled(number);
        }
    }
    let handle = gateway.recorder.handle(1);
    let (mut taken, mut refused) = (0, 0);
    while refused < 100 {
        match handle.send([7; 60_000]) {
            Ok(()) => (taken, refused) = (taken + 60_000, 0),
            Err(HandleError::Busy) => {
                refused += 1;
                sleep(millis(2));
            }
            Err(error) => panic!("{error}"),
        }
        assert!(taken < 100_000_000, "it would take all the memory there is");
    }
    let to = Recipient::Session(welcomed.session);
    assert_eq!(gateway.control.send(to, [7; 60_000], |_| ()), Err(SendError::Busy));
    gateway.recorder.unblock();
    wait_until("there is room again", || handle.send(*b"again").is_ok());
    gateway.stop().unwrap();
}
