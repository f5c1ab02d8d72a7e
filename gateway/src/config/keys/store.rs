//! The settings of the store.

use super::{Key, Kind, Reload, Scope};
use crate::config::Config;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The shortest time that a store counts in.
const SECOND: Duration = Duration::from_secs(1);
/// Ten years, each of 365.25 days.
const RETENTION_AGE_MAX: Duration = Duration::from_secs(10 * 31_557_600);
const QUOTA_EVERY_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// What may wait for a store.
pub(crate) const QUEUE_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 30;
const RETENTION_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 50;

/// The keys of the table `[store]`.
pub const STORE: &[Key<Config>] = &[
    Key {
        name: "data_dir",
        flag: Some("--data-dir"),
        kind: Kind::Text("DIR", "a folder"),
        at: |config| Some(&mut config.data_dir),
        scope: &[Scope::Disk],
        says: "The folder of the store's files, seen from where the gateway is started. It belongs to one \
               gateway only.",
        left_out: None,
        example: Some("\"data\""),
        reload: Reload::Restart,
    },
    Key {
        name: "durability",
        flag: Some("--durability"),
        kind: Kind::Word(&[
            ("os", "the end of the gateway, by whatever signal, but not the loss of power"),
            ("synced", "the loss of power as well: each batch is synced to disk first"),
        ]),
        at: |config| Some(&mut config.store.durability),
        scope: &[Scope::Disk],
        says: "What a message survives that was acknowledged.",
        left_out: None,
        example: Some("\"synced\""),
        reload: Reload::Restart,
    },
    Key {
        name: "max_sessions",
        flag: None,
        kind: Kind::Count(1..=1_000_000_000),
        at: |config| Some(&mut config.store.sessions_max),
        scope: &[],
        says: "The most sessions, and as many in memory for each other sink. When there are as many, those \
               without a connection in which nothing was ever acknowledged, in either direction, go for \
               newcomers, oldest first; when there are none, newcomers are refused.",
        left_out: None,
        example: None,
        reload: Reload::AtOnce,
    },
    Key {
        name: "max_sessions_per_address",
        flag: None,
        kind: Kind::Count(1..=1_000_000_000),
        at: |config| Some(&mut config.store.sessions_per_source_max),
        scope: &[],
        says: "The most sessions of one source address (IPv6: of one /48); above it the same goes for newcomers \
               from there alone. Of `max_sessions` the last quarter is kept for addresses that hold fewer than \
               16, unless this allows an address more than the rest.",
        left_out: Some("1/16 of `max_sessions`, but 16 at least"),
        example: Some("62500"),
        reload: Reload::AtOnce,
    },
    Key {
        name: "queue_bytes_max",
        flag: None,
        kind: Kind::Size(QUEUE_BYTES),
        at: |config| Some(&mut config.store.queue_bytes_max),
        scope: &[],
        says: "The most that waits for the store; above it reading stops until the store takes something. It \
               holds at least two of the longest messages (`message_bytes_max` of the listeners).",
        left_out: None,
        example: None,
        reload: Reload::Restart,
    },
    Key {
        name: "retention_age",
        flag: None,
        kind: Kind::Duration(SECOND..=RETENTION_AGE_MAX),
        at: |config| Some(&mut config.store.retention_age),
        scope: &[],
        says: "How long messages are kept, in time in which the gateway runs, whatever the wall clock says. \
               Older ones are deleted, read or not.",
        left_out: None,
        example: None,
        reload: Reload::AtOnce,
    },
    Key {
        name: "retention_bytes",
        flag: None,
        kind: Kind::Size(RETENTION_BYTES),
        at: |config| Some(&mut config.store.retention_bytes),
        scope: &[],
        says: "How many bytes of messages are kept; each counts 64 beside its payload and its client's id. \
               Above it the oldest are deleted, read or not. At least twice `queue_bytes_max`: what waits is \
               stored although its sender's share is used up. No more than three quarters of the disk are used, \
               or what the store's part of it has room for.",
        left_out: None,
        example: None,
        reload: Reload::AtOnce,
    },
    Key {
        name: "retention_bytes_per_session",
        flag: None,
        kind: Kind::Size(1 << 10..=1 << 50),
        at: |config| Some(&mut config.store.retention_bytes_per_session),
        scope: &[],
        says: "How many of these bytes one session may have, from 1/1024 of `retention_bytes` to all of them. \
               Who has as much is not read any more until older messages have gone.",
        left_out: Some("1/16 of `retention_bytes`"),
        example: Some("\"512MiB\""),
        reload: Reload::AtOnce,
    },
    Key {
        name: "retention_bytes_per_address",
        flag: None,
        kind: Kind::Size(1 << 10..=1 << 50),
        at: |config| Some(&mut config.store.retention_bytes_per_source),
        scope: &[],
        says: "The same for one source address (IPv6: one /48) with all of its sessions and raw clients, so \
               that nobody pushes out what others have sent. Raise it where a proxy stands, or many clients \
               behind one router: 7/8 of `retention_bytes` or more means no share, so that clients are read on \
               and the oldest messages make room.",
        left_out: Some("1/4 of `retention_bytes`"),
        example: Some("\"2GiB\""),
        reload: Reload::AtOnce,
    },
    Key {
        name: "quota_bytes",
        flag: None,
        kind: Kind::Size(65..=1 << 50),
        at: |config| Some(&mut config.store.quota.bytes),
        scope: &[],
        says: "How much one session may store within `quota_every`; each message counts 64 beside its payload. \
               It holds at least one of the longest messages.",
        left_out: None,
        example: None,
        reload: Reload::AtOnce,
    },
    Key {
        name: "quota_every",
        flag: None,
        kind: Kind::Duration(SECOND..=QUOTA_EVERY_MAX),
        at: |config| Some(&mut config.store.quota.every),
        scope: &[],
        says: "The time that `quota_bytes` is for.",
        left_out: None,
        example: None,
        reload: Reload::AtOnce,
    },
    Key {
        name: "outgoing_messages_max",
        flag: None,
        kind: Kind::Count(1..=1_000_000),
        at: |config| Some(&mut config.store.outgoing_messages_max),
        scope: &[],
        says: "The most messages to one client that wait for its receipt.",
        left_out: None,
        example: None,
        reload: Reload::AtOnce,
    },
    Key {
        name: "outgoing_bytes_max",
        flag: None,
        kind: Kind::Size(1..=1 << 30),
        at: |config| Some(&mut config.store.outgoing_bytes_max),
        scope: &[],
        says: "The most bytes of messages to one client that wait for its receipt.",
        left_out: None,
        example: None,
        reload: Reload::AtOnce,
    },
    Key {
        name: "outgoing_bytes_in_all",
        flag: None,
        kind: Kind::Size(1..=1 << 50),
        at: |config| Some(&mut config.store.outgoing_bytes_in_all),
        scope: &[],
        says: "The same for all clients together, at least `outgoing_bytes_max`; more is refused.",
        left_out: Some("256MiB, but `outgoing_bytes_max` at least"),
        example: Some("\"256MiB\""),
        reload: Reload::AtOnce,
    },
    Key {
        name: "outgoing_bytes_per_address",
        flag: None,
        kind: Kind::Size(1..=1 << 50),
        at: |config| Some(&mut config.store.outgoing_bytes_per_source),
        scope: &[],
        says: "The same for the clients of one source address (IPv6: of one /48), at least \
               `outgoing_bytes_max`.",
        left_out: Some("1/4 of `outgoing_bytes_in_all`"),
        example: Some("\"64MiB\""),
        reload: Reload::AtOnce,
    },
    Key {
        name: "wal_bytes",
        flag: None,
        kind: Kind::Size(256 << 10..=1 << 30),
        at: |config| Some(&mut config.store.wal_bytes),
        scope: &[],
        says: "At which size of the write-ahead log its content is moved into the database. Commits wait \
               meanwhile: a larger one means fewer and longer waits, some 4 ms for each MiB.",
        left_out: None,
        example: None,
        reload: Reload::Restart,
    },
];
