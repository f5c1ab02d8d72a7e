//! Whose connection it is: which one is replaced, which one is refused, where a message to a client goes.

use crate::driver::{Driver, TTL, detach, message, newcomer, push, returner};
use pulsegate_store::SecondConnection::{Allow, Refuse, Replace};
use pulsegate_store::{
    Attach, AttachRefusal, Attached, Outcome, Recipient, Reply, Request, SecondConnection, StoreConfig,
    Ticket,
};

const IN_USE: Reply = Reply::AttachRefused { ticket: 7, why: AttachRefusal::InUse };
/// Both halves count.
const FAR: Ticket = (5 << 64) + 6;

fn with(attach: Attach, ticket: Ticket) -> Attach {
    Attach { ticket, ..attach }
}

/// Where a message to the session goes.
fn connection(driver: &mut Driver, session: u64) -> Option<Ticket> {
    match driver.ask([push(1, Recipient::Session(session), b"x")])[..] {
        [Reply::Pushed { connection, .. }] => connection,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn the_connection_that_is_replaced_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let now = driver.now;
    let first = driver.attach(with(newcomer("a", 1, now), FAR)).unwrap();
    let session = first.session();
    assert_eq!((first.replaced, connection(&mut driver, session)), (None, Some(FAR)));
    let replaced =
        |driver: &mut Driver, attach| driver.attach(attach).map(|attached: Attached| attached.replaced);
    assert_eq!(replaced(&mut driver, with(returner("a", session, 1, 2, now), 8)), Ok(Some(FAR)));
    // The old connection's end comes late and takes nothing from the new one.
    assert_eq!(driver.ask([detach(session, 1, false, now)]), []);
    assert_eq!(connection(&mut driver, session), Some(8));
    assert_eq!(replaced(&mut driver, with(returner("a", session, 2, 3, now), 9)), Ok(Some(8)));
    driver.ask([detach(session, 3, false, now)]);
    assert_eq!((connection(&mut driver, session), driver.store.figures().attached), (None, 0));
    assert_eq!(replaced(&mut driver, with(returner("a", session, 3, 4, now), 10)), Ok(None));
    drop(driver);
    let mut driver = Driver::open(directory.path());
    assert_eq!((connection(&mut driver, session), driver.store.figures().attached), (None, 0));
    assert_eq!(replaced(&mut driver, with(returner("a", session, 4, 5, now), 11)), Ok(None));
    assert_eq!((connection(&mut driver, session), driver.store.figures().attached), (Some(11), 1));
}

#[test]
fn in_one_batch_each_connection_is_told_which_one_it_has_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let (session, now) = (driver.begin("a", 1).session(), driver.now);
    let attach = |ticket| Request::Attach(Box::new(with(returner("a", session, 1, 2, now), ticket)));
    let replies = driver.ask([attach(8), attach(9), detach(session, 2, false, now), attach(10)]);
    let replaced: Vec<_> = replies
        .iter()
        .map(|reply| match reply {
            Reply::Attached(attached) => (attached.seat.ticket, attached.replaced),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(replaced, [(8, Some(7)), (9, Some(8)), (10, Some(9))]);
}

#[test]
fn a_session_that_is_gone_has_no_connection() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let (one, two, now) = (driver.begin("a", 1).session(), driver.begin("b", 1).session(), driver.now);
    assert_eq!(driver.store.figures().attached, 2);
    driver.ask([detach(one, 1, true, now), message(two, 1, 1, b"x"), detach(two, 1, false, now)]);
    assert_eq!((driver.store.figures().attached, driver.store.figures().sessions), (0, 1));
    driver.pass(TTL);
    let attached = driver.attach(returner("b", two, 1, 2, driver.now)).unwrap();
    assert_eq!((attached.outcome, attached.replaced), (Outcome::New, None));
}

/// What a client is answered that has two sessions, of which the first has a connection: to a new one, to the second,
/// to the first.
fn answers(second: SecondConnection) -> [Result<Option<Ticket>, Reply>; 3] {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::open(directory.path());
    let now = driver.now;
    let [one, two] = [1, 2].map(|token| driver.begin("a", token).session());
    driver.begin("b", 3);
    driver.ask([detach(two, 1, false, now)]);
    [newcomer("a", 4, now), returner("a", two, 2, 5, now), returner("a", one, 1, 6, now)].map(|attach| {
        let answer = driver.attach(Attach { second, ..attach });
        if let Ok(attached) = &answer
            && attached.session() != one
        {
            driver.ask([detach(attached.session(), attached.epoch(), false, now)]);
        }
        answer.map(|attached| attached.replaced)
    })
}

#[test]
fn a_second_connection_is_allowed_replaces_or_is_refused() {
    assert_eq!(answers(Allow), [Ok(None), Ok(None), Ok(Some(7))]);
    assert_eq!(answers(Replace), [Err(IN_USE), Err(IN_USE), Ok(Some(7))]);
    assert_eq!(answers(Refuse), [Err(IN_USE), Err(IN_USE), Err(IN_USE)]);
}

#[test]
fn a_client_without_a_connection_is_welcome_under_every_policy() {
    for second in [Allow, Replace, Refuse] {
        let directory = tempfile::tempdir().unwrap();
        let mut driver = Driver::open(directory.path());
        let now = driver.now;
        let mut attach = |attach: Attach| {
            let attached = driver.attach(Attach { second, ..attach }).unwrap();
            let end = detach(attached.session(), attached.epoch(), false, now);
            assert_eq!((attached.replaced, driver.ask([end]).len()), (None, 1));
            attached.session()
        };
        let one = attach(newcomer("a", 1, now));
        let two = attach(newcomer("a", 2, now));
        assert_eq!(
            [attach(returner("a", one, 1, 3, now)), attach(returner("a", two, 2, 4, now))],
            [one, two]
        );
    }
}

#[test]
fn a_refusal_for_use_says_nothing_to_who_has_no_token_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig { sessions_max: 1, ..StoreConfig::default() };
    let mut driver = Driver::open_with(directory.path(), config);
    let (session, now) = (driver.begin("a", 1).session(), driver.now);
    let bad = Reply::AttachRefused { ticket: 7, why: AttachRefusal::BadToken };
    let refuse = |attach| Attach { second: Refuse, ..attach };
    assert_eq!(driver.attach(refuse(returner("a", session, 9, 2, now))), Err(bad));
    assert_eq!(driver.attach(refuse(returner("a", session, 1, 2, now))), Err(IN_USE));
    assert_eq!(driver.attach(refuse(newcomer("a", 2, now))), Err(IN_USE), "before the limit of sessions");
    assert_eq!(connection(&mut driver, session), Some(7));
    driver.ask([detach(session, 1, false, now)]);
    let attached = driver.attach(refuse(returner("a", session, 1, 2, now))).unwrap();
    assert_eq!((attached.epoch(), attached.replaced), (2, None));
}
