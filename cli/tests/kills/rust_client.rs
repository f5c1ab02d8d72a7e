//! A client in this process that sends until it is told to stop, and remembers what it was told. Must not know
//! who is killed.

use crate::{payload, random_millis, within};
use pulsegate_client::{Backoff, Client, Committed, Delivery, Options, Reason, SendError};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// What a client does beside sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// It stays.
    Stays,
    /// It says goodbye for good and begins a new session, again and again.
    BeginsAnew,
    /// It says that it will be back and goes on with what was kept, again and again.
    ComesBack,
}

pub(crate) struct Sender {
    pub(crate) id: String,
    pub(crate) address: SocketAddr,
    pub(crate) habit: Habit,
    /// So many messages may wait for their outcome.
    pub(crate) pipeline: usize,
    pub(crate) random: fastrand::Rng,
}

/// What a client has sent and heard.
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) sent: u64,
    /// Which message was committed, and where.
    pub(crate) committed: Vec<(u64, Committed)>,
}

/// A client that comes back within milliseconds.
pub(crate) fn quick(id: &str) -> Options {
    let [first, longest, steady] = [1, 40, 50].map(Duration::from_millis);
    Options { backoff: Backoff { first, longest, steady }, ..Options::new(id) }
}

impl Sender {
    /// Sends until it is told to stop, and then waits until everything has its outcome.
    pub(crate) async fn run(mut self, stop: Arc<AtomicBool>) -> Told {
        let mut told = Told { id: self.id.clone(), sent: 0, committed: Vec::new() };
        let mut pending = VecDeque::new();
        let options = || Options { outbox_bytes_max: 32 * 1024, ..quick(&self.id) };
        let mut client = Client::start(self.address, options()).await.unwrap();
        while !stop.load(Relaxed) {
            for _ in 0..self.random.usize(1..60) {
                let payload = payload(&mut self.random, &self.id, told.sent);
                let delivery = within("room for a message", client.push(payload)).await.unwrap();
                pending.push_back((told.sent, delivery));
                told.sent += 1;
                settle(&mut pending, self.pipeline, &mut told).await;
            }
            tokio::time::sleep(random_millis(&mut self.random, 0..100)).await;
            if self.habit == Habit::Stays || self.random.u8(..) > 40 {
                continue;
            }
            let mut options = options();
            if self.habit == Habit::BeginsAnew {
                close(&client).await;
                settle(&mut pending, 0, &mut told).await;
            } else {
                let saved = within("leaving", client.leave()).await.expect("it has not ended");
                let kept = kept(&mut pending, &mut told).await;
                assert_eq!(kept.len(), saved.unsettled.len(), "{}: what goes on", self.id);
                options.resume = Some(saved);
                client = Client::start(self.address, options).await.unwrap();
                pending.extend(kept.into_iter().zip(client.restored()));
                continue;
            }
            client = Client::start(self.address, options).await.unwrap();
        }
        settle(&mut pending, 0, &mut told).await;
        close(&client).await;
        told
    }
}

async fn close(client: &Client) {
    let closed = within("a goodbye", client.close()).await;
    assert_eq!(closed.reason, Reason::Done, "{closed}");
}

/// Hears the outcomes, oldest first, until at most so many are missing.
async fn settle(pending: &mut VecDeque<(u64, Delivery)>, most: usize, told: &mut Told) {
    while pending.len() > most {
        let Some((count, delivery)) = pending.pop_front() else { return };
        let outcome = within("the outcome of a message", delivery).await;
        match outcome {
            Ok(committed) => told.committed.push((count, committed)),
            Err(error) => panic!("{}: message {count} is not committed: {error}", told.id),
        }
    }
}

/// Hears the outcomes after the client has left: those that it keeps go on.
async fn kept(pending: &mut VecDeque<(u64, Delivery)>, told: &mut Told) -> Vec<u64> {
    let mut kept = Vec::new();
    for (count, delivery) in pending.drain(..) {
        match within("the outcome of a message", delivery).await {
            Ok(committed) if kept.is_empty() => told.committed.push((count, committed)),
            Err(SendError::Kept) => kept.push(count),
            outcome => panic!("{}: message {count}, after {kept:?} were kept: {outcome:?}", told.id),
        }
    }
    kept
}
