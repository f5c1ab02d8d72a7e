//! What a shard knows of a listener: its rules, its limits, and where the messages of its clients go.

use crate::limits::Limits;
use crate::peer::Peer;
use crate::shard::layer::MakeLayer;
use crate::shard::outlets::Outlet;
use crate::shard::pipe::Pipe;
use pulsegate_core::connection::reply_bytes_max;
use pulsegate_core::policy::{Framing, Policy, Protocol};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// One listener, as all shards share it.
#[derive(Debug)]
pub struct Listener {
    pub(crate) policy: Policy,
    pub(crate) limits: Limits,
    /// Where the messages of raw clients go.
    pub(crate) raw: Outlet,
    /// Where those of the pulse protocol go, if it is served.
    pub(crate) pulse: Outlet,
    /// What stands between its connections and their sockets, if anything does.
    pub(crate) layers: Option<Box<dyn MakeLayer>>,
    /// What a message of a raw client is answered by.
    answer: Answer,
    /// It was said that a client of the pulse protocol has come here, though only raw ones are served.
    met_pulse: AtomicBool,
}

/// By how much the messages of a raw client are answered.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// By nothing.
    Nothing,
    /// By themselves, and perhaps by a reply to each.
    Echo(Option<Replies>),
    /// By a reply to each.
    Replies(Replies),
}

/// The replies to messages.
#[derive(Clone, Copy, Debug)]
struct Replies {
    reply_bytes_max: usize,
    message_bytes_min: usize,
}

/// What becomes of a message at a listener, as its settings say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is counted and forgotten.
    Discard,
    /// It goes back to its sender, with this line end.
    Echo(&'static [u8]),
    /// It goes to the sink with this place in the shard's lanes.
    Lane(usize),
    /// It goes to what commits it, and no further.
    Commit,
}

impl Listener {
    /// A listener whose clients' sessions are kept by this ledger, if they are.
    pub fn new(policy: Policy, limits: Limits, delivery: Delivery, ledger: Option<usize>) -> Self {
        let (raw, pulse) = outlets(delivery, ledger);
        let answer = Answer::new(&policy, &raw);
        Self { policy, limits, raw, pulse, layers: None, answer, met_pulse: AtomicBool::default() }
    }

    /// The same, with layers between its connections and their sockets.
    #[must_use]
    pub fn with_layers(self, layers: Box<dyn MakeLayer>) -> Self {
        Self { layers: Some(layers), ..self }
    }

    /// The way between a new connection and its socket.
    pub(crate) fn pipe(&self) -> Pipe {
        Pipe::new(self.layers.as_ref().map(|layers| layers.layer()))
    }

    /// The sink that is told of its connections, by its place among the shard's lanes.
    pub(crate) const fn lane(&self) -> Option<usize> {
        match self.raw {
            Outlet::Lane(lane) => Some(lane),
            Outlet::Discard | Outlet::Echo(_) | Outlet::Ledger { .. } => None,
        }
    }

    /// The outlet without which newcomers are refused. A client that turns out to be raw may not need the sessions at
    /// all.
    #[inline]
    pub(crate) const fn of_newcomers(&self) -> &Outlet {
        match self.policy.protocol {
            Protocol::Pulse => &self.pulse,
            Protocol::Raw | Protocol::Auto => &self.raw,
        }
    }

    /// How much may be read of a raw connection so that what it is answered stays within its output limit, but for the
    /// last answer, if so much waits already.
    #[inline]
    pub(crate) fn answerable(&self, waiting: usize) -> usize {
        let free = self.policy.output_bytes_max.saturating_sub(waiting);
        match self.answer {
            Answer::Nothing => usize::MAX,
            Answer::Echo(None) => free,
            Answer::Echo(Some(replies)) => replies.answerable(free).min(free),
            Answer::Replies(replies) => replies.answerable(free),
        }
    }

    /// A client of the pulse protocol has come, though only raw ones are served. Said once: they come back.
    pub(crate) fn handle_lost_client(&self, peer: Peer) {
        if !self.met_pulse.swap(true, Relaxed) {
            tracing::warn!(
                listener = %self.limits.name(),
                peer = %peer.address(),
                "a client of the pulse protocol is ended at a listener for raw clients; set the listener's protocol to auto \
                 if it is to serve both"
            );
        }
    }
}

impl Answer {
    fn new(policy: &Policy, raw: &Outlet) -> Self {
        let message_bytes_min = match policy.framing {
            Framing::Chunks => policy.message_bytes_max,
            Framing::Lines => 1,
        };
        let replies = |reply| Replies { reply_bytes_max: reply_bytes_max(reply), message_bytes_min };
        match (raw, policy.reply.as_deref().map(replies)) {
            (Outlet::Echo(_), replies) => Self::Echo(replies),
            (Outlet::Discard | Outlet::Lane(_) | Outlet::Ledger { .. }, Some(replies)) => {
                Self::Replies(replies)
            }
            (Outlet::Discard | Outlet::Lane(_) | Outlet::Ledger { .. }, None) => Self::Nothing,
        }
    }
}

impl Replies {
    /// How many bytes of messages may be read so that the replies to them have room in so many.
    fn answerable(self, free: usize) -> usize {
        (free / self.reply_bytes_max).max(1).saturating_mul(self.message_bytes_min)
    }
}

/// Where the messages go of raw clients, and of those of the pulse protocol: these take the way by a ledger, wherever
/// they go.
pub(crate) const fn outlets(delivery: Delivery, ledger: Option<usize>) -> (Outlet, Outlet) {
    let (raw, lane, forwards) = match delivery {
        Delivery::Discard => (Outlet::Discard, None, false),
        Delivery::Echo(line_end) => (Outlet::Echo(line_end), None, true),
        Delivery::Lane(lane) => (Outlet::Lane(lane), Some(lane), true),
        Delivery::Commit => (Outlet::Discard, None, false),
    };
    let Some(ledger) = ledger else { return (raw, raw) };
    let pulse = Outlet::Ledger { ledger, lane, forwards };
    (if matches!(delivery, Delivery::Commit) { pulse } else { raw }, pulse)
}
