//! While the gateway owes WELCOME, the client's silence doesn't count; but it isn't kept waiting for longer than
//! a sink may stall.

use crate::driver::Driver;
use crate::words::{AGE, NANO, Said, TIMEOUT, admission, hello, ms, pulse, s, short, skipped};
use pulsegate_core::close::CloseReason;
use pulsegate_core::timer::Timer;

/// The sink stall of the policies here.
const STALL: std::time::Duration = s(60);

#[test]
fn the_wait_is_bounded_from_hello_on() {
    for policy in [pulse(), short(s(600))] {
        let mut driver = Driver::new(policy);
        driver.at(s(4)).receive(&crate::words::opening(&[pulsegate_core::frame::Frame::Hello(hello())]));
        assert_eq!(driver.next(), Some((s(4) + STALL, Timer::SinkStall)));
        driver.seen();
        driver.ends_exactly_at(s(4) + STALL, CloseReason::SinkStalled);
        let reason = CloseReason::SinkStalled;
        driver.ended(reason, &[], &[Said::bye(reason, 0)]);
    }
}

#[test]
fn the_client_cannot_make_it_longer() {
    let mut driver = Driver::greeted(pulse(), hello());
    for second in 1..60 {
        driver.pass_to(s(second)).receive(&skipped());
    }
    driver.ends_exactly_at(STALL, CloseReason::SinkStalled);
}

#[test]
fn welcome_in_the_last_instant_is_in_time_and_silence_counts_from_there() {
    for when in [STALL - NANO, STALL] {
        let mut driver = Driver::greeted(pulse(), hello());
        driver.at(when).welcome(&admission(), &[]);
        driver.timeout();
        assert!(driver.is_open());
        driver.ends_exactly_at(when + TIMEOUT, CloseReason::HeartbeatTimeout);
    }
}

#[test]
fn a_stall_of_ours_counts_for_nobody() {
    let mut driver = Driver::greeted(pulse(), hello());
    driver.stall(s(7));
    driver.ends_exactly_at(STALL + s(7), CloseReason::SinkStalled);
}

#[test]
fn the_planned_end_comes_all_the_same() {
    let mut driver = Driver::greeted(short(s(20)), hello());
    driver.ends_exactly_at(s(20), CloseReason::ShortDeadline);
    let mut driver = Driver::greeted(pulse(), hello());
    driver.policy.sink_stall = 2 * AGE;
    driver.timeout();
    driver.ends_exactly_at(AGE, CloseReason::MaxAge);
    assert_eq!(driver.said(), [Said::bye(CloseReason::MaxAge, 0)], "who isn't attached gets no notice");
}

#[test]
fn a_time_in_between_is_told_as_what_remains() {
    let mut driver = Driver::greeted(short(s(20)), hello());
    driver.at(ms(12_345) + NANO).welcome(&admission(), &[]);
    let said = driver.said();
    assert!(matches!(said[..], [Said::Welcome { remaining_ms: 7_654, .. }]), "{said:?}");
}
