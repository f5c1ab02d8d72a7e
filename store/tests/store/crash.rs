//! Killed at random moments, twenty times: everything that was acknowledged is there, once, without gaps. How far each
//! gets is counted in what it says, so that a busy machine changes nothing; some are killed while they still open the store.

use crate::child::{Task, payload};
use crate::driver::stored;
use pulsegate_store::Reader;
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
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // One in four may not have opened the store yet, and the first not have made it.
        let least = if round % 4 == 0 { 0 } else { fastrand::usize(10..100) };
        let mut lines: Vec<_> = said.by_ref().take(least).collect();
        assert_eq!(lines.len(), least, "the child goes on");
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..if least == 0 { 100_000 } else { 5_000 })));
        child.kill().unwrap();
        lines.extend(said);
        child.wait().unwrap();
        for line in lines {
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
    let messages = match Reader::open(directory) {
        // It has not been made yet, or only in part.
        Err(_) if acknowledged.is_empty() => Vec::new(),
        Ok(_) | Err(_) => stored(directory),
    };
    for message in messages {
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
