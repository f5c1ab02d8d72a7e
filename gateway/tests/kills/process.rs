//! A client in a process of its own, which is fed lines and says what becomes of them. Ended with the test.

use crate::PATIENCE;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    said: Caught,
    complaints: Caught,
}

struct Caught {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

/// How a process has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) said: Vec<String>,
    pub(crate) complaints: Vec<String>,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .env_remove("PULSEGATE_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let said = Caught::new(child.stdout.take().unwrap());
        let complaints = Caught::new(child.stderr.take().unwrap());
        Self { child, input, said, complaints }
    }

    /// A line for it; one that has ended gets nothing.
    pub(crate) fn feed(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            let _ = input.write_all(format!("{line}\n").as_bytes());
        }
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lines.lock().unwrap().clone()
    }

    /// Waits until it has said such a line, or for so long.
    pub(crate) fn heard(&self, patience: Duration, is_it: impl Fn(&str) -> bool) -> bool {
        let limit = Instant::now() + patience;
        loop {
            if self.said.lines.lock().unwrap().iter().any(|line| is_it(line)) {
                return true;
            }
            if Instant::now() >= limit {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Kills it, and returns everything that it has said.
    pub(crate) fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.ended()
    }

    /// Ends its input, and waits until it has ended too.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Ended {
        self.input = None;
        let limit = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            let said = self.said();
            let last = &said[said.len().saturating_sub(30)..];
            assert!(Instant::now() < limit, "it never ends: {last:#?}");
            thread::sleep(Duration::from_millis(5));
        }
        self.ended()
    }

    fn ended(&mut self) -> Ended {
        let code = self.child.wait().unwrap().code();
        Ended { code, said: self.said.finish(), complaints: self.complaints.finish() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Caught {
    fn new(from: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                into.lock().unwrap().push(line);
            }
        });
        Self { lines, reader: Some(reader) }
    }

    fn finish(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        std::mem::take(&mut *self.lines.lock().unwrap())
    }
}

/// The gateway's own client, with its outbox on disk.
pub(crate) fn connect(address: SocketAddr, id: &str, outbox: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulsegate"));
    command.args(["connect", &address.to_string(), "--id", id, "--outbox"]).arg(outbox);
    command
}

/// The client in Python, with its outbox on disk or in memory; `None` where there is no Python.
pub(crate) fn python(address: SocketAddr, id: &str, outbox: Option<&Path>) -> Option<Command> {
    let mut command = Command::new(interpreter()?);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONPATH", here.join("../clients/python"));
    command.arg(here.join("tests/kills/driver.py"));
    command.args([&address.ip().to_string(), &address.port().to_string(), id]).args(outbox);
    Some(command)
}

/// The interpreter itself: what stands under its name may be a script that looks for it.
fn interpreter() -> Option<&'static PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let output =
            Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().ok()?;
        let path = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| PathBuf::from(path.trim()))
    });
    if found.is_none() {
        eprintln!("SKIPPED: there is no python3 here, so its client is not tested");
    }
    found.as_ref()
}
