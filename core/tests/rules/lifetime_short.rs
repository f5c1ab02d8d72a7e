//! A short connection has a fixed deadline counted from accept. Nothing moves it, and what arrives at it or
//! after it counts for nothing.

use crate::driver::{Act, Driver, NANO, START, Seen, ms, s, short, with_ping};
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::{Connection, Event, Output};
use pulsegate_core::lifetime::{Direction, Pause};
use pulsegate_core::policy::{LifetimePolicy, Policy};
use pulsegate_core::time::Now;
use pulsegate_core::timer::Timer;
use std::time::Duration;

const DEADLINE: Duration = s(5);

#[test]
fn nothing_that_happens_moves_the_deadline() {
    let events: [(&str, Act); 10] = [
        ("silence", |_| {}),
        ("a message", |driver| driver.receive_at(s(4), b"hello\n")),
        ("a heartbeat", |driver| driver.receive_at(s(4), b"PING\n")),
        ("a drip", |driver| driver.receive_at(s(4), b"h")),
        ("an answer", |driver| driver.send_at(s(4), b"answer", 0).expect("it lives")),
        ("output on its way", |driver| driver.progress_at(s(4), 10, 10)),
        ("the end of input", |driver| driver.end_input_at(s(4))),
        ("a pause", |driver| {
            driver.pause_at(s(1), Pause::Sink);
            driver.resume_at(s(3), Pause::Sink);
            driver.pause_at(s(4), Pause::Output);
        }),
        ("a later deadline", |driver| driver.set_deadline_at(s(4), Direction::Both, Some(s(50)))),
        ("a stall", |driver| driver.stall(s(30))),
    ];
    for (name, event) in events {
        let mut driver = Driver::new(with_ping(short(DEADLINE)));
        event(&mut driver);
        assert_eq!(driver.next(), Some((DEADLINE, Timer::ShortDeadline)), "after {name}");
        driver.ends_exactly_at(DEADLINE, CloseReason::ShortDeadline);
    }
}

#[test]
fn bytes_one_nanosecond_before_the_deadline_are_delivered() {
    let mut driver = Driver::new(short(DEADLINE));
    driver.receive_at(DEADLINE - NANO, b"just in time");
    assert_eq!(driver.payloads(), ["just in time"]);
    assert!(driver.is_open());
}

#[test]
fn bytes_exactly_at_the_deadline_are_not_delivered_and_end_the_connection() {
    let mut driver = Driver::new(short(DEADLINE));
    driver.receive_at(DEADLINE, b"too late");
    assert_eq!(driver.events(), [Seen::Closed(CloseReason::ShortDeadline)]);
    assert_eq!(driver.totals().bytes_in, 0);
}

#[test]
fn the_end_of_input_exactly_at_the_deadline_is_not_the_reason() {
    let mut driver = Driver::new(short(DEADLINE));
    driver.end_input_at(DEADLINE);
    assert_eq!(driver.events(), [Seen::Closed(CloseReason::ShortDeadline)]);
}

#[test]
fn it_ends_although_bytes_flow() {
    let mut driver = Driver::new(short(ms(50)));
    for millis in 1..100 {
        driver.receive_at(ms(millis), b"x");
    }
    assert_eq!(driver.reason(), Some(CloseReason::ShortDeadline));
    assert_eq!(driver.payloads().len(), 49, "those at 1 to 49 ms");
}

#[test]
fn after_the_first_message_silence_does_not_end_it() {
    let mut driver = Driver::new(Policy { first_message: s(1), ..short(s(3_600)) });
    driver.receive_at(ms(10), b"hello");
    driver.ends_exactly_at(s(3_600), CloseReason::ShortDeadline);
}

#[test]
fn the_first_message_has_a_deadline_of_its_own() {
    let mut driver = Driver::new(Policy { first_message: s(1), ..short(DEADLINE) });
    driver.ends_exactly_at(s(1), CloseReason::FirstMessageTimeout);
}

#[test]
fn a_deadline_of_zero_ends_it_at_accept_and_delivers_nothing() {
    let mut driver = Driver::new(short(Duration::ZERO));
    driver.receive_at(Duration::ZERO, b"hello");
    assert_eq!(driver.events(), [Seen::Closed(CloseReason::ShortDeadline)]);
    let mut driver = Driver::new(short(Duration::ZERO));
    driver.timeout_at(Duration::ZERO);
    assert_eq!(driver.reason(), Some(CloseReason::ShortDeadline));
}

#[test]
fn a_deadline_beyond_the_end_of_the_clock_neither_overflows_nor_comes_early() {
    struct Nothing(Vec<u8>);
    impl Output for Nothing {
        fn transmit(&mut self) -> &mut Vec<u8> {
            &mut self.0
        }
        fn waiting(&self) -> usize {
            0
        }

        fn handle_event(&mut self, event: Event<'_>) {
            panic!("{event:?}");
        }
    }
    let policy = Policy {
        lifetime: LifetimePolicy::Short { deadline: Duration::MAX },
        first_message: Duration::MAX,
        ..Policy::default()
    };
    let mut connection = Connection::new(Now::at(START), &policy);
    let now = Now::at(START.after(s(500 * 365 * 86_400)));
    connection.handle_timeout(now, &policy, &mut Nothing(Vec::new()));
    assert_eq!(connection.lifetime().reason(), None);
}
