//! A silent client is asked once, and given up only after the question has waited in full (PROTOCOL.md section 6).

use crate::driver::Driver;
use crate::words::{ASKED, NANO, Said, TIMEOUT, beat, bytes, message, ms, pulse, s, short, skipped};
use pulsegate_core::close::CloseReason;
use pulsegate_core::frame::{Beat, Frame};
use pulsegate_core::timer::{Before, Timer};

const QUESTION: Said = Said::Beat(Beat::Question);
const ANSWER_TIME: std::time::Duration = s(3);

#[test]
fn it_is_asked_once_a_quarter_before_the_end() {
    let mut driver = Driver::attached(pulse());
    assert_eq!(driver.next(), Some((ASKED, Timer::Question)));
    driver.pass_to(ASKED - NANO);
    assert_eq!((driver.said(), driver.due()), (vec![], None));
    driver.at(ASKED);
    assert_eq!(driver.due(), Some(Before::Reading), "its frame may lie in our own buffer");
    driver.timeout();
    assert_eq!(driver.said(), [QUESTION]);
    driver.timeout();
    driver.pass_to(TIMEOUT - NANO);
    assert_eq!(driver.said(), [], "once");
    driver.ends_exactly_at(TIMEOUT, CloseReason::HeartbeatTimeout);
}

#[test]
fn however_late_it_is_asked_it_has_the_full_time_for_its_answer() {
    for late in [NANO, s(2), ANSWER_TIME - NANO, ANSWER_TIME, s(100)] {
        let mut driver = Driver::attached(pulse());
        driver.at(ASKED + late).timeout();
        assert_eq!(driver.said(), [QUESTION]);
        assert!(driver.is_open(), "asked {late:?} late");
        driver.ends_exactly_at(ASKED + late + ANSWER_TIME, CloseReason::HeartbeatTimeout);
    }
}

#[test]
fn any_frame_saves_it_up_to_the_last_instant_and_then_it_is_asked_again() {
    for frame in [bytes(&[Frame::Beat(Beat::Answer)]), beat(), message(1, b"x"), skipped()] {
        for when in [ASKED, ASKED + NANO, TIMEOUT - NANO, TIMEOUT] {
            let mut driver = Driver::attached(pulse());
            driver.pass_to(ASKED);
            driver.at(when).receive(&frame);
            driver.timeout();
            assert!(driver.is_open());
            assert_eq!(driver.said(), [QUESTION]);
            driver.pass_to(when + ASKED - NANO);
            assert_eq!(driver.said(), []);
            driver.pass_to(when + ASKED);
            assert_eq!(driver.said(), [QUESTION]);
            driver.ends_exactly_at(when + TIMEOUT, CloseReason::HeartbeatTimeout);
        }
    }
}

#[test]
fn part_of_an_answer_is_none() {
    let mut driver = Driver::attached(pulse());
    driver.pass_to(ASKED);
    driver.receive(&bytes(&[Frame::Beat(Beat::Answer)])[..4]);
    driver.ends_exactly_at(TIMEOUT, CloseReason::HeartbeatTimeout);
}

#[test]
fn its_own_questions_are_answered_at_once_and_count() {
    let mut driver = Driver::attached(pulse());
    driver.pass_to(s(5)).receive(&bytes(&[Frame::Beat(Beat::Question)]));
    assert_eq!(driver.said(), [Said::Beat(Beat::Answer)]);
    driver.ends_exactly_at(s(5) + TIMEOUT, CloseReason::HeartbeatTimeout);
}

#[test]
fn a_stall_of_ours_is_not_its_silence() {
    let stall = s(8);
    // Before the question, and between question and answer.
    for when in [s(5), s(10)] {
        let mut driver = Driver::attached(pulse());
        driver.pass_to(when);
        driver.stall(stall);
        driver.ends_exactly_at(TIMEOUT + stall, CloseReason::HeartbeatTimeout);
        let bye = Said::bye(CloseReason::HeartbeatTimeout, 0);
        assert_eq!(driver.said(), [QUESTION, bye]);
    }
}

#[test]
fn a_stall_across_the_whole_timeout_ends_nobody() {
    let mut driver = Driver::attached(pulse());
    driver.stall(s(30));
    driver.timeout();
    assert_eq!((driver.said(), driver.is_open()), (vec![], true));
    driver.ends_exactly_at(s(30) + TIMEOUT, CloseReason::HeartbeatTimeout);
}

#[test]
fn a_short_connection_is_never_asked() {
    let mut driver = Driver::attached(short(s(60)));
    assert_eq!(driver.next(), Some((s(54), Timer::Notice)));
    driver.pass_to(s(60) - NANO);
    assert!(!driver.said().contains(&QUESTION));
    driver.ends_exactly_at(s(60), CloseReason::ShortDeadline);
}

#[test]
fn nobody_is_asked_who_has_ended_its_side() {
    let mut driver = Driver::attached(pulse());
    driver.pass_to(s(8)).receive(&message(1, b"owed"));
    driver.at(ms(8_500)).end_input();
    driver.pass_to(s(18));
    assert_eq!((driver.said(), driver.is_open()), (vec![], true));
}
