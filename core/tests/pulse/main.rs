//! The pulse protocol on one connection: two ends, one clock, bytes in between.

#[path = "../common/mod.rs"]
mod common;
mod pair;
mod resuming;
mod violations;

use pair::{Pair, Seen, WINDOW, ms};
use pulsegate_core::frame::{Beat, PREFACE};
use pulsegate_core::pulse::{Opening, judge_opening};

#[test]
fn a_stream_is_told_by_its_first_bytes() {
    for length in 0..PREFACE.len() {
        assert_eq!(judge_opening(&PREFACE[..length]), Opening::Undecided);
        let mut other = PREFACE[..length].to_vec();
        other.push(b'x');
        let expected = match length {
            6 => Opening::Undecided,
            _ => Opening::Raw,
        };
        assert_eq!(judge_opening(&other), expected, "{length} bytes, then another one");
    }
    assert_eq!(judge_opening(&PREFACE), Opening::Pulse);
    assert_eq!(judge_opening(b"PULSE\x00\x02\n"), Opening::OtherVersion);
    assert_eq!(judge_opening(b"PULSE\x00\x01\nmore"), Opening::Pulse);
    assert_eq!(judge_opening(b"PULSE is what we sell"), Opening::Raw);
}

#[test]
fn a_message_takes_three_legs() {
    let mut pair = Pair::attached();
    assert_eq!(pair.client.pulse.push(b"hello".to_vec()), 1);
    pair.exchange();
    assert_eq!(pair.gateway.take_seen(), [Seen::Message(1, b"hello".to_vec())]);
    assert_eq!(pair.client.take_seen(), [], "it has arrived, but it is not committed");
    pair.gateway.pulse.commit(1);
    pair.exchange();
    assert_eq!(pair.client.take_seen(), [Seen::Settled(1, 1)]);
    assert_eq!(pair.gateway.take_seen(), [], "the confirmation may wait");
    assert_eq!(pair.client.pulse.poll_timeout(), Some(pair.now.after(ms(20))));
    pair.pass(ms(20));
    pair.exchange();
    assert_eq!(pair.gateway.take_seen(), [Seen::Confirmed(1)]);
    assert_eq!(pair.client.pulse.poll_timeout(), None);
    assert!(pair.client.pulse.sending().is_settled() && pair.gateway.pulse.receiving().is_settled());
}

#[test]
fn the_other_direction_is_the_same() {
    let mut pair = Pair::attached();
    pair.gateway.pulse.push(b"news".to_vec());
    pair.exchange();
    assert_eq!(pair.client.take_seen(), [Seen::Message(1, b"news".to_vec())]);
    pair.client.pulse.commit(1);
    pair.exchange();
    assert_eq!(pair.gateway.take_seen(), [Seen::Settled(1, 1)]);
}

#[test]
fn eight_messages_are_confirmed_at_once() {
    let mut pair = Pair::attached();
    for number in 1..=8 {
        pair.client.pulse.push(vec![number]);
    }
    pair.exchange();
    pair.gateway.pulse.commit(7);
    pair.exchange();
    pair.gateway.take_seen();
    pair.gateway.pulse.commit(8);
    pair.exchange();
    assert_eq!(pair.gateway.take_seen(), [Seen::Confirmed(8)]);
}

#[test]
fn a_refusal_comes_before_the_receipt_that_covers_it() {
    let mut pair = Pair::attached();
    pair.client.pulse.push(b"a".to_vec());
    pair.client.pulse.push(b"b".to_vec());
    pair.exchange();
    pair.gateway.pulse.refuse(1, 2, "over quota");
    pair.gateway.pulse.commit(2);
    pair.exchange();
    assert_eq!(pair.client.take_seen(), [Seen::Refused(1, 2), Seen::Settled(1, 2)]);
}

#[test]
fn the_window_holds_back_and_lets_go() {
    let mut pair = Pair::attached();
    for number in 0..WINDOW.messages + 3 {
        pair.client.pulse.push(vec![number as u8]);
    }
    pair.exchange();
    assert_eq!(pair.gateway.take_seen().len(), WINDOW.messages as usize);
    pair.gateway.pulse.commit(2);
    pair.exchange();
    assert_eq!(pair.gateway.take_seen().len(), 2);
}

#[test]
fn control_overtakes_messages() {
    let mut pair = Pair::attached();
    pair.client.pulse.push(b"waits".to_vec());
    pair.gateway.pulse.beat(Beat::Question);
    pair.deliver_to_client();
    let mut bytes = Vec::new();
    pair.client.pulse.poll_transmit(pair.now, usize::MAX, &mut bytes);
    assert_eq!(bytes[..5], [3, 0, 0, 1, Beat::Answer as u8]);
    assert_eq!(bytes[5], 4, "and then the message");
}

#[test]
fn output_stops_at_a_frame_when_there_is_enough() {
    let mut pair = Pair::attached();
    for _ in 0..4 {
        pair.client.pulse.push(vec![0; 100]);
    }
    let mut bytes = Vec::new();
    pair.client.pulse.poll_transmit(pair.now, 150, &mut bytes);
    assert_eq!(bytes.len(), 2 * 112);
    pair.client.pulse.poll_transmit(pair.now, 150, &mut bytes);
    assert_eq!(bytes.len(), 2 * 112, "the owner has enough already");
}

#[test]
fn bye_is_the_last_word() {
    let mut pair = Pair::attached();
    pair.client.pulse.push(b"too late".to_vec());
    let mut bytes = Vec::new();
    pair.client.pulse.bye(0, 1, 0, "done", &mut bytes);
    pair.client.pulse.poll_transmit(pair.now, usize::MAX, &mut bytes);
    assert_eq!(pair.gateway.receive(pair.now, &bytes), Ok(()));
    assert_eq!(pair.gateway.take_seen(), [Seen::Bye(0)]);
    assert_eq!(pair.gateway.receive(pair.now, &[3, 0, 0, 1, 0]), Ok(()));
    assert_eq!(pair.gateway.take_seen(), [], "nothing counts after it");
}

#[test]
fn after_our_own_last_word_the_rest_of_a_message_breaks_nothing() {
    let mut pair = Pair::attached();
    pair.gateway.pulse.push(vec![9; 1_000]);
    let mut bytes = Vec::new();
    pair.gateway.pulse.poll_transmit(pair.now, usize::MAX, &mut bytes);
    assert_eq!(pair.client.receive(pair.now, &bytes[..400]), Ok(()));
    pair.client.pulse.bye(0, 1, 0, "done", &mut Vec::new());
    for rest in [&bytes[400..600], &bytes[600..800]] {
        assert_eq!(pair.client.receive(pair.now, rest), Ok(()));
    }
    assert_eq!(pair.client.pulse.handle_input_end(), Ok(()));
    assert_eq!(pair.client.take_seen(), []);
}
