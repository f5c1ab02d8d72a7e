//! Heartbeats, questions, and gateways that say nothing. Nothing here is judged by how fast the machine is.

mod common;

use common::{connected, event, ms, quick, within};
use pulsegate_client::{Client, Event, Options, Reason, SendError};
use pulsegate_client_peer::{Peer, Script};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

fn restless() -> Script {
    Script { beat_interval: ms(50), beat_timeout: ms(200), ..Script::default() }
}

#[tokio::test]
async fn an_idle_client_beats_by_itself() {
    let peer = Peer::with(restless()).await;
    let _client = connected(&peer, quick()).await;
    peer.until("ten beats", |world| world.signs >= 10).await;
    assert_eq!(peer.look(|world| world.hellos.len()), 1, "the connection holds");
}

#[tokio::test]
async fn a_question_is_answered() {
    let peer = Peer::start().await;
    let client = connected(&peer, quick()).await;
    let before = peer.look(|world| world.signs);
    peer.ask();
    peer.until("the answer", |world| world.signs > before).await;
    within(client.send("x")).await.unwrap();
}

#[tokio::test]
async fn a_quiet_gateway_that_answers_is_kept() {
    let peer = Peer::with(restless()).await;
    let client = connected(&peer, quick()).await;
    // Longer than its patience, several times over: without answers it would have been given up.
    peer.until("many beats", |world| world.signs >= 30).await;
    assert_eq!(peer.look(|world| world.hellos.len()), 1);
    within(client.send("x")).await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_has_vanished_is_asked_and_given_up() {
    let peer = Peer::with(restless()).await;
    let client = connected(&peer, quick()).await;
    let mut events = client.events();
    peer.script(|script| script.is_mute = true);
    let delivery = client.try_send("in flight").unwrap();
    let told = event(&mut events, |event| matches!(event, Event::Disconnected(_))).await;
    assert!(matches!(told, Event::Disconnected(closed) if closed.reason == Reason::Silent));
    peer.script(|script| script.is_mute = false);
    within(delivery).await.unwrap();
    assert_eq!(peer.committed(), ["in flight"]);
}

#[tokio::test]
async fn a_gateway_that_does_not_let_in_is_given_up() {
    let peer = Peer::with(Script { is_mute: true, ..Script::default() }).await;
    let options = Options { opening_timeout: ms(50), ..quick() };
    let client = Client::start(peer.address(), options).await.unwrap();
    let mut events = client.events();
    let told = event(&mut events, |event| matches!(event, Event::Disconnected(_))).await;
    assert!(matches!(told, Event::Disconnected(closed) if closed.reason == Reason::OpeningTimeout));
    peer.script(|script| script.is_mute = false);
    within(client.send("x")).await.unwrap();
}

#[tokio::test]
async fn close_waits_for_no_session_that_nobody_has() {
    let peer = Peer::with(Script { is_mute: true, ..Script::default() }).await;
    let for_ever = Duration::from_secs(1_000);
    let options = Options { opening_timeout: for_ever, close_timeout: for_ever, ..quick() };
    let client = Client::start(peer.address(), options).await.unwrap();
    peer.until("a greeting", |world| !world.hellos.is_empty()).await;
    assert_eq!(within(client.close()).await.reason, Reason::Done);
    peer.until("a goodbye", |world| world.byes == [0]).await;
}

#[tokio::test]
async fn a_gateway_that_takes_nothing_is_given_up_while_it_is_heard() {
    let mut script = restless();
    // The window is larger than what two sockets hold.
    (script.window.bytes, script.message_bytes_max) = (64 << 20, 16_000_000);
    let peer = Peer::with(script).await;
    let client =
        connected(&peer, Options { write_stall: ms(200), outbox_bytes_max: 100 << 20, ..quick() }).await;
    let mut events = client.events();
    peer.script(|script| script.is_deaf = true);
    let deliveries: Vec<_> = (0..4).map(|_| client.try_send(vec![0; 15_000_000]).unwrap()).collect();
    // It still talks: reading goes on while writing is stuck.
    peer.notice(3, ms(0), "the store can't write");
    event(&mut events, |event| matches!(event, Event::Notice { code: 3, .. })).await;
    let told = event(&mut events, |event| matches!(event, Event::Disconnected(_))).await;
    assert!(matches!(told, Event::Disconnected(closed) if closed.reason == Reason::Stalled));
    peer.script(|script| script.is_deaf = false);
    for delivery in deliveries {
        within(delivery).await.unwrap();
    }
}

/// Passes bytes on between a client and the peer, those to the peer only once it is opened, and counts them up to where
/// the answer to a question begins.
async fn gate(peer: &Peer, is_open: Arc<Notify>) -> (SocketAddr, JoinHandle<usize>) {
    const ANSWER: &[u8] = &[3, 0, 0, 1, 2];
    let (listener, to) =
        (TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback address"), peer.address());
    let address = listener.local_addr().expect("a loopback address");
    let pass = async move {
        let (client, _) = listener.accept().await.expect("a client");
        let server = TcpStream::connect(to).await.expect("the peer listens");
        let ((mut client, mut to_client), (mut server, mut to_server)) =
            (client.into_split(), server.into_split());
        let back = tokio::spawn(async move { tokio::io::copy(&mut server, &mut to_client).await });
        let (mut input, mut before, mut bytes) = (vec![0; 16 * 1024], Vec::new(), 0);
        let mut wait = std::pin::pin!(is_open.notified());
        let mut waits = false;
        loop {
            // The greeting and the first beat have to pass.
            if bytes > 100 && !std::mem::replace(&mut waits, true) {
                wait.as_mut().await;
            }
            let count = client.read(&mut input).await.expect("the client sends");
            to_server.write_all(&input[..count]).await.expect("the peer takes it");
            before.extend_from_slice(&input[..count]);
            if let Some(place) = before.windows(ANSWER.len()).position(|bytes| bytes == ANSWER) {
                back.abort();
                return bytes + place;
            }
            bytes += before.len() - before.len().min(ANSWER.len());
            before.drain(..before.len() - before.len().min(ANSWER.len()));
        }
    };
    (address, tokio::spawn(pass))
}

#[tokio::test]
async fn an_answer_overtakes_what_waits() {
    let mut script = Script::default();
    (script.window.bytes, script.window.messages) = (64 << 20, 1_000);
    let peer = Peer::with(script).await;
    let is_open = Arc::new(Notify::new());
    let (address, passing) = gate(&peer, Arc::clone(&is_open)).await;
    let client = within(Client::connect(address, quick())).await.unwrap();
    let deliveries: Vec<_> = (0..200).map(|_| client.try_send(vec![0; 60_000]).unwrap()).collect();
    // Time enough to fill what takes it. If it isn't, less waits.
    tokio::time::sleep(ms(300)).await;
    peer.ask();
    tokio::time::sleep(ms(200)).await;
    is_open.notify_one();
    let before = within(passing).await.unwrap();
    assert!(before < 2 << 20, "{before} bytes of 12,000,000 went before the answer");
    drop(deliveries);
}

#[tokio::test]
async fn a_client_can_leave_a_gateway_that_takes_nothing() {
    let mut script = Script::default();
    (script.window.bytes, script.message_bytes_max) = (64 << 20, 16_000_000);
    let peer = Peer::with(script).await;
    let client = connected(&peer, Options { outbox_bytes_max: 100 << 20, ..quick() }).await;
    peer.script(|script| script.is_deaf = true);
    let delivery = client.try_send(vec![0; 15_000_000]).unwrap();
    let saved = within(client.leave()).await.unwrap();
    assert_eq!(saved.unsettled.len(), 1);
    assert_eq!(within(delivery).await, Err(SendError::Kept));
}
