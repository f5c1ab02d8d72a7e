//! The process that is killed, traced and starved by other tests: this executable again, told by its environment
//! what to do. It prints one line for each reply, from the committer's thread itself.

use crate::driver::{append, message, newcomer, push, returner};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pulsegate_store::{Durability, Moment, Recipient, Reply, Request, Store, StoreConfig};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const DIRECTORY: &str = "PULSEGATE_STORE_CHILD";
const SYNCED: &str = "PULSEGATE_STORE_SYNCED";
const SESSIONS: &str = "PULSEGATE_STORE_SESSIONS";
const RESUME: &str = "PULSEGATE_STORE_RESUME";
const COUNT: &str = "PULSEGATE_STORE_COUNT";
const WINDOW: &str = "PULSEGATE_STORE_WINDOW";
const BESIDE: &str = "PULSEGATE_STORE_BESIDE";

/// What a child has to do.
pub(crate) struct Task<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) synced: bool,
    /// New sessions.
    pub(crate) sessions: u64,
    /// Sessions to go on with, and what is acknowledged of each.
    pub(crate) resume: &'a [(u64, u64)],
    /// Messages of each session.
    pub(crate) count: u64,
    /// How many of a session are in flight.
    pub(crate) window: u64,
    /// Whether with each message of a session the same goes to its client, and comes without a session.
    pub(crate) beside: bool,
}

impl Task<'_> {
    /// Gives the task to a command, which runs the executable named after its own arguments.
    pub(crate) fn give(&self, mut command: Command) -> Command {
        let resume: Vec<_> =
            self.resume.iter().map(|(session, known)| format!("{session}:{known}")).collect();
        command
            .arg(std::env::current_exe().unwrap())
            .args(["child::work", "--exact", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, self.directory)
            .env(SYNCED, if self.synced { "1" } else { "0" })
            .env(SESSIONS, self.sessions.to_string())
            .env(RESUME, resume.join(","))
            .env(COUNT, self.count.to_string())
            .env(WINDOW, self.window.to_string())
            .env(BESIDE, u64::from(self.beside).to_string());
        command
    }
}

/// What is in the message with this number.
pub(crate) fn payload(session: u64, number: u64) -> Vec<u8> {
    let length = 40 + usize::try_from((session * 31 + number * 17) % 400).unwrap();
    let mut payload = format!("{session}/{number} ").into_bytes();
    payload.resize(length, b'.');
    payload
}

fn number(name: &str) -> u64 {
    std::env::var(name).unwrap().parse().unwrap()
}

#[test]
fn work() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let durability = if number(SYNCED) == 1 { Durability::Synced } else { Durability::Os };
    let config = StoreConfig { durability, wal_bytes: 512 * 1024, ..StoreConfig::default() };
    let (sender, replies) = channel();
    let store = Store::open(Path::new(&directory), config, Moment::default(), move |batch| {
        let mut lines = String::new();
        for reply in &batch {
            match reply {
                Reply::Attached(attached) => {
                    lines += &format!("attached {} {}\n", attached.session(), attached.committed);
                    assert_eq!(attached.lost, None);
                }
                Reply::Committed { seat, committed } => {
                    lines += &format!("committed {} {committed}\n", seat.session());
                }
                Reply::Pushed { attachment, number, .. } => {
                    lines += &format!("pushed {} {number}\n", attachment.session);
                }
                Reply::Stopped { why } => lines += &format!("stopped {why}\n"),
                Reply::GoesOn => lines += "goes_on\n",
                other => panic!("{other:?}"),
            }
        }
        let mut out = std::io::stdout().lock();
        out.write_all(lines.as_bytes()).unwrap();
        out.flush().unwrap();
        let _ = sender.send(batch);
    })
    .unwrap();
    exchange(&store, &replies, number(COUNT), number(WINDOW));
    drop(store);
    println!("done");
}

fn exchange(store: &Store, replies: &Receiver<Vec<Reply>>, count: u64, window: u64) {
    let mut requests: Vec<_> = (0..number(SESSIONS))
        .map(|_| Request::Attach(Box::new(newcomer("child", 1, Moment::default()))))
        .collect();
    for pair in std::env::var(RESUME).unwrap().split(',').filter(|pair| !pair.is_empty()) {
        let (session, known) = pair.split_once(':').unwrap();
        let mut attach = returner("child", session.parse().unwrap(), 1, 1, Moment::default());
        if let Some(resume) = &mut attach.resume {
            resume.acknowledged = known.parse().unwrap();
        }
        requests.push(Request::Attach(Box::new(attach)));
    }
    let mut left = requests.len();
    let mut sent = std::collections::BTreeMap::new();
    let mut now = Moment::default();
    let mut stopped = false;
    let beside = number(BESIDE) == 1;
    while left > 0 {
        store.submit_all(&mut requests).unwrap();
        let batch = match replies.recv_timeout(Duration::from_millis(100)) {
            Ok(batch) => batch,
            Err(_) if stopped => {
                // Time passes quickly here: the store doesn't know.
                now.uptime_ms += 1_000;
                store.tick(now);
                continue;
            }
            Err(_) => continue,
        };
        for reply in batch {
            match reply {
                Reply::Attached(attached) => {
                    let (session, epoch, last) = (attached.session(), attached.epoch(), attached.committed);
                    let until = last + window.min(count);
                    sent.insert(session, (epoch, until, last + count));
                    requests.extend(
                        (last + 1..=until).flat_map(|number| messages(session, epoch, number, beside)),
                    );
                }
                Reply::Committed { seat, committed } => {
                    let session = seat.session();
                    let (epoch, until, end) = sent.get_mut(&session).unwrap();
                    left -= usize::from(committed == *end);
                    while *until < (committed + window).min(*end) {
                        *until += 1;
                        requests.extend(messages(session, *epoch, *until, beside));
                    }
                }
                Reply::Stopped { .. } => {
                    stopped = true;
                    // What has been too little is enlarged: a soft limit of the size of files.
                    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
                    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
                }
                _ => {}
            }
        }
    }
}

/// A message of a session, and what goes beside it.
fn messages(session: u64, epoch: u64, number: u64, beside: bool) -> Vec<Request> {
    let payload = payload(session, number);
    let mut requests = vec![message(session, epoch, number, &payload)];
    if beside {
        requests.push(append("raw", number, &payload));
        requests.push(push(1, Recipient::Session(session), &payload));
    }
    requests
}
