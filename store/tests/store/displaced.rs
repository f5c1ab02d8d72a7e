//! Files that are removed, renamed or replaced under an open store: nothing is acknowledged that only they would have.

use crate::driver::{Driver, committed, message, stored};
use pulsegate_store::{OpenError, Reply, StoreConfig};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const FILES: [&str; 3] = ["pulsegate.db", "pulsegate.db-wal", "pulsegate.db-shm"];

/// A store in a folder of its own, with one session and one message.
fn store(parent: &Path) -> (Driver, PathBuf, u64) {
    let directory = parent.join("store");
    let mut driver = Driver::open(&directory);
    let session = driver.begin("a", 1).session();
    assert_eq!(driver.ask([message(session, 1, 1, b"x")]), [committed(session, 1, 1)]);
    (driver, directory, session)
}

/// Lets time pass, far enough for another attempt.
fn tick(driver: &mut Driver) {
    driver.now.uptime_ms += 10_000;
    driver.tick();
}

/// The store finds out with the next tick, and says which path it is; what is submitted then is not answered.
fn stops(driver: &mut Driver, session: u64, path: &Path, number: u64) {
    tick(driver);
    match driver.reply() {
        Reply::Stopped { why } => assert!(why.contains(&path.display().to_string()), "{why}"),
        other => panic!("{other:?}"),
    }
    driver.store.submit(message(session, 1, number, b"x")).unwrap();
    assert!(driver.store.figures().stopped);
}

/// The store goes on by itself, and answers what was submitted.
fn goes_on(driver: &mut Driver, session: u64, number: u64) {
    tick(driver);
    assert_eq!([driver.reply(), driver.reply()], [Reply::GoesOn, committed(session, 1, number)]);
    assert!(stored(&driver.directory).iter().map(|message| message.number).eq(1..=number));
}

#[test]
fn removed_files_stop_receipts_and_the_same_files_let_them_go_on() {
    let parent = tempfile::tempdir().unwrap();
    let (mut driver, directory, session) = store(parent.path());
    for name in FILES {
        std::fs::hard_link(directory.join(name), parent.path().join(name)).unwrap();
        std::fs::remove_file(directory.join(name)).unwrap();
    }
    // What a gateway says until it has looked is the stated bound.
    assert_eq!(driver.ask([message(session, 1, 2, b"x")]), [committed(session, 1, 2)]);
    stops(&mut driver, session, &directory.join("pulsegate.db"), 3);
    tick(&mut driver);
    assert!(!directory.join("pulsegate.db").exists(), "no empty store hides what has happened");
    for name in FILES {
        std::fs::rename(parent.path().join(name), directory.join(name)).unwrap();
    }
    goes_on(&mut driver, session, 3);
}

#[test]
fn a_renamed_directory_stops_receipts_until_it_is_back() {
    let parent = tempfile::tempdir().unwrap();
    let (mut driver, directory, session) = store(parent.path());
    let aside = parent.path().join("aside");
    for number in [2, 3] {
        std::fs::rename(&directory, &aside).unwrap();
        stops(&mut driver, session, &directory, number);
        std::fs::create_dir(&directory).unwrap();
        tick(&mut driver);
        std::fs::remove_dir(&directory).unwrap();
        std::fs::rename(&aside, &directory).unwrap();
        goes_on(&mut driver, session, number);
    }
}

#[test]
fn a_removed_log_loses_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let (mut driver, directory, session) = store(parent.path());
    for (number, name) in (2..).zip(["pulsegate.db-wal", "pulsegate.db-shm", "pulsegate.db-wal"]) {
        std::fs::remove_file(directory.join(name)).unwrap();
        stops(&mut driver, session, &directory.join(name), number);
        goes_on(&mut driver, session, number);
    }
    drop(driver);
    assert_eq!(stored(&directory).len(), 4);
}

#[test]
fn a_copy_in_the_place_of_the_database_is_used_by_the_next_gateway_only() {
    let parent = tempfile::tempdir().unwrap();
    let (mut driver, directory, session) = store(parent.path());
    let [file, old, copy] =
        [directory.join("pulsegate.db"), parent.path().join("old"), parent.path().join("copy")];
    std::fs::copy(&file, &copy).unwrap();
    std::fs::rename(&file, &old).unwrap();
    std::fs::rename(&copy, &file).unwrap();
    stops(&mut driver, session, &file, 2);
    for _ in 0..10 {
        tick(&mut driver);
    }
    std::fs::rename(&file, &copy).unwrap();
    std::fs::rename(&old, &file).unwrap();
    goes_on(&mut driver, session, 2);
    driver.ask([message(session, 1, 3, b"x")]);
    std::fs::rename(&file, &old).unwrap();
    std::fs::rename(&copy, &file).unwrap();
    stops(&mut driver, session, &file, 4);
    drop(driver);
    // The copy is from before the first message was moved into the database; the log is that of another file.
    let mut driver = Driver::open(&directory);
    assert_eq!((driver.stored().len(), driver.store.figures().messages), (0, 0));
    assert!(driver.ask([]).is_empty());
    std::fs::create_dir(parent.path().join("saved")).unwrap();
    std::fs::rename(&old, parent.path().join("saved/pulsegate.db")).unwrap();
    assert_eq!(stored(&parent.path().join("saved")).len(), 3, "the old file is whole without its log");
}

#[test]
fn an_emptied_database_stops_receipts_and_is_not_written_to() {
    let parent = tempfile::tempdir().unwrap();
    let (mut driver, directory, session) = store(parent.path());
    let file = directory.join("pulsegate.db");
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(0).unwrap();
    stops(&mut driver, session, &file, 2);
    for _ in 0..3 {
        tick(&mut driver);
    }
    assert!(driver.store.figures().stopped);
    drop(driver);
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 0);
}

#[test]
fn a_removed_lock_lets_no_second_gateway_in() {
    let parent = tempfile::tempdir().unwrap();
    let (mut driver, directory, session) = store(parent.path());
    std::fs::remove_file(directory.join("pulsegate.lock")).unwrap();
    let second = || Driver::try_open(&directory, StoreConfig::default()).err();
    assert!(matches!(second(), Some(OpenError::Held(_))));
    assert_eq!(driver.pass(Duration::from_secs(1)), []);
    assert!(directory.join("pulsegate.lock").exists(), "it is made again");
    assert!(matches!(second(), Some(OpenError::Held(_))));
    assert_eq!(driver.ask([message(session, 1, 2, b"x")]), [committed(session, 1, 2)]);
    drop(driver);
    assert!(second().is_none());
}

/// A file system over a folder, as long as it lives.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_file_system_mounted_over_the_directory_stops_receipts() {
    let parent = tempfile::tempdir().unwrap();
    let (mut driver, directory, session) = store(parent.path());
    let mount = Command::new("mount").args(["-t", "tmpfs", "over"]).arg(&directory).output();
    if !mount.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: a tmpfs can't be mounted here (it takes root)");
        return;
    }
    let mounted = Mounted(&directory);
    stops(&mut driver, session, &directory, 2);
    tick(&mut driver);
    drop(mounted);
    goes_on(&mut driver, session, 2);
}
