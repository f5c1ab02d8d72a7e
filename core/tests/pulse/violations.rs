//! Each thing that a peer must not do has its own reason, and nothing counts after it.

use crate::common::bytes;
use crate::pair::{End, MESSAGE_BYTES_MAX, Pair, Seen, WINDOW, hello, welcome};
use pulsegate_core::close::CloseReason;
use pulsegate_core::exchange::{Receiving, Sending};
use pulsegate_core::frame::{Beat, Frame, Hello};

#[track_caller]
fn check(mut end: End, sent: &[u8], reason: CloseReason) {
    let now = Pair::attached().now;
    assert_eq!(end.receive(now, sent), Err(reason));
    end.take_seen();
    assert_eq!(end.receive(now, &bytes(&[Frame::Beat(Beat::Beat)])), Ok(()));
    assert_eq!(end.take_seen(), []);
}

#[test]
fn before_hello_nothing_else_may_come() {
    let message = Frame::Message { number: 1, payload: b"" };
    for frame in
        [message, Frame::Beat(Beat::Beat), Frame::Receipt { committed: 0 }, Frame::Confirm { floor: 0 }]
    {
        check(End::gateway(), &bytes(&[frame]), CloseReason::FrameOutOfPlace);
    }
    check(End::gateway(), &bytes(&[Frame::Hello(hello()), message]), CloseReason::FrameOutOfPlace);
    check(End::gateway(), &bytes(&[Frame::Welcome(welcome(false, 0))]), CloseReason::FrameOutOfPlace);
}

#[test]
fn there_is_one_hello() {
    let hello = Frame::Hello(hello());
    check(End::gateway(), &bytes(&[hello, hello]), CloseReason::SecondHello);
    check(Pair::attached().gateway, &bytes(&[hello]), CloseReason::SecondHello);
}

#[test]
fn a_stranger_cannot_make_us_keep_a_large_frame() {
    let large = vec![0; 1_017];
    check(
        End::gateway(),
        &bytes(&[Frame::Message { number: 1, payload: &large }]),
        CloseReason::FrameTooLarge,
    );
}

#[test]
fn each_side_may_say_only_what_is_its_own() {
    let notice = Frame::Notice { code: 1, in_ms: 0, text: "" };
    check(Pair::attached().gateway, &bytes(&[notice]), CloseReason::FrameOutOfPlace);
    let welcome = Frame::Welcome(welcome(false, 0));
    check(Pair::attached().gateway, &bytes(&[welcome]), CloseReason::FrameOutOfPlace);
    check(Pair::attached().client, &bytes(&[welcome]), CloseReason::FrameOutOfPlace);
    check(Pair::attached().client, &bytes(&[Frame::Hello(hello())]), CloseReason::FrameOutOfPlace);
}

#[test]
fn numbers_have_no_gap_and_windows_hold() {
    let message = |number| Frame::Message { number, payload: b"x" };
    check(Pair::attached().gateway, &bytes(&[message(2)]), CloseReason::SequenceGap);
    check(Pair::attached().gateway, &bytes(&[message(1), message(1)]), CloseReason::SequenceGap);
    let many: Vec<Frame<'_>> = (1..=u64::from(WINDOW.messages) + 1).map(message).collect();
    check(Pair::attached().gateway, &bytes(&many), CloseReason::WindowExceeded);
    let large = vec![0; MESSAGE_BYTES_MAX as usize];
    let large = |number| Frame::Message { number, payload: &large };
    check(Pair::attached().gateway, &bytes(&[large(1), large(2)]), CloseReason::WindowExceeded);
}

#[test]
fn nothing_is_receipted_refused_or_confirmed_that_was_not_sent() {
    for frame in [
        Frame::Receipt { committed: 1 },
        Frame::Refuse { number: 1, code: 1, text: "" },
        Frame::Confirm { floor: 1 },
    ] {
        check(Pair::attached().gateway, &bytes(&[frame]), CloseReason::FrameOutOfPlace);
        check(Pair::attached().client, &bytes(&[frame]), CloseReason::FrameOutOfPlace);
    }
    let ahead = Hello { session: 1, committed: 5, ..hello() };
    let client = End::client(&ahead, Sending::new(WINDOW), Receiving::restore(5, 0));
    let mut pair = Pair::opened(client);
    let outcome = pair.gateway.pulse.welcome(&welcome(true, 0), Sending::new(WINDOW), Receiving::default());
    assert_eq!(outcome, Err(CloseReason::FrameOutOfPlace));
}

#[test]
fn frames_that_are_none_have_their_reasons() {
    let too_large = [4, 0, 0x20, 0];
    for (sent, reason) in [
        (&too_large[..], CloseReason::FrameTooLarge),
        (&[0x7F, 0, 0, 0], CloseReason::UnknownFrame),
        (&[3, 0, 0, 2, 0, 0], CloseReason::MalformedFrame),
        (&[6, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0xFF], CloseReason::BadText),
    ] {
        check(Pair::attached().gateway, sent, reason);
    }
}

#[test]
fn an_end_inside_a_frame_is_said() {
    let mut pair = Pair::attached();
    assert_eq!(pair.gateway.pulse.handle_input_end(), Ok(()));
    pair.gateway.receive(pair.now, &[4, 0, 0, 9, 0]).unwrap();
    assert_eq!(pair.gateway.pulse.handle_input_end(), Err(CloseReason::TruncatedFrame));
}

#[test]
fn what_came_before_a_violation_counts() {
    let mut pair = Pair::attached();
    let sent =
        bytes(&[Frame::Message { number: 1, payload: b"good" }, Frame::Message { number: 9, payload: b"" }]);
    assert_eq!(pair.gateway.receive(pair.now, &sent), Err(CloseReason::SequenceGap));
    assert_eq!(pair.gateway.take_seen(), [Seen::Message(1, b"good".to_vec())]);
}
