//! Whatever ends a connection, its last frame says so with code, retry class, delay, cursor and sentence; of
//! those ends of which nobody can be told, nothing is said (PROTOCOL.md section 8.2).

use crate::driver::{Driver, Seen};
use crate::words::{Said, hello, message, ms, pulse, s};
use pulsegate_core::close::CloseReason;
use pulsegate_core::lifetime::Phase;

fn byes(reason: CloseReason, committed: u64) -> Vec<Said> {
    if reason.code() < 90 { vec![Said::bye(reason, committed)] } else { Vec::new() }
}

#[test]
fn every_reason_is_said_in_every_state() {
    for reason in CloseReason::ALL {
        let mut driver = Driver::new(pulse());
        driver.close(*reason);
        driver.ended(*reason, &[], &byes(*reason, 0));

        let mut driver = Driver::greeted(pulse(), hello());
        driver.close(*reason);
        driver.ended(*reason, &[], &byes(*reason, 0));

        let mut driver = Driver::attached(pulse());
        driver.receive(&[message(1, b"x"), message(2, b"y")].concat());
        driver.commit(1);
        driver.seen();
        driver.said();
        driver.close(*reason);
        driver.ended(*reason, &[Seen::Detached(false)], &byes(*reason, 1));
    }
}

#[test]
fn a_socket_that_is_gone_is_told_nothing_and_not_waited_for() {
    for reason in [CloseReason::PeerReset, CloseReason::PeerVanished, CloseReason::SocketError] {
        let mut driver = Driver::attached(pulse());
        driver.fail(reason);
        driver.ended(reason, &[Seen::Detached(true)], &[]);
        assert_eq!(driver.phase(), Phase::Aborted);
    }
}

#[test]
fn only_the_first_end_counts() {
    let mut driver = Driver::attached(pulse());
    driver.close(CloseReason::Drain);
    driver.close(CloseReason::Stopped);
    driver.fail(CloseReason::PeerReset);
    let bye = Said::bye(CloseReason::Drain, 0);
    driver.ended(CloseReason::Drain, &[Seen::Detached(true)], &[bye]);
}

#[test]
fn bye_stands_behind_what_waits_and_is_given_up_with_it() {
    let mut driver = Driver::attached(pulse());
    driver.room = 100;
    driver.push(&[7; 1_000]).expect("it is attached");
    driver.at(s(1)).close(CloseReason::Drain);
    assert_eq!(driver.said(), [Said::Message(1, vec![7; 1_000]), Said::bye(CloseReason::Drain, 0)]);
    driver.pass_to(s(1) + driver.policy.flush - ms(1));
    assert_eq!(driver.phase(), Phase::Flushing);
    driver.pass_to(s(1) + driver.policy.flush);
    assert_eq!(driver.phase(), Phase::Aborted);
}

#[test]
fn once_it_has_left_the_peer_s_end_is_waited_for_within_bounds() {
    let ended = || {
        let mut driver = Driver::attached(pulse());
        driver.close(CloseReason::Drain);
        assert_eq!(driver.phase(), Phase::Lingering);
        driver
    };
    let mut driver = ended();
    driver.discard(Some(driver.policy.linger_bytes_max - 1));
    assert_eq!(driver.phase(), Phase::Lingering);
    driver.discard(Some(1));
    assert_eq!(driver.phase(), Phase::Closed);
    let mut driver = ended();
    driver.discard(None);
    assert_eq!(driver.phase(), Phase::Closed);
}
