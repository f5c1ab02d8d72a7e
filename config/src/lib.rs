//! Reads a configuration file of pulsegate: TOML text becomes raw tables, raw tables become a [`Config`], and every
//! error on the way says line and column. Knows no flags, and opens nothing but the one file.
//!
//! Modules, each using only those after it: `explain`, `raw`, `units`, `error`, `summary`.

mod error;
mod explain;
mod raw;
mod summary;
#[cfg(test)]
mod tests;
pub mod units;

pub use error::ConfigError;
pub use summary::Summary;

use error::Fault;
use pulsegate::config::check::ConfigFault;
use pulsegate::config::{Config, ListenerConfig, Quota, StoreConfig, check, defaults};
use pulsegate_core::exchange::Window;
use pulsegate_core::policy::{
    Framing, Heartbeat, LifetimePolicy, MinimumRate, Policy, Protocol, PulsePolicy,
};
use raw::{RawFile, RawFraming, RawLifetime, RawListener, RawStore};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use units::{WrittenCount, WrittenDuration, WrittenSize};

/// The largest file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// How long a peer may send nothing at all, where a minimum rate is set and nothing else is said.
const MINIMUM_RATE_GRACE: Duration = Duration::from_secs(10);

/// What says nothing where only raw bytes are spoken.
const PULSE_KEYS: [&str; 5] =
    ["window_messages", "window_bytes", "heartbeat_timeout_max", "session_ttl", "second_connection"];

const TEXT_EXPECTED: &str = "save the file as UTF-8 text";

/// Reads a configuration file. `sinks` are the names of the sinks that there are.
///
/// # Errors
/// A file that can't be read, is larger than [`FILE_BYTES_MAX`] or is not UTF-8, and whatever [`parse`]
/// refuses.
pub fn read(path: &Path, sinks: &[&str]) -> Result<Config, ConfigError> {
    let name = path.display().to_string();
    let unread = |error: std::io::Error| {
        ConfigError::unread(
            &name,
            &format!("can't be read: {error}"),
            "give the path of a file that may be read",
        )
    };
    let file = std::fs::File::open(path).map_err(unread)?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large from one that just fits, whatever its
    // metadata say; a device or a pipe has no length.
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(ConfigError::unread(
            &name,
            "is larger than 1 MiB",
            "give the path of a configuration file",
        ));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(text, &name, sinks),
        Err(error) => {
            let start = error.valid_up_to();
            let span = start..start + char::REPLACEMENT_CHARACTER.len_utf8();
            let fault = Fault::new(span, "this is not UTF-8", TEXT_EXPECTED);
            Err(ConfigError::at(&name, &String::from_utf8_lossy(&bytes), &fault))
        }
    }
}

/// Reads the text of a configuration file. `name` is what errors call it; `sinks` are the names of the sinks
/// that there are.
///
/// # Errors
/// The first of: what is not TOML, an unknown key, a value of the wrong type, and settings that can't be
/// kept or contradict each other.
pub fn parse(text: &str, name: &str, sinks: &[&str]) -> Result<Config, ConfigError> {
    // A byte order mark takes no column.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    resolve(text, sinks).map_err(|fault| ConfigError::at(name, text, &fault))
}

fn resolve(text: &str, sinks: &[&str]) -> Result<Config, Fault> {
    // TOML refuses a NUL byte too, but may find something else wrong before it.
    if let Some(start) = text.find('\0') {
        return Err(Fault::new(start..start + 1, "this is not text", TEXT_EXPECTED));
    }
    let file: RawFile = toml::from_str(text).map_err(|error| explain::explain(text, &error))?;
    let tables = file.listener.as_ref().map_or(&[][..], |tables| tables.get_ref().as_slice());
    let raw_store = file.store.as_ref().map(Spanned::get_ref);
    let default = Config::default();
    let config = Config {
        listeners: tables.iter().map(listener).collect::<Result<_, _>>()?,
        shards: value(&file.shards).map(|WrittenCount(count)| count),
        descriptor_tables: value(&file.descriptor_tables).map(Into::into),
        max_connections: count(&file.max_connections),
        gather: duration(&file.gather),
        drain_within: duration(&file.drain_within).unwrap_or(default.drain_within),
        summary_every: duration(&file.summary_every).unwrap_or(default.summary_every),
        sink_queue_bytes_max: size(&file.sink_queue_bytes_max).unwrap_or(default.sink_queue_bytes_max),
        print: value(&file.print).map_or(default.print, Into::into),
        log: value(&file.log).map_or(default.log, Into::into),
        data_dir: raw_store.and_then(|raw| value(&raw.data_dir)).map_or(default.data_dir, PathBuf::from),
        store: raw_store.map_or(default.store, store),
    };
    config.check(sinks).map_err(|fault| config_fault(span_of(&file, tables, &fault), &fault))?;
    for key in check::STORE_KEYS {
        if !config.has_store()
            && let Some(span) = raw_store.and_then(|raw| raw.span(key))
        {
            return Err(config_fault(span, &check::without_store(key)));
        }
    }
    Ok(config)
}

/// Where the setting at fault stands. No key of the store is one of a listener or of the gateway too.
fn span_of(file: &RawFile, tables: &[Spanned<RawListener>], fault: &ConfigFault) -> Range<usize> {
    let of_store = RawStore::KEYS.contains(&fault.field);
    if of_store && let Some(span) = file.store.as_ref().and_then(|raw| raw.get_ref().span(fault.field)) {
        return span;
    }
    match fault.listener.and_then(|index| tables.get(index)) {
        // The store's default is at odds with what this listener asks of it.
        Some(table) if of_store => place(table, "message_bytes_max"),
        Some(table) => place(table, fault.field),
        None if of_store => file.span("store").unwrap_or_default(),
        None => file.span(fault.field).unwrap_or_default(),
    }
}

fn store(raw: &RawStore) -> StoreConfig {
    let default = StoreConfig::default();
    StoreConfig {
        durability: value(&raw.durability).map_or(default.durability, Into::into),
        queue_bytes_max: size(&raw.queue_bytes_max).unwrap_or(default.queue_bytes_max),
        sessions_max: count(&raw.max_sessions).map_or(default.sessions_max, wide),
        sessions_per_source_max: count(&raw.max_sessions_per_address).map(wide),
        message_bytes_max: default.message_bytes_max,
        quota: Quota {
            bytes: size(&raw.quota_bytes).map_or(default.quota.bytes, wide),
            every: duration(&raw.quota_every).unwrap_or(default.quota.every),
        },
        outgoing_messages_max: count(&raw.outgoing_messages_max).map_or(default.outgoing_messages_max, wide),
        outgoing_bytes_max: size(&raw.outgoing_bytes_max).map_or(default.outgoing_bytes_max, wide),
        unjudged_bytes_max: default.unjudged_bytes_max,
        outgoing_bytes_in_all: size(&raw.outgoing_bytes_in_all).map(wide),
        outgoing_bytes_per_source: size(&raw.outgoing_bytes_per_address).map(wide),
        retention_age: duration(&raw.retention_age).unwrap_or(default.retention_age),
        retention_bytes: size(&raw.retention_bytes).map_or(default.retention_bytes, wide),
        retention_bytes_per_session: size(&raw.retention_bytes_per_session).map(wide),
        retention_bytes_per_source: size(&raw.retention_bytes_per_address).map(wide),
        wal_bytes: size(&raw.wal_bytes).map_or(default.wal_bytes, wide),
    }
}

fn config_fault(span: Range<usize>, fault: &ConfigFault) -> Fault {
    Fault::new(span, format!("{}: {}", fault.field, fault.problem), fault.mend.as_str())
}

/// Where a key of a listener stands, or the listener's header if the key is absent.
fn place(table: &Spanned<RawListener>, key: &str) -> Range<usize> {
    table.get_ref().span(key).unwrap_or_else(|| table.span())
}

fn listener(table: &Spanned<RawListener>) -> Result<ListenerConfig, Fault> {
    let raw = table.get_ref();
    let default = ListenerConfig::default();
    let Some(listen) = &raw.listen else {
        return Err(Fault::new(
            table.span(),
            "this listener has no address",
            "add listen = \"127.0.0.1:7373\"",
        ));
    };
    Ok(ListenerConfig {
        name: value(&raw.name),
        listen: listen.get_ref().0,
        policy: policy(table)?,
        sink: value(&raw.sink).unwrap_or(default.sink),
        max_connections: count(&raw.max_connections),
        max_per_address: count(&raw.max_per_address),
        max_newcomers: count(&raw.max_newcomers),
        accept_rate: match &raw.accept_rate {
            Some(rate) => u32::try_from(rate.get_ref().0.get()).map_err(|_| {
                Fault::new(
                    rate.span(),
                    "accept_rate: that is more than can be counted",
                    "give it at most 4294967295",
                )
            })?,
            None => default.accept_rate,
        },
        user_timeout: duration(&raw.user_timeout).unwrap_or(default.user_timeout),
        keepalive: duration(&raw.keepalive).unwrap_or(default.keepalive),
    })
}

fn policy(table: &Spanned<RawListener>) -> Result<Policy, Fault> {
    let raw = table.get_ref();
    let default = defaults::policy(lifetime(table)?);
    let message_bytes_max = size(&raw.message_bytes_max).unwrap_or(default.message_bytes_max);
    Ok(Policy {
        protocol: protocol(raw)?,
        pulse: pulse(raw, message_bytes_max)?,
        lifetime: default.lifetime,
        first_message: duration(&raw.first_message).unwrap_or(default.first_message),
        heartbeat: match value(&raw.heartbeat) {
            None => default.heartbeat,
            Some(any) if any == "any" => Heartbeat::Any,
            Some(line) => Heartbeat::Line(line.into_bytes().into()),
        },
        framing: match value(&raw.framing) {
            None => default.framing,
            Some(RawFraming::Chunks) => Framing::Chunks,
            Some(RawFraming::Lines) => Framing::Lines,
        },
        message_bytes_max,
        output_bytes_max: size(&raw.output_bytes_max).unwrap_or(default.output_bytes_max),
        write_stall: duration(&raw.write_stall).unwrap_or(default.write_stall),
        half_close: duration(&raw.half_close).unwrap_or(default.half_close),
        sink_stall: duration(&raw.sink_stall).unwrap_or(default.sink_stall),
        minimum_rate: minimum_rate(raw)?,
        reply: value(&raw.reply).map(String::into_boxed_str),
        farewell: value(&raw.farewell).map(String::into_boxed_str),
        flush: duration(&raw.flush).unwrap_or(default.flush),
        linger: duration(&raw.linger).unwrap_or(default.linger),
        linger_bytes_max: size(&raw.linger_bytes_max).unwrap_or(default.linger_bytes_max),
    })
}

fn protocol(raw: &RawListener) -> Result<Protocol, Fault> {
    let protocol = value(&raw.protocol).map_or(defaults::PROTOCOL, Protocol::from);
    let written = |keys: &[&'static str]| keys.iter().find_map(|key| Some((*key, raw.span(key)?)));
    match protocol {
        Protocol::Raw => match written(&PULSE_KEYS) {
            Some((key, span)) => Err(Fault::new(
                span,
                format!("{key} belongs to the pulse protocol, but this listener is raw"),
                "take it out, or set protocol = \"pulse\" or \"auto\"",
            )),
            None => Ok(protocol),
        },
        // Even what says only the default is a misunderstanding here.
        Protocol::Pulse => match written(&check::RAW_KEYS) {
            Some((key, span)) => Err(config_fault(span, &check::raw_only(key))),
            None => Ok(protocol),
        },
        Protocol::Auto => Ok(protocol),
    }
}

fn pulse(raw: &RawListener, message_bytes_max: usize) -> Result<PulsePolicy, Fault> {
    // What wouldn't fit is told as it was written.
    if let Some(number) = count(&raw.window_messages).filter(|number| u32::try_from(*number).is_err()) {
        return Err(Fault::new(
            raw.span("window_messages").unwrap_or_default(),
            format!("window_messages: {number} is out of range"),
            format!("give it 1 to {}", check::WINDOW_MESSAGES_MAX),
        ));
    }
    let default = PulsePolicy::default();
    Ok(PulsePolicy {
        window: Window {
            messages: count(&raw.window_messages).map_or(default.window.messages, bounded),
            // The default gives way to what is stated: it always holds one of the longest messages.
            bytes: size(&raw.window_bytes)
                .map_or_else(|| default.window.bytes.max(bounded(message_bytes_max)), bounded),
        },
        heartbeat_timeout_max: duration(&raw.heartbeat_timeout_max),
        session_ttl: duration(&raw.session_ttl).unwrap_or(default.session_ttl),
        second_connection: value(&raw.second_connection).map_or(default.second_connection, Into::into),
    })
}

fn lifetime(table: &Spanned<RawListener>) -> Result<LifetimePolicy, Fault> {
    let raw = table.get_ref();
    let lifetime = value(&raw.lifetime).unwrap_or(RawLifetime::Long);
    let (foreign, this, other): (&[&str], _, _) = match lifetime {
        RawLifetime::Short => (&["heartbeat_timeout", "heartbeat_timeout_max", "max_age"], "short", "long"),
        RawLifetime::Long => (&["deadline"], "long", "short"),
    };
    for key in foreign {
        if let Some(span) = raw.span(key) {
            let problem = format!("{key} belongs to lifetime = \"{other}\", but this listener is {this}");
            return Err(Fault::new(span, problem, format!("take it out, or set lifetime = \"{other}\"")));
        }
    }
    match lifetime {
        RawLifetime::Long => Ok(defaults::long(duration(&raw.heartbeat_timeout), duration(&raw.max_age))),
        RawLifetime::Short => match duration(&raw.deadline) {
            Some(deadline) => Ok(LifetimePolicy::Short { deadline }),
            None => {
                let span = place(table, "lifetime");
                Err(Fault::new(span, "a short listener needs a deadline", "add deadline = \"30s\""))
            }
        },
    }
}

fn minimum_rate(raw: &RawListener) -> Result<Option<MinimumRate>, Fault> {
    let grace = duration(&raw.minimum_rate_grace);
    if let Some(WrittenSize(bytes_per_second)) = value(&raw.minimum_rate) {
        return Ok(Some(MinimumRate { bytes_per_second, grace: grace.unwrap_or(MINIMUM_RATE_GRACE) }));
    }
    match raw.span("minimum_rate_grace") {
        Some(span) => Err(Fault::new(
            span,
            "minimum_rate_grace says nothing without minimum_rate",
            "add minimum_rate = \"100B\", or take it out",
        )),
        None => Ok(None),
    }
}

fn value<T: Clone>(field: &Option<Spanned<T>>) -> Option<T> {
    field.as_ref().map(|value| value.get_ref().clone())
}

fn duration(field: &Option<Spanned<WrittenDuration>>) -> Option<Duration> {
    value(field).map(|WrittenDuration(duration)| duration)
}

fn count(field: &Option<Spanned<WrittenCount>>) -> Option<usize> {
    value(field).map(|WrittenCount(count)| count.get())
}

/// What is too large for this machine is also above every limit that is checked afterwards.
fn size(field: &Option<Spanned<WrittenSize>>) -> Option<usize> {
    value(field).map(|WrittenSize(bytes)| usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// As [`size`]: what doesn't fit is above every limit that is checked afterwards.
fn bounded(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

const fn wide(number: usize) -> u64 {
    number as u64
}
