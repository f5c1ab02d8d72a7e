//! The listeners of the simulated gateway, and what they promise and demand.

use crate::limits::{Bounds, Gauge, Limits};
use crate::shard::listener::{Delivery, Listener};
use pulsegate_core::exchange::Window;
use pulsegate_core::policy::{
    Framing, Heartbeat, LifetimePolicy, MinimumRate, Policy, Protocol, PulsePolicy,
};
use std::sync::Arc;
use std::time::Duration;

pub(super) const TIMEOUT: Duration = Duration::from_secs(2);
pub(super) const FIRST_MESSAGE: Duration = Duration::from_secs(3);
pub(super) const DEADLINE: Duration = Duration::from_secs(3);
pub(super) const SINK_STALL: Duration = Duration::from_secs(5);
pub(super) const WRITE_STALL: Duration = Duration::from_secs(2);
pub(super) const MAX_AGE: Duration = Duration::from_secs(9);

/// How many messages of one session may be under way.
pub(super) const WINDOW: u32 = 4;
/// The same in runs in which more are refused than may be.
pub(super) const WINDOW_WIDE: u32 = 100;

/// How long somebody is kept who can't be kept.
pub(super) const TURNED_AWAY: Duration = Duration::from_secs(1);

/// The settings of a listener.
pub(super) struct Rule {
    pub(super) policy: fn() -> Policy,
    pub(super) delivery: Delivery,
}

impl Rule {
    /// The listener as a shard knows it; `total` counts the connections of all. So many messages of one session may be
    /// under way.
    pub(super) fn listener(&self, total: &Arc<Gauge>, window_messages: u32) -> Listener {
        let bounds = Bounds {
            max_connections: None,
            max_newcomers: Some(5),
            max_per_address: Some(4),
            accept_rate: 50_000,
        };
        let limits = Limits::new("listener".into(), Arc::clone(total), bounds);
        let mut policy = (self.policy)();
        policy.pulse.window.messages = window_messages;
        let in_memory = (policy.protocol != Protocol::Raw).then_some(0);
        let ledger = if self.delivery == Delivery::Commit { Some(1) } else { in_memory };
        Listener::new(policy, limits, self.delivery, ledger)
    }
}

pub(super) const SHORT: usize = 1;
pub(super) const NAMED: usize = 2;
pub(super) const DEMANDING: usize = 4;
/// Where the pulse protocol is spoken too, by some.
pub(super) const AUTO: usize = 5;

/// The same, where the store on disk takes the messages.
pub(super) const STORED: usize = 6;

/// The same as where the pulse protocol is spoken, but for shorter messages; sessions may go from one to the other.
pub(super) const NARROW: usize = 7;

/// What a message may have there, in bytes.
pub(super) const NARROW_BYTES: usize = 300;

/// All of them: lines to the sink, the two above, an echo, one with everything switched on, and three for all.
pub(super) const RULES: [Rule; 8] = [
    Rule { policy: lines, delivery: Delivery::Lane(0) },
    Rule { policy: short, delivery: Delivery::Lane(0) },
    Rule { policy: named, delivery: Delivery::Discard },
    Rule { policy: echo, delivery: Delivery::Echo(b"") },
    Rule { policy: demanding, delivery: Delivery::Lane(0) },
    Rule { policy: auto, delivery: Delivery::Lane(0) },
    Rule { policy: stored, delivery: Delivery::Commit },
    Rule { policy: narrow, delivery: Delivery::Lane(0) },
];

fn lines() -> Policy {
    Policy {
        lifetime: LifetimePolicy::Long { heartbeat_timeout: TIMEOUT, max_age: MAX_AGE },
        first_message: FIRST_MESSAGE,
        framing: Framing::Lines,
        sink_stall: SINK_STALL,
        ..Policy::default()
    }
}

fn short() -> Policy {
    Policy { lifetime: LifetimePolicy::Short { deadline: DEADLINE }, ..lines() }
}

fn named() -> Policy {
    Policy { heartbeat: Heartbeat::Line(b"PING"[..].into()), ..lines() }
}

fn echo() -> Policy {
    Policy { framing: Framing::Chunks, output_bytes_max: 4096, write_stall: WRITE_STALL, ..lines() }
}

fn demanding() -> Policy {
    Policy {
        minimum_rate: Some(MinimumRate { bytes_per_second: 20, grace: Duration::from_secs(4) }),
        message_bytes_max: 200,
        reply: Some("ok {n}".into()),
        farewell: Some("bye {reason}".into()),
        output_bytes_max: 4096,
        write_stall: WRITE_STALL,
        ..lines()
    }
}

/// Since no sink hears of an end here, its reason is told to the clients.
fn stored() -> Policy {
    Policy { farewell: Some("bye {reason}".into()), ..auto() }
}

fn narrow() -> Policy {
    Policy { message_bytes_max: NARROW_BYTES, ..auto() }
}

fn auto() -> Policy {
    let window = Window { messages: WINDOW, bytes: 64 * 1024 };
    let pulse = PulsePolicy { window, ..PulsePolicy::default() };
    Policy { protocol: Protocol::Auto, pulse, ..lines() }
}
