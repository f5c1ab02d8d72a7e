//! What a listener promises and demands: the rules that a connection is held to. Plain data; whoever reads
//! a configuration checks it with [`Policy::check`] before the first connection meets it.

mod pulse;

pub use pulse::{Beats, Protocol, PulsePolicy, SecondConnection};

use std::time::Duration;

/// How long a connection may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifetimePolicy {
    /// A fixed deadline counted from accept; nothing that the client sends moves it.
    Short {
        /// From accept to the end.
        deadline: Duration,
    },
    /// Kept while heartbeats arrive.
    Long {
        /// The longest silence.
        heartbeat_timeout: Duration,
        /// From accept to the end, heartbeats or not.
        max_age: Duration,
    },
}

/// What proves the peer alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// Any received bytes.
    Any,
    /// Only this line, without its line end. It is a heartbeat and not a message: the sink doesn't see it.
    Line(Box<[u8]>),
}

/// How received bytes become messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Whatever one read returns is a message; the boundaries mean nothing.
    Chunks,
    /// A message is a line; `\n` or `\r\n` ends it and is not part of it. What stands after the last line
    /// end when the peer closes its side is not a message.
    Lines,
}

/// A floor under what the peer sends.
///
/// Each received byte earns `1 / bytes_per_second` of time; the credit never exceeds `grace`, which is also
/// what a new connection starts with. When the credit is used up, the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinimumRate {
    /// At least 1.
    pub bytes_per_second: u64,
    /// How long the peer may send nothing at all after it sent enough.
    pub grace: Duration,
}

/// The rules of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What is spoken.
    pub protocol: Protocol,
    /// The rules of the pulse protocol.
    pub pulse: PulsePolicy,
    /// Short or long.
    pub lifetime: LifetimePolicy,
    /// From accept to the first complete message.
    pub first_message: Duration,
    /// What moves a long connection's deadline.
    pub heartbeat: Heartbeat,
    /// How bytes become messages.
    pub framing: Framing,
    /// The longest message, in bytes.
    pub message_bytes_max: usize,
    /// The most that waits to be sent to one peer, in bytes.
    pub output_bytes_max: usize,
    /// How long what we send may make no progress.
    pub write_stall: Duration,
    /// From the peer's end of input to the end of the connection, while there is something left to send.
    pub half_close: Duration,
    /// How long reading may rest because the sink takes nothing, or because the peer takes less than half of what its
    /// messages make us send.
    pub sink_stall: Duration,
    /// The least that the peer has to send, if there is a least.
    pub minimum_rate: Option<MinimumRate>,
    /// A line sent for each complete message; `{n}` stands for the message's number.
    pub reply: Option<Box<str>>,
    /// A line sent before the gateway ends a connection; `{reason}` and `{retry}` stand for why, and
    /// whether to come back.
    pub farewell: Option<Box<str>>,
    /// From the decision to close until what can't be sent by then is given up.
    pub flush: Duration,
    /// From the last byte we sent until the socket is closed, if the peer doesn't close it before.
    pub linger: Duration,
    /// The most that is read and thrown away while lingering, in bytes.
    pub linger_bytes_max: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            pulse: PulsePolicy::default(),
            lifetime: LifetimePolicy::Long {
                heartbeat_timeout: Duration::from_secs(5),
                max_age: Duration::from_secs(24 * 3600),
            },
            first_message: Duration::from_secs(10),
            heartbeat: Heartbeat::Any,
            framing: Framing::Chunks,
            message_bytes_max: 64 * 1024,
            output_bytes_max: 64 * 1024,
            write_stall: Duration::from_secs(10),
            half_close: Duration::from_secs(10),
            sink_stall: Duration::from_secs(60),
            minimum_rate: None,
            reply: None,
            farewell: None,
            flush: Duration::from_millis(250),
            linger: Duration::from_secs(1),
            linger_bytes_max: 256 * 1024,
        }
    }
}

/// A setting that can't be kept, or contradicts another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// The field of [`Policy`] (or of its parts) that is at fault.
    pub field: &'static str,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub mend: String,
}

impl std::fmt::Display for PolicyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.field, self.problem, self.mend)
    }
}

impl std::error::Error for PolicyError {}

/// The longest duration that a rule may name: a year. Longer means "for ever", and nothing is kept for ever.
pub const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// The largest message, and the largest output limit.
pub const BYTES_MAX: usize = 64 * 1024 * 1024;

impl Policy {
    /// The longest that a connection can live under this policy, counted from accept.
    #[must_use]
    pub const fn age_max(&self) -> Duration {
        match self.lifetime {
            LifetimePolicy::Short { deadline } => deadline,
            LifetimePolicy::Long { max_age, .. } => max_age,
        }
    }

    /// Says what of this policy can't be kept.
    ///
    /// # Errors
    /// The first setting that is unbounded, empty, or contradicts another, with the mend.
    pub fn check(&self) -> Result<(), PolicyError> {
        self.check_durations()?;
        self.check_order()?;
        self.check_sizes()?;
        if self.minimum_rate.is_some_and(|rate| rate.bytes_per_second == 0) {
            return Err(fault(
                "minimum_rate",
                "a floor of zero bytes per second is none",
                "raise it, or leave it out",
            ));
        }
        self.check_pulse()?;
        self.check_heartbeat()
    }

    fn check_heartbeat(&self) -> Result<(), PolicyError> {
        if let Heartbeat::Line(line) = &self.heartbeat {
            if self.framing != Framing::Lines {
                return Err(fault(
                    "heartbeat",
                    "a named heartbeat is a line, but the framing is chunks",
                    "set the framing to lines",
                ));
            }
            if line.is_empty()
                || line.len() > self.message_bytes_max
                || line.iter().any(|byte| b"\r\n".contains(byte))
            {
                return Err(fault(
                    "heartbeat",
                    "a named heartbeat has to be one line of at least one byte, no longer than a message may be",
                    "name a short word such as PING",
                ));
            }
        }
        Ok(())
    }

    fn durations(&self) -> [(&'static str, Option<Duration>); 12] {
        let (deadline, heartbeat_timeout, max_age) = match self.lifetime {
            LifetimePolicy::Short { deadline } => (Some(deadline), None, None),
            LifetimePolicy::Long { heartbeat_timeout, max_age } => {
                (None, Some(heartbeat_timeout), Some(max_age))
            }
        };
        [
            ("deadline", deadline),
            ("heartbeat_timeout", heartbeat_timeout),
            ("max_age", max_age),
            ("first_message", Some(self.first_message)),
            ("write_stall", Some(self.write_stall)),
            ("half_close", Some(self.half_close)),
            ("sink_stall", Some(self.sink_stall)),
            ("minimum_rate_grace", self.minimum_rate.map(|rate| rate.grace)),
            ("flush", Some(self.flush)),
            ("linger", Some(self.linger)),
            ("heartbeat_timeout_max", self.pulse.heartbeat_timeout_max),
            ("session_ttl", Some(self.pulse.session_ttl)),
        ]
    }

    fn check_durations(&self) -> Result<(), PolicyError> {
        for (field, duration) in self.durations() {
            let Some(duration) = duration else { continue };
            if duration.is_zero() {
                return Err(fault(
                    field,
                    "zero would end every connection at once",
                    "give it a value above zero",
                ));
            }
            if duration > DURATION_MAX {
                return Err(fault(field, "more than a year is no bound", "give it at most 365 days"));
            }
        }
        Ok(())
    }

    fn check_order(&self) -> Result<(), PolicyError> {
        let (age_field, age) = match self.lifetime {
            LifetimePolicy::Short { deadline } => ("deadline", deadline),
            LifetimePolicy::Long { heartbeat_timeout, max_age } => {
                if heartbeat_timeout > max_age {
                    return Err(too_long("heartbeat_timeout", heartbeat_timeout, "max_age", max_age));
                }
                ("max_age", max_age)
            }
        };
        if self.first_message > age {
            return Err(too_long("first_message", self.first_message, age_field, age));
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), PolicyError> {
        for (field, bytes) in [
            ("message_bytes_max", self.message_bytes_max),
            ("output_bytes_max", self.output_bytes_max),
            ("linger_bytes_max", self.linger_bytes_max),
        ] {
            if bytes == 0 {
                return Err(fault(field, "zero bytes let nothing through", "give it at least 1 byte"));
            }
            if bytes > BYTES_MAX {
                return Err(fault(
                    field,
                    "more than 64 MiB for a single connection is no bound",
                    "give it at most 64 MiB",
                ));
            }
        }
        for (field, line) in [("reply", &self.reply), ("farewell", &self.farewell)] {
            if line.as_ref().is_some_and(|line| line.contains(['\n', '\r']) || line.len() > 512) {
                return Err(fault(
                    field,
                    "it has to be one line of at most 512 bytes",
                    "shorten it; the line end is added",
                ));
            }
        }
        Ok(())
    }
}

fn fault(field: &'static str, problem: &str, mend: &str) -> PolicyError {
    PolicyError { field, problem: problem.to_owned(), mend: mend.to_owned() }
}

fn too_long(field: &'static str, span: Duration, bound_field: &'static str, bound: Duration) -> PolicyError {
    PolicyError {
        field,
        problem: format!("{span:?} is longer than {bound_field}, {bound:?}, so it could never come"),
        mend: format!("lower {field} to {bound:?} or less, or raise {bound_field}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Policy)) -> &'static str {
        let mut policy = Policy::default();
        change(&mut policy);
        policy.check().expect_err("the policy contradicts itself").field
    }

    #[test]
    fn the_default_policy_is_sound() {
        assert_eq!(Policy::default().check(), Ok(()));
    }

    #[test]
    fn contradictions_name_the_field() {
        let long = |heartbeat_timeout, max_age| LifetimePolicy::Long {
            heartbeat_timeout: Duration::from_secs(heartbeat_timeout),
            max_age: Duration::from_secs(max_age),
        };
        assert_eq!(refused(|policy| policy.lifetime = long(60, 30)), "heartbeat_timeout");
        assert_eq!(refused(|policy| policy.lifetime = long(5, 8)), "first_message");
        assert_eq!(
            refused(|policy| policy.lifetime = LifetimePolicy::Short { deadline: Duration::ZERO }),
            "deadline"
        );
        assert_eq!(refused(|policy| policy.lifetime = long(5, 400 * 86_400)), "max_age");
        assert_eq!(refused(|policy| policy.heartbeat = Heartbeat::Line(b"PING"[..].into())), "heartbeat");
        assert_eq!(refused(|policy| policy.message_bytes_max = 0), "message_bytes_max");
        assert_eq!(refused(|policy| policy.output_bytes_max = usize::MAX), "output_bytes_max");
        assert_eq!(refused(|policy| policy.farewell = Some("two\nlines".into())), "farewell");
    }

    #[test]
    fn an_empty_heartbeat_is_refused() {
        assert_eq!(
            refused(|policy| {
                policy.framing = Framing::Lines;
                policy.heartbeat = Heartbeat::Line(b""[..].into());
            }),
            "heartbeat"
        );
    }
}
