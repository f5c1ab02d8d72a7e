//! HELLO comes first, once, and in time; between it and WELCOME only BYE may come (PROTOCOL.md section 4).

use crate::driver::{Driver, Seen};
use crate::words::{
    FIRST, NANO, Said, admission, auto, beat, bytes, hello, hello_again, message, ms, opening, pulse, s,
    skipped,
};
use pulsegate_core::close::CloseReason;
use pulsegate_core::frame::{Beat, Bye, Frame, PREFACE};

fn bye(code: u16) -> Vec<u8> {
    bytes(&[Frame::Bye(Bye { code, retry: 0, delay_ms: 0, committed: 0, text: "" })])
}

#[test]
fn hello_is_in_time_up_to_the_look_at_the_last_instant() {
    for when in [FIRST - NANO, FIRST] {
        let mut driver = Driver::new(pulse());
        driver.receive(&PREFACE);
        driver.at(when).receive(&bytes(&[Frame::Hello(hello())]));
        driver.timeout();
        assert_eq!(driver.seen(), [Seen::Hello(0)]);
        assert!(driver.is_open());
    }
}

#[test]
fn nothing_but_a_whole_hello_is_one() {
    let whole = bytes(&[Frame::Hello(hello())]);
    for policy in [pulse(), auto()] {
        for sent in [&[][..], &skipped(), &skipped().repeat(300), &whole[..1], &whole[..whole.len() - 1]] {
            let mut driver = Driver::new(policy.clone());
            driver.receive(&PREFACE);
            driver.at(s(5)).receive(sent);
            driver.ends_exactly_at(FIRST, CloseReason::FirstMessageTimeout);
            let reason = CloseReason::FirstMessageTimeout;
            driver.ended(reason, &[], &[Said::bye(reason, 0)]);
        }
    }
}

#[test]
fn a_drip_of_hello_is_not_hello() {
    let mut driver = Driver::new(pulse());
    let all = opening(&[Frame::Hello(hello())]);
    for (place, byte) in all.iter().take(all.len() - 1).enumerate() {
        driver.pass_to(ms(100 * place as u64)).receive(&[*byte]);
    }
    driver.ends_exactly_at(FIRST, CloseReason::FirstMessageTimeout);
}

#[test]
fn frames_to_be_skipped_may_stand_before_hello() {
    let mut driver = Driver::new(pulse());
    driver.receive(&[opening(&[]), skipped(), bytes(&[Frame::Hello(hello())])].concat());
    assert_eq!(driver.seen(), [Seen::Hello(0)]);
}

#[test]
fn a_second_hello_ends_it_whenever_it_comes() {
    let reason = CloseReason::SecondHello;
    let again = Frame::Hello(hello_again(0));
    let mut driver = Driver::new(pulse());
    driver.receive(&opening(&[Frame::Hello(hello()), again, again]));
    driver.ended(reason, &[Seen::Hello(0)], &[Said::bye(reason, 0)]);

    let mut driver = Driver::greeted(pulse(), hello());
    driver.receive(&bytes(&[again]));
    driver.ended(reason, &[], &[Said::bye(reason, 0)]);

    let mut driver = Driver::attached(pulse());
    driver.receive(&bytes(&[again]));
    driver.ended(reason, &[Seen::Detached(true)], &[Said::bye(reason, 0)]);
}

#[test]
fn nothing_else_may_come_before_welcome() {
    let frames = [
        Frame::Beat(Beat::Beat),
        Frame::Beat(Beat::Question),
        Frame::Beat(Beat::Answer),
        Frame::Message { number: 1, payload: b"x" },
        Frame::Receipt { committed: 0 },
        Frame::Refuse { number: 1, code: 3, text: "" },
        Frame::Confirm { floor: 0 },
        Frame::Notice { code: 1, in_ms: 0, text: "" },
    ];
    let reason = CloseReason::FrameOutOfPlace;
    for frame in frames {
        let mut driver = Driver::new(pulse());
        driver.receive(&opening(&[frame]));
        driver.ended(reason, &[], &[Said::bye(reason, 0)]);

        let mut driver = Driver::new(pulse());
        driver.receive(&opening(&[Frame::Hello(hello()), frame]));
        driver.ended(reason, &[Seen::Hello(0)], &[Said::bye(reason, 0)]);
        driver.welcome(&admission(), &["late"]);
        assert_eq!((driver.seen(), driver.said()), (vec![], vec![]), "nobody is there to be let in");

        let mut driver = Driver::greeted(pulse(), hello());
        driver.at(s(1)).receive(&bytes(&[frame]));
        driver.ended(reason, &[], &[Said::bye(reason, 0)]);
    }
}

#[test]
fn before_welcome_no_frame_is_large() {
    let large = message(1, &[0; 1_017]);
    let driver = |sent: &[u8]| {
        let mut driver = Driver::new(pulse());
        driver.receive(&[&PREFACE, sent].concat());
        driver.reason()
    };
    assert_eq!(driver(&large[..4]), Some(CloseReason::FrameTooLarge), "the header is enough");
    assert_eq!(driver(&message(1, &[0; 1_016])), Some(CloseReason::FrameOutOfPlace));
    assert_eq!(driver(&[0xF0, 0, 4, 1]), Some(CloseReason::FrameTooLarge));
    let mut driver = Driver::greeted(pulse(), hello());
    driver.receive(&large[..4]);
    assert_eq!(driver.reason(), Some(CloseReason::FrameTooLarge));
}

#[test]
fn who_takes_its_leave_before_welcome_was_never_attached() {
    for code in [0, 1, 32] {
        let mut driver = Driver::new(pulse());
        driver.receive(&[opening(&[]), bye(code), beat()].concat());
        driver.ended(CloseReason::PeerClosed, &[], &[]);

        let mut driver = Driver::greeted(pulse(), hello());
        driver.receive(&[bye(code), message(9, b"")].concat());
        driver.ended(CloseReason::PeerClosed, &[], &[]);
        driver.welcome(&admission(), &[]);
        assert_eq!((driver.seen(), driver.said()), (vec![], vec![]));
        assert_eq!(driver.connection().attachment(), None);
    }
}

#[test]
fn who_ends_its_side_before_welcome_was_never_attached() {
    let mut driver = Driver::new(pulse());
    driver.receive(&PREFACE);
    driver.end_input();
    driver.ended(CloseReason::PeerClosed, &[], &[]);

    let mut driver = Driver::greeted(pulse(), hello());
    driver.end_input();
    driver.ended(CloseReason::PeerClosed, &[], &[]);
}

#[test]
fn a_client_may_be_turned_away_instead() {
    for reason in [CloseReason::BadToken, CloseReason::SessionInUse, CloseReason::SessionLimit] {
        let mut driver = Driver::greeted(pulse(), hello_again(3));
        driver.close(reason);
        driver.ended(reason, &[], &[Said::bye(reason, 0)]);
    }
}
