//! A store in memory: judges as one with a directory does, and hands on what it has committed.

use crate::driver::{Driver, append, message, newcomer, returner};
use pulsegate_store::{
    ConfigError, Durability, Forwarded, Moment, NotForwarded, OpenError, Outcome, Reply, Request, Seat,
    Store, StoreConfig, SubmitError,
};
use std::sync::mpsc::{channel, sync_channel};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn config() -> StoreConfig {
    StoreConfig { durability: Durability::None, ..StoreConfig::default() }
}

fn open(config: StoreConfig) -> Result<Store, OpenError> {
    Store::open_in_memory(config, Moment::default(), |_| {}, |_| Ok(()))
}

#[test]
fn what_is_committed_is_handed_on_and_receipted() {
    let config = StoreConfig { message_bytes_max: 8, ..config() };
    let mut driver = Driver::open_in_memory(config);
    let session = driver.begin("a", 1).session();
    let replies = driver.ask([
        message(session, 1, 1, b"one"),
        message(session, 1, 2, b"far too large"),
        message(session, 1, 3, b"three"),
        message(session, 1, 3, b"again"),
    ]);
    assert!(matches!(replies[..], [Reply::Refused { .. }, .., Reply::Committed { committed: 3, .. }]));
    let attached = driver.attach(returner("a", session, 1, 2, driver.now)).unwrap();
    assert_eq!((attached.outcome, attached.committed, attached.replaced), (Outcome::Resumed, 3, Some(7)));
    assert_eq!(attached.refused.len(), 1);
    driver.ask([message(session, 1, 4, b"stale"), message(session, 2, 4, b"")]);
    let forwarded = |epoch, number, payload: &[u8]| Forwarded {
        seat: Seat::new(100 + u128::from(number), session, epoch),
        number,
        received_at_ms: 1_800_000_000_000,
        payload: payload.into(),
    };
    let wanted = [forwarded(1, 1, b"one"), forwarded(1, 3, b"three"), forwarded(2, 4, b"")];
    assert_eq!(driver.forwarded(), wanted);
    let figures = driver.store.figures();
    assert_eq!((figures.sessions, figures.messages, figures.message_bytes), (1, 0, 0));
}

#[test]
fn an_append_in_memory_is_refused_and_counted() {
    let mut driver = Driver::open_in_memory(config());
    assert_eq!(driver.ask([append("raw", 1, b"x")]), []);
    assert_eq!((driver.forwarded(), driver.store.figures().appends_refused), (vec![], 1));
}

/// The session of the only connection that has one.
fn session_of(replies: &[Reply]) -> u64 {
    let [Reply::Attached(attached)] = replies else { panic!("{replies:?}") };
    attached.session()
}

#[test]
fn a_destination_without_room_holds_up_receipts_and_one_that_is_gone_ends_them() {
    let (sender, replies) = channel();
    let (room, destination) = sync_channel(0);
    let config = StoreConfig { queue_bytes_max: 64 * 1024, message_bytes_max: 1024, ..config() };
    let deliver = move |batch: Vec<Reply>| {
        let _ = sender.send(batch);
    };
    let forward = move |messages: Vec<Forwarded>| room.send(messages.len()).map_err(|_| NotForwarded);
    let store = Store::open_in_memory(config, Moment::default(), deliver, forward).unwrap();
    store.submit(Request::Attach(Box::new(newcomer("a", 1, Moment::default())))).unwrap();
    let session = session_of(&replies.recv_timeout(PATIENCE).unwrap());
    let mut number = 0;
    loop {
        match store.submit(message(session, 1, number + 1, &[0; 1000])) {
            Ok(()) => number += 1,
            Err(error) => break assert_eq!(error, SubmitError::Busy),
        }
    }
    assert!(number > 50 && store.figures().queue_bytes <= 64 * 1024);
    assert!(replies.try_recv().is_err(), "no receipt before the destination has it");
    let (mut has, mut known, mut ready) = (0, 0, false);
    while known < number {
        has += destination.recv_timeout(PATIENCE).unwrap() as u64;
        for reply in replies.recv_timeout(PATIENCE).unwrap() {
            match reply {
                Reply::Committed { committed, .. } => known = committed,
                Reply::Ready => ready = true,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(known, has);
    }
    assert!(ready);
    drop(destination);
    store.submit(message(session, 1, number + 1, b"x")).unwrap();
    let answer = replies.recv_timeout(PATIENCE).unwrap();
    assert!(
        matches!(answer[..], [Reply::Stopped { .. }]),
        "nothing is receipted that has nowhere to go: {answer:?}"
    );
    assert_eq!(store.submit(message(session, 1, number + 2, b"x")), Err(SubmitError::Closed));
    drop(store);
    assert!(replies.try_recv().is_err());
}

#[test]
fn a_destination_that_panics_closes_the_store_and_nothing_is_receipted() {
    let (sender, replies) = channel();
    let deliver = move |batch: Vec<Reply>| {
        let _ = sender.send(batch);
    };
    let store =
        Store::open_in_memory(config(), Moment::default(), deliver, |_| panic!("on purpose")).unwrap();
    store.submit(Request::Attach(Box::new(newcomer("a", 1, Moment::default())))).unwrap();
    let session = session_of(&replies.recv_timeout(PATIENCE).unwrap());
    store.submit(message(session, 1, 1, b"x")).unwrap();
    let stopped = replies.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(stopped[..], [Reply::Stopped { .. }]), "{stopped:?}");
    assert_eq!(store.submit(message(session, 1, 2, b"x")), Err(SubmitError::Closed));
}

#[test]
fn memory_promises_nothing_and_a_directory_something() {
    let open = |durability| open(StoreConfig { durability, ..config() });
    assert!(open(Durability::None).is_ok());
    for durability in [Durability::Os, Durability::Synced] {
        assert!(matches!(open(durability), Err(OpenError::Config(ConfigError::Memory))));
    }
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("store");
    let opened = Driver::try_open(&place, config());
    assert!(matches!(opened, Err(OpenError::Config(ConfigError::Directory))));
    assert!(!place.exists(), "nothing is made for it");
}

/// What a client of the store before this one remembers can't be taken for anything here.
#[test]
fn the_numbers_of_sessions_do_not_come_again_after_a_restart() {
    let begin = || Driver::open_in_memory(config()).begin("a", 1).session();
    let mut numbers: Vec<u64> = (0..20).map(|_| begin()).collect();
    numbers.sort_unstable();
    let is_far = |pair: &[u64]| pair[1] - pair[0] > 1_000_000;
    assert!(numbers.windows(2).all(is_far) && numbers[19] < 1 << 53, "{numbers:?}");
    let mut driver = Driver::open_in_memory(config());
    let (one, two) = (driver.begin("a", 1).session(), driver.begin("b", 2).session());
    assert_eq!(two, one + 1);
}
