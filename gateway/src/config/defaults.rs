//! Defaults that follow from another setting, the same for files and flags. Knows neither.

use pulsegate_core::policy::{LifetimePolicy, Policy, Protocol};
use std::time::Duration;

/// What is spoken at a listener that doesn't say it: so any client is served by any listener, whatever it speaks.
pub const PROTOCOL: Protocol = Protocol::Auto;

/// A long lifetime of which only a part may have been stated. The default heartbeat timeout never exceeds
/// the maximum age.
#[must_use]
pub fn long(heartbeat_timeout: Option<Duration>, max_age: Option<Duration>) -> LifetimePolicy {
    let (timeout_default, age_default) = match Policy::default().lifetime {
        LifetimePolicy::Long { heartbeat_timeout, max_age } => (heartbeat_timeout, max_age),
        LifetimePolicy::Short { deadline } => (deadline, deadline),
    };
    let max_age = max_age.unwrap_or(age_default);
    LifetimePolicy::Long {
        heartbeat_timeout: heartbeat_timeout.unwrap_or_else(|| timeout_default.min(max_age)),
        max_age,
    }
}

/// Lets what is not stated give way to what is: no default is longer than what bounds it, and the default window holds one of
/// the longest messages.
pub fn give_way(policy: &mut Policy, is_stated: impl Fn(&str) -> bool) {
    let age = policy.age_max();
    if let LifetimePolicy::Long { heartbeat_timeout, .. } = &mut policy.lifetime
        && !is_stated("heartbeat_timeout")
    {
        *heartbeat_timeout = (*heartbeat_timeout).min(age);
    }
    if !is_stated("first_message_timeout") {
        policy.first_message = policy.first_message.min(age);
    }
    if !is_stated("window_bytes_max") {
        let longest = u32::try_from(policy.message_bytes_max).unwrap_or(u32::MAX);
        policy.pulse.window.bytes = policy.pulse.window.bytes.max(longest);
    }
}

/// The default policy of a listener with this lifetime. Its deadline for the first message never exceeds the lifetime.
#[must_use]
pub fn policy(lifetime: LifetimePolicy) -> Policy {
    let mut policy = Policy { protocol: PROTOCOL, lifetime, ..Policy::default() };
    policy.first_message = policy.first_message.min(policy.age_max());
    policy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stated_is_the_default_policy() {
        assert_eq!(policy(long(None, None)), Policy { protocol: PROTOCOL, ..Policy::default() });
    }

    #[test]
    fn what_is_not_stated_gives_way_to_what_is() {
        let seconds = Duration::from_secs;
        let brief = policy(long(None, Some(seconds(2))));
        let lifetime = LifetimePolicy::Long { heartbeat_timeout: seconds(2), max_age: seconds(2) };
        assert_eq!((brief.lifetime, brief.first_message), (lifetime, seconds(2)));
        let short = policy(LifetimePolicy::Short { deadline: seconds(3) });
        assert_eq!(short.first_message, seconds(3));
        let patient = policy(LifetimePolicy::Short { deadline: seconds(60) });
        assert_eq!(patient.first_message, seconds(10));
    }
}
