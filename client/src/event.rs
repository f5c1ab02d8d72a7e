//! What happens to a client and its messages, for observers. Must not know who observes.

use crate::ended::Closed;
use pulsegate_core::exchange::Window;
use pulsegate_core::frame::{Durability, LifetimeKind, Welcome};
use std::time::Duration;
use tokio::sync::broadcast;

/// Something that has happened. A message's `id` is that of [`Delivery::id`](crate::Delivery::id), its `number`
/// the one it has in the present session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The client is attached to a session.
    Connected(Connected),
    /// A connection has ended, or an attempt has failed.
    Disconnected(Closed),
    /// The client will reconnect.
    Reconnecting {
        /// After this time.
        after: Duration,
        /// How many attempts in a row have failed.
        failures: u32,
    },
    /// A notice (PROTOCOL.md section 8.1).
    Notice {
        /// 1 the connection will be ended, 2 the gateway is draining, 3 receipts have stopped, 4 they continue, 5
        /// nothing more is read from this client, since its session or address has used up its share of what is kept.
        code: u16,
        /// With 1 and 2, how long until then.
        within: Duration,
        /// A sentence for people.
        text: String,
    },
    /// A message is sent for the first time. There is no event when it is sent again.
    Sent {
        /// The message.
        id: u64,
        /// Its number.
        number: u64,
    },
    /// The gateway has committed a message.
    Committed {
        /// The message.
        id: u64,
        /// Its number.
        number: u64,
        /// What that means: with [`Durability::None`] it is in the gateway's memory only.
        durability: Durability,
    },
    /// The gateway has been told that its receipt for a message has arrived.
    Confirmed {
        /// The message.
        id: u64,
        /// Its number.
        number: u64,
    },
    /// The gateway has refused a message.
    Refused {
        /// The message.
        id: u64,
        /// Its number.
        number: u64,
        /// Why (PROTOCOL.md section 7.3).
        code: u16,
        /// A sentence for people.
        text: String,
    },
    /// A message is longer than the gateway takes, and was not sent.
    TooLarge {
        /// The message.
        id: u64,
        /// Its length, in bytes.
        bytes: usize,
        /// The most that the gateway takes, in bytes.
        bytes_max: usize,
    },
    /// The session is gone: a message may or may not have been committed.
    Unknown {
        /// The message.
        id: u64,
    },
    /// The gateway has lost messages of this client that it had acknowledged (PROTOCOL.md section 5.5).
    Lost {
        /// The number of the first one.
        first: u64,
        /// The number of the last one.
        last: u64,
    },
    /// This client has lost messages that it had acknowledged to the gateway (PROTOCOL.md section 5.5).
    Missed {
        /// The number of the first one.
        first: u64,
        /// The number of the last one.
        last: u64,
    },
    /// The file that the outbox is kept in can't be written, for this reason, and is tried again: until then nothing
    /// new is taken in, and nothing is lost.
    OutboxStuck(String),
    /// The file can be written again, and everything continues.
    OutboxWritten,
    /// This many events were dropped here, because earlier ones were not taken in time.
    Skipped(u64),
}

/// What the gateway has said when it let the client in (PROTOCOL.md section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The session's number.
    pub session: u64,
    /// The session is resumed; otherwise it is new.
    pub resumed: bool,
    /// Short or long.
    pub lifetime: LifetimeKind,
    /// What committed means.
    pub durability: Durability,
    /// How often the client has to send something; it does so by itself.
    pub beat_interval: Duration,
    /// After this much silence the gateway ends the connection.
    pub beat_timeout: Duration,
    /// Until the connection's planned end.
    pub remaining: Duration,
    /// How long the session is kept without a connection.
    pub session_ttl: Duration,
    /// How much may be in flight to the gateway.
    pub window: Window,
    /// The longest message that the gateway takes, in bytes.
    pub message_bytes_max: u32,
    /// The gateway's clock, since 1970-01-01 UTC.
    pub server_time: Duration,
}

impl From<&Welcome<'_>> for Connected {
    fn from(welcome: &Welcome<'_>) -> Self {
        let ms = |millis: u32| Duration::from_millis(millis.into());
        Self {
            session: welcome.session,
            resumed: welcome.resumed,
            lifetime: welcome.lifetime,
            durability: welcome.durability,
            beat_interval: ms(welcome.beat_interval_ms),
            beat_timeout: ms(welcome.beat_timeout_ms),
            remaining: ms(welcome.remaining_ms),
            session_ttl: ms(welcome.session_ttl_ms),
            window: welcome.window,
            message_bytes_max: welcome.message_bytes_max,
            server_time: Duration::from_millis(welcome.server_time_ms),
        }
    }
}

/// The events from the moment on at which they were asked for.
///
/// There is room for [`Options::events_max`](crate::Options) of them. A slow receiver loses the oldest, and is told so
/// by [`Event::Skipped`]; the client doesn't wait for it. What must not be missed is the outcome of a
/// [`Delivery`](crate::Delivery).
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
}

impl Events {
    /// The next event; `None` when the client has ended and all have been taken.
    pub async fn recv(&mut self) -> Option<Event> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(skipped)) => Some(Event::Skipped(skipped)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Where events come from. Ends all [`Events`] when it is dropped.
#[derive(Debug)]
pub(crate) struct EventSender {
    sender: broadcast::Sender<Event>,
}

/// Where watchers come in; it doesn't keep the events from ending.
#[derive(Clone, Debug)]
pub(crate) struct EventSource {
    sender: broadcast::WeakSender<Event>,
}

impl EventSender {
    pub(crate) fn new(events_max: usize) -> Self {
        Self { sender: broadcast::channel(events_max.max(1)).0 }
    }

    pub(crate) fn source(&self) -> EventSource {
        EventSource { sender: self.sender.downgrade() }
    }

    /// The event is made only if somebody watches.
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if self.sender.receiver_count() > 0 {
            // The last watcher may have gone just now.
            let _ = self.sender.send(event());
        }
    }
}

impl EventSource {
    /// The events from now on; none at all if the client has ended.
    pub(crate) fn watch(&self) -> Events {
        let receiver = self.sender.upgrade().map(|sender| sender.subscribe());
        let over = || broadcast::channel(1).1;
        Events { receiver: receiver.unwrap_or_else(over) }
    }
}
