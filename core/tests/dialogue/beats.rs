//! WELCOME says how often a client has to be heard, and the gateway holds it to exactly that: every whole frame
//! counts, and so does each further 1,024 bytes of a large one (PROTOCOL.md sections 3.4 and 6).

use crate::driver::Driver;
use crate::words::{
    AGE, ASKED, NANO, Said, TIMEOUT, admission, beat, bytes, hello, message, ms, pulse, s, short, skipped,
};
use pulsegate_core::close::CloseReason;
use pulsegate_core::frame::{Beat, Frame, Hello, LifetimeKind};
use pulsegate_core::policy::{Policy, PulsePolicy};
use pulsegate_core::timer::Timer;

fn welcomed(policy: Policy, wish: (u32, u32)) -> (Driver, Said) {
    let hello = Hello { beat_min_ms: wish.0, beat_max_ms: wish.1, ..hello() };
    let mut driver = Driver::greeted(policy, hello);
    driver.at(ms(1_500)).welcome(&admission(), &[]);
    let welcome = driver.said().remove(0);
    (driver, welcome)
}

#[test]
fn what_welcome_says_is_what_holds() {
    let patient =
        Policy { pulse: PulsePolicy { heartbeat_timeout_max: Some(s(300)), ..pulse().pulse }, ..pulse() };
    for (policy, wish, granted) in [
        (pulse(), (0, 0), (4_000, 12_000)),
        (pulse(), (0, 1_000), (1_000, 3_000)),
        (pulse(), (60_000, 90_000), (4_000, 12_000)),
        (patient.clone(), (60_000, 90_000), (60_000, 180_000)),
        (patient, (u32::MAX, u32::MAX), (100_000, 300_000)),
    ] {
        let (mut driver, welcome) = welcomed(policy, wish);
        let said = Said::Welcome {
            resumed: false,
            lifetime: LifetimeKind::Long,
            beats_ms: granted,
            remaining_ms: 3_598_500,
            committed: 0,
            acknowledged: 0,
        };
        assert_eq!(welcome, said, "wished for {wish:?}");
        // The silence counts from WELCOME: until then the client waited for us.
        let timeout = ms(granted.1.into());
        driver.ends_exactly_at(ms(1_500) + timeout, CloseReason::HeartbeatTimeout);
        let bye = Said::bye(CloseReason::HeartbeatTimeout, 0);
        assert_eq!(driver.said(), [Said::Beat(Beat::Question), bye]);
    }
}

#[test]
fn a_short_connection_is_told_its_deadline_and_no_other() {
    let (mut driver, welcome) = welcomed(short(s(20)), (0, 0));
    let said = Said::Welcome {
        resumed: false,
        lifetime: LifetimeKind::Short,
        beats_ms: (20_000, 20_000),
        remaining_ms: 18_500,
        committed: 0,
        acknowledged: 0,
    };
    assert_eq!(welcome, said);
    driver.ends_exactly_at(s(20), CloseReason::ShortDeadline);
    let said = driver.said();
    assert!(!said.contains(&Said::Beat(Beat::Question)), "it has no silence: {said:?}");
    assert_eq!(said.last(), Some(&Said::bye(CloseReason::ShortDeadline, 0)));
}

#[test]
fn every_whole_frame_counts() {
    let mut driver = Driver::attached(pulse());
    driver.push(b"one").expect("it is attached");
    driver.push(b"two").expect("it is attached");
    let frames = [
        beat(),
        bytes(&[Frame::Beat(Beat::Question)]),
        bytes(&[Frame::Beat(Beat::Answer)]),
        message(1, b""),
        bytes(&[Frame::Refuse { number: 1, code: 3, text: "" }]),
        bytes(&[Frame::Receipt { committed: 1 }]),
        bytes(&[Frame::Receipt { committed: 0 }]),
        bytes(&[Frame::Confirm { floor: 0 }]),
        skipped(),
        vec![0xF0, 0, 0, 0],
    ];
    for (place, frame) in frames.iter().enumerate() {
        driver.pass_to(s(5 * (place as u64 + 1))).receive(frame);
        driver.pass_to(driver.elapsed() + ms(50));
        assert_eq!(driver.next(), Some((s(5 * (place as u64 + 1)) + ASKED, Timer::Question)), "{frame:?}");
    }
    driver.ends_exactly_at(s(50) + TIMEOUT, CloseReason::HeartbeatTimeout);
}

#[test]
fn part_of_a_frame_does_not() {
    for frame in [beat(), skipped(), message(1, &[0; 1_000])] {
        for cut in [1, 4, frame.len() - 1] {
            let mut driver = Driver::attached(pulse());
            driver.pass_to(s(5)).receive(&frame[..cut.min(frame.len() - 1)]);
            driver.ends_exactly_at(TIMEOUT, CloseReason::HeartbeatTimeout);
        }
    }
}

#[test]
fn a_frame_counts_when_its_last_byte_comes() {
    let mut driver = Driver::attached(pulse());
    let beat = beat();
    for (place, byte) in beat.iter().enumerate() {
        driver.pass_to(s(place as u64 + 1)).receive(&[*byte]);
    }
    driver.ends_exactly_at(s(5) + TIMEOUT, CloseReason::HeartbeatTimeout);
}

#[test]
fn each_further_kibibyte_of_a_message_counts_and_a_byte_less_does_not() {
    let frame = message(1, &[5; 40_000]);
    // The header, and so many bytes of the body, number included.
    let upto = |body: usize| 4 + body;
    for (first, second, counts) in [
        (0, 1_023, false),
        (0, 1_024, true),
        (1_024, 2_047, false),
        (1_024, 2_048, true),
        (1_023, 1_024, true),
    ] {
        let mut driver = Driver::attached(pulse());
        driver.receive(&frame[..upto(first)]);
        driver.pass_to(s(5)).receive(&frame[upto(first)..upto(second)]);
        let end = if counts { s(5) + TIMEOUT } else { TIMEOUT };
        driver.ends_exactly_at(end, CloseReason::HeartbeatTimeout);
    }
}

#[test]
fn a_large_message_on_a_slow_link_lives_and_a_drip_does_not() {
    let frame = message(1, &[5; 40_000]);
    let mut driver = Driver::attached(pulse());
    for (place, part) in frame.chunks(1_024).enumerate() {
        driver.pass_to(s(10 * place as u64)).receive(part);
    }
    assert!(driver.is_open(), "6 minutes at 100 bytes a second");
    let mut driver = Driver::attached(pulse());
    for (place, byte) in frame.iter().take(1_000).enumerate() {
        driver.pass_to(ms(11 * place as u64)).receive(&[*byte]);
    }
    driver.ends_exactly_at(TIMEOUT, CloseReason::HeartbeatTimeout);
}

#[test]
fn who_beats_lives_to_its_maximum_age() {
    let mut driver = Driver::attached(pulse());
    for interval in 1..900 {
        driver.pass_to(s(4 * interval)).receive(&beat());
    }
    assert!(!driver.said().contains(&Said::Beat(Beat::Question)), "nobody had to ask");
    driver.ends_exactly_at(AGE, CloseReason::MaxAge);
}

#[test]
fn what_we_send_never_counts() {
    let mut driver = Driver::attached(pulse());
    for second in 1..12 {
        driver.pass_to(s(second)).push(b"x").expect("it is attached");
    }
    driver.ends_exactly_at(TIMEOUT, CloseReason::HeartbeatTimeout);
}

#[test]
fn a_frame_in_the_last_instant_counts_before_the_look() {
    let mut driver = Driver::attached(pulse());
    driver.pass_to(TIMEOUT - NANO).at(TIMEOUT).receive(&beat());
    driver.timeout();
    assert!(driver.is_open());
    driver.ends_exactly_at(2 * TIMEOUT, CloseReason::HeartbeatTimeout);
}
