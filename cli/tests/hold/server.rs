//! The real binary as a child, with what can be seen of it from outside.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A running gateway; killed when dropped.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    lines: Receiver<String>,
}

/// A connection that it holds, as the kernel tells of it.
struct Held {
    /// It was accepted, and nothing that it has sent is still to be read.
    is_read: bool,
}

impl Server {
    /// Starts `pulsegate serve` with these flags on a free port.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pulsegate"))
            .args(["serve", "--listen", "127.0.0.1:0", "--drain-within", "0s"])
            // All come from one address, which by default gets three quarters of the places.
            .args(["--max-per-address", "1000000"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let line = lines.recv_timeout(Duration::from_secs(20)).expect("it says where it listens");
        let words = line.split_once("listening on ").expect("it says where it listens").1;
        let address = words.split(' ').next().and_then(|word| word.parse().ok()).expect("an address");
        Self { child, address, lines }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Proportional resident size, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.memory_of(&["Pss:"])
    }

    /// Memory of its own, in bytes: no part of a file that others may have in use too.
    pub(crate) fn own_memory(&self) -> usize {
        self.memory_of(&["Anonymous:", "Swap:"])
    }

    fn memory_of(&self, kinds: &[&str]) -> usize {
        let rollup =
            std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).expect("it runs");
        let kibibytes = |line: &str| -> Option<usize> {
            let (kind, size) = line.split_once(' ')?;
            kinds.contains(&kind).then(|| size.trim().trim_end_matches(" kB").parse().expect("a number"))
        };
        rollup.lines().filter_map(kibibytes).sum::<usize>() * 1024
    }

    /// Waits until it holds at most this many sockets beside its own few.
    pub(crate) fn wait_for_open(&self, connections: usize) {
        self.wait_for(|sockets| sockets.len() <= connections);
    }

    /// Waits until it has accepted this many and read what they have sent.
    pub(crate) fn wait_until_read(&self, connections: usize) {
        self.wait_for(|sockets| sockets.iter().filter(|socket| socket.is_read).count() >= connections);
    }

    #[track_caller]
    fn wait_for(&self, is_so: impl Fn(&[Held]) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let sockets = self.sockets();
            if is_so(&sockets) {
                return;
            }
            assert!(Instant::now() < deadline, "this never came; {} connections are open", sockets.len());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn sockets(&self) -> Vec<Held> {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("a table of sockets");
        let port = format!(":{:04X}", self.address.port());
        let held = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, state, queues, _, _, _, _, inode, ..] = words[..] else { return None };
            // Neither listening nor waiting out its time after the end.
            let is_ours = local.ends_with(&port) && state != "0A" && state != "06";
            // Who has not been accepted yet has no inode.
            is_ours.then(|| Held { is_read: queues.ends_with(":00000000") && inode != "0" })
        };
        table.lines().filter_map(held).collect()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Stops it and returns what it has logged since the start.
    pub(crate) fn stop(mut self) -> String {
        self.signal("TERM");
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}");
        self.lines.iter().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
