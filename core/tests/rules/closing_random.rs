//! Whatever is called in whatever order, under whatever policy: one end, one reason, nothing after it, no panic,
//! no timeout that stays due. What holds after every single call is checked by the driver.

use crate::driver::{Driver, NANO, Seen, long, ms, patient, s, short, with_ping};
use proptest::prelude::*;
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::Written;
use pulsegate_core::lifetime::{Direction, Pause, Phase};
use pulsegate_core::policy::{MinimumRate, Policy};
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
enum Step {
    None,
    By(Duration),
    /// To the next timeout, as seen from one nanosecond before.
    BeforeTimeout,
    ToTimeout,
    /// A stall of the shard.
    Stall(Duration),
}

#[derive(Clone, Debug)]
enum Call {
    Receive(&'static str),
    EndInput,
    Timeout,
    Written(Written),
    Flush,
    Discard(Option<usize>),
    Send(usize),
    Finish(usize),
    Close(CloseReason),
    Fail(CloseReason),
    SetDeadline(Direction, Option<Duration>),
    Pause(Pause),
    Resume(Pause),
}

const INPUTS: [&str; 8] =
    ["", "x", "PING\n", "hello\n", "one\ntwo\nPING\n", "a\r\nb", "PI", "longer than sixteen bytes"];

fn policies() -> Vec<Policy> {
    let zero = Duration::ZERO;
    let talking = Policy {
        reply: Some("ok {n}".into()),
        farewell: Some("bye {reason} {retry}".into()),
        message_bytes_max: 16,
        output_bytes_max: 64,
        ..with_ping(long(s(2), s(20)))
    };
    let rate = Some(MinimumRate { bytes_per_second: 2, grace: s(1) });
    vec![
        Policy::default(),
        patient(),
        short(s(3)),
        with_ping(short(s(10))),
        Policy { minimum_rate: rate, sink_stall: s(1), half_close: s(1), ..talking.clone() },
        talking.clone(),
        Policy { flush: zero, linger: zero, write_stall: zero, half_close: zero, ..talking },
        Policy { first_message: zero, sink_stall: zero, ..long(zero, s(5)) },
        long(zero, zero),
        short(zero),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::None),
        1 => Just(Step::By(NANO)),
        3 => (0_u64..2_000).prop_map(|millis| Step::By(ms(millis))),
        1 => Just(Step::BeforeTimeout),
        2 => Just(Step::ToTimeout),
        1 => (50_u64..3_000).prop_map(|millis| Step::Stall(ms(millis))),
    ]
}

fn calls() -> impl Strategy<Value = Call> {
    let written = (0_usize..20, prop_oneof![Just(0), 0_usize..20], any::<bool>())
        .prop_map(|(bytes, waiting, drained)| Written { bytes, waiting, drained });
    let direction = prop::sample::select(vec![Direction::Read, Direction::Write, Direction::Both]);
    let deadline = prop::option::of((0_u64..10_000).prop_map(ms));
    let reason = prop::sample::select(CloseReason::ALL);
    let pause = prop::sample::select(vec![Pause::Sink, Pause::Share, Pause::Output]);
    prop_oneof![
        12 => prop::sample::select(&INPUTS[..]).prop_map(Call::Receive),
        2 => Just(Call::EndInput),
        4 => Just(Call::Timeout),
        5 => written.prop_map(Call::Written),
        1 => Just(Call::Flush),
        1 => prop::option::of(0_usize..200_000).prop_map(Call::Discard),
        3 => (0_usize..70).prop_map(Call::Send),
        1 => (0_usize..2).prop_map(Call::Finish),
        1 => reason.clone().prop_map(Call::Close),
        1 => reason.prop_map(Call::Fail),
        3 => (direction, deadline).prop_map(|(direction, deadline)| Call::SetDeadline(direction, deadline)),
        2 => pause.clone().prop_map(Call::Pause),
        3 => pause.prop_map(Call::Resume),
    ]
}

/// Moves time on, and returns what the time is now.
fn advance(driver: &mut Driver, step: Step) -> Duration {
    let now = driver.elapsed();
    let timeout = driver.next().map_or(now, |(deadline, _)| deadline.max(now));
    match step {
        Step::None => now,
        Step::By(span) => now + span,
        Step::BeforeTimeout => now.max(timeout.saturating_sub(NANO)),
        Step::ToTimeout => timeout,
        Step::Stall(span) => {
            driver.stall(span);
            now + span
        }
    }
}

fn apply(driver: &mut Driver, when: Duration, call: Call) {
    match call {
        Call::Receive(text) => driver.receive_at(when, text.as_bytes()),
        Call::EndInput => driver.end_input_at(when),
        Call::Timeout => driver.timeout_at(when),
        Call::Written(written) => drop(driver.written_at(when, written)),
        Call::Flush => drop(driver.flush_at(when)),
        Call::Discard(bytes) => driver.discard_at(when, bytes),
        Call::Send(bytes) => drop(driver.send_at(when, &vec![b'x'; bytes], 0)),
        Call::Finish(waiting) => driver.finish_at(when, waiting),
        Call::Close(reason) => driver.close_at(when, reason),
        Call::Fail(reason) => driver.fail_at(when, reason),
        Call::SetDeadline(direction, deadline) => driver.set_deadline_at(when, direction, deadline),
        Call::Pause(why) => driver.pause_at(when, why),
        Call::Resume(why) => driver.resume_at(when, why),
    }
}

/// The end has been said exactly if there is one, once, last, with the reason that is kept.
fn check_end(driver: &Driver) {
    let closed = |seen: &&Seen| matches!(seen, Seen::Closed(_));
    let events = driver.events();
    assert_eq!(events.iter().filter(closed).count(), usize::from(!driver.is_open()));
    assert_eq!(driver.reason().is_none(), driver.is_open());
    if let Some(reason) = driver.reason() {
        assert_eq!(events.last(), Some(&Seen::Closed(reason)));
        assert_eq!(driver.next().is_none(), driver.phase() >= Phase::Closed);
    } else {
        assert!(driver.next().is_some(), "an open connection without a deadline lives for ever");
    }
    let messages = events.iter().filter(|seen| matches!(seen, Seen::Message(..))).count();
    assert_eq!(driver.totals().messages, messages as u64);
}

/// A timeout changes something if and only if one is due, and leaves none due.
fn check_timeout(driver: &mut Driver) {
    let now = driver.elapsed();
    let due = |driver: &Driver| driver.next().is_some_and(|(deadline, _)| deadline <= now);
    if !due(driver) {
        let before = driver.state();
        driver.timeout_at(now);
        assert_eq!(driver.state(), before, "a spurious timeout did something");
        return;
    }
    for _ in 0..Phase::Aborted as usize {
        if due(driver) {
            let phase = driver.phase();
            driver.timeout_at(now);
            assert!(driver.phase() > phase, "a due timeout did nothing");
        }
    }
    assert!(!due(driver), "due for ever");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_calls_ends_a_connection_at_most_once(
        policy in prop::sample::select(policies()),
        calls in prop::collection::vec((steps(), calls(), prop::bool::weighted(0.3)), 1..60),
    ) {
        let mut driver = Driver::new(policy);
        for (step, call, look) in calls {
            let when = advance(&mut driver, step);
            apply(&mut driver, when, call);
            check_end(&driver);
            if look {
                check_timeout(&mut driver);
                check_end(&driver);
            }
        }
    }

    #[test]
    fn left_alone_every_connection_comes_to_its_end_by_its_own_timeouts(
        policy in prop::sample::select(policies()),
        calls in prop::collection::vec((steps(), calls()), 0..20),
    ) {
        let mut driver = Driver::new(policy);
        for (step, call) in calls {
            let when = advance(&mut driver, step);
            apply(&mut driver, when, call);
        }
        for _ in 0..Phase::Aborted as usize {
            if let Some((deadline, _)) = driver.next() {
                let when = deadline.max(driver.elapsed());
                driver.timeout_at(when);
            }
        }
        prop_assert_eq!(driver.next(), None);
        check_end(&driver);
    }
}
