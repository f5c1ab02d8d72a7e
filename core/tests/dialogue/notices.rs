//! A client is told once that its connection's planned end is near (PROTOCOL.md section 8.1): ten seconds before,
//! or a tenth of the connection's life if that is shorter.

use crate::driver::Driver;
use crate::words::{AGE, NANO, Said, admission, beat, hello, ms, patient, pulse, s, short};
use pulsegate_core::close::CloseReason;
use pulsegate_core::timer::{Before, Timer};
use std::time::Duration;

fn notice(reason: CloseReason, within: Duration) -> Said {
    // It is not there yet.
    let text = if reason == CloseReason::ShortDeadline {
        "the fixed deadline of this short connection is near"
    } else {
        "the connection will soon reach its maximum age"
    };
    Said::Notice { code: 1, in_ms: within.as_millis() as u32, text: text.to_owned() }
}

#[test]
fn it_comes_once_at_its_instant_and_names_the_time_left() {
    for (policy, age, before, reason) in [
        (patient(), AGE, s(10), CloseReason::MaxAge),
        (short(s(600)), s(600), s(10), CloseReason::ShortDeadline),
        (short(s(100)), s(100), s(10), CloseReason::ShortDeadline),
        (short(s(20)), s(20), s(2), CloseReason::ShortDeadline),
        (short(ms(5)), ms(5), Duration::from_micros(500), CloseReason::ShortDeadline),
    ] {
        let mut driver = Driver::attached(policy);
        if age == AGE {
            driver.pass_to(AGE / 2).receive(&beat());
        }
        driver.pass_to(age - before - NANO);
        assert_eq!((driver.said(), driver.next()), (vec![], Some((age - before, Timer::Notice))));
        driver.at(age - before);
        assert_eq!(driver.due(), Some(Before::Nothing));
        driver.timeout();
        assert_eq!(driver.said(), [notice(reason, before)]);
        driver.pass_to(age - NANO);
        assert_eq!(driver.said(), [], "once");
        driver.ends_exactly_at(age, reason);
        assert_eq!(driver.said(), [Said::bye(reason, 0)]);
    }
}

#[test]
fn said_late_it_names_what_is_left_then() {
    let mut driver = Driver::attached(short(s(100)));
    driver.at(s(97) + NANO).timeout();
    assert_eq!(driver.said(), [notice(CloseReason::ShortDeadline, ms(2_999))]);
}

#[test]
fn who_is_let_in_late_is_told_at_once() {
    let mut driver = Driver::greeted(short(s(20)), hello());
    driver.pass_to(s(19)).welcome(&admission(), &[]);
    driver.pass_to(s(19));
    let said = driver.said();
    assert!(matches!(said[0], Said::Welcome { remaining_ms: 1_000, .. }), "{said:?}");
    assert_eq!(said[1..], [notice(CloseReason::ShortDeadline, s(1))]);
}

#[test]
fn a_stall_moves_neither_the_notice_nor_the_end() {
    let mut driver = Driver::attached(short(s(100)));
    driver.stall(s(30));
    driver.pass_to(s(90));
    assert_eq!(driver.said(), [notice(CloseReason::ShortDeadline, s(10))]);
    driver.ends_exactly_at(s(100), CloseReason::ShortDeadline);
}

#[test]
fn notice_and_question_may_fall_into_one_instant() {
    let mut driver = Driver::attached(pulse());
    // Heard at such a time that it is asked exactly when it is told.
    let told = AGE - s(10);
    for beats in (0..=(told - s(9)).as_secs()).step_by(3) {
        driver.pass_to(s(beats)).receive(&beat());
    }
    driver.pass_to(told - s(9)).receive(&beat());
    driver.said();
    driver.pass_to(told - NANO);
    assert_eq!(driver.said(), []);
    driver.at(told).timeout();
    let question = Said::Beat(pulsegate_core::frame::Beat::Question);
    assert_eq!(driver.said(), [question, notice(CloseReason::MaxAge, s(10))]);
}

#[test]
fn its_owner_may_tell_it_more() {
    let mut driver = Driver::new(pulse());
    driver.notify(2, s(5));
    driver.receive(&crate::words::opening(&[pulsegate_core::frame::Frame::Hello(hello())]));
    driver.notify(2, s(5));
    assert_eq!(driver.said(), [], "not before WELCOME");
    driver.welcome(&admission(), &[]);
    driver.said();
    driver.notify(2, s(5));
    driver.notify(3, Duration::ZERO);
    let say = |code, in_ms| Said::Notice { code, in_ms, text: String::new() };
    assert_eq!(driver.said(), [say(2, 5_000), say(3, 0)]);
}
