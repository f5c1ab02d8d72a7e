//! The stall guard under any readings and sleeps: a shard's own time never runs backwards, never faster than
//! real time, and permanent overload is credited at half speed at most.

use crate::driver::{START, ms, s};
use proptest::prelude::*;
use pulsegate_core::stall::{CREDIT_MAX, SLEEP_MAX, STALL_MIN, StallGuard};
use std::time::Duration;

/// How long until the next reading, and whether the shard slept, until when.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Busy(Duration),
    Sleep { wake: Option<Duration>, slept: Duration },
}

fn turns() -> impl Strategy<Value = Turn> {
    let span = || prop_oneof![4 => (0_u64..200).prop_map(ms), 1 => (0_u64..100_000).prop_map(ms)];
    prop_oneof![
        span().prop_map(Turn::Busy),
        (prop::option::of(span()), span()).prop_map(|(wake, slept)| Turn::Sleep { wake, slept }),
    ]
}

proptest! {
    #[test]
    fn own_time_moves_forward_no_faster_than_real_time_and_stalls_are_credited_by_rule(
        turns in prop::collection::vec(turns(), 0..200),
    ) {
        let mut guard = StallGuard::new(START);
        let mut last = guard.handle_reading(START);
        for turn in turns {
            let (span, late) = match turn {
                Turn::Busy(span) => (span, span),
                Turn::Sleep { wake, slept } => {
                    let wake = guard.handle_sleep(wake.map(|wake| last.instant.after(wake)));
                    let planned = wake.map(|wake| wake.since(last.instant));
                    prop_assert!(planned.is_none_or(|planned| planned <= SLEEP_MAX));
                    (slept, planned.map_or(Duration::ZERO, |planned| slept.saturating_sub(planned)))
                }
            };
            let now = guard.handle_reading(last.instant.after(span));
            prop_assert!(now.own() >= last.own());
            prop_assert!(now.own().since(last.own()) <= span);
            let credit = now.stalled - last.stalled;
            prop_assert!(credit <= late + SLEEP_MAX, "{credit:?} for being {late:?} late");
            let is_affordable = now.stalled < CREDIT_MAX;
            prop_assert!(late <= STALL_MIN || !is_affordable || credit == span, "{credit:?} of {span:?}");
            prop_assert!(late > STALL_MIN || credit.is_zero(), "{late:?} is no stall");
            prop_assert!(now.stalled <= CREDIT_MAX + now.instant.since(START) / 2);
            last = now;
        }
    }
}

#[test]
fn a_gap_beyond_the_least_stall_is_credited_in_full() {
    for (gap, credit) in [(ms(50), Duration::ZERO), (ms(51), ms(51)), (s(30), s(30)), (s(31), s(30))] {
        let mut guard = StallGuard::new(START);
        assert_eq!(guard.handle_reading(START.after(gap)).stalled, credit);
    }
}

#[test]
fn a_spent_budget_refills_at_half_the_speed_of_real_time() {
    let mut guard = StallGuard::new(START);
    guard.handle_reading(START.after(s(30)));
    guard.handle_sleep(None);
    guard.handle_reading(START.after(s(40)));
    // Full at 30 s, minus 30 s; since then 20 s have passed, half of which refill it.
    assert_eq!(guard.handle_reading(START.after(s(50))).stalled, s(30) + s(10));
    assert_eq!(guard.handle_reading(START.after(s(60))).stalled, s(40) + s(5));
}
