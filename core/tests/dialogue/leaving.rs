//! The client ends its side of the stream: receipts that it is owed are waited for, within bounds; inside a frame
//! it is a violation.

use crate::driver::{Driver, Seen};
use crate::words::{NANO, Said, message, ms, pulse, s};
use pulsegate_core::close::CloseReason;

/// The time for half-closed connections of [`pulse`].
const HALF_CLOSE: std::time::Duration = s(10);

/// One whose client has sent two messages and ended its side a second after.
fn driver() -> Driver {
    let mut driver = Driver::attached(pulse());
    driver.receive(&[message(1, b"one"), message(2, b"two")].concat());
    driver.at(s(1)).end_input();
    driver.seen();
    assert!(driver.is_open());
    driver
}

#[test]
fn who_is_owed_nothing_is_gone_at_once_and_told_nothing() {
    let mut driver = Driver::attached(pulse());
    driver.receive(&message(1, b"one"));
    driver.commit(1);
    driver.said();
    driver.seen();
    driver.end_input();
    driver.ended(CloseReason::PeerClosed, &[Seen::Detached(false)], &[]);
}

#[test]
fn receipts_are_waited_for_and_are_the_last_that_is_said() {
    let mut driver = driver();
    driver.at(s(5)).commit(1);
    assert_eq!((driver.said(), driver.is_open()), (vec![Said::Receipt(1)], true));
    driver.at(s(6)).refuse(2, 3);
    driver.commit(2);
    let said = [Said::Refuse(2, 3), Said::Receipt(2)];
    driver.ended(CloseReason::PeerClosed, &[Seen::Detached(false)], &said);
}

#[test]
fn the_last_receipt_may_wait_for_the_kernel() {
    let mut driver = driver();
    driver.room = 0;
    driver.at(s(5)).commit(2);
    assert_eq!((driver.said(), driver.is_open()), (vec![Said::Receipt(2)], true));
    driver.at(s(6)).take(5);
    assert!(driver.is_open());
    driver.at(s(7)).take(usize::MAX);
    driver.ended(CloseReason::PeerClosed, &[Seen::Detached(false)], &[]);
}

#[test]
fn they_are_not_waited_for_without_end() {
    let mut driver = driver();
    driver.pass_to(s(3)).commit(1);
    driver.ends_exactly_at(s(1) + HALF_CLOSE, CloseReason::HalfCloseTimeout);
    let reason = CloseReason::HalfCloseTimeout;
    let said = [Said::Receipt(1), Said::bye(reason, 1)];
    driver.ended(reason, &[Seen::Detached(false)], &said);
}

#[test]
fn a_receipt_in_the_last_instant_is_in_time() {
    for when in [s(1) + HALF_CLOSE - NANO, s(1) + HALF_CLOSE] {
        let mut driver = driver();
        driver.at(when).commit(2);
        driver.timeout();
        driver.ended(CloseReason::PeerClosed, &[Seen::Detached(false)], &[Said::Receipt(2)]);
    }
}

#[test]
fn an_end_inside_a_frame_is_said() {
    let frame = message(3, b"three");
    for length in 1..frame.len() {
        let mut driver = Driver::attached(pulse());
        driver.receive(&[&message(1, b"one"), &message(2, b"two")[..], &frame[..length]].concat());
        driver.commit(1);
        driver.seen();
        driver.said();
        driver.at(ms(1)).end_input();
        let reason = CloseReason::TruncatedFrame;
        driver.ended(reason, &[Seen::Detached(false)], &[Said::bye(reason, 1)]);
    }
}
