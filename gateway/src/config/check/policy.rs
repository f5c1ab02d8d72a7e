//! Which rules of a listener contradict each other.

use super::{Fault, Faults, ListenerConfig, Place};
use crate::text::duration;
use pulsegate_core::frame::MESSAGE_BYTES_MAX;
use pulsegate_core::policy::{Framing, Heartbeat, LifetimePolicy, Policy, Protocol};
use std::time::Duration;

impl ListenerConfig {
    pub(super) fn check_policy(&self, place: Place, faults: &mut Faults) {
        let policy = &self.policy;
        let mut refuse = |key, problem: &str, fix: &str| faults.push(Fault::new(place, key, problem, fix));
        for (key, span, bound_key, bound) in spans(policy) {
            if span > bound {
                let (span, bound) = (duration(span), duration(bound));
                refuse(
                    key,
                    &format!("{span} is longer than `{bound_key}`, {bound}"),
                    &format!("lower it to {bound} or less, or raise `{bound_key}`"),
                );
            }
        }
        if let Heartbeat::Line(line) = &policy.heartbeat {
            let is_line = !line.is_empty() && !line.iter().any(|byte| b"\r\n".contains(byte));
            if policy.framing != Framing::Lines {
                let problem = "a named heartbeat is a line, but the framing is chunks";
                refuse("heartbeat", problem, "set `framing` to lines");
            } else if !is_line || line.len() > policy.message_bytes_max {
                let problem = "it has to be a line of at least one byte, no longer than `message_bytes_max`";
                refuse("heartbeat", problem, "name a short word such as PING");
            }
        }
        if policy.protocol == Protocol::Raw {
            return;
        }
        if policy.message_bytes_max > MESSAGE_BYTES_MAX as usize {
            let problem = "the pulse protocol carries at most 16MB in a message";
            refuse("message_bytes_max", problem, "lower it to 16MB or less, or set `protocol` to raw");
        } else if (policy.pulse.window.bytes as usize) < policy.message_bytes_max {
            let problem = "the window has to hold at least one of the longest messages";
            refuse("window_bytes_max", problem, "raise it to `message_bytes_max` or more");
        }
    }
}

/// Which durations must not be longer than which others: the key and its value, the other key and its value.
fn spans(policy: &Policy) -> Vec<(&'static str, Duration, &'static str, Duration)> {
    let first = policy.first_message;
    match policy.lifetime {
        LifetimePolicy::Short { deadline } => vec![("first_message_timeout", first, "deadline", deadline)],
        LifetimePolicy::Long { heartbeat_timeout: timeout, max_age } => {
            let mut spans = vec![
                ("heartbeat_timeout", timeout, "age_max", max_age),
                ("first_message_timeout", first, "age_max", max_age),
            ];
            let longest = policy.pulse.heartbeat_timeout_max;
            if let Some(longest) = longest.filter(|_| policy.protocol != Protocol::Raw) {
                spans.push(("heartbeat_timeout", timeout, "heartbeat_timeout_max", longest));
                spans.push(("heartbeat_timeout_max", longest, "age_max", max_age));
            }
            spans
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Policy)) -> Vec<&'static str> {
        let mut listener = ListenerConfig::default();
        change(&mut listener.policy);
        let mut faults = Faults::default();
        listener.check_policy(Place::Listener(0), &mut faults);
        faults.0.into_iter().map(|fault| fault.key).collect()
    }

    #[test]
    fn all_contradictions_are_named_at_once() {
        let seconds = Duration::from_secs;
        let long = |heartbeat_timeout, max_age| LifetimePolicy::Long {
            heartbeat_timeout: seconds(heartbeat_timeout),
            max_age: seconds(max_age),
        };
        assert_eq!(refused(|_| ()), [""; 0]);
        assert_eq!(refused(|policy| policy.lifetime = long(60, 30)), ["heartbeat_timeout"]);
        assert_eq!(refused(|policy| policy.lifetime = long(5, 8)), ["first_message_timeout"]);
        assert_eq!(
            refused(|policy| policy.lifetime = long(9, 8)),
            ["heartbeat_timeout", "first_message_timeout"]
        );
        let deadline = seconds(1);
        assert_eq!(
            refused(|policy| policy.lifetime = LifetimePolicy::Short { deadline }),
            ["first_message_timeout"]
        );
        let longest = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(refused(|policy| policy.pulse.heartbeat_timeout_max = longest(1)), ["heartbeat_timeout"]);
        assert_eq!(
            refused(|policy| policy.pulse.heartbeat_timeout_max = longest(25 * 3600)),
            ["heartbeat_timeout_max"]
        );
    }

    #[test]
    fn a_message_fits_into_a_frame_and_into_the_window() {
        assert_eq!(refused(|policy| policy.message_bytes_max = 20_000_000), ["message_bytes_max"]);
        assert_eq!(refused(|policy| policy.pulse.window.bytes = 1024), ["window_bytes_max"]);
        assert_eq!(
            refused(|policy| {
                policy.protocol = Protocol::Raw;
                policy.message_bytes_max = 20_000_000;
            }),
            [""; 0]
        );
    }

    #[test]
    fn a_heartbeat_is_a_line() {
        let line = |line: &'static [u8]| Heartbeat::Line(line.into());
        let lines = |policy: &mut Policy, heartbeat| {
            policy.framing = Framing::Lines;
            policy.message_bytes_max = 8;
            policy.heartbeat = heartbeat;
        };
        assert_eq!(refused(|policy| policy.heartbeat = line(b"PING")), ["heartbeat"]);
        assert_eq!(refused(|policy| lines(policy, line(b"PING"))), [""; 0]);
        for wrong in [&b""[..], b"two\nlines", b"123456789"] {
            assert_eq!(refused(|policy| lines(policy, line(wrong))), ["heartbeat"]);
        }
    }
}
