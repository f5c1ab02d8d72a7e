//! Says what of a [`Config`] can't be kept, wherever it came from: each setting by itself, and the settings
//! against each other. Knows no file and no flag; whoever read them names the place.

mod address;
mod name;
mod policy;
mod store;

use super::fault::{Fault, Faults, Place};
use super::keys::{self, GATEWAY, LISTENER, Scope};
use super::{Config, ListenerConfig, STORE, cores};
use crate::text::size;
use pulsegate_core::frame::MESSAGE_BYTES_MAX;
use pulsegate_core::policy::Protocol;
use store::{check_room_for_others, check_shares};

/// The most listeners.
const LISTENERS_MAX: usize = 1024;
/// What a message counts in a quota beside its payload, in bytes.
const STORED_EXTRA: u64 = 64;

impl Config {
    /// Says what of these settings can't be kept. `sinks` are the names of the sinks that there are.
    ///
    /// # Errors
    /// All settings that are unbounded, out of their range, or contradict others: one fault for each key.
    pub fn check(&self, sinks: &[&str]) -> Result<(), Faults> {
        let mut faults = Faults::default();
        self.check_count(&mut faults);
        if self.listeners.len() > LISTENERS_MAX {
            return Err(faults);
        }
        // The tables of keys lead to where settings can be changed.
        let mut own = self.clone();
        keys::check(GATEWAY, &mut own, Place::Gateway, &mut faults);
        keys::check(keys::STORE, &mut own, Place::Store, &mut faults);
        self.check_folder(&mut faults);
        for (index, listener) in own.listeners.iter_mut().enumerate() {
            let place = Place::Listener(index);
            keys::check(LISTENER, listener, place, &mut faults);
            self.check_address(index, listener, &mut faults);
            self.check_name(index, listener, &mut faults);
            listener.check_raw(place, &mut faults);
            listener.check_policy(place, &mut faults);
            listener.check_sink(place, sinks, &mut faults);
        }
        self.check_stored(&mut faults);
        faults.into_result()
    }

    fn check_count(&self, faults: &mut Faults) {
        let (problem, fix) = match self.listeners.len() {
            0 => ("there is no listener", "add a [[listener]] table with `listen` = \"127.0.0.1:7373\""),
            1..=LISTENERS_MAX => return,
            _ => ("there are more than 1024 listeners", "leave some out"),
        };
        faults.push(Fault::new(Place::Gateway, "listener", problem, fix));
    }

    fn check_folder(&self, faults: &mut Faults) {
        let folder = self.data_dir.as_os_str().as_encoded_bytes();
        if folder.is_empty() || folder.contains(&0) {
            let (problem, fix) = ("it is empty or contains a NUL byte", "name a folder, such as data");
            faults.push(Fault::new(Place::Store, "data_dir", problem, fix));
        }
    }

    /// The store has to take what the listeners send it. Goes after the checks of the listeners.
    fn check_stored(&self, faults: &mut Faults) {
        check_shares(&self.store, faults);
        if let Some(bytes) = self.longest_stored() {
            for (key, has, needs) in [
                ("queue_bytes_max", self.store.queue_bytes_max as u64, 2 * bytes as u64),
                ("quota_bytes_max", self.store.quota.bytes, bytes as u64 + STORED_EXTRA),
            ] {
                if has < needs {
                    let problem =
                        format!("{} is too little for messages of up to {}", size(has), size(bytes as u64));
                    let fix = format!("raise it to {} or more, or lower `message_bytes_max`", size(needs));
                    faults.push(Fault::new(Place::Store, key, problem, fix));
                }
            }
        }
        if self.has_store() {
            check_room_for_others(&self.store, self.shards.map_or_else(cores, usize::from), faults);
        }
        // The ranges above lie within what a store takes; it has the last word all the same.
        if faults.0.is_empty()
            && let Err(error) = self.store_config().check()
        {
            let fix = "change that in the table of the store";
            faults.push(Fault::new(Place::Gateway, STORE, error.to_string(), fix));
        }
    }
}

impl ListenerConfig {
    /// A pulse listener has no raw clients, so that nothing may be said for them.
    fn check_raw(&mut self, place: Place, faults: &mut Faults) {
        if self.policy.protocol != Protocol::Pulse {
            return;
        }
        for key in LISTENER.iter().filter(|key| key.scope.contains(&Scope::Raw)) {
            let value = (key.at)(self).and_then(|setting| setting.value());
            if value != key.default() {
                faults.push(Fault::of(place, key.name, Scope::Raw.misfit()));
            }
        }
    }

    fn check_sink(&self, place: Place, sinks: &[&str], faults: &mut Faults) {
        if !sinks.contains(&self.sink.as_str()) {
            let problem = format!("there is no sink {:?}", self.sink);
            faults.push(Fault::new(place, "sink", problem, format!("known sinks: {}", sinks.join(", "))));
        }
        if self.sink == STORE && self.policy.message_bytes_max > MESSAGE_BYTES_MAX as usize {
            let problem = "the store takes at most 16MB in a message";
            let fix = "lower it to 16MB or less, or choose another `sink`";
            faults.push(Fault::new(place, "message_bytes_max", problem, fix));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::{Kind, Value};
    use crate::config::{SINKS, StoreConfig};
    use pulsegate_core::policy::{Framing, Heartbeat, Policy};
    use std::net::SocketAddr;
    use std::num::NonZeroUsize;
    use std::time::Duration;

    fn refused(change: impl FnOnce(&mut Config)) -> Vec<(Place, &'static str)> {
        let mut config = Config::default();
        config.listeners.push(ListenerConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 1)),
            ..ListenerConfig::default()
        });
        change(&mut config);
        let faults = config.check(&SINKS).expect_err("the settings can't be kept");
        faults.0.iter().map(|fault| (fault.place, fault.key)).collect()
    }

    #[test]
    fn the_default_configuration_is_sound() {
        assert_eq!(Config::default().check(&SINKS), Ok(()));
    }

    #[test]
    fn settings_of_the_gateway_are_named() {
        let second = Duration::from_secs(1);
        for (key, change) in [
            ("listener", (|config| config.listeners.clear()) as fn(&mut Config)),
            ("shards", |config| config.shards = NonZeroUsize::new(1025)),
            ("connections_max", |config| config.max_connections = Some(0)),
            ("drain_within", |config| config.drain_within = Duration::from_secs(3601)),
            ("gather", |config| config.gather = Some(Duration::from_secs(1))),
            ("summary_every", |config| config.summary_every = Duration::from_millis(500)),
            ("sink_queue_bytes_max", |config| config.sink_queue_bytes_max = 65_535),
            ("sink_queue_bytes_max", |config| config.sink_queue_bytes_max = usize::MAX),
        ] {
            assert_eq!(refused(change), [(Place::Gateway, key)]);
        }
        assert_eq!(refused(|config| config.data_dir = "".into()), [(Place::Store, "data_dir")]);
        assert_eq!(refused(|config| config.data_dir = "a\0b".into()), [(Place::Store, "data_dir")]);
        let several = refused(|config| {
            config.gather = Some(second);
            config.store.wal_bytes = 1;
            config.listeners[0].policy.flush = Duration::ZERO;
            config.listeners[1].policy.first_message = 25 * 3600 * second;
            config.listeners[1].sink = "strore".to_owned();
        });
        let listener = Place::Listener;
        let all = [
            (Place::Gateway, "gather"),
            (Place::Store, "wal_bytes"),
            (listener(0), "flush_timeout"),
            (listener(1), "first_message_timeout"),
            (listener(1), "sink"),
        ];
        assert_eq!(several, all, "all are told at once");
    }

    #[test]
    fn settings_of_the_store_are_named() {
        for (field, change) in [
            ("sessions_max", (|store| store.sessions_max = 0) as fn(&mut StoreConfig)),
            ("sessions_max", |store| store.sessions_max = 1_000_000_001),
            ("queue_bytes_max", |store| store.queue_bytes_max = 65_535),
            ("retention_age_max", |store| store.retention_age = Duration::from_millis(999)),
            ("retention_bytes_max", |store| store.retention_bytes = u64::MAX),
            ("quota_bytes_max", |store| store.quota.bytes = 64),
            ("quota_every", |store| store.quota.every = Duration::from_secs(31 * 86_400)),
            ("outgoing_messages_max", |store| store.outgoing_messages_max = 0),
            ("outgoing_bytes_max", |store| store.outgoing_bytes_max = 0),
            ("wal_bytes", |store| store.wal_bytes = 1),
            ("sessions_per_address_max", |store| store.sessions_per_source_max = Some(0)),
            ("outgoing_bytes_in_all_max", |store| {
                store.outgoing_bytes_in_all = Some(store.outgoing_bytes_max - 1)
            }),
            ("outgoing_bytes_per_address_max", |store| store.outgoing_bytes_per_source = Some(1)),
            ("retention_bytes_per_session_max", |store| store.retention_bytes_per_session = Some(1 << 20)),
            ("retention_bytes_per_address_max", |store| store.retention_bytes_per_source = Some(1 << 40)),
        ] {
            assert_eq!(refused(|config| change(&mut config.store)), [(Place::Store, field)]);
        }
    }

    /// Both ends of what a key may be.
    fn ends(kind: &Kind) -> Option<[Value; 2]> {
        match kind {
            Kind::Duration(range) => Some([Value::Duration(*range.start()), Value::Duration(*range.end())]),
            Kind::Size(range) | Kind::Count(range) => {
                Some([Value::Number(*range.start()), Value::Number(*range.end())])
            }
            Kind::Address | Kind::Word(_) | Kind::Line(_) | Kind::Text(..) => None,
        }
    }

    #[test]
    fn what_is_within_the_ranges_is_what_a_store_takes() {
        for end in [0, 1] {
            let mut config = Config::default();
            config.store.message_bytes_max = if end == 0 { 1 } else { MESSAGE_BYTES_MAX as usize };
            // Shares are bounded by what they are shares of.
            let is_share = |name: &str| name.contains("_per_") || name.ends_with("_in_all");
            for key in keys::STORE.iter().filter(|key| !is_share(key.name)) {
                let Some(ends) = ends(&key.kind) else { continue };
                assert_eq!(key.set(&mut config, &ends[end]), Ok(()), "{}", key.name);
            }
            assert_eq!(config.store.check(), Ok(()));
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
        let second = Place::Listener(1);
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
            ("linger_timeout", |listener| listener.policy.linger = Duration::ZERO),
            ("sink", |listener| listener.sink = "strore".to_owned()),
            ("connections_max", |listener| listener.max_connections = Some(0)),
            ("connections_per_address_max", |listener| listener.max_per_address = Some(0)),
            ("newcomers_max", |listener| listener.max_newcomers = Some(0)),
            ("accept_rate_max", |listener| listener.accept_rate = 0),
            ("user_timeout", |listener| listener.user_timeout = Duration::from_millis(999)),
            ("user_timeout", |listener| listener.user_timeout = Duration::from_secs(25 * 86_400)),
            ("keepalive", |listener| listener.keepalive = Duration::ZERO),
            ("window_messages_max", |listener| {
                listener.policy.protocol = Protocol::Auto;
                listener.policy.pulse.window.messages = 1_000_001;
            }),
            ("window_bytes_max", |listener| {
                listener.policy.protocol = Protocol::Pulse;
                listener.policy.pulse.window.bytes = 64 * 1024 * 1024 + 1;
            }),
            ("keepalive", |listener| listener.keepalive = Duration::from_secs(32_768)),
        ] {
            assert_eq!(of_second(change), [(second, field)]);
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
            let faults = config.check(&SINKS).expect_err("a pulse listener has no raw clients");
            assert_eq!((faults.0[0].place, faults.0[0].key), (Place::Listener(0), field));
        }
    }

    #[test]
    fn a_sink_that_an_embedding_program_gave_is_known() {
        let mut config = Config::default();
        config.listeners[0].sink = "engine".to_owned();
        assert_eq!(config.check(&["print", "engine"]), Ok(()));
    }
}
