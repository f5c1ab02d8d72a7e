//! Disks that are full for real: a small tmpfs, a limit on the size of files.

use crate::child::{Task, payload};
use crate::driver::{Driver, committed, detach, message, push, returner, stored};
use pulsegate_store::{
    Attach, Reader, Recipient, Reply, Request, SecondConnection, Store, StoreConfig, SubmitError,
};
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A file system of a few megabytes, as long as it lives.
pub(crate) struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    pub(crate) fn mount(place: &'a Path, megabytes: u64) -> Option<Self> {
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "small"]).arg(place).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(place));
        }
        println!("SKIPPED: a tmpfs can't be mounted here (it takes root)");
        None
    }

    /// Leaves no room.
    pub(crate) fn fill(&self) {
        self.take(u64::MAX);
    }

    /// Takes up to so many bytes away.
    pub(crate) fn take(&self, bytes: u64) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        for _ in 0..bytes / 4096 {
            if file.write_all(&[0; 4096]).is_err() {
                return;
            }
        }
    }

    pub(crate) fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// Submits messages until the store says that it has stopped; returns the last number committed and submitted.
pub(crate) fn until_stopped(driver: &mut Driver, session: u64, from: u64) -> (u64, u64) {
    let (mut last, mut number) = (from - 1, from - 1);
    loop {
        number += 1;
        driver.store.submit(message(session, 1, number, &payload(session, number))).unwrap();
        match driver.reply() {
            Reply::Committed { committed, .. } => last = committed,
            Reply::Stopped { why } => {
                assert!(why.contains("full"), "{why}");
                return (last, number);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_full_disk_stops_receipts_and_they_go_on_when_there_is_room() {
    let place = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(place.path(), 3) else { return };
    let directory = place.path().join("store");
    let config = StoreConfig {
        queue_bytes_max: 64 * 1024,
        message_bytes_max: 1024,
        wal_bytes: 256 * 1024,
        ..StoreConfig::default()
    };
    let mut driver = Driver::open_with(&directory, config.clone());
    let session = driver.begin("a", 1).session();
    let mut next = 1;
    for _ in 0..3 {
        small.fill();
        let (last, mut number) = until_stopped(&mut driver, session, next);
        assert!(number == last + 1 && driver.store.figures().stopped);
        // What is submitted meanwhile is kept, as long as there is room for it.
        loop {
            match driver.store.submit(message(session, 1, number + 1, &payload(session, number + 1))) {
                Ok(()) => number += 1,
                Err(error) => break assert_eq!(error, SubmitError::Busy),
            }
        }
        assert!(number > last + 50 && driver.store.figures().queue_bytes <= 64 * 1024);
        assert!(stored(&directory).iter().map(|message| message.number).eq(1..=last));
        small.empty();
        // No attempt is made but by a tick, so that nothing can have been said meanwhile.
        driver.now.uptime_ms += 10_000;
        driver.tick();
        let (mut ready, mut goes_on) = (0, 0);
        loop {
            match driver.reply() {
                Reply::Committed { committed, .. } if committed == number => break,
                Reply::Committed { .. } => {}
                Reply::GoesOn => goes_on += 1,
                Reply::Ready => ready += 1,
                other => panic!("{other:?}"),
            }
        }
        ready += driver.ask([]).iter().filter(|reply| **reply == Reply::Ready).count();
        assert_eq!((ready, goes_on), (1, 1));
        next = number + 1;
    }
    drop(driver);
    // A store that can't write any more ends all the same, and nothing that it said is lost.
    let mut driver = Driver::open_with(&directory, config);
    driver.attach(returner("a", session, 1, 2, driver.now)).unwrap();
    small.fill();
    for number in next..next + 100 {
        driver.store.submit(message(session, 2, number, &payload(session, number))).unwrap();
    }
    drop(driver);
    assert!(stored(&directory).len() as u64 >= next - 1);
}

#[test]
fn who_has_a_connection_is_known_after_a_fault() {
    let place = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(place.path(), 3) else { return };
    let mut driver = Driver::open(&place.path().join("store"));
    let now = driver.now;
    let sessions = ["a", "b", "c"].map(|client| driver.begin(client, 1).session());
    let [one, two, three] = sessions;
    small.fill();
    // Each of these asks for another page of the log, until there is none.
    until_stopped(&mut driver, one, 1);
    let attach = |session, client, ticket| {
        Request::Attach(Box::new(Attach { ticket, ..returner(client, session, 1, 2, now) }))
    };
    let mut requests =
        vec![attach(one, "a", 8), detach(two, 1, false, now), attach(three, "c", 9), attach(three, "c", 10)];
    driver.store.submit_all(&mut requests).unwrap();
    small.empty();
    driver.now.uptime_ms += 10_000;
    driver.tick();
    let replies = driver.ask(sessions.map(|session| push(1, Recipient::Session(session), b"x")));
    let replaced: Vec<_> = replies
        .iter()
        .filter_map(|reply| match reply {
            Reply::Attached(attached) => Some((attached.session(), attached.replaced)),
            _ => None,
        })
        .collect();
    assert_eq!(replaced, [(one, Some(7)), (three, Some(7)), (three, Some(9))]);
    let connections: Vec<_> = replies
        .iter()
        .filter_map(|reply| match reply {
            Reply::Pushed { connection, .. } => Some(*connection),
            _ => None,
        })
        .collect();
    assert_eq!(connections, [Some(8), None, Some(10)]);
    assert_eq!(driver.store.figures().attached, 2);
}

#[test]
fn a_file_that_has_lost_commits_decides_who_has_a_connection() {
    let place = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(place.path(), 3) else { return };
    let directory = place.path().join("store");
    let mut driver = Driver::open(&directory);
    let now = driver.now;
    let [one, two, three] = ["a", "b", "c"].map(|client| driver.begin(client, 1).session());
    driver.ask([detach(two, 1, false, now)]);
    small.fill();
    until_stopped(&mut driver, one, 1);
    small.empty();
    let file = rusqlite::Connection::open(directory.join("pulsegate.db")).unwrap();
    file.execute("UPDATE sessions SET expires_ms = NULL WHERE id = ?1", [two]).unwrap();
    file.execute("UPDATE sessions SET expires_ms = 1000000 WHERE id = ?1", [three]).unwrap();
    drop(file);
    driver.now.uptime_ms += 10_000;
    driver.tick();
    driver.ask([]);
    assert_eq!(driver.store.figures().attached, 1);
    let replies = driver.ask([one, two, three].map(|session| push(1, Recipient::Session(session), b"x")));
    let connections = replies.iter().map(|reply| match reply {
        Reply::Pushed { connection, .. } => *connection,
        other => panic!("{other:?}"),
    });
    assert!(connections.eq([Some(7), None, None]), "{replies:?}");
    for (session, client) in [(two, "b"), (three, "c")] {
        let attach = Attach { second: SecondConnection::Refuse, ..returner(client, session, 1, 2, now) };
        assert_eq!(driver.attach(attach).map(|attached| attached.replaced), Ok(None));
    }
}

#[test]
fn a_limit_on_the_size_of_files_is_survived_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let task = Task {
        directory: &directory.path().join("store"),
        synced: true,
        sessions: 2,
        resume: &[],
        count: 2000,
        window: 16,
        beside: false,
    };
    let mut shell = Command::new("sh");
    // In 512-byte units: 256 KiB, in which the database finds no room for all of it.
    shell.args(["-c", "trap '' XFSZ; ulimit -S -f 512; exec \"$@\"", "sh"]);
    let output = task.give(shell).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let [stopped, goes_on, done] = ["stopped", "goes_on", "done"]
        .map(|word| text.find(word).unwrap_or_else(|| panic!("{word}: {text}")));
    assert!(stopped < goes_on && goes_on < done);
    let messages = stored(task.directory);
    for session in [1, 2] {
        let numbers =
            messages.iter().filter(|message| message.session == session).map(|message| message.number);
        assert!(numbers.eq(1..=2000));
    }
}

#[test]
fn a_damaged_cursor_is_found_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let session = driver.begin("a", 1).session();
    assert_eq!(driver.ask([message(session, 1, 1, b"x")]), [committed(session, 1, 1)]);
    drop(driver);
    let file = rusqlite::Connection::open(directory.path().join("pulsegate.db")).unwrap();
    file.execute("UPDATE sessions SET committed = 0", []).unwrap();
    drop(file);
    let Err(error) = Driver::try_open(directory.path(), StoreConfig::default()) else {
        panic!("it was opened")
    };
    assert!(error.to_string().contains("above the session's cursor"), "{error}");
}

#[test]
fn a_callback_that_panics_closes_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, replies) = std::sync::mpsc::channel();
    let store = Store::open(
        directory.path(),
        StoreConfig::default(),
        crate::driver::newcomer("", 0, pulsegate_store::Moment::default()).now,
        move |batch| {
            sender.send(batch.clone()).unwrap();
            assert!(batch.iter().all(|reply| matches!(reply, Reply::Stopped { .. })), "on purpose");
        },
    )
    .unwrap();
    store.submit(push(1, Recipient::Session(1), b"")).unwrap();
    let wait = || replies.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(matches!(wait()[..], [Reply::PushRefused { .. }]));
    assert!(matches!(wait()[..], [Reply::Stopped { .. }]));
    assert_eq!(store.submit(push(1, Recipient::Session(1), b"")), Err(SubmitError::Closed));
}

#[test]
fn a_damaged_file_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    drop(Driver::open(directory.path()));
    let file = directory.path().join("pulsegate.db");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[4096..].fill(0xaa);
    for damaged in [bytes, b"this is no database at all".repeat(100)] {
        std::fs::write(&file, damaged).unwrap();
        let error = Driver::try_open(directory.path(), StoreConfig::default()).err().unwrap().to_string();
        assert!(error.contains("damaged") && error.contains("move it away"), "{error}");
    }
}

const FORBIDDEN: &str = "PULSEGATE_STORE_FORBIDDEN";

/// As another user, if this is run as root: says why a store can't be read and opened.
#[test]
fn try_as_another_user() {
    let Some(directory) = std::env::var_os(FORBIDDEN) else { return };
    let directory = Path::new(&directory);
    println!("read: {}", Reader::open(directory).err().unwrap());
    println!("open: {}", Driver::try_open(directory, StoreConfig::default()).err().unwrap());
}

#[test]
fn what_a_user_may_not_is_said_with_the_path() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("store");
    drop(Driver::open(&directory));
    let file = directory.join("pulsegate.db");
    let mode = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    mode(parent.path(), 0o755);
    for (of_directory, of_file, path) in [(0o700, 0o644, &directory), (0o777, 0o600, &file)] {
        mode(&directory, of_directory);
        mode(&file, of_file);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["faults::try_as_another_user", "--exact", "--nocapture"])
            .env(FORBIDDEN, &directory)
            .uid(65_534)
            .output();
        let Ok(child) = child else { return println!("SKIPPED: nobody else can be here (it takes root)") };
        let said = String::from_utf8(child.stdout).unwrap();
        for word in ["read", "open"] {
            let line = said.lines().find(|line| line.contains(&format!("{word}: "))).unwrap_or_default();
            assert!(line.contains(&path.display().to_string()), "{said}");
        }
        assert!(!said.contains("there is no store") && !said.contains("unable to open"), "{said}");
    }
}
