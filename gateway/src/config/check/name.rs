//! Whether a listener's name can be kept.

use super::{Config, Fault, Faults, ListenerConfig, Place};

/// The longest name of a listener, in bytes.
const NAME_BYTES_MAX: usize = 64;

impl Config {
    /// A name means one listener, and can stand anywhere without quotes.
    pub(super) fn check_name(&self, index: usize, listener: &ListenerConfig, faults: &mut Faults) {
        let Some(name) = &listener.name else { return };
        let mut refuse = |problem: String, fix: &str| {
            faults.push(Fault::new(Place::Listener(index), "name", problem, fix));
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
            refuse(
                format!("{name:?} can't be a name"),
                "give it 1 to 64 letters (a to z), digits and -_.:[]",
            );
            return;
        }
        let is_taken = |(place, other): (usize, &ListenerConfig)| {
            let comes_first = place < index || other.name.is_none();
            place != index && comes_first && other.name() == *name
        };
        if self.listeners.iter().enumerate().any(is_taken) {
            refuse(format!("another listener is called {name} too"), "give each listener a name of its own");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SINKS;
    use std::net::SocketAddr;

    #[test]
    fn a_name_is_one_listeners_only() {
        let named = |port, name: Option<&str>| ListenerConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            name: name.map(str::to_owned),
            ..ListenerConfig::default()
        };
        let check = |listeners: [ListenerConfig; 2]| {
            let config = Config { listeners: listeners.into(), ..Config::default() };
            config.check(&SINKS).map_err(|faults| (faults.0[0].place, faults.0[0].key))
        };
        let longest = "a".repeat(NAME_BYTES_MAX);
        assert_eq!(check([named(1, Some("devices")), named(2, Some(&longest))]), Ok(()));
        assert_eq!(check([named(1, Some("127.0.0.1:1")), named(2, None)]), Ok(()), "its own address");
        let taken = |listener| Err((Place::Listener(listener), "name"));
        assert_eq!(check([named(1, Some("devices")), named(2, Some("devices"))]), taken(1));
        assert_eq!(check([named(1, None), named(2, Some("127.0.0.1:1"))]), taken(1));
        assert_eq!(check([named(1, Some("127.0.0.1:2")), named(2, None)]), taken(0));
        assert_eq!(
            (named(1, None).name(), named(1, Some("devices")).name()),
            ("127.0.0.1:1".into(), "devices".into())
        );
    }
}
