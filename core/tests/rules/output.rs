//! What is sent: the write stall, the output limit, half-close, finish, replies, the farewell, and the way from
//! the end to the closed socket.

use crate::driver::{Act, Driver, NANO, Seen, ms, patient, s, with_ping};
use pulsegate_core::close::{CloseReason, Retry};
use pulsegate_core::connection::{NotSent, Written, farewell_line};
use pulsegate_core::lifetime::Phase;
use pulsegate_core::policy::Policy;
use pulsegate_core::timer::Timer;
use std::time::Duration;

const STALL: Duration = s(10);

fn with_farewell() -> Policy {
    Policy { farewell: Some("bye: {reason}, {retry}".into()), ..patient() }
}

#[test]
fn waiting_output_without_progress_ends_the_connection() {
    let mut driver = Driver::new(patient());
    driver.progress_at(s(3), 0, 10);
    driver.ends_exactly_at(s(3) + STALL, CloseReason::WriteStall);
}

#[test]
fn any_progress_moves_the_write_stall_and_more_waiting_output_does_not() {
    let mut driver = Driver::new(patient());
    driver.progress_at(s(3), 5, 10);
    driver.progress_at(s(9), 1, 10);
    driver.progress_at(s(12), 0, 1_000);
    driver.ends_exactly_at(s(9) + STALL, CloseReason::WriteStall);
}

#[test]
fn the_write_stall_counts_from_the_output_that_waits_now() {
    let mut driver = Driver::new(patient());
    driver.progress_at(s(1), 0, 10);
    driver.progress_at(s(2), 10, 0);
    driver.timeout_at(s(30));
    assert!(driver.is_open(), "nothing waits");
    driver.progress_at(s(30), 0, 10);
    driver.ends_exactly_at(s(30) + STALL, CloseReason::WriteStall);
}

#[test]
fn the_output_limit_holds_to_the_byte() {
    for (waiting, fits) in [(0, true), (54, true), (55, false), (64, false), (usize::MAX, false)] {
        let mut driver = Driver::new(Policy { output_bytes_max: 64, ..patient() });
        let sent = driver.send_at(s(1), b"ten bytes!", waiting);
        assert_eq!(sent, if fits { Ok(()) } else { Err(NotSent) }, "{waiting} wait");
        assert_eq!(driver.transmitted(), if fits { "ten bytes!" } else { "" });
        assert_eq!(driver.reason(), (!fits).then_some(CloseReason::OutputFull));
    }
}

#[test]
fn after_the_end_nobody_is_sent_anything() {
    let mut driver = Driver::new(patient());
    driver.close_at(s(1), CloseReason::Drain);
    assert_eq!(driver.send_at(s(1), b"hello", 0), Err(NotSent));
    assert_eq!(driver.transmitted(), "");
}

#[test]
fn half_closed_it_stays_until_its_deadline_and_a_second_end_of_input_is_none() {
    let mut driver = Driver::new(patient());
    driver.end_input_at(s(3));
    assert!(driver.said_earlier());
    assert!(!driver.wants_read());
    driver.end_input_at(s(8));
    assert_eq!(driver.events(), [Seen::InputEnded]);
    driver.send_at(s(9), b"still here", 0).unwrap();
    driver.progress_at(s(9), 10, 0);
    driver.ends_exactly_at(s(13), CloseReason::HalfCloseTimeout);
}

#[test]
fn finished_with_nothing_waiting_it_ends_at_once() {
    for (input_ended, reason) in [(false, CloseReason::Application), (true, CloseReason::PeerClosed)] {
        let mut driver = Driver::new(patient());
        if input_ended {
            driver.end_input_at(s(1));
        }
        driver.finish_at(s(2), 0);
        assert_eq!(driver.reason(), Some(reason));
    }
}

#[test]
fn finished_with_output_waiting_it_ends_when_the_last_byte_has_left() {
    for (input_ended, reason) in [(false, CloseReason::Application), (true, CloseReason::PeerClosed)] {
        let mut driver = Driver::new(patient());
        driver.progress_at(s(1), 0, 10);
        driver.finish_at(s(2), 10);
        driver.progress_at(s(3), 9, 1);
        assert!(driver.is_open());
        if input_ended {
            driver.end_input_at(s(4));
        }
        driver.progress_at(s(5), 1, 0);
        assert_eq!(driver.reason(), Some(reason));
    }
}

#[test]
fn finished_with_bytes_not_yet_handed_to_the_kernel_it_waits_for_them() {
    let mut driver = Driver::new(patient());
    driver.send_at(s(1), b"last words", 0).unwrap();
    driver.finish_at(s(1), 0);
    assert!(driver.is_open());
    assert_eq!(driver.flush_at(s(1)), "last words");
    assert_eq!(driver.reason(), Some(CloseReason::Application));
}

#[test]
fn finishing_is_bounded_by_the_write_stall() {
    let mut driver = Driver::new(patient());
    driver.progress_at(s(1), 0, 10);
    driver.finish_at(s(2), 10);
    driver.ends_exactly_at(s(1) + STALL, CloseReason::WriteStall);
}

#[test]
fn each_message_is_answered_with_its_number_and_a_heartbeat_is_not() {
    let reply = Some("ok {n} of {n}".into());
    let mut driver = Driver::new(Policy { reply, ..with_ping(patient()) });
    driver.receive_at(s(1), b"one\nPING\ntwo\nthr");
    assert_eq!(driver.transmitted(), "ok 1 of 1\nok 2 of 2\n");
    driver.receive_at(s(1), b"ee\n");
    assert_eq!(driver.transmitted(), "ok 3 of 3\n");
}

#[test]
fn chunks_are_cut_at_the_longest_message_and_each_is_answered() {
    let reply = Some("ok {n}".into());
    let mut driver = Driver::new(Policy { reply, message_bytes_max: 4, ..patient() });
    driver.receive_at(s(1), b"abcdefghij");
    assert_eq!(driver.payloads(), ["abcd", "efgh", "ij"]);
    assert_eq!(driver.transmitted(), "ok 1\nok 2\nok 3\n");
}

#[test]
fn the_farewell_names_the_reason_and_the_retry_after_all_other_output() {
    let cases = [
        (CloseReason::PeerClosed, "bye: peer closed, come back at once\n"),
        (CloseReason::MinimumRate, "bye: below minimum rate, come back in 5 s\n"),
        (CloseReason::Drain, "bye: drain, come back in 1 s\n"),
        (CloseReason::AtCapacity, "bye: at capacity, come back in 5 s\n"),
    ];
    for (reason, farewell) in cases {
        let mut driver = Driver::new(with_farewell());
        driver.send_at(s(1), b"data\n", 0).unwrap();
        driver.close_at(s(1), reason);
        assert_eq!(driver.transmitted(), format!("data\n{farewell}"));
    }
    assert_eq!(farewell_line("{reason} ({reason})", CloseReason::Drain, Retry::Now), "drain (drain)");
}

#[test]
fn who_is_gone_gets_no_farewell_and_everybody_else_does() {
    for reason in CloseReason::ALL.iter().copied() {
        let gone = [CloseReason::PeerReset, CloseReason::PeerVanished, CloseReason::SocketError];
        let mut driver = Driver::new(with_farewell());
        driver.close_at(s(1), reason);
        assert_eq!(driver.transmitted().is_empty(), gone.contains(&reason), "{reason}");
    }
}

#[test]
fn the_farewell_has_to_leave_before_the_connection_lingers() {
    let mut driver = Driver::new(with_farewell());
    driver.progress_at(s(1), 0, 10);
    driver.finish_at(s(1), 10);
    driver.progress_at(s(2), 10, 0);
    assert_eq!(driver.phase(), Phase::Flushing, "the farewell was just appended");
    let farewell = driver.written_at(s(2), Written { bytes: 30, waiting: 5, drained: true });
    assert_eq!(farewell, "bye: application, come back at once\n");
    assert_eq!(driver.phase(), Phase::Flushing, "5 bytes of it wait");
    driver.progress_at(s(2), 5, 0);
    assert_eq!(driver.phase(), Phase::Lingering);
}

#[test]
fn what_cannot_be_sent_in_time_is_given_up_progress_or_not() {
    let mut driver = Driver::new(patient());
    driver.progress_at(s(1), 0, 10);
    driver.close_at(s(2), CloseReason::Drain);
    assert!(driver.said_earlier());
    assert!(!driver.wants_read());
    assert_eq!(driver.next(), Some((ms(2_250), Timer::Flush)));
    driver.progress_at(ms(2_249), 5, 5);
    driver.timeout_at(ms(2_250) - NANO);
    assert_eq!(driver.phase(), Phase::Flushing);
    driver.timeout_at(ms(2_250));
    assert_eq!((driver.phase(), driver.next()), (Phase::Aborted, None));
    assert_eq!(driver.reason(), Some(CloseReason::Drain));
}

#[test]
fn it_lingers_until_its_deadline_or_the_peers_end() {
    let lingering = || {
        let mut driver = Driver::new(with_farewell());
        driver.close_at(s(1), CloseReason::Drain);
        driver.flush_at(s(2));
        assert_eq!((driver.phase(), driver.next()), (Phase::Lingering, Some((s(3), Timer::Linger))));
        assert!(driver.said_earlier());
        assert!(driver.wants_read(), "to throw it away");
        driver
    };
    let mut expired = lingering();
    expired.timeout_at(s(3) - NANO);
    assert_eq!(expired.phase(), Phase::Lingering);
    expired.timeout_at(s(3));
    assert_eq!((expired.phase(), expired.next()), (Phase::Closed, None));

    let mut ended = lingering();
    ended.discard_at(ms(2_500), None);
    assert_eq!((ended.phase(), ended.next()), (Phase::Closed, None));
    assert!(!ended.wants_read());
}

#[test]
fn what_is_thrown_away_while_lingering_is_bounded_and_does_not_move_the_deadline() {
    let lingering = || {
        let mut driver = Driver::new(Policy { linger_bytes_max: 100, ..with_farewell() });
        driver.close_at(s(1), CloseReason::Drain);
        driver.flush_at(s(2));
        driver.discard_at(ms(2_500), Some(60));
        driver.discard_at(ms(2_600), Some(39));
        assert_eq!(driver.next(), Some((s(3), Timer::Linger)));
        driver
    };
    let mut bounded = lingering();
    bounded.discard_at(ms(2_700), Some(1));
    assert_eq!(bounded.phase(), Phase::Closed);

    let mut expired = lingering();
    expired.timeout_at(s(3));
    assert_eq!(expired.phase(), Phase::Closed);

    let mut flooded = lingering();
    flooded.discard_at(ms(2_700), Some(usize::MAX));
    assert_eq!(flooded.phase(), Phase::Closed);
}

#[test]
fn it_closes_at_once_only_if_that_destroys_nothing() {
    let cases = [
        ("the peer is done too", CloseReason::PeerClosed, 10, false, Phase::Closed),
        ("nothing was sent, and the peer is silent", CloseReason::HeartbeatTimeout, 0, true, Phase::Closed),
        (
            "nothing was sent, but something is unread",
            CloseReason::HeartbeatTimeout,
            0,
            false,
            Phase::Lingering,
        ),
        ("what was sent may still be on its way", CloseReason::HeartbeatTimeout, 10, true, Phase::Lingering),
        ("the peer may be sending", CloseReason::ShortDeadline, 0, true, Phase::Lingering),
        ("both", CloseReason::Drain, 10, false, Phase::Lingering),
    ];
    for (name, reason, sent, drained, phase) in cases {
        let mut driver = Driver::new(patient());
        driver.progress_at(s(1), sent, 0);
        driver.close_at(s(2), reason);
        assert_eq!(driver.phase(), Phase::Flushing);
        driver.written_at(s(2), Written { bytes: 0, waiting: 0, drained });
        assert_eq!(driver.phase(), phase, "{name}");
    }
}

#[test]
fn a_farewell_that_left_is_something_sent() {
    let mut driver = Driver::new(with_farewell());
    driver.close_at(s(1), CloseReason::Drain);
    driver.written_at(s(1), Written { bytes: 30, waiting: 0, drained: true });
    assert_eq!(driver.phase(), Phase::Lingering);
}

#[test]
fn a_failure_is_the_last_of_it_in_every_phase_and_keeps_the_first_reason() {
    let phases: [(Phase, Act); 5] = [
        (Phase::Open, |_| {}),
        (Phase::Flushing, |driver| driver.close_at(s(1), CloseReason::Drain)),
        (Phase::Lingering, |driver| {
            driver.close_at(s(1), CloseReason::Drain);
            driver.flush_at(s(1));
        }),
        (Phase::Closed, |driver| {
            driver.close_at(s(1), CloseReason::Drain);
            driver.flush_at(s(1));
            driver.discard_at(s(1), None);
        }),
        (Phase::Aborted, |driver| driver.fail_at(s(1), CloseReason::Drain)),
    ];
    for (phase, reach) in phases {
        let mut driver = Driver::new(patient());
        reach(&mut driver);
        assert_eq!(driver.phase(), phase);
        driver.fail_at(s(1), CloseReason::PeerReset);
        assert!([Phase::Closed, Phase::Aborted].contains(&driver.phase()));
        assert_eq!(driver.next(), None);
        assert!(!driver.wants_read());
        let reason = if phase == Phase::Open { CloseReason::PeerReset } else { CloseReason::Drain };
        assert_eq!(driver.events(), [Seen::Closed(reason)]);
    }
}

#[test]
fn totals_count_what_came_and_what_the_kernel_took() {
    let mut driver = Driver::new(with_ping(patient()));
    driver.receive_at(s(1), b"one\nPING\ntw");
    driver.progress_at(s(1), 7, 3);
    driver.close_at(s(1), CloseReason::Drain);
    driver.progress_at(s(1), 3, 0);
    driver.receive_at(s(1), b"o\n");
    let totals = driver.totals();
    assert_eq!((totals.bytes_in, totals.bytes_out, totals.messages), (11, 10, 1));
}
