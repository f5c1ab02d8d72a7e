//! A client and a gateway, and what each of them sees.

use crate::common;
use pulsegate_core::close::CloseReason;
use pulsegate_core::exchange::{Receiving, Sending, Window};
use pulsegate_core::frame::{Durability, Hello, LifetimeKind, PREFACE, Refusals, Welcome};
use pulsegate_core::pulse::{Pulse, PulseEvent};
use pulsegate_core::time::Instant;
use std::time::Duration;

pub(crate) const WINDOW: Window = Window { messages: 10, bytes: 2_000 };
pub(crate) const MESSAGE_BYTES_MAX: u32 = 1_500;

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An event, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Hello(u64),
    Welcome(bool),
    Message(u64, Vec<u8>),
    Settled(u64, u64),
    Refused(u64, u16),
    Confirmed(u64),
    Notice(u16),
    Bye(u16),
}

/// One end, with what it has seen.
pub(crate) struct End {
    pub(crate) pulse: Pulse<Vec<u8>>,
    seen: Vec<Seen>,
}

impl End {
    pub(crate) fn gateway() -> Self {
        Self { pulse: Pulse::gateway(WINDOW, MESSAGE_BYTES_MAX), seen: Vec::new() }
    }

    pub(crate) fn client(hello: &Hello<'_>, sending: Sending<Vec<u8>>, receiving: Receiving) -> Self {
        Self { pulse: Pulse::client(hello, sending, receiving), seen: Vec::new() }
    }

    pub(crate) fn receive(&mut self, now: Instant, bytes: &[u8]) -> Result<(), CloseReason> {
        let seen = &mut self.seen;
        self.pulse.handle_input(now, bytes, |event| {
            seen.extend(match event {
                PulseEvent::Hello(hello) => Some(Seen::Hello(hello.session)),
                PulseEvent::Welcome(welcome) => Some(Seen::Welcome(welcome.resumed)),
                PulseEvent::Message { number, payload } => Some(Seen::Message(number, payload.to_vec())),
                PulseEvent::Settled { first, last } => Some(Seen::Settled(first, last)),
                PulseEvent::Refused { number, code, .. } => Some(Seen::Refused(number, code)),
                PulseEvent::Confirmed { floor } => Some(Seen::Confirmed(floor)),
                PulseEvent::Notice { code, .. } => Some(Seen::Notice(code)),
                PulseEvent::Bye(bye) => Some(Seen::Bye(bye.code)),
                PulseEvent::Alive => None,
            });
        })
    }

    pub(crate) fn take_seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }
}

pub(crate) fn hello() -> Hello<'static> {
    Hello { window: WINDOW, message_bytes_max: MESSAGE_BYTES_MAX, ..common::hello() }
}

pub(crate) fn welcome(resumed: bool, committed: u64) -> Welcome<'static> {
    Welcome {
        resumed,
        lifetime: LifetimeKind::Long,
        durability: Durability::Synced,
        beat_interval_ms: 1_000,
        beat_timeout_ms: 3_000,
        remaining_ms: 86_400_000,
        session_ttl_ms: 3_600_000,
        window: WINDOW,
        message_bytes_max: MESSAGE_BYTES_MAX,
        server_time_ms: 0,
        session: 1,
        token: [1; 16],
        committed,
        acknowledged: 0,
        lost: (0, 0),
        refused: Refusals::default(),
    }
}

/// Both ends of one connection.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) client: End,
    pub(crate) gateway: End,
}

impl Pair {
    /// A connection on which the gateway has seen HELLO.
    pub(crate) fn opened(client: End) -> Self {
        let mut pair = Self { now: Instant::from_nanos(1), client, gateway: End::gateway() };
        let bytes = pair.client_output();
        assert_eq!(bytes[..PREFACE.len()], PREFACE);
        pair.gateway.receive(pair.now, &bytes[PREFACE.len()..]).expect("a lawful HELLO");
        pair
    }

    /// A connection of a new session.
    pub(crate) fn attached() -> Self {
        let mut pair = Self::opened(End::client(&hello(), Sending::new(WINDOW), Receiving::default()));
        assert_eq!(pair.gateway.take_seen(), [Seen::Hello(0)]);
        pair.welcome(false, Sending::new(WINDOW), Receiving::default());
        assert_eq!(pair.client.take_seen(), [Seen::Welcome(false)]);
        pair
    }

    /// The gateway lets the client in.
    pub(crate) fn welcome(&mut self, resumed: bool, sending: Sending<Vec<u8>>, receiving: Receiving) {
        let welcome = welcome(resumed, receiving.committed());
        self.gateway.pulse.welcome(&welcome, sending, receiving).expect("HELLO has come");
        self.deliver_to_client();
    }

    pub(crate) fn pass(&mut self, span: Duration) {
        self.now = self.now.after(span);
    }

    pub(crate) fn client_output(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.client.pulse.poll_transmit(self.now, usize::MAX, &mut bytes);
        bytes
    }

    pub(crate) fn gateway_output(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.gateway.pulse.poll_transmit(self.now, usize::MAX, &mut bytes);
        bytes
    }

    pub(crate) fn deliver_to_client(&mut self) {
        let bytes = self.gateway_output();
        self.client.receive(self.now, &bytes).expect("the gateway keeps the rules");
    }

    pub(crate) fn deliver_to_gateway(&mut self) {
        let bytes = self.client_output();
        self.gateway.receive(self.now, &bytes).expect("the client keeps the rules");
    }

    /// Bytes go to and fro until there are none.
    pub(crate) fn exchange(&mut self) {
        for _ in 0..4 {
            self.deliver_to_gateway();
            self.deliver_to_client();
        }
    }
}
