//! Connections that end, and what a client does about it: it comes back, resumes, begins anew, or gives up.

mod common;

use common::{connected, event, in_memory, ms, next, quick, within};
use pulsegate_client::{Client, CloseReason, Event, Events, Options, Reason, Reconnect, Retry, SendError};
use pulsegate_client_peer::{Answer, Handed, Peer, Script};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

#[tokio::test]
async fn what_was_in_flight_goes_again_and_once() {
    let peer = Peer::with(Script { holds_receipts: true, ..Script::default() }).await;
    let client = connected(&peer, quick()).await;
    let mut events = client.events();
    let deliveries: Vec<_> = ["a", "b", "c"].into_iter().map(|text| client.try_send(text).unwrap()).collect();
    peer.until("all three", |world| world.received == 3).await;
    peer.cut();
    let lost = event(&mut events, |event| matches!(event, Event::Disconnected(_))).await;
    assert!(matches!(lost, Event::Disconnected(closed) if closed.reason == Reason::Lost));
    event(&mut events, |event| matches!(event, Event::Connected(connected) if connected.resumed)).await;
    peer.until("all three again", |world| world.received == 6).await;
    peer.script(|script| script.holds_receipts = false);
    for (place, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(within(delivery).await.map(|committed| committed.number), Ok(place as u64 + 1));
    }
    assert_eq!(peer.committed(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_welcome_settles_what_its_lost_receipts_did_not() {
    let peer = Peer::start().await;
    let client = connected(&peer, quick()).await;
    peer.script(|script| script.is_mute = true);
    let delivery = client.try_send("x").unwrap();
    peer.until("the commit", |world| world.committed.len() == 1).await;
    peer.script(|script| script.is_mute = false);
    peer.cut();
    assert_eq!(within(delivery).await, Ok(in_memory(1, 1, 1)));
    assert_eq!(peer.committed(), ["x"]);
}

#[tokio::test]
async fn a_refusal_that_was_lost_is_heard_from_welcome() {
    let peer = Peer::with(Script { refused: Some("bad".into()), ..Script::default() }).await;
    let client = connected(&peer, quick()).await;
    peer.script(|script| script.is_mute = true);
    let delivery = client.try_send("bad").unwrap();
    peer.until("the message", |world| world.received == 1).await;
    peer.script(|script| script.is_mute = false);
    peer.cut();
    assert_eq!(within(delivery).await, Err(SendError::NotAccepted { code: 3, text: String::new() }));
}

#[tokio::test]
async fn no_number_of_lost_welcomes_locks_a_client_out() {
    let peer = Peer::start().await;
    let client = connected(&peer, quick()).await;
    within(client.send("one")).await.unwrap();
    peer.script(|script| script.lost_welcomes = 5);
    peer.cut();
    assert_eq!(within(client.send("two")).await.map(|committed| committed.number), Ok(2));
    assert_eq!(peer.look(|world| (world.hellos.len(), world.hellos[6].session)), (7, 1));
}

#[tokio::test]
async fn a_session_that_is_gone_leaves_unknown_what_was_sent_and_goes_on_with_the_rest() {
    let mut script = Script { holds_receipts: true, ..Script::default() };
    script.window.messages = 2;
    let peer = Peer::with(script).await;
    let client = connected(&peer, quick()).await;
    let mut events = client.events();
    let deliveries: Vec<_> =
        ["a", "b", "c", "d"].into_iter().map(|text| client.try_send(text).unwrap()).collect();
    peer.until("as many as the window has", |world| world.received == 2).await;
    peer.script(|script| script.holds_receipts = false);
    peer.look(|world| assert_eq!(world.committed.len(), 0));
    peer.script(|script| script.holds_receipts = true);
    peer.forget();
    event(&mut events, |event| matches!(event, Event::Connected(connected) if !connected.resumed)).await;
    peer.script(|script| script.holds_receipts = false);
    let mut outcomes = Vec::new();
    for delivery in deliveries {
        outcomes.push(within(delivery).await);
    }
    assert_eq!(outcomes[0..2], [Err(SendError::Unknown), Err(SendError::Unknown)]);
    assert_eq!(outcomes[2], Ok(in_memory(3, 2, 1)));
    assert_eq!(outcomes[3], Ok(in_memory(4, 2, 2)));
    assert!(peer.committed().ends_with(&["c".into(), "d".into()]));
}

#[tokio::test]
async fn a_bad_token_begins_a_new_session_once() {
    let peer = Peer::with(Script { holds_receipts: true, ..Script::default() }).await;
    let client = connected(&peer, quick()).await;
    let delivery = client.try_send("x").unwrap();
    peer.until("the message", |world| world.received == 1).await;
    peer.script(|script| script.answers.push_back(Answer::new(CloseReason::BadToken.code(), 0)));
    peer.cut();
    assert_eq!(within(delivery).await, Err(SendError::Unknown));
    peer.script(|script| script.holds_receipts = false);
    assert_eq!(within(client.send("y")).await.map(|committed| committed.session), Ok(2));
    // Somebody without a session can't have a bad token: that is the end.
    peer.script(|script| {
        script.answers.extend([50, 50].map(|code| Answer::new(code, 0)));
    });
    peer.cut();
    assert_eq!(within(client.closed()).await.reason, Reason::Gateway(50));
}

#[tokio::test]
async fn each_retry_class_is_obeyed() {
    let peer = Peer::start().await;
    let client = connected(&peer, quick()).await;
    let mut events = client.events();
    peer.bye(&Answer::new(CloseReason::MaxAge.code(), 1));
    event(&mut events, |event| matches!(event, Event::Connected(_))).await;
    let answer = Answer { delay_ms: 300, ..Answer::new(CloseReason::Drain.code(), 2) };
    let before = Instant::now();
    peer.bye(&answer);
    let told = event(&mut events, |event| matches!(event, Event::Reconnecting { .. })).await;
    assert!(matches!(told, Event::Reconnecting { after, .. } if after >= ms(300)), "{told:?}");
    event(&mut events, |event| matches!(event, Event::Connected(_))).await;
    assert!(before.elapsed() >= ms(300), "never early");
    peer.script(|script| script.answers.push_back(answer));
    peer.cut();
    let told = event(
        &mut events,
        |event| matches!(event, Event::Disconnected(closed) if closed.reason != Reason::Lost),
    );
    assert!(matches!(told.await, Event::Disconnected(closed) if closed.reason.as_str() == "drain"));
    event(&mut events, |event| matches!(event, Event::Connected(_))).await;
    peer.bye(&Answer::new(999, 0));
    assert_eq!(within(client.closed()).await.reason, Reason::Gateway(999));
}

#[tokio::test]
async fn attempts_may_be_bounded() {
    let mut peer = Peer::start().await;
    let client = connected(&peer, Options { reconnect: Reconnect::Times(3), ..quick() }).await;
    let mut events = client.events();
    peer.fall().await;
    event(&mut events, |event| matches!(event, Event::Disconnected(_))).await;
    let delivery = client.try_send("never sent").unwrap();
    assert_eq!(within(client.closed()).await.reason, Reason::Unreachable);
    assert_eq!(within(delivery).await, Err(SendError::Closed));
    let mut attempts = 0;
    while let Some(event) = within(events.recv()).await {
        attempts += u32::from(matches!(event, Event::Reconnecting { .. }));
    }
    assert_eq!(attempts, 3);
    peer.rise().await;
    let client = connected(&peer, Options { reconnect: Reconnect::Never, ..quick() }).await;
    peer.cut();
    assert_eq!(within(client.closed()).await.reason, Reason::Lost);
}

#[tokio::test]
async fn a_gateway_that_was_away_finds_everything_in_order() {
    let mut peer = Peer::start().await;
    let client = connected(&peer, quick()).await;
    let mut expected = Vec::new();
    for round in 0..5 {
        peer.fall().await;
        for place in 0..20 {
            let message = format!("{round} {place}");
            expected.push(message.clone());
            drop(within(client.push(message)).await.unwrap());
        }
        peer.rise().await;
        within(client.send(format!("{round} last"))).await.unwrap();
        expected.push(format!("{round} last"));
    }
    assert_eq!(peer.committed(), expected);
}

#[tokio::test]
async fn messages_of_the_gateway_come_once_over_several_connections() {
    let peer = Peer::start().await;
    let client = connected(&peer, quick()).await;
    let mut events = client.events();
    ["one", "two", "three"].into_iter().for_each(|text| peer.push(text));
    let (one, two) = (next(&client).await, next(&client).await);
    peer.cut();
    // Judged while there is no connection, or one that doesn't know yet: both are told later.
    two.refuse(2, "");
    one.accept();
    event(&mut events, |event| matches!(event, Event::Connected(_))).await;
    assert_eq!(next(&client).await.accept(), "three");
    peer.until("all three", |world| world.settled() == 3).await;
    peer.push("four");
    assert_eq!(next(&client).await.accept(), "four");
    let hailed = peer.look(|world| world.hellos[1].clone());
    let told = peer.look(|world| world.handed.contains(&Handed::Refused(2, 2)));
    assert!(told || hailed.refused == [(2, 2)], "{hailed:?}");
}

#[tokio::test]
async fn what_the_gateway_has_lost_is_told() {
    let peer = Peer::start().await;
    let client = connected(&peer, quick()).await;
    let mut events = client.events();
    for _ in 0..3 {
        within(client.send("x")).await.unwrap();
    }
    peer.script(|script| {
        script.edit = Some(Arc::new(|welcome| welcome.lost = (2, 3)));
    });
    peer.cut();
    let told = event(&mut events, |event| matches!(event, Event::Lost { .. })).await;
    assert_eq!(told, Event::Lost { first: 2, last: 3 });
    assert_eq!(within(client.send("y")).await.map(|committed| committed.number), Ok(4));
}

#[tokio::test]
async fn what_the_client_has_lost_is_told_and_gone_on_above() {
    let peer = Peer::start().await;
    let client = connected(&peer, quick()).await;
    ["one", "two"].into_iter().for_each(|text| peer.push(text));
    next(&client).await.accept();
    next(&client).await.accept();
    peer.until("both", |world| world.settled() == 2).await;
    let mut saved = within(client.leave()).await.unwrap();
    saved.committed = 0;
    let client = Client::start(peer.address(), Options { resume: Some(saved), ..quick() }).await.unwrap();
    let mut events = client.events();
    let told = event(&mut events, |event| matches!(event, Event::Missed { .. })).await;
    assert_eq!(told, Event::Missed { first: 1, last: 2 });
    peer.push("three");
    let message = next(&client).await;
    assert_eq!((message.number(), message.accept()), (3, "three".into()));
    peer.until("the third", |world| world.settled() == 3).await;
}

#[tokio::test]
async fn a_client_that_was_restored_from_an_old_copy_begins_anew() {
    let peer = Peer::start().await;
    let client = connected(&peer, quick()).await;
    within(client.send("known")).await.unwrap();
    let saved = within(client.leave()).await.unwrap();
    let mut newer = Options { resume: Some(saved.clone()), ..quick() };
    let client = connected(&peer, newer.clone()).await;
    within(client.send("forgotten")).await.unwrap();
    let mut token = within(client.leave()).await.unwrap();
    // The copy is old but for the token, without which it would not get in.
    (token.acknowledged, token.unsettled) = (saved.acknowledged, Vec::new());
    newer.resume = Some(token);
    let client = connected(&peer, newer).await;
    assert_eq!(
        within(client.send("new")).await.map(|committed| (committed.session, committed.number)),
        Ok((2, 1))
    );
    assert_eq!(peer.committed(), ["known", "forgotten", "new"]);
    assert_eq!(peer.look(|world| world.byes.clone()), [1, 1, 1]);
}

#[tokio::test]
async fn a_welcome_to_another_session_is_not_believed() {
    let peer = Peer::with(Script { holds_receipts: true, ..Script::default() }).await;
    let client = connected(&peer, quick()).await;
    let delivery = client.try_send("x").unwrap();
    peer.until("the message", |world| world.received == 1).await;
    peer.script(|script| {
        script.edit = Some(Arc::new(|welcome| welcome.session += 10 * u64::from(welcome.resumed)));
    });
    peer.cut();
    assert_eq!(within(delivery).await, Err(SendError::Unknown));
    peer.script(|script| script.holds_receipts = false);
    within(client.send("y")).await.unwrap();
    assert_eq!(peer.look(|world| world.byes.clone()), [35]);
}

#[tokio::test]
async fn a_gateway_that_breaks_a_rule_is_told_so() {
    let peer = Peer::start().await;
    let client = connected(&peer, Options { message_bytes_max: 10, ..quick() }).await;
    let mut events = client.events();
    peer.push(vec![0; 11]);
    let told = event(&mut events, |event| matches!(event, Event::Disconnected(_))).await;
    let reason = Reason::BrokenRule(CloseReason::FrameTooLarge);
    assert!(matches!(told, Event::Disconnected(closed) if closed.reason == reason));
    peer.until("the goodbye", |world| world.byes == [34]).await;
    let closed = within(client.closed()).await;
    assert_eq!((closed.reason, closed.retry), (reason, Retry::Never), "the same would happen again");
}

#[tokio::test]
async fn an_end_that_was_announced_makes_nobody_wait_longer() {
    let peer = Peer::start().await;
    let mut options = quick();
    options.backoff.steady = ms(3_600_000);
    let client = connected(&peer, options).await;
    let mut events = client.events();
    let failures = async |events: &mut Events| {
        let told = event(events, |event| matches!(event, Event::Reconnecting { .. })).await;
        event(events, |event| matches!(event, Event::Connected(_))).await;
        let Event::Reconnecting { failures, .. } = told else { unreachable!("{told:?}") };
        failures
    };
    for code in [CloseReason::ShortDeadline, CloseReason::MaxAge, CloseReason::Drain] {
        peer.bye(&Answer::new(code.code(), 1 + u8::from(code == CloseReason::Drain)));
        assert_eq!(failures(&mut events).await, 0, "{code:?}");
    }
    peer.notice(2, ms(0), "the gateway is draining");
    event(&mut events, |event| matches!(event, Event::Notice { .. })).await;
    peer.cut();
    assert_eq!(failures(&mut events).await, 0, "it was announced that the connection would end");
    peer.cut();
    assert_eq!(failures(&mut events).await, 1);
    peer.bye(&Answer::new(CloseReason::WriteStall.code(), 2));
    assert_eq!(failures(&mut events).await, 2);
    within(client.send("x")).await.unwrap();
    peer.cut();
    assert_eq!(failures(&mut events).await, 0, "a receipt was success");
    peer.script(|script| {
        script.answers.extend([1, 1].map(|retry| Answer::new(CloseReason::Application.code(), retry)));
    });
    peer.cut();
    assert_eq!(failures(&mut events).await, 1, "the cut");
    within(client.send("y")).await.unwrap();
    assert_eq!(peer.look(|world| world.script.answers.len()), 0, "who was not let in may well wait longer");
}

/// A server that does the same with each connection, which it counts.
async fn server<F: Future<Output = ()> + Send + 'static>(
    behave: impl Fn(TcpStream, usize) -> F + Send + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback address");
    let address = listener.local_addr().expect("a loopback address");
    let serve = async move {
        for place in 0.. {
            let (stream, _) = listener.accept().await.expect("a loopback address");
            tokio::spawn(behave(stream, place));
        }
    };
    (address, tokio::spawn(serve))
}

/// Reads the greeting and ends the stream in good order.
async fn say_nothing(mut stream: TcpStream) {
    let mut input = [0; 1024];
    let _ = stream.read(&mut input).await;
    let _ = stream.shutdown().await;
    while matches!(stream.read(&mut input).await, Ok(1..)) {}
}

#[tokio::test]
async fn what_is_no_frame_is_no_gateway() {
    for answer in ["PULSE\0\u{1}\n", "220 ready\r\n", "\n", "HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let answer_all = move |mut stream: TcpStream, _| async move {
            let _ = stream.write_all(answer.as_bytes()).await;
            say_nothing(stream).await;
        };
        let (address, serving) = server(answer_all).await;
        let client = Client::start(address, quick()).await.unwrap();
        let delivery = client.try_send("x").unwrap();
        let closed = within(client.closed()).await;
        assert_eq!((&closed.reason, closed.retry), (&Reason::NotPulse, Retry::Never), "{answer:?}: {closed}");
        assert_eq!(within(delivery).await, Err(SendError::Closed));
        serving.abort();
    }
}

#[tokio::test]
async fn a_raw_listener_that_ends_each_time_without_a_word_is_given_up() {
    let (address, serving) = server(|stream, _| say_nothing(stream)).await;
    let client = Client::start(address, Options { unanswered_max: 4, ..quick() }).await.unwrap();
    let mut events = client.events();
    let closed = within(client.closed()).await;
    assert_eq!(closed.reason, Reason::NotPulse);
    assert!(closed.text.starts_with("4 connections in a row"), "{closed}");
    let mut attempts = 0;
    while let Some(event) = within(events.recv()).await {
        attempts += u32::from(matches!(event, Event::Disconnected(_)));
    }
    assert_eq!(attempts, 4);
    serving.abort();
}

#[tokio::test]
async fn a_gateway_that_restarts_is_not_taken_for_a_raw_listener() {
    // Two ends without a word, as of a proxy whose gateway is away, and then something else each time.
    let behave = |stream: TcpStream, place: usize| async move {
        if place % 3 < 2 {
            return say_nothing(stream).await;
        }
        let _ = stream.set_zero_linger();
    };
    let (address, serving) = server(behave).await;
    let client = Client::start(address, Options { unanswered_max: 3, ..quick() }).await.unwrap();
    let mut events = client.events();
    for _ in 0..12 {
        event(&mut events, |event| matches!(event, Event::Reconnecting { .. })).await;
    }
    drop(client);
    serving.abort();
    // Who has a session knows that there is a gateway.
    let mut peer = Peer::start().await;
    let client = connected(&peer, Options { unanswered_max: 3, ..quick() }).await;
    let mut events = client.events();
    peer.fall().await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(peer.address()).unwrap();
    let listener = socket.listen(8).unwrap();
    let mute = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(say_nothing(stream));
        }
    });
    let is_mute =
        |event: &Event| matches!(event, Event::Disconnected(closed) if closed.text.contains("word"));
    for _ in 0..6 {
        event(&mut events, is_mute).await;
    }
    mute.abort();
    let _ = mute.await;
    peer.rise().await;
    within(client.send("x")).await.unwrap();
}

#[tokio::test]
async fn a_welcome_that_takes_receipts_back_is_a_broken_rule() {
    let peer = Peer::start().await;
    let client = connected(&peer, quick()).await;
    within(client.send("x")).await.unwrap();
    peer.script(|script| {
        script.edit = Some(Arc::new(|welcome| welcome.committed -= u64::from(welcome.resumed)));
    });
    peer.cut();
    peer.until("the goodbye", |world| world.byes == [32]).await;
    assert_eq!(within(client.send("y")).await.map(|committed| committed.session), Ok(2));
}
