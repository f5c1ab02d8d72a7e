//! A configuration file as it is written: every key is optional and remembers where its value stands.
//! Knows the types of the values, not which of them go together.

use crate::units::{WrittenAddress, WrittenCount, WrittenDuration, WrittenSize};
use pulsegate::config::{DescriptorTables, Durability, LogFormat, PrintFormat};
use pulsegate_core::policy::{Protocol, SecondConnection};
use std::ops::Range;
use toml::Spanned;

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawLifetime {
    Short,
    Long,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawFraming {
    Chunks,
    Lines,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawProtocol {
    Raw,
    Pulse,
    Auto,
}

impl From<RawProtocol> for Protocol {
    fn from(written: RawProtocol) -> Self {
        match written {
            RawProtocol::Raw => Self::Raw,
            RawProtocol::Pulse => Self::Pulse,
            RawProtocol::Auto => Self::Auto,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawSecondConnection {
    Allow,
    Replace,
    Refuse,
}

impl From<RawSecondConnection> for SecondConnection {
    fn from(written: RawSecondConnection) -> Self {
        match written {
            RawSecondConnection::Allow => Self::Allow,
            RawSecondConnection::Replace => Self::Replace,
            RawSecondConnection::Refuse => Self::Refuse,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawDurability {
    Os,
    Synced,
}

impl From<RawDurability> for Durability {
    fn from(written: RawDurability) -> Self {
        match written {
            RawDurability::Os => Self::Os,
            RawDurability::Synced => Self::Synced,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RawDescriptorTables {
    PerShard,
    Shared,
}

impl From<RawDescriptorTables> for DescriptorTables {
    fn from(written: RawDescriptorTables) -> Self {
        match written {
            RawDescriptorTables::PerShard => Self::PerShard,
            RawDescriptorTables::Shared => Self::Shared,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawPrint {
    Human,
    Json,
}

impl From<RawPrint> for PrintFormat {
    fn from(written: RawPrint) -> Self {
        match written {
            RawPrint::Human => Self::Human,
            RawPrint::Json => Self::Json,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawLog {
    Text,
    Json,
}

impl From<RawLog> for LogFormat {
    fn from(written: RawLog) -> Self {
        match written {
            RawLog::Text => Self::Text,
            RawLog::Json => Self::Json,
        }
    }
}

/// One table of the file. The list of its keys and the way from a key to its place are made together with
/// the struct, so that they can't drift apart.
macro_rules! raw_table {
    ($name:ident, $expected:literal, { $($key:ident: $type:ty,)* }) => {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields, expecting = $expected)]
        pub(crate) struct $name { $(pub(crate) $key: Option<Spanned<$type>>,)* }

        impl $name {
            pub(crate) const KEYS: &[&str] = &[$(stringify!($key)),*];

            /// Where the value of this key stands, in bytes; `None`: the key is absent.
            pub(crate) fn span(&self, key: &str) -> Option<Range<usize>> {
                match key {
                    $(stringify!($key) => self.$key.as_ref().map(Spanned::span),)*
                    _ => None,
                }
            }
        }
    };
}

raw_table! {
    RawFile, "a configuration", {
        shards: WrittenCount,
        descriptor_tables: RawDescriptorTables,
        max_connections: WrittenCount,
        gather: WrittenDuration,
        drain_within: WrittenDuration,
        summary_every: WrittenDuration,
        sink_queue_bytes_max: WrittenSize,
        print: RawPrint,
        log: RawLog,
        store: RawStore,
        listener: Vec<Spanned<RawListener>>,
    }
}

raw_table! {
    RawStore, "the table of the store", {
        data_dir: String,
        durability: RawDurability,
        max_sessions: WrittenCount,
        max_sessions_per_address: WrittenCount,
        queue_bytes_max: WrittenSize,
        retention_age: WrittenDuration,
        retention_bytes: WrittenSize,
        retention_bytes_per_session: WrittenSize,
        retention_bytes_per_address: WrittenSize,
        quota_bytes: WrittenSize,
        quota_every: WrittenDuration,
        outgoing_messages_max: WrittenCount,
        outgoing_bytes_max: WrittenSize,
        outgoing_bytes_in_all: WrittenSize,
        outgoing_bytes_per_address: WrittenSize,
        wal_bytes: WrittenSize,
    }
}

raw_table! {
    RawListener, "a listener table", {
        listen: WrittenAddress,
        name: String,
        protocol: RawProtocol,
        lifetime: RawLifetime,
        deadline: WrittenDuration,
        heartbeat_timeout: WrittenDuration,
        max_age: WrittenDuration,
        first_message: WrittenDuration,
        heartbeat: String,
        framing: RawFraming,
        sink: String,
        message_bytes_max: WrittenSize,
        output_bytes_max: WrittenSize,
        write_stall: WrittenDuration,
        half_close: WrittenDuration,
        sink_stall: WrittenDuration,
        minimum_rate: WrittenSize,
        minimum_rate_grace: WrittenDuration,
        reply: String,
        farewell: String,
        flush: WrittenDuration,
        linger: WrittenDuration,
        linger_bytes_max: WrittenSize,
        max_connections: WrittenCount,
        max_per_address: WrittenCount,
        max_newcomers: WrittenCount,
        accept_rate: WrittenCount,
        user_timeout: WrittenDuration,
        keepalive: WrittenDuration,
        window_messages: WrittenCount,
        window_bytes: WrittenSize,
        heartbeat_timeout_max: WrittenDuration,
        session_ttl: WrittenDuration,
        second_connection: RawSecondConnection,
    }
}
