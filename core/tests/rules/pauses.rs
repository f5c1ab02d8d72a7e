//! Silence that we cause doesn't count: while reading is stopped the clocks of silence, first message and rate
//! stand still, the fixed deadlines don't. What a stall of the shard took counts for the peer, too.

use crate::driver::{Driver, START, long, ms, patient, s, short};
use pulsegate_core::close::CloseReason;
use pulsegate_core::lifetime::Pause;
use pulsegate_core::policy::{MinimumRate, Policy};
use pulsegate_core::stall::{SLEEP_MAX, StallGuard};
use pulsegate_core::timer::{Before, Timer};

fn with_rate() -> Policy {
    Policy { minimum_rate: Some(MinimumRate { bytes_per_second: 10, grace: s(5) }), ..patient() }
}

#[test]
fn the_clocks_that_count_the_peer_stand_still_and_resuming_grants_one_full_timeout() {
    let cases = [
        (Driver::spoken(long(s(5), s(3_600))), CloseReason::HeartbeatTimeout),
        (Driver::new(Policy { first_message: s(5), ..patient() }), CloseReason::FirstMessageTimeout),
        (Driver::new(with_rate()), CloseReason::MinimumRate),
    ];
    for (mut driver, reason) in cases {
        driver.pause_at(s(4), Pause::Sink);
        assert!(!driver.wants_read());
        driver.timeout_at(s(30));
        assert!(driver.is_open(), "{reason} while paused");
        driver.resume_at(s(30), Pause::Sink);
        assert!(driver.wants_read());
        assert!(driver.said_earlier());
        driver.ends_exactly_at(s(35), reason);
    }
}

#[test]
fn the_short_deadline_does_not_stand_still() {
    let mut driver = Driver::new(short(s(5)));
    driver.pause_at(s(4), Pause::Sink);
    driver.ends_exactly_at(s(5), CloseReason::ShortDeadline);
}

#[test]
fn the_maximum_age_does_not_stand_still() {
    let mut driver = Driver::spoken(long(s(5), s(20)));
    driver.pause_at(s(4), Pause::Output);
    driver.ends_exactly_at(s(20), CloseReason::MaxAge);
}

#[test]
fn paused_for_the_sink_for_too_long_ends_it() {
    let mut driver = Driver::spoken(long(s(5), s(3_600)));
    driver.pause_at(s(4), Pause::Sink);
    driver.pause_at(s(40), Pause::Sink);
    driver.ends_exactly_at(s(64), CloseReason::SinkStalled);
}

#[test]
fn a_sink_that_moves_prolongs_a_wait_for_it_and_none_for_a_share() {
    for (why, end) in [(Pause::Sink, s(90)), (Pause::Share, s(64))] {
        let mut driver = Driver::spoken(long(s(5), s(3_600)));
        driver.pause_at(s(4), why);
        driver.sink_moves_at(s(30));
        assert!(!driver.wants_read());
        driver.ends_exactly_at(end, CloseReason::SinkStalled);
    }
}

#[test]
fn each_pause_for_the_sink_has_its_own_limit() {
    let mut driver = Driver::spoken(patient());
    driver.pause_at(s(4), Pause::Sink);
    driver.resume_at(s(63), Pause::Sink);
    driver.pause_at(s(64), Pause::Sink);
    driver.ends_exactly_at(s(124), CloseReason::SinkStalled);
}

#[test]
fn paused_for_its_own_output_for_too_long_ends_it_however_much_trickles_out() {
    let mut driver = Driver::spoken(long(s(5), s(3_600)));
    driver.pause_at(s(4), Pause::Output);
    driver.pause_at(s(40), Pause::Output);
    assert_eq!(driver.next(), Some((s(64), Timer::OutputRest)));
    assert_eq!(Timer::OutputRest.before(), Before::Writing, "it may have made room meanwhile");
    driver.ends_exactly_at(s(64), CloseReason::OutputFull);
}

#[test]
fn each_pause_for_output_has_its_own_limit() {
    let mut driver = Driver::spoken(patient());
    driver.pause_at(s(4), Pause::Output);
    driver.resume_at(s(63), Pause::Output);
    driver.pause_at(s(64), Pause::Output);
    driver.ends_exactly_at(s(124), CloseReason::OutputFull);
}

#[test]
fn with_both_pauses_the_clocks_start_anew_when_the_last_one_ends() {
    for (first, last) in [(Pause::Sink, Pause::Output), (Pause::Output, Pause::Sink)] {
        let mut driver = Driver::spoken(long(s(5), s(3_600)));
        driver.pause_at(s(1), Pause::Sink);
        driver.pause_at(s(2), Pause::Output);
        driver.resume_at(s(10), first);
        assert!(!driver.wants_read(), "{last:?} still stands");
        driver.timeout_at(s(30));
        assert!(driver.is_open());
        driver.resume_at(s(40), last);
        driver.ends_exactly_at(s(45), CloseReason::HeartbeatTimeout);
    }
}

#[test]
fn with_both_pauses_the_sink_stall_counts_from_the_pause_for_the_sink() {
    let mut driver = Driver::spoken(patient());
    driver.pause_at(s(1), Pause::Output);
    driver.pause_at(s(10), Pause::Sink);
    driver.resume_at(s(20), Pause::Output);
    driver.ends_exactly_at(s(70), CloseReason::SinkStalled);
}

#[test]
fn resuming_what_was_not_paused_grants_nothing() {
    let mut driver = Driver::spoken(long(s(5), s(3_600)));
    driver.resume_at(s(4), Pause::Sink);
    driver.resume_at(s(4), Pause::Output);
    driver.ends_exactly_at(s(5), CloseReason::HeartbeatTimeout);
}

#[test]
fn resuming_the_wrong_cause_does_not_resume() {
    let mut driver = Driver::spoken(long(s(5), s(3_600)));
    driver.pause_at(s(1), Pause::Output);
    driver.resume_at(s(2), Pause::Sink);
    assert!(!driver.wants_read());
    driver.ends_exactly_at(s(61), CloseReason::OutputFull);
}

#[test]
fn what_was_read_before_the_pause_is_still_delivered() {
    let mut driver = Driver::spoken(patient());
    driver.pause_at(s(1), Pause::Sink);
    driver.receive_at(s(1), b"already read");
    assert_eq!(driver.payloads(), ["hello\n", "already read"]);
}

#[test]
fn after_the_end_pauses_change_nothing() {
    let mut driver = Driver::spoken(patient());
    driver.close_at(s(1), CloseReason::Drain);
    let before = driver.state();
    driver.pause_at(s(1), Pause::Sink);
    driver.resume_at(s(1), Pause::Sink);
    assert_eq!(driver.state(), before);
}

#[test]
fn a_stall_moves_what_counts_silence() {
    let paused = |mut driver: Driver| {
        driver.pause_at(s(0), Pause::Sink);
        driver
    };
    let output_waits = |mut driver: Driver| {
        driver.progress_at(s(0), 0, 10);
        driver
    };
    let cases = [
        (Driver::spoken(long(s(5), s(3_600))), CloseReason::HeartbeatTimeout),
        (Driver::new(Policy { first_message: s(5), ..patient() }), CloseReason::FirstMessageTimeout),
        (Driver::new(with_rate()), CloseReason::MinimumRate),
        (paused(Driver::new(Policy { sink_stall: s(5), ..patient() })), CloseReason::SinkStalled),
        (output_waits(Driver::new(Policy { write_stall: s(5), ..patient() })), CloseReason::WriteStall),
    ];
    for (mut driver, reason) in cases {
        driver.timeout_at(s(3));
        driver.stall(s(8));
        driver.timeout_at(s(11));
        driver.ends_exactly_at(s(13), reason);
    }
}

#[test]
fn a_stall_does_not_move_the_fixed_deadlines() {
    let cases = [
        (Driver::new(short(s(5))), CloseReason::ShortDeadline),
        (Driver::spoken(long(s(4), s(5))), CloseReason::MaxAge),
    ];
    for (mut driver, reason) in cases {
        driver.stall(s(8));
        driver.ends_exactly_at(s(5), reason);
    }
}

#[test]
fn a_stall_before_accept_or_before_a_heartbeat_is_not_credited_again() {
    let mut driver = Driver::spoken(long(s(5), s(3_600)));
    driver.stall(s(8));
    driver.receive_at(s(9), b"beat");
    assert_eq!(driver.next(), Some((s(14), Timer::Heartbeat)));
    driver.ends_exactly_at(s(14), CloseReason::HeartbeatTimeout);

    let mut driver = Driver::accepted_after(s(8), Policy { first_message: s(5), ..with_rate() });
    assert_eq!(driver.next(), Some((s(5), Timer::FirstMessage)));
    driver.receive_at(s(1), b"hello");
    driver.ends_exactly_at(s(5) + ms(500), CloseReason::MinimumRate);
}

#[test]
fn after_the_end_flush_and_linger_stand_on_real_time() {
    let mut driver = Driver::accepted_after(s(8), patient());
    driver.close_at(s(1), CloseReason::Drain);
    assert_eq!(driver.next(), Some((s(1) + ms(250), Timer::Flush)));
    driver.flush_at(s(1));
    driver.stall(s(8));
    assert_eq!(driver.next(), Some((s(2), Timer::Linger)));
}

#[test]
fn a_process_stopped_while_it_works_keeps_its_peers() {
    let mut guard = StallGuard::new(START);
    let mut driver = Driver::spoken(long(s(5), s(3_600)));
    driver.stall(guard.handle_reading(START.after(s(8))).stalled);
    driver.timeout_at(s(8));
    driver.ends_exactly_at(s(13), CloseReason::HeartbeatTimeout);
}

#[test]
fn a_process_stopped_while_it_sleeps_keeps_a_peer_that_was_due() {
    let mut guard = StallGuard::new(START);
    let mut driver = Driver::spoken(long(s(5), s(3_600)));
    let deadline = driver.next().map(|(deadline, _)| START.after(deadline));
    while let Some(wake) = guard.handle_sleep(deadline)
        && wake < START.after(s(3))
    {
        assert!(guard.handle_reading(wake).stalled.is_zero());
    }
    // Stopped at once after it has begun to sleep, or just before it would have woken: nobody knows.
    driver.stall(guard.handle_reading(START.after(s(13))).stalled);
    assert_eq!(driver.next(), Some((s(15) + SLEEP_MAX, Timer::Heartbeat)));
    assert_eq!(driver.due_at(s(13)), None, "it gets the rest of its time, though it was stopped too");
    driver.ends_exactly_at(s(15) + SLEEP_MAX, CloseReason::HeartbeatTimeout);
}
