//! The gateway is killed again and again under the load of clients in Rust and Python.

use crate::books::{Books, Row};
use crate::commands::{Python, python};
use crate::common::program::{Ended, Program};
use crate::rust_client::{Habit, Sender, Told};
use crate::victim::{Start, Victim};
use crate::{PATIENCE, assert_only_waited, payload, random_millis, runtime, seed};
use fastrand::Rng;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

/// Of a gateway that listened.
const KILLS: usize = 50;

/// Clients in Rust: what they do, how much they have on its way, and whether their window is small.
const SENDERS: [(&str, Habit, usize, bool); 6] = [
    ("deep", Habit::Stays, 400, false),
    ("deep-in-a-small-window", Habit::Stays, 100, true),
    ("one-by-one", Habit::Stays, 0, false),
    ("anew", Habit::BeginsAnew, 50, false),
    ("back", Habit::ComesBack, 100, false),
    ("back-in-a-small-window", Habit::ComesBack, 50, true),
];

/// Clients in Python: whether their outbox is on disk, and their window small.
const PYTHONS: [(&str, Python, bool, bool); 4] = [
    ("python", Python::Threads, false, false),
    ("python-on-disk", Python::Threads, true, true),
    ("asyncio", Python::Asyncio, false, true),
    ("asyncio-on-disk", Python::Asyncio, true, false),
];

/// Feeds a client in Python until it is told to stop; returns how much it was fed, and how it ended.
fn feed(mut program: Program, id: &'static str, mut random: Rng, stop: &AtomicBool) -> (u64, Ended) {
    let mut fed = 0;
    while !stop.load(Relaxed) {
        for _ in 0..random.usize(1..40) {
            program.feed(&payload(&mut random, id, fed));
            fed += 1;
        }
        thread::sleep(random_millis(&mut random, 0..100));
    }
    (fed, program.finish(PATIENCE))
}

type Fed = (&'static str, JoinHandle<(u64, Ended)>);

fn start_pythons(victim: &Victim, directory: &Path, random: &mut Rng, stop: &Arc<AtomicBool>) -> Vec<Fed> {
    let start = |(id, which, on_disk, small): (&'static str, Python, bool, bool)| {
        let outbox = directory.join(id);
        let address = victim.addresses[usize::from(small)];
        let program = Program::start_fed(python(which, address, id, on_disk.then_some(outbox.as_path()))?);
        let (random, stop) = (random.fork(), Arc::clone(stop));
        Some((id, thread::spawn(move || feed(program, id, random, &stop))))
    };
    PYTHONS.into_iter().filter_map(start).collect()
}

fn start_senders(
    addresses: [SocketAddr; 2],
    random: &mut Rng,
    stop: &Arc<AtomicBool>,
) -> JoinHandle<Vec<Told>> {
    let senders = SENDERS.map(|(id, habit, pipeline, small)| {
        let address = addresses[usize::from(small)];
        Sender { id: id.to_owned(), address, habit, pipeline, random: random.fork() }
    });
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        runtime().block_on(async {
            let running = senders.map(|sender| tokio::spawn(sender.run(Arc::clone(&stop))));
            let mut told = Vec::new();
            for sender in running {
                told.push(sender.await.unwrap());
            }
            told
        })
    })
}

/// Kills and starts the gateway; it is well in the end. `is_over` ends it early.
fn kill_often(victim: &mut Victim, random: &mut Rng, is_over: impl Fn() -> bool) {
    let mut kills = 0;
    while kills < KILLS && !is_over() {
        thread::sleep(random_millis(random, 200..700));
        victim.kill();
        kills += 1;
        // A receipt means the same to whoever is killed, and so do sessions to however many shards.
        victim.flags = vec!["--durability", random.choice(["os", "synced"]).unwrap()];
        victim.flags.extend(["--shards", random.choice(["1", "2", "3"]).unwrap()]);
        // One start in four doesn't get far.
        if random.u8(..) < 64 {
            victim.begin();
            thread::sleep(random_millis(random, 0..60));
            victim.kill();
        }
        if random.bool() {
            thread::sleep(random_millis(random, 0..150));
        }
        victim.revive();
    }
}

#[test]
fn what_clients_were_told_is_what_is_stored() {
    let seed = seed();
    let mut random = Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut victim = Victim::start(0, directory.path(), Start::Plain);
    let stop = Arc::new(AtomicBool::new(false));
    let pythons = start_pythons(&victim, directory.path(), &mut random, &stop);
    let senders = start_senders(victim.addresses, &mut random, &stop);
    kill_often(&mut victim, &mut random, || senders.is_finished());
    stop.store(true, Relaxed);
    let told = senders.join().unwrap();
    let fed: Vec<_> = pythons.into_iter().map(|(id, thread)| (id, thread.join().unwrap())).collect();
    let books = Books::read(&victim.data_dir);
    for told in &told {
        check_rust(&books, told);
    }
    for (id, (sent, ended)) in &fed {
        check_python(&books, id, *sent, ended);
    }
    let sent = told.iter().map(|told| told.sent).chain(fed.iter().map(|(_, (sent, _))| *sent));
    assert_eq!(books.message_count() as u64, sent.sum::<u64>());
    victim.kill();
    assert_eq!(Books::read(&victim.data_dir).message_count(), books.message_count());
    println!("{} messages, {KILLS} kills", books.message_count());
}

fn check_rust(books: &Books, told: &Told) {
    let Told { id, sent, committed } = told;
    books.assert_complete(id, *sent);
    let rows = committed.iter().map(|(count, committed)| Row {
        session: committed.session,
        number: committed.number,
        count: *count,
    });
    assert!(rows.eq(books.rows(id).iter().copied()), "{id}: told and stored at different places");
    assert!(*sent > 100, "{id} sent only {sent}: it was not under load");
}

fn check_python(books: &Books, id: &str, sent: u64, ended: &Ended) {
    let Ended { code, said, complaints } = ended;
    let last = &said[said.len().saturating_sub(30)..];
    assert_eq!(*code, Some(0), "{id}: {last:#?}\n{complaints:#?}");
    assert!(last.iter().any(|line| line == "closed 0"), "{id}: {last:#?}");
    assert_only_waited(id, ended);
    books.assert_complete(id, sent);
    let ends: Vec<&String> =
        said.iter().filter(|line| !line.starts_with("accepted ") && !line.starts_with("event ")).collect();
    let rows = books.rows(id).iter().map(|row| format!("committed {} {}", row.count, row.number));
    let expected: Vec<String> = rows.chain(["closed 0".to_owned()]).collect();
    let differs = ends.iter().zip(&expected).find(|(end, expected)| **end != *expected);
    assert!(differs.is_none() && ends.len() == expected.len(), "{id}: told and stored: {differs:?}");
    assert!(sent > 100, "{id} sent only {sent}: it was not under load");
}
