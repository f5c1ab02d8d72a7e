//! Clients with an outbox on disk are killed again and again, and now and then the gateway is: what a client had
//! accepted arrives once, in order; what it was only fed may be missing.

use crate::books::{Books, Row};
use crate::commands::{Python, connect, python};
use crate::common::program::{Ended, Program};
use crate::victim::{Start, Victim};
use crate::{PATIENCE, assert_only_waited, payload, random_millis, seed};
use fastrand::Rng;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Of each client.
const KILLS: usize = 25;

/// How many messages each is fed in its last life.
const LAST: usize = 10;

/// How long a process may take to say its first word, before it is killed all the same.
const START: Duration = Duration::from_secs(10);

/// How much longer than its start a life of the gateway is, at least.
const START_FACTOR: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `pulsegate connect --id --outbox`.
    Connect,
    Python(Python),
}

const CLIENTS: [(&str, Kind, bool); 5] = [
    ("connect", Kind::Connect, false),
    ("connect-in-a-small-window", Kind::Connect, true),
    ("python", Kind::Python(Python::Threads), false),
    ("python-in-a-small-window", Kind::Python(Python::Threads), true),
    ("asyncio", Kind::Python(Python::Asyncio), false),
];

/// A client over all its lives.
struct Lives {
    id: &'static str,
    kind: Kind,
    address: SocketAddr,
    outbox: PathBuf,
    random: Rng,
    fed: u64,
    lives: Vec<Life>,
}

/// From one start to its end.
struct Life {
    /// The counts of the messages that it was fed.
    fed: std::ops::Range<u64>,
    ended: Ended,
}

impl Kind {
    fn command(self, address: SocketAddr, id: &str, outbox: &Path) -> Option<Command> {
        match self {
            Self::Connect => Some(connect(address, id, outbox)),
            Self::Python(which) => python(which, address, id, Some(outbox)),
        }
    }

    /// Whether a line says that the gateway has let it in.
    fn is_let_in(self, line: &str) -> bool {
        match self {
            Self::Connect => line.contains(" connected: "),
            Self::Python(_) => line.starts_with("event new session ") || line.starts_with("event resumed "),
        }
    }

    /// Whether a line says that a message of this life is on its way.
    fn is_at_work(self, line: &str) -> bool {
        match self {
            Self::Connect => line.ends_with(" sent"),
            Self::Python(_) => line.starts_with("accepted "),
        }
    }
}

impl Lives {
    /// Is killed so many times, and settles everything in the end. `None` if it can't be started here.
    fn live(mut self) -> Option<Self> {
        for _ in 0..KILLS {
            self.be_killed()?;
            // Then the next life begins a new session, which it may not live to use.
            if self.random.u8(..) < 80 {
                self.settle(3)?;
            }
        }
        self.settle(LAST)?;
        Some(self)
    }

    /// A life that is cut short: wherever it stands, just after it was let in, or at work.
    fn be_killed(&mut self) -> Option<()> {
        let (mut program, first) = (self.start()?, self.fed);
        let lines = self.random.usize(1..120);
        self.feed(&mut program, lines);
        let within = match self.random.u8(..5) {
            0 => 0..400,
            1 | 2 => {
                program.heard(START, |line| self.kind.is_let_in(line));
                0..8
            }
            _ => {
                program.heard(START, |line| self.kind.is_at_work(line));
                0..250
            }
        };
        thread::sleep(random_millis(&mut self.random, within));
        let ended = program.kill();
        self.lives.push(Life { fed: first..self.fed, ended });
        Some(())
    }

    /// A life to the end, of everything that is left and so many messages more.
    fn settle(&mut self, lines: usize) -> Option<()> {
        let (mut program, first) = (self.start()?, self.fed);
        self.feed(&mut program, lines);
        let ended = program.finish(PATIENCE);
        assert_eq!(ended.code, Some(0), "{}: {ended:#?}", self.id);
        assert_only_waited(self.id, &ended);
        self.lives.push(Life { fed: first..self.fed, ended });
        Some(())
    }

    fn start(&self) -> Option<Program> {
        Some(Program::start_fed(self.kind.command(self.address, self.id, &self.outbox)?))
    }

    /// Few enough to wait in a pipe that nobody reads.
    fn feed(&mut self, program: &mut Program, lines: usize) {
        for _ in 0..lines {
            program.feed(&payload(&mut self.random, self.id, self.fed));
            self.fed += 1;
        }
    }

    fn check(&self, books: &Books) {
        let Life { fed, .. } = self.lives.last().unwrap();
        let rows = books.rows(self.id);
        let end: Vec<u64> = rows.iter().rev().take(LAST).rev().map(|row| row.count).collect();
        assert!(
            end.iter().copied().eq(fed.clone()),
            "{}: the last life's messages are not the last: {end:?}",
            self.id
        );
        match self.kind {
            Kind::Connect => self.check_connect(rows),
            Kind::Python(_) => self.check_python(rows),
        }
    }

    /// It says `N sent` only of what is on disk, and `N received (committed, ..)`; N counts what the file has accepted.
    /// What was accepted is stored in this order and nothing of it refused, so the Nth that is stored is message N.
    fn check_connect(&self, rows: &[Row]) {
        let mut highest = 0;
        for (place, Life { fed, ended }) in self.lives.iter().enumerate() {
            let mut restored = HashSet::new();
            let mut base = None;
            for line in &ended.said {
                let words: Vec<&str> = line.split(' ').skip(1).collect();
                let id = |word: usize| words[word].parse::<u64>().unwrap();
                match words[..] {
                    ["message", _, "continues", ..] => drop(restored.insert(id(1))),
                    [_, "sent"] | [_, "received", ..] => {
                        let id = id(0);
                        highest = highest.max(id);
                        let row = rows.get(id as usize - 1);
                        let row = row.unwrap_or_else(|| panic!("{}: accepted and lost: {id}", self.id));
                        if restored.contains(&id) {
                            assert!(row.count < fed.start, "{} {place}: {id} is {}", self.id, row.count);
                        } else {
                            assert!(fed.contains(&row.count), "{} {place}: {id} is {}", self.id, row.count);
                            // As far apart as those that this life took in before it.
                            let apart = row.count.wrapping_sub(id);
                            assert_eq!(*base.get_or_insert(apart), apart, "{} {place}", self.id);
                        }
                    }
                    [_, "confirmed"] | ["connected:" | "disconnected:" | "coming", ..] => {}
                    _ if line.contains(" done") && line.ends_with(", 0 not") => {}
                    _ => panic!(
                        "{} {place}: {line}\n{:#?}",
                        self.id,
                        self.lives[place.saturating_sub(1)].ended.said
                    ),
                }
            }
        }
        assert_eq!(rows.len() as u64, highest, "{}: stored, and the last one's number", self.id);
    }

    /// It says `accepted COUNT` when a message is on disk.
    fn check_python(&self, rows: &[Row]) {
        let stored: HashSet<u64> = rows.iter().map(|row| row.count).collect();
        let mut lost = Vec::new();
        for (place, Life { ended, .. }) in self.lives.iter().enumerate() {
            for line in &ended.said {
                let words: Vec<&str> = line.split(' ').collect();
                match words[..] {
                    ["accepted" | "committed", count, ..] => {
                        lost.extend(count.parse().ok().filter(|count: &u64| !stored.contains(count)));
                    }
                    ["event", "unknown" | "refused" | "lost", ..] | ["unknown" | "not" | "kept", ..] => {
                        panic!(
                            "{} {place}: {line}\n{:#?}",
                            self.id,
                            self.lives[place.saturating_sub(1)].ended.said
                        )
                    }
                    _ => {}
                }
            }
        }
        assert!(lost.is_empty(), "{}: accepted and lost: {lost:?}", self.id);
    }

    fn accepted(&self) -> usize {
        let said = self.lives.iter().flat_map(|life| &life.ended.said);
        said.filter(|line| self.kind.is_at_work(line)).count()
    }
}

#[test]
fn what_a_client_has_accepted_arrives_once() {
    let seed = seed();
    let mut random = Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut victim = Victim::start(1, directory.path(), Start::Plain);
    let clients = CLIENTS.map(|(id, kind, small)| {
        let (address, outbox) = (victim.addresses[usize::from(small)], directory.path().join(id));
        let lives = Lives { id, kind, address, outbox, random: random.fork(), fed: 0, lives: Vec::new() };
        thread::spawn(move || lives.live())
    });
    let over = Arc::new(AtomicBool::new(false));
    let killer = thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let mut kills = 0;
            let mut start = Duration::ZERO;
            while !over.load(Relaxed) {
                // Where the gateway is slow to start so are clients, and they have 30 s to settle all they have.
                thread::sleep(random_millis(&mut random, 700..2_000) + START_FACTOR * start);
                victim.kill();
                kills += 1;
                thread::sleep(random_millis(&mut random, 0..100));
                let begun = Instant::now();
                victim.revive();
                start = begun.elapsed();
            }
            (victim, kills)
        }
    });
    let clients = clients.map(|client| client.join());
    over.store(true, Relaxed);
    let (victim, kills) = killer.join().unwrap();
    let books = Books::read(&victim.data_dir);
    for client in clients {
        let Some(client) = client.unwrap() else { continue };
        client.check(&books);
        let (stored, accepted) = (books.rows(client.id).len(), client.accepted());
        println!("{}: {} fed, {accepted} said to be accepted, {stored} stored", client.id, client.fed);
        assert!(accepted > 100, "{} accepted only {accepted}", client.id);
    }
    println!("{KILLS} kills of each client, {kills} of the gateway");
}
