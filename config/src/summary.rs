//! A listener in one plain sentence: where it listens, what it is called, and by which rules. For the command line and the log.

use pulsegate::ListenerConfig;
use pulsegate::text::duration;
use pulsegate_core::policy::{Framing, Heartbeat, LifetimePolicy, Policy, Protocol};
use std::fmt;

/// What is spoken.
fn spoken(policy: &Policy) -> &'static str {
    match policy.protocol {
        Protocol::Raw => "raw",
        Protocol::Pulse => "pulse",
        Protocol::Auto => "raw or pulse",
    }
}

/// What goes to the sink.
fn delivered(policy: &Policy) -> &'static str {
    match (policy.protocol, policy.framing) {
        (Protocol::Raw, Framing::Chunks) => "chunks",
        (Protocol::Raw, Framing::Lines) => "lines",
        (Protocol::Pulse, _) => "messages",
        (Protocol::Auto, Framing::Chunks) => "raw chunks and pulse messages",
        (Protocol::Auto, Framing::Lines) => "raw lines and pulse messages",
    }
}

/// What proves a peer alive.
fn heartbeat(policy: &Policy, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match (policy.protocol, &policy.heartbeat) {
        (Protocol::Pulse, _) => write!(f, ", any frame is a heartbeat"),
        (Protocol::Raw | Protocol::Auto, Heartbeat::Any) => write!(f, ", any bytes are a heartbeat"),
        (Protocol::Raw, Heartbeat::Line(line)) => {
            write!(f, ", only the line {:?} is a heartbeat", String::from_utf8_lossy(line))
        }
        (Protocol::Auto, Heartbeat::Line(line)) => {
            let line = String::from_utf8_lossy(line);
            write!(f, ", only the line {line:?} or a pulse frame is a heartbeat")
        }
    }
}

/// Where it listens, and its name if it has one.
struct Place<'a>(&'a ListenerConfig);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(listener) = self;
        write!(f, "{}", listener.listen)?;
        listener.name.as_ref().map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

/// Shows where a listener listens and by which rules; limits and lines are named where they are set.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a>(pub &'a ListenerConfig);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(listener) = self;
        let policy = &listener.policy;
        let spoken = spoken(policy);
        let first_message = duration(policy.first_message);
        match policy.lifetime {
            LifetimePolicy::Short { deadline } => {
                let deadline = duration(deadline);
                write!(
                    f,
                    "{} short, {spoken}: first message within {first_message}, closed after {deadline}",
                    Place(listener)
                )?;
            }
            LifetimePolicy::Long { heartbeat_timeout, max_age } => {
                let (timeout, age) = (duration(heartbeat_timeout), duration(max_age));
                write!(
                    f,
                    "{} long, {spoken}: first message within {first_message}, heartbeat timeout {timeout}",
                    Place(listener)
                )?;
                if let Some(longest) = policy.pulse.heartbeat_timeout_max {
                    write!(f, ", up to {} on request", duration(longest))?;
                }
                write!(f, ", maximum age {age}")?;
                heartbeat(policy, f)?;
            }
        }
        if let Some(rate) = policy.minimum_rate {
            let grace = duration(rate.grace);
            write!(f, ", at least {} bytes per second with a grace of {grace}", rate.bytes_per_second)?;
        }
        write!(f, ", {} to {}", delivered(policy), listener.sink)?;
        for (count, of) in [
            (listener.max_connections, "connections"),
            (listener.max_per_address, "per address"),
            (listener.max_newcomers, "newcomers"),
        ] {
            if let Some(count) = count {
                write!(f, ", at most {count} {of}")?;
            }
        }
        for (line, name) in [(&policy.reply, "reply"), (&policy.farewell, "farewell")] {
            if let Some(line) = line {
                write!(f, ", {name} {line:?}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulsegate_core::policy::MinimumRate;
    use std::time::Duration;

    #[track_caller]
    fn check(change: impl FnOnce(&mut ListenerConfig), said: &str) {
        let mut listener = ListenerConfig::default();
        change(&mut listener);
        assert_eq!(Summary(&listener).to_string(), said);
    }

    #[test]
    fn the_default_in_a_sentence() {
        check(
            |_| (),
            "127.0.0.1:7373 long, raw or pulse: first message within 10s, heartbeat timeout 5s, maximum age 24h, \
             any bytes are a heartbeat, raw chunks and pulse messages to print",
        );
    }

    #[test]
    fn a_short_listener_in_a_sentence() {
        check(
            |listener| {
                listener.policy.protocol = Protocol::Raw;
                listener.policy.lifetime = LifetimePolicy::Short { deadline: Duration::from_secs(90) };
                listener.policy.framing = Framing::Lines;
                listener.sink = "echo".to_owned();
                listener.name = Some("visitors".to_owned());
            },
            "127.0.0.1:7373 (visitors) short, raw: first message within 10s, closed after 1m 30s, lines to echo",
        );
    }

    #[test]
    fn what_is_spoken_in_a_sentence() {
        let long_wish = Some(Duration::from_secs(300));
        check(
            |listener| {
                listener.policy.protocol = Protocol::Pulse;
                listener.policy.pulse.heartbeat_timeout_max = long_wish;
            },
            "127.0.0.1:7373 long, pulse: first message within 10s, heartbeat timeout 5s, up to 5m on request, \
             maximum age 24h, any frame is a heartbeat, messages to print",
        );
        check(
            |listener| listener.policy.protocol = Protocol::Auto,
            "127.0.0.1:7373 long, raw or pulse: first message within 10s, heartbeat timeout 5s, \
             maximum age 24h, any bytes are a heartbeat, raw chunks and pulse messages to print",
        );
        check(
            |listener| {
                listener.policy.protocol = Protocol::Auto;
                listener.policy.framing = Framing::Lines;
                listener.policy.heartbeat = Heartbeat::Line(b"PING"[..].into());
            },
            "127.0.0.1:7373 long, raw or pulse: first message within 10s, heartbeat timeout 5s, \
             maximum age 24h, only the line \"PING\" or a pulse frame is a heartbeat, \
             raw lines and pulse messages to print",
        );
    }

    #[test]
    fn what_is_off_by_default_is_named_when_it_is_on() {
        check(
            |listener| {
                listener.policy.protocol = Protocol::Raw;
                listener.policy.heartbeat = Heartbeat::Line(b"PING"[..].into());
                listener.policy.framing = Framing::Lines;
                listener.policy.minimum_rate =
                    Some(MinimumRate { bytes_per_second: 100, grace: Duration::from_secs(10) });
                listener.policy.reply = Some("OK {n}".into());
                listener.policy.farewell = Some("BYE {reason}".into());
                listener.max_connections = Some(1000);
                listener.max_per_address = Some(100);
                listener.max_newcomers = Some(10);
            },
            "127.0.0.1:7373 long, raw: first message within 10s, heartbeat timeout 5s, maximum age 24h, \
             only the line \"PING\" is a heartbeat, at least 100 bytes per second with a grace of 10s, \
             lines to print, at most 1000 connections, at most 100 per address, at most 10 newcomers, \
             reply \"OK {n}\", farewell \"BYE {reason}\"",
        );
    }
}
