//! The address of a peer, packed: a connection keeps one, so it costs 18 bytes instead of 32.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A peer's address and port. The scope of a link-local IPv6 address is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    address: [u8; 16],
    port: u16,
}

/// What a limit per source address counts by: an IPv4 address, or an IPv6 network of 64 bits, which is
/// what one customer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source([u8; 8]);

/// As one number: hashing eight bytes one by one costs each connection far more.
impl std::hash::Hash for Source {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from_ne_bytes(self.0));
    }
}

impl Peer {
    /// Packs an address. An IPv4 address inside IPv6 is that IPv4 address.
    pub const fn new(address: SocketAddr) -> Self {
        let octets = match address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        Self { address: octets, port: address.port() }
    }

    /// The address again.
    #[inline]
    pub(crate) fn address(self) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::from(self.address)).to_canonical(), self.port)
    }

    /// What the limit per source address counts it by.
    #[inline]
    pub(crate) fn source(self) -> Source {
        let mut source = [0; 8];
        match self.address().ip() {
            // The network ::/64 holds no global address, so its upper half is free to mark IPv4.
            IpAddr::V4(v4) => source[4..].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => source.copy_from_slice(&v6.octets()[..8]),
        }
        Source(source)
    }
}

impl Source {
    /// The network that it belongs to: an IPv6 network of 48 bits, which is what one site is given; an IPv4 address
    /// stands alone.
    pub(crate) const fn network(self) -> Self {
        let Self(mut bytes) = self;
        if !self.is_v4() {
            (bytes[6], bytes[7]) = (0, 0);
        }
        Self(bytes)
    }

    /// As a store counts it: never 0, which is nobody's there.
    pub(crate) const fn number(self) -> i64 {
        match i64::from_be_bytes(self.0) {
            // The network of ::1. No other has all bits set.
            0 => -1,
            number => number,
        }
    }

    /// The source with this number.
    pub(crate) const fn from_number(number: i64) -> Self {
        Self(if number == -1 { [0; 8] } else { number.to_be_bytes() })
    }

    const fn is_v4(self) -> bool {
        matches!(self.0, [0, 0, 0, 0, ..])
    }
}

/// As people write it, a network of 48 bits as such.
impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, f_, g, h] = self.0;
        if self.is_v4() {
            return std::net::Ipv4Addr::new(e, f_, g, h).fmt(f);
        }
        let pair = |high, low| u16::from_be_bytes([high, low]);
        let address = Ipv6Addr::new(pair(a, b), pair(c, d), pair(e, f_), pair(g, h), 0, 0, 0, 0);
        let bits = if *self == self.network() { 48 } else { 64 };
        write!(f, "{address}/{bits}")
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer::new(address.parse().expect("an address"))
    }

    #[test]
    fn addresses_survive_packing() {
        for address in ["127.0.0.1:80", "[2001:db8::1]:443", "[::1]:1"] {
            assert_eq!(peer(address).address().to_string(), address);
        }
        assert_eq!(peer("[::ffff:10.0.0.1]:7").address().to_string(), "10.0.0.1:7");
    }

    #[test]
    fn sources_are_ipv4_addresses_and_ipv6_networks() {
        assert_eq!(peer("10.0.0.1:1").source(), peer("10.0.0.1:2").source());
        assert_eq!(peer("[::ffff:10.0.0.1]:7").source(), peer("10.0.0.1:2").source());
        assert_ne!(peer("10.0.0.1:1").source(), peer("10.0.0.2:1").source());
        assert_eq!(peer("[2001:db8:0:1::1]:1").source(), peer("[2001:db8:0:1:f::2]:1").source());
        assert_ne!(peer("[2001:db8:0:1::1]:1").source(), peer("[2001:db8:0:2::1]:1").source());
        assert_ne!(peer("[::1]:1").source(), peer("0.0.0.1:1").source());
    }

    #[test]
    fn a_site_of_ipv6_is_one_network_and_so_is_each_ipv4_address() {
        let network = |address| peer(address).source().network();
        assert_eq!(network("[2001:db8:0:1::1]:1"), network("[2001:db8:0:ffff::1]:2"));
        assert_ne!(network("[2001:db8:0:1::1]:1"), network("[2001:db8:1:1::1]:1"));
        assert_ne!(network("10.0.0.1:1"), network("10.0.0.2:1"));
        assert_eq!(network("[2001:db8:0:1::1]:1").to_string(), "2001:db8::/48");
        assert_eq!(peer("[2001:db8:0:1::1]:1").source().to_string(), "2001:db8:0:1::/64");
        assert_eq!(network("10.0.0.1:1").to_string(), "10.0.0.1");
    }
}
