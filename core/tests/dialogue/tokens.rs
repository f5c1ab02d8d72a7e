//! The token of a WELCOME is used when a frame comes that shows that the client has it (PROTOCOL.md section 5.4);
//! and that, or a farewell, decides whether a session is worth keeping.

use crate::driver::{Driver, Seen};
use crate::words::{
    admission, admission_again, beat, bytes, hello, hello_again, message, opening, pulse, s, skipped,
};
use pulsegate_core::close::CloseReason;
use pulsegate_core::frame::{Beat, Bye, Frame};

fn bye(code: u16) -> Vec<u8> {
    bytes(&[Frame::Bye(Bye { code, retry: 0, delay_ms: 0, committed: 0, text: "" })])
}

#[test]
fn hello_uses_no_token_and_neither_does_what_comes_before_welcome() {
    let mut driver = Driver::new(pulse());
    driver.receive(&[opening(&[]), skipped()].concat());
    assert_eq!(driver.seen(), []);
    driver.receive(&bytes(&[Frame::Hello(hello())]));
    assert_eq!(driver.seen(), [Seen::Hello(0)]);
    driver.receive(&skipped());
    assert_eq!(driver.seen(), []);
    driver.welcome(&admission(), &[]);
    assert_eq!(driver.seen(), []);
    driver.receive(&beat());
    assert_eq!(driver.seen(), [Seen::TokenUsed]);
}

#[test]
fn the_first_frame_after_welcome_uses_it_once() {
    let answer = bytes(&[Frame::Beat(Beat::Answer)]);
    let confirm = bytes(&[Frame::Confirm { floor: 0 }]);
    for frame in [beat(), answer, skipped(), confirm] {
        let mut driver = Driver::attached(pulse());
        driver.receive(&frame[..frame.len() - 1]);
        assert_eq!(driver.seen(), [], "part of a frame shows nothing");
        driver.receive(&frame[frame.len() - 1..]);
        assert_eq!(driver.seen().first(), Some(&Seen::TokenUsed), "{frame:?}");
        driver.receive(&message(1, b"x"));
        assert_eq!(driver.seen(), [Seen::Message(1, b"x".to_vec())]);
    }
    let mut driver = Driver::attached(pulse());
    driver.receive(&message(1, b"x"));
    assert_eq!(driver.seen(), [Seen::TokenUsed, Seen::Message(1, b"x".to_vec())]);
}

#[test]
fn a_session_that_was_never_used_is_not_kept() {
    let mut driver = Driver::attached(pulse());
    driver.push(b"unseen").expect("it is attached");
    driver.said();
    driver.end_input();
    driver.ended(CloseReason::PeerClosed, &[Seen::Detached(true)], &[]);

    let mut driver = Driver::attached(pulse());
    driver.fail(CloseReason::PeerReset);
    driver.ended(CloseReason::PeerReset, &[Seen::Detached(true)], &[]);
}

#[test]
fn a_session_that_was_used_is_kept_however_its_connection_ends() {
    for frame in [beat(), message(1, b"x"), skipped()] {
        let mut driver = Driver::attached(pulse());
        driver.receive(&frame);
        driver.fail(CloseReason::PeerVanished);
        assert!(driver.seen().ends_with(&[Seen::Detached(false), Seen::Closed(CloseReason::PeerVanished)]));
    }
}

#[test]
fn a_session_that_goes_on_is_kept_even_if_this_connection_never_used_it() {
    let mut driver = Driver::greeted(pulse(), hello_again(0));
    driver.welcome(&admission_again(), &[]);
    driver.said();
    driver.at(s(1)).end_input();
    driver.ended(CloseReason::PeerClosed, &[Seen::Detached(false)], &[]);
}

#[test]
fn who_is_done_for_good_leaves_nothing_and_who_comes_back_does() {
    for (code, for_good) in [(0, true), (1, false), (37, false)] {
        let mut used = Driver::attached(pulse());
        used.receive(&beat());
        used.seen();
        let mut resumed = Driver::greeted(pulse(), hello_again(0));
        resumed.welcome(&admission_again(), &[]);
        // BYE is a frame too: the client knows its session.
        let unused = Driver::attached(pulse());
        for mut driver in [used, resumed, unused] {
            driver.said();
            driver.receive(&[bye(code), beat()].concat());
            driver.ended(CloseReason::PeerClosed, &[Seen::Detached(for_good)], &[]);
        }
    }
}

#[test]
fn a_farewell_uses_no_token() {
    let mut driver = Driver::attached(pulse());
    driver.receive(&bye(1));
    assert!(!driver.seen().contains(&Seen::TokenUsed));
}
