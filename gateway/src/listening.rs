//! Opens listening sockets: one per shard and address, so that the kernel spreads the newcomers.

use crate::config::ListenerConfig;
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

/// A socket that listens, and its address, with its port if a free one was taken. `taken` is where another one of
/// ours listens already; `beside_v4`, another listener takes IPv4 on this port, so an IPv6 one takes none.
///
/// The first listens alone, without sharing, so that a second gateway on the same address is refused
/// instead of taking half of the newcomers; only then it is shared with the others. (To be bound is not
/// enough: two sockets that both allow the address to be used again may both be bound until one listens.)
pub(crate) fn open(
    config: &ListenerConfig,
    taken: Option<SocketAddr>,
    beside_v4: bool,
) -> io::Result<(SocketAddr, mio::net::TcpListener)> {
    let socket = socket(config)?;
    if beside_v4 && config.listen.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if let Some(address) = taken {
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        return Ok((address, mio::net::TcpListener::from_std(socket.into())));
    }
    socket.bind(&config.listen.into())?;
    socket.listen(BACKLOG)?;
    socket.set_reuse_port(true)?;
    let address = socket.local_addr()?.as_socket().unwrap_or(config.listen);
    Ok((address, mio::net::TcpListener::from_std(socket.into())))
}

/// Accepted connections inherit these options, which spares a call for each.
fn socket(config: &ListenerConfig) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(config.listen), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(config.user_timeout))?;
    let keepalive = TcpKeepalive::new()
        .with_time(config.keepalive)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anywhere() -> ListenerConfig {
        ListenerConfig { listen: ([127, 0, 0, 1], 0).into(), ..ListenerConfig::default() }
    }

    #[test]
    fn several_sockets_share_an_address_that_nobody_else_can_take() {
        let (address, first) = open(&anywhere(), None, false).expect("a free port");
        let other = || open(&anywhere(), Some(address), false).expect("the address is shared").1;
        let sockets = [first, other(), other()];
        assert!(sockets.iter().all(|socket| socket.local_addr().is_ok_and(|local| local == address)));
        let clients: Vec<_> =
            (0..200).map(|_| std::net::TcpStream::connect(address).expect("it listens")).collect();
        let shares: Vec<usize> =
            sockets.iter().map(|socket| std::iter::from_fn(|| socket.accept().ok()).count()).collect();
        assert_eq!(shares.iter().sum::<usize>(), clients.len());
        assert!(shares.iter().all(|share| *share > 20), "the kernel spreads the newcomers: {shares:?}");
        let again = ListenerConfig { listen: address, ..anywhere() };
        let refused = open(&again, None, false).expect_err("the address is taken");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }
}
