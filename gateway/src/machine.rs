//! What this machine allows: the limit of descriptors, and the settings that are too small for the work.
//! Says the command that mends each.

use crate::config::Config;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that are not connections: the standard streams, the log, sinks, what an embedding program opens.
const RESERVE: usize = 64;
/// Poller, waker, timer and spare descriptor of a shard, and a few for the unforeseen.
const RESERVE_PER_SHARD: usize = 8;
/// A smaller queue of connections waiting to be accepted loses some when very many come at once.
const BACKLOG_WANTED: u32 = 4096;

/// How many connections the machine lets us hold, and what is to be said about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub(crate) connections: usize,
    pub(crate) warnings: Vec<String>,
}

/// Raises the limit of descriptors as far as it goes and derives the limit of connections from it.
pub(crate) fn allowance(config: &Config, shards: usize) -> Allowance {
    let descriptors = raise_descriptor_limit();
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
    let backlog = somaxconn.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(BACKLOG_WANTED);
    derive(config, shards, descriptors, backlog)
}

fn derive(config: &Config, shards: usize, descriptors: usize, backlog: u32) -> Allowance {
    let reserve = RESERVE + shards * (RESERVE_PER_SHARD + config.listeners.len());
    let possible = descriptors.saturating_sub(reserve).max(1);
    let wanted = config.max_connections.unwrap_or(possible);
    let mut warnings = Vec::new();
    if wanted > possible {
        let needed = wanted + reserve;
        warnings.push(format!(
            "max_connections is lowered from {wanted} to {possible}: the hard limit of open files is {descriptors} and \
             {reserve} of them are kept back; raise it with `ulimit -Hn {needed}` (as root), or in a systemd unit \
             with `LimitNOFILE={needed}`"
        ));
    }
    if backlog < BACKLOG_WANTED {
        warnings.push(format!(
            "only {backlog} connections may wait to be accepted; raise it with `sysctl -w net.core.somaxconn={BACKLOG_WANTED}`"
        ));
    }
    Allowance { connections: wanted.min(possible), warnings }
}

fn raise_descriptor_limit() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let raised = soft == hard || setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_above_what_the_machine_allows_is_lowered_with_a_warning() {
        let config = Config { max_connections: Some(1_000_000), ..Config::default() };
        let allowance = derive(&config, 2, 20_000, 4096);
        assert_eq!(allowance.connections, 20_000 - 64 - 2 * 9);
        assert_eq!(allowance.warnings.len(), 1);
        assert!(allowance.warnings[0].contains("LimitNOFILE=1000082"), "{}", allowance.warnings[0]);
    }

    #[test]
    fn a_limit_that_fits_is_kept_and_a_small_backlog_is_said() {
        let config = Config { max_connections: Some(100), ..Config::default() };
        let allowance = derive(&config, 1, 1024, 128);
        assert_eq!(allowance.connections, 100);
        assert!(allowance.warnings[0].contains("sysctl -w net.core.somaxconn=4096"));
    }

    #[test]
    fn without_a_limit_it_is_what_the_machine_allows() {
        assert_eq!(derive(&Config::default(), 1, 1024, 4096).connections, 1024 - 64 - 9);
        assert_eq!(derive(&Config::default(), 1, 10, 4096).connections, 1);
    }
}
