//! A client of the pulse protocol over a blocking socket, made of the same code as everything else: for tests of
//! the gateway. Must not know what is tested.

use super::{PATIENCE, millis};
use pulsegate_core::exchange::{Receiving, Sending, Window};
use pulsegate_core::frame::{Beat, Hello, LifetimeKind, PREFACE, Refusals};
use pulsegate_core::pulse::{Pulse, PulseEvent};
use pulsegate_core::time::Instant;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) const WINDOW: Window = Window { messages: 64, bytes: 64 * 1024 };

/// What a client has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Welcome(Welcomed),
    Message(u64, Vec<u8>),
    Settled(u64, u64),
    Refused(u64, u16),
    Notice { code: u16, in_ms: u32 },
    Bye { code: u16, retry: u8, delay_ms: u32, committed: u64, text: String },
    End,
}

/// What of a WELCOME tests look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Welcomed {
    pub(crate) resumed: bool,
    pub(crate) durability: u8,
    pub(crate) interval_ms: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) remaining_ms: u32,
    pub(crate) session: u64,
    pub(crate) token: [u8; 16],
    pub(crate) committed: u64,
    pub(crate) acknowledged: u64,
}

/// A client's HELLO, to be changed by a test.
pub(crate) const fn hello(id: &str) -> Hello<'_> {
    Hello {
        lifetime: LifetimeKind::Any,
        beat_min_ms: 0,
        beat_max_ms: 0,
        window: WINDOW,
        message_bytes_max: 64 * 1024,
        session: 0,
        token: [0; 16],
        committed: 0,
        acknowledged: 0,
        id,
        refused: Refusals::EMPTY,
    }
}

/// A connected client.
pub(crate) struct PulseClient {
    stream: TcpStream,
    pub(crate) pulse: Pulse<Vec<u8>>,
    origin: std::time::Instant,
    pub(crate) seen: Vec<Seen>,
    /// Commits each message as it comes.
    pub(crate) commits: bool,
}

impl PulseClient {
    /// Connects and says HELLO, for a session that begins.
    pub(crate) fn connect(address: SocketAddr, id: &str) -> Self {
        Self::connect_with(address, &hello(id), Sending::new(WINDOW), Receiving::default())
    }

    /// Connects and says this HELLO.
    pub(crate) fn connect_with(
        address: SocketAddr,
        hello: &Hello<'_>,
        sending: Sending<Vec<u8>>,
        receiving: Receiving,
    ) -> Self {
        Self::greet(TcpStream::connect(address).unwrap(), hello, sending, receiving)
    }

    /// Connects from this address and says HELLO, for a session that begins.
    pub(crate) fn connect_from(source: [u8; 4], address: SocketAddr, id: &str) -> Self {
        let stream = super::connect_from(source, address);
        Self::greet(stream, &hello(id), Sending::new(WINDOW), Receiving::default())
    }

    /// Connects from this address and is welcomed.
    pub(crate) fn attached_from(source: [u8; 4], address: SocketAddr, id: &str) -> (Self, Welcomed) {
        let mut client = Self::connect_from(source, address, id);
        let welcomed = client.welcomed();
        (client, welcomed)
    }

    fn greet(stream: TcpStream, hello: &Hello<'_>, sending: Sending<Vec<u8>>, receiving: Receiving) -> Self {
        stream.set_nodelay(true).unwrap();
        let pulse = Pulse::client(hello, sending, receiving);
        let origin = std::time::Instant::now();
        let mut client = Self { stream, pulse, origin, seen: Vec::new(), commits: true };
        client.flush();
        client
    }

    /// Connects and is welcomed.
    pub(crate) fn attached(address: SocketAddr, id: &str) -> (Self, Welcomed) {
        let mut client = Self::connect(address, id);
        let welcomed = client.welcomed();
        (client, welcomed)
    }

    /// Comes back with what it has left, after its connection is gone.
    pub(crate) fn resume(self, address: SocketAddr, id: &str, session: u64, token: [u8; 16]) -> Self {
        let (sending, receiving) = self.pulse.into_halves();
        let (committed, acknowledged) = (receiving.committed(), sending.settled());
        let hello = Hello { session, token, committed, acknowledged, ..hello(id) };
        Self::connect_with(address, &hello, sending, receiving)
    }

    /// Gives a message its number and sends it as far as the window allows.
    pub(crate) fn send(&mut self, payload: &[u8]) -> u64 {
        let number = self.pulse.push(payload.to_vec());
        self.flush();
        number
    }

    /// Sends a heartbeat.
    pub(crate) fn beat(&mut self) {
        self.pulse.beat(Beat::Beat);
        self.flush();
    }

    /// Says goodbye and ends its side.
    pub(crate) fn leave(&mut self, code: u16) {
        let mut out = Vec::new();
        self.pulse.poll_transmit(self.now().after(PATIENCE), usize::MAX, &mut out);
        self.pulse.bye(code, 0, 0, "", &mut out);
        self.stream.write_all(&out).unwrap();
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        // A gateway that has had enough may have closed already: what it said is still to be read.
        let _ = self.stream.write_all(bytes);
    }

    /// The WELCOME, once it comes.
    #[track_caller]
    pub(crate) fn welcomed(&mut self) -> Welcomed {
        let Seen::Welcome(welcomed) = self.wait_for(|seen| matches!(seen, Seen::Welcome(_))) else {
            panic!("no WELCOME is one");
        };
        welcomed
    }

    /// Waits until everything up to `number` is settled.
    #[track_caller]
    pub(crate) fn settled(&mut self, number: u64) {
        self.wait_for(|seen| matches!(seen, Seen::Settled(_, last) if *last >= number));
    }

    /// The code of the BYE, once it comes.
    #[track_caller]
    pub(crate) fn bye(&mut self) -> u16 {
        let Seen::Bye { code, .. } = self.wait_for(|seen| matches!(seen, Seen::Bye { .. })) else {
            panic!("no BYE is one");
        };
        code
    }

    /// Reads until something like this was seen, now or before.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, is_it: impl Fn(&Seen) -> bool) -> Seen {
        let limit = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = self.seen.iter().find(|seen| is_it(seen)) {
                return seen.clone();
            }
            assert!(std::time::Instant::now() < limit, "this never came; seen: {:?}", self.seen);
            assert!(!self.seen.contains(&Seen::End), "the connection ended before; seen: {:?}", self.seen);
            self.pump(millis(50));
        }
    }

    /// Reads until the connection ends.
    #[track_caller]
    pub(crate) fn wait_for_end(&mut self) {
        self.wait_for(|seen| *seen == Seen::End);
    }

    /// Reads what comes within `span`, and answers it.
    pub(crate) fn pump(&mut self, span: Duration) {
        self.stream.set_read_timeout(Some(span)).unwrap();
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.seen.push(Seen::End),
            Ok(count) => self.receive(&buffer[..count]),
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
            Err(_) => self.seen.push(Seen::End),
        }
        self.flush();
    }

    fn receive(&mut self, bytes: &[u8]) {
        let now = self.now();
        let before = self.seen.len();
        let Self { pulse, seen, .. } = self;
        let outcome = pulse.handle_input(now, bytes, |event| seen.extend(kept(event)));
        assert_eq!(outcome, Ok(()), "the gateway breaks a rule");
        for seen in &self.seen[before..] {
            if let (Seen::Message(number, _), true) = (seen, self.commits) {
                self.pulse.commit(*number);
            }
        }
    }

    fn flush(&mut self) {
        let mut out = Vec::new();
        self.pulse.poll_transmit(self.now(), usize::MAX, &mut out);
        let _ = self.stream.write_all(&out);
    }

    fn now(&self) -> Instant {
        Instant::ORIGIN.after(self.origin.elapsed())
    }
}

fn kept(event: PulseEvent<'_>) -> Option<Seen> {
    Some(match event {
        PulseEvent::Welcome(welcome) => Seen::Welcome(Welcomed {
            resumed: welcome.resumed,
            durability: welcome.durability.code(),
            interval_ms: welcome.beat_interval_ms,
            timeout_ms: welcome.beat_timeout_ms,
            remaining_ms: welcome.remaining_ms,
            session: welcome.session,
            token: welcome.token,
            committed: welcome.committed,
            acknowledged: welcome.acknowledged,
        }),
        PulseEvent::Message { number, payload } => Seen::Message(number, payload.to_vec()),
        PulseEvent::Settled { first, last } => Seen::Settled(first, last),
        PulseEvent::Refused { number, code, .. } => Seen::Refused(number, code),
        PulseEvent::Notice { code, in_ms, .. } => Seen::Notice { code, in_ms },
        PulseEvent::Bye(bye) => Seen::Bye {
            code: bye.code,
            retry: bye.retry,
            delay_ms: bye.delay_ms,
            committed: bye.committed,
            text: bye.text.to_owned(),
        },
        PulseEvent::Hello(_) | PulseEvent::Confirmed { .. } | PulseEvent::Alive => return None,
    })
}

/// Sends bytes behind the preface, and returns the BYE that comes.
pub(crate) fn answer_to(address: SocketAddr, bytes: &[u8], then_end: bool) -> Option<Seen> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    if then_end {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    bye_to(&mut stream)
}

/// Everything that is said up to the end, of which the BYE is returned.
pub(crate) fn bye_to(stream: &mut TcpStream) -> Option<Seen> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let mut client = Pulse::<Vec<u8>>::client(&hello("nobody"), Sending::new(WINDOW), Receiving::default());
    let mut seen = Vec::new();
    client.handle_input(Instant::ORIGIN, &answer, |event| seen.extend(kept(event))).unwrap();
    seen.into_iter().find(|seen| matches!(seen, Seen::Bye { .. }))
}

/// The preface and these bytes.
pub(crate) fn behind_preface(bytes: &[u8]) -> Vec<u8> {
    [&PREFACE, bytes].concat()
}
