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
        says: "Folder of the store's files, relative to where the gateway is started. Only one gateway can use it \
               at a time.",
        left_out: None,
        example: Some("\"data\""),
        reload: Reload::Restart,
    },
    Key {
        name: "durability",
        flag: Some("--durability"),
        kind: Kind::Word(&[
            ("os", "the end of the gateway by any signal, but not a power failure"),
            ("synced", "a power failure too: each batch is synced to disk first"),
        ]),
        at: |config| Some(&mut config.store.durability),
        scope: &[Scope::Disk],
        says: "What an acknowledged message survives.",
        left_out: None,
        example: Some("\"synced\""),
        reload: Reload::Restart,
    },
    Key {
        name: "sessions_max",
        flag: None,
        kind: Kind::Count(1..=1_000_000_000),
        at: |config| Some(&mut config.store.sessions_max),
        scope: &[],
        says: "Maximum number of sessions in the store, and in memory for each other sink. At the maximum, \
               unconnected sessions in which nothing was ever acknowledged, in either direction, make room, \
               oldest first; if there are none, new sessions are refused.",
        left_out: None,
        example: None,
        reload: Reload::AtOnce,
    },
    Key {
        name: "sessions_per_address_max",
        flag: None,
        kind: Kind::Count(1..=1_000_000_000),
        at: |config| Some(&mut config.store.sessions_per_source_max),
        scope: &[],
        says: "Maximum number of sessions of one source address (IPv6: one /48); at it the same holds for new \
               sessions from there only. The last quarter of `sessions_max` is kept for addresses that hold fewer \
               than 16, unless this key allows one address more than the rest.",
        left_out: Some("1/16 of `sessions_max`, at least 16"),
        example: Some("62500"),
        reload: Reload::AtOnce,
    },
    Key {
        name: "queue_bytes_max",
        flag: None,
        kind: Kind::Size(QUEUE_BYTES),
        at: |config| Some(&mut config.store.queue_bytes_max),
        scope: &[],
        says: "Maximum size of what waits for the store; above it reading stops until the store takes something. \
               At least two of the longest messages (`message_bytes_max` of the listeners).",
        left_out: None,
        example: None,
        reload: Reload::Restart,
    },
    Key {
        name: "retention_age_max",
        flag: None,
        kind: Kind::Duration(SECOND..=RETENTION_AGE_MAX),
        at: |config| Some(&mut config.store.retention_age),
        scope: &[],
        says: "How long messages are kept, counted while the gateway runs, whatever the wall clock says. Older \
               ones are deleted, read or not.",
        left_out: None,
        example: None,
        reload: Reload::AtOnce,
    },
    Key {
        name: "retention_bytes_max",
        flag: None,
        kind: Kind::Size(RETENTION_BYTES),
        at: |config| Some(&mut config.store.retention_bytes),
        scope: &[],
        says: "How many bytes of messages are kept; each message counts its payload, its client's id and 64 \
               bytes. Above it the oldest are deleted, read or not. At least twice `queue_bytes_max`, since what \
               waits is stored even if its sender's share is used up. The store uses at most three quarters of \
               the disk, or less if other files fill it.",
        left_out: None,
        example: None,
        reload: Reload::AtOnce,
    },
    Key {
        name: "retention_bytes_per_session_max",
        flag: None,
        kind: Kind::Size(1 << 10..=1 << 50),
        at: |config| Some(&mut config.store.retention_bytes_per_session),
        scope: &[],
        says: "How many of these bytes one session may have, from 1/1024 of `retention_bytes_max` to all of them. A \
               client that has as much is not read until older messages are deleted.",
        left_out: Some("1/16 of `retention_bytes_max`"),
        example: Some("\"512MiB\""),
        reload: Reload::AtOnce,
    },
    Key {
        name: "retention_bytes_per_address_max",
        flag: None,
        kind: Kind::Size(1 << 10..=1 << 50),
        at: |config| Some(&mut config.store.retention_bytes_per_source),
        scope: &[],
        says: "The same for one source address (IPv6: one /48) with all its sessions and raw clients, so that \
               nobody pushes out what others have sent. Raise it for a proxy, or for many clients behind one \
               router: from 7/8 of `retention_bytes_max` on there is no share, clients are always read, and the \
               oldest messages make room.",
        left_out: Some("1/4 of `retention_bytes_max`"),
        example: Some("\"2GiB\""),
        reload: Reload::AtOnce,
    },
    Key {
        name: "quota_bytes_max",
        flag: None,
        kind: Kind::Size(65..=1 << 50),
        at: |config| Some(&mut config.store.quota.bytes),
        scope: &[],
        says: "How much one session may store within `quota_every`; each message counts its payload and 64 bytes. \
               At least one of the longest messages.",
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
        says: "The period of `quota_bytes_max`.",
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
        says: "Maximum number of messages to one client that wait for its receipt.",
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
        says: "Maximum size of the messages to one client that wait for its receipt.",
        left_out: None,
        example: None,
        reload: Reload::AtOnce,
    },
    Key {
        name: "outgoing_bytes_in_all_max",
        flag: None,
        kind: Kind::Size(1..=1 << 50),
        at: |config| Some(&mut config.store.outgoing_bytes_in_all),
        scope: &[],
        says: "The same for all clients together, at least `outgoing_bytes_max`; messages beyond it are refused.",
        left_out: Some("256MiB, at least `outgoing_bytes_max`"),
        example: Some("\"256MiB\""),
        reload: Reload::AtOnce,
    },
    Key {
        name: "outgoing_bytes_per_address_max",
        flag: None,
        kind: Kind::Size(1..=1 << 50),
        at: |config| Some(&mut config.store.outgoing_bytes_per_source),
        scope: &[],
        says: "The same for the clients of one source address (IPv6: of one /48), at least \
               `outgoing_bytes_max`.",
        left_out: Some("1/4 of `outgoing_bytes_in_all_max`"),
        example: Some("\"64MiB\""),
        reload: Reload::AtOnce,
    },
    Key {
        name: "wal_bytes",
        flag: None,
        kind: Kind::Size(256 << 10..=1 << 30),
        at: |config| Some(&mut config.store.wal_bytes),
        scope: &[],
        says: "Size of the write-ahead log at which it is moved into the database. Commits wait meanwhile: a \
               larger log means fewer and longer waits, about 4 ms per MiB.",
        left_out: None,
        example: None,
        reload: Reload::Restart,
    },
];
