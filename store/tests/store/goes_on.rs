//! A store that can write again says so when it is worth saying: not between two faults of the same outage.

use crate::driver::{Driver, TTL, append, detach, stored};
use pulsegate_store::Reply;
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) fn change(directory: &Path, sql: &str) {
    let file = rusqlite::Connection::open(directory.join("pulsegate.db")).unwrap();
    file.execute_batch(sql).unwrap();
}

/// Messages of this client can't be stored, as if there were no room.
fn refuse(directory: &Path, client: &str) {
    let when = format!("BEFORE INSERT ON messages WHEN NEW.client = '{client}'");
    change(directory, &format!("CREATE TRIGGER {client} {when} BEGIN SELECT RAISE(FAIL, 'on purpose'); END"));
}

/// Lets the store try again.
pub(crate) fn retry(driver: &mut Driver) {
    driver.now.uptime_ms += 10_000;
    driver.tick();
}

#[test]
fn it_goes_on_when_all_that_waited_is_committed() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    refuse(directory.path(), "one");
    refuse(directory.path(), "two");
    driver.store.submit(append("one", 1, b"x")).unwrap();
    assert!(matches!(driver.reply(), Reply::Stopped { .. }));
    driver.store.submit(append("two", 1, b"x")).unwrap();
    // The first is through, and the store stops at once again.
    change(directory.path(), "DROP TRIGGER one");
    retry(&mut driver);
    let limit = Instant::now() + Duration::from_secs(60);
    while stored(directory.path()).is_empty() {
        assert!(Instant::now() < limit, "it never opens");
        std::thread::sleep(Duration::from_millis(2));
    }
    change(directory.path(), "DROP TRIGGER two");
    retry(&mut driver);
    retry(&mut driver);
    assert_eq!(driver.ask([]), [Reply::GoesOn]);
    assert_eq!(stored(directory.path()).len(), 2);
}

#[test]
fn with_nothing_to_commit_it_goes_on_after_a_tick_without_a_fault() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let session = driver.begin("a", 1).session();
    driver.ask([detach(session, 1, false, driver.now)]);
    let when = "BEFORE DELETE ON sessions BEGIN SELECT RAISE(FAIL, 'on purpose'); END";
    change(directory.path(), &format!("CREATE TRIGGER expiry {when}"));
    driver.now.uptime_ms += u64::try_from(TTL.as_millis()).unwrap();
    retry(&mut driver);
    assert!(matches!(driver.reply(), Reply::Stopped { .. }));
    // It opens, and expiry fails again.
    (0..6).for_each(|_| retry(&mut driver));
    change(directory.path(), "DROP TRIGGER expiry");
    let mut replies = vec![];
    while !replies.contains(&Reply::GoesOn) {
        retry(&mut driver);
        replies.append(&mut driver.ask([]));
    }
    assert!(!replies.iter().any(|reply| matches!(reply, Reply::Stopped { .. })), "{replies:?}");
    assert_eq!(replies.iter().filter(|reply| **reply == Reply::GoesOn).count(), 1);
}
