//! A client that doesn't take what is sent to it: messages wait with us, what has to overtake them doesn't, and
//! what is made for it in the meantime is bounded.

use crate::driver::{Driver, Seen};
use crate::words::{NANO, Said, beat, bytes, message, ms, patient, pulse, s};
use pulsegate_core::close::CloseReason;
use pulsegate_core::frame::{Beat, Frame};
use pulsegate_core::lifetime::Pause;
use pulsegate_core::policy::Policy;
use pulsegate_core::timer::Timer;

const ANSWER: Said = Said::Beat(Beat::Answer);

fn question() -> Vec<u8> {
    bytes(&[Frame::Beat(Beat::Question)])
}

/// One with a message of so many bytes that the kernel doesn't take.
fn driver(policy: Policy, bytes: usize) -> Driver {
    let mut driver = Driver::attached(policy);
    driver.room = 0;
    driver.push(&vec![7; bytes]).expect("it is attached");
    assert_eq!(driver.said().len(), 1);
    driver
}

#[test]
fn messages_wait_while_anything_waits_and_the_rest_does_not() {
    let mut driver = driver(patient(), 100);
    driver.push(b"two").expect("it is attached");
    assert_eq!(driver.said(), []);
    driver.receive(&[question(), message(1, b"x"), message(2, b"y")].concat());
    assert_eq!(driver.said(), [ANSWER]);
    driver.refuse(1, 2);
    driver.commit(2);
    assert_eq!(driver.said(), [Said::Refuse(1, 2), Said::Receipt(2)]);
    driver.receive(&bytes(&[Frame::Receipt { committed: 1 }]));
    assert_eq!(driver.said(), []);
    driver.pass_to(ms(20));
    assert_eq!(driver.said(), [Said::Confirm(1)]);
    driver.notify(3, s(0));
    assert!(matches!(driver.said()[..], [Said::Notice { code: 3, .. }]));
    driver.take(driver.waiting() - 1);
    assert_eq!((driver.waiting(), driver.said()), (1, vec![]));
    driver.take(1);
    assert_eq!(driver.said(), [Said::message(2, "two")], "the last byte lets more go");
}

#[test]
fn no_more_is_made_of_messages_than_a_little_ahead_of_the_kernel() {
    let mut driver = Driver::attached(patient());
    driver.room = 0;
    driver.receive(&beat());
    for _ in 0..10 {
        driver.push(&[1; 10_000]).expect("it is attached");
    }
    assert_eq!(driver.said().len(), 1);
    driver.take(10_012);
    assert_eq!(driver.said().len(), 1, "one is at hand, the others are still with the owner");
    driver.take(10_012);
    assert_eq!(driver.said().len(), 2, "16 KiB are reached by the second");
    driver.take(usize::MAX);
    assert_eq!(driver.said().len(), 6, "as the window of ten messages says");
}

#[test]
fn a_flood_of_questions_of_one_who_does_not_read_ends_it() {
    let mut driver = driver(patient(), 50_000);
    let mut answers = 0;
    for _ in 0..1_000 {
        driver.receive(&question().repeat(100));
        answers += driver.said().iter().filter(|said| **said == ANSWER).count();
        assert!(driver.waiting() <= driver.policy.output_bytes_max + 600, "bounded");
        if !driver.is_open() {
            break;
        }
    }
    assert_eq!(driver.reason(), Some(CloseReason::OutputFull));
    assert!((2_000..10_000).contains(&answers), "{answers}");
    assert!(driver.seen().ends_with(&[Seen::Detached(false), Seen::Closed(CloseReason::OutputFull)]));
}

#[test]
fn what_was_held_back_goes_out_in_order_once_there_is_room() {
    let mut driver = driver(patient(), 50_000);
    driver.push(b"two").expect("it is attached");
    while driver.waiting() < driver.policy.output_bytes_max {
        driver.receive(&question().repeat(100));
    }
    driver.said();
    driver.receive(&[question(), message(1, b"x")].concat());
    driver.commit(1);
    assert_eq!(driver.said(), []);
    driver.take(usize::MAX);
    assert_eq!(driver.said(), [ANSWER, Said::Receipt(1), Said::message(2, "two")]);
}

/// One for which as much waits as may.
fn full() -> Driver {
    let mut driver = driver(patient(), 50_000);
    while driver.waiting() < driver.policy.output_bytes_max {
        driver.receive(&question().repeat(100));
    }
    driver.said();
    driver.seen();
    driver
}

#[test]
fn a_confirmation_that_cannot_be_said_keeps_nobody_busy_and_is_said_later() {
    let mut driver = full();
    driver.receive(&bytes(&[Frame::Receipt { committed: 1 }]));
    driver.pass_to(s(1));
    assert_eq!(driver.said(), []);
    assert_ne!(driver.next().map(|(_, timer)| timer), Some(Timer::Confirm));
    driver.take(usize::MAX);
    assert_eq!(driver.said(), [Said::Confirm(1)]);
}

#[test]
fn a_confirmation_that_was_filed_before_it_could_not_be_said_keeps_nobody_busy() {
    let mut driver = driver(patient(), 50_000);
    driver.receive(&bytes(&[Frame::Receipt { committed: 1 }]));
    assert_eq!(driver.next(), Some((ms(20), Timer::Confirm)));
    while driver.waiting() < driver.policy.output_bytes_max {
        driver.receive(&question().repeat(100));
    }
    driver.said();
    driver.pass_to(s(1));
    assert_eq!(driver.said(), []);
    driver.take(usize::MAX);
    assert_eq!(driver.said(), [Said::Confirm(1)]);
}

#[test]
fn there_is_time_for_the_confirmation_if_there_is_room_before() {
    let mut driver = full();
    driver.at(s(1)).receive(&bytes(&[Frame::Receipt { committed: 1 }]));
    driver.pass_to(s(1) + ms(5)).take(usize::MAX);
    assert_eq!(driver.said(), []);
    assert_eq!(driver.next(), Some((s(1) + ms(20), Timer::Confirm)));
    driver.pass_to(s(1) + ms(20));
    assert_eq!(driver.said(), [Said::Confirm(1)]);
}

#[test]
fn receipts_that_cannot_be_said_are_waited_for_at_the_end_of_input_too() {
    // The commit before the end of input, and after it.
    for is_early in [true, false] {
        let mut driver = full();
        driver.at(s(1)).receive(&message(1, b"x"));
        if is_early {
            driver.commit(1);
        }
        driver.end_input();
        if !is_early {
            driver.commit(1);
        }
        assert_eq!((driver.said(), driver.is_open()), (vec![], true));
        driver.at(s(2)).take(usize::MAX);
        assert_eq!(driver.said(), [Said::Receipt(1)]);
        assert_eq!(driver.reason(), Some(CloseReason::PeerClosed), "nothing is left to wait for");
    }
}

#[test]
fn output_that_makes_no_progress_ends_it() {
    let mut driver = driver(Policy { write_stall: s(4), ..pulse() }, 100);
    driver.pass_to(s(3)).take(1);
    driver.pass_to(s(5)).receive(&beat());
    driver.pass_to(s(7) - NANO);
    assert!(driver.is_open(), "one byte is progress");
    driver.ends_exactly_at(s(7), CloseReason::WriteStall);
    let reason = CloseReason::WriteStall;
    driver.ended(reason, &[Seen::TokenUsed, Seen::Detached(false)], &[Said::bye(reason, 0)]);
}

#[test]
fn it_is_asked_although_something_waits() {
    let mut driver = driver(Policy { write_stall: s(60), ..pulse() }, 100);
    driver.pass_to(s(9));
    assert_eq!(driver.said(), [Said::Beat(Beat::Question)]);
    driver.ends_exactly_at(s(12), CloseReason::HeartbeatTimeout);
}

#[test]
fn its_heartbeats_are_read_however_much_waits() {
    let mut driver = driver(pulse(), 50_000);
    driver.pause(Pause::Output);
    assert!(driver.connection().wants_read());
    driver.pass_to(s(5)).receive(&beat());
    driver.room = usize::MAX;
    driver.ends_exactly_at(s(17), CloseReason::HeartbeatTimeout);
}
