//! The real gateway and its clients, killed at random moments under load: what was acknowledged is in the store,
//! exactly once and in order, and every message has an outcome. `PULSEGATE_SEED=n` draws the same moments again.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod books;
mod clients;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod full_disk;
mod gateways;
mod rust_client;
mod to_clients;
mod victim;

use std::time::Duration;

/// Bounds every wait for what comes after the last kill; nothing is judged by it.
const PATIENCE: Duration = Duration::from_secs(120);

/// The seed of a run, told where a failure shows it.
fn seed() -> u64 {
    let chosen = std::env::var("PULSEGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = chosen.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("PULSEGATE_SEED={seed}");
    seed
}

fn random_millis(random: &mut fastrand::Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.u64(range))
}

/// A payload that says whose it is and which; no two are the same.
fn payload(random: &mut fastrand::Rng, client: &str, count: u64) -> String {
    format!("{client} {count} {}", ".".repeat(random.usize(0..200)))
}

/// A client complains of nothing but that it has to try again: its gateway is killed.
#[track_caller]
fn assert_only_waited(id: &str, ended: &common::program::Ended) {
    let is_wait = |line: &String| line.ends_with("it tries again and again");
    assert!(ended.complaints.iter().all(is_wait), "{id}: {ended:#?}");
}

/// A runtime for the clients of one test.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits, but not for ever.
#[track_caller]
fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move {
        let outcome = tokio::time::timeout(PATIENCE, future).await;
        outcome.unwrap_or_else(|_| panic!("this never came to an end: {what}, {place}"))
    }
}
