//! Messages of clients that have no session: stored as they are, never answered.

use crate::driver::{Driver, append, message, returner};
use pulsegate_store::{Outcome, Reply, StoreConfig};
use std::time::Duration;

#[test]
fn a_message_without_a_session_is_stored_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let session = driver.begin("a", 1).session();
    let requests = [
        append("127.0.0.1:50000", 9, b"one"),
        message(session, 1, 1, b"two"),
        append("127.0.0.1:50000", 9, b"three"),
        append("", 0, b""),
    ];
    assert_eq!(driver.ask(requests).len(), 1, "the receipt of the other one");
    let stored: Vec<_> = driver
        .stored()
        .into_iter()
        .map(|message| (message.session, message.client, message.number, message.payload))
        .collect();
    let row = |session, client: &str, number, payload: &[u8]| {
        (session, client.to_owned(), number, payload.to_vec())
    };
    let wanted = [
        row(0, "127.0.0.1:50000", 9, b"one"),
        row(session, "a", 1, b"two"),
        row(0, "127.0.0.1:50000", 9, b"three"),
        row(0, "", 0, b""),
    ];
    assert_eq!(stored, wanted);
    let figures = driver.store.figures();
    assert_eq!((figures.messages, figures.message_bytes), (4, 4 * 64 + 2 * 15 + 1 + 3 + 3 + 5));
    drop(driver);
    // Neither they nor a message of theirs can be taken for those of a session.
    let mut driver = Driver::open(directory.path());
    let attached = driver.attach(returner("a", 0, 1, 2, driver.now)).unwrap();
    assert_eq!((attached.outcome, attached.session()), (Outcome::New, session + 1));
    let replies = driver.ask([message(0, 0, 1, b"x"), message(0, 1, 1, b"x")]);
    assert!(replies.iter().all(|reply| matches!(reply, Reply::Orphaned { .. })), "{replies:?}");
    assert_eq!(driver.stored().len(), 4);
}

#[test]
fn session_0_can_never_be_one() {
    let directory = tempfile::tempdir().unwrap();
    drop(Driver::open(directory.path()));
    let file = rusqlite::Connection::open(directory.path().join("pulsegate.db")).unwrap();
    let insert = "INSERT INTO sessions VALUES (?1, 'a', x'00', NULL, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, NULL, 0, 0, 0, 0, 0, 0)";
    assert_eq!((file.execute(insert, [7]), file.execute(insert, [0]).is_err()), (Ok(1), true));
}

#[test]
fn what_breaks_the_callers_promise_is_counted_and_harms_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig { message_bytes_max: 4, ..StoreConfig::default() };
    let mut driver = Driver::open_with(directory.path(), config);
    let long = "x".repeat(129);
    let requests = [
        append("a", 1, b"large"),
        append(&long, 2, b""),
        append("a", u64::MAX, b""),
        append("a", 3, b"tiny"),
    ];
    assert_eq!(driver.ask(requests), []);
    assert_eq!((driver.stored().len(), driver.store.figures().appends_refused), (1, 3));
    driver.ask([append("a", 4, b"large")]);
    assert_eq!(driver.store.figures().appends_refused, 4);
}

#[test]
fn messages_without_a_session_go_when_they_are_old_or_too_many() {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        retention_age: Duration::from_secs(100),
        retention_bytes: 1 << 20,
        ..StoreConfig::default()
    };
    let mut driver = Driver::open_with(directory.path(), config);
    for _ in 0..30 {
        driver.ask((0..100).map(|number| append("a", number, &[0; 1000])));
    }
    driver.ask([]);
    let figures = driver.store.figures();
    assert!(figures.messages > 900 && figures.message_bytes <= 1 << 20, "{figures:?}");
    for _ in 0..3 {
        driver.pass(Duration::from_secs(101));
    }
    assert_eq!((driver.stored().len(), driver.store.figures().message_bytes), (0, 0));
}
