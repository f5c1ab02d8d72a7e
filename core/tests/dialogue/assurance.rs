//! A client whose messages are on their way in can't ask whether we live: its question would wait behind them. So it
//! hears of us without asking, and so does one that we don't read (PROTOCOL.md section 6).

use crate::driver::Driver;
use crate::words::{NANO, Said, bytes, message, ms, pulse, s};
use pulsegate_core::frame::{Beat, Frame};
use pulsegate_core::lifetime::Pause;
use pulsegate_core::policy::Policy;
use pulsegate_core::timer::Timer;

const BEAT: Said = Said::Beat(Beat::Beat);
/// What WELCOME says under [`pulse`].
const INTERVAL: std::time::Duration = s(4);

/// Receives these parts, one after each pause, and returns when beats were said.
fn beats(driver: &mut Driver, parts: &[&[u8]], pause: std::time::Duration) -> Vec<std::time::Duration> {
    let mut beats = Vec::new();
    for part in parts {
        driver.pass_to(driver.elapsed() + pause);
        driver.receive(part);
        let said = driver.said();
        assert!(said.iter().all(|said| *said == BEAT), "{said:?}");
        if !said.is_empty() {
            beats.push(driver.elapsed());
        }
    }
    beats
}

#[test]
fn who_sends_a_large_message_over_a_slow_link_hears_of_us_in_each_interval() {
    let frame = message(1, &[5; 60_000]);
    let parts: Vec<&[u8]> = frame.chunks(1_460).collect();
    let mut driver = Driver::attached(pulse());
    let beats = beats(&mut driver, &parts, ms(400));
    assert!(driver.is_open());
    assert_eq!(beats.first(), Some(&s(4)));
    let longest = beats.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert_eq!(longest, Some(INTERVAL), "{beats:?}");
    assert_eq!(beats.len(), 4, "and no more often: {beats:?}");
}

#[test]
fn where_parts_come_more_rarely_than_that_each_is_answered() {
    let frame = message(1, &[5; 20_000]);
    let parts: Vec<&[u8]> = frame[4..].chunks(1_024).collect();
    let mut driver = Driver::attached(pulse());
    driver.receive(&frame[..4]);
    let beats = beats(&mut driver, &parts, s(8));
    assert_eq!(beats.len(), parts.len(), "{beats:?}");
}

#[test]
fn a_drip_is_answered_with_nothing() {
    let frame = message(1, &[5; 20_000]);
    let parts: Vec<&[u8]> = frame.chunks(1).take(8).collect();
    let mut driver = Driver::attached(pulse());
    assert_eq!(beats(&mut driver, &parts, s(1)), []);
}

#[test]
fn who_sends_many_messages_that_no_receipt_answers_hears_of_us_too() {
    let frames: Vec<Vec<u8>> = (1..=20).map(|number| message(number, b"slow store")).collect();
    let parts: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let mut driver = Driver::attached(pulse());
    assert_eq!(beats(&mut driver, &parts, s(1)), [s(4), s(8), s(12), s(16), s(20)]);
}

#[test]
fn a_message_in_one_piece_is_answered_by_its_receipt_alone() {
    let mut driver = Driver::attached(pulse());
    for number in 1..=5 {
        driver.pass_to(s(5 * number)).receive(&message(number, b"x"));
        assert_eq!(driver.said(), []);
        driver.commit(number);
        assert_eq!(driver.said(), [Said::Receipt(number)]);
    }
}

#[test]
fn who_has_something_of_ours_to_take_is_told_no_more() {
    let frame = message(1, &[5; 20_000]);
    let mut driver = Driver::attached(Policy { write_stall: s(600), ..pulse() });
    driver.room = 0;
    driver.push(b"not taken").expect("it is attached");
    driver.said();
    for part in frame.chunks(1_460) {
        driver.pass_to(driver.elapsed() + s(5)).receive(part);
    }
    assert_eq!(driver.said(), []);
}

#[test]
fn while_reading_rests_it_hears_of_us_in_each_interval() {
    let mut driver = Driver::attached(pulse());
    driver.pass_to(s(1)).pause(Pause::Sink);
    assert_eq!(driver.next(), Some((s(5), Timer::Assurance)));
    driver.pass_to(s(5) - NANO);
    assert_eq!(driver.said(), []);
    driver.pass_to(s(13));
    assert_eq!(driver.said(), [BEAT, BEAT, BEAT]);
    driver.resume(Pause::Sink);
    driver.pass_to(s(13) + INTERVAL);
    assert_eq!(driver.said(), [], "its own silence counts again");
    driver.pass_to(s(20)).receive(&bytes(&[Frame::Beat(Beat::Beat)]));
    driver.pause(Pause::Sink);
    assert_eq!(driver.next(), Some((s(24), Timer::Assurance)), "from the new rest on");
}

#[test]
fn who_sends_a_large_message_hears_of_us_though_reading_rests_again_and_again() {
    let frame = message(1, &[5; 60_000]);
    let (mut driver, mut beats) = (Driver::attached(pulse()), Vec::new());
    for part in frame.chunks(1_460) {
        driver.pass_to(driver.elapsed() + ms(200)).pause(Pause::Sink);
        driver.pass_to(driver.elapsed() + ms(200)).resume(Pause::Sink);
        driver.receive(part);
        beats.extend(driver.said().iter().map(|said| (*said == BEAT).then(|| driver.elapsed())));
    }
    assert_eq!(beats, [4, 8, 12, 16].map(|second| Some(s(second))));
}

#[test]
fn a_stall_of_ours_puts_the_word_off() {
    let mut driver = Driver::attached(pulse());
    driver.pause(Pause::Sink);
    driver.stall(s(30));
    assert_eq!(driver.next(), Some((s(34), Timer::Assurance)));
}
