//! Each key of a configuration file: that it is read, and that the example shows it with its default.

use super::parsed;
use pulsegate::config::keys::{GATEWAY, Key, Kind, LISTENER, STORE, Scope, Value};
use pulsegate::config::{
    Config, DescriptorTables, Durability, ListenerConfig, LogFormat, PrintFormat, Quota, StoreConfig,
};
use pulsegate_core::exchange::Window;
use pulsegate_core::policy::{
    Framing, Heartbeat, LifetimePolicy, MinimumRate, Policy, Protocol, PulsePolicy, SecondConnection,
};
use std::time::Duration;

const EXAMPLE: &str = include_str!("../../../pulsegate.example.toml");

const EVERY_KEY: &str = r#"
descriptor_tables = "shared"
shards = 3
connections_max = 1000
drain_within = "0s"
gather = "2ms"
summary_every = "1m"
sink_queue_bytes_max = "1MiB"
print = "json"
log = "json"
[store]
data_dir = "kept/here"
durability = "os"
sessions_max = 21
sessions_per_address_max = 20
queue_bytes_max = "65KiB"
retention_age_max = "13s"
retention_bytes_max = "2MiB"
retention_bytes_per_session_max = 20000
retention_bytes_per_address_max = 20001
quota_bytes_max = 2001
quota_every = "14s"
outgoing_messages_max = 22
outgoing_bytes_max = 2002
outgoing_bytes_in_all_max = 2004
outgoing_bytes_per_address_max = 2003
wal_bytes = "300KiB"
[[listener]]
listen = "[::1]:7"
name = "devices"
protocol = "auto"
lifetime = "long"
heartbeat_timeout = "1s"
age_max = "1h"
first_message_timeout = "2s"
heartbeat = "PING"
framing = "lines"
sink = "echo"
message_bytes_max = 1001
output_bytes_max = 1002
write_timeout = "3s"
half_close_timeout = "4s"
sink_timeout = "5s"
minimum_rate = "100B"
minimum_rate_grace = "6s"
reply = "OK {n}"
farewell = "BYE {reason}"
flush_timeout = "7s"
linger_timeout = "8s"
linger_bytes_max = 1003
connections_max = 11
connections_per_address_max = 12
newcomers_max = 13
accept_rate_max = 14
user_timeout = "9s"
keepalive = "10s"
window_messages_max = 15
window_bytes_max = 1004
heartbeat_timeout_max = "11s"
session_timeout = "12s"
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
    assert_eq!(config.listeners.len(), 2);
    let asked_for = Some(Duration::from_secs(300));
    let pulse = PulsePolicy { heartbeat_timeout_max: asked_for, ..PulsePolicy::default() };
    assert_eq!(config.listeners[0].policy.pulse, pulse);
    assert_eq!(config.listeners[1].policy.age_max(), Duration::from_secs(30));
    assert_eq!(config.listeners[0].policy.minimum_rate.map(|rate| rate.grace), Some(Duration::from_secs(10)));
    assert!(config.shards.is_some() && config.listeners[0].policy.farewell.is_some());
}

/// Sets each key of a table to something else than its default, and looks whether it is kept.
fn check_kept<T: Default>(table: &'static [Key<T>], make: impl Fn(&Key<T>) -> T) {
    for key in table {
        let mut of = make(key);
        let value = match &key.kind {
            Kind::Duration(range) => Value::Duration(*range.end()),
            Kind::Size(range) | Kind::Count(range) => Value::Number((*range.end()).min(1 << 20)),
            Kind::Address => Value::Address(([192, 0, 2, 1], 9).into()),
            Kind::Word(words) => Value::Text(words[0].0.to_owned()),
            Kind::Line(_) | Kind::Text(..) => Value::Text("else".to_owned()),
        };
        key.set(&mut of, &value).expect(key.name);
        assert_eq!((key.at)(&mut of).and_then(|setting| setting.value()), Some(value), "{}", key.name);
        if let Kind::Word(words) = &key.kind {
            for (word, _) in *words {
                let value = Value::Text((*word).to_owned());
                key.set(&mut of, &value).expect(key.name);
                assert_eq!((key.at)(&mut of).and_then(|setting| setting.value()), Some(value), "{word}");
            }
        }
    }
}

#[test]
fn what_is_set_by_a_table_is_kept() {
    check_kept(GATEWAY, |_| Config::default());
    check_kept(STORE, |_| Config::default());
    check_kept(LISTENER, |key| {
        let mut listener = ListenerConfig::default();
        if key.scope.contains(&Scope::Short) {
            listener.policy.lifetime = LifetimePolicy::Short { deadline: Duration::from_secs(30) };
        }
        listener.policy.minimum_rate =
            Some(MinimumRate { bytes_per_second: 1, grace: Duration::from_secs(1) });
        listener
    });
}

#[test]
fn no_key_of_the_store_is_one_of_another_table() {
    for key in STORE {
        let others = GATEWAY.iter().map(|key| key.name).chain(LISTENER.iter().map(|key| key.name));
        assert!(!others.into_iter().any(|other| other == key.name), "{}", key.name);
    }
}
