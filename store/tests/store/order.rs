//! The sync comes before the receipt: read off the system calls of a child under strace. Skipped, and said so,
//! where strace is missing or may not trace.

use crate::child::{Task, payload};
use crate::driver::{Driver, stored};
use std::path::Path;
use std::process::Command;

/// The messages to clients: session, number, payload.
fn outgoing(directory: &Path) -> Vec<(u64, u64, Vec<u8>)> {
    let file = rusqlite::Connection::open(directory.join("pulsegate.db")).unwrap();
    let mut select =
        file.prepare("SELECT session, number, payload FROM outgoing ORDER BY session, number").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Whether strace is there and may trace.
fn can_trace() -> bool {
    let traces = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).status();
    let can = traces.is_ok_and(|status| status.success());
    if !can {
        println!("SKIPPED: strace is missing (apt-get install strace) or may not trace here");
    }
    can
}

fn strace(task: &Task<'_>, arguments: &[&str]) -> String {
    let mut command = Command::new("strace");
    command.arg("-f").args(arguments);
    let output = task.give(command).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("done"), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Announcements in a trace: all of them, how many commits came while the log had writes that were not synced, and
/// how many attached connections did.
fn announcements(trace: &str) -> (usize, usize, usize) {
    // One thread writes, syncs and announces, so that its calls stand in their true order.
    let (mut dirty, mut syncing, mut all, mut early, mut early_attached) = (false, false, 0, 0, 0);
    for line in trace.lines() {
        let is_sync = line.contains("fsync(") || line.contains("fdatasync(");
        let resumed_sync = line.contains("fsync resumed>") || line.contains("fdatasync resumed>");
        if line.contains("pwrite64(") && line.contains("pulsegate.db-wal>") {
            dirty = true;
        } else if is_sync && line.contains("pulsegate.db-wal>") {
            syncing = line.contains("<unfinished");
            dirty &= !line.ends_with("= 0");
        } else if resumed_sync && syncing {
            syncing = false;
            dirty &= !line.ends_with("= 0");
        } else if line.contains("write(1<") && line.contains("\"committed ") {
            all += 1;
            early += usize::from(dirty);
        } else if line.contains("write(1<") && line.contains("\"attached ") {
            all += 1;
            early_attached += usize::from(dirty);
        }
    }
    (all, early, early_attached)
}

fn trace(directory: &Path, synced: bool) -> (usize, usize, usize) {
    let task = Task {
        directory: &directory.join("store"),
        synced,
        sessions: 2,
        resume: &[],
        count: 60,
        window: 3,
        beside: false,
    };
    let file = directory.join(format!("trace-{synced}"));
    strace(&task, &["-y", "-e", "trace=fsync,fdatasync,write,pwrite64", "-o", file.to_str().unwrap()]);
    announcements(&std::fs::read_to_string(file).unwrap())
}

#[test]
fn the_log_is_synced_before_a_receipt_leaves() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (all, early, early_attached) = trace(directory.path(), true);
    assert!(all >= 20, "only {all} batches were announced");
    assert_eq!((early, early_attached), (0, 0), "of {all}");
    let directory = tempfile::tempdir().unwrap();
    let (all, early, early_attached) = trace(directory.path(), false);
    assert!(early >= 20 && early <= all, "without syncing the test can tell: {early} of {all}");
    assert_eq!(early_attached, 0, "tokens are synced all the same");
}

#[test]
fn a_sync_that_fails_acknowledges_nothing_and_the_store_goes_on_by_itself() {
    if !can_trace() {
        return;
    }
    // Counted by thread: the committer's. Several, so that attempts to go on fail as well.
    let faults = [
        "fsync,fdatasync:error=EIO:when=9",
        "fsync,fdatasync:error=EIO:when=12..16",
        "pwrite64:error=ENOSPC:when=60..70",
        "pwrite64:error=EIO:when=61",
    ];
    for fault in faults {
        let directory = tempfile::tempdir().unwrap();
        drop(Driver::open(&directory.path().join("store")));
        let task = Task {
            directory: &directory.path().join("store"),
            synced: true,
            sessions: 1,
            resume: &[],
            count: 40,
            window: 2,
            beside: true,
        };
        let inject = format!("inject={fault}");
        let output =
            strace(&task, &["-o", "/dev/null", "-e", "trace=fsync,fdatasync,pwrite64", "-e", &inject]);
        let lines: Vec<_> = output.lines().collect();
        let place = |start: &str| {
            lines
                .iter()
                .position(|line| line.starts_with(start))
                .unwrap_or_else(|| panic!("{start}: {output}"))
        };
        let (stopped, goes_on) = (place("stopped"), place("goes_on"));
        assert_eq!(goes_on, stopped + 1, "nothing is acknowledged meanwhile: {output}");
        assert_eq!(output.matches("stopped").count(), 1, "said once: {output}");
        let (messages, raw): (Vec<_>, Vec<_>) =
            stored(task.directory).into_iter().partition(|message| message.session != 0);
        let session = messages[0].session;
        for messages in [messages, raw] {
            assert!(messages.iter().map(|message| message.number).eq(1..=40), "{fault}: {messages:?}");
            assert!(messages.iter().all(|message| message.payload == payload(session, message.number)));
        }
        // Nobody numbers these but the store: one that is stored twice has two numbers.
        let outgoing = outgoing(task.directory);
        let wanted = (1..=40).map(|number| (session, number, payload(session, number)));
        assert!(wanted.eq(outgoing.iter().cloned()), "{fault}: {outgoing:?}");
    }
}

#[test]
fn after_a_failed_sync_the_log_is_written_again_before_it_is_believed() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    drop(Driver::open(&store));
    let task = Task {
        directory: &store,
        synced: true,
        sessions: 1,
        resume: &[],
        count: 40,
        window: 2,
        beside: false,
    };
    let file = directory.path().join("trace");
    let calls = "trace=fsync,fdatasync,pwrite64";
    let inject = "inject=fsync,fdatasync:error=EIO:when=9";
    strace(&task, &["-y", "-e", calls, "-e", inject, "-o", file.to_str().unwrap()]);
    let trace = std::fs::read_to_string(file).unwrap();
    let (_, after) = trace.split_once("(INJECTED)").unwrap();
    let of_log: Vec<_> = after.lines().filter(|line| line.contains("pulsegate.db-wal>")).collect();
    let synced = of_log.iter().position(|line| line.contains("sync(") && line.ends_with("= 0")).unwrap();
    let whole = |line: &&str| {
        let written = line.split_once(", 0) = ").map_or(0, |(_, bytes)| bytes.parse().unwrap_or(0));
        line.contains("pwrite64(") && written > 4096
    };
    assert!(of_log[..synced].iter().any(whole), "{:?}", &of_log[..=synced]);
}
