//! Connections that break, and sessions that go on: everything arrives once and in order.

use crate::pair::{End, Pair, Seen, WINDOW, hello, welcome};
use proptest::prelude::*;
use pulsegate_core::close::CloseReason;
use pulsegate_core::exchange::{Receiving, Sending};
use pulsegate_core::frame::{Hello, Refusals, Welcome};

fn resuming() -> Hello<'static> {
    Hello { session: 1, token: [1; 16], ..hello() }
}

#[test]
fn what_was_on_its_way_is_sent_again_with_the_same_numbers() {
    let mut pair = Pair::attached();
    for text in ["one", "two", "three"] {
        pair.client.pulse.push(text.into());
    }
    pair.deliver_to_gateway();
    pair.gateway.pulse.commit(1);
    // The receipt is lost with the connection.
    let (sending, receiving) = pair.client.pulse.into_halves();
    let (_, committed) = pair.gateway.pulse.into_halves();
    let mut pair = Pair::opened(End::client(&resuming(), sending, receiving));
    pair.welcome(true, Sending::new(WINDOW), Receiving::restore(committed.committed(), 0));
    assert_eq!(pair.client.take_seen(), [Seen::Welcome(true), Seen::Settled(1, 1)]);
    pair.gateway.take_seen();
    pair.exchange();
    assert_eq!(
        pair.gateway.take_seen(),
        [Seen::Message(2, b"two".to_vec()), Seen::Message(3, b"three".to_vec())]
    );
}

#[test]
fn a_session_that_is_gone_leaves_over_what_was_not_settled() {
    let mut pair = Pair::attached();
    pair.client.pulse.push(b"sent".to_vec());
    pair.deliver_to_gateway();
    let (mut sending, receiving) = pair.client.pulse.into_halves();
    sending.push(b"never sent".to_vec());
    let mut pair = Pair::opened(End::client(&resuming(), sending, receiving));
    pair.welcome(false, Sending::new(WINDOW), Receiving::default());
    let left_over = pair.client.pulse.take_left_over().expect("something is left over");
    assert_eq!((left_over.ever_sent(), left_over.last()), (1, 2));
    assert_eq!(pair.client.pulse.push(b"new".to_vec()), 1, "numbers begin anew");
}

#[test]
fn a_refusal_that_was_lost_is_named_by_welcome() {
    let mut pair = Pair::attached();
    for text in ["unwanted", "wanted"] {
        pair.client.pulse.push(text.into());
    }
    pair.deliver_to_gateway();
    pair.gateway.pulse.refuse(1, 3, "not wanted");
    pair.gateway.pulse.commit(2);
    // Refusal and receipt are lost with the connection.
    let (sending, receiving) = pair.client.pulse.into_halves();
    let mut pair = Pair::opened(End::client(&resuming(), sending, receiving));
    let named = Refusals::write([(1, 3)]);
    let welcome = Welcome { refused: Refusals::read(&named, 2).unwrap(), ..welcome(true, 2) };
    pair.gateway.pulse.welcome(&welcome, Sending::new(WINDOW), Receiving::restore(2, 0)).unwrap();
    pair.deliver_to_client();
    assert_eq!(pair.client.take_seen(), [Seen::Welcome(true), Seen::Refused(1, 3), Seen::Settled(1, 2)]);
}

#[test]
fn a_number_that_was_never_sent_is_not_settled_by_a_welcome() {
    let mut pair = Pair::attached();
    pair.client.pulse.push(b"sent".to_vec());
    pair.deliver_to_gateway();
    let (mut sending, receiving) = pair.client.pulse.into_halves();
    sending.push(b"never sent".to_vec());
    let mut pair = Pair::opened(End::client(&resuming(), sending, receiving));
    pair.gateway.pulse.welcome(&welcome(true, 2), Sending::new(WINDOW), Receiving::restore(2, 0)).unwrap();
    let bytes = pair.gateway_output();
    assert_eq!(pair.client.receive(pair.now, &bytes), Err(CloseReason::FrameOutOfPlace));
    assert_eq!(pair.client.take_seen(), [Seen::Welcome(true)]);
    let (sending, _) = pair.client.pulse.into_halves();
    assert_eq!((sending.settled(), sending.ever_sent(), sending.last()), (0, 1, 2), "nothing was forgotten");
}

#[test]
fn a_client_that_has_lost_messages_goes_on_above_them() {
    let mut pair = Pair::opened(End::client(&resuming(), Sending::new(WINDOW), Receiving::restore(2, 0)));
    let welcome = Welcome { acknowledged: 4, ..welcome(true, 0) };
    let sending = Sending::restore(4, 4, [b"five".to_vec()], WINDOW);
    pair.gateway.pulse.welcome(&welcome, sending, Receiving::default()).unwrap();
    pair.deliver_to_client();
    assert_eq!(
        pair.client.take_seen(),
        [Seen::Welcome(true), Seen::Confirmed(4), Seen::Message(5, b"five".to_vec())]
    );
    assert_eq!(pair.client.pulse.receiving().committed(), 4);
}

#[test]
fn the_cursor_of_a_session_that_is_gone_means_nothing_in_the_new_one() {
    let mut pair = Pair::opened(End::client(
        &Hello { committed: 5, acknowledged: 3, ..resuming() },
        Sending::restore(3, 3, [], WINDOW),
        Receiving::restore(5, 0),
    ));
    pair.welcome(false, Sending::new(WINDOW), Receiving::default());
    pair.gateway.pulse.push(b"first".to_vec());
    pair.exchange();
    assert_eq!(pair.client.take_seen(), [Seen::Welcome(false), Seen::Message(1, b"first".to_vec())]);
}

proptest! {
    /// The client's messages go through connections that break anywhere; the gateway commits what comes,
    /// some at a time, and loses what it has not committed.
    #[test]
    fn everything_arrives_once_and_in_order(
        breaks in prop::collection::vec((0_usize..400, 0_usize..6), 1..12),
        count in 1_usize..30,
    ) {
        let mut sending = Sending::new(WINDOW);
        (0..count).for_each(|number| { sending.push(vec![number as u8; number]); });
        let mut receiving = Receiving::default();
        let mut committed: Vec<Vec<u8>> = Vec::new();
        let never = (usize::MAX, usize::MAX);
        for (cut, commits) in breaks.into_iter().chain(std::iter::repeat_n(never, 2 * count)) {
            let mut pair = Pair::opened(End::client(&resuming(), sending, receiving));
            pair.welcome(true, Sending::new(WINDOW), Receiving::restore(committed.len() as u64, 0));
            let bytes = pair.client_output();
            pair.gateway.receive(pair.now, &bytes[..cut.min(bytes.len())]).unwrap();
            for seen in pair.gateway.take_seen().into_iter().take(commits.saturating_add(1)) {
                if let Seen::Message(number, payload) = seen {
                    prop_assert_eq!(number, committed.len() as u64 + 1);
                    committed.push(payload);
                }
            }
            pair.gateway.pulse.commit(committed.len() as u64);
            if cut % 2 == 0 {
                pair.deliver_to_client();
            }
            (sending, receiving) = pair.client.pulse.into_halves();
        }
        prop_assert_eq!(committed.len(), count);
        for (number, payload) in committed.iter().enumerate() {
            prop_assert_eq!(payload, &vec![number as u8; number]);
        }
    }
}
