//! For a while the store can write nothing: clients are told, nothing is acknowledged that is not stored, and then
//! it goes on.

use crate::books::Books;
use crate::commands::{Python, python};
use crate::common::program::Program;
use crate::rust_client::quick;
use crate::victim::{Start, Victim};
use crate::{PATIENCE, payload, runtime, seed, within};
use fastrand::Rng;
use pulsegate_client::{Client, Delivery, Event, Events};
use std::process::Command;
use std::time::Duration;

const OUTAGES: usize = 4;
/// NOTICE: receipts have stopped, and receipts continue (PROTOCOL.md section 8.1).
const STOPPED: u16 = 3;
const GOES_ON: u16 = 4;

/// Lets the gateway's files have so many bytes; returns whether that can be said here.
fn limit_files(victim: &Victim, limit: &str) -> bool {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &victim.id().to_string(), &format!("--fsize={limit}:unlimited")]);
    command.status().is_ok_and(|status| status.success())
}

async fn notice(events: &mut Events, wanted: u16) {
    let wait = async {
        while let Some(event) = events.recv().await {
            let Event::Notice { code, text, .. } = event else { continue };
            if code == wanted {
                assert!(
                    ["receipts have stopped: the store can't write", "receipts continue"]
                        .contains(&text.as_str())
                );
                return;
            }
        }
        panic!("the client has ended");
    };
    within("a notice", wait).await;
}

/// The clients, and how much they have sent.
struct Crowd {
    client: Client,
    python: Option<Program>,
    random: Rng,
    sent: u64,
    fed: u64,
}

impl Crowd {
    async fn push(&mut self, messages: usize) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for _ in 0..messages {
            let payload = payload(&mut self.random, "rust", self.sent);
            deliveries.push(within("room", self.client.push(payload)).await.unwrap());
            self.sent += 1;
        }
        if let Some(python) = &mut self.python {
            for _ in 0..messages {
                python.feed(&payload(&mut self.random, "python", self.fed));
                self.fed += 1;
            }
        }
        deliveries
    }

    /// How much the client in Python was told to be committed.
    fn told_in_python(&self) -> usize {
        let said = self.python.as_ref().map(Program::said).unwrap_or_default();
        said.iter().filter(|line| line.starts_with("committed ")).count()
    }

    fn wait_in_python(&self, what: &str, is_so: impl Fn() -> bool) {
        let limit = std::time::Instant::now() + PATIENCE;
        while self.python.is_some() && !is_so() {
            assert!(std::time::Instant::now() < limit, "this never came: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn count_in_python(&self, line: &str) -> usize {
        let said = self.python.as_ref().map(Program::said).unwrap_or_default();
        said.iter().filter(|said| *said == line).count()
    }
}

#[test]
fn receipts_stop_while_nothing_can_be_written_and_then_go_on() {
    let seed = seed();
    let directory = tempfile::tempdir().unwrap();
    let mut victim = Victim::start(2, directory.path(), Start::SurvivesLimits);
    if !limit_files(&victim, "unlimited") {
        eprintln!("SKIPPED: there is no prlimit here");
        return;
    }
    let python = python(Python::Threads, victim.addresses[0], "python", None).map(Program::start_fed);
    runtime().block_on(async {
        let client = Client::start(victim.addresses[0], quick("rust")).await.unwrap();
        let mut crowd = Crowd { client, python, random: Rng::with_seed(seed), sent: 0, fed: 0 };
        for outage in 0..OUTAGES {
            pass_an_outage(&mut victim, &mut crowd, outage).await;
        }
        let Crowd { client, python, sent, fed, .. } = crowd;
        within("a goodbye", client.close()).await;
        if let Some(python) = python {
            let ended = python.finish(PATIENCE);
            assert_eq!(ended.code, Some(0), "{ended:#?}");
        }
        let books = Books::read(&victim.data_dir);
        books.assert_complete("rust", sent);
        books.assert_complete("python", fed);
    });
}

async fn pass_an_outage(victim: &mut Victim, crowd: &mut Crowd, outage: usize) {
    let mut events = crowd.client.events();
    for delivery in crowd.push(40).await {
        within("a receipt", delivery).await.unwrap();
    }
    crowd.wait_in_python("all is committed", || crowd.told_in_python() as u64 == crowd.fed);
    let before = crowd.count_in_python("event notice 3");
    assert!(limit_files(victim, "0"));
    let deliveries = crowd.push(30).await;
    notice(&mut events, STOPPED).await;
    crowd.wait_in_python("a notice", || crowd.count_in_python("event notice 3") > before);
    // A newcomer waits: it is not let in before its session is on disk.
    let newcomer = Client::start(victim.addresses[1], quick(&format!("newcomer-{outage}"))).await.unwrap();
    let first = newcomer.push(format!("newcomer-{outage} 0 x")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(newcomer.session(), None);
    let told = crowd.told_in_python();
    let outcomes: Vec<_> = deliveries.into_iter().map(tokio::spawn).collect();
    tokio::task::yield_now().await;
    let told_in_rust = outcomes.iter().filter(|outcome| outcome.is_finished()).count();
    let books = Books::read(&victim.data_dir);
    let stored_of_these = books.rows("rust").len() as u64 - (crowd.sent - 30);
    assert!(told_in_rust as u64 <= stored_of_these, "{told_in_rust} told, {stored_of_these} stored");
    assert!(told_in_rust < 30, "all is told, and nothing can be written");
    assert!(told <= books.rows("python").len(), "{told} told in Python");
    if outage % 2 == 1 {
        victim.kill();
        victim.revive();
    } else {
        assert!(limit_files(victim, "unlimited"));
        notice(&mut events, GOES_ON).await;
    }
    for outcome in outcomes {
        within("a receipt", outcome).await.unwrap().unwrap();
    }
    within("a receipt", first).await.unwrap();
    within("a goodbye", newcomer.close()).await;
}
