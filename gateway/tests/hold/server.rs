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

impl Server {
    /// Starts `pulsegate serve` with these flags on a free port.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pulsegate"))
            .args(["serve", "--listen", "127.0.0.1:0", "--drain-within", "0s"])
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
        let rollup =
            std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).expect("it runs");
        let line = rollup.lines().find(|line| line.starts_with("Pss:")).expect("a size");
        line.split_whitespace()
            .nth(1)
            .and_then(|kilobytes| kilobytes.parse::<usize>().ok())
            .expect("a number")
            * 1024
    }

    /// Waits until it holds this many sockets beside its own few.
    pub(crate) fn wait_for_open(&self, connections: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.sockets() > connections {
            assert!(Instant::now() < deadline, "{} connections are still open", self.sockets());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn sockets(&self) -> usize {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("a table of sockets");
        let port = format!(":{:04X} ", self.address.port());
        let is_ours = |line: &&str| {
            let mut words = line.split_whitespace().skip(1);
            let local = words.next().unwrap_or_default();
            let state = words.nth(1).unwrap_or_default();
            // Neither listening nor waiting out its time after the end.
            format!("{local} ").ends_with(&port) && state != "0A" && state != "06"
        };
        table.lines().filter(is_ours).count()
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
