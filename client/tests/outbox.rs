//! The outbox on disk: what it keeps, whom it lets in, and what the next client makes of it.
#![cfg(feature = "outbox")]

mod common;

use common::{connected, event, in_memory, ms, next, quick, within};
use pulsegate_client::{
    Bytes, Client, ConnectError, Event, Options, OutboxError, Reason, SavedSession, SendError, Window,
};
use pulsegate_client_peer::{Handed, Peer, Script};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("outbox.db")
}

fn kept(path: &Path) -> Options {
    Options { outbox: Some(path.to_owned()), ..quick() }
}

/// The client goes without a word, as at a kill; but the file is free when this returns.
async fn drop_all(client: Client) {
    let mut events = client.events();
    drop(client);
    while within(events.recv()).await.is_some() {}
}

#[tokio::test]
async fn what_was_taken_in_offline_goes_on_with_the_next_client() {
    let directory = TempDir::new().unwrap();
    let mut peer = Peer::start().await;
    peer.fall().await;
    let client = within(Client::start(peer.address(), kept(&file(&directory)))).await.unwrap();
    let one = within(client.push("one")).await.unwrap();
    let two = client.try_send("two").unwrap();
    drop_all(client).await;
    assert_eq!(within(one).await, Err(SendError::Kept));
    assert_eq!(within(two).await, Err(SendError::Kept));
    peer.rise().await;
    let client = within(Client::start(peer.address(), kept(&file(&directory)))).await.unwrap();
    let restored = client.restored();
    assert_eq!(restored.iter().map(pulsegate_client::Delivery::id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(within(client.send("three")).await, Ok(in_memory(3, 1, 3)));
    for delivery in restored {
        within(delivery).await.unwrap();
    }
    assert_eq!(peer.committed(), ["one", "two", "three"]);
    assert_eq!(within(client.close()).await.reason, Reason::Done);
    let client = connected(&peer, kept(&file(&directory))).await;
    assert!(client.restored().is_empty());
    let committed = within(client.send("four")).await;
    assert_eq!(committed, Ok(in_memory(4, 2, 1)), "ids go on where sessions don't");
}

#[tokio::test]
async fn what_was_in_flight_is_resumed_and_settled_once() {
    let directory = TempDir::new().unwrap();
    let peer = Peer::start().await;
    let client = connected(&peer, kept(&file(&directory))).await;
    within(client.send("settled")).await.unwrap();
    peer.script(|script| script.is_mute = true);
    let committed = client.try_send("committed").unwrap();
    peer.until("the commit", |world| world.committed.len() == 2).await;
    peer.script(|script| script.holds_receipts = true);
    let received = client.try_send("received").unwrap();
    peer.until("the message", |world| world.received == 3).await;
    drop_all(client).await;
    assert_eq!(
        (within(committed).await, within(received).await),
        (Err(SendError::Kept), Err(SendError::Kept))
    );
    peer.script(|script| (script.is_mute, script.holds_receipts) = (false, false));
    let client = within(Client::start(peer.address(), kept(&file(&directory)))).await.unwrap();
    let mut outcomes = Vec::new();
    for delivery in client.restored() {
        outcomes.push(within(delivery).await);
    }
    let expected = [2, 3].map(|number| Ok(in_memory(number, 1, number)));
    assert_eq!(outcomes, expected);
    assert_eq!(peer.committed(), ["settled", "committed", "received"]);
}

#[tokio::test]
async fn a_session_that_expired_meanwhile_leaves_unknown_what_was_sent_and_no_more() {
    let directory = TempDir::new().unwrap();
    let mut script = Script { holds_receipts: true, ..Script::default() };
    script.window.messages = 2;
    let peer = Peer::with(script).await;
    let client = connected(&peer, kept(&file(&directory))).await;
    for text in ["a", "b", "c", "d"] {
        drop(within(client.push(text)).await.unwrap());
    }
    peer.until("as many as the window has", |world| world.received == 2).await;
    drop_all(client).await;
    peer.forget();
    peer.script(|script| script.holds_receipts = false);
    let client = within(Client::start(peer.address(), kept(&file(&directory)))).await.unwrap();
    let mut outcomes = Vec::new();
    for delivery in client.restored() {
        outcomes.push(within(delivery).await);
    }
    assert_eq!(outcomes[..2], [Err(SendError::Unknown), Err(SendError::Unknown)]);
    assert_eq!(outcomes[2], Ok(in_memory(3, 2, 1)));
    assert_eq!(outcomes[3], Ok(in_memory(4, 2, 2)));
    assert!(peer.committed().ends_with(&["c".into(), "d".into()]));
}

#[tokio::test]
async fn a_refusal_outlives_the_process_that_has_not_heard_the_receipt() {
    let directory = TempDir::new().unwrap();
    let peer = Peer::with(Script { refused: Some("bad".into()), ..Script::default() }).await;
    let client = connected(&peer, kept(&file(&directory))).await;
    peer.script(|script| script.is_mute = true);
    drop(within(client.push("bad")).await.unwrap());
    peer.until("the message", |world| world.received == 1).await;
    drop_all(client).await;
    peer.script(|script| script.is_mute = false);
    let client = within(Client::start(peer.address(), kept(&file(&directory)))).await.unwrap();
    let outcome = within(client.restored().remove(0)).await;
    assert_eq!(outcome, Err(SendError::NotAccepted { code: 3, text: String::new() }));
}

#[tokio::test]
async fn the_cursor_of_the_gateways_messages_and_their_refusals_are_kept() {
    let directory = TempDir::new().unwrap();
    let peer = Peer::start().await;
    let client = connected(&peer, kept(&file(&directory))).await;
    ["one", "two", "three"].into_iter().for_each(|text| peer.push(text));
    next(&client).await.accept();
    next(&client).await.refuse(2, "full");
    let third = next(&client).await;
    peer.until("two", |world| world.settled() == 2).await;
    drop_all(client).await;
    drop(third);
    let client = connected(&peer, kept(&file(&directory))).await;
    let hailed = peer.look(|world| world.hellos.last().cloned()).unwrap();
    assert_eq!((hailed.session, hailed.committed), (1, 2));
    let third = next(&client).await;
    assert_eq!((third.number(), third.accept()), (3, "three".into()), "it was not judged");
    peer.until("all three", |world| world.settled() == 3).await;
    assert!(peer.look(|world| world.handed.contains(&Handed::Refused(2, 2))));
}

/// The longest message that the newest HELLO says, and the window's bytes.
fn told(peer: &Peer) -> (u32, u32) {
    peer.look(|world| world.hellos.last().map(|hailed| (hailed.message_bytes_max, hailed.window.bytes)))
        .expect("a HELLO has come")
}

fn limited(message_bytes_max: u32, options: Options) -> Options {
    let window = Window { messages: 8, bytes: message_bytes_max };
    Options { message_bytes_max, window, ..options }
}

#[tokio::test]
async fn a_client_that_comes_back_with_a_lower_limit_still_takes_what_it_once_said() {
    let directory = TempDir::new().unwrap();
    let peer = Peer::start().await;
    let long = Bytes::from("x".repeat(5_000));
    let client = connected(&peer, limited(5_000, kept(&file(&directory)))).await;
    assert_eq!(told(&peer), (5_000, 5_000));
    peer.push(long.clone());
    let untaken = next(&client).await;
    drop_all(client).await;
    drop(untaken);
    let client = connected(&peer, limited(1_000, kept(&file(&directory)))).await;
    assert_eq!(told(&peer), (5_000, 5_000), "within a session it never becomes less");
    assert_eq!(next(&client).await.accept(), long);
    peer.until("the receipt", |world| world.settled() == 1).await;
    drop_all(client).await;
    let client = connected(&peer, limited(9_000, kept(&file(&directory)))).await;
    assert_eq!(told(&peer), (9_000, 9_000));
    drop_all(client).await;
    let client = connected(&peer, limited(1_000, kept(&file(&directory)))).await;
    assert_eq!(told(&peer), (9_000, 9_000), "also what it said later");
    assert_eq!(within(client.close()).await.reason, Reason::Done);
    let client = connected(&peer, limited(1_000, kept(&file(&directory)))).await;
    assert_eq!(told(&peer), (1_000, 1_000), "a new session was told nothing yet");
    drop_all(client).await;
}

#[tokio::test]
async fn a_saved_session_goes_on_with_the_longest_message_that_it_was_told() {
    let peer = Peer::start().await;
    let client = connected(&peer, limited(5_000, quick())).await;
    let saved = within(client.leave()).await.expect("it has not ended");
    let client = connected(&peer, limited(1_000, Options { resume: Some(saved), ..quick() })).await;
    assert_eq!(told(&peer), (5_000, 5_000));
    let saved = within(client.leave()).await.expect("it has not ended");
    assert_eq!(saved.message_bytes_max, 5_000);
}

#[tokio::test]
async fn a_session_that_the_gateway_has_forgotten_keeps_the_limit_with_which_the_next_one_began() {
    let directory = TempDir::new().unwrap();
    let peer = Peer::start().await;
    drop_all(connected(&peer, limited(5_000, kept(&file(&directory)))).await).await;
    peer.forget();
    drop_all(connected(&peer, limited(1_000, kept(&file(&directory)))).await).await;
    assert_eq!(told(&peer), (5_000, 5_000));
    let client = connected(&peer, limited(1_000, kept(&file(&directory)))).await;
    assert_eq!(told(&peer), (5_000, 5_000), "that HELLO began the new session");
    drop_all(client).await;
}

#[tokio::test]
async fn a_message_too_large_for_the_gateway_leaves_no_trace() {
    let directory = TempDir::new().unwrap();
    let mut peer = Peer::with(Script { message_bytes_max: 10, ..Script::default() }).await;
    peer.fall().await;
    let client = within(Client::start(peer.address(), kept(&file(&directory)))).await.unwrap();
    for text in ["one", "much too large", "two"] {
        drop(within(client.push(text)).await.unwrap());
    }
    drop_all(client).await;
    peer.rise().await;
    let client = within(Client::start(peer.address(), kept(&file(&directory)))).await.unwrap();
    let mut events = client.events();
    let told = event(&mut events, |event| matches!(event, Event::TooLarge { .. })).await;
    assert_eq!(told, Event::TooLarge { id: 2, bytes: 14, bytes_max: 10 });
    assert_eq!(within(client.close()).await.reason, Reason::Done);
    assert_eq!(peer.committed(), ["one", "two"]);
    assert_eq!(peer.look(|world| world.violations.clone()), []);
}

#[tokio::test]
async fn a_file_has_one_client_and_one_id() {
    let directory = TempDir::new().unwrap();
    let path = file(&directory);
    let peer = Peer::start().await;
    let client = connected(&peer, kept(&path)).await;
    let outbox_error = |outcome| match outcome {
        Err(ConnectError::Outbox(error)) => error,
        other => panic!("{other:?}"),
    };
    let second = outbox_error(within(Client::start(peer.address(), kept(&path))).await);
    assert!(matches!(&second, OutboxError::InUse(at) if *at == path), "{second}");
    drop_all(client).await;
    let other = Options { id: "another".to_owned(), ..kept(&path) };
    let third = outbox_error(within(Client::start(peer.address(), other)).await);
    assert!(matches!(&third, OutboxError::OtherClient { owner, .. } if owner == "a client"), "{third}");
    let foreign = directory.path().join("foreign");
    std::fs::write(&foreign, "no database, but long enough to be taken for one by nobody at all").unwrap();
    let fourth = outbox_error(within(Client::start(peer.address(), kept(&foreign))).await);
    assert!(matches!(fourth, OutboxError::Foreign(_)), "{fourth}");
    let nowhere = kept(&directory.path().join("none").join("outbox.db"));
    let fifth = outbox_error(within(Client::start(peer.address(), nowhere)).await);
    assert!(matches!(&fifth, OutboxError::Denied(why) if why.contains("there is no directory")), "{fifth}");
    let both = Options { resume: Some(SavedSession::default()), ..kept(&path) };
    assert!(matches!(Client::start(peer.address(), both).await, Err(ConnectError::Options(_))));
    connected(&peer, kept(&path)).await;
}

#[tokio::test]
async fn a_full_pipeline_goes_through_the_disk() {
    let directory = TempDir::new().unwrap();
    let mut script = Script { cut_after: Some(1..20_000), ..Script::default() };
    script.window.messages = 16;
    let peer = Peer::with(script).await;
    let options = Options { outbox_bytes_max: 50_000, close_timeout: ms(60_000), ..kept(&file(&directory)) };
    let client = within(Client::start(peer.address(), options)).await.unwrap();
    let mut deliveries = Vec::new();
    let mut expected = Vec::new();
    for place in 0..400 {
        expected.push(format!("message {place}"));
        let mut message = expected[place].clone().into_bytes();
        message.resize(200, b'.');
        deliveries.push(within(client.push(message)).await.unwrap());
    }
    for delivery in deliveries {
        within(delivery).await.unwrap();
    }
    let committed = peer.committed();
    assert_eq!(committed.len(), expected.len());
    assert!(committed.iter().zip(&expected).all(|(one, other)| one.starts_with(other.as_bytes())));
}
