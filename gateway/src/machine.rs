//! What this machine allows: the limit of descriptors, and kernel settings that are too small. Names the command that
//! raises each.

use crate::config::keys::SHARDS_MAX;
use crate::config::{self, Config};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that are not connections: the standard streams, the log, sinks, what an embedding program opens.
const RESERVE: usize = 64;
/// The same in a table that is a shard's own: little else is open there.
const RESERVE_OWN: usize = 16;
/// Poller, waker, timer and spare descriptor of a shard, and a few for the unforeseen.
const RESERVE_PER_SHARD: usize = 8;
/// One part in this many of the wanted connections may come to a shard beyond its even share.
const SPREAD_PART: usize = 20;
/// A smaller queue of connections waiting to be accepted loses some when very many come at once.
const BACKLOG_WANTED: u32 = 4096;

/// How many connections the machine lets us hold, in how many shards, and the warnings about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub(crate) shards: usize,
    pub(crate) connections: usize,
    pub(crate) warnings: Vec<String>,
}

/// Raises the limit of descriptors as far as it goes and derives the limit of connections from it.
/// `has_own_tables`: the limit counts for each shard.
pub(crate) fn allowance(config: &Config, has_own_tables: bool) -> Allowance {
    let machine = Machine {
        cores: config::cores(),
        descriptors: raise_descriptor_limit(),
        has_own_tables,
        backlog: number_in("/proc/sys/net/core/somaxconn").unwrap_or(BACKLOG_WANTED),
    };
    machine.derive(config)
}

fn number_in(path: &str) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// What there is.
#[derive(Clone, Copy, Debug)]
struct Machine {
    cores: usize,
    /// In each descriptor table.
    descriptors: usize,
    has_own_tables: bool,
    backlog: u32,
}

impl Machine {
    fn derive(self, config: &Config) -> Allowance {
        let shards = config.shards.map_or_else(|| self.shards_for(config), usize::from);
        let possible = self.connections_in(config, shards);
        let wanted = config.max_connections.unwrap_or(possible);
        let mut warnings = Vec::new();
        if wanted > possible {
            warnings.push(self.lowered(config, shards, wanted, possible));
        }
        if self.backlog < BACKLOG_WANTED {
            warnings.push(format!(
                "only {} connections may wait to be accepted; raise it with `sysctl -w net.core.somaxconn={BACKLOG_WANTED}`",
                self.backlog
            ));
        }
        Allowance { shards, connections: wanted.min(possible), warnings }
    }

    /// One for each core, or more where their descriptor tables are needed for as many connections as are wanted.
    fn shards_for(self, config: &Config) -> usize {
        let wanted = config.max_connections.filter(|_| self.has_own_tables).unwrap_or(0);
        // Newcomers are not spread quite evenly, and no table may be full before the others.
        let wanted = wanted + wanted / SPREAD_PART;
        let mut shards = self.cores;
        while shards < SHARDS_MAX && self.connections_in(config, shards) < wanted {
            shards += 1;
        }
        shards
    }

    fn connections_in(self, config: &Config, shards: usize) -> usize {
        let descriptors = self.descriptors.saturating_mul(self.tables(shards));
        descriptors.saturating_sub(self.reserve(config, shards)).max(1)
    }

    const fn tables(self, shards: usize) -> usize {
        if self.has_own_tables { shards } else { 1 }
    }

    /// What all tables together keep back: each has the pollers and wakers of all shards.
    fn reserve(self, config: &Config, shards: usize) -> usize {
        let own = RESERVE_PER_SHARD + config.listeners.len();
        if self.has_own_tables { shards * (RESERVE_OWN + 2 * shards + own) } else { RESERVE + shards * own }
    }

    fn lowered(self, config: &Config, shards: usize, wanted: usize, possible: usize) -> String {
        let (descriptors, reserve) = (self.descriptors, self.reserve(config, shards));
        let needed = (wanted + reserve).div_ceil(self.tables(shards));
        let tables = match self.tables(shards) {
            1 => String::new(),
            tables => format!(" for each of {tables} shards"),
        };
        format!(
            "connections_max is lowered from {wanted} to {possible}: the hard limit of open files is {descriptors}{tables} \
             and {reserve} of them are kept back; raise it with `ulimit -Hn {needed}` (as root), or in a systemd unit \
             with `LimitNOFILE={needed}`"
        )
    }
}

fn raise_descriptor_limit() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let raised = soft == hard || setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(descriptors: usize, has_own_tables: bool, backlog: u32) -> Machine {
        Machine { cores: 2, descriptors, has_own_tables, backlog }
    }

    fn wanting(connections: Option<usize>, shards: Option<usize>) -> Config {
        let shards = shards.and_then(std::num::NonZeroUsize::new);
        Config { max_connections: connections, shards, ..Config::default() }
    }

    #[test]
    fn a_limit_above_what_the_machine_allows_is_lowered_with_a_warning() {
        let allowance = machine(20_000, false, 4096).derive(&wanting(Some(1_000_000), None));
        assert_eq!((allowance.shards, allowance.connections), (2, 20_000 - 64 - 2 * 9));
        assert_eq!(allowance.warnings.len(), 1);
        assert!(allowance.warnings[0].contains("LimitNOFILE=1000082"), "{}", allowance.warnings[0]);
        let allowance = machine(20_000, true, 4096).derive(&wanting(Some(1_000_000), Some(2)));
        assert_eq!(allowance.connections, 2 * (20_000 - 16 - 4 - 9));
        assert!(allowance.warnings[0].contains("for each of 2 shards"), "{}", allowance.warnings[0]);
        assert!(allowance.warnings[0].contains("LimitNOFILE=500029"), "{}", allowance.warnings[0]);
    }

    #[test]
    fn shards_with_tables_of_their_own_are_as_many_as_the_connections_need() {
        let allowance = machine(20_000, true, 4096).derive(&wanting(Some(1_000_000), None));
        assert_eq!((allowance.shards, allowance.connections), (53, 1_000_000));
        assert_eq!(allowance.warnings, [] as [String; 0]);
        assert_eq!(machine(20_000, true, 4096).derive(&wanting(Some(30_000), None)).shards, 2);
        assert_eq!(machine(20_000, true, 4096).derive(&wanting(None, None)).shards, 2);
    }

    #[test]
    fn a_limit_that_fits_is_kept_and_a_small_backlog_is_said() {
        let allowance = machine(1024, false, 128).derive(&wanting(Some(100), Some(1)));
        assert_eq!(allowance.connections, 100);
        assert!(allowance.warnings[0].contains("sysctl -w net.core.somaxconn=4096"));
    }

    #[test]
    fn without_a_limit_it_is_what_the_machine_allows() {
        assert_eq!(machine(1024, false, 4096).derive(&wanting(None, Some(1))).connections, 1024 - 64 - 9);
        assert_eq!(machine(10, false, 4096).derive(&wanting(None, Some(1))).connections, 1);
    }
}
