//! Deadlines that are fixed or set from outside: what comes after one counts for nothing, and nothing is sent
//! after one.

use crate::driver::{Driver, Seen};
use crate::words::{AGE, NANO, Said, beat, bytes, hello, message, ms, opening, patient, pulse, s, short};
use pulsegate_core::close::CloseReason;
use pulsegate_core::frame::{Beat, Frame};
use pulsegate_core::lifetime::Direction;
use pulsegate_core::timer::Timer;

/// Something that makes us say something.
type Act = fn(&mut Driver);

#[test]
fn what_comes_after_a_fixed_deadline_is_not_delivered() {
    for (policy, age, reason) in
        [(short(s(5)), s(5), CloseReason::ShortDeadline), (patient(), AGE, CloseReason::MaxAge)]
    {
        let mut driver = Driver::attached(policy.clone());
        driver.at(age - NANO).receive(&message(1, b"in time"));
        driver.at(age).receive(&message(2, b"late"));
        let seen = [Seen::TokenUsed, Seen::Message(1, b"in time".to_vec()), Seen::Detached(false)];
        driver.ended(reason, &seen, &[Said::bye(reason, 0)]);

        let mut driver = Driver::attached(policy.clone());
        driver.at(age).end_input();
        driver.ended(reason, &[Seen::Detached(true)], &[Said::bye(reason, 0)]);

        let mut driver = Driver::new(policy);
        driver.at(age).receive(&opening(&[Frame::Hello(hello())]));
        driver.ended(reason, &[], &[Said::bye(reason, 0)]);
    }
}

#[test]
fn of_two_that_come_in_one_instant_the_most_fixed_is_the_reason() {
    let mut driver = Driver::attached(pulse());
    driver.set_deadline(Direction::Read, Some(s(12)));
    driver.ends_exactly_at(s(12), CloseReason::ReadDeadline);
    let said = driver.said();
    let reason = CloseReason::ReadDeadline;
    assert_eq!(said, [Said::Beat(Beat::Question), Said::bye(reason, 0)]);
}

#[test]
fn a_read_deadline_ends_it_whatever_comes() {
    let mut driver = Driver::attached(pulse());
    driver.set_deadline(Direction::Read, Some(s(5)));
    assert_eq!(driver.next(), Some((s(5), Timer::ReadDeadline)));
    driver.pass_to(s(5) - NANO).receive(&beat());
    driver.at(s(5)).receive(&message(1, b"late"));
    let reason = CloseReason::ReadDeadline;
    driver.ended(reason, &[Seen::TokenUsed, Seen::Detached(false)], &[Said::bye(reason, 0)]);
}

#[test]
fn a_read_deadline_can_be_moved_and_cleared() {
    let mut driver = Driver::attached(pulse());
    driver.set_deadline(Direction::Read, Some(s(5)));
    driver.pass_to(s(4)).set_deadline(Direction::Both, Some(s(7)));
    driver.pass_to(s(6)).set_deadline(Direction::Both, None);
    driver.ends_exactly_at(s(12), CloseReason::HeartbeatTimeout);
}

#[test]
fn after_a_write_deadline_nothing_is_said_but_bye() {
    let acts: [(&str, Act); 4] = [
        ("push", |driver| assert_eq!(driver.push(b"x"), Ok(1), "it has its number")),
        ("notify", |driver| driver.notify(2, s(1))),
        ("answer", |driver| driver.receive(&bytes(&[Frame::Beat(Beat::Question)]))),
        ("receipt", |driver| driver.commit(1)),
    ];
    for (name, act) in acts {
        let mut driver = Driver::attached(pulse());
        driver.receive(&message(1, b"x"));
        driver.set_deadline(Direction::Write, Some(s(5)));
        driver.at(s(5) - NANO).notify(3, s(0));
        assert_eq!(driver.said().len(), 1, "in time");
        driver.at(s(5)).receive(&beat());
        assert!(driver.is_open(), "{name}: nothing was to be said");
        driver.seen();
        act(&mut driver);
        let said = driver.said();
        assert!(matches!(said[..], [Said::Bye { code: 74, .. }]), "{name}: {said:?}");
        let closed = Seen::Closed(CloseReason::WriteDeadline);
        assert_eq!(driver.seen(), [Seen::Detached(false), closed], "{name}");
    }
}

#[test]
fn a_write_deadline_ends_what_waits() {
    let mut driver = Driver::attached(pulse());
    driver.room = 0;
    driver.push(b"x").expect("it is attached");
    driver.set_deadline(Direction::Write, Some(s(5)));
    driver.ends_exactly_at(s(5), CloseReason::WriteDeadline);
    let mut driver = Driver::attached(pulse());
    driver.set_deadline(Direction::Write, Some(ms(5)));
    driver.pass_to(s(5));
    assert!(driver.is_open(), "nothing waits");
}
