//! Sessions: tokens, limits, who may have the directory, what outlives a restart.

use crate::driver::{Driver, TTL, committed, detach, message, newcomer, returner, token};
use pulsegate_store::{
    Attach, AttachRefusal, Attachment, OpenError, Outcome, ReadError, Reader, Reply, Request, Seat,
    SecondConnection, StoreConfig,
};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

fn refused(why: AttachRefusal) -> Reply {
    Reply::AttachRefused { ticket: 7, why }
}

#[test]
fn the_token_before_the_newest_is_valid_until_the_newest_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let (session, now) = (driver.begin("a", 1).session(), driver.now);
    assert_eq!(driver.attach(returner("a", session, 9, 2, now)), Err(refused(AttachRefusal::BadToken)));
    assert_eq!(driver.attach(returner("a", session, 1, 2, now)).map(|attached| attached.epoch()), Ok(2));
    // Its WELCOME is lost, twice: the client still has token 1 only, and is given the same next one.
    for epoch in [3, 4] {
        let attached = driver.attach(returner("a", session, 1, 99, now)).unwrap();
        assert_eq!((attached.epoch(), attached.token), (epoch, token(2)));
    }
    assert_eq!(driver.attach(returner("a", session, 99, 5, now)), Err(refused(AttachRefusal::BadToken)));
    driver.ask([Request::TokenUsed { attachment: Attachment { session, epoch: 3 } }]);
    assert_eq!(driver.attach(returner("a", session, 1, 5, now)).map(|attached| attached.epoch()), Ok(5));
    driver.ask([Request::TokenUsed { attachment: Attachment { session, epoch: 5 } }]);
    assert_eq!(driver.attach(returner("a", session, 1, 6, now)), Err(refused(AttachRefusal::BadToken)));
    drop(driver);
    let mut driver = Driver::open(directory.path());
    assert_eq!(driver.attach(returner("a", session, 1, 6, now)), Err(refused(AttachRefusal::BadToken)));
    let attached = driver.attach(returner("a", session, 2, 6, now)).unwrap();
    assert_eq!((attached.epoch(), attached.token), (6, token(6)));
}

#[test]
fn an_older_hello_that_comes_late_locks_nobody_out() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let (session, now) = (driver.begin("a", 1).session(), driver.now);
    // The client has given up one connection and opened another; both show token 1.
    assert_eq!(driver.attach(returner("a", session, 1, 2, now)).map(|attached| attached.token), Ok(token(2)));
    assert_eq!(driver.attach(returner("a", session, 1, 3, now)).map(|attached| attached.token), Ok(token(2)));
    // It holds token 2 from the first of them.
    assert_eq!(driver.attach(returner("a", session, 2, 4, now)).map(|attached| attached.epoch()), Ok(4));
}

#[test]
fn a_session_belongs_to_its_client_and_is_replaced_only_where_it_may_be() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let (session, now) = (driver.begin("a", 1).session(), driver.now);
    assert_eq!(driver.attach(returner("b", session, 1, 2, now)), Err(refused(AttachRefusal::OtherClient)));
    let polite = Attach { second: SecondConnection::Refuse, ..returner("a", session, 1, 2, now) };
    assert_eq!(driver.attach(polite.clone()), Err(refused(AttachRefusal::InUse)));
    for _ in 0..2 {
        let detached = Reply::Detached { seat: Seat::new(9, session, 1), forgotten: false };
        assert_eq!(driver.ask([detach(session, 1, false, now)]), [detached]);
    }
    assert_eq!(driver.attach(polite).map(|attached| attached.outcome), Ok(Outcome::Resumed));
}

#[test]
fn newcomers_are_refused_when_there_is_no_room_and_no_cursor_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig { sessions_max: 2, ..StoreConfig::default() };
    let mut driver = Driver::open_with(directory.path(), config);
    let (one, now) = (driver.begin("a", 1).session(), driver.now);
    driver.begin("b", 2);
    assert_eq!(driver.attach(newcomer("c", 3, now)), Err(refused(AttachRefusal::SessionLimit)));
    assert_eq!(driver.attach(returner("c", 99, 3, 3, now)), Err(refused(AttachRefusal::SessionLimit)));
    assert!(driver.attach(returner("a", one, 1, 3, now)).is_ok());
    let forgotten = Reply::Detached { seat: Seat::new(9, one, 2), forgotten: true };
    assert_eq!(driver.ask([detach(one, 2, true, now)]), [forgotten]);
    let new = driver.attach(returner("a", one, 3, 4, now)).unwrap();
    assert_eq!((new.outcome, new.epoch()), (Outcome::New, 1));
    assert!(new.session() > one, "numbers of sessions are never used again");
}

#[test]
fn a_goodbye_for_good_leaves_nothing_only_if_nothing_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let (session, now) = (driver.begin("a", 1).session(), driver.now);
    driver.ask([message(session, 1, 1, b"x"), detach(session, 1, true, now)]);
    let attached = driver.attach(returner("a", session, 1, 2, now)).unwrap();
    assert_eq!(
        (attached.outcome, attached.committed),
        (Outcome::Resumed, 1),
        "no confirmation, no forgetting"
    );
    let replies = driver.ask([
        Request::Confirm { attachment: Attachment { session, epoch: 2 }, floor: 1 },
        detach(session, 2, true, now),
    ]);
    assert_eq!(replies, [Reply::Detached { seat: Seat::new(9, session, 2), forgotten: true }]);
    assert_eq!((driver.stored().len(), driver.store.figures().sessions), (1, 0), "its messages stay");
}

#[test]
fn a_session_expires_after_its_time_to_live_and_not_before_a_restart_counts_anew() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let (gone, stays) = (driver.begin("a", 1).session(), driver.begin("b", 2).session());
    driver.ask([detach(gone, 1, false, driver.now)]);
    assert_eq!(driver.pass(TTL - Duration::from_millis(1)), []);
    drop(driver);
    let mut driver = Driver::open(directory.path());
    assert_eq!(driver.pass(TTL - Duration::from_millis(1)), [], "after a restart all begin anew");
    driver.attach(returner("b", stays, 2, 3, driver.now)).unwrap();
    let replies = driver.pass(Duration::from_millis(1));
    assert_eq!(replies, [Reply::Expired { session: gone, unknown: None }]);
    assert_eq!(driver.pass(10 * TTL), [], "one with a connection doesn't expire");
    let new = driver.attach(returner("a", gone, 1, 4, driver.now)).unwrap();
    assert_eq!(new.outcome, Outcome::New);
}

#[test]
fn a_second_gateway_on_the_same_directory_is_refused_with_a_sentence() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("deep/store");
    let driver = Driver::open(&directory);
    assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    let Err(error) = Driver::try_open(&directory, StoreConfig::default()) else {
        panic!("it was opened twice")
    };
    assert!(
        matches!(error, OpenError::Held(_)) && error.to_string().contains("another pulsegate"),
        "{error}"
    );
    drop(driver);
    Driver::open(&directory);
}

#[test]
fn a_file_that_is_not_ours_or_is_newer_is_left_alone() {
    let newer = format!("PRAGMA user_version = {}", pulsegate_store::SCHEMA_VERSION + 1);
    let other = "CREATE TABLE other (x); PRAGMA user_version = 1";
    for (sql, word) in
        [("CREATE TABLE other (x)", "not a store"), (other, "not a store"), (&newer, "a newer pulsegate")]
    {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pulsegate.db");
        rusqlite::Connection::open(&file).unwrap().execute_batch(sql).unwrap();
        let before = std::fs::read(&file).unwrap();
        let Err(error) = Driver::try_open(directory.path(), StoreConfig::default()) else { panic!("{sql}") };
        assert!(
            error.to_string().contains(word) && error.to_string().contains("another directory"),
            "{error}"
        );
        assert_eq!(std::fs::read(&file).unwrap(), before, "not a byte of it is changed");
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("pulsegate.db"), "this is no database at all".repeat(100)).unwrap();
    assert!(Driver::try_open(directory.path(), StoreConfig::default()).is_err());
}

#[test]
fn a_store_of_the_first_version_goes_on_with_its_sessions() {
    let directory = tempfile::tempdir().unwrap();
    let version_1 = include_bytes!("../fixtures/version-1.db");
    std::fs::write(directory.path().join("pulsegate.db"), version_1).unwrap();
    let Err(error) = Reader::open(directory.path()) else { panic!("it is read") };
    assert!(matches!(error, ReadError::Older(1)), "{error}");
    let mut driver = Driver::open(directory.path());
    assert_eq!((driver.store.figures().sessions, driver.store.figures().messages), (3, 62));
    let attached = driver.attach(returner("ada", 1, 1, 2, driver.now)).unwrap();
    assert_eq!((attached.committed, attached.refused.len()), (22, 1));
    let attached = driver.attach(returner("bob", 2, 1, 2, driver.now)).unwrap();
    let outgoing: Vec<_> = driver
        .load(2, attached.epoch(), attached.acknowledged)
        .iter()
        .map(|message| message.number)
        .collect();
    assert_eq!((attached.committed, outgoing), (20, vec![2, 3]));
    assert_eq!(driver.ask([message(2, 2, 21, b"2/21")]), [committed(2, 2, 21)]);
    assert_eq!(driver.stored().last().map(|message| (message.id, message.number)), Some((63, 21)));
}
