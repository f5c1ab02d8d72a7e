//! Files that are written over in place under an open store, or that don't belong together when it is opened: what is
//! acknowledged is there, and what one file has is never mixed with the log of another.

use crate::driver::{Driver, committed, message, stored};
use pulsegate_store::{OpenError, Reply, StoreConfig};
use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Its log is moved into the database every 60 messages or so.
fn config() -> StoreConfig {
    StoreConfig { wal_bytes: 256 * 1024, ..StoreConfig::default() }
}

/// A store with one session and so many messages.
fn store(directory: &Path, count: u64) -> (Driver, u64) {
    let mut driver = Driver::open_with(directory, config());
    let session = driver.begin("a", 1).session();
    commit(&mut driver, session, 1..=count);
    (driver, session)
}

fn commit(driver: &mut Driver, session: u64, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        assert_eq!(driver.ask([message(session, 1, number, &[7; 4000])]), [committed(session, 1, number)]);
    }
}

fn tick(driver: &mut Driver) {
    driver.now.uptime_ms += 10_000;
    driver.tick();
}

/// The store finds out with the next tick, and answers nothing any more, however long it is waited for.
fn stops_for_good(driver: &mut Driver, session: u64, number: u64) {
    tick(driver);
    match driver.reply() {
        Reply::Stopped { why } => assert!(why.contains("pulsegate.db has been"), "{why}"),
        other => panic!("{other:?}"),
    }
    driver.store.submit(message(session, 1, number, b"x")).unwrap();
    for _ in 0..5 {
        tick(driver);
    }
    assert!(driver.store.figures().stopped);
}

/// Whether SQLite finds the database whole, with whatever log there is.
fn is_whole(directory: &Path) -> bool {
    let database = rusqlite::Connection::open(directory.join("pulsegate.db")).unwrap();
    let found: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    found == "ok"
}

fn names(parent: &Path) -> (PathBuf, PathBuf) {
    let directory = parent.join("store");
    (directory.clone(), directory.join("pulsegate.db"))
}

#[test]
fn another_store_that_is_copied_over_the_database_stops_receipts_and_is_used_by_the_next_gateway() {
    let parent = tempfile::tempdir().unwrap();
    let ((directory, database), other) = (names(parent.path()), parent.path().join("other"));
    drop(store(&other, 5).0);
    let (mut driver, session) = store(&directory, 3);
    std::fs::copy(other.join("pulsegate.db"), &database).unwrap();
    stops_for_good(&mut driver, session, 4);
    drop(driver);
    let driver = Driver::open_with(&directory, config());
    assert_eq!(driver.stored().len(), 5, "the one that was put there, and nothing of the log of the other");
    drop(driver);
    assert!(is_whole(&directory));
}

#[test]
fn an_older_copy_of_the_same_store_over_the_database_stops_receipts_whatever_the_log_still_has() {
    let parent = tempfile::tempdir().unwrap();
    let ((directory, database), backup) = (names(parent.path()), parent.path().join("backup"));
    let (driver, session) = store(&directory, 3);
    drop(driver);
    std::fs::copy(&database, &backup).unwrap();
    let mut driver = Driver::open_with(&directory, config());
    let now = driver.now;
    driver.attach(crate::driver::returner("a", session, 1, 2, now)).unwrap();
    for number in 4..=100 {
        driver.ask([message(session, 2, number, &[7; 4000])]);
    }
    std::fs::copy(&backup, &database).unwrap();
    stops_for_good(&mut driver, session, 101);
    drop(driver);
    assert_eq!(stored(&directory).len(), 3);
    assert!(is_whole(&directory));
}

#[test]
fn an_older_copy_is_noticed_though_a_reader_keeps_the_first_log_from_being_moved() {
    let parent = tempfile::tempdir().unwrap();
    let ((directory, database), backup) = (names(parent.path()), parent.path().join("backup"));
    let (driver, session) = store(&directory, 3);
    drop(driver);
    std::fs::copy(&database, &backup).unwrap();
    let attach = |driver: &mut Driver, shown| {
        let attach = crate::driver::returner("a", session, shown, shown + 1, driver.now);
        driver.attach(attach).unwrap();
    };
    let mut driver = Driver::open_with(&directory, config());
    attach(&mut driver, 1);
    driver.ask([message(session, 2, 4, b"x")]);
    drop(driver);
    let reader = rusqlite::Connection::open(&database).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    reader.query_row("SELECT count(*) FROM messages", [], |_| Ok(())).unwrap();
    let mut driver = Driver::open_with(&directory, config());
    attach(&mut driver, 2);
    driver.ask([message(session, 3, 5, b"x")]);
    std::fs::copy(&backup, &database).unwrap();
    stops_for_good(&mut driver, session, 6);
}

/// Writes another store's log over that of this one, in place, so that it becomes no shorter.
fn write_over_log(directory: &Path, other: &Path) {
    let from = std::fs::read(other.join("pulsegate.db-wal")).unwrap();
    let log = OpenOptions::new().write(true).open(directory.join("pulsegate.db-wal")).unwrap();
    assert!(from.len() as u64 >= log.metadata().unwrap().len());
    std::os::unix::fs::FileExt::write_all_at(&log, &from, 0).unwrap();
}

#[test]
fn a_log_that_is_written_over_by_a_longer_one_is_noticed_and_not_mixed_with_the_database() {
    let parent = tempfile::tempdir().unwrap();
    let ((directory, _), other) = (names(parent.path()), parent.path().join("other"));
    drop(store(&directory, 3));
    let (other_driver, _) = store(&other, 20);
    let mut driver = Driver::open_with(&directory, config());
    let now = driver.now;
    let session = driver.attach(crate::driver::returner("a", 1, 1, 2, now)).unwrap().session();
    driver.ask([message(session, 2, 4, b"x")]);
    assert_eq!(driver.pass(Duration::from_secs(1)), []);
    write_over_log(&directory, &other);
    drop(other_driver);
    tick(&mut driver);
    let Reply::Stopped { why } = driver.reply() else { panic!("it stops") };
    assert!(why.contains("pulsegate.db-wal has been") && why.contains("pulsegate.db-wal.old"), "{why}");
    tick(&mut driver);
    // Its connection is of what is lost.
    assert!(matches!(driver.reply(), Reply::Orphaned { seat } if (seat.session(), seat.epoch()) == (1, 2)));
    assert_eq!(driver.stored().len(), 3);
    drop(driver);
    assert!(is_whole(&directory));
}

#[test]
fn each_log_that_is_moved_out_of_the_way_is_kept() {
    let parent = tempfile::tempdir().unwrap();
    let (directory, database) = names(parent.path());
    for other in ["one", "two"] {
        let other = parent.path().join(other);
        drop(store(&other, 5).0);
        let (mut driver, session) = store(&directory, 3);
        std::fs::copy(other.join("pulsegate.db"), &database).unwrap();
        stops_for_good(&mut driver, session, 4);
    }
    let length = |name| std::fs::metadata(directory.join(name)).unwrap().len();
    assert!(length("pulsegate.db-wal.old") > 0 && length("pulsegate.db-wal.old.2") > 0);
}

#[test]
fn a_database_that_is_damaged_in_place_stops_receipts() {
    let parent = tempfile::tempdir().unwrap();
    let (directory, database) = names(parent.path());
    let (mut driver, session) = store(&directory, 100);
    let file = OpenOptions::new().write(true).open(&database).unwrap();
    for page in (8..40).step_by(2) {
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xaa; 4096], page * 4096).unwrap();
    }
    stops_for_good(&mut driver, session, 101);
}

#[test]
fn what_changes_nothing_but_times_modes_and_places_stops_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let (directory, database) = names(parent.path());
    let (mut driver, session) = store(&directory, 3);
    let other = rusqlite::Connection::open(&database).unwrap();
    let touch = || {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        File::options().write(true).open(&database).unwrap().set_modified(time).unwrap();
    };
    let steps: [&dyn Fn(); 4] = [
        &touch,
        &|| std::fs::set_permissions(&database, Permissions::from_mode(0o600)).unwrap(),
        &|| other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap(),
        &|| other.execute_batch("VACUUM; PRAGMA wal_checkpoint(PASSIVE)").unwrap(),
    ];
    for (number, step) in (4..).zip(steps) {
        step();
        assert_eq!(driver.pass(Duration::from_secs(1)), []);
        commit(&mut driver, session, number..=number);
        assert_eq!(driver.pass(Duration::from_secs(1)), []);
    }
    commit(&mut driver, session, 8..=100);
    assert_eq!(driver.stored().len(), 100, "and the log is still moved into the database");
    assert!(std::fs::metadata(directory.join("pulsegate.db-wal")).unwrap().len() < 2 * 256 * 1024);
}

#[test]
fn a_log_that_is_cut_short_is_noticed_and_what_it_had_is_known_to_be_lost() {
    let parent = tempfile::tempdir().unwrap();
    let (directory, _) = names(parent.path());
    drop(store(&directory, 3));
    let mut driver = Driver::open_with(&directory, config());
    let now = driver.now;
    let session = driver.attach(crate::driver::returner("a", 1, 1, 2, now)).unwrap().session();
    driver.ask([message(session, 2, 4, b"x")]);
    let log = OpenOptions::new().write(true).open(directory.join("pulsegate.db-wal")).unwrap();
    log.set_len(0).unwrap();
    tick(&mut driver);
    assert!(matches!(driver.reply(), Reply::Stopped { why } if why.contains("pulsegate.db-wal")));
    tick(&mut driver);
    // Its connection is of what is lost.
    assert!(matches!(driver.reply(), Reply::Orphaned { seat } if (seat.session(), seat.epoch()) == (1, 2)));
    assert_eq!(driver.stored().len(), 3);
}

#[test]
fn an_empty_database_beside_a_log_is_refused_with_what_to_do() {
    let parent = tempfile::tempdir().unwrap();
    let (directory, database) = names(parent.path());
    let (mut driver, session) = store(&directory, 3);
    File::options().write(true).open(&database).unwrap().set_len(0).unwrap();
    stops_for_good(&mut driver, session, 4);
    drop(driver);
    let refused = || match Driver::try_open(&directory, config()) {
        Err(OpenError::Unusable { why, .. }) => why,
        other => panic!("{:?}", other.map(|_| ())),
    };
    let why = refused();
    assert!(why.contains("is empty") && why.contains("backup"), "{why}");
    // As a process that was killed would have left it.
    for name in std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
        std::fs::remove_file(name).unwrap();
    }
    File::create(&database).unwrap();
    std::fs::write(directory.join("pulsegate.db-wal"), b"something").unwrap();
    assert_eq!(refused(), why.replace(".old", ""));
    assert_eq!(std::fs::metadata(&database).unwrap().len(), 0, "nothing is made in its place");
    std::fs::remove_file(directory.join("pulsegate.db-wal")).unwrap();
    assert!(Driver::try_open(&directory, config()).is_ok(), "an empty file alone is a new store");
}
