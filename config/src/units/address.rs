//! Addresses to listen on as people write them, and what is wrong with those that can't be one.

use super::{clipped, quoted};
use pulsegate::config::Misfit;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Reads an IP address with a port.
///
/// # Errors
/// Anything else, host names too: which of a name's addresses is meant would be a guess.
pub fn parse_address(text: &str) -> Result<SocketAddr, Misfit> {
    let text = text.trim();
    text.parse().map_err(|_| misfit(text))
}

const EXPECTED: &str = "give it an IP address and a port, such as 127.0.0.1:7373 or [::1]:7373";

fn misfit(text: &str) -> Misfit {
    if text.contains('/') {
        let what = if text.contains("://") { "a URL" } else { "a path" };
        return Misfit::new(format!("{} is {what}; only TCP is listened on", quoted(text)), EXPECTED);
    }
    if text.matches(':').count() > 1 && !text.starts_with('[') {
        return unbracketed(text);
    }
    let is_whole = text.ends_with(']') || !text.contains(':');
    match text.rsplit_once(':').filter(|_| !is_whole) {
        Some((host, port)) => of_parts(text, host, port),
        None if is_ip(text) => {
            Misfit::new(format!("{} has no port", quoted(text)), format!("add one, such as {text}:7373"))
        }
        None if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            of_parts(text, "", text)
        }
        None => Misfit::new(format!("{} is not an address", quoted(text)), EXPECTED),
    }
}

/// An address of IPv6 as it is written alone. Where its last part may be the port, it is taken for one.
fn unbracketed(text: &str) -> Misfit {
    let problem = format!("{} is IPv6 without brackets", quoted(text));
    if let Some((host, port)) = text.rsplit_once(':')
        && host.parse::<Ipv6Addr>().is_ok()
        && port.parse::<u16>().is_ok()
    {
        return Misfit::new(problem, format!("write [{host}]:{port}"));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Misfit::new(problem, format!("write [{text}]:7373, with the port behind the brackets"));
    }
    Misfit::new(format!("{} is not an address", quoted(text)), EXPECTED)
}

fn of_parts(text: &str, host: &str, port: &str) -> Misfit {
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = clipped(port);
    if !is_number {
        return Misfit::new(format!("{} has no port", quoted(text)), EXPECTED);
    }
    if port.parse::<u16>().is_err() {
        return Misfit::new(
            format!("there is no port {port}"),
            "give it a port of at most 65535; 0 takes a free one",
        );
    }
    if host.is_empty() || host == "*" {
        let problem = format!("{} has no IP address", quoted(text));
        let fix =
            format!("write 127.0.0.1:{port} for this machine alone, or 0.0.0.0:{port} for all others too");
        return Misfit::new(problem, fix);
    }
    if host.contains(|letter: char| letter.is_alphabetic()) && !host.starts_with('[') {
        let fix = format!(
            "give it the IP address, such as 127.0.0.1:{port}, or 0.0.0.0:{port} for all of this machine"
        );
        return Misfit::new(format!("{} is a host name", quoted(host)), fix);
    }
    Misfit::new(format!("{} is not an IP address", quoted(host)), EXPECTED)
}

/// Whether it is an address of IPv4, or of IPv6 in brackets.
fn is_ip(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.map_or_else(|| text.parse::<IpAddr>().is_ok(), |inner| inner.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for text in ["127.0.0.1:7373", " [::1]:0 ", "[fe80::1%2]:80", "0.0.0.0:65535"] {
            assert_eq!(parse_address(text), Ok(text.trim().parse().expect(text)));
        }
    }

    #[test]
    fn what_is_no_address_is_told_what_it_is() {
        let at_most = "give it a port of at most 65535; 0 takes a free one";
        for (text, problem, fix) in [
            (
                "localhost:80",
                "\"localhost\" is a host name",
                "give it the IP address, such as 127.0.0.1:80, or 0.0.0.0:80 for all of this machine",
            ),
            ("unix:/run/gate.sock", "\"unix:/run/gate.sock\" is a path; only TCP is listened on", EXPECTED),
            ("./gate.sock", "\"./gate.sock\" is a path; only TCP is listened on", EXPECTED),
            ("tcp://1.2.3.4:5", "\"tcp://1.2.3.4:5\" is a URL; only TCP is listened on", EXPECTED),
            ("127.0.0.1:75010", "there is no port 75010", at_most),
            ("[::1]:75010", "there is no port 75010", at_most),
            ("127.0.0.1:-1", "\"127.0.0.1:-1\" has no port", EXPECTED),
            ("127.0.0.1:", "\"127.0.0.1:\" has no port", EXPECTED),
            ("127.0.0.1", "\"127.0.0.1\" has no port", "add one, such as 127.0.0.1:7373"),
            ("[::1]", "\"[::1]\" has no port", "add one, such as [::1]:7373"),
            ("::1:7373", "\"::1:7373\" is IPv6 without brackets", "write [::1]:7373"),
            ("::", "\"::\" is IPv6 without brackets", "write [::]:7373, with the port behind the brackets"),
            (
                "fe80::abcd",
                "\"fe80::abcd\" is IPv6 without brackets",
                "write [fe80::abcd]:7373, with the port behind the brackets",
            ),
            (
                "7373",
                "\"7373\" has no IP address",
                "write 127.0.0.1:7373 for this machine alone, or 0.0.0.0:7373 for all others too",
            ),
            (
                ":80",
                "\":80\" has no IP address",
                "write 127.0.0.1:80 for this machine alone, or 0.0.0.0:80 for all others too",
            ),
            ("1.2.3.400:80", "\"1.2.3.400\" is not an IP address", EXPECTED),
            ("", "\"\" is not an address", EXPECTED),
            ("localhost", "\"localhost\" is not an address", EXPECTED),
            ("1:2:3", "\"1:2:3\" is not an address", EXPECTED),
        ] {
            assert_eq!(parse_address(text), Err(Misfit::new(problem, fix)), "{text}");
        }
    }
}
