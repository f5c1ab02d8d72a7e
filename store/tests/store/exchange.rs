//! Messages: what is new is committed once, what is known is receipted again, what is stale is nothing.

use crate::driver::{Driver, committed, detach, message, message_at, newcomer, push, returner, token};
use pulsegate_store::{
    Attach, Attachment, EndReason, Outcome, PushRefusal, Quota, Recipient, Refusal, RefusalCode, Reply,
    Request, Seat, StoreConfig,
};
use std::time::Duration;

#[test]
fn a_batch_is_receipted_once_for_each_connection() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let (one, two) = (driver.begin("one", 1), driver.begin("two", 2));
    assert_eq!((one.epoch(), one.outcome, one.committed), (1, Outcome::New, 0));
    let requests = (1..=3).flat_map(|number| {
        [message(one.session(), 1, number, b"a"), message(two.session(), 1, number, &[0, 255, b'\n'])]
    });
    let replies = driver.ask(requests);
    // They may have been committed in several batches: the last receipts count.
    assert_eq!(
        replies.iter().rfind(|reply| is_of(reply, one.session())),
        Some(&committed(one.session(), 1, 3))
    );
    assert_eq!(
        replies.iter().rfind(|reply| is_of(reply, two.session())),
        Some(&committed(two.session(), 1, 3))
    );
    let stored = driver.stored();
    assert_eq!(stored.len(), 6);
    let last = stored.last().unwrap();
    assert_eq!((last.session, last.client.as_str(), last.number), (two.session(), "two", 3));
    assert_eq!(
        (last.payload.as_slice(), last.received_at_ms),
        ([0, 255, b'\n'].as_slice(), 1_800_000_000_000)
    );
    assert_eq!((driver.store.figures().messages, driver.store.figures().sessions), (6, 2));
}

fn is_of(reply: &Reply, of: u64) -> bool {
    matches!(reply, Reply::Committed { seat, .. } if seat.session() == of)
}

#[test]
fn a_known_message_gets_a_receipt_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let session = driver.begin("a", 1).session();
    driver.ask([message(session, 1, 1, b"first"), message(session, 1, 2, b"second")]);
    let again = Reply::Committed { seat: Seat::new(101, session, 1), committed: 2 };
    assert_eq!(driver.ask([message(session, 1, 1, b"again")]), [again]);
    assert_eq!(driver.stored().len(), 2);
}

#[test]
fn a_gap_ends_the_connection_and_stores_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let session = driver.begin("a", 1).session();
    let ended = Reply::Ended { seat: Seat::new(102, session, 1), number: 2, why: EndReason::Gap };
    assert_eq!(driver.ask([message(session, 1, 2, b"x")]), [ended]);
    assert_eq!(driver.stored().len(), 0);
}

#[test]
fn what_an_old_connection_left_behind_is_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let session = driver.begin("a", 1).session();
    let attach = Box::new(returner("a", session, 1, 2, driver.now));
    let replies = driver.ask([
        message(session, 1, 1, b"one"),
        Request::Attach(attach),
        message(session, 1, 2, b"late"),
        message(session, 2, 2, b"two"),
        detach(session, 1, false, driver.now),
    ]);
    assert!(!replies.iter().any(|reply| matches!(reply, Reply::Detached { .. })));
    let attached = replies.iter().find_map(|reply| match reply {
        Reply::Attached(attached) => Some(attached),
        _ => None,
    });
    assert_eq!(attached.map(|attached| (attached.epoch(), attached.committed)), Some((2, 1)));
    assert_eq!(replies.last(), Some(&committed(session, 2, 2)));
    let payloads: Vec<_> = driver.stored().into_iter().map(|message| message.payload).collect();
    assert_eq!(payloads, [b"one", b"two"]);
}

#[test]
fn a_refused_message_moves_the_cursor_and_is_told_again_until_it_is_confirmed() {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig { message_bytes_max: 4, ..StoreConfig::default() };
    let mut driver = Driver::open_with(directory.path(), config.clone());
    let session = driver.begin("a", 1).session();
    let refusal = Refusal { number: 2, code: RefusalCode::TooLarge };
    let replies = driver
        .ask((1..=3).map(|number| message(session, 1, number, if number == 2 { b"large" } else { b"tiny" })));
    let refused = Reply::Refused { seat: Seat::new(102, session, 1), refusal };
    let place = |wanted: &Reply| replies.iter().position(|reply| reply == wanted).unwrap();
    assert!(place(&refused) < place(&committed(session, 1, 3)));
    drop(driver);

    let mut driver = Driver::open_with(directory.path(), config);
    let again = driver.attach(returner("a", session, 1, 2, driver.now)).unwrap();
    assert_eq!((again.committed, again.refused.as_slice()), (3, [refusal].as_slice()));
    driver.ask([Request::Confirm { attachment: Attachment { session, epoch: 2 }, floor: 2 }]);
    let again = driver.attach(returner("a", session, 2, 3, driver.now)).unwrap();
    assert_eq!((again.floor, again.refused.as_slice()), (2, [].as_slice()));
    let numbers: Vec<_> = driver.stored().into_iter().map(|message| message.number).collect();
    assert_eq!(numbers, [1, 3]);
}

#[test]
fn a_session_over_its_quota_is_refused_until_the_next_period() {
    let directory = tempfile::tempdir().unwrap();
    let quota = Quota { bytes: 300, every: Duration::from_secs(10) };
    let config = StoreConfig { message_bytes_max: 200, quota, ..StoreConfig::default() };
    let mut driver = Driver::open_with(directory.path(), config);
    let session = driver.begin("a", 1).session();
    let mut codes = Vec::new();
    // The wall clock has no say in it, whatever it says.
    for (number, after_ms, wall_ms) in [(1, 0, 1), (2, 1, u64::MAX >> 2), (3, 9_998, 0), (4, 1, 1)] {
        driver.pass(Duration::from_millis(after_ms));
        let replies = driver.ask([message_at(session, 1, number, &[0; 100], wall_ms)]);
        codes.push(
            replies.len() == 2
                && matches!(
                    replies[0],
                    Reply::Refused { refusal: Refusal { code: RefusalCode::OverQuota, .. }, .. }
                ),
        );
    }
    assert_eq!(codes, [false, true, true, false]);
}

#[test]
fn what_was_acknowledged_and_is_lost_is_named_and_numbering_goes_on_above() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let session = driver.begin("a", 1).session();
    driver.ask([message(session, 1, 1, b"x")]);
    let mut attach = returner("a", session, 1, 2, driver.now);
    if let Some(resume) = &mut attach.resume {
        (resume.acknowledged, resume.committed) = (5, 3);
    }
    let attached = driver.attach(attach).unwrap();
    assert_eq!((attached.lost, attached.committed, attached.acknowledged), (Some((2, 5)), 5, 3));
    assert_eq!(driver.ask([message(session, 2, 6, b"x")]), [committed(session, 2, 6)]);
    drop(driver);
    let mut driver = Driver::open(directory.path());
    let attached = driver.attach(returner("a", session, 2, 3, driver.now)).unwrap();
    assert_eq!((attached.lost, attached.committed, attached.acknowledged), (None, 6, 3));
}

#[test]
fn a_loss_is_named_until_a_welcome_that_named_it_is_known_to_have_arrived() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let session = driver.begin("a", 1).session();
    driver.ask([message(session, 1, 1, b"x")]);
    let knows_five = |shown, next, now| {
        let mut attach = returner("a", session, shown, next, now);
        attach.resume.as_mut().unwrap().acknowledged = 5;
        attach
    };
    // These WELCOMEs are lost, over connections and a restart.
    for _ in 0..2 {
        for next in [2, 3] {
            let attached = driver.attach(knows_five(1, next, driver.now)).unwrap();
            assert_eq!((attached.lost, attached.committed), (Some((2, 5)), 5));
        }
        drop(driver);
        driver = Driver::open(directory.path());
    }
    // A frame of a connection that was replaced proves nothing.
    driver.ask([Request::TokenUsed { attachment: Attachment { session, epoch: 2 } }]);
    let attached = driver.attach(knows_five(1, 4, driver.now)).unwrap();
    assert_eq!((attached.lost, attached.token), (Some((2, 5)), token(2)));
    driver.ask([Request::TokenUsed { attachment: Attachment { session, epoch: attached.epoch() } }]);
    assert_eq!(driver.attach(knows_five(2, 5, driver.now)).unwrap().lost, None);
    // A further loss is named by itself, and proved by a HELLO that shows its token.
    let mut attach = returner("a", session, 5, 6, driver.now);
    attach.resume.as_mut().unwrap().acknowledged = 9;
    assert_eq!(driver.attach(attach.clone()).unwrap().lost, Some((6, 9)));
    attach.resume.as_mut().unwrap().token = token(6);
    assert_eq!(driver.attach(attach).unwrap().lost, None);
}

#[test]
fn a_session_takes_what_its_client_was_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let told = |attach, told_bytes_max| Attach { told_bytes_max, ..attach };
    let first = driver.attach(told(newcomer("a", 1, driver.now), 60_000)).unwrap();
    assert_eq!(first.told_bytes_max, 60_000);
    let session = first.session();
    let lower = driver.attach(told(returner("a", session, 1, 2, driver.now), 1_000)).unwrap();
    assert_eq!(lower.told_bytes_max, 60_000);
    drop(driver);
    // A store that takes less refuses what is longer, and the rest goes on.
    let config = StoreConfig { message_bytes_max: 1_000, ..StoreConfig::default() };
    let mut driver = Driver::open_with(directory.path(), config);
    let again = driver.attach(told(returner("a", session, 2, 3, driver.now), 1_000)).unwrap();
    assert_eq!((again.told_bytes_max, again.epoch()), (60_000, 3));
    let replies = driver.ask([message(session, 3, 1, &[7; 60_000]), message(session, 3, 2, b"x")]);
    let refusal = Refusal { number: 1, code: RefusalCode::TooLarge };
    assert!(replies.contains(&Reply::Refused { seat: Seat::new(101, session, 3), refusal }));
    assert_eq!(replies.last(), Some(&committed(session, 3, 2)));
}

#[test]
fn cursors_may_be_as_high_as_the_protocol_says() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let session = driver.begin("a", 1).session();
    let most = (1_u64 << 63) - 1;
    let mut attach = returner("a", session, 1, 2, driver.now);
    (attach.resume.as_mut().unwrap().acknowledged, attach.resume.as_mut().unwrap().committed) =
        (most - 1, most - 1);
    assert_eq!(driver.attach(attach).unwrap().lost, Some((1, most - 1)));
    assert_eq!(
        driver.ask([message(session, 2, most, b"x")]),
        [Reply::Committed { seat: Seat::new(100 + u128::from(most), session, 2), committed: most }]
    );
    // No number follows, in either direction, and nothing stops the store.
    let over = driver.ask([message(session, 2, most + 1, b"x")]);
    assert!(matches!(over[..], [Reply::Ended { why: EndReason::Gap, .. }]), "{over:?}");
    let last = driver.ask([push(1, Recipient::Session(session), b"x")]);
    assert!(matches!(last[..], [Reply::Pushed { number, .. }] if number == most), "{last:?}");
    let full = driver.ask([push(1, Recipient::Session(session), b"x")]);
    assert!(matches!(full[..], [Reply::PushRefused { why: PushRefusal::Full, .. }]), "{full:?}");
    assert_eq!(
        driver.ask([Request::OutReceipt { attachment: Attachment { session, epoch: 2 }, committed: most }]),
        []
    );
    drop(driver);
    let mut driver = Driver::open(directory.path());
    let attached = driver.attach(returner("a", session, 2, 3, driver.now)).unwrap();
    assert_eq!((attached.committed, attached.acknowledged), (most, most));
}

#[test]
fn a_cursor_that_nobody_can_reach_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let session = driver.begin("a", 1).session();
    for (acknowledged, cursor) in [(u64::MAX, 0), (0, u64::MAX), (1 << 63, 0), (0, 1 << 63)] {
        let mut attach = returner("a", session, 1, 2, driver.now);
        if let Some(resume) = &mut attach.resume {
            (resume.acknowledged, resume.committed) = (acknowledged, cursor);
        }
        assert!(matches!(driver.attach(attach), Err(Reply::AttachRefused { .. })));
    }
    let long = Attach { client: "x".repeat(129), token: token(3), ..newcomer("", 3, driver.now) };
    assert!(matches!(driver.attach(long), Err(Reply::AttachRefused { .. })));
    assert_eq!(driver.ask([message(session, 1, 1, b"x")]), [committed(session, 1, 1)], "nothing was changed");
}
