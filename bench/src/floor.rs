//! The null server as a child process: started on a free port, ended with this process whatever happens. Must not know:
//! what is measured against it.

use crate::room::Machine;
use anyhow::{Context, bail};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// A running null server; ended when dropped.
pub(crate) struct Floor {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Floor {
    /// Starts one with room for this many connections.
    ///
    /// # Errors
    /// When it can't be started, or doesn't listen.
    pub(crate) fn start(connections: usize, machine: &Machine, core: Option<usize>) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("can't find this program's file")?);
        command.args(["bench", "null", "--with-parent", "--listen", "127.0.0.1:0"]);
        command.args(["--threads", &threads(connections, machine.per_table()).to_string()]);
        if let Some(core) = core {
            command.args(["--core", &core.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("can't start the null server")?;
        let stdout = child.stdout.take();
        let floor = |address| Self { child, address };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line.trim().strip_prefix("listening on ").and_then(|address| address.parse().ok());
        let floor = floor(address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))));
        if address.is_none() {
            bail!("the null server doesn't listen; its own words are above");
        }
        Ok(floor)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

/// The kernel spreads connections over the threads by chance, so each keeps a tenth of its table free.
fn threads(connections: usize, per_table: usize) -> usize {
    if connections <= per_table { 1 } else { (connections * 10).div_ceil(per_table * 9) }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::threads;

    #[test]
    fn there_are_threads_enough_for_an_uneven_spread() {
        assert_eq!(threads(19_000, 19_968), 1);
        assert_eq!(threads(20_000, 19_968), 2);
        assert_eq!(threads(1_000_000, 19_968), 56);
    }
}
