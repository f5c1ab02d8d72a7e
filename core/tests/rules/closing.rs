//! A connection ends once: one event, the last one, with the first reason; after it nothing counts any more.

use crate::driver::{Act, Driver, START, Seen, patient, s, short, with_ping};
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::NotSent;
use pulsegate_core::lifetime::{Lifetime, Phase, Silence};
use pulsegate_core::policy::Policy;
use pulsegate_core::time::Now;

#[test]
fn every_reason_comes_out_as_it_went_in() {
    for reason in CloseReason::ALL.iter().copied() {
        let mut driver = Driver::new(patient());
        driver.close_at(s(1), reason);
        assert_eq!(driver.events(), [Seen::Closed(reason)]);
        assert_eq!(driver.reason(), Some(reason));
    }
}

#[test]
fn the_first_reason_wins_whatever_comes_after() {
    let later: [(&str, Act); 7] = [
        ("another close", |driver| driver.close_at(s(1), CloseReason::Stopped)),
        ("a failure", |driver| driver.fail_at(s(1), CloseReason::PeerReset)),
        ("finish", |driver| driver.finish_at(s(1), 0)),
        ("the end of input", |driver| driver.end_input_at(s(1))),
        ("a deadline", |driver| driver.timeout_at(s(5))),
        ("input after a deadline", |driver| driver.receive_at(s(5), b"hello")),
        ("too much output", |driver| {
            assert_eq!(driver.send_at(s(1), b"hello", usize::MAX), Err(NotSent));
        }),
    ];
    for (name, call) in later {
        let mut driver = Driver::new(short(s(5)));
        driver.close_at(s(1), CloseReason::Drain);
        call(&mut driver);
        assert_eq!(driver.events(), [Seen::Closed(CloseReason::Drain)], "after {name}");
        assert_eq!(driver.reason(), Some(CloseReason::Drain), "after {name}");
    }
}

#[test]
fn after_the_end_nothing_is_delivered_and_nothing_is_counted() {
    for reason in [CloseReason::Drain, CloseReason::PeerReset] {
        let mut driver = Driver::new(with_ping(patient()));
        driver.receive_at(s(1), b"half a li");
        driver.close_at(s(1), reason);
        driver.receive_at(s(1), b"ne\nand another\n");
        assert_eq!(driver.events(), [Seen::Closed(reason)]);
        assert_eq!(driver.totals().bytes_in, 9);
    }
}

#[test]
fn a_line_that_is_too_long_ends_it_after_the_lines_before() {
    let mut driver = Driver::new(Policy { message_bytes_max: 4, ..with_ping(patient()) });
    driver.receive_at(s(1), b"one\nlonger\ntwo\n");
    let one = Seen::Message(1, b"one".to_vec());
    assert_eq!(driver.events(), [one, Seen::Closed(CloseReason::MessageTooLarge)]);
}

#[test]
fn an_unfinished_line_at_the_end_of_input_is_no_message() {
    let mut driver = Driver::new(with_ping(patient()));
    driver.receive_at(s(1), b"one\ntw");
    driver.end_input_at(s(1));
    assert_eq!(driver.events(), [Seen::Message(1, b"one".to_vec()), Seen::InputEnded]);
}

#[test]
fn a_flush_that_is_given_up_and_a_linger_that_ends_say_nothing_more() {
    let mut driver = Driver::new(patient());
    driver.close_at(s(1), CloseReason::Drain);
    driver.timeout_at(s(2));
    assert_eq!(driver.phase(), Phase::Aborted);
    driver.discard_at(s(2), None);
    driver.flush_at(s(2));
    driver.timeout_at(s(3));
    assert_eq!(driver.phase(), Phase::Aborted);
    assert_eq!(driver.events(), [Seen::Closed(CloseReason::Drain)]);
}

#[test]
fn what_is_thrown_away_means_nothing_to_a_connection_that_does_not_linger() {
    for bytes in [None, Some(usize::MAX)] {
        let mut driver = Driver::new(patient());
        driver.discard_at(s(1), bytes);
        assert!(driver.is_open(), "closed without a reason and without the event");

        driver.close_at(s(2), CloseReason::Drain);
        driver.discard_at(s(2), bytes);
        assert_eq!(driver.phase(), Phase::Flushing, "closed with its last bytes unsent");

        driver.flush_at(s(2));
        assert_eq!(driver.phase(), Phase::Lingering);
    }
}

#[test]
fn a_lifetime_goes_forward_through_its_phases_and_keeps_its_first_reason() {
    let mut lifetime = Lifetime::new(Now::at(START), &patient());
    lifetime.end(CloseReason::Drain, None, START.after(s(1)));
    lifetime.end(CloseReason::Stopped, None, START.after(s(9)));
    assert_eq!(lifetime.reason(), Some(CloseReason::Drain));
    lifetime.enter(Phase::Lingering, Some(START.after(s(2))));
    for (phase, until) in [(Phase::Flushing, s(3)), (Phase::Lingering, s(4)), (Phase::Open, s(5))] {
        lifetime.enter(phase, Some(START.after(until)));
        assert_eq!(lifetime.phase(), Phase::Lingering);
        let timeout = lifetime.poll_timeout(std::time::Duration::ZERO, &patient(), Silence::Ends);
        assert_eq!(timeout.map(|(deadline, _)| deadline), Some(START.after(s(2))));
    }
}
