//! What a configuration amounts to, a fact a line, and what of it may surprise. For `pulsegate check`.

use crate::summary::Summary;
use pulsegate::Durability;
use pulsegate::config::{Config, ListenerConfig, StoreConfig};
use pulsegate::text::{counted, duration, size};
use pulsegate_core::policy::Protocol;
use std::fmt;

/// Shows the listeners, the store, and what may wait or be kept.
#[derive(Clone, Copy, Debug)]
pub struct Overview<'a>(pub &'a Config);

impl fmt::Display for Overview<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(config) = self;
        for listener in &config.listeners {
            writeln!(f, "listener {}", Summary(listener))?;
        }
        let StoreConfig { retention_age, retention_bytes, durability, .. } = &config.store;
        if config.has_store() {
            let survives = match durability {
                Durability::Synced => "synced to disk before a receipt leaves",
                Durability::Os | Durability::None | Durability::Other(_) => {
                    "not synced before a receipt leaves"
                }
            };
            let (age, bytes) = (duration(*retention_age), size(*retention_bytes));
            writeln!(f, "store {}, {survives}", config.data_dir.display())?;
            writeln!(f, "store keeps messages for {age}, at most {bytes}; older ones go, read or not")?;
        }
        if config.listeners.iter().any(|listener| listener.policy.protocol != Protocol::Raw) {
            let sessions = counted(config.store.sessions_max, "session");
            let of_address = config.store.sessions_of_source_max();
            writeln!(f, "sessions: at most {sessions}, {of_address} from one address")?;
        }
        let connections = config.max_connections.map_or_else(
            || "as many as the limit of open files allows".to_owned(),
            |most| format!("at most {}", counted(most as u64, "connection")),
        );
        writeln!(f, "connections: {connections}")?;
        let (queue, outgoing) =
            (size(config.sink_queue_bytes_max as u64), config.store.outgoing_bytes_of_all());
        writeln!(
            f,
            "waiting: at most {queue} for a sink, {} for a store, {} for all clients",
            size(config.store.queue_bytes_max as u64),
            size(outgoing)
        )
    }
}

impl Overview<'_> {
    /// What may surprise, each in a sentence.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let Self(config) = self;
        config
            .listeners
            .iter()
            .filter(|listener| !listener.listen.ip().is_loopback())
            .flat_map(open_to_others)
            .collect()
    }
}

/// What is to be known of a listener that others than this machine can reach.
fn open_to_others(listener: &ListenerConfig) -> Vec<String> {
    let name = listener.name();
    let mut warnings = vec![format!(
        "{name} can be reached from other machines, without TLS: what is sent there can be read and changed on its way"
    )];
    if listener.policy.protocol != Protocol::Raw {
        warnings.push(format!(
            "{name}: ids are not proved; whoever reaches it may claim any that has no connection"
        ));
    }
    if listener.max_per_address.is_none() {
        warnings.push(format!(
            "{name}: one address may hold three quarters of the places; set connections_per_address_max"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_listener_is_warned_of_and_one_of_this_machine_is_not() {
        let mut config = Config::default();
        assert_eq!(Overview(&config).warnings(), [""; 0]);
        config.listeners[0].listen = ([0, 0, 0, 0], 7373).into();
        let warnings = Overview(&config).warnings();
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        config.listeners[0].max_per_address = Some(10);
        config.listeners[0].policy.protocol = Protocol::Raw;
        assert_eq!(Overview(&config).warnings().len(), 1);
    }
}
