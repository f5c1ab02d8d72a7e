//! Opens listening sockets: one per shard and address, so that the kernel spreads the newcomers.

use pulsegate_shard::Place;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// As long a queue as the kernel allows.
const BACKLOG: i32 = 65_535;
/// Between two keepalive probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How many probes may go unanswered.
const KEEPALIVE_PROBES: u32 = 3;

/// A socket that listens, and its address, with its port if a free one was taken.
///
/// The first listens alone, without sharing, so that a second gateway on the same address is refused
/// instead of taking half of the newcomers; only then it is shared with the others. (To be bound is not
/// enough: two sockets that both allow the address to be used again may both be bound until one listens.)
///
/// # Errors
/// What the kernel said.
pub(crate) fn open(place: &Place) -> io::Result<(mio::net::TcpListener, SocketAddr)> {
    let socket = socket(place)?;
    if place.only_v6 {
        socket.set_only_v6(true)?;
    }
    if place.shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&place.address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_reuse_port(true)?;
    let address = socket.local_addr()?.as_socket().unwrap_or(place.address);
    Ok((mio::net::TcpListener::from_std(socket.into()), address))
}

/// Accepted connections inherit these options, which spares a call for each.
fn socket(place: &Place) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(place.address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(place.user_timeout))?;
    let keepalive = TcpKeepalive::new()
        .with_time(place.keepalive)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    const ANYWHERE: Place = Place {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        shared: false,
        only_v6: false,
        keepalive: Duration::from_secs(60),
        user_timeout: Duration::from_secs(30),
    };

    #[test]
    fn several_sockets_share_an_address_that_nobody_else_can_take() {
        let (first, address) = open(&ANYWHERE).expect("a free port");
        let other = || open(&Place { address, shared: true, ..ANYWHERE }).expect("the address is shared").0;
        let sockets = [first, other(), other()];
        assert!(sockets.iter().all(|socket| socket.local_addr().is_ok_and(|local| local == address)));
        let clients: Vec<_> =
            (0..200).map(|_| std::net::TcpStream::connect(address).expect("it listens")).collect();
        let shares: Vec<usize> =
            sockets.iter().map(|socket| std::iter::from_fn(|| socket.accept().ok()).count()).collect();
        assert_eq!(shares.iter().sum::<usize>(), clients.len());
        assert!(shares.iter().all(|share| *share > 20), "the kernel spreads the newcomers: {shares:?}");
        let refused = open(&Place { address, ..ANYWHERE }).expect_err("the address is taken");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }
}
