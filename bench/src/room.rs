//! What this machine has room for: descriptors, ports, memory. Says which setting to change before anything is started.
//! Must not know: what is measured.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Descriptors of a table that are not connections: the standard streams, poller, timer, what the server child has.
const RESERVE: usize = 32;
/// Ports of one source that are used before the next source is: the fuller, the longer the kernel searches.
const PORTS_SHARE: usize = 4;
/// Sources for short-lived connections, whose ports stay taken for a while.
const SOURCES_CHURNED: usize = 16;
const SOURCES_MAX: usize = 60_000;
/// What the kernel keeps for one end of a connection.
const KERNEL_BYTES: usize = 4_200;

/// From which addresses connections come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sources {
    /// The kernel chooses.
    Any,
    /// This many, from 127.0.0.1 on.
    Loopback(usize),
}

impl Sources {
    /// Where the connection with this number comes from; none if the kernel chooses.
    pub(crate) fn of(self, number: usize) -> Option<IpAddr> {
        match self {
            Self::Any => None,
            Self::Loopback(count) => {
                let offset = u32::try_from(number % count.max(1)).unwrap_or(0);
                Some(Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + offset).into())
            }
        }
    }
}

/// What the kernel allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Open descriptors in one table.
    pub(crate) descriptors: usize,
    /// Ephemeral ports of one address.
    pub(crate) ports: usize,
    /// Open files of the whole machine, less those that are open.
    pub(crate) files: usize,
    /// The most that the limit of descriptors can be raised to.
    pub(crate) descriptors_max: usize,
    pub(crate) memory: usize,
    pub(crate) tables: bool,
}

/// What a round wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) threads: Option<usize>,
    pub(crate) sources: Option<usize>,
    /// Connections come and go.
    pub(crate) churns: bool,
}

/// How the connections are spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) threads: usize,
    /// Each thread has a descriptor table of its own.
    pub(crate) parted: bool,
    pub(crate) sources: Sources,
    pub(crate) warnings: Vec<String>,
}

impl Machine {
    /// Raises the limit of descriptors as far as it goes, and looks.
    pub(crate) fn look() -> Self {
        let number = |path: &str, field: usize| {
            let text = std::fs::read_to_string(path).ok()?;
            text.split_whitespace().nth(field)?.parse::<usize>().ok()
        };
        let range = "/proc/sys/net/ipv4/ip_local_port_range";
        let (low, high) = (number(range, 0).unwrap_or(32_768), number(range, 1).unwrap_or(60_999));
        let open = number("/proc/sys/fs/file-nr", 0).unwrap_or(0);
        let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
            line.split_whitespace().next()?.parse::<usize>().ok()
        });
        Self {
            descriptors: raise_descriptor_limit(),
            ports: (high + 1).saturating_sub(low),
            files: number("/proc/sys/fs/file-max", 0).unwrap_or(usize::MAX).saturating_sub(open),
            descriptors_max: number("/proc/sys/fs/nr_open", 0).unwrap_or(1_048_576),
            memory: memory.map_or(usize::MAX, |kilobytes| kilobytes.saturating_mul(1024)),
            tables: crate::tables::are_permitted(),
        }
    }

    /// Connections that fit into one table.
    pub(crate) const fn per_table(&self) -> usize {
        let room = self.descriptors.saturating_sub(RESERVE);
        if room == 0 { 1 } else { room }
    }

    /// Finds room for what is wished.
    ///
    /// # Errors
    /// What is too small, with the command that raises it.
    pub(crate) fn room(&self, wish: &Wish) -> Result<Room, String> {
        let mut warnings = Vec::new();
        let threads = self.threads(wish)?;
        let parted = threads > 1 && self.tables;
        if threads > 1 && !parted {
            warnings.push(
                "descriptor tables can't be parted here (unshare is not permitted): all threads share one"
                    .to_owned(),
            );
        }
        let local = wish.address.ip().is_loopback();
        let ends = if local { 2 } else { 1 };
        let files = wish.connections.saturating_mul(ends);
        if files > self.files {
            return Err(format!(
                "{files} open files are needed{}, but the machine allows {} more; raise it with \
                 `sysctl -w fs.file-max={}`",
                if local { " (both ends are on this machine)" } else { "" },
                self.files,
                files.saturating_mul(2)
            ));
        }
        let bytes = files.saturating_mul(KERNEL_BYTES);
        if bytes > self.memory {
            warnings.push(format!(
                "the kernel needs about {} MiB for {files} sockets, but only {} MiB of memory are free",
                bytes >> 20,
                self.memory >> 20
            ));
        }
        Ok(Room { threads, parted, sources: self.sources(wish)?, warnings })
    }

    fn threads(&self, wish: &Wish) -> Result<usize, String> {
        let needed = wish.connections.div_ceil(self.per_table());
        if needed > 1 && !self.tables {
            return Err(format!(
                "{} connections need more descriptors than the {} that this process may open, and descriptor tables \
                 can't be parted here (unshare is not permitted); {}",
                wish.connections,
                self.descriptors,
                self.raise(wish.connections)
            ));
        }
        let threads = wish.threads.unwrap_or(needed).min(wish.connections).max(1);
        if threads < needed {
            return Err(format!(
                "--threads {threads} can hold {} connections, since each thread may open {} descriptors; give --threads \
                 {needed} or more, or {}",
                threads * self.per_table(),
                self.descriptors,
                self.raise(wish.connections.div_ceil(threads))
            ));
        }
        Ok(threads)
    }

    fn raise(&self, connections: usize) -> String {
        let wanted = connections + RESERVE;
        let most = if wanted > self.descriptors_max {
            format!(", after `sysctl -w fs.nr_open={wanted}`")
        } else {
            String::new()
        };
        format!("raise the limit of open files with `ulimit -Hn {wanted}` (as root{most})")
    }

    fn sources(&self, wish: &Wish) -> Result<Sources, String> {
        let may_choose = wish.address.ip().is_loopback() && wish.address.is_ipv4();
        let widen = "widen `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`";
        if !may_choose {
            if wish.sources.is_some() {
                return Err(
                    "--sources spreads over addresses from 127.0.0.1 on, so the server's address has to be \
                            127.x.x.x; leave --sources out"
                        .to_owned(),
                );
            }
            if wish.connections > self.ports {
                return Err(format!(
                    "one source address has {} ports, too few for {} connections to {}; {widen}, or run several \
                     benches on machines of their own",
                    self.ports, wish.connections, wish.address
                ));
            }
            return Ok(Sources::Any);
        }
        let wanted = wish.connections.div_ceil((self.ports / PORTS_SHARE).max(1));
        let default = if wish.churns { wanted.max(SOURCES_CHURNED) } else { wanted };
        let count = wish.sources.unwrap_or(default).max(1);
        if count > SOURCES_MAX {
            return Err(format!("--sources {count} is too many; give it at most {SOURCES_MAX}"));
        }
        if count.saturating_mul(self.ports) < wish.connections {
            return Err(format!(
                "{count} source addresses have {} ports, too few for {} connections; give --sources {wanted}, or {widen}",
                count * self.ports,
                wish.connections
            ));
        }
        Ok(Sources::Loopback(count))
    }
}

/// Raises the soft limit to the hard one; returns what holds then.
pub(crate) fn raise_descriptor_limit() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let raised = soft == hard || setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            descriptors: 20_000,
            ports: 28_232,
            files: 3_000_000,
            descriptors_max: 1_048_576,
            memory: 20 << 30,
            tables: true,
        }
    }

    fn wish(connections: usize) -> Wish {
        let address = ([127, 0, 0, 1], 7373).into();
        Wish { address, connections, threads: None, sources: None, churns: false }
    }

    #[test]
    fn few_connections_need_one_thread_and_one_source() {
        let expected =
            Room { threads: 1, parted: false, sources: Sources::Loopback(1), warnings: Vec::new() };
        assert_eq!(machine().room(&wish(1_000)), Ok(expected));
    }

    #[test]
    fn a_million_gets_a_table_per_thread_and_many_sources() {
        let room = machine().room(&wish(1_000_000)).unwrap();
        assert!(room.parted);
        assert_eq!((room.threads, room.sources), (51, Sources::Loopback(142)));
    }

    #[test]
    fn what_is_too_small_is_said_with_the_command_that_mends_it() {
        let far = Wish { address: ([192, 0, 2, 1], 1).into(), ..wish(100_000) };
        for (machine, wish, said) in [
            (Machine { tables: false, ..machine() }, wish(30_000), "`ulimit -Hn 30032`"),
            (machine(), Wish { threads: Some(2), ..wish(100_000) }, "give --threads 6"),
            (Machine { files: 50_000, ..machine() }, wish(30_000), "`sysctl -w fs.file-max=120000`"),
            (machine(), Wish { sources: Some(1), ..wish(30_000) }, "give --sources 5"),
            (machine(), far, "net.ipv4.ip_local_port_range"),
            (machine(), Wish { sources: Some(2), connections: 10, ..far }, "leave --sources out"),
            (Machine { tables: false, ..machine() }, wish(2_000_000), "fs.nr_open=2000032"),
        ] {
            let error = machine.room(&wish).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn too_little_memory_and_a_shared_table_are_warnings() {
        let small = Machine { memory: 1 << 20, tables: false, ..machine() };
        let room = small.room(&Wish { threads: Some(2), ..wish(1_000) }).unwrap();
        assert_eq!((room.warnings.len(), room.parted), (2, false));
    }

    #[test]
    fn sources_go_round() {
        let sources = Sources::Loopback(300);
        assert_eq!(sources.of(0), Some(Ipv4Addr::new(127, 0, 0, 1).into()));
        assert_eq!(sources.of(299), Some(Ipv4Addr::new(127, 0, 1, 44).into()));
        assert_eq!(sources.of(300), sources.of(0));
        assert_eq!(Sources::Any.of(7), None);
    }
}
