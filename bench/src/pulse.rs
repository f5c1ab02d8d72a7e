//! The client's side of the pulse protocol (PROTOCOL.md), as much of it as a load needs: what a connection has to keep, and
//! what its input means. Small and plain, so that clients cost less than the server. Must not know: sockets, or when
//! anything is said.

use pulsegate_core::close::CloseReason;
use pulsegate_core::exchange::Window;
use pulsegate_core::frame::{
    Beat, Bye, Durability, Frame, FrameError, FrameReader, Hello, LifetimeKind, PREFACE, Refusals, Welcome,
};

/// What the clients take; nobody sends them much.
const WINDOW: Window = Window { messages: 256, bytes: 256 * 1024 };
const MESSAGE_BYTES_MAX: u32 = 64 * 1024;

/// What WELCOME told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) resumed: bool,
    pub(crate) durability: Durability,
    pub(crate) window: Window,
    pub(crate) message_bytes_max: u32,
}

impl Told {
    fn of(welcome: &Welcome<'_>) -> Self {
        Self {
            resumed: welcome.resumed,
            durability: welcome.durability,
            window: welcome.window,
            message_bytes_max: welcome.message_bytes_max,
        }
    }

    /// How many messages of this size may be in flight.
    pub(crate) fn messages(&self, size: usize) -> u64 {
        let by_bytes = u64::from(self.window.bytes) / size.max(1) as u64;
        if size as u64 > u64::from(self.message_bytes_max) {
            return 0;
        }
        u64::from(self.window.messages).min(by_bytes.max(1))
    }

    pub(crate) const fn durability_word(&self) -> &'static str {
        match self.durability {
            Durability::None => "none",
            Durability::Os => "os",
            Durability::Synced => "synced",
            Durability::Other(_) => "other",
        }
    }
}

/// What some input has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) welcome: Option<Told>,
    /// The receipt's cursor; 0: none.
    pub(crate) settled: u64,
    /// How many messages were refused.
    pub(crate) refused: u64,
    /// Whether the client lives is asked.
    pub(crate) asks: bool,
    /// The number of the last message to the client; 0: none.
    pub(crate) message: u64,
    /// The code of the server's last word.
    pub(crate) bye: Option<u16>,
}

/// What one connection keeps; its session outlives it.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    reader: FrameReader,
    session: u64,
    token: [u8; 16],
    /// What it has received of the server's messages.
    received: u64,
    /// Frames, or the rest of one, for which the socket had no room.
    pub(crate) unsent: Vec<u8>,
    /// It has fallen silent, and answers no more.
    pub(crate) is_mute: bool,
}

impl Peer {
    /// Appends what opens a connection: preface and HELLO, which resumes the session of the last one, if there was any.
    /// The id is 16 bytes long.
    pub(crate) fn open(&mut self, number: usize, out: &mut Vec<u8>) {
        self.reader = FrameReader::default();
        self.unsent = Vec::new();
        self.is_mute = false;
        out.extend_from_slice(&PREFACE);
        let hello = Hello {
            lifetime: LifetimeKind::Any,
            beat_min_ms: 0,
            beat_max_ms: 0,
            window: WINDOW,
            message_bytes_max: MESSAGE_BYTES_MAX,
            session: self.session,
            token: self.token,
            committed: self.received,
            acknowledged: 0,
            id: &format!("bench-{number:010}"),
            refused: Refusals::EMPTY,
        };
        Frame::Hello(hello).encode(out);
    }

    /// Appends the last word of a client that is done for good. It forgets its session.
    pub(crate) fn say_goodbye(&mut self, out: &mut Vec<u8>) {
        let bye = Bye { code: 0, retry: 0, delay_ms: 0, committed: self.received, text: "" };
        Frame::Bye(bye).encode(out);
        (self.session, self.token, self.received) = (0, [0; 16], 0);
    }

    /// Takes in received bytes.
    ///
    /// # Errors
    /// What is no frame.
    pub(crate) fn handle_input(&mut self, input: &[u8]) -> Result<Heard, FrameError> {
        let mut heard = Heard::default();
        let Self { reader, session, token, received, .. } = self;
        reader.handle_input(input, MESSAGE_BYTES_MAX, |frame| {
            match frame {
                Frame::Welcome(welcome) => {
                    (*session, *token) = (welcome.session, welcome.token);
                    if !welcome.resumed {
                        *received = 0;
                    }
                    heard.welcome = Some(Told::of(&welcome));
                }
                Frame::Receipt { committed } => heard.settled = heard.settled.max(committed),
                Frame::Refuse { .. } => heard.refused += 1,
                Frame::Beat(beat) => heard.asks |= beat == Beat::Question,
                Frame::Message { number, .. } => {
                    *received = number;
                    heard.message = number;
                }
                Frame::Bye(bye) => heard.bye = Some(bye.code),
                // What else there is asks nothing of a client; what is out of place shows by what doesn't come.
                Frame::Confirm { .. } | Frame::Notice { .. } | Frame::Hello(_) => {}
            }
            heard.bye.is_none()
        })?;
        Ok(heard)
    }
}

/// A BEAT as bytes.
pub(crate) fn beat(beat: Beat) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame::Beat(beat).encode(&mut bytes);
    bytes
}

/// The word for the code of a BYE.
pub(crate) fn word(code: u16) -> &'static str {
    let reason = CloseReason::ALL.iter().find(|reason| reason.code() == code);
    reason.map_or("for a reason that is not known here", |reason| reason.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcome(session: u64, resumed: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let welcome = Welcome {
            resumed,
            lifetime: LifetimeKind::Long,
            durability: Durability::Synced,
            beat_interval_ms: 1,
            beat_timeout_ms: 1,
            remaining_ms: 1,
            session_ttl_ms: 1,
            window: Window { messages: 8, bytes: 1_000 },
            message_bytes_max: 1_000,
            server_time_ms: 1,
            session,
            token: [7; 16],
            committed: 0,
            acknowledged: 0,
            lost: (0, 0),
            refused: Refusals::EMPTY,
        };
        Frame::Welcome(welcome).encode(&mut bytes);
        bytes
    }

    fn hello(peer: &mut Peer) -> (u64, [u8; 16], usize) {
        let mut bytes = Vec::new();
        peer.open(42, &mut bytes);
        let mut said = None;
        let frames = bytes.strip_prefix(&PREFACE).unwrap();
        let taken = FrameReader::default().handle_input(frames, 1_000, |frame| {
            if let Frame::Hello(hello) = frame {
                said = Some((hello.session, hello.token, hello.id.len()));
            }
            true
        });
        assert_eq!(taken, Ok(true));
        said.unwrap()
    }

    #[test]
    fn a_session_is_resumed_until_goodbye() {
        let mut peer = Peer::default();
        assert_eq!(hello(&mut peer), (0, [0; 16], 16));
        let heard = peer.handle_input(&welcome(5, false)).unwrap();
        let told = heard.welcome.unwrap();
        assert_eq!((told.resumed, told.durability_word()), (false, "synced"));
        assert_eq!(hello(&mut peer), (5, [7; 16], 16));
        peer.say_goodbye(&mut Vec::new());
        assert_eq!(hello(&mut peer), (0, [0; 16], 16));
    }

    #[test]
    fn what_is_heard_is_summed_up() {
        let mut bytes = Vec::new();
        for frame in [
            Frame::Receipt { committed: 3 },
            Frame::Refuse { number: 4, code: 2, text: "" },
            Frame::Receipt { committed: 9 },
            Frame::Beat(Beat::Question),
            Frame::Message { number: 2, payload: b"x" },
            Frame::Bye(Bye { code: 11, retry: 1, delay_ms: 0, committed: 9, text: "" }),
        ] {
            frame.encode(&mut bytes);
        }
        let mut peer = Peer::default();
        let (first, rest) = bytes.split_at(20);
        assert_eq!(peer.handle_input(first).unwrap(), Heard { settled: 3, ..Heard::default() });
        let expected =
            Heard { settled: 9, refused: 1, asks: true, message: 2, bye: Some(11), ..Heard::default() };
        assert_eq!(peer.handle_input(rest).unwrap(), expected);
        assert_eq!((word(11), word(9)), ("heartbeat timeout", "for a reason that is not known here"));
        assert_eq!(Peer::default().handle_input(&[0x7f, 0, 0, 0]), Err(FrameError::Unknown));
    }

    #[test]
    fn the_window_counts_messages_and_bytes() {
        let told = Peer::default().handle_input(&welcome(1, false)).unwrap().welcome.unwrap();
        assert_eq!([10, 200, 700, 1_000, 1_001].map(|size| told.messages(size)), [8, 5, 1, 1, 0]);
    }
}
