//! What the client's tests share: options that come back quickly, and waits that are bounded.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use pulsegate_client::{Backoff, Client, Committed, Durability, Event, Events, Message, Options};
use pulsegate_client_peer::Peer;
use std::time::Duration;

/// Bounds every wait; nothing is judged by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Options of a client that comes back within milliseconds.
pub(crate) fn quick() -> Options {
    let backoff = Backoff { first: ms(1), longest: ms(20), steady: ms(50) };
    Options { backoff, ..Options::new("a client") }
}

/// What the peer's receipts say: it keeps everything in memory.
pub(crate) const fn in_memory(id: u64, session: u64, number: u64) -> Committed {
    Committed { id, session, number, durability: Durability::None }
}

/// Waits, but not for ever.
#[track_caller]
pub(crate) fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move {
        let outcome = tokio::time::timeout(PATIENCE, future).await;
        outcome.unwrap_or_else(|_| panic!("this never came to an end: {place}"))
    }
}

/// A client that is let in. If its session is new, the peer has heard of it again, so that it will be kept.
pub(crate) async fn connected(peer: &Peer, options: Options) -> Client {
    let before = peer.look(|world| world.spoken);
    let client = within(Client::connect(peer.address(), options)).await.expect("the peer lets everybody in");
    if peer.look(|world| world.hellos.last().is_none_or(|hailed| hailed.session == 0)) {
        peer.until("a first frame", |world| world.spoken > before).await;
    }
    client
}

/// Waits for an event that is so; what came before it is thrown away.
#[track_caller]
pub(crate) fn event(events: &mut Events, is_so: impl Fn(&Event) -> bool) -> impl Future<Output = Event> {
    let place = std::panic::Location::caller();
    async move {
        let mut seen = Vec::new();
        let wait = async {
            loop {
                match events.recv().await {
                    Some(event) if is_so(&event) => return event,
                    Some(event) => seen.push(event),
                    None => panic!("the client has ended: {place}"),
                }
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(event) => event,
            Err(_) => panic!("this event never came: {place}; there were {seen:?}"),
        }
    }
}

/// The next message from the gateway.
pub(crate) async fn next(client: &Client) -> Message {
    within(client.recv()).await.expect("the client lives")
}
