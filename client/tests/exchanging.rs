//! Messages both ways over a connection that holds: outcomes, refusals, back-pressure, goodbyes.

mod common;

use bytes::Bytes;
use common::{connected, event, in_memory, ms, next, quick, within};
use pulsegate_client::{
    Backoff, Client, CloseReason, ConnectError, Durability, Event, Options, Reason, Retry, SendError,
    TrySendError,
};
use pulsegate_client_peer::{Answer, Handed, Peer, Script};
use pulsegate_core::exchange::Window;

#[tokio::test]
async fn a_message_is_sent_committed_and_confirmed() {
    let peer = Peer::start().await;
    let client = connected(&peer, quick()).await;
    let mut events = client.events();
    let committed = within(client.send("hello")).await;
    assert_eq!(committed, Ok(in_memory(1, 1, 1)));
    assert_eq!(peer.committed(), ["hello"]);
    for expected in [
        Event::Sent { id: 1, number: 1 },
        Event::Committed { id: 1, number: 1, durability: Durability::None },
        Event::Confirmed { id: 1, number: 1 },
    ] {
        assert_eq!(within(events.recv()).await, Some(expected));
    }
    peer.until("the third leg", |world| world.confirmed == 1).await;
}

#[tokio::test]
async fn messages_keep_their_order_and_empty_ones_count() {
    let peer = Peer::start().await;
    let client = connected(&peer, quick()).await;
    let mut deliveries = Vec::new();
    for number in 0..500_u32 {
        let message = if number % 7 == 0 { Vec::new() } else { number.to_be_bytes().to_vec() };
        deliveries.push((message.clone(), within(client.push(message)).await.unwrap()));
    }
    let mut sent = Vec::new();
    for (place, (message, delivery)) in deliveries.into_iter().enumerate() {
        let committed = within(delivery).await.unwrap();
        assert_eq!(committed.number, place as u64 + 1);
        sent.push(Bytes::from(message));
    }
    assert_eq!(peer.committed(), sent);
}

#[tokio::test]
async fn a_refusal_has_its_reason() {
    let peer = Peer::with(Script { refused: Some("bad".into()), ..Script::default() }).await;
    let client = connected(&peer, quick()).await;
    let mut events = client.events();
    let refused = SendError::NotAccepted { code: 3, text: "not wanted".to_owned() };
    assert_eq!(within(client.send("bad one")).await, Err(refused));
    within(client.send("good one")).await.unwrap();
    assert_eq!(peer.committed(), ["good one"]);
    let told = event(&mut events, |event| matches!(event, Event::Refused { .. })).await;
    assert_eq!(told, Event::Refused { id: 1, number: 1, code: 3, text: "not wanted".to_owned() });
}

#[tokio::test]
async fn a_message_that_is_too_large_is_not_sent() {
    let peer = Peer::with(Script { message_bytes_max: 100, ..Script::default() }).await;
    let client = connected(&peer, quick()).await;
    let too_large = SendError::TooLarge { bytes: 101, bytes_max: 100 };
    assert_eq!(within(client.send(vec![0; 101])).await, Err(too_large));
    assert!(matches!(client.try_send(vec![0; 101]), Err(TrySendError::TooLarge { .. })));
    within(client.send(vec![0; 100])).await.unwrap();
    let small = Options { outbox_bytes_max: 80, ..quick() };
    let client = Client::start("127.0.0.1:9", small).await.unwrap();
    assert!(matches!(client.try_send(vec![0; 17]), Err(TrySendError::TooLarge { bytes_max: 16, .. })));
}

#[tokio::test]
async fn what_was_taken_before_the_limit_was_known_is_judged_by_it() {
    let mut peer = Peer::with(Script { message_bytes_max: 100, ..Script::default() }).await;
    peer.fall().await;
    let client = Client::start(peer.address(), quick()).await.unwrap();
    let first = client.try_send("first").unwrap();
    let large = client.try_send(vec![0; 101]).unwrap();
    let last = client.try_send("last").unwrap();
    peer.rise().await;
    assert_eq!(within(first).await.map(|committed| committed.number), Ok(1));
    assert_eq!(within(large).await, Err(SendError::TooLarge { bytes: 101, bytes_max: 100 }));
    assert_eq!(within(last).await, Ok(in_memory(3, 1, 2)));
}

#[tokio::test]
async fn a_full_outbox_holds_back_until_receipts_come() {
    let peer = Peer::with(Script { holds_receipts: true, ..Script::default() }).await;
    let client = connected(&peer, Options { outbox_bytes_max: 1_000, ..quick() }).await;
    let mut deliveries = Vec::new();
    let full = loop {
        match client.try_send(vec![1; 36]) {
            Ok(delivery) => deliveries.push(delivery),
            Err(error) => break error,
        }
    };
    assert_eq!(full, TrySendError::Full(vec![1; 36].into()));
    assert_eq!(deliveries.len(), 10, "36 bytes and 64 for each");
    let pushed = tokio::spawn({
        let client = client.clone();
        async move { client.send("waits").await }
    });
    peer.until("ten messages", |world| world.received == 10).await;
    assert!(!pushed.is_finished());
    peer.script(|script| script.holds_receipts = false);
    assert_eq!(within(pushed).await.unwrap().map(|committed| committed.id), Ok(11));
}

#[tokio::test]
async fn windows_are_kept() {
    let window = Window { messages: 3, bytes: 1_000 };
    let script = Script { window, message_bytes_max: 600, ..Script::default() };
    let peer = Peer::with(script).await;
    let client = connected(&peer, quick()).await;
    let deliveries: Vec<_> =
        (0..50_usize).map(|place| client.try_send(vec![0; place * 97 % 600]).unwrap()).collect();
    for delivery in deliveries {
        within(delivery).await.unwrap();
    }
    assert_eq!(peer.look(|world| world.violations.clone()), []);
}

#[tokio::test]
async fn messages_of_the_gateway_are_receipted_when_they_are_taken() {
    let peer = Peer::start().await;
    let client = connected(&peer, quick()).await;
    for text in ["one", "two", "three", "four"] {
        peer.push(text);
    }
    let (one, two) = (next(&client).await, next(&client).await);
    assert_eq!((one.session(), one.number(), &one.payload()[..]), (1, 1, &b"one"[..]));
    assert_eq!(two.accept(), "two");
    drop(next(&client).await);
    assert_eq!(peer.look(|world| world.handed.clone()), [], "the first one is not judged yet");
    one.refuse(2, "over quota");
    next(&client).await.accept();
    peer.until("all four", |world| world.settled() == 4).await;
    let refused: Vec<_> = peer.look(|world| {
        let refused = world.handed.iter().filter(|handed| matches!(handed, Handed::Refused(..)));
        refused.cloned().collect()
    });
    assert_eq!(refused, [Handed::Refused(1, 2), Handed::Refused(3, 3)]);
    assert_eq!(peer.look(|world| world.violations.clone()), []);
}

#[tokio::test]
async fn more_refusals_than_may_be_kept_are_told_in_pieces() {
    let peer =
        Peer::with(Script { window: Window { messages: 300, bytes: 1 << 20 }, ..Script::default() }).await;
    let client = connected(&peer, quick()).await;
    (0..200).for_each(|_| peer.push("unwanted"));
    for _ in 0..200 {
        next(&client).await.refuse(3, "");
    }
    peer.until("all refusals", |world| world.settled() == 200).await;
    let refused = |handed: &&Handed| matches!(handed, Handed::Refused(..));
    assert_eq!(peer.look(|world| world.handed.iter().filter(refused).count()), 200);
}

#[tokio::test]
async fn close_settles_everything_first() {
    let peer = Peer::start().await;
    let client = connected(&peer, quick()).await;
    let deliveries: Vec<_> = (0..300).map(|_| client.try_send("x").unwrap()).collect();
    let closed = within(client.close()).await;
    assert_eq!((closed.reason, closed.retry), (Reason::Done, Retry::Never));
    for delivery in deliveries {
        within(delivery).await.unwrap();
    }
    peer.until("goodbye", |world| world.byes == [0] && world.open == 0).await;
    assert_eq!(peer.look(|world| world.confirmed), 300, "the third leg comes before the goodbye");
    assert!(matches!(client.try_send("late"), Err(TrySendError::Closed(_))));
    assert_eq!(within(client.send("late")).await, Err(SendError::Closed));
    assert!(within(client.recv()).await.is_none());
    assert_eq!(client.session(), None);
}

#[tokio::test]
async fn close_does_not_wait_for_ever() {
    let peer = Peer::with(Script { holds_receipts: true, ..Script::default() }).await;
    let client = connected(&peer, Options { close_timeout: ms(50), ..quick() }).await;
    let delivery = client.try_send("x").unwrap();
    peer.until("the message", |world| world.received == 1).await;
    assert_eq!(within(client.close()).await.reason, Reason::CloseTimeout);
    assert_eq!(within(delivery).await, Err(SendError::Unknown));
    peer.until("goodbye", |world| world.byes == [1]).await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_session_along() {
    let peer = Peer::with(Script { holds_receipts: true, ..Script::default() }).await;
    let client = connected(&peer, quick()).await;
    let deliveries: Vec<_> = ["a", "b"].into_iter().map(|text| client.try_send(text).unwrap()).collect();
    peer.until("both", |world| world.received == 2).await;
    let saved = within(client.leave()).await.expect("the client lives");
    assert_eq!((saved.session, saved.acknowledged, saved.sent), (1, 0, 2));
    for delivery in deliveries {
        assert_eq!(within(delivery).await, Err(SendError::Kept));
    }
    peer.until("goodbye", |world| world.byes == [1] && world.open == 0).await;
    assert_eq!(within(client.leave()).await, None);
    peer.script(|script| script.holds_receipts = false);
    let client = connected(&peer, Options { resume: Some(saved), ..quick() }).await;
    let mut restored = client.restored();
    assert_eq!(within(client.send("c")).await, Ok(in_memory(3, 1, 3)));
    assert_eq!(within(restored.remove(1)).await, Ok(in_memory(2, 1, 2)));
    assert_eq!(peer.committed(), ["a", "b", "c"]);
    assert!(client.restored().is_empty());
}

#[tokio::test]
async fn dropping_all_handles_cuts_the_connection() {
    let peer = Peer::with(Script { holds_receipts: true, ..Script::default() }).await;
    let client = connected(&peer, quick()).await;
    let other = client.clone();
    let delivery = client.try_send("x").unwrap();
    peer.until("the message", |world| world.received == 1).await;
    drop(client);
    within(other.push("y")).await.unwrap().stored().await;
    let mut events = other.events();
    drop(other);
    assert_eq!(within(delivery).await, Err(SendError::Unknown));
    peer.until("the end", |world| world.open == 0).await;
    assert_eq!(peer.look(|world| world.byes.clone()), []);
    while within(events.recv()).await.is_some() {}
}

#[tokio::test]
async fn a_gateway_that_says_never_ends_the_client() {
    let peer = Peer::with(Script { holds_receipts: true, ..Script::default() }).await;
    let window = Window { messages: 1, bytes: 1 << 20 };
    peer.script(|script| script.window = window);
    let client = connected(&peer, quick()).await;
    let (sent, waiting) = (client.try_send("sent").unwrap(), client.try_send("waits").unwrap());
    peer.until("the first", |world| world.received == 1).await;
    peer.bye(&Answer { text: "go away".to_owned(), ..Answer::new(CloseReason::MalformedFrame.code(), 0) });
    let closed = within(client.closed()).await;
    assert_eq!(closed.reason, Reason::Gateway(32));
    assert_eq!(closed.reason.close_reason(), Some(CloseReason::MalformedFrame));
    assert_eq!((closed.retry, closed.text.as_str()), (Retry::Never, "go away"));
    assert_eq!(within(sent).await, Err(SendError::Unknown));
    assert_eq!(within(waiting).await, Err(SendError::Closed));
}

#[tokio::test]
async fn the_first_attempt_of_connect_has_to_succeed() {
    let peer = Peer::start().await;
    peer.script(|script| script.answers.push_back(Answer::new(CloseReason::AtCapacity.code(), 2)));
    match within(Client::connect(peer.address(), quick())).await {
        Err(ConnectError::Closed(closed)) => assert_eq!(closed.reason.as_str(), "at capacity"),
        other => panic!("{other:?}"),
    }
    let nobody = within(Client::connect("127.0.0.1:1", quick())).await;
    assert!(matches!(nobody, Err(ConnectError::Closed(closed)) if closed.reason == Reason::Unreachable));
    let options = Options { id: String::new(), ..quick() };
    assert!(matches!(Client::connect(peer.address(), options).await, Err(ConnectError::Options(_))));
}

#[tokio::test]
async fn notices_are_events() {
    let peer = Peer::start().await;
    let client = connected(&peer, quick()).await;
    let mut events = client.events();
    peer.notice(2, ms(1_500), "draining");
    let told = event(&mut events, |event| matches!(event, Event::Notice { .. })).await;
    assert_eq!(told, Event::Notice { code: 2, within: ms(1_500), text: "draining".to_owned() });
}

#[tokio::test]
async fn the_longest_durations_are_as_good_as_none() {
    let longest = std::time::Duration::MAX;
    let options = Options {
        connect_timeout: longest,
        opening_timeout: longest,
        write_stall: longest,
        close_timeout: longest,
        backoff: Backoff { first: ms(1), longest, steady: longest },
        ..quick()
    };
    let peer = Peer::start().await;
    let client = connected(&peer, options).await;
    within(client.send("one")).await.unwrap();
    let mut events = client.events();
    peer.cut();
    event(&mut events, |event| matches!(event, Event::Connected(_))).await;
    within(client.send("two")).await.unwrap();
    assert_eq!(within(client.close()).await.reason, Reason::Done);
    assert_eq!(peer.committed(), ["one", "two"]);
    // The beats are told to the gateway, in 32 bits.
    let options = Options { beat_max: longest, ..quick() };
    assert!(matches!(Client::connect(peer.address(), options).await, Err(ConnectError::Options(_))));
    // A wait that would never end is a wait like any other: the client can be left.
    let backoff = Backoff { first: longest, longest, steady: longest };
    let client = connected(&peer, Options { backoff, ..quick() }).await;
    let mut events = client.events();
    peer.cut();
    event(&mut events, |event| matches!(event, Event::Reconnecting { .. })).await;
    within(client.leave()).await.unwrap();
}
