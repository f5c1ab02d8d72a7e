//! A disk without room: what may go goes, what can't be kept isn't promised, and a start is no obstacle.

use crate::child::Task;
use crate::driver::{Driver, TTL, detach, message, returner, stored};
use crate::faults::{Small, until_stopped};
use pulsegate_store::{Reply, Request, StoreConfig};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const RESERVE: &str = "pulsegate.reserve";

fn config() -> StoreConfig {
    StoreConfig { wal_bytes: 256 * 1024, ..StoreConfig::default() }
}

/// Commits so many messages of 4 KB, over any fault; returns how often the store has stopped meanwhile.
fn commit(driver: &mut Driver, session: u64, epoch: u64, from: u64, count: u64) -> u32 {
    let mut stops = 0;
    for number in from..from + count {
        driver.store.submit(message(session, epoch, number, &[7; 4000])).unwrap();
        loop {
            match driver.reply() {
                Reply::Committed { committed, .. } if committed == number => break,
                Reply::Stopped { why } => {
                    assert!(why.contains("full") || why.contains("room"), "{why}");
                    stops += 1;
                    assert!(stops < 100, "it gets no further than {number}");
                    driver.now.uptime_ms += 10_000;
                    driver.tick();
                }
                Reply::GoesOn | Reply::Expired { .. } | Reply::Resting { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    stops
}

/// Opens a store, which may find that it has no room to start in, and lets it try again.
fn open_and_tick(directory: &Path) -> Driver {
    let mut driver = Driver::open_with(directory, config());
    if driver.store.figures().stopped {
        assert!(matches!(driver.reply(), Reply::Stopped { .. }));
        driver.now.uptime_ms += 10_000;
        driver.tick();
        until_open(&driver);
        driver.tick();
        let reply = driver.reply();
        let is_resting = matches!(reply, Reply::Resting { .. });
        assert_eq!(if is_resting { driver.reply() } else { reply }, Reply::GoesOn);
    }
    driver
}

/// Waits until the store has got over its fault. It says so with the next tick.
fn until_open(driver: &Driver) {
    let limit = Instant::now() + Duration::from_secs(60);
    while driver.store.figures().stopped {
        assert!(Instant::now() < limit, "it never opens");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_retention_larger_than_the_disk_is_lowered() {
    let place = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(place.path(), 12) else { return };
    let directory = place.path().join("store");
    let mut driver = Driver::open_with(&directory, config());
    let session = driver.begin("a", 1).session();
    // 20 MB on 12, of which 9 may be messages.
    assert_eq!(commit(&mut driver, session, 1, 1, 5_000), 0);
    assert!((7 << 20..9 << 20).contains(&driver.store.figures().message_bytes));
    // Half of the disk goes to another program: what is there has to do.
    small.fill();
    commit(&mut driver, session, 1, 5_001, 3_000);
    assert!(driver.store.figures().message_bytes > 4 << 20);
    assert_eq!(stored(&directory).last().map(|message| message.number), Some(8_000));
    drop(driver);
    small.fill();
    let mut driver = open_and_tick(&directory);
    let attach = returner("a", session, 1, 2, driver.now);
    driver.ask([Request::Attach(Box::new(attach))]);
    commit(&mut driver, session, 2, 8_001, 3_000);
    assert_eq!(stored(&directory).last().map(|message| message.number), Some(11_000));
}

#[test]
fn a_reserve_is_given_up_when_the_disk_is_full_and_made_again() {
    let place = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(place.path(), 8) else { return };
    let directory = place.path().join("store");
    let mut driver = Driver::open_with(&directory, config());
    let session = driver.begin("a", 1).session();
    assert_eq!(std::fs::metadata(directory.join(RESERVE)).unwrap().len(), 512 * 1024);
    small.fill();
    let (last, number) = until_stopped(&mut driver, session, 1);
    assert!(!directory.join(RESERVE).exists());
    driver.now.uptime_ms += 10_000;
    driver.tick();
    assert_eq!(driver.reply(), Reply::GoesOn, "there is the room of the reserve");
    assert!(matches!(driver.reply(), Reply::Committed { committed, .. } if committed == number), "{last}");
    driver.pass(Duration::from_secs(70));
    assert!(!directory.join(RESERVE).exists(), "what little there is is left to the store");
    small.empty();
    driver.pass(Duration::from_secs(70));
    assert!(directory.join(RESERVE).exists());
    assert_eq!(stored(&directory).len() as u64, number, "others have filled the disk: nothing of ours goes");
}

/// A gateway that is killed when it has no room any more; returns what it has acknowledged.
fn killed_on_a_full_disk(directory: &Path) -> u64 {
    let task =
        Task { directory, synced: true, sessions: 1, resume: &[], count: 1 << 40, window: 64, beside: false };
    let mut child = task.give(Command::new("env")).stdout(Stdio::piped()).spawn().unwrap();
    let mut acknowledged = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["committed", _, number] => acknowledged = number.parse().unwrap(),
            ["stopped", ..] => break,
            _ => {}
        }
        assert!(acknowledged < 1_000_000, "the disk is far smaller");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    acknowledged
}

#[test]
fn a_gateway_killed_on_a_full_disk_starts_again() {
    let place = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(place.path(), 12) else { return };
    let directory = place.path().join("store");
    // Leaves 2.5 MiB: it is others who fill the disk.
    small.take(19 << 19);
    let acknowledged = killed_on_a_full_disk(&directory);
    assert!(acknowledged > 100);
    for _ in 0..3 {
        // The rest as well, with the room that the reserve has left.
        let _ = std::fs::write(place.path().join("more"), vec![0; 4 << 20]);
        let mut driver = Driver::open_with(&directory, config());
        driver.now.uptime_ms += 10_000;
        driver.tick();
        assert!(stored(&directory).len() as u64 >= acknowledged);
    }
    small.empty();
    let mut driver = Driver::open_with(&directory, config());
    assert!(driver.attach(returner("child", 1, 1, 2, driver.now)).unwrap().committed >= acknowledged);
    assert!(stored(&directory).len() as u64 >= acknowledged, "and nothing is lost");
}

#[test]
fn a_start_without_room_lets_no_session_expire_early() {
    let place = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(place.path(), 12) else { return };
    let directory = place.path().join("store");
    let mut driver = Driver::open_with(&directory, config());
    let sessions: Vec<_> = (0..2_000).map(|_| driver.begin("a", 1).session()).collect();
    let now = driver.now;
    driver.ask(sessions.iter().map(|session| detach(*session, 1, false, now)));
    drop(driver);
    let _ = std::fs::remove_file(directory.join(RESERVE));
    small.fill();
    let mut driver = Driver::open_with(&directory, config());
    assert!(matches!(driver.reply(), Reply::Stopped { .. }), "all sessions have to be written");
    // On the uptime of the gateway before, their time is over.
    driver.now.uptime_ms += 2 * u64::try_from(TTL.as_millis()).unwrap();
    driver.tick();
    small.empty();
    driver.now.uptime_ms += 10_000;
    driver.tick();
    until_open(&driver);
    driver.tick();
    assert_eq!(driver.reply(), Reply::GoesOn);
    assert_eq!((driver.ask([]), driver.store.figures().sessions), (vec![], 2_000));
    assert_eq!(driver.pass(TTL).len(), 256, "and then they do");
}
