//! Messages to clients: stored until their receipt, within limits, brought by the next attach.

use crate::driver::{Driver, TTL, detach, load, newcomer, push, returner};
use pulsegate_store::{
    Attach, Attachment, Outgoing, PushRefusal, Recipient, Reply, Request, Seat, StoreConfig, Ticket,
};

const TOO_LARGE: PushRefusal = PushRefusal::TooLarge;

fn pushed(session: u64, epoch: u64, connection: Option<Ticket>, number: u64, payload: &[u8]) -> Reply {
    Reply::Pushed {
        ticket: 1,
        attachment: Attachment { session, epoch },
        connection,
        number,
        payload: payload.into(),
    }
}

#[test]
fn a_message_to_a_client_is_kept_until_its_receipt() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    driver.begin("a", 1);
    let (session, now) = (driver.begin("a", 2).session(), driver.now);
    let to = || Recipient::Client("a".to_owned());
    let replies = driver.ask([push(1, to(), b"one"), push(1, Recipient::Session(session), b"two")]);
    assert_eq!(replies, [pushed(session, 1, Some(7), 1, b"one"), pushed(session, 1, Some(7), 2, b"two")]);
    driver.ask([
        Request::OutReceipt { attachment: Attachment { session, epoch: 1 }, committed: 1 },
        detach(session, 1, true, now),
    ]);
    assert_eq!(driver.ask([push(1, to(), b"three")]), [pushed(session, 1, None, 3, b"three")]);
    drop(driver);
    let mut driver = Driver::open(directory.path());
    let attached = driver.attach(returner("a", session, 2, 3, now)).unwrap();
    let outgoing = |number, payload: &[u8]| Outgoing { number, payload: payload.into() };
    assert_eq!((attached.acknowledged, attached.is_behind), (1, true));
    assert_eq!(driver.load(session, 2, 1), [outgoing(2, b"two"), outgoing(3, b"three")]);
    let mut attach = returner("a", session, 3, 4, now);
    if let Some(resume) = &mut attach.resume {
        resume.committed = 2;
    }
    let attached = driver.attach(attach).unwrap();
    assert_eq!((attached.acknowledged, attached.is_behind), (2, true));
    assert_eq!(driver.load(session, 3, 2), [outgoing(3, b"three")]);
    driver.ask([Request::OutReceipt { attachment: Attachment { session, epoch: 3 }, committed: 3 }]);
    let replies = driver.ask([detach(session, 3, true, now)]);
    assert_eq!(replies, [Reply::Detached { seat: Seat::new(9, session, 3), forgotten: true }]);
}

#[test]
fn however_often_a_session_is_resumed_what_waits_is_read_for_the_newest_connection_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let (session, now) = (driver.begin("a", 1).session(), driver.now);
    driver.ask((0..15).map(|_| push(1, Recipient::Session(session), &[7; 64 * 1024])));
    let attach = || Request::Attach(Box::new(returner("a", session, 1, 2, now)));
    let mut replies = driver.ask((0..500).map(|_| attach()));
    for epochs in (2..=501).collect::<Vec<_>>().chunks(100) {
        replies.extend(driver.ask(epochs.iter().map(|epoch| load(session, *epoch, 0))));
    }
    let bytes: usize = replies.iter().map(Reply::bytes).sum();
    assert_eq!(replies.len(), 501);
    assert!(bytes < 501 * 400 + 128 * 1024, "{bytes}");
    let loaded = driver.load(session, 501, 0);
    assert!(loaded.iter().map(|message| message.number).eq(1..=15), "in pieces, in order, without gaps");
}

#[test]
fn what_waits_for_a_client_is_limited_in_messages_and_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        outgoing_messages_max: 3,
        outgoing_bytes_max: 10,
        message_bytes_max: 8,
        ..StoreConfig::default()
    };
    let mut driver = Driver::open_with(directory.path(), config);
    let session = driver.begin("a", 1).session();
    let mut outcome = |payload: &[u8]| {
        let reply = driver.ask([push(1, Recipient::Session(session), payload)]).remove(0);
        match reply {
            Reply::Pushed { number, .. } => Ok(number),
            Reply::PushRefused { why, .. } => Err(why),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(outcome(b"123456789"), Err(PushRefusal::TooLarge));
    assert_eq!(outcome(b"12345678"), Ok(1));
    assert_eq!(outcome(b"123"), Err(PushRefusal::Full));
    assert_eq!((outcome(b"1"), outcome(b"")), (Ok(2), Ok(3)));
    assert_eq!(outcome(b""), Err(PushRefusal::Full));
    driver.ask([Request::OutReceipt { attachment: Attachment { session, epoch: 1 }, committed: 9 }]);
    driver.ask([Request::OutReceipt { attachment: Attachment { session, epoch: 1 }, committed: 2 }]);
    let replies = driver.ask([push(1, Recipient::Session(session), b"12345678")]);
    assert_eq!(replies, [pushed(session, 1, Some(7), 4, b"12345678")]);
    let nobody = driver.ask([push(1, Recipient::Client("b".to_owned()), b"x")]);
    assert_eq!(nobody, [Reply::PushRefused { ticket: 1, why: PushRefusal::NoSession }]);
}

#[test]
fn no_message_is_longer_than_its_client_takes() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let now = driver.now;
    let attach = |attach, message_bytes_max| Attach { message_bytes_max, ..attach };
    let session = driver.attach(attach(newcomer("a", 1, now), 3)).unwrap().session();
    let outcome = |driver: &mut Driver, payload: &[u8]| match driver.ask([push(
        1,
        Recipient::Session(session),
        payload,
    )])[..]
    {
        [Reply::Pushed { number, .. }] => Ok(number),
        [Reply::PushRefused { why, .. }] => Err(why),
        ref other => panic!("{other:?}"),
    };
    assert_eq!(outcome(&mut driver, b"long"), Err(TOO_LARGE));
    assert_eq!(outcome(&mut driver, b"not"), Ok(1));
    driver.attach(attach(returner("a", session, 1, 2, now), 4)).unwrap();
    assert_eq!((outcome(&mut driver, b"long"), outcome(&mut driver, b"longer")), (Ok(2), Err(TOO_LARGE)));
    driver.ask([detach(session, 2, false, now)]);
    drop(driver);
    let mut driver = Driver::open(directory.path());
    assert_eq!((outcome(&mut driver, b"longer"), outcome(&mut driver, b"long")), (Err(TOO_LARGE), Ok(3)));
    driver.attach(attach(returner("a", session, 2, 3, now), u32::MAX)).unwrap();
    assert_eq!(outcome(&mut driver, &[0; (1 << 20) + 1]), Err(TOO_LARGE), "than the store takes");
}

#[test]
fn an_expired_session_says_whose_fate_is_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let session = driver.begin("a", 1).session();
    driver.ask((0..3).map(|_| push(1, Recipient::Session(session), b"x")));
    driver.ask([
        Request::OutReceipt { attachment: Attachment { session, epoch: 1 }, committed: 1 },
        detach(session, 1, false, driver.now),
    ]);
    assert_eq!(driver.pass(TTL), [Reply::Expired { session, unknown: Some((2, 3)) }]);
}
