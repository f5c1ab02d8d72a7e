//! What one session, one source or all together may have of the store, and who goes, waits or is refused then.

use crate::driver::{Driver, TTL, append, committed, detach, message, newcomer, push, returner};
use pulsegate_store::{
    Attach, AttachRefusal, Attached, Attachment, Durability, PushRefusal, Recipient, Reply, Request, Source,
    StoreConfig,
};
use std::time::Duration;

const MIB: u64 = 1 << 20;

fn attach_from(driver: &mut Driver, source: Source, client: &str, token: u8) -> Result<Attached, Reply> {
    let now = driver.now;
    driver.attach(Attach { source, ..newcomer(client, token, now) })
}

pub(crate) fn append_from(source: Source, bytes: usize) -> Request {
    let Request::Append { client, number, received_at_ms, .. } = append("raw", 1, b"") else {
        unreachable!()
    };
    Request::Append { client, source, number, received_at_ms, payload: vec![7; bytes].into() }
}

const LIMIT: Reply = Reply::AttachRefused { ticket: 7, why: AttachRefusal::SessionLimit };

fn expired(session: u64) -> Reply {
    Reply::Expired { session, unknown: None }
}

fn sessions_config() -> StoreConfig {
    StoreConfig { sessions_max: 6, sessions_per_source_max: Some(3), ..StoreConfig::default() }
}

#[test]
fn a_source_that_has_its_share_of_sessions_loses_its_oldest_unused_ones_and_no_other_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), sessions_config());
    let other = attach_from(&mut driver, 2, "other", 1).unwrap().session();
    driver.ask([detach(other, 1, false, driver.now)]);
    let mut own: Vec<u64> = Vec::new();
    for number in 0..10 {
        let mut replies = driver
            .ask([Request::Attach(Box::new(Attach { source: 1, ..newcomer("flood", number, driver.now) }))]);
        let Some(Reply::Attached(attached)) = replies.pop() else { panic!("{replies:?}") };
        assert_eq!(
            replies,
            own.iter().rev().nth(2).map(|oldest| expired(*oldest)).into_iter().collect::<Vec<_>>()
        );
        own.push(attached.session());
        driver.now.uptime_ms += 1;
        driver.ask([detach(attached.session(), 1, false, driver.now)]);
    }
    assert_eq!(driver.store.figures().sessions, 4);
    let now = driver.now;
    assert!(
        driver.attach(Attach { source: 2, ..returner("other", other, 1, 2, now) }).unwrap().session()
            == other
    );
}

#[test]
fn sessions_that_were_used_or_are_in_use_are_kept_and_their_source_is_refused_while_others_are_let_in() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), sessions_config());
    let used = attach_from(&mut driver, 1, "used", 1).unwrap().session();
    assert_eq!(driver.ask([message(used, 1, 1, b"x")]), [committed(used, 1, 1)]);
    let receipted = attach_from(&mut driver, 1, "receipted", 2).unwrap().session();
    driver.ask([push(1, Recipient::Session(receipted), b"x")]);
    driver
        .ask([Request::OutReceipt { attachment: Attachment { session: receipted, epoch: 1 }, committed: 1 }]);
    let now = driver.now;
    driver.ask([used, receipted].map(|session| detach(session, 1, false, now)));
    attach_from(&mut driver, 1, "attached", 3).unwrap();
    assert_eq!(attach_from(&mut driver, 1, "one more", 4), Err(LIMIT));
    assert!(attach_from(&mut driver, 2, "elsewhere", 5).is_ok());
    drop(driver);
    // A restart forgets nothing of it; now nobody is attached, and one that was never used makes room.
    let mut driver = Driver::open_with(directory.path(), sessions_config());
    let mut replies =
        driver.ask([Request::Attach(Box::new(Attach { source: 1, ..newcomer("one more", 4, driver.now) }))]);
    assert!(matches!(replies.remove(0), Reply::Expired { unknown: None, .. }));
    assert!(matches!(replies[..], [Reply::Attached(_)]), "{replies:?}");
    assert_eq!(attach_from(&mut driver, 1, "and another", 5), Err(LIMIT));
}

#[test]
fn a_full_table_lets_newcomers_in_for_the_oldest_that_was_never_used_whosever_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), sessions_config());
    let mut sessions = Vec::new();
    for source in 1..=6 {
        let attached = attach_from(&mut driver, source, "x", source as u8).unwrap();
        sessions.push(attached.session());
    }
    assert_eq!(attach_from(&mut driver, 7, "x", 7), Err(LIMIT), "all are attached");
    // In one batch with what makes the oldest a used one.
    let oldest = sessions[0];
    driver.ask([detach(oldest, 1, false, driver.now)]);
    driver.now.uptime_ms += 1;
    driver.ask([detach(sessions[1], 1, false, driver.now)]);
    let now = driver.now;
    let resumed = Request::Attach(Box::new(Attach { source: 1, ..returner("x", oldest, 1, 8, now) }));
    let newcomer = Request::Attach(Box::new(Attach { source: 7, ..newcomer("x", 9, now) }));
    let replies = driver.ask([resumed, message(oldest, 2, 1, b"x"), detach(oldest, 2, false, now), newcomer]);
    assert!(replies.contains(&expired(sessions[1])), "{replies:?}");
    assert!(!replies.contains(&expired(oldest)), "{replies:?}");
}

/// Session after session of one source until it gets no more: each with a message, or without, and detached.
fn fill(driver: &mut Driver, source: Source, is_used: bool) -> u64 {
    for count in 0.. {
        let Ok(attached) = attach_from(driver, source, "x", 1) else { return count };
        let session = attached.session();
        if is_used {
            assert_eq!(driver.ask([message(session, 1, 1, b"x")]), [committed(session, 1, 1)]);
        }
        driver.now.uptime_ms += 1;
        driver.ask([detach(session, 1, false, driver.now)]);
    }
    unreachable!()
}

#[test]
fn few_addresses_fill_no_more_than_three_quarters_of_the_table_and_others_get_in() {
    let config = |share| StoreConfig {
        sessions_max: 32,
        sessions_per_source_max: Some(share),
        ..StoreConfig::default()
    };
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), config(8));
    assert_eq!((1..=3).map(|source| fill(&mut driver, source, true)).sum::<u64>(), 24);
    assert_eq!(fill(&mut driver, 4, true), 2, "what is left is for those who hold few");
    assert_eq!(attach_from(&mut driver, 1, "x", 1), Err(LIMIT));
    drop(driver);
    // A restart forgets nothing of it.
    let mut driver = Driver::open_with(directory.path(), config(8));
    assert_eq!(fill(&mut driver, 4, true), 0);
    // Whoever holds few makes room with its own.
    let first = attach_from(&mut driver, 5, "x", 1).unwrap().session();
    driver.ask([detach(first, 1, false, driver.now)]);
    assert!(attach_from(&mut driver, 5, "x", 2).is_ok());
    let third = Request::Attach(Box::new(Attach { source: 5, ..newcomer("x", 3, driver.now) }));
    let replies = driver.ask([third]);
    assert!(
        matches!(&replies[..], [Reply::Expired { session, .. }, Reply::Attached(_)] if *session == first)
    );
    assert_eq!((6..=9).map(|source| fill(&mut driver, source, true)).sum::<u64>(), 4);
    assert_eq!(driver.store.figures().sessions, 32);
    // Where one may have more than the others, nothing is kept for those.
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), config(25));
    assert_eq!((1..=2).map(|source| fill(&mut driver, source, true)).collect::<Vec<_>>(), [25, 7]);
}

#[test]
fn where_nothing_is_kept_a_full_table_makes_room_with_anybodys_unused_sessions() {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig { sessions_max: 8, sessions_per_source_max: Some(7), ..StoreConfig::default() };
    let mut driver = Driver::open_with(directory.path(), config);
    let unused = attach_from(&mut driver, 2, "y", 1).unwrap().session();
    driver.ask([detach(unused, 1, false, driver.now)]);
    for _ in 0..6 {
        let session = attach_from(&mut driver, 1, "x", 1).unwrap().session();
        assert_eq!(driver.ask([message(session, 1, 1, b"x")]), [committed(session, 1, 1)]);
    }
    attach_from(&mut driver, 3, "z", 1).unwrap();
    assert_eq!(driver.store.figures().sessions, 8);
    let another = Request::Attach(Box::new(Attach { source: 1, ..newcomer("x", 1, driver.now) }));
    let replies = driver.ask([another]);
    assert!(
        matches!(&replies[..], [Reply::Expired { session, .. }, Reply::Attached(_)] if *session == unused),
        "{replies:?}"
    );
}

/// Whom the newest word names, if there is one.
pub(crate) fn resting(replies: &[Reply]) -> Option<(Vec<u64>, Vec<Source>)> {
    replies.iter().rev().find_map(|reply| match reply {
        Reply::Resting { sessions, sources } => Some((sessions.to_vec(), sources.to_vec())),
        _ => None,
    })
}

fn kept_config() -> StoreConfig {
    StoreConfig {
        retention_bytes: 4 * MIB,
        retention_age: Duration::from_secs(600),
        ..StoreConfig::default()
    }
}

#[test]
fn a_source_that_has_its_share_of_what_is_kept_rests_until_its_messages_are_old() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), kept_config());
    driver.ask([append_from(2, 100)]);
    let replies = driver.ask((0..17).map(|_| append_from(1, 64 * 1024)));
    assert_eq!(resting(&replies), Some((vec![], vec![1])), "what has come is stored all the same");
    assert_eq!(driver.stored().len(), 18);
    assert_eq!(resting(&driver.ask([append_from(2, 100)])), None, "said once, and of nobody else");
    drop(driver);
    // After a restart it is known as soon as it shows itself.
    let mut driver = Driver::open_with(directory.path(), kept_config());
    let replies =
        driver.ask([Request::Attach(Box::new(Attach { source: 1, ..newcomer("a", 1, driver.now) }))]);
    assert_eq!(resting(&replies[..1]), Some((vec![], vec![1])), "before it is let in");
    assert_eq!(driver.stored().len(), 19);
    let mut replies = driver.pass(Duration::from_secs(300));
    while resting(&replies).is_none() {
        replies = driver.pass(Duration::from_secs(60));
        assert!(driver.now.uptime_ms < 3_600_000, "it never goes on");
    }
    assert_eq!(resting(&replies), Some((vec![], vec![])));
}

#[test]
fn a_session_that_has_its_share_of_what_is_kept_rests_and_its_source_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), kept_config());
    let session = attach_from(&mut driver, 1, "a", 1).unwrap().session();
    let replies = driver.ask((1..=5).map(|number| message(session, 1, number, &[7; 64 * 1024])));
    assert_eq!(resting(&replies), Some((vec![session], vec![])));
    assert!(replies.contains(&committed(session, 1, 5)), "{replies:?}");
    driver.ask([detach(session, 1, false, driver.now)]);
    drop(driver);
    let mut driver = Driver::open_with(directory.path(), kept_config());
    let again = Attach { source: 1, ..returner("a", session, 1, 2, driver.now) };
    let replies = driver.ask([Request::Attach(Box::new(again))]);
    assert_eq!(resting(&replies[..1]), Some((vec![session], vec![])), "the rest survives it all");
    driver.ask([detach(session, 2, false, driver.now)]);
    assert_eq!(resting(&driver.pass(TTL)), Some((vec![], vec![])), "a session that is gone rests no more");
}

#[test]
fn a_share_of_nearly_all_that_is_kept_is_none_and_the_oldest_make_room() {
    let directory = tempfile::tempdir().unwrap();
    for share in [4 * MIB, 4 * MIB / 8 * 7] {
        let config = StoreConfig {
            retention_bytes_per_session: Some(share),
            retention_bytes_per_source: Some(share),
            ..kept_config()
        };
        let mut driver = Driver::open_with(&directory.path().join(share.to_string()), config);
        let session = attach_from(&mut driver, 1, "a", 1).unwrap().session();
        for number in 1..=100 {
            let replies = driver.ask([message(session, 1, number, &[7; 64 * 1024])]);
            assert_eq!(replies, [committed(session, 1, number)]);
        }
        assert!((1..=64).contains(&driver.stored().len()), "the oldest are gone");
        assert_eq!(resting(&driver.ask((0..100).map(|_| append_from(2, 64 * 1024)))), None);
    }
}

#[test]
fn a_share_below_that_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let share = Some(4 * MIB / 8 * 7 - 1);
    let config = StoreConfig { retention_bytes_per_source: share, ..kept_config() };
    let mut driver = Driver::open_with(directory.path(), config);
    let replies = driver.ask((0..60).map(|_| append_from(1, 64 * 1024)));
    assert_eq!(resting(&replies), Some((vec![], vec![1])));
}

#[test]
fn nobody_is_never_said_to_rest() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), kept_config());
    // As what an older version has stored: more than a share, and more than is kept.
    for _ in 0..4 {
        assert_eq!(driver.ask((0..40).map(|_| append_from(0, 64 * 1024))), []);
    }
    assert!(driver.stored().len() < 80, "some were deleted");
}

#[test]
fn one_source_pushes_nobody_elses_messages_out() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), kept_config());
    let session = attach_from(&mut driver, 2, "victim", 1).unwrap().session();
    driver.ask((1..=10).map(|number| message(session, 1, number, b"receipted")));
    let mut is_read = true;
    for _ in 0..100 {
        if is_read {
            let replies = driver.ask([append_from(1, 64 * 1024)]);
            is_read = resting(&replies).is_none();
        }
        driver.pass(Duration::from_secs(1));
    }
    assert!(!is_read);
    assert_eq!(driver.stored().iter().filter(|message| message.client == "victim").count(), 10);
}

#[test]
fn what_waits_for_all_clients_has_a_sum_and_a_source_has_its_share_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        outgoing_bytes_max: 60,
        outgoing_bytes_in_all: Some(200),
        outgoing_bytes_per_source: Some(100),
        ..StoreConfig::default()
    };
    for in_memory in [false, true] {
        let mut driver = if in_memory {
            Driver::open_in_memory(StoreConfig { durability: Durability::None, ..config.clone() })
        } else {
            Driver::open_with(directory.path(), config.clone())
        };
        let sessions: Vec<u64> = [1, 1, 2, 2, 3, 3]
            .into_iter()
            .zip(1..)
            .map(|(source, token)| attach_from(&mut driver, source, "x", token).unwrap().session())
            .collect();
        let outcome = |driver: &mut Driver, session: u64| match driver
            .ask([push(1, Recipient::Session(session), &[7; 50])])
            .remove(0)
        {
            Reply::Pushed { .. } => Ok(()),
            Reply::PushRefused { why, .. } => Err(why),
            other => panic!("{other:?}"),
        };
        let [a, b, c, d, e, f] = sessions[..] else { panic!("six") };
        assert_eq!([outcome(&mut driver, a), outcome(&mut driver, a)], [Ok(()), Err(PushRefusal::Full)]);
        assert_eq!(outcome(&mut driver, b), Ok(()));
        let third = attach_from(&mut driver, 1, "x", 9).unwrap().session();
        assert_eq!(outcome(&mut driver, third), Err(PushRefusal::StoreFull), "its address has its share");
        assert_eq!([outcome(&mut driver, c), outcome(&mut driver, d)], [Ok(()), Ok(())]);
        assert_eq!(outcome(&mut driver, e), Err(PushRefusal::StoreFull), "all have theirs");
        assert_eq!(driver.store.figures().outgoing_bytes, 200);
        driver.ask([Request::OutReceipt { attachment: Attachment { session: a, epoch: 1 }, committed: 1 }]);
        assert_eq!([outcome(&mut driver, e), outcome(&mut driver, f)], [Ok(()), Err(PushRefusal::StoreFull)]);
        let now = driver.now;
        driver.ask(sessions.iter().map(|session| detach(*session, 1, false, now)));
        driver.pass(TTL);
        assert_eq!(driver.store.figures().outgoing_bytes, 0, "with the sessions it goes");
    }
}
