//! Each key of a configuration file: that it is read, and that the example shows it with its default.

use super::parsed;
use crate::*;
use pulsegate::config::{DescriptorTables, Durability, LogFormat, PrintFormat};
use pulsegate_core::policy::{Protocol, PulsePolicy, SecondConnection};

const EXAMPLE: &str = include_str!("../../../pulsegate.example.toml");

const EVERY_KEY: &str = r#"
descriptor_tables = "shared"
shards = 3
max_connections = 1000
drain_within = "0s"
gather = "2ms"
summary_every = "1m"
sink_queue_bytes_max = "1MiB"
print = "json"
log = "json"
[store]
data_dir = "kept/here"
durability = "os"
max_sessions = 21
max_sessions_per_address = 20
queue_bytes_max = "65KiB"
retention_age = "13s"
retention_bytes = "2MiB"
retention_bytes_per_session = 20000
retention_bytes_per_address = 20001
quota_bytes = 2001
quota_every = "14s"
outgoing_messages_max = 22
outgoing_bytes_max = 2002
outgoing_bytes_in_all = 2004
outgoing_bytes_per_address = 2003
wal_bytes = "300KiB"
[[listener]]
listen = "[::1]:7"
name = "devices"
protocol = "auto"
lifetime = "long"
heartbeat_timeout = "1s"
max_age = "1h"
first_message = "2s"
heartbeat = "PING"
framing = "lines"
sink = "echo"
message_bytes_max = 1001
output_bytes_max = 1002
write_stall = "3s"
half_close = "4s"
sink_stall = "5s"
minimum_rate = "100B"
minimum_rate_grace = "6s"
reply = "OK {n}"
farewell = "BYE {reason}"
flush = "7s"
linger = "8s"
linger_bytes_max = 1003
max_connections = 11
max_per_address = 12
max_newcomers = 13
accept_rate = 14
user_timeout = "9s"
keepalive = "10s"
window_messages = 15
window_bytes = 1004
heartbeat_timeout_max = "11s"
session_ttl = "12s"
second_connection = "refuse"
[[listener]]
listen = "[::1]:8"
sink = "store"
message_bytes_max = 1001
"#;

/// The second listener, without which the store's files would say nothing.
fn storing() -> ListenerConfig {
    ListenerConfig {
        listen: "[::1]:8".parse().expect("an address"),
        sink: "store".to_owned(),
        policy: Policy { message_bytes_max: 1001, ..ListenerConfig::default().policy },
        ..ListenerConfig::default()
    }
}

#[test]
fn every_key_reaches_its_setting() {
    let config = parsed(EVERY_KEY);
    let seconds = Duration::from_secs;
    let listener = ListenerConfig {
        name: Some("devices".to_owned()),
        listen: "[::1]:7".parse().expect("an address"),
        policy: Policy {
            protocol: Protocol::Auto,
            pulse: PulsePolicy {
                window: Window { messages: 15, bytes: 1004 },
                heartbeat_timeout_max: Some(seconds(11)),
                session_ttl: seconds(12),
                second_connection: SecondConnection::Refuse,
            },
            lifetime: LifetimePolicy::Long { heartbeat_timeout: seconds(1), max_age: seconds(3600) },
            first_message: seconds(2),
            heartbeat: Heartbeat::Line(b"PING"[..].into()),
            framing: Framing::Lines,
            message_bytes_max: 1001,
            output_bytes_max: 1002,
            write_stall: seconds(3),
            half_close: seconds(4),
            sink_stall: seconds(5),
            minimum_rate: Some(MinimumRate { bytes_per_second: 100, grace: seconds(6) }),
            reply: Some("OK {n}".into()),
            farewell: Some("BYE {reason}".into()),
            flush: seconds(7),
            linger: seconds(8),
            linger_bytes_max: 1003,
        },
        sink: "echo".to_owned(),
        max_connections: Some(11),
        max_per_address: Some(12),
        max_newcomers: Some(13),
        accept_rate: 14,
        user_timeout: seconds(9),
        keepalive: seconds(10),
    };
    let expected = Config {
        descriptor_tables: Some(DescriptorTables::Shared),
        listeners: vec![listener, storing()],
        shards: std::num::NonZeroUsize::new(3),
        max_connections: Some(1000),
        drain_within: Duration::ZERO,
        gather: Some(Duration::from_millis(2)),
        summary_every: seconds(60),
        sink_queue_bytes_max: 1024 * 1024,
        print: PrintFormat::Json,
        log: LogFormat::Json,
        data_dir: "kept/here".into(),
        store: StoreConfig {
            durability: Durability::Os,
            queue_bytes_max: 65 * 1024,
            sessions_max: 21,
            message_bytes_max: StoreConfig::default().message_bytes_max,
            quota: Quota { bytes: 2001, every: seconds(14) },
            outgoing_messages_max: 22,
            outgoing_bytes_max: 2002,
            outgoing_bytes_in_all: Some(2004),
            outgoing_bytes_per_source: Some(2003),
            retention_bytes_per_session: Some(20_000),
            retention_bytes_per_source: Some(20_001),
            sessions_per_source_max: Some(20),
            unjudged_bytes_max: StoreConfig::default().unjudged_bytes_max,
            retention_age: seconds(13),
            retention_bytes: 2 * 1024 * 1024,
            wal_bytes: 300 * 1024,
        },
    };
    assert_eq!(config, expected);
}

/// The key that a line of the example sets, commented out or not.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.strip_prefix("# ").unwrap_or(line).split_once(" = ")?;
    key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then_some(key)
}

#[test]
fn the_example_is_the_default() {
    assert_eq!(parsed(EXAMPLE), Config::default());
    assert_eq!(parsed("[[listener]]\nlisten = \"127.0.0.1:7373\"\n"), Config::default());
}

#[test]
fn the_example_holds_with_everything_in_it_switched_on() {
    let on = |line: &str| match line.strip_prefix("# ") {
        Some(setting) if key_of(line).is_some() || setting == "[[listener]]" => format!("{setting}\n"),
        _ => format!("{line}\n"),
    };
    let config = parsed(&EXAMPLE.lines().map(on).collect::<String>());
    assert_eq!(config.listeners.len(), 3);
    let asked_for = Some(Duration::from_secs(300));
    let pulse = PulsePolicy { heartbeat_timeout_max: asked_for, ..PulsePolicy::default() };
    assert_eq!(config.listeners[1].policy.pulse, pulse);
    assert_eq!(config.listeners[2].policy.age_max(), Duration::from_secs(30));
    assert_eq!(config.listeners[0].policy.minimum_rate.map(|rate| rate.grace), Some(MINIMUM_RATE_GRACE));
    assert!(config.shards.is_some() && config.listeners[0].policy.farewell.is_some());
}

#[test]
fn the_example_has_every_key() {
    let (top, listeners) = EXAMPLE.split_at(EXAMPLE.find("\n[[listener]]").expect("a listener"));
    let (top, store) = top.split_at(top.find("\n[store]").expect("a store"));
    for (part, keys) in [(top, RawFile::KEYS), (store, RawStore::KEYS), (listeners, RawListener::KEYS)] {
        for key in keys.iter().filter(|key| !["store", "listener"].contains(key)) {
            assert!(part.lines().any(|line| key_of(line) == Some(key)), "{key} is missing");
        }
    }
}

#[test]
fn the_lists_of_keys_are_what_serde_takes() {
    for (text, keys) in
        [("?=1", RawFile::KEYS), ("[store]\n?=1", RawStore::KEYS), ("[[listener]]\n?=1", RawListener::KEYS)]
    {
        let error = toml::from_str::<RawFile>(&text.replace('?', "unheard_of")).expect_err("an unknown key");
        let (_, known) = error.message().split_once(", expected one of ").expect("a list");
        assert_eq!(known.replace('`', ""), keys.join(", "));
    }
}

#[test]
fn no_key_of_the_store_is_one_of_another_table() {
    for key in RawStore::KEYS {
        assert!(!RawFile::KEYS.contains(key) && !RawListener::KEYS.contains(key), "{key}");
    }
}
