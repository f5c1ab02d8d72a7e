//! Whether the addresses of the listeners can be listened on beside each other.

use super::{Config, Fault, Faults, ListenerConfig, Place};
use std::net::{IpAddr, SocketAddr};

impl Config {
    pub(super) fn check_address(&self, index: usize, listener: &ListenerConfig, faults: &mut Faults) {
        let address = listener.listen;
        let mut refuse = |problem: String, fix: String| {
            faults.push(Fault::new(Place::Listener(index), "listen", problem, fix));
        };
        if let IpAddr::V6(ip) = address.ip()
            && let Some(inner) = ip.to_ipv4_mapped()
        {
            let plain = SocketAddr::from((inner, address.port()));
            refuse(format!("{address} is an IPv4 address in the form of IPv6"), format!("write {plain}"));
            return;
        }
        let earlier = self.listeners.iter().take(index).map(|other| other.listen);
        let Some(other) = earlier.into_iter().find(|other| collide(*other, address)) else { return };
        let fix = "give each listener a port of its own".to_owned();
        if other == address {
            refuse(format!("{address} is the address of another listener too"), fix);
        } else {
            let (all, one) = if other.ip().is_unspecified() { (other, address) } else { (address, other) };
            refuse(format!("{all} takes {one} too, and another listener has that"), fix);
        }
    }
}

/// Whether the kernel refuses the second of these. Port 0 stands for a free port, a different one each time. At one port
/// all of IPv6 and addresses of IPv4 go together, since the socket then takes IPv6 only.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let of_one_family = one.is_ipv4() == other.is_ipv4();
    let takes_all = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && of_one_family && (takes_all || one == other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SINKS;

    /// What is said of the second of these addresses.
    fn refused(addresses: [&str; 2]) -> Option<String> {
        let listener = |address: &str| ListenerConfig {
            listen: address.parse().expect("an address"),
            ..ListenerConfig::default()
        };
        let config = Config { listeners: addresses.map(listener).into(), ..Config::default() };
        let faults = config.check(&SINKS).err()?.0;
        assert!(faults.iter().all(|fault| (fault.place, fault.key) == (Place::Listener(1), "listen")));
        Some(faults[0].problem.clone())
    }

    #[test]
    fn addresses_that_collide_are_told() {
        let same = refused(["127.0.0.1:9", "127.0.0.1:9"]);
        assert_eq!(same.as_deref(), Some("127.0.0.1:9 is the address of another listener too"));
        let said = "0.0.0.0:9 takes 127.0.0.1:9 too, and another listener has that";
        assert_eq!(refused(["0.0.0.0:9", "127.0.0.1:9"]).as_deref(), Some(said));
        assert_eq!(refused(["127.0.0.1:9", "0.0.0.0:9"]).as_deref(), Some(said));
        let said = "[::]:9 takes [::1]:9 too, and another listener has that";
        assert_eq!(refused(["[::]:9", "[::1]:9"]).as_deref(), Some(said));
        let said = "[::ffff:127.0.0.1]:9 is an IPv4 address in the form of IPv6";
        assert_eq!(refused(["0.0.0.0:9", "[::ffff:127.0.0.1]:9"]).as_deref(), Some(said));
    }

    #[test]
    fn addresses_that_go_together_are_taken() {
        for addresses in [
            ["0.0.0.0:9", "[::]:9"],
            ["127.0.0.1:9", "[::]:9"],
            ["0.0.0.0:9", "[::1]:9"],
            ["127.0.0.1:9", "127.0.0.2:9"],
            ["0.0.0.0:9", "127.0.0.1:8"],
            ["127.0.0.1:0", "127.0.0.1:0"],
            ["[::1]:0", "[::]:0"],
        ] {
            assert_eq!(refused(addresses), None, "{addresses:?}");
        }
    }
}
