//! More refusals in flight than may stand unconfirmed: what is behind them waits, in order, for the client to confirm
//! (PROTOCOL.md section 7.3), within limits, and no longer than its connection lives.

use crate::driver::{Driver, committed, detach, message, returner};
use pulsegate_store::{
    Attachment, Durability, EndReason, Refusal, RefusalCode, Reply, Request, Seat, StoreConfig,
};
use std::time::Duration;

/// Payloads of more than a byte are refused.
fn config() -> StoreConfig {
    StoreConfig { message_bytes_max: 1, ..StoreConfig::default() }
}

fn refused(session: u64, epoch: u64, number: u64) -> Reply {
    let refusal = Refusal { number, code: RefusalCode::TooLarge };
    Reply::Refused { seat: Seat::new(100 + u128::from(number), session, epoch), refusal }
}

fn confirm(session: u64, epoch: u64, floor: u64) -> Request {
    Request::Confirm { attachment: Attachment { session, epoch }, floor }
}

/// The numbers that were refused, and the last receipt.
fn summary(replies: &[Reply]) -> (Vec<u64>, Option<u64>) {
    let numbers = replies.iter().filter_map(|reply| match reply {
        Reply::Refused { refusal, .. } => Some(refusal.number),
        _ => None,
    });
    let last = replies.iter().rev().find_map(|reply| match reply {
        Reply::Committed { committed, .. } => Some(*committed),
        _ => None,
    });
    (numbers.collect(), last)
}

/// What a client does: it confirms whatever it got a receipt for, until nothing more comes. Returns the numbers that
/// were refused, and what the last receipt said.
fn exchange(driver: &mut Driver, session: u64, first: Vec<Request>) -> (Vec<u64>, u64) {
    let (mut refused, mut last) = (Vec::new(), 0);
    let mut requests = first;
    loop {
        let mut replies = driver.ask(std::mem::take(&mut requests));
        // What was let go is judged in batches of its own, after the one that says so.
        replies.extend(driver.ask([]));
        replies.extend(driver.ask([]));
        assert!(!replies.iter().any(|reply| matches!(reply, Reply::Ended { .. })), "{replies:?}");
        let (numbers, committed) = summary(&replies);
        refused.extend(numbers);
        match committed {
            Some(committed) => last = committed,
            None => return (refused, last),
        }
        requests.push(confirm(session, 1, last));
    }
}

#[test]
fn more_refusals_than_may_stand_all_get_their_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), config());
    let session = driver.begin("a", 1).session();
    let sent: Vec<_> = (1..=1000).map(|number| message(session, 1, number, b"large")).collect();
    let (first, last) = summary(&driver.ask(sent));
    assert_eq!((first, last), ((1..=64).collect(), Some(64)), "no more than may stand");
    let (rest, last) = exchange(&mut driver, session, vec![confirm(session, 1, 64)]);
    assert_eq!((rest, last), ((65..=1000).collect(), 1000));
    assert_eq!(driver.stored().len(), 0);
}

#[test]
fn what_is_accepted_behind_a_refusal_that_waits_keeps_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), config());
    let session = driver.begin("a", 1).session();
    let is_fine = |number: u64| number.is_multiple_of(10);
    let payload = |number| if is_fine(number) { b"x".as_slice() } else { b"large" };
    // In pieces, so that some come while others wait already.
    let mut outcomes = Vec::new();
    for from in [1, 71, 131] {
        outcomes
            .extend(driver.ask((from..from + 60).map(|number| message(session, 1, number, payload(number)))));
        if from == 1 {
            outcomes.extend(driver.ask((61..71).map(|number| message(session, 1, number, payload(number)))));
        }
    }
    let (mut numbers, last) = summary(&outcomes);
    assert_eq!((numbers.len(), last), (64, Some(71)), "what is accepted before needs no place");
    let (rest, last) = exchange(&mut driver, session, vec![confirm(session, 1, 71)]);
    numbers.extend(rest);
    assert_eq!(last, 190);
    assert!(numbers.iter().copied().eq((1..=190).filter(|&number| !is_fine(number))));
    let stored = driver.stored();
    assert!(stored.iter().map(|message| message.number).eq((1..=190).filter(|&number| is_fine(number))));
}

#[test]
fn a_confirmation_of_a_few_lets_a_few_be_judged() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), config());
    let session = driver.begin("a", 1).session();
    driver.ask((1..=100).map(|number| message(session, 1, number, b"large")));
    for floor in 1..=36 {
        let mut replies = driver.ask([confirm(session, 1, floor)]);
        replies.extend(driver.ask([]));
        assert_eq!(replies, [refused(session, 1, 64 + floor), committed(session, 1, 64 + floor)]);
    }
}

#[test]
fn a_store_in_memory_hands_on_what_has_waited() {
    let mut driver = Driver::open_in_memory(StoreConfig { durability: Durability::None, ..config() });
    let session = driver.begin("a", 1).session();
    let payload = |number| if number == 100 { b"x".as_slice() } else { b"large" };
    driver.ask((1..=100).map(|number| message(session, 1, number, payload(number))));
    assert_eq!(driver.forwarded().len(), 0);
    let (_, last) = exchange(&mut driver, session, vec![confirm(session, 1, 64)]);
    let forwarded = driver.forwarded();
    assert_eq!((last, forwarded.len()), (100, 1));
    assert_eq!((forwarded[0].number, &*forwarded[0].payload), (100, b"x".as_slice()));
}

#[test]
fn who_never_confirms_is_ended_after_half_a_minute_and_goes_on_when_it_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), config());
    let session = driver.begin("a", 1).session();
    driver.ask((1..=70).map(|number| message(session, 1, number, b"large")));
    for _ in 0..29 {
        assert_eq!(driver.pass(Duration::from_secs(1)), []);
    }
    let ended = Reply::Ended { seat: Seat::new(165, session, 1), number: 65, why: EndReason::Unconfirmed };
    assert_eq!(driver.pass(Duration::from_secs(1)), [ended]);
    assert_eq!(driver.ask([message(session, 1, 71, b"x")]), [], "what still comes is not a gap");
    assert_eq!(driver.ask([confirm(session, 1, 64)]), []);
    driver.ask([detach(session, 1, false, driver.now)]);

    let mut attach = returner("a", session, 1, 2, driver.now);
    attach.resume.as_mut().unwrap().acknowledged = 64;
    let attached = driver.attach(attach).unwrap();
    assert_eq!((attached.epoch(), attached.committed, attached.refused.as_slice()), (2, 64, [].as_slice()));
    let replies = driver.ask((65..=70).map(|number| message(session, 2, number, b"large")));
    assert_eq!(summary(&replies), ((65..=70).collect(), Some(70)));
}

#[test]
fn a_confirmation_in_time_begins_the_wait_anew() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), config());
    let session = driver.begin("a", 1).session();
    driver.ask((1..=70).map(|number| message(session, 1, number, b"large")));
    for floor in 1..=3 {
        for _ in 0..29 {
            let replies = driver.pass(Duration::from_secs(1));
            assert!(!replies.iter().any(|reply| matches!(reply, Reply::Ended { .. })), "{replies:?}");
        }
        driver.ask([confirm(session, 1, floor)]);
        driver.ask([]);
    }
}

#[test]
fn what_waits_goes_with_its_connection_and_is_never_committed_behind_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), config());
    let session = driver.begin("a", 1).session();
    // The last one would be accepted.
    let payload = |number| if number == 66 { b"x".as_slice() } else { b"large" };
    driver.ask((1..=66).map(|number| message(session, 1, number, payload(number))));
    let attached = driver.attach(returner("a", session, 1, 2, driver.now)).unwrap();
    assert_eq!((attached.epoch(), attached.committed, attached.refused.len()), (2, 64, 64));
    // Both connections confirm: that of the old one is nothing, and what it has left is stale.
    let mut replies = driver.ask([confirm(session, 1, 64), confirm(session, 2, 64)]);
    replies.extend(driver.ask([]));
    replies.extend(driver.ask([detach(session, 1, false, driver.now)]));
    assert_eq!(replies, []);
    let replies = driver.ask([message(session, 2, 65, b"y")]);
    assert_eq!(replies, [committed(session, 2, 65)]);
    assert_eq!(driver.stored().len(), 1);
}

#[test]
fn of_very_many_who_wait_those_are_ended_that_wait_for_the_longest_time() {
    let directory = tempfile::tempdir().unwrap();
    let unjudged_bytes_max = 100 * (128 + 5);
    let mut driver = Driver::open_with(directory.path(), StoreConfig { unjudged_bytes_max, ..config() });
    let sessions: Vec<u64> =
        (1..=3).map(|client| driver.begin(&client.to_string(), client).session()).collect();
    let sent = |session| (1..=104).map(move |number| message(session, 1, number, b"large"));
    assert_eq!(summary(&driver.ask(sent(sessions[0]))).1, Some(64));
    assert_eq!(summary(&driver.ask(sent(sessions[1]))).1, Some(64));
    let replies = driver.ask(sent(sessions[2]));
    let ended: Vec<_> = replies
        .iter()
        .filter_map(|reply| match reply {
            Reply::Ended { seat, why: EndReason::Unconfirmed, .. } => Some(seat.session()),
            _ => None,
        })
        .collect();
    assert_eq!(ended, [sessions[0]]);
    for session in &sessions[1..] {
        let (rest, last) = exchange(&mut driver, *session, vec![confirm(*session, 1, 64)]);
        assert_eq!((rest.len(), last), (40, 104));
    }
}

#[test]
fn what_became_of_a_batch_is_told_before_one_of_its_connections_is_ended() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), config());
    let session = driver.begin("a", 1).session();
    let replies = driver.ask([
        message(session, 1, 1, b"x"),
        message(session, 1, 2, b"large"),
        message(session, 1, 9, b"x"),
    ]);
    let gap = Reply::Ended { seat: Seat::new(109, session, 1), number: 9, why: EndReason::Gap };
    let receipt = replies.iter().position(|reply| *reply == committed(session, 1, 2));
    assert!(receipt < replies.iter().position(|reply| *reply == gap), "{replies:?}");
    assert!(replies.contains(&refused(session, 1, 2)) && replies.last() == Some(&gap));
}
