//! How the real program stops: by signals, gracefully or at once, and when it can't even start.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::program::{Program, pulsegate};
use common::{connect, hear_out, hear_text, is_quiet, millis, own_loopback, wait_until};
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::scope;
use std::time::{Duration, Instant};

/// Longer than the time in which two signals are one.
const NEXT_SIGNAL: Duration = millis(700);

/// Clients that the program has heard.
fn crowd(program: &Program, address: SocketAddr, size: usize) -> Vec<TcpStream> {
    let clients: Vec<_> = (0..size).map(|_| connect(address)).collect();
    for mut client in &clients {
        client.write_all(b"hello\n").unwrap();
    }
    wait_until("all are heard", || program.stdout().matches("hello").count() == size);
    clients
}

/// When each of them sees its end, counted from `start`.
fn ends(clients: &mut [TcpStream], start: Instant) -> Vec<Duration> {
    let mut ends: Vec<_> = scope(|scope| {
        let watch = |client| {
            scope.spawn(move || {
                assert_eq!(hear_text(client), "");
                start.elapsed()
            })
        };
        let threads: Vec<_> = clients.iter_mut().map(watch).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    ends.sort();
    ends
}

#[test]
fn sigterm_drains_at_an_even_pace_and_exits_with_success() {
    let listen = own_loopback(1).to_string();
    let (mut program, address) = Program::serve_at(
        &listen,
        &["--long", "30s", "--drain-within", "2s", "--shards", "1", "--framing", "lines"],
    );
    let mut clients = crowd(&program, address, 10);
    let start = Instant::now();
    program.signal("TERM");
    let ends = scope(|scope| {
        let ends = scope.spawn(|| ends(&mut clients, start));
        wait_until("the first has left", || program.stdout().contains("ended: drain"));
        // The port is held, and whoever comes is answered.
        assert_eq!(hear_text(&mut connect(address)), "");
        ends.join().unwrap()
    });
    assert!(ends[9] >= millis(1_800), "the pace was not kept: {ends:?}");
    assert!(ends[4] >= millis(800), "the pace was not kept: {ends:?}");
    assert!(ends[0] < ends[9] - millis(1_000), "the first did not leave at once: {ends:?}");
    assert_eq!(program.wait(), Some(0));
    let (log, printed) = (program.stderr(), program.stdout());
    assert!(log.contains("SIGTERM: draining 10 connections within 2s"), "{log}");
    assert!(log.contains("stopped") && log.contains("drain 11"), "{log}");
    assert_eq!(printed.matches("ended: drain").count(), 10, "{printed}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let (mut program, address) =
        Program::serve(&["--long", "30s", "--drain-within", "1h", "--framing", "lines"]);
    let mut clients = crowd(&program, address, 4);
    program.signal("INT");
    wait_until("it drains", || program.stderr().contains("SIGINT: draining"));
    std::thread::sleep(NEXT_SIGNAL);
    assert!(program.is_running());
    program.signal("INT");
    assert_eq!(program.wait(), Some(1));
    for client in &mut clients {
        let (_, error) = hear_out(client);
        assert_ne!(error, Some(ErrorKind::WouldBlock), "a client is left hanging");
    }
    let log = program.stderr();
    assert!(log.contains("SIGINT again: ending at once") && log.contains("stopped"), "{log}");
    let printed = program.stdout();
    let count = |reason: &str| printed.matches(&format!("ended: {reason},")).count();
    assert_eq!(count("drain") + count("stopped"), 4, "{printed}");
    assert!(count("stopped") >= 1, "{printed}");
}

#[test]
fn without_connections_it_does_not_wait() {
    let (mut program, _) = Program::serve(&["--drain-within", "1h"]);
    program.signal("TERM");
    assert_eq!(program.wait(), Some(0));
    assert!(program.stderr().contains("ended=none"), "{}", program.stderr());
}

#[test]
fn a_signal_right_after_the_first_line_drains_already() {
    for _ in 0..10 {
        let (mut program, _) = Program::serve(&["--drain-within", "0s"]);
        program.signal("TERM");
        assert_eq!(program.wait(), Some(0), "{}", program.stderr());
    }
}

#[test]
fn who_comes_while_it_drains_is_answered_or_refused_but_never_left_hanging() {
    let (mut program, address) = Program::serve_at(
        &own_loopback(2).to_string(),
        &["--long", "30s", "--drain-within", "300ms", "--framing", "lines"],
    );
    let _clients = crowd(&program, address, 4);
    program.signal("TERM");
    while let Ok(mut late) = TcpStream::connect(address) {
        late.set_read_timeout(Some(common::PATIENCE)).unwrap();
        let (heard, error) = hear_out(&mut late);
        assert_eq!(heard, b"");
        assert_ne!(error, Some(ErrorKind::WouldBlock), "{late:?} is left hanging:\n{}", program.stderr());
    }
    assert_eq!(program.wait(), Some(0));
}

#[test]
fn a_client_that_sends_without_end_does_not_hold_up_the_stop() {
    let (mut program, address) = Program::serve(&["--long", "30s", "--drain-within", "0s", "--sink", "echo"]);
    let client = connect(address);
    scope(|scope| {
        let mut sender = &client;
        scope.spawn(move || while sender.write_all(&[b'x'; 10_000]).is_ok() {});
        std::thread::sleep(millis(200));
        program.signal("TERM");
        assert_eq!(program.wait(), Some(0));
    });
    assert!(program.stderr().contains("drain 1"), "{}", program.stderr());
}

#[test]
fn an_output_that_nobody_reads_does_not_keep_it_from_ending_at_once() {
    let args = ["serve", "--listen", "127.0.0.1:0", "--drain-within", "0s"];
    let mut program = Program::start_unread(pulsegate(&args));
    let mut client = connect(program.address());
    client.set_write_timeout(Some(millis(500))).unwrap();
    // As much as it takes, until the pipe is full and the print sink is stuck.
    while client.write_all(&[b'x'; 100_000]).is_ok() {}
    program.signal("TERM");
    wait_until("it drains", || program.stderr().contains("SIGTERM: draining"));
    std::thread::sleep(NEXT_SIGNAL);
    program.signal("TERM");
    assert_eq!(program.wait(), Some(1));
}

#[test]
fn an_address_in_use_is_said_and_the_exit_code_is_one() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_first, shared) = Program::serve(&["--shards", "2"]);
    for address in [taken.local_addr().unwrap(), shared] {
        let mut second = Program::start(pulsegate(&["serve", "--listen", &address.to_string()]));
        assert_eq!(second.wait(), Some(1));
        let said = second.stderr();
        assert!(said.contains(&format!("--listen: {address} is in use by ")), "{said}");
        assert!(said.contains("; end it, or listen on another port"), "{said}");
    }
    let client = connect(shared);
    assert!(is_quiet(&client), "the first goes on");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gate.toml");
    std::fs::write(&file, format!("[[listener]]\nlisten = \"{shared}\"\n")).unwrap();
    let mut third = Program::start(pulsegate(&["serve", "--config", file.to_str().unwrap()]));
    assert_eq!(third.wait(), Some(1));
    let said = third.stderr();
    assert!(
        said.contains(&format!("gate.toml:2:10: listen: {shared} is in use by pulsegate (process ")),
        "{said}"
    );
}
