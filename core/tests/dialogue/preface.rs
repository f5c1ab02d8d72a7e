//! The first bytes tell what is spoken (PROTOCOL.md section 2), however they are cut.

use crate::driver::{Driver, Seen};
use crate::words::{FIRST, Said, auto, hello, message, opening, pulse};
use pulsegate_core::close::CloseReason;
use pulsegate_core::frame::{Frame, PREFACE};
use pulsegate_core::policy::{Framing, Policy, Protocol};

#[test]
fn byte_by_byte_the_preface_and_hello_are_what_they_are_in_one_piece() {
    for policy in [pulse(), auto()] {
        let mut driver = Driver::new(policy);
        let all = opening(&[Frame::Hello(hello())]);
        for (place, byte) in all.iter().enumerate() {
            assert_eq!(driver.connection().is_pulse(), place >= PREFACE.len(), "{place}");
            assert_eq!(driver.seen(), []);
            driver.receive(&[*byte]);
        }
        assert_eq!(driver.seen(), [Seen::Hello(0)]);
        assert_eq!(driver.connection().totals().bytes_in, all.len() as u64);
    }
}

#[test]
fn wherever_it_is_cut_once_it_is_the_same() {
    let all = opening(&[Frame::Hello(hello())]);
    for cut in 0..=all.len() {
        let mut driver = Driver::new(auto());
        driver.receive(&all[..cut]);
        driver.receive(&all[cut..]);
        assert_eq!(driver.seen(), [Seen::Hello(0)], "{cut}");
    }
}

#[test]
fn a_raw_listener_tells_who_begins_with_the_preface_that_it_is_one() {
    let raw = || Policy { protocol: Protocol::Raw, ..pulse() };
    for rest in [&b""[..], &opening(&[Frame::Hello(hello())])[PREFACE.len()..]] {
        let mut driver = Driver::new(raw());
        driver.receive(&[&PREFACE[..], rest].concat());
        driver.ended(CloseReason::RawListener, &[], &[Said::bye(CloseReason::RawListener, 0)]);
    }
    // Later, or in pieces, it is a message like any other.
    let mut driver = Driver::raw(raw());
    driver.receive(&PREFACE[..5]);
    driver.receive(&PREFACE[5..]);
    driver.receive(&PREFACE);
    let message = |number, bytes: &[u8]| Seen::Message(number, bytes.to_vec());
    assert_eq!(driver.seen(), [message(1, &PREFACE[..5]), message(2, &PREFACE[5..]), message(3, &PREFACE)]);
    assert!(!driver.connection().is_pulse());
}

#[test]
fn the_first_byte_that_differs_makes_a_client_raw_and_nothing_of_it_is_lost() {
    for length in (0..PREFACE.len()).filter(|place| *place != pulsegate_core::frame::VERSION_PLACE) {
        let all = [&PREFACE[..length], b"!", b" and more"].concat();
        for cut in 1..=length {
            let mut driver = Driver::raw(auto());
            driver.receive(&all[..cut]);
            assert_eq!(driver.seen(), [], "undecided after {cut} of {length}");
            driver.receive(&all[cut..]);
            assert_eq!(driver.seen(), [Seen::Message(1, all.clone())]);
            driver.receive(b"two");
            assert_eq!(driver.seen(), [Seen::Message(2, b"two".to_vec())]);
            driver.close(CloseReason::Drain);
            assert_eq!(driver.said_raw(), "bye drain\n");
        }
    }
}

#[test]
fn the_lines_of_a_raw_client_may_begin_as_the_preface_does() {
    let mut driver = Driver::raw(Policy { framing: Framing::Lines, ..auto() });
    for byte in b"PULSE\nPUL" {
        driver.receive(&[*byte]);
    }
    assert_eq!(driver.seen(), [Seen::Message(1, b"PULSE".to_vec())]);
    driver.receive(&PREFACE);
    assert_eq!(driver.seen(), [Seen::Message(2, b"PULPULSE\0\x01".to_vec())], "it is never asked again");
}

#[test]
fn an_end_in_the_midst_of_the_preface_is_an_end_inside_a_frame_and_no_message() {
    for length in 1..PREFACE.len() {
        let mut driver = Driver::new(pulse());
        driver.receive(&PREFACE[..length]);
        driver.end_input();
        driver.ended(CloseReason::TruncatedFrame, &[], &[Said::bye(CloseReason::TruncatedFrame, 0)]);

        // Where it might have become a raw client it is told nothing.
        let mut driver = Driver::raw(auto());
        driver.receive(&PREFACE[..length]);
        driver.end_input();
        assert_eq!(driver.seen(), [Seen::Closed(CloseReason::TruncatedFrame)]);
        assert_eq!(driver.said_raw(), "");
    }
}

#[test]
fn whoever_is_turned_away_is_told_in_its_own_language_as_soon_as_that_is_known() {
    let reason = CloseReason::AtCapacity;
    let all = opening(&[Frame::Hello(hello())]);
    for length in 0..PREFACE.len() {
        let mut driver = Driver::new(auto());
        driver.turn_away(&all[..length], reason);
        assert_eq!((driver.seen(), driver.is_open()), (vec![], true), "{length} bytes tell nothing");
        driver.turn_away(&all[length..], reason);
        driver.ended(reason, &[], &[Said::bye(reason, 0)]);

        let mut driver = Driver::raw(auto());
        driver.turn_away(&all[..length], reason);
        driver.turn_away(b"xx", reason);
        assert_eq!(driver.seen(), [Seen::Closed(reason)], "its bytes are no message");
        assert_eq!(driver.said_raw(), "bye at capacity\n");
    }
}

#[test]
fn who_ends_before_any_byte_is_told_nothing() {
    for policy in [pulse(), auto()] {
        let mut driver = Driver::new(policy);
        driver.end_input();
        assert_eq!(driver.seen(), [Seen::InputEnded]);
        driver.finish();
        driver.ended(CloseReason::PeerClosed, &[], &[]);
    }
}

#[test]
fn another_version_is_told_so_and_nothing_of_it_is_read() {
    for policy in [pulse(), auto()] {
        for version in [0, 2, 0xFF] {
            let mut driver = Driver::new(policy.clone());
            let mut all = opening(&[Frame::Hello(hello())]);
            all[pulsegate_core::frame::VERSION_PLACE] = version;
            driver.receive(&all);
            let reason = CloseReason::UnsupportedVersion;
            driver.ended(reason, &[], &[Said::bye(reason, 0)]);
        }
    }
}

#[test]
fn a_pulse_listener_tells_a_stranger_at_the_first_byte_that_differs() {
    for length in (0..PREFACE.len()).filter(|place| *place != pulsegate_core::frame::VERSION_PLACE) {
        let mut driver = Driver::new(pulse());
        for byte in &PREFACE[..length] {
            driver.receive(&[*byte]);
            assert!(driver.is_open());
        }
        driver.receive(b"GET / HTTP/1.1\r\n");
        let reason = CloseReason::BadPreface;
        driver.ended(reason, &[], &[Said::bye(reason, 0)]);
        driver.receive(&opening(&[]));
        assert_eq!((driver.seen(), driver.said()), (vec![], vec![]));
    }
}

#[test]
fn while_it_is_open_what_is_spoken_only_a_pulse_listener_says_why_it_ends() {
    for (policy, bye) in
        [(pulse(), vec![Said::bye(CloseReason::FirstMessageTimeout, 0)]), (auto(), Vec::new())]
    {
        for length in [0, 1, PREFACE.len() - 1] {
            let mut driver = Driver::new(policy.clone());
            driver.receive(&PREFACE[..length]);
            driver.ends_exactly_at(FIRST, CloseReason::FirstMessageTimeout);
            driver.ended(CloseReason::FirstMessageTimeout, &[], &bye);
        }
    }
}

#[test]
fn frames_without_a_preface_are_none() {
    let mut driver = Driver::new(pulse());
    driver.receive(&message(1, b"x"));
    assert_eq!(driver.reason(), Some(CloseReason::BadPreface));
    let mut driver = Driver::raw(auto());
    driver.receive(&message(1, b"x"));
    assert_eq!(driver.seen(), [Seen::Message(1, message(1, b"x"))]);
}
