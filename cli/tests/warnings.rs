//! Warnings that clients can cause at will are joined in the log, so that they don't fill a disk.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::program::Program;
use common::pulse::{PulseClient, Seen, WINDOW, hello};
use common::wait_until;
use pulsegate_core::exchange::{Receiving, Sending};
use pulsegate_core::frame::{Frame, Hello};

/// How many lines of the log say this, and how many messages they count.
fn warned(program: &Program, what: &str) -> (usize, u64) {
    let log = program.stderr();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(what)).collect();
    let count = |line: &&str| line.split_once("messages=")?.1.split(' ').next()?.parse::<u64>().ok();
    (lines.len(), lines.iter().filter_map(count).sum())
}

#[test]
fn lost_messages_that_clients_claim_are_joined_to_a_warning_a_minute() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().to_str().unwrap();
    let (mut program, address) = Program::serve(&["--sink", "store", "--data-dir", data_dir]);
    let (mut first, welcomed) = PulseClient::attached(address, "a");
    first.send(b"this one is there");
    first.settled(1);
    let (session, mut token) = (welcomed.session, welcomed.token);
    for acknowledged in 2..=21 {
        let claim = Hello { session, token, acknowledged, ..hello("a") };
        let (sending, receiving) =
            (Sending::restore(acknowledged, acknowledged, [], WINDOW), Receiving::default());
        let welcomed = PulseClient::connect_with(address, &claim, sending, receiving).welcomed();
        assert!(welcomed.resumed && welcomed.committed == acknowledged, "{welcomed:?}");
        token = welcomed.token;
    }
    program.signal("TERM");
    assert_eq!(program.wait(), Some(0), "{}", program.stderr());
    // The first at once, and the others together at the end.
    let (lines, messages) = warned(&program, "not in the store");
    assert!((2..10).contains(&lines) && messages == 20, "{}", program.stderr());
}

#[test]
fn messages_that_clients_do_not_accept_are_joined_to_a_warning_a_minute() {
    let (mut program, address) = Program::serve(&["--sink", "echo"]);
    let (mut client, _) = PulseClient::attached(address, "a");
    client.commits = false;
    client.send(b"not wanted");
    client.wait_for(|seen| matches!(seen, Seen::Message(1, _)));
    let mut refusal = Vec::new();
    Frame::Refuse { number: 1, code: 3, text: "" }.encode(&mut refusal);
    (0..20).for_each(|_| client.send_raw(&refusal));
    wait_until("the first is said", || warned(&program, "not accepted").0 == 1);
    client.leave(0);
    program.signal("TERM");
    assert_eq!(program.wait(), Some(0), "{}", program.stderr());
    let (lines, messages) = warned(&program, "not accepted");
    assert!(lines < 10 && messages == 20, "{}", program.stderr());
}
