//! Many messages both ways through connections that are cut at random bytes: nothing acknowledged is lost,
//! nothing arrives twice, and the order is kept. `PULSEGATE_SEED=n` plays one run again.

mod common;

use bytes::Bytes;
use common::{quick, within};
use pulsegate_client::{Client, Options, Window};
use pulsegate_client_peer::{Peer, Script};

const MESSAGES: usize = 1_500;

fn seeds() -> Vec<u64> {
    let chosen = std::env::var("PULSEGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    chosen.map_or_else(|| (1..=6).collect(), |seed| vec![seed])
}

fn payload(random: &mut fastrand::Rng, direction: char, place: usize) -> Bytes {
    let mut bytes = format!("{direction} {place} ").into_bytes();
    bytes.resize(bytes.len() + random.usize(0..400), b'.');
    bytes.into()
}

#[tokio::test]
async fn cuts_anywhere_lose_nothing_and_double_nothing() {
    for seed in seeds() {
        println!("PULSEGATE_SEED={seed}");
        run(seed).await;
    }
}

async fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let window = Window { messages: random.u32(1..80), bytes: 2_000 + random.u32(0..20_000) };
    let script = Script {
        window,
        message_bytes_max: 1_000,
        cut_after: Some(1..random.u64(2_000..30_000)),
        random: random.fork(),
        ..Script::default()
    };
    let peer = Peer::with(script).await;
    let options = Options { window, message_bytes_max: 1_000, outbox_bytes_max: 20_000, ..quick() };
    let client = Client::start(peer.address(), options).await.expect("sound options");
    let sent: Vec<Bytes> = (0..MESSAGES).map(|place| payload(&mut random, 'u', place)).collect();
    let pushed: Vec<Bytes> = (0..MESSAGES).map(|place| payload(&mut random, 'd', place)).collect();
    let receiving = tokio::spawn({
        let client = client.clone();
        async move {
            let mut taken = Vec::new();
            while taken.len() < MESSAGES
                && let Some(message) = client.recv().await
            {
                taken.push(message.accept());
            }
            taken
        }
    });
    let mut deliveries = Vec::new();
    for (up, down) in sent.iter().zip(&pushed) {
        deliveries.push(within(client.push(up.clone())).await.expect("the client lives"));
        // A session of which the client has not spoken yet may be forgotten again.
        peer.until("a session", |world| !world.committed.is_empty()).await;
        peer.push(down.clone());
    }
    for delivery in deliveries {
        within(delivery).await.expect("the peer refuses nothing");
    }
    assert_eq!(within(receiving).await.expect("no panic"), pushed, "seed {seed}");
    assert_eq!(peer.committed(), sent, "seed {seed}");
    peer.until("all receipts", |world| world.settled() == MESSAGES as u64).await;
    assert_eq!(peer.look(|world| world.violations.clone()), [], "seed {seed}");
    let connections = peer.look(|world| world.hellos.len());
    println!("{connections} connections, window {window:?}");
}
