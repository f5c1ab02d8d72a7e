//! A commit that failed although the file has it: it is answered once, whatever fails next, and not carried out again.

use crate::driver::{Driver, TTL, append, detach, newcomer, push, stored};
use crate::faults::Small;
use crate::goes_on::{change, retry};
use crate::shares::{append_from, resting};
use pulsegate_store::{PushRefusal, Recipient, Reply, Request, StoreConfig};
use std::path::Path;

/// The reply that shows that a batch was answered.
const ANSWER: Reply = Reply::PushRefused { ticket: 1, why: PushRefusal::NoSession };

/// Submits this, with something that is answered, in batches until the commit of one finds no room; returns how many
/// were submitted.
fn until_in_doubt(driver: &mut Driver, small: &Small<'_>, request: &Request) -> usize {
    small.fill();
    for count in 1..100 {
        let mut requests = vec![request.clone(), push(1, Recipient::Session(1 << 40), b"x")];
        driver.store.submit_all(&mut requests).unwrap();
        let reply = driver.reply();
        if let Reply::Stopped { why } = reply {
            assert!(why.contains("full"), "{why}");
            small.empty();
            return count;
        }
        assert_eq!(reply, ANSWER);
    }
    panic!("there is no end of room");
}

/// Leaves in the file what the failed commit would have left, had it got there: a message, and the batch's number.
fn commit_all_the_same(directory: &Path) {
    change(
        directory,
        "INSERT INTO messages (id, session, number, received_at_ms, client, payload, source)
             SELECT coalesce(max(id), 0) + 1, 0, 1, 0, 'doubted', x'00', 0 FROM messages;
         UPDATE totals SET messages = messages + 1, message_bytes = message_bytes + 72, batch = batch + 1;",
    );
}

#[test]
fn it_is_not_carried_out_again_though_room_is_made_in_vain() {
    let place = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(place.path(), 12) else { return };
    let directory = place.path().join("store");
    let mut driver = Driver::open(&directory);
    let now = driver.now;
    driver.ask((0..600).map(|_| Request::Attach(Box::new(newcomer("a", 1, now)))));
    driver.ask((1..=600).map(|session| detach(session, 1, false, now)));
    let count = until_in_doubt(&mut driver, &small, &append("doubted", 1, &[7; 100_000]));
    commit_all_the_same(&directory);
    // All sessions expire, in pieces; the second fails.
    let fail = "BEGIN SELECT RAISE(FAIL, 'on purpose'); END";
    change(&directory, &format!("CREATE TRIGGER expiry BEFORE DELETE ON sessions WHEN OLD.id > 300 {fail}"));
    driver.now.uptime_ms += u64::try_from(TTL.as_millis()).unwrap();
    retry(&mut driver);
    assert_eq!(driver.reply(), ANSWER, "it is answered at once");
    assert!(driver.store.figures().stopped);
    retry(&mut driver);
    change(&directory, "DROP TRIGGER expiry");
    let mut replies = vec![];
    while !replies.contains(&Reply::GoesOn) {
        retry(&mut driver);
        replies.append(&mut driver.ask([]));
    }
    assert!(!replies.contains(&ANSWER), "{replies:?}");
    assert_eq!(replies.iter().filter(|reply| matches!(reply, Reply::Expired { .. })).count(), 600);
    assert_eq!(stored(&directory).iter().filter(|message| message.client == "doubted").count(), count);
}

#[test]
fn whom_it_says_to_rest_is_released() {
    let place = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(place.path(), 8) else { return };
    let directory = place.path().join("store");
    let config = StoreConfig {
        retention_bytes: 1 << 20,
        retention_bytes_per_source: Some(50_000),
        ..StoreConfig::default()
    };
    let mut driver = Driver::open_with(&directory, config);
    assert_eq!(until_in_doubt(&mut driver, &small, &append_from(9, 100_000)), 1);
    commit_all_the_same(&directory);
    retry(&mut driver);
    let mut replies = vec![];
    while !replies.contains(&Reply::GoesOn) {
        retry(&mut driver);
        replies.append(&mut driver.ask([]));
    }
    let is_word = |reply: &&Reply| matches!(reply, Reply::Resting { .. });
    let words: Vec<Reply> = replies.iter().filter(is_word).cloned().collect();
    // Nothing of this source is in the file.
    assert_eq!(resting(&words[..1]), Some((vec![], vec![9])));
    assert_eq!(resting(&words), Some((vec![], vec![])));
}
