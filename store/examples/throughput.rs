//! How many messages a second the store commits, and how long each takes from submit to reply, by the number of
//! sessions and the durability. `cargo run --release -p pulsegate-store --example throughput [DIRECTORY [SECONDS
//! [WINDOW [WAL_KIB]]]]`; each session has at most WINDOW messages in flight. Measures nothing but the store.

use pulsegate_store::{
    Attach, Durability, Moment, Reply, Request, Seat, SecondConnection, Store, StoreConfig,
};
use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PAYLOAD_BYTES: usize = 256;

/// A session that keeps its window full.
struct Client {
    epoch: u64,
    next: u64,
    sent: VecDeque<Instant>,
}

impl Client {
    fn fill(&mut self, session: u64, window: usize, requests: &mut Vec<Request>) {
        while self.sent.len() < window {
            requests.push(Request::Message {
                seat: Seat::new(session.into(), session, self.epoch),
                number: self.next,
                received_at_ms: 1,
                payload: vec![b'x'; PAYLOAD_BYTES].into(),
            });
            self.next += 1;
            self.sent.push_back(Instant::now());
        }
    }
}

fn attach_all(
    store: &Store,
    replies: &Receiver<Vec<Reply>>,
    sessions: u64,
) -> Result<HashMap<u64, Client>, Box<dyn Error>> {
    for number in 0..sessions {
        store.submit(Request::Attach(Box::new(Attach {
            ticket: number.into(),
            client: format!("client-{number:09}"),
            source: 1,
            resume: None,
            token: [7; 16],
            second: SecondConnection::Refuse,
            message_bytes_max: 1024,
            told_bytes_max: 1024,
            now: Moment::default(),
            time_to_live: Duration::from_secs(60),
        })))?;
    }
    let mut clients = HashMap::new();
    while clients.len() < usize::try_from(sessions)? {
        for reply in replies.recv()? {
            if let Reply::Attached(attached) = reply {
                let client = Client { epoch: attached.epoch(), next: 1, sent: VecDeque::new() };
                clients.insert(attached.session(), client);
            }
        }
    }
    Ok(clients)
}

fn measure(
    directory: &Path,
    durability: Durability,
    sessions: u64,
    window: usize,
    wal_kib: u64,
    time: Duration,
) -> Result<(), Box<dyn Error>> {
    let (sender, replies) = channel();
    let config = StoreConfig {
        durability,
        queue_bytes_max: 256 << 20,
        wal_bytes: wal_kib << 10,
        quota: pulsegate_store::Quota { bytes: 1 << 40, every: Duration::from_secs(1) },
        ..StoreConfig::default()
    };
    let store = Store::open(directory, config, Moment::default(), move |batch| {
        let _ = sender.send(batch);
    })?;
    let mut clients = attach_all(&store, &replies, sessions)?;
    let mut requests = Vec::new();
    for (session, client) in &mut clients {
        client.fill(*session, window, &mut requests);
    }
    store.submit_all(&mut requests)?;
    let (start, mut latencies, mut batches) = (Instant::now(), Vec::new(), 0_u64);
    while start.elapsed() < time {
        let batch = replies.recv()?;
        let now = Instant::now();
        batches += 1;
        for reply in batch {
            let Reply::Committed { seat, committed } = reply else {
                return Err(format!("{reply:?}").into());
            };
            let client = clients.get_mut(&seat.session()).ok_or("a session that isn't there")?;
            while client.next - client.sent.len() as u64 <= committed {
                let sent = client.sent.pop_front().ok_or("a receipt for nothing")?;
                latencies.push(now - sent);
            }
            client.fill(seat.session(), window, &mut requests);
        }
        store.submit_all(&mut requests)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |part: f64| latencies.get((latencies.len() as f64 * part) as usize).copied().unwrap_or_default();
    println!(
        "{durability:?}\t{sessions} sessions\twindow {window}\t{:.0} messages/s\t{:.0} batches/s\tp50 {:.2?}\tp99 {:.2?}\tmax {:.2?}",
        latencies.len() as f64 / seconds,
        batches as f64 / seconds,
        at(0.5),
        at(0.99),
        at(1.0 - 1e-9),
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().unwrap_or_else(|| ".".to_owned());
    let seconds = arguments.next().map_or(Ok(3), |seconds| seconds.parse())?;
    let window = arguments.next().map_or(Ok(64), |window| window.parse())?;
    let wal_kib =
        arguments.next().map_or_else(|| Ok(StoreConfig::default().wal_bytes >> 10), |kib| kib.parse())?;
    for durability in [Durability::Os, Durability::Synced] {
        for sessions in [1, 16, 256] {
            let directory = Path::new(&parent).join("throughput.store");
            let _ = std::fs::remove_dir_all(&directory);
            measure(&directory, durability, sessions, window, wal_kib, Duration::from_secs(seconds))?;
            std::fs::remove_dir_all(&directory)?;
        }
    }
    Ok(())
}
