//! Every kind of deadline ends the connection exactly at its instant, for its own reason, after what has to be
//! tried first; of two at the same instant the more fixed one is the reason.

use crate::driver::{Driver, Seen, patient, s};
use pulsegate_core::close::CloseReason;
use pulsegate_core::lifetime::{Direction, Pause};
use pulsegate_core::policy::{LifetimePolicy, MinimumRate, Policy};
use pulsegate_core::timer::{Before, Timer};
use std::time::Duration;

/// When everything here runs out.
const END: Duration = s(20);
/// When what doesn't count from accept begins.
const MIDDLE: Duration = s(10);

/// From the most fixed to the least.
const TIMERS: [(Timer, CloseReason, Before); 10] = [
    (Timer::ShortDeadline, CloseReason::ShortDeadline, Before::Nothing),
    (Timer::MaxAge, CloseReason::MaxAge, Before::Nothing),
    (Timer::ReadDeadline, CloseReason::ReadDeadline, Before::Nothing),
    (Timer::WriteDeadline, CloseReason::WriteDeadline, Before::Nothing),
    (Timer::SinkStall, CloseReason::SinkStalled, Before::Hearing),
    (Timer::HalfClose, CloseReason::HalfCloseTimeout, Before::Nothing),
    (Timer::WriteStall, CloseReason::WriteStall, Before::Writing),
    (Timer::FirstMessage, CloseReason::FirstMessageTimeout, Before::Reading),
    (Timer::Heartbeat, CloseReason::HeartbeatTimeout, Before::Reading),
    (Timer::MinimumRate, CloseReason::MinimumRate, Before::Reading),
];

/// A connection on which exactly these timers run, all of them until [`END`].
fn prepare(timers: &[Timer]) -> Driver {
    let has = |timer| timers.contains(&timer);
    let from_accept = |timer| if has(timer) { END } else { s(3_600) };
    let from_middle = |timer| if has(timer) { END - MIDDLE } else { s(3_600) };
    let lifetime = if has(Timer::ShortDeadline) {
        LifetimePolicy::Short { deadline: END }
    } else {
        LifetimePolicy::Long {
            heartbeat_timeout: from_accept(Timer::Heartbeat),
            max_age: from_accept(Timer::MaxAge),
        }
    };
    let mut driver = Driver::new(Policy {
        lifetime,
        first_message: from_accept(Timer::FirstMessage),
        sink_stall: from_middle(Timer::SinkStall),
        half_close: from_middle(Timer::HalfClose),
        write_stall: from_middle(Timer::WriteStall),
        minimum_rate: has(Timer::MinimumRate)
            .then_some(MinimumRate { bytes_per_second: 1_000_000, grace: END }),
        ..patient()
    });
    if has(Timer::Heartbeat) {
        driver.receive_at(Duration::ZERO, b"hello");
    }
    if has(Timer::SinkStall) {
        driver.pause_at(MIDDLE, Pause::Sink);
    }
    if has(Timer::HalfClose) {
        driver.end_input_at(MIDDLE);
    }
    if has(Timer::WriteStall) || has(Timer::WriteDeadline) {
        driver.progress_at(MIDDLE, 0, 10);
    }
    for (timer, direction) in
        [(Timer::ReadDeadline, Direction::Read), (Timer::WriteDeadline, Direction::Write)]
    {
        if has(timer) {
            driver.set_deadline_at(MIDDLE, direction, Some(END));
        }
    }
    driver
}

/// Whether one of two excludes the other: by the kind of lifetime, or because we or the peer stopped input.
fn exclude(more_fixed: Timer, less_fixed: Timer) -> bool {
    let counts_input = [Timer::FirstMessage, Timer::Heartbeat, Timer::MinimumRate].contains(&less_fixed);
    let stops_input = [Timer::SinkStall, Timer::HalfClose].contains(&more_fixed);
    (stops_input && counts_input)
        || [
            (Timer::ShortDeadline, Timer::MaxAge),
            (Timer::ShortDeadline, Timer::Heartbeat),
            (Timer::ReadDeadline, Timer::HalfClose),
            (Timer::FirstMessage, Timer::Heartbeat),
        ]
        .contains(&(more_fixed, less_fixed))
}

#[test]
fn each_ends_the_connection_exactly_at_its_instant_for_its_own_reason() {
    for (timer, reason, before) in TIMERS {
        let mut driver = prepare(&[timer]);
        assert_eq!(driver.next(), Some((END, timer)));
        driver.ends_exactly_at(END, reason);
        assert_eq!(driver.timer(), Some(timer));

        let mut driver = prepare(&[timer]);
        assert_eq!(driver.due_at(END - Duration::from_nanos(1)), None);
        assert_eq!(driver.due_at(END), Some(before), "{timer:?}");
    }
}

#[test]
fn of_two_at_the_same_instant_the_more_fixed_one_is_the_reason() {
    for (place, (more_fixed, reason, before)) in TIMERS.into_iter().enumerate() {
        for (less_fixed, ..) in TIMERS.into_iter().skip(place + 1) {
            if exclude(more_fixed, less_fixed) {
                continue;
            }
            let mut driver = prepare(&[less_fixed, more_fixed]);
            assert_eq!(driver.next(), Some((END, more_fixed)), "with {less_fixed:?}");
            assert_eq!(driver.due_at(END), Some(before));
            driver.timeout_at(END);
            assert_eq!(driver.reason(), Some(reason));
        }
    }
}

#[test]
fn an_end_that_no_deadline_has_brought_names_none_and_how_long_the_peer_was_silent() {
    let mut driver = prepare(&[Timer::Heartbeat]);
    driver.receive_at(MIDDLE, b"beat");
    driver.stall(s(2));
    driver.close_at(MIDDLE + s(5), CloseReason::Application);
    assert_eq!((driver.timer(), driver.silent_for()), (None, s(3)));
}

#[test]
fn input_at_a_fixed_deadline_ends_the_connection_for_it_and_at_any_other_is_delivered() {
    for (timer, reason, _) in TIMERS {
        let mut driver = prepare(&[timer]);
        let delivered = driver.payloads().len();
        driver.receive_at(END, &[b'x'; 100]);
        let fixed = [Timer::ShortDeadline, Timer::MaxAge, Timer::ReadDeadline].contains(&timer);
        assert_eq!((driver.reason(), driver.timer()), (fixed.then_some(reason), fixed.then_some(timer)));
        assert_eq!(driver.payloads().len() - delivered, usize::from(!fixed), "{timer:?}");
    }
}

#[test]
fn input_at_two_fixed_deadlines_names_the_more_fixed() {
    for (timer, reason, _) in &TIMERS[..2] {
        let mut driver = prepare(&[*timer, Timer::ReadDeadline]);
        driver.receive_at(END, b"x");
        assert_eq!(driver.events(), [Seen::Closed(*reason)]);
    }
}

#[test]
fn a_timer_out_of_the_way_leaves_the_next_one() {
    let mut driver = prepare(&[Timer::ReadDeadline]);
    driver.set_deadline_at(MIDDLE, Direction::Read, Some(END + s(1)));
    driver.progress_at(MIDDLE, 0, 10);
    driver.set_deadline_at(MIDDLE, Direction::Write, Some(END));
    driver.progress_at(END - Duration::from_nanos(1), 10, 0);
    driver.ends_exactly_at(END + s(1), CloseReason::ReadDeadline);
}
