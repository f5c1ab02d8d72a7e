//! From what was typed to an open connection; every failure is a sentence that says what to do. Must not know: what
//! the connection is for.

use anyhow::{anyhow, bail};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one address may take to answer.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// How dialling ended.
pub(super) enum Dialled {
    /// There is a connection to this address.
    Open(TcpStream, SocketAddr),
    /// There was one, but this address reset it at once.
    Reset(SocketAddr),
}

/// An address as it is typed, if it is host:port; whether there is such a host shows later.
///
/// # Errors
/// What is missing.
pub(super) fn parse_address(address: &str) -> anyhow::Result<String> {
    split(address).map(|_| address.to_owned())
}

/// The addresses behind `host:port`. Blocks while a name is looked up.
///
/// # Errors
/// When it isn't host:port, or the name isn't known.
pub(super) fn resolve(address: &str) -> anyhow::Result<Vec<SocketAddr>> {
    let (host, port) = split(address)?;
    let unknown = "check the spelling, or give the address in numbers, for example 127.0.0.1:7373";
    let found = (host, port).to_socket_addrs().map_err(|error| {
        anyhow!("the name `{}` could not be resolved ({error}): {unknown}", host.escape_debug())
    })?;
    let addresses: Vec<_> = found.take(ADDRESSES_MAX).collect();
    if addresses.is_empty() {
        bail!("the name `{}` has no address: {unknown}", host.escape_debug());
    }
    Ok(addresses)
}

fn split(address: &str) -> anyhow::Result<(&str, u16)> {
    let shown = address.escape_debug();
    if address.parse::<std::net::Ipv6Addr>().is_ok() {
        bail!("`{shown}` has no port: write an IPv6 address with a port as [{shown}]:7373");
    }
    let Some((host, port)) = address.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) else {
        bail!("`{shown}` has no port: write host:port, for example 127.0.0.1:7373");
    };
    let port = match port.parse() {
        Ok(port) if port > 0 => port,
        Ok(_) | Err(_) => {
            bail!(
                "the port in `{shown}` is not a number from 1 to 65535: write host:port, for example 127.0.0.1:7373"
            )
        }
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        bail!("`{shown}` is not host:port: write an IPv6 address in brackets, for example [::1]:7373");
    }
    let host = bare.unwrap_or(host);
    if host.is_empty() {
        bail!("`{shown}` has no host: write host:port, for example 127.0.0.1{shown}");
    }
    Ok((host, port))
}

/// Connects to the first of the addresses that answers, and says which it was; they are tried in turn, each for 10 s.
///
/// # Errors
/// When none does.
pub(super) async fn connect(name: &str, addresses: &[SocketAddr]) -> anyhow::Result<Dialled> {
    let mut failures = Vec::new();
    for &address in addresses {
        match timeout(CONNECT_WAIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(Dialled::Open(stream, address)),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(Dialled::Reset(address));
            }
            Ok(Err(error)) => failures.push((address, error)),
            Err(_) => failures.push((address, io::ErrorKind::TimedOut.into())),
        }
    }
    if failures.iter().all(|(_, error)| error.kind() == io::ErrorKind::ConnectionRefused) {
        bail!("{}", nothing_listens(name));
    }
    let sentences: Vec<_> = failures.iter().map(|(address, error)| sentence(*address, error)).collect();
    bail!("{}", sentences.join("; "))
}

/// What to do where every address of the name refuses.
pub(super) fn nothing_listens(name: &str) -> String {
    let name = name.escape_debug();
    format!("nothing listens on {name}: is the gateway running? start it with `pulsegate serve`")
}

fn sentence(address: SocketAddr, error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::ConnectionRefused {
        format!("nothing listens on {address}")
    } else if kind == io::ErrorKind::TimedOut {
        format!("{address} does not answer: is the address right, and does a firewall let the port through?")
    } else {
        format!("no connection to {address} ({error}): is the address right, and can this machine reach it?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_told_apart() {
        for (address, expected) in [
            ("127.0.0.1:7373", ("127.0.0.1", 7373)),
            ("localhost:1", ("localhost", 1)),
            ("[::1]:65535", ("::1", 65535)),
            ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
        ] {
            assert_eq!(split(address).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (address, expected) in [
            ("localhost", "`localhost` has no port"),
            ("127.0.0.1", "`127.0.0.1` has no port"),
            ("", "`` has no port"),
            ("[::1]", "`[::1]` has no port"),
            ("::1", "as [::1]:7373"),
            (":7373", "for example 127.0.0.1:7373"),
            ("localhost:", "is not a number from 1 to 65535"),
            ("localhost:http", "is not a number from 1 to 65535"),
            ("localhost:0", "is not a number from 1 to 65535"),
            ("localhost:65536", "is not a number from 1 to 65535"),
            ("fe80::1%eth0:80", "in brackets"),
        ] {
            let error = split(address).unwrap_err().to_string();
            assert!(error.contains(expected), "{address}: {error}");
        }
    }
}
