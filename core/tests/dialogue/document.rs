//! The conversation in PROTOCOL.md section 11 is one that a gateway has: its bytes are made here, and compared.

use crate::driver::{Driver, Seen};
use crate::words::{bytes, hello, ms, s};
use pulsegate_core::connection::{Admission, Attachment};
use pulsegate_core::exchange::Window;
use pulsegate_core::frame::{Beat, Bye, Durability, Frame, Hello, PREFACE, Refusals};
use pulsegate_core::policy::{LifetimePolicy, Policy, Protocol, PulsePolicy};
use std::fmt::Write;

const DOCUMENT: &str = include_str!("../../../PROTOCOL.md");
const HEX_COLUMNS: usize = 96;
const FIRST_TOKEN: [u8; 16] = *b"the first token!";
const SECOND_TOKEN: [u8; 16] = *b"and the next one";
/// Message 2 was over quota.
const REFUSED: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 2, 0, 2];

/// What one side says, as the document shows it: who, words, and below them the bytes.
fn step(who: char, words: &str, bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut step = format!("    {who}  {words}\n");
    let mut rest = hex.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(HEX_COLUMNS));
        writeln!(step, "       {line}").expect("a string takes everything");
        rest = after;
    }
    step
}

fn policy() -> Policy {
    Policy {
        protocol: Protocol::Pulse,
        pulse: PulsePolicy {
            window: Window { messages: 256, bytes: 1 << 20 },
            session_ttl: s(3_600),
            ..PulsePolicy::default()
        },
        lifetime: LifetimePolicy::Long { heartbeat_timeout: s(15), max_age: s(86_400) },
        message_bytes_max: 65_536,
        first_message: s(10),
        ..Policy::default()
    }
}

fn sensor() -> Hello<'static> {
    Hello {
        window: Window { messages: 64, bytes: 131_072 },
        message_bytes_max: 65_536,
        id: "sensor-7",
        ..hello()
    }
}

fn admission(token: [u8; 16], epoch: u64) -> Admission<'static> {
    Admission {
        attachment: Attachment { session: 7, epoch },
        resumed: epoch > 1,
        durability: Durability::Synced,
        token,
        server_time_ms: 1_795_000_000_000 + epoch,
        ..crate::words::admission()
    }
}

/// Collects what both sides say.
struct Conversation {
    driver: Driver,
    steps: Vec<String>,
}

impl Conversation {
    fn client(&mut self, words: &str, frame: Frame<'_>) {
        let bytes = bytes(&[frame]);
        self.driver.receive(&bytes);
        self.steps.push(step('C', words, &bytes));
    }

    fn gateway(&mut self, words: &str) {
        let bytes = self.driver.heard();
        self.steps.push(step('G', words, &bytes));
    }

    fn open(&mut self, words: &str, hello: Hello<'_>) {
        self.driver = Driver::new(policy());
        self.driver.receive(&PREFACE);
        self.steps.push(step('C', "preface", &PREFACE));
        self.client(words, Frame::Hello(hello));
    }
}

fn conversation() -> Conversation {
    let mut talk = Conversation { driver: Driver::new(policy()), steps: Vec::new() };
    talk.open("HELLO     a new session for \"sensor-7\"; no wishes", sensor());
    talk.driver.welcome(&admission(FIRST_TOKEN, 1), &[]);
    talk.gateway("WELCOME   outcome 0, session 7, the first token, synced to disk, a beat every 5 s");
    talk.client("BEAT      0", Frame::Beat(Beat::Beat));
    for (number, payload) in [(1, "one"), (2, "two"), (3, "three")] {
        let words = format!("MESSAGE   {number}, \"{payload}\"");
        talk.client(&words, Frame::Message { number, payload: payload.as_bytes() });
    }
    talk.driver.commit(1);
    talk.gateway("RECEIPT   1");
    talk.driver.refuse_saying(2, 2, "over quota");
    talk.driver.commit(3);
    let lost = talk.driver.heard();
    let refuse = bytes(&[Frame::Refuse { number: 2, code: 2, text: "over quota" }]);
    let (refuse, receipt) = lost.split_at(refuse.len());
    talk.steps.push(step('G', "REFUSE    2, code 2, \"over quota\": lost in the cut", refuse));
    talk.steps.push(step('G', "RECEIPT   3: lost in the cut", receipt));

    let again = Hello { session: 7, token: FIRST_TOKEN, acknowledged: 1, ..sensor() };
    talk.open("HELLO     session 7, the first token, acknowledged 1", again);
    let refused = Refusals::read(&REFUSED, 3).expect("one refusal");
    let admission = Admission { committed: 3, floor: 1, refused, ..admission(SECOND_TOKEN, 2) };
    talk.driver.welcome(&admission, &[]);
    talk.gateway("WELCOME   outcome 1, session 7, the next token, committed 3, refused 2 with code 2");
    talk.driver.pass_to(ms(10));
    talk.client("CONFIRM   3", Frame::Confirm { floor: 3 });
    let bye = Bye { code: 0, retry: 0, delay_ms: 0, committed: 0, text: "" };
    talk.client("BYE       0, done", Frame::Bye(bye));
    talk
}

#[test]
fn the_conversation_of_the_document_is_one_that_is_had() {
    let mut talk = conversation();
    let steps = talk.steps.concat();
    let seen = talk.driver.seen();
    assert!(seen.contains(&Seen::Confirmed(3)) && seen.contains(&Seen::Detached(true)), "{seen:?}");
    assert!(talk.driver.heard().is_empty(), "a gateway answers no BYE");
    let (_, section) = DOCUMENT.split_once("\n## 11. A conversation\n").expect("section 11");
    let (section, _) = section.split_once("\n## 12. ").expect("section 12");
    let block = |line: &&str| line.starts_with("    ");
    let theirs: String = section.lines().filter(block).map(|line| format!("{line}\n")).collect();
    assert!(theirs == steps, "PROTOCOL.md section 11 should have these lines:\n{steps}");
}
