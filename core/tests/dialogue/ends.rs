//! How a connection leaves its session: once, before it is closed, and only if it was attached.

use crate::driver::{Driver, Seen};
use crate::words::{Said, beat, hello, message, pulse};
use pulsegate_core::close::CloseReason;

#[test]
fn who_was_never_attached_leaves_nothing() {
    for reason in [CloseReason::Drain, CloseReason::BadToken, CloseReason::PeerReset] {
        let mut driver = Driver::new(pulse());
        driver.close(reason);
        assert_eq!(driver.seen(), [Seen::Closed(reason)]);
        let mut driver = Driver::greeted(pulse(), hello());
        assert_eq!(driver.connection().attachment(), None);
        driver.close(reason);
        assert_eq!(driver.seen(), [Seen::Closed(reason)]);
    }
}

#[test]
fn who_is_attached_leaves_its_session_before_it_ends() {
    let mut driver = Driver::attached(pulse());
    driver.receive(&beat());
    driver.seen();
    let attachment = driver.connection().attachment().expect("it is attached");
    assert_eq!((attachment.session, attachment.epoch), (7, 1));
    driver.close(CloseReason::Replaced);
    let bye = Said::bye(CloseReason::Replaced, 0);
    driver.ended(CloseReason::Replaced, &[Seen::Detached(false)], &[bye]);
    assert_eq!(driver.connection().attachment(), None);
}

#[test]
fn what_came_before_bye_counts_and_nothing_answers_it() {
    let bye = pulsegate_core::frame::Bye { code: 0, retry: 0, delay_ms: 0, committed: 0, text: "" };
    let bye = crate::words::bytes(&[pulsegate_core::frame::Frame::Bye(bye)]);
    let mut driver = Driver::attached(pulse());
    driver.receive(&[message(1, b"last"), bye, message(2, b"after")].concat());
    let seen = [Seen::TokenUsed, Seen::Message(1, b"last".to_vec()), Seen::Detached(true)];
    driver.ended(CloseReason::PeerClosed, &seen, &[]);
    driver.commit(1);
    driver.end_input();
    driver.pass_to(crate::words::AGE);
    assert_eq!((driver.seen(), driver.said()), (vec![], vec![]));
}

#[test]
fn its_owner_may_end_it_once_everything_has_left() {
    let mut driver = Driver::attached(pulse());
    driver.room = 0;
    driver.push(b"one").expect("it is attached");
    driver.finish();
    assert_eq!((driver.said(), driver.is_open()), (vec![Said::message(1, "one")], true));
    driver.take(usize::MAX);
    let bye = Said::bye(CloseReason::Application, 0);
    driver.ended(CloseReason::Application, &[Seen::Detached(true)], &[bye]);

    let mut driver = Driver::attached(pulse());
    driver.finish();
    assert_eq!(driver.reason(), Some(CloseReason::Application), "nothing has to leave");
}
