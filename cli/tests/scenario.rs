//! The scenario that pulsegate was made for, ten times faster: ten messages, a silence, the same again, against a
//! long and a short lifetime. With the program's own client, and with one written here.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::program::{Program, pulsegate};
use common::{connect, hear_text, millis, wait_until};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const PACE: Duration = millis(200);
const PAUSE: &str = "2400ms";

/// Plays the scenario with the program's own client; returns its exit code and what it said.
fn play(address: SocketAddr, pause: &str) -> (Option<i32>, String) {
    let address = address.to_string();
    let plan = ["--raw", "--count", "10", "--every", "200ms", "--pause", pause, "--repeat", "2"];
    let mut client = Program::start(pulsegate(&[&["connect", address.as_str()], plan.as_slice()].concat()));
    let code = client.wait();
    (code, client.stdout())
}

/// Sends up to ten messages at the pace, and watches for the end meanwhile; returns how many were sent, and when the last
/// one was about to be.
fn send_ten(client: &mut std::net::TcpStream) -> (usize, Instant) {
    let mut before = Instant::now();
    for number in 1..=10 {
        before = Instant::now();
        if client.write_all(format!("message {number}\n").as_bytes()).is_err() {
            return (number - 1, before);
        }
        client.set_read_timeout(Some(PACE)).unwrap();
        if number < 10 && client.read(&mut [0; 8]).is_ok() {
            return (number, before);
        }
    }
    client.set_read_timeout(Some(common::PATIENCE)).unwrap();
    (10, before)
}

/// The age of each connection that has ended, in seconds; a busy machine makes them higher.
fn ages(printed: &str) -> impl Iterator<Item = f64> {
    let afters = printed.lines().filter_map(|line| line.split_once(", after "));
    afters.map(|(_, rest)| {
        rest.split_once(" s ").and_then(|(age, _)| age.parse().ok()).expect("an age in seconds")
    })
}

#[test]
fn a_long_connection_ends_in_the_silence_and_both_sides_say_so() {
    let (mut program, address) = Program::serve(&["--long", "800ms", "--framing", "lines"]);
    // On a busy machine the gateway itself may not run for much of a short silence, which doesn't count then.
    let (code, said) = play(address, "20s");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("sent #10 \"message 10\""), "{said}");
    assert!(said.contains("silent for 20s"), "{said}");
    assert!(
        said.contains("the server closed the connection") && said.contains("10 of 20 messages sent"),
        "{said}"
    );
    program.signal("TERM");
    assert_eq!(program.wait(), Some(0));
    let printed = program.stdout();
    for number in 1..=10 {
        assert_eq!(printed.matches(&format!("-1  message {number}\n")).count(), 1, "{printed}");
    }
    assert!(
        printed.contains("-1  ended: heartbeat timeout") && printed.contains(" and 10 messages"),
        "{printed}"
    );
    // From accept, which may be later than the first message.
    assert!(ages(&printed).all(|age| age >= 0.8), "{printed}");
    assert!(program.stderr().contains("heartbeat timeout 1"), "{}", program.stderr());
}

#[test]
fn a_client_of_ones_own_sees_the_end_in_its_silence() {
    let timeout = millis(800);
    let (program, address) = Program::serve(&["--long", "800ms", "--framing", "lines", "--print", "json"]);
    let mut client = connect(address);
    let (sent, last) = send_ten(&mut client);
    assert_eq!(sent, 10);
    assert_eq!(hear_text(&mut client), "");
    assert!(last.elapsed() >= timeout, "{:?}", last.elapsed());
    wait_until("the end is printed", || program.stdout().contains("\"ended\""));
    let events: Vec<serde_json::Value> =
        program.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let texts: Vec<_> = events.iter().filter(|event| event["event"] == "message").collect();
    assert_eq!(texts.len(), 10);
    for (index, event) in texts.iter().enumerate() {
        assert_eq!(event["connection"], texts[0]["connection"]);
        assert_eq!(event["text"], format!("message {}", index + 1));
        assert_eq!(event["message"], index + 1);
        assert_eq!(event["peer"], client.local_addr().unwrap().to_string());
    }
    let ended = events.last().unwrap();
    assert_eq!((&ended["reason"], &ended["who"]), (&"heartbeat timeout".into(), &"gateway".into()));
    assert_eq!((&ended["messages"], &ended["timer"]), (&10.into(), &"heartbeat".into()));
    // From accept, which may be later than the first message.
    assert!(ended["age_ms"].as_u64().unwrap() >= 800, "{ended}");
}

#[test]
fn a_short_connection_ends_amid_the_messages() {
    let (program, address) = Program::serve(&["--short", "1s", "--framing", "lines"]);
    let (code, said) = play(address, PAUSE);
    assert_eq!(code, Some(3), "{said}");
    assert!(!said.contains("sent #10") && said.contains("of 20 messages sent"), "{said}");
    let mut client = connect(address);
    let (sent, _) = send_ten(&mut client);
    assert!((1..10).contains(&sent), "{sent}");
    wait_until("both ends are printed", || program.stdout().matches("ended: short deadline").count() == 2);
    let printed = program.stdout();
    let peer = client.local_addr().unwrap();
    let its = |line: &&str| line.contains(&format!("  {peer}  ")) && line.contains("  message ");
    assert!(printed.lines().filter(its).count() <= sent, "{printed}");
    assert_eq!(ages(&printed).count(), 2, "{printed}");
    assert!(ages(&printed).all(|age| age >= 1.0), "{printed}");
}

#[test]
fn a_client_that_beats_stays_through_the_whole_scenario() {
    let (program, address) = Program::serve(&["--long", "5s", "--framing", "lines"]);
    let (code, said) = play(address, PAUSE);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("all 20 messages sent, closed by us"), "{said}");
    wait_until("the end is printed", || program.stdout().contains("ended: peer closed"));
    assert_eq!(program.stdout().matches("-1  message ").count(), 20);
}
