//! A long connection lives while heartbeats arrive, up to a maximum age. Before its first message is complete
//! another deadline holds.

use crate::driver::{Driver, NANO, Seen, long, ms, patient, s};
use pulsegate_core::close::CloseReason;
use pulsegate_core::policy::{Framing, Policy};
use pulsegate_core::timer::{Before, Timer};
use pulsegate_core::wheel::TICK;
use std::time::Duration;

const TIMEOUT: Duration = s(5);
const AGE: Duration = s(3_600);

#[test]
fn each_heartbeat_moves_the_deadline_to_its_own_time_plus_the_timeout() {
    let mut driver = Driver::new(long(TIMEOUT, AGE));
    driver.receive_at(ms(1), b"hello");
    for beat in [ms(10), ms(10), ms(4_000), ms(8_999), ms(13_998)] {
        driver.receive_at(beat, b"beat");
        assert_eq!(driver.next(), Some((beat + TIMEOUT, Timer::Heartbeat)));
        assert!(!driver.said_earlier(), "a heartbeat stores, it doesn't file again");
    }
    driver.ends_exactly_at(ms(18_998), CloseReason::HeartbeatTimeout);
}

#[test]
fn one_tick_before_the_deadline_a_timeout_does_nothing() {
    let mut driver = Driver::spoken(long(TIMEOUT, AGE));
    let before = driver.state();
    driver.timeout_at(TIMEOUT - TICK);
    assert_eq!(driver.state(), before);
    assert_eq!(driver.due_at(TIMEOUT - NANO), None);
    assert_eq!(driver.due_at(TIMEOUT), Some(Before::Reading));
}

#[test]
fn a_heartbeat_read_in_the_instant_of_expiry_saves_the_connection() {
    let mut driver = Driver::spoken(long(TIMEOUT, AGE));
    driver.receive_at(TIMEOUT, b"beat");
    driver.timeout_at(TIMEOUT);
    driver.ends_exactly_at(2 * TIMEOUT, CloseReason::HeartbeatTimeout);
}

#[test]
fn a_heartbeat_read_late_but_before_the_verdict_saves_the_connection() {
    let mut driver = Driver::spoken(long(TIMEOUT, AGE));
    driver.receive_at(TIMEOUT + ms(30), b"beat");
    driver.timeout_at(TIMEOUT + ms(30));
    driver.ends_exactly_at(2 * TIMEOUT + ms(30), CloseReason::HeartbeatTimeout);
}

#[test]
fn what_we_send_never_counts_as_a_heartbeat() {
    let mut driver = Driver::spoken(long(TIMEOUT, AGE));
    driver.send_at(s(4), b"anybody there?", 0).unwrap();
    driver.flush_at(s(4));
    driver.ends_exactly_at(TIMEOUT, CloseReason::HeartbeatTimeout);
}

#[test]
fn the_maximum_age_ends_it_all_the_same() {
    let mut driver = Driver::new(long(TIMEOUT, s(60)));
    for second in 1..60 {
        driver.receive_at(s(second), b"beat");
        driver.timeout_at(s(second));
    }
    driver.receive_at(s(60) - NANO, b"in time");
    assert_eq!(driver.payloads().len(), 60);
    driver.receive_at(s(60), b"too late");
    assert_eq!(driver.payloads().len(), 60);
    assert_eq!(driver.events().last(), Some(&Seen::Closed(CloseReason::MaxAge)));
}

#[test]
fn the_maximum_age_is_counted_from_accept() {
    let mut driver = Driver::new(Policy { first_message: s(20), ..long(s(20), s(25)) });
    driver.receive_at(s(10), b"hello");
    driver.ends_exactly_at(s(25), CloseReason::MaxAge);
}

#[test]
fn the_first_message_has_its_own_deadline_and_the_heartbeat_timeout_waits_for_it() {
    let mut driver = Driver::new(Policy { first_message: s(10), ..long(s(1), AGE) });
    driver.timeout_at(s(5));
    assert_eq!(driver.next(), Some((s(10), Timer::FirstMessage)));
    driver.ends_exactly_at(s(10), CloseReason::FirstMessageTimeout);
}

#[test]
fn a_first_message_deadline_shorter_than_the_heartbeat_timeout_holds() {
    let mut driver = Driver::new(Policy { first_message: s(1), ..long(TIMEOUT, AGE) });
    driver.ends_exactly_at(s(1), CloseReason::FirstMessageTimeout);
}

#[test]
fn after_the_first_message_the_heartbeat_clock_starts() {
    let mut driver = Driver::new(Policy { first_message: s(10), ..long(s(1), AGE) });
    driver.receive_at(s(3), b"hello");
    assert!(driver.said_earlier(), "from 10 s to 4 s");
    driver.ends_exactly_at(s(4), CloseReason::HeartbeatTimeout);
}

#[test]
fn a_first_message_in_the_instant_of_its_deadline_saves_the_connection() {
    let mut driver = Driver::new(Policy { first_message: s(10), ..long(s(1), AGE) });
    driver.receive_at(s(10), b"hello");
    driver.ends_exactly_at(s(11), CloseReason::HeartbeatTimeout);
}

#[test]
fn a_drip_that_completes_no_line_is_no_first_message_even_if_any_byte_is_a_heartbeat() {
    let policy = Policy { framing: Framing::Lines, first_message: s(10), ..long(s(3), AGE) };
    let mut driver = Driver::new(policy.clone());
    for second in 1..10 {
        driver.receive_at(s(second), b"x");
    }
    driver.ends_exactly_at(s(10), CloseReason::FirstMessageTimeout);
    assert_eq!(driver.payloads(), [""; 0]);

    let mut driver = Driver::new(policy);
    driver.receive_at(s(9), b"hel");
    driver.receive_at(s(10) - NANO, b"lo\n");
    assert_eq!(driver.payloads(), ["hello"]);
    driver.ends_exactly_at(s(13) - NANO, CloseReason::HeartbeatTimeout);
}

#[test]
fn after_the_first_message_any_byte_is_a_heartbeat_even_one_that_completes_nothing() {
    let mut driver = Driver::spoken(Policy { framing: Framing::Lines, ..long(s(3), AGE) });
    driver.receive_at(s(2), b"x");
    driver.ends_exactly_at(s(5), CloseReason::HeartbeatTimeout);
}

#[test]
fn empty_input_is_no_heartbeat_and_no_message() {
    let mut driver = Driver::spoken(long(TIMEOUT, AGE));
    driver.receive_at(s(4), b"");
    assert_eq!(driver.totals().messages, 1);
    driver.ends_exactly_at(TIMEOUT, CloseReason::HeartbeatTimeout);
}

#[test]
fn after_the_end_of_input_silence_is_no_reason() {
    let mut driver = Driver::spoken(Policy { half_close: s(60), ..long(TIMEOUT, AGE) });
    driver.end_input_at(s(1));
    driver.ends_exactly_at(s(61), CloseReason::HalfCloseTimeout);
}

#[test]
fn timeouts_of_zero_end_it_at_once_and_the_end_comes_to_an_end() {
    let zero = Duration::ZERO;
    let cases = [
        (Policy { first_message: zero, ..patient() }, CloseReason::FirstMessageTimeout),
        (long(zero, AGE), CloseReason::HeartbeatTimeout),
        (long(TIMEOUT, zero), CloseReason::MaxAge),
    ];
    for (policy, reason) in cases {
        let mut driver = Driver::new(Policy { flush: zero, linger: zero, ..policy });
        if reason == CloseReason::HeartbeatTimeout {
            driver.receive_at(zero, b"hello");
        }
        let mut rounds = 0;
        while driver.next().is_some_and(|(deadline, _)| deadline == zero) {
            driver.timeout_at(zero);
            rounds += 1;
            assert!(rounds <= 2, "one for the end, one for the flush");
        }
        assert_eq!((driver.reason(), driver.next()), (Some(reason), None));
    }
}

#[test]
fn while_the_clock_stands_still_nothing_expires() {
    let mut driver = Driver::spoken(long(TIMEOUT, AGE));
    for _ in 0..1_000 {
        driver.receive_at(TIMEOUT - NANO, b"beat");
        driver.timeout_at(TIMEOUT - NANO);
    }
    assert_eq!(driver.next(), Some((2 * TIMEOUT - NANO, Timer::Heartbeat)));
}
