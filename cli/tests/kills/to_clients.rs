//! Messages to clients that come and go, from a gateway that stops and starts: what was taken arrives once, in
//! order.

use crate::common::{listener, own_loopback};
use crate::rust_client::quick;
use crate::{PATIENCE, random_millis, runtime, seed, within};
use fastrand::Rng;
use pulsegate::{Config, Control, Gateway, Protocol, Recipient};
use pulsegate_client::{Client, Options, Reason, SavedSession, Window};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const STARTS: usize = 30;
const CLIENTS: [&str; 3] = ["one", "two", "three"];

/// A message as it was taken, or came: its session, its number there, and which of its client's it is.
type Place = (u64, u64, u64);

/// What the gateway said of the messages to one client.
#[derive(Default)]
struct Taken {
    /// In the order of the answers.
    places: Mutex<Vec<Place>>,
    refused: Mutex<Vec<u64>>,
}

/// What one client has got so far.
#[derive(Default)]
struct Got {
    places: Mutex<Vec<Place>>,
    session: AtomicU64,
}

fn start(address: SocketAddr, directory: &Path) -> Gateway {
    let listener = listener(|listener| {
        listener.listen = address;
        listener.sink = "store".to_owned();
        listener.policy.protocol = Protocol::Auto;
    });
    let config = Config { listeners: vec![listener], data_dir: directory.to_owned(), ..Config::default() };
    Gateway::builder().config(config).start().unwrap()
}

/// Comes and goes until it is told to stop; then stays until it has what it has to have.
async fn receive(
    address: SocketAddr,
    id: &'static str,
    mut random: Rng,
    got: Arc<Got>,
    stop: Arc<AtomicBool>,
) {
    let mut saved = None::<SavedSession>;
    loop {
        let window = Window { messages: random.u32(1..20), bytes: 1 << 20 };
        let options = Options { resume: saved.take(), window, ..quick(id) };
        let client = Client::start(address, options).await.unwrap();
        if got.session.load(Relaxed) == 0 {
            let committed = within("a first receipt", client.send("hello")).await.unwrap();
            got.session.store(committed.session, Relaxed);
        }
        let limit = Instant::now() + random_millis(&mut random, 0..200);
        loop {
            let rest = limit.saturating_duration_since(Instant::now());
            match tokio::time::timeout(rest.max(Duration::from_millis(1)), client.recv()).await {
                Ok(Some(message)) => {
                    let (session, number) = (message.session(), message.number());
                    let count = std::str::from_utf8(message.payload()).unwrap().parse().unwrap();
                    got.places.lock().unwrap().push((session, number, count));
                    message.accept();
                }
                Ok(None) => panic!("{id} has ended: {}", client.closed().await),
                Err(_) => {}
            }
            if Instant::now() >= limit {
                break;
            }
        }
        saved = within("leaving", client.leave()).await;
        assert!(saved.is_some(), "{id} has ended: {}", client.closed().await);
        if stop.load(Relaxed) {
            return;
        }
        tokio::time::sleep(random_millis(&mut random, 0..100)).await;
    }
}

/// Sends a message to a client; what becomes of it is noted when it is known.
fn send(control: &Control, id: &str, session: u64, by_id: bool, count: u64, taken: &Arc<Taken>) {
    let to = if by_id { Recipient::Client(id.to_owned()) } else { Recipient::Session(session) };
    let taken = Arc::clone(taken);
    let note = move |outcome| match outcome {
        Ok((session, number)) => taken.places.lock().unwrap().push((session, number, count)),
        Err(_) => taken.refused.lock().unwrap().push(count),
    };
    control.send(to, count.to_string().into_bytes(), note).unwrap();
}

#[test]
fn what_is_taken_for_a_client_reaches_it_once() {
    let mut random = Rng::with_seed(seed());
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let mut gateway = start(own_loopback(3), directory.path());
        let address = gateway.addresses()[0];
        let stop = Arc::new(AtomicBool::new(false));
        let clients = CLIENTS.map(|id| {
            let got = Arc::<Got>::default();
            let task = receive(address, id, random.fork(), Arc::clone(&got), Arc::clone(&stop));
            (id, got, Arc::<Taken>::default(), tokio::spawn(task))
        });
        while clients.iter().any(|(_, got, ..)| got.session.load(Relaxed) == 0) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut counts = BTreeMap::new();
        for _ in 0..STARTS {
            let control = gateway.control();
            for _ in 0..random.usize(1..20) {
                for _ in 0..random.usize(1..10) {
                    let (id, got, taken, _) = &clients[random.usize(..clients.len())];
                    let count = counts.entry(*id).or_insert(0);
                    send(&control, id, got.session.load(Relaxed), random.bool(), *count, taken);
                    *count += 1;
                }
                tokio::time::sleep(random_millis(&mut random, 0..30)).await;
            }
            control.stop();
            within("the gateway's end", tokio::task::spawn_blocking(|| gateway.wait()))
                .await
                .unwrap()
                .unwrap();
            tokio::time::sleep(random_millis(&mut random, 0..50)).await;
            gateway = start(address, directory.path());
        }
        for (id, got, taken, task) in &clients {
            let last = taken.places.lock().unwrap().last().copied().expect("some were taken");
            let limit = Instant::now() + PATIENCE;
            while !got.places.lock().unwrap().contains(&last) {
                assert!(Instant::now() < limit && !task.is_finished(), "{id}: {last:?} never came");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        stop.store(true, Relaxed);
        for (id, got, taken, task) in clients {
            within("the client's end", task).await.unwrap();
            check(id, &got, &taken, counts[id]);
        }
        gateway.control().stop();
    });
}

#[test]
fn a_large_message_reaches_a_client_that_comes_back_with_a_lower_limit() {
    let directory = tempfile::tempdir().unwrap();
    let options = |message_bytes_max| {
        let window = Window { messages: 8, bytes: message_bytes_max };
        let outbox = Some(directory.path().join("outbox.db"));
        Options { message_bytes_max, window, outbox, ..quick("four") }
    };
    runtime().block_on(async {
        let gateway = start(own_loopback(2), directory.path());
        let address = gateway.addresses()[0];
        let client = Client::start(address, options(60_000)).await.unwrap();
        let session = within("a first receipt", client.send("hello")).await.unwrap().session;
        let large = vec![b'x'; 60_000];
        gateway.control().send(Recipient::Session(session), large.clone(), |_| ()).unwrap();
        let untaken = within("the message", client.recv()).await.expect("it lives");
        let mut events = client.events();
        drop(client);
        while within("the client's end", events.recv()).await.is_some() {}
        drop(untaken);
        let client = Client::start(address, options(1_000)).await.unwrap();
        let message = within("the message again", client.recv()).await.expect("it lives");
        assert_eq!(
            (message.session(), message.number(), message.accept().as_ref()),
            (session, 1, &large[..])
        );
        assert_eq!(within("the end", client.close()).await.reason, Reason::Done);
        gateway.control().stop();
    });
}

fn check(id: &str, got: &Got, taken: &Taken, sent: u64) {
    let (got, taken, refused) =
        (got.places.lock().unwrap(), taken.places.lock().unwrap(), taken.refused.lock().unwrap());
    let missing: Vec<_> = taken.iter().filter(|place| !got.contains(place)).collect();
    assert!(missing.is_empty(), "{id}: taken and lost: {missing:?}");
    assert!(got.is_sorted_by(|one, next| one.2 < next.2), "{id}: twice, or out of order: {got:?}");
    assert!(got.iter().map(|place| place.1).eq(1..=got.len() as u64), "{id}: numbers: {got:?}");
    assert!(got.iter().all(|place| !refused.contains(&place.2)), "{id}: refused and delivered");
    assert!(refused.is_empty(), "{id}: refused: {refused:?}");
    println!("{id}: {sent} sent, {} taken, {} came", taken.len(), got.len());
}
