//! Deadlines set from outside, as in Go: absolute, movable and clearable while I/O is pending, over at once if
//! they lie in the past; and they only tighten what the policy allows.

use crate::driver::{Act, Driver, NANO, Seen, long, patient, s, with_ping};
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::NotSent;
use pulsegate_core::lifetime::Direction::{self, Both, Read, Write};
use pulsegate_core::policy::Policy;
use pulsegate_core::timer::{Before, Timer};
use std::time::Duration;

/// One with output waiting since accept, so that a deadline for writing counts, and no other clock near.
fn waiting() -> Driver {
    let mut driver = Driver::new(Policy { write_stall: s(3_600), ..patient() });
    driver.progress_at(Duration::ZERO, 0, 10);
    driver
}

#[test]
fn the_last_setting_of_each_direction_holds() {
    type Setting = (Direction, Option<u64>);
    let cases: [(&[Setting], u64, CloseReason); 10] = [
        (&[(Read, Some(10))], 10, CloseReason::ReadDeadline),
        (&[(Write, Some(10))], 10, CloseReason::WriteDeadline),
        (&[(Both, Some(10))], 10, CloseReason::ReadDeadline),
        (&[(Read, Some(20)), (Write, Some(10))], 10, CloseReason::WriteDeadline),
        (&[(Read, Some(10)), (Write, Some(20))], 10, CloseReason::ReadDeadline),
        (&[(Read, Some(20)), (Read, Some(10))], 10, CloseReason::ReadDeadline),
        (&[(Read, Some(10)), (Read, Some(20))], 20, CloseReason::ReadDeadline),
        (&[(Both, Some(10)), (Read, None)], 10, CloseReason::WriteDeadline),
        (&[(Both, Some(10)), (Write, None), (Read, Some(30))], 30, CloseReason::ReadDeadline),
        (&[(Both, Some(10)), (Both, None)], 3_600, CloseReason::FirstMessageTimeout),
    ];
    for (settings, end, reason) in cases {
        let mut driver = Driver::new(Policy { write_stall: s(7_200), ..patient() });
        driver.progress_at(Duration::ZERO, 0, 10);
        for &(direction, seconds) in settings {
            driver.set_deadline_at(s(1), direction, seconds.map(s));
            assert!(driver.said_earlier());
        }
        driver.ends_exactly_at(s(end), reason);
    }
}

#[test]
fn a_deadline_in_the_past_or_now_is_over_at_once() {
    for seconds in [0, 1, 5] {
        for (direction, reason) in [(Read, CloseReason::ReadDeadline), (Write, CloseReason::WriteDeadline)] {
            let mut driver = waiting();
            driver.set_deadline_at(s(5), direction, Some(s(seconds)));
            assert!(driver.said_earlier());
            assert_eq!(driver.due_at(s(5)), Some(Before::Nothing));
            driver.timeout_at(s(5));
            assert_eq!(driver.reason(), Some(reason));
        }
    }
}

#[test]
fn they_only_tighten_what_the_policy_allows() {
    let mut driver = Driver::spoken(long(s(5), s(8)));
    driver.set_deadline_at(s(1), Both, Some(s(100)));
    assert_eq!(driver.next(), Some((s(5), Timer::Heartbeat)));
    driver.receive_at(s(4), b"beat");
    driver.ends_exactly_at(s(8), CloseReason::MaxAge);
}

#[test]
fn a_heartbeat_does_not_move_them() {
    let mut driver = Driver::spoken(long(s(5), s(60)));
    driver.set_deadline_at(s(1), Read, Some(s(6)));
    driver.receive_at(s(4), b"beat");
    driver.ends_exactly_at(s(6), CloseReason::ReadDeadline);
}

#[test]
fn bytes_at_the_read_deadline_are_not_delivered_and_before_it_they_are() {
    let mut driver = Driver::new(patient());
    driver.set_deadline_at(s(1), Read, Some(s(6)));
    driver.receive_at(s(6) - NANO, b"in time");
    driver.receive_at(s(6), b"too late");
    let in_time = Seen::Message(1, b"in time".to_vec());
    assert_eq!(driver.events(), [in_time, Seen::Closed(CloseReason::ReadDeadline)]);
}

#[test]
fn a_cleared_read_deadline_lets_bytes_through_again() {
    let mut driver = Driver::new(patient());
    driver.set_deadline_at(s(1), Read, Some(s(6)));
    driver.set_deadline_at(s(7), Read, None);
    driver.receive_at(s(8), b"hello");
    assert_eq!(driver.payloads(), ["hello"]);
}

#[test]
fn after_the_end_of_input_the_read_deadline_does_not_matter() {
    let mut driver = Driver::new(patient());
    driver.set_deadline_at(s(1), Read, Some(s(6)));
    driver.end_input_at(s(2));
    driver.ends_exactly_at(s(12), CloseReason::HalfCloseTimeout);
}

#[test]
fn the_end_of_input_at_the_read_deadline_comes_too_late() {
    let mut driver = Driver::new(patient());
    driver.set_deadline_at(s(1), Read, Some(s(6)));
    driver.end_input_at(s(6));
    assert_eq!(driver.events(), [Seen::Closed(CloseReason::ReadDeadline)]);
}

#[test]
fn the_write_deadline_counts_only_while_output_waits() {
    let mut driver = Driver::new(patient());
    driver.set_deadline_at(s(1), Write, Some(s(6)));
    driver.timeout_at(s(7));
    assert!(driver.is_open(), "nothing waits, nothing is late");
    driver.progress_at(s(8), 0, 10);
    assert!(driver.said_earlier());
    driver.timeout_at(s(8));
    assert_eq!(driver.reason(), Some(CloseReason::WriteDeadline));
}

#[test]
fn output_that_left_before_the_write_deadline_is_in_time() {
    let mut driver = waiting();
    driver.set_deadline_at(s(1), Write, Some(s(6)));
    driver.progress_at(s(6) - NANO, 10, 0);
    driver.timeout_at(s(7));
    assert!(driver.is_open());
}

#[test]
fn progress_does_not_move_the_write_deadline() {
    let mut driver = waiting();
    driver.set_deadline_at(s(1), Write, Some(s(6)));
    driver.progress_at(s(5), 5, 5);
    driver.ends_exactly_at(s(6), CloseReason::WriteDeadline);
}

#[test]
fn a_send_at_the_write_deadline_ends_the_connection_and_before_it_does_not() {
    let mut driver = Driver::new(patient());
    driver.set_deadline_at(s(1), Write, Some(s(6)));
    assert_eq!(driver.send_at(s(6) - NANO, b"in time", 0), Ok(()));
    assert_eq!(driver.send_at(s(6), b"too late", 0), Err(NotSent));
    assert_eq!(driver.transmitted(), "in time");
    assert_eq!(driver.events(), [Seen::Closed(CloseReason::WriteDeadline)]);
    assert_eq!(driver.send_at(s(7), b"for nobody", 0), Err(NotSent));
}

#[test]
fn a_reply_at_the_write_deadline_is_not_sent_but_its_message_is_delivered() {
    let mut driver = Driver::new(Policy { reply: Some("ok {n}".into()), ..patient() });
    driver.set_deadline_at(s(1), Write, Some(s(6)));
    driver.receive_at(s(5), b"one");
    driver.receive_at(s(6), b"two");
    assert_eq!(driver.payloads(), ["one", "two"]);
    assert_eq!(driver.transmitted(), "ok 1\n");
    assert_eq!(driver.reason(), Some(CloseReason::WriteDeadline));
}

#[test]
fn the_farewell_is_sent_even_past_the_write_deadline() {
    let ends: [(Act, &str); 3] = [
        (|driver| driver.close_at(s(7), CloseReason::Drain), "bye: drain\n"),
        (|driver| assert_eq!(driver.send_at(s(7), b"hello", 0), Err(NotSent)), "bye: write deadline\n"),
        (|driver| driver.receive_at(s(7), b"longer\n"), "bye: message too large\n"),
    ];
    for (end, farewell) in ends {
        let policy = Policy { message_bytes_max: 4, ..with_ping(patient()) };
        let mut driver = Driver::new(Policy { farewell: Some("bye: {reason}".into()), ..policy });
        driver.set_deadline_at(s(1), Write, Some(s(6)));
        end(&mut driver);
        assert_eq!(driver.transmitted(), farewell);
    }
}

#[test]
fn without_a_reply_the_write_deadline_does_not_stop_what_arrives() {
    let mut driver = Driver::new(patient());
    driver.set_deadline_at(s(1), Write, Some(s(6)));
    driver.receive_at(s(7), b"hello");
    assert_eq!(driver.payloads(), ["hello"]);
    assert!(driver.is_open());
}

#[test]
fn they_stand_on_real_time_and_pauses_do_not_stop_them() {
    let mut driver = Driver::new(patient());
    driver.set_deadline_at(s(1), Read, Some(s(6)));
    driver.pause_at(s(2), pulsegate_core::lifetime::Pause::Sink);
    driver.stall(s(30));
    driver.ends_exactly_at(s(6), CloseReason::ReadDeadline);
}

#[test]
fn after_the_end_they_change_nothing() {
    let mut driver = Driver::new(patient());
    driver.close_at(s(1), CloseReason::Drain);
    let before = driver.state();
    driver.set_deadline_at(s(1), Both, Some(s(1)));
    assert_eq!(driver.state(), before);
    assert!(!driver.said_earlier());
}
