//! A client that comes back: what HELLO and WELCOME settle, and what goes on (PROTOCOL.md sections 5.3 to 5.5).

use crate::driver::{Driver, Seen};
use crate::words::{
    Said, admission, admission_again, beat, bytes, hello_again, message, ms, opening, patient,
};
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::Admission;
use pulsegate_core::frame::{CURSOR_MAX, Frame};
use pulsegate_core::policy::Policy;

fn welcome(resumed: bool, committed: u64, acknowledged: u64) -> Said {
    Said::Welcome {
        resumed,
        lifetime: pulsegate_core::frame::LifetimeKind::Long,
        beats_ms: (1_200_000, 3_600_000),
        remaining_ms: 3_600_000,
        committed,
        acknowledged,
    }
}

#[test]
fn what_hello_does_not_cover_is_sent_again_with_its_numbers() {
    let mut driver = Driver::greeted(patient(), hello_again(5));
    let admission = Admission { committed: 9, floor: 8, acknowledged: 5, ..admission_again() };
    driver.welcome(&admission, &["six", "seven"]);
    let said = driver.said();
    assert_eq!(said[0], welcome(true, 9, 5));
    assert!(said.ends_with(&[Said::message(6, "six"), Said::message(7, "seven")]), "{said:?}");
    assert_eq!(driver.push(b"eight"), Ok(8));
    assert_eq!(driver.said(), [Said::message(8, "eight")]);
    driver.receive(&[message(10, b"x"), bytes(&[Frame::Receipt { committed: 8 }])].concat());
    let seen = [Seen::TokenUsed, Seen::Message(10, b"x".to_vec()), Seen::Settled(8)];
    assert_eq!(driver.seen(), seen);
    assert_eq!(driver.connection().attachment(), Some(admission.attachment));
}

#[test]
fn what_hello_settles_is_not_sent_and_is_confirmed_in_time() {
    for settled in 1..=9 {
        let mut driver = Driver::greeted(patient(), hello_again(settled));
        let outgoing = vec!["x"; 9 - settled as usize];
        driver.welcome(&Admission { acknowledged: settled, ..admission_again() }, &outgoing);
        driver.pass_to(ms(20));
        let said = driver.said();
        assert_eq!(said[0], welcome(true, 0, settled));
        assert!(said.contains(&Said::Confirm(settled)), "{settled}: {said:?}");
        let numbers: Vec<u64> = said
            .iter()
            .filter_map(|said| if let Said::Message(number, _) = said { Some(*number) } else { None })
            .collect();
        assert_eq!(numbers, Vec::from_iter(settled + 1..=9));
        driver.receive(&beat());
        driver.pass_to(ms(100));
        assert_eq!(driver.said(), [], "confirmed once");
    }
}

#[test]
fn what_waits_is_loaded_in_pieces_as_the_window_has_room() {
    let mut hello = hello_again(0);
    (hello.window.messages, hello.window.bytes) = (100, hello.message_bytes_max);
    let mut driver = Driver::greeted(patient(), hello);
    let half = "x".repeat(hello.message_bytes_max as usize / 2);
    driver.welcome(&admission_again(), &[half.as_str(); 9]);
    let (mut got, mut loads) = (0, 0);
    while got < 9 {
        let sent = driver.said().iter().filter(|said| matches!(said, Said::Message(..))).count();
        assert!((1..=2).contains(&sent), "{got}: {sent}");
        got += sent as u64;
        loads += 1;
        assert_eq!(driver.loads, loads, "one question for each piece");
        driver.receive(&bytes(&[Frame::Receipt { committed: got }]));
    }
    assert_eq!((got, driver.loads), (9, 5));
    assert_eq!(driver.push(b"ten"), Ok(10));
    assert!(driver.said().contains(&Said::message(10, "ten")), "in their order, without another question");
    assert_eq!(driver.loads, 5);
}

#[test]
fn what_can_not_leave_at_once_is_loaded_when_it_can() {
    let mut hello = hello_again(0);
    hello.window.messages = 4;
    let mut driver = Driver::greeted(patient(), hello);
    driver.welcome(&admission_again(), &[]);
    (1..=9).for_each(|number| assert_eq!(driver.push(&[number]), Ok(number.into())));
    let mut numbers = Vec::new();
    while numbers.len() < 9 {
        let before = numbers.len();
        for said in driver.said() {
            if let Said::Message(number, payload) = said {
                numbers.push((number, payload));
            }
        }
        assert!((before + 1..=before + 4).contains(&numbers.len()), "{numbers:?}");
        driver.receive(&bytes(&[Frame::Receipt { committed: numbers.len() as u64 }]));
    }
    assert!(numbers.into_iter().eq((1..=9).map(|number| (number, vec![number as u8]))));
}

#[test]
fn the_client_of_a_session_that_is_gone_gets_a_new_one_whatever_it_had() {
    let mut driver = Driver::greeted(patient(), hello_again(5));
    driver.welcome(&admission(), &[]);
    assert_eq!(driver.said(), [welcome(false, 0, 0)]);
    assert_eq!(driver.push(b"x"), Ok(1), "numbers begin anew");
    assert_eq!(driver.said(), [Said::message(1, "x")]);
    driver.receive(&message(1, b"y"));
    assert_eq!(driver.seen(), [Seen::TokenUsed, Seen::Message(1, b"y".to_vec())]);
}

#[test]
fn a_cursor_ahead_of_what_the_owner_has_ends_it_and_the_owner_is_told() {
    let mut driver = Driver::greeted(patient(), hello_again(5));
    driver.welcome(&Admission { acknowledged: 3, ..admission_again() }, &["four"]);
    let reason = CloseReason::FrameOutOfPlace;
    driver.ended(reason, &[Seen::Detached(false)], &[Said::bye(reason, 0)]);
}

#[test]
fn its_owner_goes_on_above_a_cursor_that_is_ahead() {
    let mut driver = Driver::greeted(patient(), hello_again(5));
    driver.welcome(&Admission { acknowledged: 5, ..admission_again() }, &[]);
    assert_eq!(driver.push(b"x"), Ok(6));
    assert!(driver.said().contains(&Said::message(6, "x")));
}

#[test]
fn cursors_at_the_end_of_all_numbers_make_nothing_panic() {
    let most = CURSOR_MAX;
    let mut driver = Driver::greeted(patient(), hello_again(most));
    driver.welcome(&Admission { committed: most, acknowledged: most, ..admission_again() }, &[]);
    driver.receive(&message(most, b"x"));
    assert_eq!(driver.reason(), Some(CloseReason::SequenceGap));
    let mut driver = Driver::new(patient());
    driver.receive(&opening(&[Frame::Hello(hello_again(most + 1))]));
    assert_eq!(driver.reason(), Some(CloseReason::MalformedFrame));
}

/// A listener with a lower limit takes what its client was told elsewhere in the same session.
#[test]
fn what_was_told_once_in_a_session_is_taken_there() {
    let policy = Policy { message_bytes_max: 1_000, ..patient() };
    let mut driver = Driver::greeted(policy.clone(), hello_again(0));
    driver.welcome(&Admission { message_bytes_max: 60_000, ..admission_again() }, &[]);
    driver.receive(&message(1, &[7; 60_000]));
    assert!(driver.is_open(), "{:?}", driver.reason());
    driver.receive(&message(2, &[7; 60_001]));
    assert_eq!(driver.reason(), Some(CloseReason::FrameTooLarge));
    // What is above the limit of another session is nothing.
    let mut driver = Driver::greeted(policy, hello_again(0));
    driver.welcome(&Admission { message_bytes_max: 10, ..admission_again() }, &[]);
    driver.receive(&[message(1, &[7; 1_000]), message(2, &[7; 1_001])].concat());
    assert_eq!(driver.reason(), Some(CloseReason::FrameTooLarge));
}
