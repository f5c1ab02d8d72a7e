//! A layer for tests that does to bytes whatever a layer may do: a handshake comes first; then bytes are changed by their
//! place and cut into frames, so that they become more and come late; what has come is yielded in pieces; it speaks for
//! itself; and what is against its rules ends the connection.

use crate::shard::layer::{InputEnd, Layer, MakeLayer};
use fastrand::Rng;
use pulsegate_core::close::CloseReason;
use std::collections::VecDeque;

/// From the client, with its key; the answer to that, with another one; from then on both may send.
const HELLO: u8 = 0x16;
const ANSWER: u8 = 0x17;
const GO: u8 = 0x18;
/// With a length of one byte, and so many bytes.
const DATA: u8 = 0x01;
/// From the client, and the answer to it.
const PING: u8 = 0x02;
const PONG: u8 = 0x03;
/// Nothing comes after this.
const CLOSE: u8 = 0x04;
/// What no side ever says.
const GARBAGE: u8 = 0xee;
/// The longest frame that the gateway sends.
pub(super) const SENT_FRAME_BYTES: usize = 24;

/// What comes of one direction of bytes.
#[derive(Clone, Debug, Default)]
struct Mask {
    key: u8,
    place: u8,
}

impl Mask {
    fn apply(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut apply = |byte: &u8| {
            self.place = self.place.wrapping_add(1);
            byte ^ self.key ^ self.place
        };
        bytes.iter().map(&mut apply).collect()
    }
}

/// One thing said.
#[derive(Debug, PartialEq, Eq)]
enum Element {
    Hello(u8),
    Answer(u8),
    Go,
    Data(Vec<u8>),
    Ping,
    Pong,
    Close,
    Garbage,
}

impl Element {
    /// Takes the next one, if it is whole.
    fn take(wire: &mut VecDeque<u8>) -> Option<Self> {
        let length = match *wire.front()? {
            HELLO | ANSWER => 2,
            DATA => 2 + usize::from(*wire.get(1)?),
            _ => 1,
        };
        if wire.len() < length {
            return None;
        }
        let bytes: Vec<u8> = wire.drain(..length).collect();
        Some(match bytes[0] {
            HELLO => Self::Hello(bytes[1]),
            ANSWER => Self::Answer(bytes[1]),
            GO => Self::Go,
            DATA => Self::Data(bytes[2..].to_vec()),
            PING => Self::Ping,
            PONG => Self::Pong,
            CLOSE => Self::Close,
            _ => Self::Garbage,
        })
    }
}

/// How far the handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begun,
    Greeted,
    Open,
}

/// The gateway's side.
#[derive(Debug)]
struct GatewaySide {
    stage: Stage,
    inbound: Mask,
    outbound: Mask,
    /// What has come, up to what is not whole.
    wire: VecDeque<u8>,
    /// What that was, as far as it isn't yielded.
    plain: VecDeque<u8>,
    end: Option<InputEnd>,
    random: Rng,
}

/// Makes layers like this.
#[derive(Debug)]
pub(super) struct Framing;

impl MakeLayer for Framing {
    fn layer(&self) -> Box<dyn Layer> {
        Box::new(GatewaySide {
            stage: Stage::Begun,
            inbound: Mask::default(),
            outbound: Mask::default(),
            wire: VecDeque::new(),
            plain: VecDeque::new(),
            end: None,
            random: Rng::with_seed(0),
        })
    }
}

impl GatewaySide {
    fn handle(&mut self, element: Element, wire: &mut Vec<u8>) {
        match (self.stage, element) {
            (Stage::Begun, Element::Hello(key)) => {
                self.stage = Stage::Greeted;
                (self.inbound.key, self.outbound.key) = (key, !key);
                self.random.seed(u64::from(key));
                wire.extend([ANSWER, !key]);
            }
            (Stage::Greeted, Element::Go) => self.stage = Stage::Open,
            (Stage::Open, Element::Data(bytes)) => self.plain.extend(self.inbound.apply(&bytes)),
            (Stage::Open, Element::Ping) => wire.push(PONG),
            (_, Element::Close) => self.end = Some(Ok(())),
            (_, _) => self.end = Some(Err(CloseReason::MalformedFrame)),
        }
    }
}

impl Layer for GatewaySide {
    fn receive(&mut self, received: &mut [u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> Option<InputEnd> {
        assert!(self.plain.is_empty() || received.is_empty(), "first it is asked for what it has");
        self.wire.extend(received.iter());
        while self.end.is_none()
            && let Some(element) = Element::take(&mut self.wire)
        {
            self.handle(element, wire);
        }
        let piece = match self.random.u32(..3) {
            0 => self.random.usize(1..10),
            1 => self.random.usize(1..1_000),
            _ => usize::MAX,
        };
        plain.extend(self.plain.drain(..piece.min(self.plain.len())));
        self.end.filter(|_| self.plain.is_empty())
    }

    fn receive_end(&mut self) -> InputEnd {
        match self.wire.is_empty() {
            true => Ok(()),
            false => Err(CloseReason::TruncatedFrame),
        }
    }

    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        assert_eq!(self.stage, Stage::Open);
        for bytes in plain.chunks(SENT_FRAME_BYTES) {
            wire.extend([DATA, bytes.len() as u8]);
            wire.extend(self.outbound.apply(bytes));
        }
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        wire.push(CLOSE);
    }

    fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    fn has_unread(&self) -> bool {
        !self.plain.is_empty()
    }
}

/// All that a client was sent.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) plain: Vec<u8>,
    /// The gateway's side of the layer has said its last.
    pub(super) is_closed: bool,
}

/// The client's side.
#[derive(Clone, Debug)]
pub(super) struct ClientSide {
    stage: Stage,
    inbound: Mask,
    outbound: Mask,
    /// What has come, up to what is not whole.
    wire: VecDeque<u8>,
    /// What is to be sent when the handshake is over.
    early: Vec<u8>,
    /// What is to be sent, with what the gateway has got once it is whole.
    pending: VecDeque<(Vec<u8>, Vec<u8>)>,
    /// A part of the next one has been sent.
    is_within: bool,
    is_faultless: bool,
    /// It has sent garbage.
    pub(super) has_spoiled: bool,
    /// It has ended its side within an element.
    pub(super) is_cut: bool,
    random: Rng,
}

impl ClientSide {
    /// That of the client with this number, which may break the rules, and may not wait for the answer to its hello.
    pub(super) fn new(client: usize) -> Self {
        let mut random = Rng::with_seed(client as u64);
        let waits = random.u32(..4) > 0;
        let spoils = random.u32(..60) == 0;
        let mut side = Self { is_faultless: false, ..Self::faultless(waits, random) };
        if spoils {
            side.pending = [(vec![GARBAGE], Vec::new())].into();
        }
        side
    }

    /// One that keeps to the rules, and says nothing of its own beside the handshake.
    pub(super) fn faultless(waits: bool, mut random: Rng) -> Self {
        let key = random.u8(..);
        let (hello, go) = ((vec![HELLO, key], Vec::new()), (vec![GO], Vec::new()));
        Self {
            stage: if waits { Stage::Begun } else { Stage::Open },
            inbound: Mask { key: !key, place: 0 },
            outbound: Mask { key, place: 0 },
            wire: VecDeque::new(),
            early: Vec::new(),
            pending: if waits { [hello].into() } else { [hello, go].into() },
            is_within: false,
            is_faultless: true,
            has_spoiled: false,
            is_cut: false,
            random,
        }
    }

    /// Whether both sides may send, as far as it knows.
    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// How much has yet to be sent.
    pub(super) fn waiting(&self) -> usize {
        self.early.len() + self.pending.iter().map(|(wire, _)| wire.len()).sum::<usize>()
    }

    /// The client has something to say.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        if self.stage != Stage::Open {
            return self.early.extend(bytes);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.random.u32(..400) {
                _ if self.is_faultless => {}
                0..10 => self.ping(),
                10..20 => self.pending.push_back((vec![DATA, 0], Vec::new())),
                20 if self.random.u32(..20) == 0 => self.spoil(),
                _ => {}
            }
            let longest = if self.random.bool() { 10 } else { 255 };
            let (now, later) = rest.split_at(self.random.usize(1..=longest).min(rest.len()));
            let mut wire = vec![DATA, now.len() as u8];
            wire.extend(self.outbound.apply(now));
            self.pending.push_back((wire, now.to_vec()));
            rest = later;
        }
    }

    /// It wants an answer of the layer itself.
    pub(super) fn ping(&mut self) {
        self.pending.push_back((vec![PING], Vec::new()));
    }

    /// It breaks the rules.
    pub(super) fn spoil(&mut self) {
        self.pending.push_back((vec![GARBAGE], Vec::new()));
    }

    /// Sends some of what is to be sent, or all. Returns the bytes, and those of the client that are whole by that.
    pub(super) fn poll(&mut self, all: bool) -> (Vec<u8>, Vec<u8>) {
        let (mut wire, mut whole) = (Vec::new(), Vec::new());
        let mut room = if all || self.random.bool() { usize::MAX } else { self.random.usize(1..30) };
        while room > 0
            && let Some((bytes, _)) = self.pending.front_mut()
        {
            let count = room.min(bytes.len());
            self.has_spoiled |= bytes[0] == GARBAGE && !self.is_within;
            wire.extend(bytes.drain(..count));
            room -= count;
            self.is_within = !bytes.is_empty();
            if !self.is_within
                && let Some((_, plain)) = self.pending.pop_front()
            {
                whole.extend(plain);
            }
        }
        (wire, whole)
    }

    /// It ends its side: mostly after all that is to be sent. Returns the last bytes, those of the client that are whole by
    /// that, and whether the end of the stream comes with them.
    pub(super) fn finish(&mut self) -> (Vec<u8>, Vec<u8>, bool) {
        let roll = self.random.u32(..8);
        if roll < 4 && self.is_within {
            self.is_cut = true;
            return (Vec::new(), Vec::new(), true);
        }
        if roll < 5 {
            self.pending.push_back((vec![CLOSE], Vec::new()));
        }
        let (mut wire, whole) = self.poll(true);
        self.early.clear();
        if roll == 7 {
            wire.extend([DATA, 2, 0]);
            self.is_cut = true;
        }
        (wire, whole, roll > 0)
    }

    /// Takes what has come. Returns what it says to the client.
    pub(super) fn take_in(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.wire.extend(bytes);
        let mut plain = Vec::new();
        while let Some(element) = Element::take(&mut self.wire) {
            match (self.stage, element) {
                (Stage::Open, Element::Answer(key)) => assert_eq!(key, self.inbound.key),
                (Stage::Begun, Element::Answer(key)) => {
                    assert_eq!(key, self.inbound.key);
                    self.stage = Stage::Open;
                    self.pending.push_back((vec![GO], Vec::new()));
                    let early = std::mem::take(&mut self.early);
                    self.say(&early);
                }
                (Stage::Open, Element::Data(bytes)) => plain.extend(self.inbound.apply(&bytes)),
                (Stage::Open, Element::Pong) | (_, Element::Close) => {}
                (stage, element) => panic!("{element:?} comes while it is {stage:?}"),
            }
        }
        plain
    }

    /// What all that has ever come says. Nothing but what is the layer's may be in it.
    pub(super) fn history(&self, all: &[u8]) -> History {
        let mut inbound = Mask { key: self.inbound.key, place: 0 };
        let mut wire: VecDeque<u8> = all.iter().copied().collect();
        let mut history = History::default();
        while let Some(element) = Element::take(&mut wire) {
            assert!(!history.is_closed, "{element:?} comes after the last");
            match element {
                Element::Data(bytes) => history.plain.extend(inbound.apply(&bytes)),
                Element::Answer(_) | Element::Pong => {}
                Element::Close => history.is_closed = true,
                Element::Hello(_) | Element::Go | Element::Ping | Element::Garbage => {
                    panic!("{element:?} is nothing that a gateway says")
                }
            }
        }
        assert!(!history.is_closed || wire.is_empty(), "something comes after the last");
        history
    }
}
