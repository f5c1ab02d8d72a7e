//! Killed at random moments, twenty times: everything that was acknowledged is there, once, without gaps.

use crate::child::{Task, payload};
use crate::driver::stored;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn what_was_acknowledged_survives_twenty_kills() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut unfinished = 0;
    for round in 0..20 {
        // Half of the sessions go on, the rest are new.
        let resume: Vec<_> =
            acknowledged.iter().rev().take(3).map(|(session, known)| (*session, *known)).collect();
        let task = Task {
            directory: directory.path(),
            synced: round % 2 == 0,
            sessions: 3,
            resume: &resume,
            count: u64::MAX >> 8,
            window: 64,
            beside: false,
        };
        let mut child = task.give(Command::new("env")).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let reading = std::thread::spawn(move || out.lines().map_while(Result::ok).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(fastrand::u64(30..250)));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reading.join().unwrap() {
            let words: Vec<_> = line.split(' ').collect();
            if let ["attached" | "committed", session, known] = words[..] {
                let (session, known): (u64, u64) = (session.parse().unwrap(), known.parse().unwrap());
                let before = acknowledged.insert(session, known).unwrap_or(0);
                assert!(known >= before, "a cursor never goes back: {line}");
            }
        }
        unfinished += usize::from(check(directory.path(), &acknowledged));
    }
    assert!(acknowledged.values().sum::<u64>() > 1000, "it got somewhere: {acknowledged:?}");
    println!("{unfinished} of 20 kills came between a commit and its receipts");
}

/// Whether something was committed that was not acknowledged.
fn check(directory: &std::path::Path, acknowledged: &BTreeMap<u64, u64>) -> bool {
    let mut last = BTreeMap::new();
    for message in stored(directory) {
        let last = last.entry(message.session).or_insert(0);
        assert_eq!(message.number, *last + 1, "session {}: once each, without gaps", message.session);
        assert_eq!(message.payload, payload(message.session, message.number));
        *last = message.number;
    }
    let mut more = false;
    for (session, known) in acknowledged {
        let committed = last.get(session).copied().unwrap_or(0);
        assert!(committed >= *known, "session {session}: {known} acknowledged, {committed} there");
        more |= committed > *known;
    }
    more
}
