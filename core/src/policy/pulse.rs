//! The rules of a listener at which the pulse protocol is spoken.

use super::{LifetimePolicy, Policy};
use crate::exchange::Window;
use std::time::Duration;

/// What is spoken at a listener. The default is for rules made by hand; where it isn't said, a gateway's listeners are
/// [`Auto`](Self::Auto).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Bytes, in chunks or lines.
    #[default]
    Raw,
    /// The pulse protocol (PROTOCOL.md).
    Pulse,
    /// Pulse for those who begin with its preface, raw for all others.
    Auto,
}

/// What happens when a client comes a second time while it has a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SecondConnection {
    /// A client id may have any number of sessions; a session that is resumed elsewhere replaces its connection.
    #[default]
    Allow,
    /// A client id has one connection: resuming its session replaces that, anything else is refused.
    Replace,
    /// A client id has one connection, and who comes second is refused.
    Refuse,
}

/// What a listener promises and demands where the pulse protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PulsePolicy {
    /// How much one client may have in flight to the gateway.
    pub window: Window,
    /// The longest heartbeat timeout that a client may ask for; `None`: that of the listener.
    pub heartbeat_timeout_max: Option<Duration>,
    /// How long a session is kept without a connection.
    pub session_ttl: Duration,
    /// What happens when the same client comes a second time.
    pub second_connection: SecondConnection,
}

impl Default for PulsePolicy {
    fn default() -> Self {
        Self {
            window: Window { messages: 256, bytes: 256 * 1024 },
            heartbeat_timeout_max: None,
            session_ttl: Duration::from_secs(3600),
            second_connection: SecondConnection::default(),
        }
    }
}

/// How often a client has to be heard, as it is told in WELCOME (PROTOCOL.md section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beats {
    /// How often it has to send something.
    pub interval: Duration,
    /// After so much silence the connection is ended.
    pub timeout: Duration,
}

/// Intervals in a heartbeat timeout: one may be lost and one late before anybody is asked.
const BEATS_IN_TIMEOUT: u32 = 3;
/// No client can ask for a shorter heartbeat timeout than this, unless its listener's is shorter.
const BEAT_TIMEOUT_MIN: Duration = Duration::from_secs(1);

impl Policy {
    /// The heartbeats of a client that wishes for an interval between `min` and `max`; a `max` of zero is no
    /// wish. The client's wish is followed as far as this listener allows.
    #[must_use]
    pub fn beats(&self, min: Duration, max: Duration) -> Beats {
        let LifetimePolicy::Long { heartbeat_timeout, .. } = self.lifetime else {
            // Nothing that is sent moves a short connection's deadline.
            return Beats { interval: self.age_max(), timeout: self.age_max() };
        };
        let own = heartbeat_timeout / BEATS_IN_TIMEOUT;
        let wished = if max.is_zero() { own } else { own.clamp(min.min(max), max) };
        let longest = self.pulse.heartbeat_timeout_max.unwrap_or(heartbeat_timeout);
        let shortest = BEAT_TIMEOUT_MIN.min(heartbeat_timeout).max(Duration::from_millis(1));
        // The listener's own timeout is not what is left of it after a division.
        let asked = if wished == own { heartbeat_timeout } else { wished.saturating_mul(BEATS_IN_TIMEOUT) };
        let timeout = asked.min(longest).max(shortest);
        // The interval that was wished for, where it fits.
        let interval = wished.min(timeout / BEATS_IN_TIMEOUT).max(Duration::from_millis(1));
        Beats { interval, timeout }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_the_heartbeats_that_it_asks_for_within_the_rules() {
        let seconds = Duration::from_secs;
        let lifetime = LifetimePolicy::Long { heartbeat_timeout: seconds(30), max_age: seconds(3600) };
        let mut policy = Policy { lifetime, ..Policy::default() };
        let check = |policy: &Policy, wish: (u64, u64), granted: (u64, u64)| {
            let beats = policy.beats(seconds(wish.0), seconds(wish.1));
            assert_eq!((beats.interval, beats.timeout), (seconds(granted.0), seconds(granted.1)), "{wish:?}");
        };
        check(&policy, (0, 0), (10, 30));
        policy.lifetime = LifetimePolicy::Long { heartbeat_timeout: seconds(5), max_age: seconds(3600) };
        assert_eq!(policy.beats(Duration::ZERO, Duration::ZERO).timeout, seconds(5), "to the millisecond");
        policy.lifetime = lifetime;
        check(&policy, (1, 60), (10, 30));
        check(&policy, (1, 5), (5, 15));
        check(&policy, (60, 90), (10, 30));
        policy.pulse.heartbeat_timeout_max = Some(seconds(300));
        check(&policy, (60, 90), (60, 180));
        check(&policy, (600, 900), (100, 300));
        let beats = policy.beats(Duration::ZERO, Duration::from_millis(1));
        assert_eq!(beats, Beats { interval: Duration::from_millis(1), timeout: seconds(1) });
        policy.lifetime = LifetimePolicy::Short { deadline: seconds(7) };
        check(&policy, (1, 2), (7, 7));
    }
}
