//! Says what of a [`Config`] can't be kept, wherever it came from: each setting by itself, and the settings
//! against each other. Knows no file and no flag; whoever read them names the place.

mod name;
mod store;

use super::{Config, ListenerConfig, STORE, cores};
use crate::text::duration;
use pulsegate_core::frame::MESSAGE_BYTES_MAX;
use pulsegate_core::policy::{self, Framing, Heartbeat, PolicyError, Protocol};
use std::ops::RangeInclusive;
use std::time::Duration;
use store::{check_room_for_others, check_store};

/// The most shards. Each is a thread.
pub const SHARDS_MAX: usize = 1024;
/// The most listeners.
pub const LISTENERS_MAX: usize = 1024;
/// The longest drain.
pub const DRAIN_WITHIN_MAX: Duration = Duration::from_secs(3600);
/// The longest that input may gather.
pub const GATHER_MAX: Duration = Duration::from_millis(10);
/// The shortest pause between two summaries.
pub const SUMMARY_EVERY_MIN: Duration = Duration::from_secs(1);
/// The longest pause between two summaries.
pub const SUMMARY_EVERY_MAX: Duration = Duration::from_secs(24 * 3600);
/// The smallest and the largest queue of a sink and of the store, in bytes.
pub const QUEUE_BYTES: Sizes = Sizes { bounds: 64 << 10..=1 << 30, said: "64KiB to 1GiB" };
/// The highest rate of accepting, in connections per second.
pub const ACCEPT_RATE_MAX: u32 = 1_000_000;
/// The shortest `user_timeout` and `keepalive`; the kernel counts keepalives in whole seconds.
pub const KERNEL_TIMER_MIN: Duration = Duration::from_secs(1);
/// The longest `keepalive` that Linux takes (`MAX_TCP_KEEPIDLE`).
pub const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);
/// The longest `user_timeout`: Linux takes milliseconds in 31 bits, which is a little more.
pub const USER_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 24 * 3600);
/// The highest floor under what a peer sends, in bytes per second: above it a byte earns less than 1 ns.
pub const MINIMUM_RATE_MAX: u64 = 1_000_000_000;
/// The most messages that one client may have in flight.
pub const WINDOW_MESSAGES_MAX: u32 = 1_000_000;
/// The keys of a listener that only raw clients feel.
pub const RAW_KEYS: [&str; 4] = ["heartbeat", "framing", "reply", "farewell"];

/// The keys of the store that say nothing where no listener has it for its sink.
pub const STORE_KEYS: [&str; 2] = ["data_dir", "durability"];

/// The most sessions that a store may have.
pub const SESSIONS_MAX: u64 = 1_000_000_000;
/// The least and the most that a store may keep, in bytes.
pub const RETENTION_BYTES: Sizes = Sizes { bounds: 1 << 20..=1 << 50, said: "1MiB to 1PiB" };
/// The shortest time that a store counts in: of keeping messages, and of quotas.
pub const STORE_TIME_MIN: Duration = Duration::from_secs(1);
/// The longest time that messages are kept: ten years, each of 365.25 days.
pub const RETENTION_AGE_MAX: Duration = Duration::from_secs(10 * 31_557_600);
/// The smallest and the largest quota of a session, in bytes; besides, one message has to fit in.
pub const QUOTA_BYTES: Sizes = Sizes { bounds: 65..=1 << 50, said: "65 bytes to 1PiB" };
/// The longest time that a quota is for.
pub const QUOTA_EVERY_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// The most messages that may wait for one client.
pub const OUTGOING_MESSAGES_MAX: u64 = 1_000_000;
/// The least and the most that may wait for one client, in bytes.
pub const OUTGOING_BYTES: Sizes = Sizes { bounds: 1..=1 << 30, said: "1 byte to 1GiB" };
/// The smallest and the largest write-ahead log, in bytes.
pub const WAL_BYTES: Sizes = Sizes { bounds: 256 << 10..=1 << 30, said: "256KiB to 1GiB" };
/// What a message counts in a quota beside its payload, in bytes.
const STORED_EXTRA: u64 = 64;

/// The bounds of a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// In bytes.
    pub bounds: RangeInclusive<u64>,
    /// As people write them.
    pub said: &'static str,
}

/// A setting that can't be kept, or contradicts another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}; {mend}")]
pub struct ConfigFault {
    /// Which of the listeners it is about, from 0; `None`: the gateway as a whole.
    pub listener: Option<usize>,
    /// The key at fault, as files write it.
    pub field: &'static str,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub mend: String,
}

impl From<PolicyError> for ConfigFault {
    fn from(error: PolicyError) -> Self {
        Self { listener: None, field: error.field, problem: error.problem, mend: error.mend }
    }
}

impl Config {
    /// Says what of these settings can't be kept. `sinks` are the names of the sinks that there are.
    ///
    /// # Errors
    /// The first setting that is unbounded, out of its range, or contradicts another.
    pub fn check(&self, sinks: &[&str]) -> Result<(), ConfigFault> {
        self.check_gateway()?;
        for (index, listener) in self.listeners.iter().enumerate() {
            let at = |fault| ConfigFault { listener: Some(index), ..fault };
            self.check_address(index, listener).map_err(at)?;
            self.check_name(index, listener).map_err(at)?;
            listener.check_protocol().map_err(at)?;
            listener.policy.check().map_err(|error| at(error.into()))?;
            listener.check(sinks).map_err(at)?;
        }
        self.check_stored()
    }

    fn check_gateway(&self) -> Result<(), ConfigFault> {
        if self.listeners.is_empty() {
            return Err(fault(
                "listener",
                "there is no listener",
                "add a [[listener]] table with listen = \"127.0.0.1:7373\"",
            ));
        }
        if self.listeners.len() > LISTENERS_MAX {
            return Err(fault("listener", "more than 1024 listeners are too many", "give it at most 1024"));
        }
        if self.shards.is_some_and(|shards| shards.get() > SHARDS_MAX) {
            return Err(fault(
                "shards",
                "more than 1024 threads are no gain",
                "give it at most 1024, or leave it out",
            ));
        }
        counted("max_connections", self.max_connections)?;
        within("drain_within", self.drain_within, Duration::ZERO, DRAIN_WITHIN_MAX)?;
        within("gather", self.gather.unwrap_or_default(), Duration::ZERO, GATHER_MAX)?;
        within("summary_every", self.summary_every, SUMMARY_EVERY_MIN, SUMMARY_EVERY_MAX)?;
        let queue = self.sink_queue_bytes_max as u64;
        sized("sink_queue_bytes_max", queue, QUEUE_BYTES)?;
        let folder = self.data_dir.as_os_str().as_encoded_bytes();
        if folder.is_empty() || folder.contains(&0) {
            return Err(fault("data_dir", "this names no folder", "name one, such as data"));
        }
        check_store(&self.store)
    }

    /// The store has to take what the listeners send it. Goes after the checks of the listeners.
    fn check_stored(&self) -> Result<(), ConfigFault> {
        if let Some((index, bytes)) = self.longest_stored() {
            for (field, has, needs) in [
                ("queue_bytes_max", self.store.queue_bytes_max as u64, 2 * bytes as u64),
                ("quota_bytes", self.store.quota.bytes, bytes as u64 + STORED_EXTRA),
            ] {
                if has < needs {
                    let problem = format!("{has} bytes are too few for messages of up to {bytes} bytes");
                    let mend = format!("raise it to {needs} or more, or lower message_bytes_max");
                    return Err(ConfigFault { listener: Some(index), ..fault(field, &problem, &mend) });
                }
            }
        }
        if self.has_store() {
            check_room_for_others(&self.store, self.shards.map_or_else(cores, usize::from))?;
        }
        // The ranges above lie within what a store takes; it has the last word all the same.
        let refused = |error: pulsegate_store::ConfigError| {
            fault(STORE, &error.to_string(), "change that in the table of the store")
        };
        self.store_config().check().map_err(refused)
    }

    /// Port 0 stands for a free port, a different one each time.
    fn check_address(&self, index: usize, listener: &ListenerConfig) -> Result<(), ConfigFault> {
        let earlier = self.listeners.iter().take(index).any(|other| other.listen == listener.listen);
        if earlier && listener.listen.port() != 0 {
            let problem = format!("{} is the address of another listener too", listener.listen);
            return Err(fault("listen", &problem, "give each listener an address of its own"));
        }
        Ok(())
    }
}

impl ListenerConfig {
    /// A pulse listener has no raw clients, so that nothing may be said for them. Goes before what the rules for
    /// raw clients demand of each other.
    fn check_protocol(&self) -> Result<(), ConfigFault> {
        let policy = &self.policy;
        if policy.protocol == Protocol::Pulse {
            let said = [
                policy.heartbeat != Heartbeat::Any,
                policy.framing != Framing::Chunks,
                policy.reply.is_some(),
                policy.farewell.is_some(),
            ];
            if let Some((field, _)) = RAW_KEYS.into_iter().zip(said).find(|(_, said)| *said) {
                return Err(raw_only(field));
            }
        }
        Ok(())
    }

    fn check_window(&self) -> Result<(), ConfigFault> {
        if self.policy.protocol == Protocol::Raw {
            return Ok(());
        }
        let window = self.policy.pulse.window;
        numbered("window_messages", window.messages.into(), 1, WINDOW_MESSAGES_MAX.into())?;
        if window.bytes as usize > policy::BYTES_MAX {
            return Err(fault(
                "window_bytes",
                "more than 64 MiB for a single connection is no bound",
                "give it at most 64 MiB",
            ));
        }
        Ok(())
    }

    fn check(&self, sinks: &[&str]) -> Result<(), ConfigFault> {
        if !sinks.contains(&self.sink.as_str()) {
            let problem = format!("there is no sink {:?}", self.sink);
            return Err(fault("sink", &problem, &format!("known sinks: {}", sinks.join(", "))));
        }
        if self.sink == STORE && self.policy.message_bytes_max > MESSAGE_BYTES_MAX as usize {
            return Err(fault(
                "message_bytes_max",
                "the store takes at most 16,000,000 bytes in a message",
                "lower it to 16 MB or less, or choose another sink",
            ));
        }
        counted("max_connections", self.max_connections)?;
        counted("max_per_address", self.max_per_address)?;
        counted("max_newcomers", self.max_newcomers)?;
        if self.accept_rate == 0 {
            return Err(fault("accept_rate", "zero lets nobody in", "give it at least 1 per second"));
        }
        if self.accept_rate > ACCEPT_RATE_MAX {
            return Err(fault(
                "accept_rate",
                "no machine accepts so many",
                "give it at most 1000000 per second",
            ));
        }
        within("user_timeout", self.user_timeout, KERNEL_TIMER_MIN, USER_TIMEOUT_MAX)?;
        within("keepalive", self.keepalive, KERNEL_TIMER_MIN, KEEPALIVE_MAX)?;
        if self.policy.minimum_rate.is_some_and(|rate| rate.bytes_per_second > MINIMUM_RATE_MAX) {
            return Err(fault(
                "minimum_rate",
                "no peer sends more than 1 GB per second",
                "give it at most 1GB",
            ));
        }
        self.check_window()
    }
}

/// What is said of the store's files where there are none.
#[must_use]
pub fn without_store(field: &'static str) -> ConfigFault {
    fault(
        field,
        "no listener has the sink store, so that nothing is kept on disk",
        "set the sink of a listener to store, or take it out",
    )
}

/// What is set for raw clients where there are none.
#[must_use]
pub fn raw_only(field: &'static str) -> ConfigFault {
    fault(
        field,
        "it is for raw clients, but a pulse listener has none",
        "take it out, or set the protocol to auto",
    )
}

fn counted(field: &'static str, count: Option<usize>) -> Result<(), ConfigFault> {
    if count == Some(0) {
        return Err(fault(field, "zero lets nobody in", "give it at least 1, or leave it out"));
    }
    Ok(())
}

fn sized(field: &'static str, bytes: u64, sizes: Sizes) -> Result<(), ConfigFault> {
    if sizes.bounds.contains(&bytes) {
        return Ok(());
    }
    let problem = format!("{bytes} bytes are out of range");
    Err(fault(field, &problem, &format!("give it {}", sizes.said)))
}

fn numbered(field: &'static str, number: u64, min: u64, max: u64) -> Result<(), ConfigFault> {
    if (min..=max).contains(&number) {
        return Ok(());
    }
    Err(fault(field, &format!("{number} is out of range"), &format!("give it {min} to {max}")))
}

fn within(field: &'static str, value: Duration, min: Duration, max: Duration) -> Result<(), ConfigFault> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let problem = format!("{} is out of range", duration(value));
    let bounds = format!("give it {} to {}", duration(min), duration(max));
    Err(fault(field, &problem, &bounds))
}

fn fault(field: &'static str, problem: &str, mend: &str) -> ConfigFault {
    ConfigFault { listener: None, field, problem: problem.to_owned(), mend: mend.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Quota, SINKS, StoreConfig};
    use pulsegate_core::policy::Policy;
    use std::net::SocketAddr;
    use std::num::NonZeroUsize;

    fn refused(change: impl FnOnce(&mut Config)) -> (Option<usize>, &'static str) {
        let mut config = Config::default();
        config.listeners.push(ListenerConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 1)),
            ..ListenerConfig::default()
        });
        change(&mut config);
        let fault = config.check(&SINKS).expect_err("the settings can't be kept");
        (fault.listener, fault.field)
    }

    #[test]
    fn the_default_configuration_is_sound() {
        assert_eq!(Config::default().check(&SINKS), Ok(()));
    }

    #[test]
    fn settings_of_the_gateway_are_named() {
        let second = Duration::from_secs(1);
        assert_eq!(refused(|config| config.listeners.clear()), (None, "listener"));
        assert_eq!(refused(|config| config.shards = NonZeroUsize::new(1025)), (None, "shards"));
        assert_eq!(refused(|config| config.max_connections = Some(0)), (None, "max_connections"));
        assert_eq!(refused(|config| config.drain_within = 3601 * second), (None, "drain_within"));
        assert_eq!(refused(|config| config.gather = Some(second)), (None, "gather"));
        assert_eq!(refused(|config| config.summary_every = second / 2), (None, "summary_every"));
        assert_eq!(refused(|config| config.sink_queue_bytes_max = 65_535), (None, "sink_queue_bytes_max"));
        assert_eq!(
            refused(|config| config.sink_queue_bytes_max = usize::MAX),
            (None, "sink_queue_bytes_max")
        );
        assert_eq!(refused(|config| config.data_dir = "".into()), (None, "data_dir"));
        assert_eq!(refused(|config| config.data_dir = "a\0b".into()), (None, "data_dir"));
    }

    #[test]
    fn settings_of_the_store_are_named() {
        for (field, change) in [
            ("max_sessions", (|store| store.sessions_max = 0) as fn(&mut StoreConfig)),
            ("max_sessions", |store| store.sessions_max = SESSIONS_MAX + 1),
            ("queue_bytes_max", |store| store.queue_bytes_max = 65_535),
            ("retention_age", |store| store.retention_age = Duration::from_millis(999)),
            ("retention_bytes", |store| store.retention_bytes = u64::MAX),
            ("quota_bytes", |store| store.quota.bytes = 64),
            ("quota_every", |store| store.quota.every = 2 * QUOTA_EVERY_MAX),
            ("outgoing_messages_max", |store| store.outgoing_messages_max = 0),
            ("outgoing_bytes_max", |store| store.outgoing_bytes_max = 0),
            ("wal_bytes", |store| store.wal_bytes = 1),
            ("max_sessions_per_address", |store| store.sessions_per_source_max = Some(0)),
            ("outgoing_bytes_in_all", |store| {
                store.outgoing_bytes_in_all = Some(store.outgoing_bytes_max - 1)
            }),
            ("outgoing_bytes_per_address", |store| store.outgoing_bytes_per_source = Some(1)),
            ("retention_bytes_per_session", |store| store.retention_bytes_per_session = Some(1 << 20)),
            ("retention_bytes_per_address", |store| store.retention_bytes_per_source = Some(1 << 40)),
        ] {
            assert_eq!(refused(|config| change(&mut config.store)), (None, field));
        }
    }

    #[test]
    fn what_is_within_the_ranges_is_what_a_store_takes() {
        for is_least in [true, false] {
            let size = |sizes: Sizes| *if is_least { sizes.bounds.start() } else { sizes.bounds.end() };
            let count = |most: u64| if is_least { 1 } else { most };
            let time = |most: Duration| if is_least { STORE_TIME_MIN } else { most };
            let store = StoreConfig {
                queue_bytes_max: usize::try_from(size(QUEUE_BYTES)).expect("it fits"),
                sessions_max: count(SESSIONS_MAX),
                message_bytes_max: if is_least { 1 } else { MESSAGE_BYTES_MAX as usize },
                quota: Quota { bytes: size(QUOTA_BYTES), every: time(QUOTA_EVERY_MAX) },
                outgoing_messages_max: count(OUTGOING_MESSAGES_MAX),
                outgoing_bytes_max: size(OUTGOING_BYTES),
                retention_age: time(RETENTION_AGE_MAX),
                retention_bytes: size(RETENTION_BYTES),
                wal_bytes: size(WAL_BYTES),
                ..StoreConfig::default()
            };
            assert_eq!((check_store(&store), store.check()), (Ok(()), Ok(())));
        }
    }

    #[test]
    fn the_longest_message_of_a_store_is_that_of_the_listeners_that_need_it() {
        let listener = |(message_bytes_max, protocol, sink): (usize, Protocol, &str)| ListenerConfig {
            policy: Policy { message_bytes_max, protocol, ..Policy::default() },
            sink: sink.to_owned(),
            ..ListenerConfig::default()
        };
        let listeners = [(1, Protocol::Raw, STORE), (3, Protocol::Auto, "print"), (9, Protocol::Raw, "echo")];
        let mut config = Config { listeners: listeners.map(listener).into(), ..Config::default() };
        assert_eq!(config.store_config().message_bytes_max, 3);
        config.listeners[0].policy.message_bytes_max = usize::MAX;
        assert_eq!(config.store_config().message_bytes_max, 16_000_000);
        config.listeners.drain(..2);
        assert_eq!(config.store_config(), StoreConfig::default());
    }

    #[test]
    fn settings_of_a_listener_are_named_with_its_index() {
        let of_second = |change: fn(&mut ListenerConfig)| refused(|config| change(&mut config.listeners[1]));
        for (field, change) in [
            (
                "listen",
                (|listener| listener.listen = ListenerConfig::default().listen) as fn(&mut ListenerConfig),
            ),
            ("name", |listener| listener.name = Some(String::new())),
            ("name", |listener| listener.name = Some("a".repeat(65))),
            ("name", |listener| listener.name = Some("all devices".to_owned())),
            ("name", |listener| listener.name = Some("gerät".to_owned())),
            ("name", |listener| listener.name = Some("127.0.0.1:7373".to_owned())),
            ("linger", |listener| listener.policy.linger = Duration::ZERO),
            ("sink", |listener| listener.sink = "strore".to_owned()),
            ("max_connections", |listener| listener.max_connections = Some(0)),
            ("max_per_address", |listener| listener.max_per_address = Some(0)),
            ("max_newcomers", |listener| listener.max_newcomers = Some(0)),
            ("accept_rate", |listener| listener.accept_rate = 0),
            ("user_timeout", |listener| listener.user_timeout = Duration::from_millis(999)),
            ("user_timeout", |listener| listener.user_timeout = Duration::from_secs(25 * 86_400)),
            ("keepalive", |listener| listener.keepalive = Duration::ZERO),
            ("window_messages", |listener| {
                listener.policy.protocol = Protocol::Auto;
                listener.policy.pulse.window.messages = 1_000_001;
            }),
            ("window_bytes", |listener| {
                listener.policy.protocol = Protocol::Pulse;
                listener.policy.pulse.window.bytes = 64 * 1024 * 1024 + 1;
            }),
            ("keepalive", |listener| listener.keepalive = Duration::from_secs(32_768)),
        ] {
            assert_eq!(of_second(change), (Some(1), field));
        }
    }

    #[test]
    fn a_pulse_listener_has_no_rules_for_raw_clients() {
        for (field, change) in [
            (
                "heartbeat",
                (|policy| policy.heartbeat = Heartbeat::Line(b"PING"[..].into())) as fn(&mut Policy),
            ),
            ("framing", |policy| policy.framing = Framing::Lines),
            ("reply", |policy| policy.reply = Some("OK".into())),
            ("farewell", |policy| policy.farewell = Some("BYE".into())),
        ] {
            let mut config = Config::default();
            let policy = &mut config.listeners[0].policy;
            policy.protocol = Protocol::Auto;
            policy.framing = Framing::Lines;
            change(policy);
            assert_eq!(config.check(&SINKS), Ok(()), "{field}");
            let policy = &mut config.listeners[0].policy;
            policy.protocol = Protocol::Pulse;
            policy.framing = Framing::Chunks;
            change(policy);
            let refused = config.check(&SINKS).expect_err("a pulse listener has no raw clients");
            assert_eq!((refused.listener, refused.field), (Some(0), field));
        }
    }

    #[test]
    fn a_free_port_may_be_asked_for_twice() {
        let free =
            ListenerConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..ListenerConfig::default() };
        let config = Config { listeners: vec![free.clone(), free], ..Config::default() };
        assert_eq!(config.check(&SINKS), Ok(()));
    }

    #[test]
    fn a_sink_that_an_embedding_program_gave_is_known() {
        let mut config = Config::default();
        config.listeners[0].sink = "engine".to_owned();
        assert_eq!(config.check(&["print", "engine"]), Ok(()));
    }
}
