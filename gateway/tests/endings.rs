//! How connections end, over real sockets: by the client in all its ways, and by what it sends. After each, the
//! books balance.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Running, connect, hear_out, hear_text, listener, millis, one_shard, reset, shut, wait_until};
use pulsegate::{CloseReason, Config, Framing, Gateway, Handle, ListenerConfig, Message, Sink};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::{scope, sleep};

#[test]
fn a_client_that_closes_at_once_or_vanishes_has_closed() {
    let gateway = Running::start(|_| {});
    let mut polite = gateway.connect();
    shut(&polite);
    assert_eq!(hear_text(&mut polite), "");
    drop(gateway.connect());
    gateway.wait_all_ended(2);
    gateway.finish(&[(CloseReason::PeerClosed, 2)]);
}

#[test]
fn a_reset_is_told_from_a_close() {
    let gateway = Running::start(|_| {});
    let (mut client, number) = gateway.connect_known();
    client.write_all(b"one\ntwo\nthr").unwrap();
    wait_until("two messages", || gateway.recorder.message_count(number) == 2);
    reset(client);
    assert_eq!(gateway.recorder.reason(number), CloseReason::PeerReset);
    gateway.finish(&[(CloseReason::PeerReset, 1)]);
}

#[test]
fn after_a_half_close_the_echo_of_everything_still_arrives() {
    let gateway = Running::start(|listener| {
        listener.sink = "echo".to_owned();
        listener.policy.framing = Framing::Chunks;
    });
    let said: Vec<u8> = (0..1024 * 1024u32).map(|number| (number % 251) as u8).collect();
    let mut client = gateway.connect();
    let (heard, error) = scope(|scope| {
        let mut writer = client.try_clone().unwrap();
        let said = &said;
        scope.spawn(move || {
            writer.write_all(said).unwrap();
            shut(&writer);
        });
        hear_out(&mut client)
    });
    assert_eq!(error, None);
    assert!(heard == said, "{} bytes came back of {}", heard.len(), said.len());
    gateway.wait_all_ended(1);
    gateway.finish(&[(CloseReason::PeerClosed, 1)]);
}

/// Answers only when the peer has said everything, and takes its time.
struct Late;

impl Sink for Late {
    fn handle_message(&mut self, _: &Handle, _: &Message<'_>) {}

    fn handle_input_end(&mut self, connection: &Handle) {
        let connection = connection.clone();
        std::thread::spawn(move || {
            for part in ["first, ", "second, ", "last"] {
                sleep(millis(100));
                connection.send(part.as_bytes()).unwrap();
            }
            connection.finish().unwrap();
        });
    }
}

#[test]
fn after_a_half_close_late_answers_still_arrive() {
    let listener = ListenerConfig { sink: "late".to_owned(), ..listener(|_| {}) };
    let gateway = Gateway::builder().listener(listener).sink("late", Late).start().unwrap();
    let mut client = connect(gateway.addresses()[0]);
    client.write_all(b"question\n").unwrap();
    shut(&client);
    assert_eq!(hear_text(&mut client), "first, second, last");
    gateway.control().stop();
    assert_eq!(gateway.wait().unwrap().ended(CloseReason::PeerClosed), 1);
}

#[test]
fn a_half_closed_connection_that_nobody_finishes_is_bounded() {
    struct Never;
    impl Sink for Never {
        fn handle_message(&mut self, _: &Handle, _: &Message<'_>) {}
        fn handle_input_end(&mut self, _: &Handle) {}
    }
    let mut listener = ListenerConfig { sink: "never".to_owned(), ..listener(|_| {}) };
    listener.policy.half_close = millis(300);
    let gateway = Gateway::builder().listener(listener).sink("never", Never).start().unwrap();
    let mut client = connect(gateway.addresses()[0]);
    let begun = std::time::Instant::now();
    shut(&client);
    assert_eq!(hear_text(&mut client), "");
    assert!(begun.elapsed() >= millis(300));
    gateway.control().stop();
    assert_eq!(gateway.wait().unwrap().ended(CloseReason::HalfCloseTimeout), 1);
}

#[test]
fn of_a_message_that_is_too_large_nothing_is_delivered_and_the_lines_before_it_are() {
    let fits = "f".repeat(100);
    let too_large = "t".repeat(101);
    for tail in
        [format!("{too_large}\nfour\n"), format!("{too_large}{too_large}"), format!("{too_large}\r\n")]
    {
        let gateway = Running::start(|listener| {
            listener.policy.message_bytes_max = 100;
            listener.policy.farewell = Some("bye: {reason}, {retry}".into());
        });
        let (mut client, number) = gateway.connect_known();
        client.write_all(format!("one\n{fits}\r\n{tail}").as_bytes()).unwrap();
        assert_eq!(hear_text(&mut client), "bye: message too large, do not come back unchanged\n");
        assert_eq!(gateway.recorder.reason(number), CloseReason::MessageTooLarge);
        assert_eq!(gateway.recorder.texts(number), ["one", fits.as_str()]);
        gateway.finish(&[(CloseReason::MessageTooLarge, 1)]);
    }
}

#[test]
fn a_last_line_without_its_end_is_not_delivered() {
    let gateway = Running::start(|_| {});
    let (mut client, number) = gateway.connect_known();
    client.write_all(b"\none\r\n\r\ntwo").unwrap();
    shut(&client);
    assert_eq!(hear_text(&mut client), "");
    assert_eq!(gateway.recorder.reason(number), CloseReason::PeerClosed);
    assert_eq!(gateway.recorder.texts(number), ["", "one", ""]);
    gateway.finish(&[(CloseReason::PeerClosed, 1)]);
}

#[test]
fn replies_and_farewell_reach_a_client_that_is_still_sending() {
    let gateway = Running::start(|listener| {
        listener.policy.reply = Some("ok {n}".into());
        listener.policy.farewell = Some("bye: {reason}, {retry}".into());
    });
    let (mut client, number) = gateway.connect_known();
    let (heard, _) = scope(|scope| {
        let mut sender = client.try_clone().unwrap();
        scope.spawn(move || while sender.write_all(b"a line\nanother line\n").is_ok() {});
        scope.spawn(|| {
            wait_until("many messages", || gateway.recorder.message_count(number) >= 2000);
            gateway.recorder.handle(number).close().unwrap();
        });
        // After the farewell a client that goes on sending may be reset.
        hear_out(&mut client)
    });
    let messages = gateway.recorder.ended(number).totals.messages;
    let replies = (1..=messages).map(|n| format!("ok {n}\n")).collect::<String>();
    let expected = replies + "bye: application, come back at once\n";
    let heard = String::from_utf8(heard).unwrap();
    assert!(heard == expected, "after {} messages: ...{:?}", messages, heard.lines().next_back());
    gateway.finish(&[(CloseReason::Application, 1)]);
}

#[test]
fn the_farewell_survives_what_the_client_has_on_its_way() {
    let gateway = Running::start(|listener| {
        listener.policy.farewell = Some("bye: {reason}".into());
    });
    let (mut client, number) = gateway.connect_known();
    let mut sender = client.try_clone().unwrap();
    scope(|scope| {
        scope.spawn(move || {
            let line = [[b'x'; 999].as_slice(), b"\n"].concat();
            for _ in 0..200_000 {
                if sender.write_all(&line).is_err() {
                    break;
                }
            }
        });
        wait_until("many messages", || gateway.recorder.message_count(number) >= 100);
        gateway.recorder.handle(number).close().unwrap();
    });
    let (heard, _) = hear_out(&mut client);
    assert_eq!(String::from_utf8(heard).unwrap(), "bye: application\n");
    gateway.finish(&[(CloseReason::Application, 1)]);
}

/// A gateway that is full, and the client that fills it.
fn full(farewell: Option<&str>) -> (Running, TcpStream) {
    let mut listener = listener(|_| {});
    listener.policy.farewell = farewell.map(Into::into);
    let config = Config { max_connections: Some(1), ..one_shard(vec![listener]) };
    let gateway = Running::start_with(config);
    let (client, _) = gateway.connect_known();
    (gateway, client)
}

#[test]
fn a_refused_client_is_told_why() {
    let (gateway, first) = full(Some("bye: {reason}, {retry}"));
    for _ in 0..20 {
        assert_eq!(hear_text(&mut gateway.connect()), "bye: at capacity, come back in 5 s\n");
    }
    drop(first);
    gateway.wait_all_ended(21);
    let (_in_again, _) = gateway.connect_known();
    assert_eq!(gateway.recorder.lives(), 2);
    gateway.finish(&[(CloseReason::AtCapacity, 20), (CloseReason::PeerClosed, 1), (CloseReason::Stopped, 1)]);
}

#[test]
fn a_refused_client_that_talks_at_once_is_told_too() {
    let (gateway, _first) = full(Some("bye: {reason}"));
    for bytes in [10, 4_000, 20_000, 200_000] {
        let mut client = gateway.connect();
        // The gateway may have closed before all of it is written.
        let _ = client.write_all(&vec![b'x'; bytes]);
        let (heard, _) = hear_out(&mut client);
        assert_eq!(String::from_utf8(heard).unwrap(), "bye: at capacity\n", "after sending {bytes}");
    }
    gateway.finish(&[(CloseReason::AtCapacity, 4), (CloseReason::Stopped, 1)]);
}

#[test]
fn without_a_farewell_a_refused_client_sees_the_end() {
    let (gateway, _first) = full(None);
    assert_eq!(hear_text(&mut gateway.connect()), "");
    gateway.finish(&[(CloseReason::AtCapacity, 1), (CloseReason::Stopped, 1)]);
}

#[test]
fn a_port_scan_leaves_nothing_behind() {
    // One shard accepts them in the order in which they came, so when the last is served none waits any more.
    let gateway = Running::start_with(one_shard(vec![listener(|_| {})]));
    for number in 0..1000 {
        let client = gateway.connect();
        if number % 2 == 0 { drop(client) } else { reset(client) }
    }
    wait_until("all are gone", || gateway.counts().accepted() >= 500 && gateway.counts().open() == 0);
    let mut last = gateway.connect();
    last.write_all(b"still there\n").unwrap();
    shut(&last);
    assert_eq!(last.read(&mut [0; 8]).unwrap(), 0);
    wait_until("the last is gone", || gateway.counts().open() == 0);
    let recorder = gateway.recorder.clone();
    let counts = gateway.stop().unwrap();
    // A connection that was reset before it was accepted may never be seen.
    assert!((501..=1001).contains(&counts.accepted()), "{}", counts.accepted());
    let (closed, was_reset) = (counts.ended(CloseReason::PeerClosed), counts.ended(CloseReason::PeerReset));
    assert_eq!(closed + was_reset, counts.accepted(), "{}", counts.reasons_phrase());
    assert_eq!(recorder.lives() as u64, counts.accepted());
}

#[test]
fn three_thousand_at_once_are_all_served_and_all_counted() {
    const CLIENTS: usize = 3000;
    let gateway = Running::start(|listener| listener.policy.reply = Some("ok".into()));
    let address = gateway.address();
    let mut clients: Vec<TcpStream> = scope(|scope| {
        let third = || (0..CLIENTS / 3).map(|_| connect(address)).collect::<Vec<_>>();
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(third)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    for client in &mut clients {
        client.write_all(b"hello\n").unwrap();
    }
    for client in &mut clients {
        client.read_exact(&mut [0; 3]).unwrap();
    }
    wait_until("all are open", || gateway.counts().open() == CLIENTS as u64);
    drop(clients);
    gateway.wait_all_ended(CLIENTS as u64);
    assert_eq!(gateway.counts().messages(), CLIENTS as u64);
    gateway.finish(&[(CloseReason::PeerClosed, CLIENTS as u64)]);
}
