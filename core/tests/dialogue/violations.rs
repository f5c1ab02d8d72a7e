//! Each thing that a client must not do once it is attached has its own reason, and ends the connection with one
//! BYE that says all there is to say; nothing comes after it.

use crate::driver::{Driver, Seen};
use crate::words::{AGE, Said, beat, bytes, message, ms, pulse, s};
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::NotSent;
use pulsegate_core::frame::{Durability, Frame, LifetimeKind, Refusals, Welcome};
use pulsegate_core::lifetime::Phase;

/// One that has committed message 1 of the client, has sent message 1 to it, and holds its receipt for that.
fn driver() -> Driver {
    let mut driver = Driver::attached(pulse());
    driver.receive(&message(1, b"good"));
    driver.commit(1);
    assert_eq!(driver.push(b"ours"), Ok(1));
    driver.receive(&bytes(&[Frame::Receipt { committed: 1 }]));
    driver.pass_to(ms(20));
    driver.seen();
    driver.said();
    driver
}

#[track_caller]
fn check(sent: &[u8], seen: &[Seen], reason: CloseReason) {
    let mut driver = driver();
    driver.receive(&[sent, &beat(), &message(2, b"never read")].concat());
    let seen = [seen, &[Seen::Detached(false)]].concat();
    driver.ended(reason, &seen, &[Said::bye(reason, 1)]);
    nothing_more(driver);
}

/// Whatever happens after the end, nothing is said and nobody is told.
fn nothing_more(mut driver: Driver) {
    assert_eq!(driver.phase(), Phase::Lingering, "what is on its way to the peer must not be destroyed");
    driver.at(ms(100)).receive(&message(2, b"late"));
    driver.commit(2);
    driver.refuse(2, 1);
    assert_eq!(driver.push(b"late"), Err(NotSent));
    driver.notify(2, s(1));
    driver.close(CloseReason::Drain);
    driver.finish();
    driver.end_input();
    driver.pass_to(ms(1_020));
    assert_eq!(driver.phase(), Phase::Closed, "lingering is over");
    driver.pass_to(AGE);
    assert_eq!((driver.seen(), driver.said()), (vec![], vec![]));
}

#[test]
fn numbers_that_are_not_the_next() {
    for number in [1, 3, 1 << 40, u64::MAX] {
        check(&message(number, b"x"), &[], CloseReason::SequenceGap);
    }
    check(&message(0, b"x"), &[], CloseReason::MalformedFrame);
}

#[test]
fn more_messages_than_the_window() {
    let mut sent = Vec::new();
    let mut seen = Vec::new();
    for number in 2..22 {
        sent.extend(message(number, b"x"));
        seen.push(Seen::Message(number, b"x".to_vec()));
    }
    sent.extend(message(22, b"x"));
    check(&sent, &seen, CloseReason::WindowExceeded);
}

#[test]
fn more_bytes_than_the_window() {
    let half = vec![1; 32 * 1024];
    let seen = [Seen::Message(2, half.clone()), Seen::Message(3, half.clone())];
    let sent = [message(2, &half), message(3, &half), message(4, b"x")].concat();
    check(&sent, &seen, CloseReason::WindowExceeded);
    let mut driver = driver();
    driver.receive(&[message(2, &half), message(3, &half), message(4, b"")].concat());
    assert!(driver.is_open(), "nothing at all fits in");
    driver.commit(2);
    driver.receive(&message(5, &half));
    assert!(driver.is_open(), "what is committed makes room");
}

#[test]
fn frames_that_are_none() {
    use CloseReason::{BadText, FrameTooLarge, MalformedFrame, UnknownFrame};
    for (sent, reason) in [
        (&[0x00, 0, 0, 0][..], UnknownFrame),
        (&[0x0A, 0, 0, 1, 0], UnknownFrame),
        (&[0x7F, 0xFF, 0xFF, 0xFF], UnknownFrame),
        (&[0xF0, 0, 4, 1], FrameTooLarge),
        (&[4, 1, 0, 9], FrameTooLarge),
        (&[3, 0, 4, 1], FrameTooLarge),
        (&[4, 0, 0, 7], MalformedFrame),
        (&[3, 0, 0, 0], MalformedFrame),
        (&[3, 0, 0, 2, 0, 0], MalformedFrame),
        (&[3, 0, 0, 1, 3], MalformedFrame),
        (&[5, 0, 0, 7], MalformedFrame),
        (&[7, 0, 0, 9], MalformedFrame),
        (&[9, 0, 0, 15], MalformedFrame),
        (&[9, 0, 0, 16, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], MalformedFrame),
        (&[6, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0xFF], BadText),
    ] {
        check(sent, &[], reason);
    }
}

#[test]
fn frames_of_the_gateway() {
    check(&bytes(&[Frame::Notice { code: 1, in_ms: 0, text: "" }]), &[], CloseReason::FrameOutOfPlace);
    let welcome = Frame::Welcome(Welcome {
        resumed: false,
        lifetime: LifetimeKind::Long,
        durability: Durability::Synced,
        beat_interval_ms: 1,
        beat_timeout_ms: 1,
        remaining_ms: 1,
        session_ttl_ms: 1,
        window: pulse().pulse.window,
        message_bytes_max: 1,
        server_time_ms: 1,
        session: 1,
        token: [0; 16],
        committed: 0,
        acknowledged: 0,
        lost: (0, 0),
        refused: Refusals::default(),
    });
    check(&bytes(&[welcome]), &[], CloseReason::FrameOutOfPlace);
}

#[test]
fn answers_to_what_was_never_said() {
    for frame in [
        Frame::Receipt { committed: 2 },
        Frame::Receipt { committed: u64::MAX },
        Frame::Refuse { number: 1, code: 1, text: "" },
        Frame::Refuse { number: 2, code: 1, text: "" },
        Frame::Confirm { floor: 2 },
        Frame::Confirm { floor: u64::MAX },
    ] {
        check(&bytes(&[frame]), &[], CloseReason::FrameOutOfPlace);
    }
}

#[test]
fn what_came_before_a_violation_counts() {
    let sent = [message(2, b"two"), bytes(&[Frame::Confirm { floor: 1 }]), message(9, b"")].concat();
    let seen = [Seen::Message(2, b"two".to_vec()), Seen::Confirmed(1)];
    check(&sent, &seen, CloseReason::SequenceGap);
}
