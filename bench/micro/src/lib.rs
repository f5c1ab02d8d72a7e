//! Small loads on the rules of the core and on the store, each a step that can be repeated for ever. `cargo bench -p
//! pulsegate-micro` times them, `bench/counts/run` counts their instructions. Must not know: how they are measured.

mod committing;

pub use committing::Committing;
use pulsegate_core::connection::{Admission, Attachment, Connection, Event, Output, Written};
use pulsegate_core::exchange::{Receiving, Sending, Window};
use pulsegate_core::frame::{Beat, Durability, Frame, FrameReader, Hello, LifetimeKind, PREFACE, Refusals};
use pulsegate_core::lines::Lines;
use pulsegate_core::policy::{Framing, LifetimePolicy, Policy, Protocol};
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
    /// This many keys, evenly spread over 5 s.
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

/// A connection that comes, brings a message and ends, again and again.
#[derive(Debug)]
pub struct Coming {
    policy: Policy,
    output: Counter,
    now: Instant,
}

impl Default for Coming {
    fn default() -> Self {
        Self { policy: Policy::default(), output: Counter::default(), now: Instant::ORIGIN }
    }
}

impl Coming {
    /// The whole life of a connection that sends this. Returns the messages of all so far.
    pub fn come_and_go(&mut self, input: &[u8]) -> u64 {
        self.now = self.now.after(Duration::from_micros(1));
        let (now, policy, output) = (Now::at(self.now), &self.policy, &mut self.output);
        let mut connection = Connection::new(now, policy);
        connection.handle_input(now, policy, input, output);
        connection.handle_input_end(now, policy, output);
        connection.finish(now, policy, 0, output);
        connection.handle_written(now, policy, Written { bytes: 0, waiting: 0, drained: true }, output);
        output.messages
    }
}

/// A connection of the pulse protocol whose client has been welcomed.
#[derive(Debug)]
pub struct Attached {
    connection: Connection,
    policy: Policy,
    output: Counter,
    now: Instant,
    input: Vec<u8>,
}

impl Attached {
    /// Welcomed to a new session.
    #[must_use]
    pub fn new() -> Self {
        let policy = Policy { protocol: Protocol::Pulse, ..Policy::default() };
        let now = Now::at(Instant::ORIGIN);
        let mut connection = Connection::new(now, &policy);
        let mut output = Counter::default();
        let mut input = PREFACE.to_vec();
        Frame::Hello(hello()).encode(&mut input);
        connection.handle_input(now, &policy, &input, &mut output);
        connection.welcome(now, &policy, &admission(), &mut output);
        let mut attached = Self { connection, policy, output, now: now.instant, input };
        attached.write();
        attached
    }

    /// A moment passes, and the client beats.
    pub fn beat(&mut self) {
        self.input.clear();
        Frame::Beat(Beat::Beat).encode(&mut self.input);
        self.receive();
    }

    /// The next message comes and is committed, and its receipt goes out. Returns its number.
    pub fn take(&mut self, payload: &[u8]) -> u64 {
        let number = self.output.messages + 1;
        self.input.clear();
        encode_message(number, payload, &mut self.input);
        self.receive();
        self.connection.commit(Now::at(self.now), &self.policy, number, &mut self.output);
        self.write();
        number
    }

    /// The bytes that went to the client so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.connection.totals().bytes_out
    }

    fn receive(&mut self) {
        self.now = self.now.after(Duration::from_micros(1));
        self.connection.handle_input(Now::at(self.now), &self.policy, &self.input, &mut self.output);
    }

    /// The socket takes everything.
    fn write(&mut self) {
        let written = Written { bytes: self.output.transmit.len(), waiting: 0, drained: true };
        self.output.transmit.clear();
        self.connection.handle_written(Now::at(self.now), &self.policy, written, &mut self.output);
    }
}

impl Default for Attached {
    fn default() -> Self {
        Self::new()
    }
}

const fn hello() -> Hello<'static> {
    Hello {
        lifetime: LifetimeKind::Any,
        beat_min_ms: 0,
        beat_max_ms: 0,
        window: Window { messages: 64, bytes: MESSAGE_BYTES_MAX },
        message_bytes_max: MESSAGE_BYTES_MAX,
        session: 0,
        token: [0; 16],
        committed: 0,
        acknowledged: 0,
        id: "a client of 16 B",
        refused: Refusals::EMPTY,
    }
}

const fn admission() -> Admission<'static> {
    Admission {
        attachment: Attachment { session: 1, epoch: 1 },
        resumed: false,
        durability: Durability::Synced,
        token: [1; 16],
        committed: 0,
        floor: 0,
        acknowledged: 0,
        is_behind: false,
        message_bytes_max: 0,
        lost: None,
        refused: Refusals::EMPTY,
        server_time_ms: 0,
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

    /// This many messages go through all three legs together. Returns the number of the last.
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
    fn each_connection_brings_its_message_and_each_message_gets_its_receipt() {
        let mut coming = Coming::default();
        assert_eq!((coming.come_and_go(b"a"), coming.come_and_go(b"b")), (1, 2));
        let mut attached = Attached::new();
        let before = attached.sent();
        (0..1_000).for_each(|_| attached.beat());
        assert_eq!((attached.sent(), attached.take(b"a"), attached.take(b"b")), (before, 1, 2));
        let mut receipts = Vec::new();
        Frame::Receipt { committed: 2 }.encode(&mut receipts);
        assert_eq!(attached.sent(), before + 2 * receipts.len() as u64);
    }

    #[test]
    fn everything_sent_is_settled() {
        let mut exchange = Exchange::new(256);
        assert_eq!((exchange.run(256), exchange.run(1)), (256, 257));
    }
}
