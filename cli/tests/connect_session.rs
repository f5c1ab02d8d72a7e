//! `pulsegate connect --id` as people run it: what it sends of its input, what it says, how it ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::program::{Ended, Program};
use common::server::{answering, bye};
use common::{PATIENCE, wait_until};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// So long it waits at the end of its input, if nobody interrupts.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// `connect --id` with what a line of shell makes for its input.
fn connect(address: SocketAddr, made_by: &str, more: &[&str]) -> Ended {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{{ {made_by}; }} | exec \"$0\" \"$@\"")]);
    command.arg(env!("CARGO_BIN_EXE_pulsegate"));
    command.args(["connect", &address.to_string(), "--id", "x"]).args(more);
    Program::start(command).finish(PATIENCE)
}

#[track_caller]
fn assert_said(ended: &Ended, words: &str) {
    assert!(ended.said.iter().any(|line| line.contains(words)), "no {words:?} in {ended:#?}");
}

#[test]
fn lines_that_are_not_text_take_no_others_along() {
    let (gateway, address) = Program::serve(&["--protocol", "pulse", "--sink", "print"]);
    let ended = connect(address, r"printf 'one\n\377\376\nthree\n'", &[]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_said(&ended, "3 messages committed, 0 not");
    for text in ["  one", "  \\xff\\xfe", "  three"] {
        assert!(gateway.heard(PATIENCE, |line| line.ends_with(text)), "no {text:?}: {}", gateway.stdout());
    }
}

#[test]
fn a_line_that_the_gateway_does_not_take_is_told_and_shows_in_the_exit_code() {
    let (_gateway, address) = Program::serve(&["--protocol", "pulse", "--sink", "discard"]);
    // Before the limit is known, and after.
    for wait in ["true", "sleep 1"] {
        let lines = format!("{wait}; echo one; head -c 71680 /dev/zero | tr '\\0' x; echo; echo three");
        let ended = connect(address, &lines, &[]);
        assert_eq!(ended.code, Some(3), "{ended:#?}");
        assert_said(&ended, "not sent: ");
        assert_said(&ended, "71680 bytes and may have 65536");
        assert_said(&ended, "2 messages committed, 1 not");
    }
    let ended = connect(address, "head -c 16000001 /dev/zero; echo; echo two", &[]);
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    assert_said(&ended, "not sent: the line has 16000001 bytes and may have 16000000");
}

#[test]
fn an_input_that_fails_is_told_after_what_came_before_is_settled() {
    let (_gateway, address) = Program::serve(&["--protocol", "pulse", "--sink", "discard"]);
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" < /", env!("CARGO_BIN_EXE_pulsegate")]);
    command.args(["connect", &address.to_string(), "--id", "x"]);
    let ended = Program::start(command).finish(PATIENCE);
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert_said(&ended, "0 messages committed, 0 not");
    assert!(ended.complaints[0].contains("standard input could not be read"), "{ended:#?}");
}

#[test]
fn a_full_disk_under_the_outbox_is_waited_for() {
    let (_gateway, address) = Program::serve(&["--protocol", "pulse", "--sink", "discard"]);
    let directory = tempfile::TempDir::new().unwrap();
    let (lines, outbox) = (directory.path().join("lines"), directory.path().join("outbox"));
    std::fs::write(&lines, (0..300).map(|line| format!("{line:01000}\n")).collect::<String>()).unwrap();
    let mut command = Command::new("sh");
    // No file may grow beyond 128 KiB, or 256 where the shell counts in KiB, which is a full disk to the outbox.
    let limited = "trap '' XFSZ; ulimit -S -f 256; exec \"$0\" \"$@\" < \"$LINES_FILE\"";
    command.args(["-c", limited, env!("CARGO_BIN_EXE_pulsegate")]).env("LINES_FILE", &lines);
    command.args(["connect", &address.to_string(), "--id", "x", "--outbox"]).arg(&outbox);
    let program = Program::start(command);
    assert!(
        program.heard(PATIENCE, |line| line.contains("the outbox can't be written")),
        "{}",
        program.stderr()
    );
    let more = format!(
        "prlimit --pid {} --fsize=unlimited:unlimited || prlimit --pid {0} --fsize=1000000000",
        program.id()
    );
    assert!(Command::new("sh").args(["-c", &more]).status().unwrap().success());
    let ended = program.finish(PATIENCE);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_said(&ended, "the outbox can be written again");
    assert_said(&ended, "300 messages committed, 0 not");
}

/// A way to a gateway that carries so many bytes in each piece, and rests after it; back it is as fast as any.
fn slow_uplink(gateway: SocketAddr, piece: usize, rest: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // So that what is on its way waits with its sender.
    SockRef::from(&listener).set_recv_buffer_size(2 * piece).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut server = TcpStream::connect(gateway).unwrap();
            let (mut back, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut back, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
            std::thread::spawn(move || {
                let mut input = vec![0; piece];
                while let Ok(bytes @ 1..) = client.read(&mut input) {
                    if server.write_all(&input[..bytes]).is_err() {
                        break;
                    }
                    std::thread::sleep(rest);
                }
                let _ = server.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    address
}

#[test]
fn a_large_message_gets_through_a_slow_uplink() {
    let (_gateway, address) = Program::serve(&["--protocol", "pulse", "--sink", "discard", "--long", "1s"]);
    // Some 4 s for one message: much longer than silence is borne on either side.
    let slow = slow_uplink(address, 512, Duration::from_millis(130));
    let ended = connect(slow, "head -c 16000 /dev/zero | tr '\\0' x; echo", &[]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(ended.said.iter().filter(|line| line.contains("connected: ")).count(), 2, "{ended:#?}");
    assert_said(&ended, "disconnected: done");
    assert_said(&ended, "committed, 0 not");
}

#[test]
fn what_committed_means_is_said() {
    let (_gateway, address) = Program::serve(&["--protocol", "pulse", "--sink", "discard"]);
    assert_said(&connect(address, "echo one", &[]), "1 received (committed, in memory only)");
    let directory = tempfile::TempDir::new().unwrap();
    let data = directory.path().to_str().unwrap();
    let store = ["--protocol", "pulse", "--sink", "store", "--data-dir", data, "--durability"];
    for (durability, words) in [("os", "with the operating system"), ("synced", "synced to disk")] {
        let (_gateway, address) = Program::serve(&[&store[..], &[durability]].concat());
        assert_said(&connect(address, "echo one", &[]), &format!("1 received (committed, {words})"));
    }
}

#[test]
fn a_raw_listener_ends_it_with_a_sentence_and_says_so_once_in_its_log() {
    let (gateway, raw) = Program::serve(&["--protocol", "raw", "--sink", "echo"]);
    for _ in 0..2 {
        let ended = connect(raw, "echo one", &[]);
        assert_eq!(ended.code, Some(1), "{ended:#?}");
        assert_said(
            &ended,
            "this port serves raw clients only; its listener needs the protocol auto or pulse",
        );
        // It may come before the line was taken from the input.
        assert_said(&ended, "0 messages committed, ");
    }
    let told =
        |line: &&str| line.contains("a client of the pulse protocol is ended at a listener for raw clients");
    assert_eq!(gateway.stderr().lines().filter(told).count(), 1, "{}", gateway.stderr());
    let (echo, mute) = (answering(b"PULSE\0\x01\n"), answering(b""));
    for (address, words) in
        [(echo, "not a frame"), (mute, "3 connections in a row were ended without a byte")]
    {
        let ended = connect(address, "echo one", &[]);
        assert_eq!(ended.code, Some(1), "{ended:#?}");
        assert_said(&ended, words);
        assert_said(&ended, "protocol auto or pulse");
        // It may be over before the line was read.
        assert_said(&ended, "0 messages committed, ");
    }
}

#[test]
fn what_a_gateway_says_cannot_drive_the_terminal() {
    let text = "\u{1b}[2J\u{9b}1m\u{202e}\u{61c}\u{e0041}";
    let ended = connect(answering(&bye(999, text)), "echo one", &[]);
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    assert_said(&ended, r"unknown code: \u{1b}[2J\u{9b}1m\u{202e}\u{61c}\u{e0041}");
    assert!(ended.said.iter().all(|line| line.is_ascii()), "{ended:#?}");
}

/// `connect --id` with a file for its input, in the shell's place, so that signals reach it.
fn start(address: SocketAddr, input: &Path) -> Program {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" < \"$LINES_FILE\""]).env("LINES_FILE", input);
    command.args([env!("CARGO_BIN_EXE_pulsegate"), "connect", &address.to_string(), "--id", "x"]);
    Program::start(command)
}

#[test]
fn a_signal_ends_it_while_it_waits_for_room_or_for_what_is_not_settled() {
    let directory = tempfile::TempDir::new().unwrap();
    let one = directory.path().join("one");
    std::fs::write(&one, "hi\n").unwrap();
    // Bound, so that nobody else gets it, and nothing listens.
    let free = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    free.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = free.local_addr().unwrap().as_socket().unwrap();
    // An input that has ended, and more than there is room for.
    let many = directory.path().join("many");
    std::fs::write(&many, format!("{}\n", "x".repeat(1_000_000)).repeat(80)).unwrap();
    for (input, open) in [(&one, "interrupted: 1 message not settled"), (&many, "not settled")] {
        for name in ["INT", "TERM"] {
            let program = start(address, input);
            let heard = program.heard(PATIENCE, |line| line.contains("nothing listens on"));
            assert!(heard, "{}", program.stdout());
            // By the second attempt what there is room for is taken in.
            assert!(program.heard(PATIENCE, |line| line.contains("unreachable")), "{}", program.stdout());
            let asked = Instant::now();
            program.signal(name);
            let ended = program.finish(PATIENCE);
            assert!(asked.elapsed() < CLOSE_TIMEOUT / 3, "{:?}: {ended:#?}", asked.elapsed());
            assert_eq!(ended.code, Some(130), "{ended:#?}");
            assert_said(&ended, open);
            assert_said(&ended, "0 messages committed, ");
        }
    }
}

#[test]
fn a_gateway_that_has_stopped_holds_up_nobody_who_interrupts() {
    for signals in [&["INT"][..], &["TERM", "INT"]] {
        let (gateway, address) = Program::serve(&["--protocol", "pulse", "--sink", "discard"]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_pulsegate"));
        command.args(["connect", &address.to_string(), "--id", "x"]);
        let mut program = Program::start_fed(command);
        assert!(program.heard(PATIENCE, |line| line.contains("connected: ")), "{}", program.stdout());
        gateway.signal("STOP");
        program.feed("hi");
        assert!(program.heard(PATIENCE, |line| line.ends_with("1 sent")), "{}", program.stdout());
        program.end_input();
        let asked = Instant::now();
        for name in signals {
            program.signal(name);
            program.heard(PATIENCE, |line| line.contains("interrupted: 1 message not settled"));
        }
        let ended = program.finish(PATIENCE);
        gateway.signal("CONT");
        assert!(asked.elapsed() < CLOSE_TIMEOUT / 3, "{:?}: {ended:#?}", asked.elapsed());
        assert_eq!(ended.code, Some(130), "{ended:#?}");
        assert_said(&ended, "0 messages committed, 1 not");
    }
}

#[test]
fn an_output_that_takes_nothing_keeps_no_signal_from_being_heard() {
    let (_gateway, address) = Program::serve(&["--sink", "discard"]);
    let session = &["--id", "stuck"][..];
    let cases = [("TERM", session, ""), ("INT", &["--raw", "--every", "0s"], ""), ("TERM", session, "2>&1")];
    for (signal, flags, errors) in cases {
        let mut program = {
            let mut command = Command::new("sh");
            // What it writes goes into a pipe that is full already, and that nobody reads.
            let fill = "exec 3>&1; dd if=/dev/zero bs=64k count=1 2>/dev/null >&3";
            command.args(["-c", &format!("{fill}; exec \"$0\" \"$@\" {errors}")]);
            command.args([env!("CARGO_BIN_EXE_pulsegate"), "connect", &address.to_string()]).args(flags);
            Program::start_unread(command)
        };
        wait_until("it is stuck in a write", || is_stuck(program.id()));
        program.signal(signal);
        assert_eq!(program.wait(), Some(130), "{signal}: {}", program.stderr());
        let is_told =
            program.stderr().contains("still running 2 s later: perhaps standard output takes nothing");
        assert_eq!(is_told, errors.is_empty(), "{}", program.stderr());
    }
}

/// Whether the process is `pulsegate` already, and its first thread waits for room in a pipe.
fn is_stuck(process: u32) -> bool {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default();
    read("comm").trim() == "pulsegate" && read("wchan").contains("pipe")
}
