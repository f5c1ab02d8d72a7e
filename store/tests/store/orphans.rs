//! Connections that the store does not know any more: each message gets an answer, and after a fault each connection
//! that is gone is told, even if it says nothing.

use crate::driver::{Driver, committed, detach, message, newcomer, push, returner};
use pulsegate_store::{Attach, Attachment, Recipient, Reply, Request, Seat};
use std::path::Path;

fn orphaned(ticket: u128, session: u64, epoch: u64) -> Reply {
    Reply::Orphaned { seat: Seat::new(ticket, session, epoch) }
}

/// Makes one commit fail, changes the file meanwhile, and lets the store open it anew.
fn fault(driver: &mut Driver, directory: &Path, change: &str) -> Vec<Reply> {
    let file = rusqlite::Connection::open(directory.join("pulsegate.db")).unwrap();
    file.execute_batch(
        "CREATE TRIGGER fail BEFORE INSERT ON messages WHEN NEW.client = 'fault' \
         BEGIN SELECT RAISE(FAIL, 'on purpose'); END",
    )
    .unwrap();
    driver.store.submit(crate::driver::append("fault", 1, b"x")).unwrap();
    assert!(matches!(driver.reply(), Reply::Stopped { .. }));
    file.execute_batch("DROP TRIGGER fail").unwrap();
    file.execute_batch(change).unwrap();
    drop(file);
    driver.now.uptime_ms += 10_000;
    driver.tick();
    driver.ask([])
}

#[test]
fn a_message_of_a_session_that_is_not_there_is_answered_once_in_a_batch() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let session = driver.begin("a", 1).session();
    assert_eq!(driver.ask([message(session + 1, 1, 1, b"x")]), [orphaned(101, session + 1, 1)]);
    assert_eq!(driver.ask([message(session, 2, 1, b"x")]), [orphaned(101, session, 2)], "never attached");
    let replies = driver.ask([message(session, 1, 1, b"x"), message(9, 1, 1, b"x")]);
    assert_eq!(replies.last(), Some(&orphaned(101, 9, 1)), "after the receipts");
    assert!(replies.contains(&committed(session, 1, 1)));
    let load = Request::Load { seat: Seat::new(5, 9, 1), above: 0, bytes_max: 100 };
    assert_eq!(driver.ask([load]), [orphaned(5, 9, 1)]);
    // Whoever waits for its end must not wait for ever.
    let detached = Reply::Detached { seat: Seat::new(9, session + 1, 1), forgotten: true };
    assert_eq!(driver.ask([detach(session + 1, 1, false, driver.now)]), [detached]);
}

#[test]
fn after_a_fault_every_connection_that_is_gone_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let sessions: Vec<u64> = (1..=4)
        .map(|client| {
            let attach =
                Attach { ticket: client.into(), ..newcomer(&client.to_string(), client, driver.now) };
            driver.attach(attach).unwrap().session()
        })
        .collect();
    let again = Attach { ticket: 12, ..returner("2", sessions[1], 2, 9, driver.now) };
    assert_eq!(driver.attach(again).unwrap().epoch(), 2);
    let change = format!(
        "DELETE FROM sessions WHERE id = {}; UPDATE sessions SET epoch = 1 WHERE id = {}; \
         UPDATE sessions SET expires_ms = 1000000 WHERE id = {};
         UPDATE sqlite_sequence SET seq = {} WHERE name = 'sessions'",
        sessions[3], sessions[1], sessions[2], sessions[0]
    );
    let mut replies = fault(&mut driver, directory.path(), &change);
    assert_eq!(replies.pop(), Some(Reply::GoesOn));
    replies.sort_by_key(|reply| format!("{reply:?}"));
    let mut wanted =
        vec![orphaned(12, sessions[1], 2), orphaned(3, sessions[2], 1), orphaned(4, sessions[3], 1)];
    wanted.sort_by_key(|reply| format!("{reply:?}"));
    assert_eq!(replies, wanted);
    assert_eq!(driver.store.figures().attached, 1);

    // Neither their numbers nor their epochs are given to anybody else, so what they left behind is nothing.
    let other = driver.begin("5", 5).session();
    assert!(other > sessions[3]);
    let again = driver.attach(returner("2", sessions[1], 9, 6, driver.now)).unwrap();
    assert_eq!((again.epoch(), again.replaced), (3, None));
    assert_eq!(driver.ask([message(sessions[1], 2, 1, b"late")]), []);
    let replies = driver.ask([message(sessions[1], 3, 1, b"x"), message(sessions[0], 1, 1, b"x")]);
    assert_eq!(replies, [committed(sessions[1], 3, 1), committed(sessions[0], 1, 1)]);
    let known = Reply::Detached { seat: Seat::new(9, sessions[2], 1), forgotten: false };
    assert_eq!(driver.ask([detach(sessions[2], 1, true, driver.now)]), [known]);
    let pushed = driver.ask([push(1, Recipient::Session(sessions[2]), b"x")]);
    assert!(matches!(pushed[..], [Reply::Pushed { connection: None, .. }]), "{pushed:?}");
}

#[test]
fn what_waits_at_a_fault_for_sessions_that_are_gone_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let session = driver.begin("a", 1).session();
    let file = rusqlite::Connection::open(directory.path().join("pulsegate.db")).unwrap();
    file.execute_batch(
        "CREATE TRIGGER fail BEFORE INSERT ON messages BEGIN SELECT RAISE(FAIL, 'on purpose'); END",
    )
    .unwrap();
    driver.store.submit(message(session, 1, 1, b"x")).unwrap();
    assert!(matches!(driver.reply(), Reply::Stopped { .. }));
    driver
        .store
        .submit_all(&mut vec![
            message(session, 1, 2, b"x"),
            Request::Confirm { attachment: Attachment { session, epoch: 1 }, floor: 1 },
        ])
        .unwrap();
    file.execute_batch("DROP TRIGGER fail; DELETE FROM sessions").unwrap();
    drop(file);
    driver.now.uptime_ms += 10_000;
    driver.tick();
    let replies = driver.ask([]);
    assert!(replies.contains(&orphaned(7, session, 1)), "its connection: {replies:?}");
    assert!(
        replies.iter().filter(|reply| matches!(reply, Reply::Orphaned { .. })).count() >= 2,
        "its messages"
    );
}
