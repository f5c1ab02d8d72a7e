//! All settings of a client with their defaults, and the checks on them. Must not know how they are used.

use crate::backoff::Backoff;
use bytes::Bytes;
use pulsegate_core::exchange::Window;
use pulsegate_core::frame::{CURSOR_MAX, ID_BYTES_MAX, LifetimeKind, MESSAGE_BYTES_MAX, REFUSALS_MAX};
use std::net::IpAddr;
use std::time::Duration;

/// What a message counts for in [`Options::outbox_bytes_max`] beside its own bytes.
pub(crate) const MESSAGE_OVERHEAD: usize = 64;

/// A client's settings. [`Options::new`] has the defaults; change what should be different. A time of more than 30
/// years counts as 30 years:
///
/// ```
/// use pulsegate_client::{Options, Reconnect};
///
/// let options = Options { reconnect: Reconnect::Times(5), ..Options::new("device 17") };
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// Who the client is: text of 1 to 128 bytes, the same for all of a session.
    pub id: String,
    /// What lifetime the client asks for; whatever the listener gives, by default.
    pub lifetime: LifetimeKind,
    /// The shortest interval between its heartbeats that suits the client; none by default, at most
    /// [`beat_max`](Self::beat_max).
    pub beat_min: Duration,
    /// The longest one; zero, the default, is no wish. The gateway decides.
    pub beat_max: Duration,
    /// How much may be on its way to this client or wait to be taken by the application: 256 messages and
    /// 4 MiB by default; at least one message and [`message_bytes_max`](Self::message_bytes_max).
    pub window: Window,
    /// The longest message that this client takes, in bytes, 1 to 16,000,000; 1 MiB by default. It never decreases
    /// within a session: a session that is resumed with a lower value keeps the highest one announced in it, and a
    /// window that is at least as large.
    pub message_bytes_max: u32,
    /// How much may wait to be committed, in bytes, up to 4 GiB; 16 MiB by default. Each message counts its length
    /// and 64 bytes more. Messages beyond that wait in [`Client::push`](crate::Client::push) and
    /// [`Client::send`](crate::Client::send).
    pub outbox_bytes_max: usize,
    /// How long one attempt to connect may take, the look-up of the name included; 10 s by default, at least 1 ms.
    /// Where the name has several addresses, each has its share of it.
    pub connect_timeout: Duration,
    /// How long the gateway may take to answer HELLO; 10 s by default, at least 1 ms.
    pub opening_timeout: Duration,
    /// How long the gateway may take nothing while there is something to send, before the connection is given up; 30 s
    /// by default, at least 1 ms.
    pub write_stall: Duration,
    /// How long [`Client::close`](crate::Client::close) waits until everything is settled; 30 s by default.
    pub close_timeout: Duration,
    /// After how many attempts in a row that connected and were ended without a byte, while the client has no session,
    /// it gives up as [`Reason::NotPulse`](crate::Reason). A listener for raw clients ends connections like that, and
    /// so does a proxy whose gateway is down. 10 by default, which takes about a minute; at least 1.
    pub unanswered_max: u32,
    /// Whether the client comes back by itself; always, by default.
    pub reconnect: Reconnect,
    /// How long it waits before that; as PROTOCOL.md says by default.
    pub backoff: Backoff,
    /// A session to continue, for an application that keeps it itself; none by default.
    pub resume: Option<SavedSession>,
    /// The address to come from; the system's choice by default. Only addresses of its family are tried then.
    pub bind: Option<IpAddr>,
    /// How many events wait for a slow watcher before the oldest are left out; 1,024 by default, at least 1.
    pub events_max: usize,
    /// The file that keeps messages and cursors, so that they outlive the process; none by default. It is made if
    /// there is none, with a companion that ends in `-wal`. One client has it at a time, with one id for the
    /// life of the file.
    #[cfg(feature = "outbox")]
    pub outbox: Option<std::path::PathBuf>,
}

/// Whether a client comes back by itself after its connection has ended. If the gateway says never, it doesn't,
/// whatever is set here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reconnect {
    /// It doesn't.
    Never,
    /// Until this many attempts in a row have failed.
    Times(u32),
    /// As long as the client lives; what waits is bounded all the same.
    #[default]
    Always,
}

impl Reconnect {
    /// Whether to come back after this many failures in a row.
    pub(crate) const fn allows(self, failures: u32) -> bool {
        match self {
            Self::Never => false,
            Self::Times(times) => failures <= times,
            Self::Always => true,
        }
    }
}

/// A session as its owner keeps it between two clients, from [`Client::leave`](crate::Client::leave) to
/// [`Options::resume`]. It may be used once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedSession {
    /// The session's number; 0 if none was begun.
    pub session: u64,
    /// Its newest token.
    pub token: [u8; 16],
    /// The cursor of the gateway's messages.
    pub committed: u64,
    /// Which of them were refused, number and code, where that is not confirmed.
    pub refused: Vec<(u64, u16)>,
    /// The highest of the client's own messages that is settled.
    pub acknowledged: u64,
    /// How many of `unsettled` were sent.
    pub sent: usize,
    /// The client's own messages above, oldest first.
    pub unsettled: Vec<Bytes>,
    /// The longest message that the gateway was told to send in it, in bytes; 0: nothing is known.
    pub message_bytes_max: u32,
}

/// Options that are invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid option `{option}`: {rule}")]
pub struct OptionsError {
    /// The field.
    pub option: &'static str,
    /// What is required of it.
    pub rule: &'static str,
}

impl Options {
    /// The defaults, for a client with this id.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            lifetime: LifetimeKind::Any,
            beat_min: Duration::ZERO,
            beat_max: Duration::ZERO,
            window: Window { messages: 256, bytes: 4 << 20 },
            message_bytes_max: 1 << 20,
            outbox_bytes_max: 16 << 20,
            connect_timeout: Duration::from_secs(10),
            opening_timeout: Duration::from_secs(10),
            write_stall: Duration::from_secs(30),
            close_timeout: Duration::from_secs(30),
            unanswered_max: 10,
            reconnect: Reconnect::Always,
            backoff: Backoff::default(),
            resume: None,
            bind: None,
            events_max: 1024,
            #[cfg(feature = "outbox")]
            outbox: None,
        }
    }

    /// Checks these options.
    ///
    /// # Errors
    /// The first one that is invalid.
    pub fn check(&self) -> Result<(), OptionsError> {
        let millis_fit = |span: Duration| u32::try_from(span.as_millis()).is_ok();
        let has_time = |span: Duration| span >= Duration::from_millis(1);
        let rules = [
            ((1..=ID_BYTES_MAX).contains(&self.id.len()), "id", "must have 1 to 128 bytes of text"),
            (
                self.beat_min <= self.beat_max && millis_fit(self.beat_max),
                "beat_min",
                "must be at most beat_max, and both below 49 days",
            ),
            (
                (1..=MESSAGE_BYTES_MAX).contains(&self.message_bytes_max),
                "message_bytes_max",
                "must be 1 to 16,000,000 bytes",
            ),
            (
                self.window.messages >= 1 && self.window.bytes >= self.message_bytes_max,
                "window",
                "must have room for one message, and for message_bytes_max bytes",
            ),
            (
                self.outbox_bytes_max > MESSAGE_OVERHEAD && u32::try_from(self.outbox_bytes_max).is_ok(),
                "outbox_bytes_max",
                "must be more than 64 bytes and less than 4 GiB",
            ),
            (has_time(self.connect_timeout), "connect_timeout", "must be at least 1 ms"),
            (has_time(self.opening_timeout), "opening_timeout", "must be at least 1 ms"),
            (has_time(self.write_stall), "write_stall", "must be at least 1 ms"),
            (self.unanswered_max >= 1, "unanswered_max", "must be at least 1"),
            (self.events_max >= 1, "events_max", "must be at least 1"),
            (
                self.resume.as_ref().is_none_or(SavedSession::is_sound),
                "resume",
                "must be what Client::leave has returned, unchanged",
            ),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            None => Ok(()),
            Some((_, option, rule)) => Err(OptionsError { option, rule }),
        }
    }
}

impl SavedSession {
    fn is_sound(&self) -> bool {
        let cursors = [self.committed, self.acknowledged, self.message_bytes_max.into()];
        let has_nothing = self.session == 0 && cursors == [0; 3];
        let is_ordered = self.refused.is_sorted_by(|(one, _), (next, _)| one < next);
        let is_below = self.refused.iter().all(|(number, _)| (1..=self.committed).contains(number));
        self.sent <= self.unsettled.len()
            && self.refused.len() <= REFUSALS_MAX
            && self.message_bytes_max <= MESSAGE_BYTES_MAX
            && self.committed.max(self.acknowledged) <= CURSOR_MAX
            && is_ordered
            && is_below
            && (self.session != 0 || (has_nothing && self.sent == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(option: &str, change: impl FnOnce(&mut Options)) {
        let mut options = Options::new("a client");
        assert_eq!(options.check(), Ok(()));
        change(&mut options);
        assert_eq!(options.check().map_err(|error| error.option), Err(option));
    }

    #[test]
    fn what_cannot_be_is_said_by_name() {
        check("id", |options| options.id = String::new());
        check("id", |options| options.id = "x".repeat(129));
        check("beat_min", |options| options.beat_min = Duration::from_secs(1));
        check("message_bytes_max", |options| options.message_bytes_max = 0);
        check("window", |options| options.window.bytes = 1_000);
        check("window", |options| options.window.messages = 0);
        check("outbox_bytes_max", |options| options.outbox_bytes_max = 64);
        check("outbox_bytes_max", |options| options.outbox_bytes_max = usize::MAX);
        check("connect_timeout", |options| options.connect_timeout = Duration::ZERO);
        check("resume", |options| {
            options.resume = Some(SavedSession { acknowledged: 1, ..SavedSession::default() });
        });
        check("resume", |options| {
            let message_bytes_max = MESSAGE_BYTES_MAX + 1;
            options.resume = Some(SavedSession { message_bytes_max, ..SavedSession::default() });
        });
    }

    #[test]
    fn attempts_are_counted() {
        assert!(!Reconnect::Never.allows(0));
        assert!(Reconnect::Times(2).allows(2) && !Reconnect::Times(2).allows(3));
        assert!(Reconnect::Always.allows(u32::MAX));
    }
}
