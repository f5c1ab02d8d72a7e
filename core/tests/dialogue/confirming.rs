//! A confirmation goes out 20 ms after something was settled at the latest, by its own timer, and after eight
//! settled messages at once (PROTOCOL.md section 7.4).

use crate::driver::Driver;
use crate::words::{NANO, Said, beat, bytes, ms, patient, s};
use pulsegate_core::frame::Frame;
use pulsegate_core::timer::{Before, Timer};

/// One that has sent so many messages.
fn driver(messages: usize) -> Driver {
    let mut driver = Driver::attached(patient());
    for _ in 0..messages {
        driver.push(b"x").expect("it is attached");
    }
    driver.said();
    driver
}

fn receipt(committed: u64) -> Vec<u8> {
    bytes(&[Frame::Receipt { committed }])
}

#[test]
fn it_goes_out_when_its_time_has_come_and_once() {
    let mut driver = driver(3);
    driver.at(s(1)).receive(&receipt(1));
    assert_eq!(driver.next(), Some((s(1) + ms(20), Timer::Confirm)));
    driver.pass_to(s(1) + ms(10)).receive(&receipt(3));
    driver.pass_to(s(1) + ms(20) - NANO);
    assert_eq!((driver.said(), driver.due()), (vec![], None));
    driver.at(s(1) + ms(20));
    assert_eq!(driver.due(), Some(Before::Nothing));
    driver.timeout();
    assert_eq!(driver.said(), [Said::Confirm(3)], "counted from what was settled first");
    driver.pass_to(s(10));
    assert_eq!(driver.said(), []);
}

#[test]
fn whoever_files_only_when_told_sends_it_in_time() {
    let mut driver = driver(1);
    driver.at(s(1)).receive(&receipt(1));
    driver.pass_to(s(1) + ms(20));
    assert_eq!(driver.said(), [Said::Confirm(1)]);
}

#[test]
fn eight_settled_messages_are_confirmed_at_once() {
    let mut seven = driver(10);
    seven.receive(&receipt(7));
    assert_eq!(seven.said(), []);
    seven.receive(&receipt(8));
    assert_eq!(seven.said(), [Said::Confirm(8)]);
    assert_ne!(seven.next().map(|(_, timer)| timer), Some(Timer::Confirm));
    seven.receive(&receipt(9));
    seven.pass_to(ms(20));
    assert_eq!(seven.said(), [Said::Confirm(9)]);
}

#[test]
fn it_rides_on_what_is_said_after_its_time() {
    let mut driver = driver(1);
    driver.receive(&receipt(1));
    driver.at(ms(20) - NANO).receive(&beat());
    assert_eq!(driver.said(), []);
    driver.at(ms(20)).receive(&beat());
    assert_eq!(driver.said(), [Said::Confirm(1)]);
}

#[test]
fn it_goes_out_although_messages_wait_for_the_window() {
    let mut driver = driver(30);
    driver.receive(&receipt(1));
    driver.pass_to(ms(20));
    let said = driver.said();
    assert_eq!(said, [Said::message(11, "x"), Said::Confirm(1)]);
}
