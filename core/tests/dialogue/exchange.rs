//! Messages both ways through a connection (PROTOCOL.md section 7): commands in, frames out in the same call.

use crate::driver::{Driver, Seen};
use crate::words::{Said, admission, bytes, hello, message, ms, patient};
use pulsegate_core::connection::NotSent;
use pulsegate_core::exchange::{Receiving, Sending, Window};
use pulsegate_core::frame::{Frame, Hello};
use pulsegate_core::pulse::{Pulse, PulseEvent};
use pulsegate_core::time::Instant;

#[test]
fn a_receipt_goes_out_in_the_call_that_commits() {
    let mut driver = Driver::attached(patient());
    // The kernel takes nothing: whatever is said is said by the call itself.
    driver.room = 0;
    driver.receive(&[message(1, b"one"), message(2, b""), message(3, b"three")].concat());
    assert_eq!(driver.said(), []);
    driver.commit(1);
    assert_eq!(driver.said(), [Said::Receipt(1)]);
    driver.commit(3);
    assert_eq!(driver.said(), [Said::Receipt(3)], "several are joined");
    driver.commit(3);
    driver.commit(2);
    assert_eq!(driver.said(), [], "it never goes down, and says nothing twice");
    driver.commit(9);
    assert_eq!(driver.said(), [], "nothing is receipted that has not come");
    let seen = [
        Seen::TokenUsed,
        Seen::Message(1, b"one".to_vec()),
        Seen::Message(2, Vec::new()),
        Seen::Message(3, b"three".to_vec()),
    ];
    assert_eq!(driver.seen(), seen);
    assert_eq!(driver.connection().totals().messages, 3);
}

#[test]
fn a_refusal_stands_before_the_receipt_that_covers_it() {
    let mut driver = Driver::attached(patient());
    driver.receive(&[message(1, b"good"), message(2, b"bad"), message(3, b"worse")].concat());
    driver.refuse(2, 3);
    driver.refuse(3, 1);
    assert_eq!(driver.said(), [], "the commit takes it along");
    driver.commit(3);
    assert_eq!(driver.said(), [Said::Refuse(2, 3), Said::Refuse(3, 1), Said::Receipt(3)]);
}

#[test]
fn what_is_pushed_leaves_within_the_client_s_window_of_messages() {
    let window = Window { messages: 2, bytes: 50_000 };
    let mut driver = Driver::greeted(patient(), Hello { window, ..hello() });
    driver.welcome(&admission(), &[]);
    driver.said();
    for number in 1..=4 {
        assert_eq!(driver.push(b"x"), Ok(number));
    }
    assert_eq!(driver.said(), [Said::message(1, "x"), Said::message(2, "x")]);
    driver.receive(&bytes(&[Frame::Receipt { committed: 1 }]));
    assert_eq!(driver.said(), [Said::message(3, "x")], "in the call that makes room");
    driver.receive(&bytes(&[Frame::Refuse { number: 2, code: 3, text: "no" }]));
    assert_eq!(driver.said(), [], "only a receipt makes room");
    driver.receive(&bytes(&[Frame::Receipt { committed: 3 }]));
    assert_eq!(driver.said(), [Said::message(4, "x")]);
    let seen = [Seen::TokenUsed, Seen::Settled(1), Seen::Refused(2, 3), Seen::Settled(3)];
    assert_eq!(driver.seen(), seen);
}

#[test]
fn what_is_pushed_leaves_within_the_client_s_window_of_bytes() {
    let window = Window { messages: 10, bytes: 1_000 };
    let mut driver = Driver::greeted(patient(), Hello { window, message_bytes_max: 1_000, ..hello() });
    driver.welcome(&admission(), &[]);
    driver.said();
    for bytes in [600, 400, 1] {
        driver.push(&vec![1; bytes]).expect("it is attached");
    }
    assert_eq!(driver.said(), [Said::Message(1, vec![1; 600]), Said::Message(2, vec![1; 400])]);
    driver.receive(&bytes(&[Frame::Receipt { committed: 1 }]));
    assert_eq!(driver.said(), [Said::Message(3, vec![1])]);
}

#[test]
fn nothing_is_pushed_before_welcome_or_after_the_end() {
    let mut driver = Driver::new(patient());
    assert_eq!(driver.push(b"x"), Err(NotSent));
    driver.receive(&crate::words::opening(&[Frame::Hello(hello())]));
    assert_eq!(driver.push(b"x"), Err(NotSent));
    driver.welcome(&admission(), &[]);
    assert_eq!(driver.push(b"x"), Ok(1));
    driver.close(pulsegate_core::close::CloseReason::Drain);
    assert_eq!(driver.push(b"x"), Err(NotSent));
}

#[test]
fn what_is_confirmed_is_told() {
    let mut driver = Driver::attached(patient());
    driver.receive(&[message(1, b""), message(2, b"")].concat());
    driver.commit(2);
    driver.seen();
    driver.receive(&bytes(&[Frame::Confirm { floor: 1 }]));
    driver.receive(&bytes(&[Frame::Confirm { floor: 2 }]));
    assert_eq!(driver.seen(), [Seen::Confirmed(1), Seen::Confirmed(2)]);
}

#[test]
fn a_confirmation_that_is_not_above_the_last_says_nothing() {
    let mut driver = Driver::attached(patient());
    driver.receive(&[message(1, b""), message(2, b"")].concat());
    driver.commit(2);
    driver.receive(&bytes(&[Frame::Confirm { floor: 2 }]));
    driver.seen();
    for floor in [2, 1, 0] {
        driver.receive(&bytes(&[Frame::Confirm { floor }]));
        assert_eq!(driver.seen(), []);
    }
}

#[test]
fn our_own_client_gets_everything_once_and_in_order_through_any_cut() {
    for cut in [1, 2, 3, 7, 64, 1_500, usize::MAX] {
        let mut driver = Driver::new(patient());
        let mut client: Pulse<Vec<u8>> =
            Pulse::client(&hello(), Sending::new(hello().window), Receiving::default());
        let (mut committed, mut got) = (Vec::new(), Vec::new());
        for round in 0..40_u64 {
            let now = Instant::from_nanos(1 + round * 10_000_000);
            driver.pass_to(ms(10 * round));
            if client.is_attached() && client.sending().last() == 0 {
                for number in 1..=30_u8 {
                    client.push(vec![number; 30 * usize::from(number)]);
                }
            }
            let mut sent = Vec::new();
            client.poll_transmit(now, usize::MAX, &mut sent);
            sent.chunks(cut).for_each(|part| driver.receive(part));
            for seen in driver.seen() {
                match seen {
                    Seen::Hello(_) => driver.welcome(&admission(), &[]),
                    Seen::Message(number, payload) => {
                        committed.push(payload);
                        driver.commit(number);
                        driver.push(&[number as u8]).expect("it is attached");
                    }
                    Seen::TokenUsed | Seen::Settled(_) | Seen::Confirmed(_) => {}
                    Seen::InputEnded | Seen::Refused(..) | Seen::Detached(_) | Seen::Closed(_) => {
                        panic!("{seen:?} of a client that keeps the rules")
                    }
                }
            }
            let heard = driver.heard();
            client
                .handle_input(now, &heard, |event| {
                    if let PulseEvent::Message { payload, .. } = event {
                        got.push(payload.to_vec());
                    }
                })
                .expect("the gateway keeps the rules");
            client.commit(got.len() as u64);
        }
        let sent: Vec<Vec<u8>> = (1..=30_u8).map(|number| vec![number; 30 * usize::from(number)]).collect();
        assert_eq!(committed, sent);
        assert_eq!(got, Vec::from_iter((1..=30_u8).map(|number| vec![number])));
        assert_eq!((client.sending().is_settled(), client.receiving().is_settled()), (true, true));
    }
}
