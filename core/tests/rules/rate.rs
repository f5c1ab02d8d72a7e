//! The minimum rate: received bytes earn time, up to the grace; when the credit is used up, the connection
//! ends.

use crate::driver::{Driver, NANO, ms, patient, s};
use pulsegate_core::close::CloseReason;
use pulsegate_core::lifetime::Pause;
use pulsegate_core::policy::{MinimumRate, Policy};
use std::time::Duration;

const GRACE: Duration = s(2);

/// A byte earns a millisecond.
fn driver() -> Driver {
    let minimum_rate = Some(MinimumRate { bytes_per_second: 1_000, grace: GRACE });
    Driver::new(Policy { minimum_rate, ..patient() })
}

#[test]
fn a_new_connection_has_the_grace_as_credit() {
    driver().ends_exactly_at(GRACE, CloseReason::MinimumRate);
}

#[test]
fn exactly_enough_keeps_it_and_one_byte_too_few_does_not() {
    for (bytes, kept) in [(100, true), (99, false)] {
        let mut driver = driver();
        // The credit is used up to the last nanosecond; from then on each 100 ms have to be earned.
        driver.receive_at(GRACE, &vec![0; bytes]);
        driver.timeout_at(GRACE + ms(100) - NANO);
        assert_eq!(driver.is_open(), kept, "{bytes} bytes");
    }
    let mut driver = driver();
    for round in 0..100 {
        driver.receive_at(GRACE + ms(100) * round, &[0; 100]);
        driver.timeout_at(GRACE + ms(100) * round);
    }
    driver.ends_exactly_at(GRACE + s(10), CloseReason::MinimumRate);
}

#[test]
fn each_byte_earns_its_time() {
    let mut driver = driver();
    driver.receive_at(s(1), &[0; 250]);
    driver.ends_exactly_at(ms(2_250), CloseReason::MinimumRate);
}

#[test]
fn the_credit_never_exceeds_the_grace() {
    let mut driver = driver();
    driver.receive_at(s(1), &vec![0; 1_000_000]);
    driver.ends_exactly_at(s(3), CloseReason::MinimumRate);
}

#[test]
fn a_burst_does_not_pay_for_later_silence() {
    let mut driver = driver();
    for millis in 0..1_000 {
        driver.receive_at(ms(millis), &[0; 1_000]);
    }
    driver.ends_exactly_at(ms(999) + GRACE, CloseReason::MinimumRate);
}

#[test]
fn bytes_read_before_the_verdict_count() {
    let mut saved = driver();
    saved.receive_at(ms(2_500), &[0; 501]);
    saved.ends_exactly_at(ms(2_501), CloseReason::MinimumRate);

    let mut lost = driver();
    lost.receive_at(ms(2_500), &[0; 500]);
    lost.timeout_at(ms(2_500));
    assert_eq!(lost.reason(), Some(CloseReason::MinimumRate));
}

#[test]
fn a_rate_that_does_not_divide_a_second_earns_fractions() {
    let minimum_rate = Some(MinimumRate { bytes_per_second: 3, grace: GRACE });
    let mut driver = Driver::new(Policy { minimum_rate, ..patient() });
    driver.receive_at(s(1), &[0; 2]);
    driver.ends_exactly_at(GRACE + Duration::from_nanos(666_666_666), CloseReason::MinimumRate);
}

#[test]
fn resuming_starts_with_full_credit_however_little_was_left() {
    let mut driver = driver();
    driver.pause_at(GRACE - NANO, Pause::Output);
    driver.timeout_at(s(60));
    driver.resume_at(s(60), Pause::Output);
    driver.ends_exactly_at(s(62), CloseReason::MinimumRate);
}

#[test]
fn after_the_end_of_input_there_is_no_rate_to_keep() {
    let mut driver = driver();
    driver.end_input_at(s(1));
    driver.ends_exactly_at(s(11), CloseReason::HalfCloseTimeout);
}

#[test]
fn a_rate_of_zero_built_by_hand_does_not_divide_by_it() {
    let minimum_rate = Some(MinimumRate { bytes_per_second: 0, grace: GRACE });
    let mut driver = Driver::new(Policy { minimum_rate, ..patient() });
    driver.receive_at(s(1), b"hello");
    driver.ends_exactly_at(s(3), CloseReason::MinimumRate);
}
