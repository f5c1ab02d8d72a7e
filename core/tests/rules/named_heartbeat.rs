//! Where a listener names its heartbeat, only that line, complete, proves the peer alive; it is no message.

use crate::driver::{Driver, NANO, Seen, long, s, with_ping};
use pulsegate_core::close::CloseReason;
use pulsegate_core::policy::Policy;
use std::time::Duration;

const TIMEOUT: Duration = s(5);

/// One that has said its first message, so that the heartbeat's clock runs from zero.
fn driver() -> Driver {
    Driver::spoken(with_ping(long(TIMEOUT, s(3_600))))
}

#[test]
fn the_named_line_moves_the_deadline_and_is_no_message() {
    let mut driver = driver();
    driver.receive_at(s(3), b"PING\n");
    assert_eq!(driver.payloads(), ["hello"]);
    assert_eq!(driver.totals().messages, 1);
    driver.ends_exactly_at(s(8), CloseReason::HeartbeatTimeout);
}

#[test]
fn however_it_is_split_it_counts_when_its_line_end_arrives() {
    let mut driver = driver();
    driver.receive_at(s(1), b"PI");
    driver.receive_at(s(2), b"NG\r");
    driver.receive_at(s(3), b"\n");
    driver.ends_exactly_at(s(8), CloseReason::HeartbeatTimeout);
}

#[test]
fn nothing_else_moves_the_deadline() {
    for bytes in ["hello\n", "ping\n", "PING \n", " PING\n", "PINGPING\n", "\n", "PING", "PIN\n", "PING\r"] {
        let mut driver = driver();
        driver.receive_at(s(3), bytes.as_bytes());
        driver.ends_exactly_at(TIMEOUT, CloseReason::HeartbeatTimeout);
    }
}

#[test]
fn a_drip_is_not_a_life() {
    let mut driver = driver();
    for millis in 1..5_000 {
        driver.receive_at(Duration::from_millis(millis), b"x");
    }
    driver.ends_exactly_at(TIMEOUT, CloseReason::HeartbeatTimeout);
}

#[test]
fn a_heartbeat_in_the_midst_of_messages_counts_and_their_numbers_go_on() {
    let mut driver = driver();
    driver.receive_at(s(3), b"two\nPING\nthree\n");
    let message = |number, payload: &str| Seen::Message(number, payload.as_bytes().to_vec());
    assert_eq!(driver.events(), [message(1, "hello"), message(2, "two"), message(3, "three")]);
    driver.ends_exactly_at(s(8), CloseReason::HeartbeatTimeout);
}

#[test]
fn a_heartbeat_may_be_the_first_message() {
    let mut driver = Driver::new(Policy { first_message: s(60), ..with_ping(long(TIMEOUT, s(3_600))) });
    driver.receive_at(s(7), b"PING\n");
    driver.ends_exactly_at(s(12), CloseReason::HeartbeatTimeout);
    assert_eq!(driver.totals().messages, 0);
}

#[test]
fn any_complete_line_ends_the_wait_for_the_first_message() {
    let mut driver = Driver::new(Policy { first_message: s(60), ..with_ping(long(TIMEOUT, s(3_600))) });
    driver.receive_at(s(7), b"hello\n");
    driver.ends_exactly_at(s(12), CloseReason::HeartbeatTimeout);
}

#[test]
fn a_heartbeat_in_the_instant_of_expiry_saves_the_connection() {
    let mut driver = driver();
    driver.receive_at(TIMEOUT - NANO, b"PIN");
    driver.receive_at(TIMEOUT, b"G\n");
    driver.timeout_at(TIMEOUT);
    driver.ends_exactly_at(2 * TIMEOUT, CloseReason::HeartbeatTimeout);
}
