//! `pulsegate messages` as people run it: what it shows of a store, how it follows one, how it ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::program::{Program, pulsegate};
use common::{PATIENCE, wait_until};
use pulsegate_store::{
    Attach, Moment, Quota, Reader, Reply, Request, Seat, SecondConnection, Store, StoreConfig,
};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// 2027-01-15T08:00:00Z.
const START: Moment = Moment { wall_ms: 1_800_000_000_000, uptime_ms: 0 };

/// A store with one session, number 1, of the client "meter 7".
struct Filled {
    store: Store,
    replies: Receiver<Vec<Reply>>,
    last: u64,
}

impl Filled {
    fn open(directory: &Path) -> Self {
        Self::open_with(directory, StoreConfig::default())
    }

    fn open_with(directory: &Path, config: StoreConfig) -> Self {
        let (sender, replies) = channel();
        let store = Store::open(directory, config, START, move |batch| {
            let _ = sender.send(batch);
        })
        .unwrap();
        let attach = Attach {
            ticket: 1,
            client: "meter 7".to_owned(),
            source: 0,
            resume: None,
            token: [1; 16],
            second: SecondConnection::Allow,
            message_bytes_max: 1024,
            told_bytes_max: 1024,
            now: START,
            time_to_live: Duration::from_secs(60),
        };
        store.submit(Request::Attach(Box::new(attach))).unwrap();
        let filled = Self { store, replies, last: 0 };
        filled.wait(|reply| matches!(reply, Reply::Attached(_)));
        filled
    }

    fn wait(&self, is_it: impl Fn(&Reply) -> bool) {
        while !self.replies.recv_timeout(PATIENCE).unwrap().iter().any(&is_it) {}
    }

    /// Commits the messages, each a second after the one before.
    fn commit<'p>(&mut self, payloads: impl IntoIterator<Item = &'p [u8]>) {
        let mut requests = Vec::new();
        for payload in payloads {
            self.last += 1;
            requests.push(Request::Message {
                seat: Seat::new(1, 1, 1),
                number: self.last,
                received_at_ms: START.wall_ms + 1000 * self.last,
                payload: payload.into(),
            });
        }
        self.store.submit_all(&mut requests).unwrap();
        let last = self.last;
        self.wait(|reply| matches!(reply, Reply::Committed { committed, .. } if *committed == last));
    }

    fn append(&mut self, client: &str, payload: &[u8]) {
        let (client, payload) = (client.into(), payload.into());
        let request =
            Request::Append { client, source: 0, number: 5, received_at_ms: START.wall_ms, payload };
        self.store.submit(request).unwrap();
        // Nothing answers it: what comes after it does.
        self.commit([b"after it".as_slice()]);
    }
}

fn place(parent: &tempfile::TempDir) -> PathBuf {
    parent.path().join("data")
}

/// Runs it to its end: exit code, stdout, stderr.
fn run(directory: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut program = Program::start(pulsegate(&arguments(directory, args)));
    let code = program.wait();
    (code, program.stdout(), program.stderr())
}

fn arguments<'a>(directory: &'a Path, args: &[&'a str]) -> Vec<&'a str> {
    [&["messages", "--data-dir", directory.to_str().unwrap()], args].concat()
}

#[test]
fn a_line_has_id_time_client_number_and_harmless_text() {
    let parent = tempfile::tempdir().unwrap();
    let mut store = Filled::open(&place(&parent));
    store.commit([b"hello\r\n".as_slice(), b"\x1b[2J\xffgr\xc3\xbc\xc3\x9fe"]);
    store.append("\u{9b}evil", b"raw\nlines\n");
    let wanted = "1  2027-01-15T08:00:01.000Z  meter 7  1/1  hello\n\
                  2  2027-01-15T08:00:02.000Z  meter 7  1/2  \\u{1b}[2J\\xffgrüße\n\
                  3  2027-01-15T08:00:00.000Z  \\u{9b}evil  0/5  raw\\nlines\n\
                  4  2027-01-15T08:00:03.000Z  meter 7  1/3  after it\n";
    let wanted = (Some(0), wanted.to_owned(), String::new());
    assert_eq!(run(&place(&parent), &[]), wanted, "while it is written to");
    drop(store);
    assert_eq!(run(&place(&parent), &[]), wanted, "and when it is not");
}

#[test]
fn json_has_an_object_in_each_line_and_keeps_bytes_that_are_not_text() {
    let parent = tempfile::tempdir().unwrap();
    Filled::open(&place(&parent)).commit([b"hello\n".as_slice(), b"\xff\x00"]);
    let (code, out, err) = run(&place(&parent), &["--json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let object = |id: u64, received_at: &str, key: &str, payload: &str| {
        serde_json::json!({
            "id": id, "session": 1, "client": "meter 7", "number": id, "received_at": received_at,
            "received_at_ms": START.wall_ms + 1000 * id, key: payload,
        })
    };
    let wanted = [
        object(1, "2027-01-15T08:00:01.000Z", "text", "hello\n"),
        object(2, "2027-01-15T08:00:02.000Z", "hex", "ff00"),
    ];
    assert_eq!(lines, wanted);
}

#[test]
fn some_of_them_are_shown() {
    let parent = tempfile::tempdir().unwrap();
    Filled::open(&place(&parent)).commit([b"x".as_slice(); 20]);
    let ids = |args: &[&str]| {
        let (code, out, err) = run(&place(&parent), args);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        let id = |line: &str| line.split(' ').next().unwrap().parse::<u64>().unwrap();
        out.lines().map(id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&["--after", "17"]), [18, 19, 20]);
    assert_eq!(ids(&["--limit", "2"]), [1, 2]);
    assert_eq!(ids(&["--after", "9", "--limit", "1"]), [10]);
    assert_eq!(ids(&["--after", "19", "--limit", "1", "--follow"]), [20]);
    assert_eq!((ids(&["--after", "20"]), ids(&["--after", "18446744073709551615"])), (vec![], vec![]));
}

#[test]
fn messages_that_are_gone_are_named() {
    let parent = tempfile::tempdir().unwrap();
    let quota = Quota { bytes: 1 << 30, every: Duration::from_secs(1) };
    let config = StoreConfig { retention_age: Duration::from_secs(10), quota, ..StoreConfig::default() };
    let mut store = Filled::open_with(&place(&parent), config);
    store.commit([b"x".as_slice(); 3]);
    store.store.tick(Moment { uptime_ms: 1_000, ..START });
    store.commit([b"x".as_slice(); 2]);
    store.store.tick(Moment { uptime_ms: 12_000, ..START });
    store.commit([b"last".as_slice()]);
    // Those that were committed with a tick are as old as those before it.
    let gone = Reader::open(&place(&parent)).unwrap().deleted_to().unwrap();
    let left = usize::try_from(6 - gone).unwrap();
    assert!((1..=3).contains(&left), "{gone}");
    let last = "6  2027-01-15T08:00:06.000Z  meter 7  1/6  last\n";
    let (_, out, err) = run(&place(&parent), &[]);
    assert!(out.ends_with(last) && out.lines().count() == left && err.is_empty(), "{out}{err}");
    let (code, out, err) = run(&place(&parent), &["--after", "1"]);
    assert!(code == Some(0) && out.lines().count() == left, "{out}");
    assert!(err.starts_with(&format!("pulsegate: messages 2 to {gone} are gone: ")), "{err}");
    let (_, out, err) = run(&place(&parent), &["--after", &gone.to_string()]);
    assert!(out.lines().count() == left && err.is_empty(), "{err}");
    store.store.tick(Moment { uptime_ms: 60_000, ..START });
    drop(store);
    let (code, out, err) = run(&place(&parent), &["--after", "1"]);
    assert_eq!((code, out.as_str()), (Some(0), ""));
    assert!(err.starts_with("pulsegate: messages 2 to 6 are gone: "), "{err}");
}

#[test]
fn it_follows_until_it_is_told_to_end() {
    for signal in ["INT", "TERM"] {
        let parent = tempfile::tempdir().unwrap();
        let mut store = Filled::open(&place(&parent));
        store.commit([b"one".as_slice()]);
        let mut program = Program::start(pulsegate(&arguments(&place(&parent), &["--follow"])));
        wait_until("what was there is shown", || program.stdout().contains("1/1  one\n"));
        for text in ["two", "three"] {
            store.commit([text.as_bytes()]);
            wait_until("what comes is shown", || program.stdout().contains(text));
        }
        assert!(program.is_running());
        program.signal(signal);
        assert_eq!((program.wait(), program.stderr().as_str()), (Some(0), ""));
        assert_eq!(program.stdout().lines().count(), 3);
    }
}

#[test]
fn it_follows_a_store_that_takes_the_old_ones_place() {
    let parent = tempfile::tempdir().unwrap();
    let mut store = Filled::open(&place(&parent));
    store.commit([b"old".as_slice(); 3]);
    let mut program = Program::start(pulsegate(&arguments(&place(&parent), &["--follow"])));
    wait_until("the old one is shown", || program.stdout().lines().count() == 3);
    drop(store);
    std::fs::rename(place(&parent), parent.path().join("aside")).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(program.is_running(), "{}", program.stderr());
    let mut store = Filled::open(&place(&parent));
    store.commit([b"new".as_slice()]);
    wait_until("the new one is shown", || program.stdout().ends_with("1/1  new\n"));
    wait_until("that it is another one is said", || program.stderr().contains("another store"));
    program.signal("TERM");
    assert_eq!((program.wait(), program.stdout().lines().count()), (Some(0), 4));
}

#[test]
fn a_closed_output_ends_it_though_nothing_comes() {
    let parent = tempfile::tempdir().unwrap();
    let mut store = Filled::open(&place(&parent));
    store.commit([b"one".as_slice()]);
    let mut command = pulsegate(&arguments(&place(&parent), &["--follow"]));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.ends_with("1/1  one\n"), "{line}");
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[test]
fn an_output_that_takes_nothing_keeps_no_signal_from_being_heard() {
    let parent = tempfile::tempdir().unwrap();
    let mut store = Filled::open(&place(&parent));
    store.commit([[b'x'; 1000].as_slice(); 500]);
    let mut program = Program::start_unread(pulsegate(&arguments(&place(&parent), &["--follow"])));
    // It has filled the pipe as soon as it waits in a write; a signal that comes earlier has to end it too.
    std::thread::sleep(Duration::from_millis(300));
    assert!(program.is_running());
    program.signal("TERM");
    assert_eq!((program.wait(), program.stderr().as_str()), (Some(0), ""));
}

#[test]
fn what_can_not_be_shown_is_said_with_its_mend() {
    let parent = tempfile::tempdir().unwrap();
    let (code, out, err) = run(&place(&parent), &[]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("there is no store in ") && err.contains("--data-dir"), "{err}");
    std::fs::create_dir(place(&parent)).unwrap();
    std::fs::write(place(&parent).join("pulsegate.db"), "no database, but some text".repeat(100)).unwrap();
    let (code, _, err) = run(&place(&parent), &["--follow"]);
    assert!(code == Some(1) && err.contains("can't read the store"), "{err}");
    assert!(err.contains("the file is damaged: stop the gateway, and restore a backup"), "{err}");
    assert_eq!(run(&place(&parent), &["--limit", "0"]).0, Some(2));
    let mut program = Program::start(pulsegate(&["messages"]));
    assert!(program.wait() == Some(2) && program.stderr().contains("--data-dir"), "{}", program.stderr());
}
