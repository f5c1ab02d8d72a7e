//! A program with an outbox on disk that is killed again and again: what it said it had accepted arrives exactly
//! once and in order. `PULSEGATE_SEED=n` plays one run again.
#![cfg(feature = "outbox")]

mod common;

use common::{PATIENCE, quick, within};
use pulsegate_client::Options;
use pulsegate_client_peer::{Peer, Script};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

const KILLS: usize = 25;

/// Tells a child where to connect to, and where its outbox is.
const ADDRESS: &str = "PULSEGATE_KILL_ADDRESS";
const OUTBOX: &str = "PULSEGATE_KILL_OUTBOX";

#[path = "../examples/send_lines.rs"]
#[expect(dead_code, reason = "the child's arguments are not the example's")]
mod send_lines;

/// What the child runs: the example, with a client that comes back quickly.
#[tokio::test]
#[ignore = "it is run, and killed, by the other test"]
async fn child() {
    let (Ok(address), Some(outbox)) = (std::env::var(ADDRESS), std::env::var_os(OUTBOX)) else { return };
    let options = Options { outbox: Some(outbox.into()), ..quick() };
    send_lines::send_lines(&address, options).await.unwrap();
}

/// A running program, and how many lines it has said that it accepted.
struct Sender {
    child: Child,
    input: ChildStdin,
    printing: JoinHandle<()>,
    printed: Arc<Mutex<Vec<String>>>,
}

impl Sender {
    fn start(address: SocketAddr, outbox: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(ADDRESS, address.to_string())
            .env(OUTBOX, outbox)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("this program can be run again");
        let input = child.stdin.take().expect("it is piped");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let printed = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&printed);
        let printing = tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                all.lock().expect("no panic").push(line);
            }
        });
        Self { child, input, printing, printed }
    }

    /// The end of all output: nothing that was printed is missed.
    async fn printed(self) -> Vec<String> {
        within(self.printing).await.expect("no panic");
        std::mem::take(&mut *self.printed.lock().expect("no panic"))
    }
}

fn count(printed: &[String], word: &str) -> usize {
    printed.iter().filter(|line| line.split(' ').next() == Some(word)).count()
}

#[tokio::test]
async fn whatever_was_accepted_arrives_exactly_once() {
    let seed = std::env::var("PULSEGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("PULSEGATE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let script = Script { cut_after: Some(1..60_000), random: random.fork(), ..Script::default() };
    let peer = Peer::with(script).await;
    let directory = TempDir::new().unwrap();
    let outbox = directory.path().join("outbox.db");
    let mut fed = 0_usize;
    let mut accepted = HashSet::new();
    for _ in 0..KILLS {
        let mut sender = Sender::start(peer.address(), &outbox);
        let first = fed;
        let lines = random.usize(0..400);
        let life = random.u64(0..120);
        let feed = async {
            for _ in 0..lines {
                let line = format!("line {fed} {}\n", ".".repeat(random.usize(0..200)));
                fed += 1;
                sender.input.write_all(line.as_bytes()).await.expect("it reads");
            }
            std::future::pending::<()>().await;
        };
        // A life that is too short for its lines ends in the middle of them.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(life), feed).await;
        sender.child.start_kill().expect("it runs");
        within(sender.child.wait()).await.unwrap();
        let printed = sender.printed().await;
        accepted.extend(first..first + count(&printed, "accepted"));
    }
    let mut last = Sender::start(peer.address(), &outbox);
    last.input.write_all(b"the last line\n").await.unwrap();
    drop(last.input);
    let status = tokio::time::timeout(PATIENCE, last.child.wait()).await.expect("it ends").unwrap();
    within(last.printing).await.unwrap();
    assert!(status.success(), "seed {seed}: {:?}", last.printed.lock().unwrap());
    let committed: Vec<String> =
        peer.committed().iter().map(|payload| String::from_utf8_lossy(payload).into_owned()).collect();
    let (end, lines) = committed.split_last().expect("at least one line");
    assert_eq!(end, "the last line");
    let numbers: Vec<usize> =
        lines.iter().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "seed {seed}: once and in order: {numbers:?}");
    let arrived: HashSet<usize> = numbers.into_iter().collect();
    let mut lost: Vec<_> = accepted.difference(&arrived).collect();
    lost.sort_unstable();
    assert!(lost.is_empty(), "seed {seed}: accepted and lost: {lost:?}");
    assert_eq!(peer.look(|world| world.violations.clone()), [], "seed {seed}");
    println!("{fed} lines fed, {} accepted, {} arrived", accepted.len(), arrived.len());
}
