//! Small loads on the rules of the core, each a step that can be repeated for ever. `cargo bench -p pulsegate-micro` times
//! them. Must not know: how they are timed.

use pulsegate_core::connection::{Connection, Event, Output};
use pulsegate_core::exchange::{Receiving, Sending, Window};
use pulsegate_core::frame::{Frame, FrameReader};
use pulsegate_core::lines::Lines;
use pulsegate_core::policy::{Framing, LifetimePolicy, Policy};
use pulsegate_core::time::{Instant, Now};
use pulsegate_core::wheel::{Node, Wheel};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);
const MESSAGE_BYTES_MAX: u32 = 64 * 1024;

/// A wheel in which every key comes up once in 5 s, and is filed again.
#[derive(Debug)]
pub struct Deadlines {
    wheel: Wheel,
    nodes: Vec<Node>,
    deadlines: Vec<Instant>,
    now: Instant,
    key: u32,
}

impl Deadlines {
    /// So many keys, evenly spread over 5 s.
    #[must_use]
    pub fn new(keys: u32) -> Self {
        let now = Instant::ORIGIN;
        let mut nodes = vec![Node::UNFILED; keys as usize];
        let deadlines: Vec<Instant> = (0..keys).map(|key| now.after(TIMEOUT / keys * key)).collect();
        let mut wheel = Wheel::new(now);
        for key in 0..keys {
            wheel.file(&mut nodes, key, deadlines[key as usize]);
        }
        Self { wheel, nodes, deadlines, now, key: 0 }
    }

    /// Time moves on to the next key, which is filed 5 s later. Returns how many came up: one, in the long run.
    pub fn come_up_and_file(&mut self) -> u32 {
        self.now = self.now.after(TIMEOUT / self.nodes.len() as u32);
        let mut count = 0;
        while let Some(key) = self.wheel.poll(&mut self.nodes, self.now) {
            let deadline = &mut self.deadlines[key as usize];
            // A coarse slot comes up before the deadlines in it.
            if *deadline <= self.now {
                *deadline = self.now.after(TIMEOUT);
                count += 1;
            }
            self.wheel.file(&mut self.nodes, key, *deadline);
        }
        count
    }

    /// The next key is moved to another deadline.
    pub fn refile(&mut self) {
        self.key = (self.key + 1) % self.nodes.len() as u32;
        let deadline = self.now.after(TIMEOUT + Duration::from_micros(u64::from(self.key)));
        self.deadlines[self.key as usize] = deadline;
        self.wheel.file(&mut self.nodes, self.key, deadline);
    }
}

/// Takes a connection's outputs and counts messages.
#[derive(Debug, Default)]
struct Counter {
    transmit: Vec<u8>,
    messages: u64,
}

impl Output for Counter {
    fn transmit(&mut self) -> &mut Vec<u8> {
        &mut self.transmit
    }

    fn waiting(&self) -> usize {
        0
    }

    fn handle_event(&mut self, event: Event<'_>) {
        if matches!(event, Event::Message { .. }) {
            self.messages += 1;
        }
    }
}

/// A connection whose peer beats for ever.
#[derive(Debug)]
pub struct Beating {
    connection: Connection,
    policy: Policy,
    output: Counter,
    now: Instant,
}

impl Beating {
    /// A long connection that takes whole reads, or lines.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let lifetime =
            LifetimePolicy::Long { heartbeat_timeout: TIMEOUT, max_age: Duration::from_secs(1 << 40) };
        let policy = Policy { lifetime, framing, ..Policy::default() };
        let now = Instant::ORIGIN;
        Self { connection: Connection::new(Now::at(now), &policy), policy, output: Counter::default(), now }
    }

    /// A moment passes, and the peer sends this. Returns the messages so far.
    pub fn receive(&mut self, input: &[u8]) -> u64 {
        self.now = self.now.after(Duration::from_micros(1));
        self.connection.handle_input(Now::at(self.now), &self.policy, input, &mut self.output);
        self.output.messages
    }
}

/// How many lines a read of so many bytes has.
#[must_use]
pub fn cut_lines(input: &[u8]) -> usize {
    let mut count = 0;
    let cut = Lines::default().handle_input(input, input.len(), |_| {
        count += 1;
        true
    });
    assert!(cut.is_ok(), "the input is sound");
    count
}

/// One message as a frame, appended.
pub fn encode_message(number: u64, payload: &[u8], out: &mut Vec<u8>) {
    Frame::Message { number, payload }.encode(out);
}

/// How many frames a read has.
#[must_use]
pub fn cut_frames(input: &[u8]) -> usize {
    let mut count = 0;
    let cut = FrameReader::default().handle_input(input, MESSAGE_BYTES_MAX, |_| {
        count += 1;
        true
    });
    assert!(cut.is_ok(), "the input is sound");
    count
}

/// Both halves of an exchange, which agree.
#[derive(Debug)]
pub struct Exchange {
    sending: Sending<[u8; 32]>,
    receiving: Receiving,
}

impl Exchange {
    /// With so much in flight at most.
    #[must_use]
    pub const fn new(messages: u32) -> Self {
        let window = Window { messages, bytes: u32::MAX };
        Self { sending: Sending::new(window), receiving: Receiving::restore(0, 0) }
    }

    /// So many messages take all three legs together. Returns the number of the last.
    pub fn run(&mut self, count: u32) -> u64 {
        for _ in 0..count {
            self.sending.push([7; 32]);
        }
        while let Some((number, _)) = self.sending.poll_transmit() {
            assert!(self.receiving.handle_message(number, count).is_ok(), "numbers come in order");
        }
        let committed = self.receiving.received();
        self.receiving.handle_committed(committed);
        assert!(self.sending.handle_receipt(committed).is_ok(), "only what was sent is committed");
        if let Some(floor) = self.sending.poll_confirm() {
            assert!(self.receiving.handle_confirm(floor).is_ok(), "only what was committed is confirmed");
        }
        committed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_comes_up_once_in_its_time() {
        let mut deadlines = Deadlines::new(1_000);
        let count: u32 = (0..10_000).map(|_| deadlines.come_up_and_file()).sum();
        assert!((9_000..=11_000).contains(&count), "{count}");
        (0..5_000).for_each(|_| deadlines.refile());
    }

    #[test]
    fn messages_are_counted() {
        let mut chunks = Beating::new(Framing::Chunks);
        assert_eq!((chunks.receive(b"a\nb\n"), chunks.receive(b"c")), (1, 2));
        assert_eq!(Beating::new(Framing::Lines).receive(b"a\nb\n"), 2);
        assert_eq!(cut_lines(b"a\nb\nc"), 2);
        let mut out = Vec::new();
        encode_message(1, b"payload", &mut out);
        encode_message(2, b"", &mut out);
        assert_eq!(cut_frames(&out), 2);
    }

    #[test]
    fn everything_sent_is_settled() {
        let mut exchange = Exchange::new(256);
        assert_eq!((exchange.run(256), exchange.run(1)), (256, 257));
    }
}
