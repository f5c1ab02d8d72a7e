//! Whatever comes, cut anywhere, at any time, and whatever its owner does: no panic, exactly one end and nothing
//! after it, whole frames only, and at most one BYE, at the very end. What holds after every single call is
//! checked by the driver.

use crate::driver::{Driver, Seen};
use crate::words::{
    Said, admission, admission_again, auto, bytes, hello, hello_again, message, ms, opening, pulse, s, short,
    skipped,
};
use proptest::prelude::*;
use pulsegate_core::close::CloseReason;
use pulsegate_core::exchange::Window;
use pulsegate_core::frame::{Beat, Bye, Frame};
use pulsegate_core::lifetime::Direction;
use pulsegate_core::policy::{Policy, PulsePolicy};
use std::time::Duration;

#[derive(Clone, Debug)]
enum Call {
    /// The client says something; so many bytes of it come now, the rest with what comes next.
    Say(Vec<u8>, usize),
    /// The next message in its right order.
    Message(usize),
    /// A receipt of so many more of ours.
    Receipt(u64),
    EndInput,
    Timeout,
    Pass(Duration),
    Stall(Duration),
    Take(usize),
    Welcome(bool),
    Commit(u64),
    Refuse,
    Push(usize),
    Notify,
    Finish,
    Close(CloseReason),
    SetDeadline(Direction, Option<Duration>),
}

fn lawful() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(bytes(&[Frame::Beat(Beat::Beat)])),
        Just(bytes(&[Frame::Beat(Beat::Question)]).repeat(7)),
        Just(skipped()),
        Just(bytes(&[Frame::Confirm { floor: 0 }])),
        Just(bytes(&[Frame::Receipt { committed: 0 }])),
    ]
}

fn unlawful() -> impl Strategy<Value = Vec<u8>> {
    let bye = |code| bytes(&[Frame::Bye(Bye { code, retry: 0, delay_ms: 0, committed: 0, text: "" })]);
    prop_oneof![
        (0_u16..3).prop_map(bye),
        Just(bytes(&[Frame::Hello(hello_again(2))])),
        (0_u64..9).prop_map(|number| message(number, b"x")),
        (0_u64..9).prop_map(|floor| bytes(&[Frame::Confirm { floor }])),
        (0_u64..9).prop_map(|committed| bytes(&[Frame::Receipt { committed }])),
        (0_u64..9).prop_map(|number| bytes(&[Frame::Refuse { number, code: 1, text: "no" }])),
        prop::collection::vec(any::<u8>(), 1..40),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..9))
            .prop_map(|(kind, body)| { [&[kind, 0, 0, body.len() as u8], &body[..]].concat() }),
    ]
}

fn calls() -> impl Strategy<Value = Call> {
    let cut = || prop_oneof![3 => Just(usize::MAX), 1 => 0_usize..20];
    let direction = prop_oneof![Just(Direction::Read), Just(Direction::Write), Just(Direction::Both)];
    let deadline = prop::option::of((0_u64..9_000).prop_map(ms));
    prop_oneof![
        12 => (lawful(), cut()).prop_map(|(bytes, cut)| Call::Say(bytes, cut)),
        1 => (unlawful(), cut()).prop_map(|(bytes, cut)| Call::Say(bytes, cut)),
        12 => (0_usize..3_000).prop_map(Call::Message),
        8 => (0_u64..4).prop_map(Call::Receipt),
        1 => Just(Call::EndInput),
        2 => Just(Call::Timeout),
        12 => (0_u64..1_500).prop_map(|span| Call::Pass(ms(span))),
        1 => (50_u64..3_000).prop_map(|span| Call::Stall(ms(span))),
        8 => prop_oneof![Just(0), 0_usize..500, Just(usize::MAX)].prop_map(Call::Take),
        4 => any::<bool>().prop_map(Call::Welcome),
        8 => (0_u64..4).prop_map(Call::Commit),
        2 => Just(Call::Refuse),
        8 => (0_usize..3_000).prop_map(Call::Push),
        1 => Just(Call::Notify),
        1 => prop_oneof![Just(CloseReason::Drain), Just(CloseReason::PeerReset)].prop_map(Call::Close),
        1 => Just(Call::Finish),
        1 => (direction, deadline).prop_map(|(direction, deadline)| Call::SetDeadline(direction, deadline)),
    ]
}

fn policies() -> impl Strategy<Value = Policy> {
    let small = Policy {
        pulse: PulsePolicy { window: Window { messages: 3, bytes: 4_000 }, ..pulse().pulse },
        message_bytes_max: 2_000,
        output_bytes_max: 600,
        write_stall: s(3),
        half_close: s(2),
        sink_stall: s(2),
        ..pulse()
    };
    prop::sample::select(vec![pulse(), auto(), short(s(20)), small])
}

/// The two sides' memory of what they have said.
#[derive(Default)]
struct Walk {
    /// What the client has said and what has not come yet.
    unsent: Vec<u8>,
    sent: u64,
    committed: u64,
    settled: u64,
    greeted: bool,
    welcomed: bool,
    ended_input: bool,
    seen: Vec<Seen>,
    said: Vec<Said>,
}

impl Walk {
    fn act(&mut self, driver: &mut Driver, call: &Call) {
        match call {
            Call::Say(bytes, cut) => self.say(driver, bytes, *cut),
            Call::Message(bytes) if self.welcomed => {
                self.sent += 1;
                self.say(driver, &message(self.sent, &vec![3; *bytes]), usize::MAX);
            }
            Call::Receipt(more) if self.welcomed => {
                self.settled = (self.settled + more).min(self.last_said());
                self.say(driver, &bytes(&[Frame::Receipt { committed: self.settled }]), usize::MAX);
            }
            Call::Message(_) | Call::Receipt(_) => {}
            Call::EndInput => {
                self.ended_input = true;
                driver.end_input();
                if driver.connection().is_pulse() || self.welcomed {
                    return;
                }
                driver.finish();
            }
            Call::Timeout => driver.timeout(),
            Call::Pass(span) => {
                driver.pass_to(driver.elapsed() + *span);
            }
            Call::Stall(span) => driver.stall(*span),
            Call::Take(bytes) => driver.take(*bytes),
            Call::Welcome(resumed) if self.greeted && !self.welcomed => {
                self.welcomed = true;
                let admission = if *resumed { admission_again() } else { admission() };
                driver.welcome(&admission, &["left", "over"]);
            }
            Call::Welcome(_) => {}
            Call::Commit(more) => {
                self.committed = (self.committed + more).min(self.sent);
                driver.commit(self.committed);
            }
            Call::Refuse if self.committed < self.sent => {
                driver.refuse(self.committed + 1, 3);
                self.committed += 1;
                driver.commit(self.committed);
            }
            Call::Refuse => {}
            Call::Push(bytes) => {
                let attached = driver.connection().attachment().is_some();
                assert_eq!(driver.push(&vec![4; *bytes]).is_ok(), attached);
            }
            Call::Notify => driver.notify(2, s(1)),
            Call::Finish => driver.finish(),
            Call::Close(reason) => driver.close(*reason),
            Call::SetDeadline(direction, deadline) => driver.set_deadline(*direction, *deadline),
        }
    }

    fn say(&mut self, driver: &mut Driver, bytes: &[u8], cut: usize) {
        if self.ended_input {
            return;
        }
        self.unsent.extend_from_slice(bytes);
        let now: Vec<u8> = self.unsent.drain(..cut.min(self.unsent.len())).collect();
        driver.receive(&now);
    }

    /// The number of our last message.
    fn last_said(&self) -> u64 {
        let number = |said: &Said| if let Said::Message(number, _) = said { Some(*number) } else { None };
        self.said.iter().rev().find_map(number).unwrap_or(0)
    }

    fn look(&mut self, driver: &mut Driver) {
        let seen = driver.seen();
        self.greeted |= seen.iter().any(|seen| matches!(seen, Seen::Hello(_)));
        self.seen.extend(seen);
        self.said.extend(driver.said());
    }

    /// What has been seen and said is that of one connection that has ended.
    fn judge(&self, reason: Option<CloseReason>) {
        let count = |wanted: fn(&Seen) -> bool| self.seen.iter().filter(|seen| wanted(seen)).count();
        assert_eq!(self.seen.last(), reason.map(Seen::Closed).as_ref());
        assert_eq!(count(|seen| matches!(seen, Seen::Closed(_))), 1);
        assert!(count(|seen| matches!(seen, Seen::TokenUsed)) <= 1);
        let detached = count(|seen| matches!(seen, Seen::Detached(_)));
        let welcomes = self.said.iter().filter(|said| matches!(said, Said::Welcome { .. })).count();
        assert!(welcomes <= detached && detached <= 1, "{welcomes} {detached}");
        let bye = |said: &&Said| matches!(said, Said::Bye { .. });
        assert!(self.said.iter().rev().skip(1).find(bye).is_none(), "BYE is the last: {:?}", self.said);
        for pair in self.said.windows(2) {
            if let [Said::Receipt(one), Said::Receipt(next)] = pair {
                assert!(one < next, "receipts go up");
            }
        }
        let number = |said: &Said| if let Said::Message(number, _) = said { Some(*number) } else { None };
        let numbers: Vec<u64> = self.said.iter().filter_map(number).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "each once: {numbers:?}");
        let ask = Said::Beat(Beat::Question);
        assert!(self.said.windows(2).all(|pair| pair[0] != ask || pair[1] != ask), "asked once");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]
    #[test]
    fn there_is_one_end_and_nothing_after_it(
        policy in policies(),
        (cut, resumes) in (0_usize..200, any::<bool>()),
        walk in prop::collection::vec(calls(), 1..80),
    ) {
        let mut driver = Driver::new(policy);
        let mut state = Walk::default();
        let hello = if resumes { hello_again(1) } else { hello() };
        let all = opening(&[Frame::Hello(hello)]);
        driver.receive(&all[..cut.min(all.len())]);
        driver.receive(&all[cut.min(all.len())..]);
        state.look(&mut driver);
        for call in &walk {
            state.act(&mut driver, call);
            state.look(&mut driver);
        }
        // Nothing that was said keeps it for ever.
        driver.room = 0;
        driver.pass_to(s(2 * 3_600));
        driver.discard(None);
        driver.pass_to(s(3 * 3_600));
        state.look(&mut driver);
        prop_assert!(!driver.is_open() && driver.next().is_none(), "{:?}", driver.next());
        state.judge(driver.reason());
    }

    /// Bytes that are nothing, from the very first one on.
    #[test]
    fn no_bytes_make_it_panic(
        is_auto in any::<bool>(),
        begins in 0_usize..300,
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..8),
    ) {
        let mut driver = if is_auto { Driver::raw(auto()) } else { Driver::new(pulse()) };
        let all = opening(&[Frame::Hello(hello())]);
        driver.receive(&all[..begins.min(all.len())]);
        parts.iter().for_each(|part| driver.receive(part));
        driver.end_input();
        driver.finish();
        prop_assert!(!driver.is_open());
    }
}
