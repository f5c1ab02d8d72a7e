//! Why an address can't be listened on: who has it, or what is missing. Reads /proc, and guesses nothing that is not there.

use nix::errno::Errno;
use pulsegate::config::Misfit;
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The most descriptors that are looked at in search of the one who listens.
const DESCRIPTORS_MAX: usize = 200_000;
/// The state of a socket that listens, in /proc/net/tcp.
const LISTENING: &str = "0A";

/// What is wrong with an address that the kernel refused, and what to do.
pub(super) fn misfit(address: SocketAddr, error: &io::Error) -> Misfit {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => {
            let who = holder(address).unwrap_or_else(|| "another program".to_owned());
            Misfit::new(format!("{address} is in use by {who}"), "end it, or listen on another port")
        }
        Some(Errno::EACCES) => {
            let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
            let start = start.map_or_else(|_| "1024".to_owned(), |text| text.trim().to_owned());
            Misfit::new(
                format!("port {} takes a privilege", address.port()),
                format!(
                    "choose a port from {start} on, or give the program the right: \
                     setcap cap_net_bind_service=+ep FILE, or AmbientCapabilities=CAP_NET_BIND_SERVICE in systemd"
                ),
            )
        }
        Some(Errno::EADDRNOTAVAIL) => {
            let all = if address.is_ipv4() { "0.0.0.0" } else { "[::]" };
            Misfit::new(
                format!("this machine has no address {}", address.ip()),
                format!("give it one that `ip address` shows, or {all} for all of them"),
            )
        }
        _ => Misfit::new(format!("can't listen on {address}: {error}"), "listen on another address"),
    }
}

/// Who listens there, as far as this process may see it.
fn holder(address: SocketAddr) -> Option<String> {
    let mut sockets = HashSet::new();
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = std::fs::read_to_string(path).unwrap_or_default();
        let inodes = table.lines().filter_map(|line| listening(line, address));
        sockets.extend(inodes.map(|inode| format!("socket:[{inode}]")));
    }
    let mut left = DESCRIPTORS_MAX;
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let process = numbers.find(|process| holds(*process, &sockets, &mut left))?;
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    Some(format!("{} (process {process})", pulsegate::text::readable(name.as_bytes())))
}

/// The inode of a socket that listens so that this address can't be had.
fn listening(line: &str, address: SocketAddr) -> Option<&str> {
    let mut fields = line.split_whitespace().skip(1);
    let local = fields.next().and_then(local_address)?;
    let is_listening = fields.nth(1) == Some(LISTENING);
    let takes_all = local.ip().is_unspecified() || address.ip().is_unspecified();
    let collides = local.port() == address.port() && (takes_all || local.ip() == address.ip());
    fields.nth(5).filter(|_| is_listening && collides)
}

/// An address as /proc writes it: words of the machine's own byte order in hexadecimal digits, and the port.
fn local_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |place: usize| {
        let digits = ip.get(place * 8..place * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip: IpAddr = if ip.len() == 8 {
        Ipv4Addr::from(word(0)?).into()
    } else {
        let words = [word(0)?, word(1)?, word(2)?, word(3)?];
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(words.iter().flatten()).for_each(|(byte, of_word)| *byte = *of_word);
        Ipv6Addr::from(bytes).into()
    };
    Some(SocketAddr::new(ip, port))
}

/// Whether one of a process's threads has one of these sockets: each may have a descriptor table of its own.
fn holds(process: u32, sockets: &HashSet<String>, left: &mut usize) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return false };
    threads.flatten().any(|thread| has_open(&thread.path().join("fd"), sockets, left))
}

fn has_open(folder: &Path, sockets: &HashSet<String>, left: &mut usize) -> bool {
    let Ok(descriptors) = std::fs::read_dir(folder) else { return false };
    descriptors.flatten().any(|descriptor| {
        *left = left.saturating_sub(1);
        let target = std::fs::read_link(descriptor.path()).ok();
        *left > 0 && target.is_some_and(|target| target.to_str().is_some_and(|name| sockets.contains(name)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn whoever_listens_is_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let said = holder(address).expect("it is this process");
        assert!(said.ends_with(&format!("(process {})", std::process::id())), "{said}");
        let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        assert_eq!(holder(all), Some(said));
        drop(listener);
        assert_eq!(holder(address), None);
    }

    #[test]
    fn addresses_of_the_kernel_are_read() {
        assert_eq!(local_address("0100007F:1CCD"), Some(SocketAddr::from(([127, 0, 0, 1], 7373))));
        let one = local_address("00000000000000000000000001000000:0050");
        assert_eq!(one, Some("[::1]:80".parse().expect("an address")));
        for text in ["", "0100007F", "xyz:1", "01:01", "é100007F:1CCD"] {
            assert_eq!(local_address(text), None, "{text}");
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_told_with_what_to_do() {
        let said = |address: &str, errno: Errno| {
            misfit(address.parse().expect("an address"), &io::Error::from_raw_os_error(errno as i32))
                .to_string()
        };
        assert!(
            said("127.0.0.1:80", Errno::EACCES).starts_with("port 80 takes a privilege; choose a port from ")
        );
        assert_eq!(
            said("192.0.2.1:80", Errno::EADDRNOTAVAIL),
            "this machine has no address 192.0.2.1; give it one that `ip address` shows, or 0.0.0.0 for all of them"
        );
    }
}
