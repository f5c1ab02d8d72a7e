//! The settings of the gateway as a whole.

use super::kind::ANY_COUNT;
use super::{Key, Kind, Reload};
use crate::config::Config;
use std::time::Duration;

/// The most shards. Each is a thread.
pub(crate) const SHARDS_MAX: usize = 1024;

/// The keys at the top of a file.
pub const GATEWAY: &[Key<Config>] = &[
    Key {
        name: "shards",
        flag: Some("--shards"),
        kind: Kind::Count(1..=SHARDS_MAX as u64),
        at: |config| Some(&mut config.shards),
        scope: &[],
        says: "Number of threads that hold connections.",
        left_out: Some("one per core, or more if the descriptors for `connections_max` require it"),
        example: Some("2"),
        reload: Reload::Restart,
    },
    Key {
        name: "descriptor_tables",
        flag: None,
        kind: Kind::Word(&[
            ("per-shard", "each shard has one, and the limit counts for each"),
            ("shared", "all shards share that of the process"),
        ]),
        at: |config| Some(&mut config.descriptor_tables),
        scope: &[],
        says: "Whose descriptor table the sockets are in, and so what the limit of open files counts for.",
        left_out: Some(
            "\"per-shard\", or with a warning \"shared\" where the kernel forbids that or /proc is missing",
        ),
        example: Some("\"shared\""),
        reload: Reload::Restart,
    },
    Key {
        name: "connections_max",
        flag: Some("--max-connections"),
        kind: Kind::Count(ANY_COUNT),
        at: |config| Some(&mut config.max_connections),
        scope: &[],
        says: "Maximum number of connections.",
        left_out: Some("as many as the limit of open files allows, minus a reserve"),
        example: Some("100000"),
        reload: Reload::AtOnce,
    },
    Key {
        name: "gather",
        flag: None,
        kind: Kind::Duration(Duration::ZERO..=Duration::from_millis(10)),
        at: |config| Some(&mut config.gather),
        scope: &[],
        says: "How long input may gather before it is read, when so much arrives that waking up for each message \
               would cost most of the time. \"0s\" switches this off.",
        left_out: Some("\"1ms\" if no listener ever sends anything back, otherwise \"0s\""),
        example: Some("\"1ms\""),
        reload: Reload::AtOnce,
    },
    Key {
        name: "drain_within",
        flag: Some("--drain-within"),
        kind: Kind::Duration(Duration::ZERO..=Duration::from_secs(3600)),
        at: |config| Some(&mut config.drain_within),
        scope: &[],
        says: "Spread a graceful shutdown over this time. Meanwhile newcomers are told to come back. Everyone is \
               told when: after the shutdown and a second for the restart, at the pace of `accept_rate_max`. 5s later \
               the gateway ends: what the sinks and the store have not taken by then is given up, counted and \
               logged.",
        left_out: None,
        example: None,
        reload: Reload::AtOnce,
    },
    Key {
        name: "summary_every",
        flag: None,
        kind: Kind::Duration(Duration::from_secs(1)..=Duration::from_secs(24 * 3600)),
        at: |config| Some(&mut config.summary_every),
        scope: &[],
        says: "Interval of the log's summary of what ended and why.",
        left_out: None,
        example: None,
        reload: Reload::AtOnce,
    },
    Key {
        name: "sink_queue_bytes_max",
        flag: None,
        kind: Kind::Size(64 << 10..=1 << 30),
        at: |config| Some(&mut config.sink_queue_bytes_max),
        scope: &[],
        says: "Maximum size of what waits for one sink. Above it reading stops until the sink takes something.",
        left_out: None,
        example: None,
        reload: Reload::Restart,
    },
    Key {
        name: "print",
        flag: Some("--print"),
        kind: Kind::Word(&[("human", "one line for people"), ("json", "one JSON object per line")]),
        at: |config| Some(&mut config.print),
        scope: &[],
        says: "How the print sink writes.",
        left_out: None,
        example: None,
        reload: Reload::Restart,
    },
    Key {
        name: "log",
        flag: Some("--log"),
        kind: Kind::Word(&[("text", "one line for people"), ("json", "one JSON object per line")]),
        at: |config| Some(&mut config.log),
        scope: &[],
        says: "How the log is written.",
        left_out: None,
        example: None,
        reload: Reload::Restart,
    },
];
