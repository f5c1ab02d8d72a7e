//! Retention: by age and by bytes, the oldest first, in pieces.

use crate::driver::{Driver, TTL, detach, message_at, newcomer, push};
use pulsegate_store::{Attach, Reader, Recipient, Reply, Request, SecondConnection, StoreConfig};
use std::time::Duration;

fn kept_for(age: Duration) -> StoreConfig {
    StoreConfig { retention_age: age, ..StoreConfig::default() }
}

/// Which message is the oldest, after everything has been done that is due.
fn oldest(driver: &mut Driver) -> Option<u64> {
    // Pieces ride on batches: as many as there are.
    for _ in 0..10 {
        driver.ask([]);
    }
    driver.stored().first().map(|message| message.id)
}

#[test]
fn messages_go_when_they_are_old() {
    let directory = tempfile::tempdir().unwrap();
    let config = kept_for(Duration::from_secs(100));
    let mut driver = Driver::open_with(directory.path(), config.clone());
    let (session, start) = (driver.begin("a", 1).session(), driver.now.wall_ms);
    driver.ask((1..=2500).map(|number| message_at(session, 1, number, b"x", start)));
    driver.pass(Duration::from_secs(10));
    driver.ask((2501..=3000).map(|number| message_at(session, 1, number, b"x", start)));
    driver.pass(Duration::from_secs(1));
    driver.pass(Duration::from_secs(88));
    assert_eq!(oldest(&mut driver), Some(1));
    // What came between two looks is as old as the second.
    driver.pass(Duration::from_secs(11));
    assert_eq!(oldest(&mut driver), Some(2501));
    driver.pass(Duration::from_secs(2));
    assert_eq!(oldest(&mut driver), None);
    let figures = driver.store.figures();
    assert_eq!((figures.messages, figures.message_bytes), (0, 0));
    drop(driver);
    let mut driver = Driver::open_with(directory.path(), config);
    let reader = Reader::open(directory.path()).unwrap();
    assert_eq!((reader.newest().unwrap(), reader.deleted_to().unwrap()), (3000, 3000));
    let session = driver.begin("b", 1).session();
    driver.ask([message_at(session, 1, 1, b"x", start + 300_000)]);
    assert_eq!(driver.stored()[0].id, 3001, "ids are never used again");
}

#[test]
fn a_wall_clock_that_jumps_deletes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), kept_for(Duration::from_secs(100)));
    let (session, start) = (driver.begin("a", 1).session(), driver.now.wall_ms);
    driver.ask([message_at(session, 1, 1, b"x", start)]);
    for wall_ms in [start + 8 * 86_400_000, 0, u64::MAX >> 2, start] {
        driver.now.wall_ms = wall_ms;
        driver.pass(Duration::from_secs(1));
        assert_eq!(oldest(&mut driver), Some(1), "at {wall_ms}");
    }
}

#[test]
fn messages_from_the_future_and_before_1970_go_with_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), kept_for(Duration::from_secs(100)));
    let (session, start) = (driver.begin("a", 1).session(), driver.now.wall_ms);
    let times = [start + 400 * 86_400_000, 0, start].into_iter().zip(1..);
    driver.ask(times.map(|(time, number)| message_at(session, 1, number, b"x", time)));
    driver.pass(Duration::from_secs(1));
    driver.pass(Duration::from_secs(99));
    assert_eq!(oldest(&mut driver), Some(1));
    driver.pass(Duration::from_secs(1));
    assert_eq!(oldest(&mut driver), None);
}

#[test]
fn the_age_of_messages_outlives_gateways_and_rests_between_them() {
    let directory = tempfile::tempdir().unwrap();
    let config = kept_for(Duration::from_secs(100));
    let mut driver = Driver::open_with(directory.path(), config.clone());
    let session = driver.begin("a", 1).session();
    driver.ask([message_at(session, 1, 1, b"x", 0)]);
    driver.pass(Duration::from_secs(1));
    for seconds in [40, 40, 19] {
        driver.pass(Duration::from_secs(seconds));
        drop(driver);
        driver = Driver::open_with(directory.path(), config.clone());
        driver.now.wall_ms += 30 * 86_400_000;
        assert_eq!(oldest(&mut driver), Some(1));
    }
    driver.pass(Duration::from_secs(1));
    assert_eq!(oldest(&mut driver), None);
}

#[test]
fn how_old_messages_are_is_kept_in_few_rows() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open_with(directory.path(), kept_for(Duration::from_secs(1000)));
    let session = driver.begin("a", 1).session();
    for number in 1..=2000 {
        driver.ask([message_at(session, 1, number, b"x", 0)]);
        driver.pass(Duration::from_secs(2));
    }
    let file = rusqlite::Connection::open(directory.path().join("pulsegate.db")).unwrap();
    let rows: u64 = file.query_row("SELECT count(*) FROM ages", [], |row| row.get(0)).unwrap();
    assert!((200..=260).contains(&rows), "{rows}");
    assert!((500..=504).contains(&driver.stored().len()), "up to a step longer than they have to be");
}

#[test]
fn no_more_bytes_are_kept_than_may_be() {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig { retention_bytes: 1 << 20, wal_bytes: 1 << 20, ..StoreConfig::default() };
    let mut driver = Driver::open_with(directory.path(), config);
    let (session, now) = (driver.begin("a", 1).session(), driver.now.wall_ms);
    for round in 0..40_u64 {
        driver.ask((1..=100).map(|number| message_at(session, 1, 100 * round + number, &[0; 1000], now)));
        assert!(driver.store.figures().message_bytes <= (1 << 20) + 200 * 1065);
    }
    let stored = driver.stored();
    assert_eq!(stored.last().map(|message| message.number), Some(4000));
    assert!(stored.windows(2).all(|pair| pair[0].number + 1 == pair[1].number));
    let figures = driver.store.figures();
    assert_eq!(figures.messages, stored.len() as u64);
    assert_eq!(figures.message_bytes, figures.messages * (1000 + 64 + 1));
    assert!(figures.message_bytes <= 1 << 20);
    let bytes: u64 = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes < 8 << 20, "the files are bounded as well: {bytes}");
}

#[test]
fn many_sessions_expire_in_pieces() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let sessions: Vec<_> = (0..1000).map(|_| driver.begin("a", 1).session()).collect();
    let now = driver.now;
    driver.ask(sessions.iter().map(|session| detach(*session, 1, false, now)));
    let mut expired = driver.pass(TTL);
    while expired.len() < sessions.len() {
        expired.push(driver.reply());
    }
    expired.extend(driver.pass(TTL));
    let wanted: Vec<_> =
        sessions.iter().map(|session| Reply::Expired { session: *session, unknown: None }).collect();
    assert_eq!(expired, wanted);
    assert_eq!(driver.store.figures().sessions, 0);
}

#[test]
fn sessions_for_whom_much_waits_expire_few_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let sessions: Vec<_> = (0..10).map(|_| driver.begin("a", 1).session()).collect();
    for session in &sessions {
        driver.ask((0..1000).map(|ticket| push(ticket, Recipient::Session(*session), b"x")));
    }
    let now = driver.now;
    driver.ask(sessions.iter().map(|session| detach(*session, 1, false, now)));
    driver.now.uptime_ms += u64::try_from(TTL.as_millis()).unwrap();
    driver.tick();
    // One batch, and one reply for each session in it.
    let first = driver.batch();
    assert_eq!(first.iter().filter(|reply| matches!(reply, Reply::Expired { .. })).count(), 3, "{first:?}");
    let rest = (0..3).flat_map(|_| driver.batch());
    assert_eq!(rest.filter(|reply| matches!(reply, Reply::Expired { .. })).count(), 7);
    assert_eq!(driver.store.figures().sessions, 0);
}

#[test]
#[ignore = "takes a while: prints how long a start with a million sessions takes"]
fn a_million_sessions_are_no_obstacle_to_a_start() {
    let directory = tempfile::tempdir().unwrap();
    drop(Driver::open(directory.path()));
    let file = rusqlite::Connection::open(directory.path().join("pulsegate.db")).unwrap();
    file.execute_batch(
        "WITH RECURSIVE series (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM series LIMIT 1000000)
         INSERT INTO sessions SELECT value, 'client-' || value, randomblob(16), randomblob(16), 1, 9, 9, 0, 0, 0,
         1, 0, 0, 1800000000000, 1800000000000, 60000, 1 FROM series",
    )
    .unwrap();
    drop(file);
    let start = std::time::Instant::now();
    let mut driver = Driver::open(directory.path());
    println!("start with 1,000,000 sessions: {:?}", start.elapsed());
    assert_eq!(driver.store.figures().sessions, 1_000_000);
    let start = std::time::Instant::now();
    let now = driver.now;
    let replies = driver.ask((0..10_000).map(|number| {
        let attach = newcomer(&format!("client-{}", 100 * number), 1, now);
        Request::Attach(Box::new(Attach { second: SecondConnection::Refuse, ..attach }))
    }));
    assert!(replies.iter().all(|reply| matches!(reply, Reply::AttachRefused { .. })), "there is no room");
    println!("10,000 that are looked up by their clients: {:?}", start.elapsed());
    driver.now.uptime_ms += 60_000;
    let start = std::time::Instant::now();
    driver.tick();
    let mut expired = 0;
    while expired < 1_000_000 {
        expired += usize::from(matches!(driver.reply(), Reply::Expired { .. }));
    }
    println!("expiry of 1,000,000 sessions: {:?}", start.elapsed());
}
