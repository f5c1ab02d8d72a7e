//! A program as a child, ended with the test, its output caught: `pulsegate`, or a client of it.

use super::{PATIENCE, wait_until};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A running program.
pub(crate) struct Program {
    child: Child,
    /// What it is fed by.
    input: Option<ChildStdin>,
    stdout: Caught,
    /// Its other end, if nobody reads it.
    unread: Option<ChildStdout>,
    stderr: Caught,
}

/// What came out so far.
struct Caught {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

/// How a program has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// The lines of its standard output.
    pub(crate) said: Vec<String>,
    /// Those of its standard error.
    pub(crate) complaints: Vec<String>,
}

/// A command that runs the program.
pub(crate) fn pulsegate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulsegate"));
    command.args(args);
    command
}

/// A command that runs the program under a soft and hard limit of open files.
pub(crate) fn pulsegate_with_descriptors(limit: u32, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]);
    command.arg(env!("CARGO_BIN_EXE_pulsegate")).args(args);
    command
}

/// The interpreter of Python itself: what stands under its name may be a script that looks for it.
pub(crate) fn interpreter() -> Option<&'static PathBuf> {
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

impl Program {
    pub(crate) fn start(command: Command) -> Self {
        Self::spawn(command, Stdio::null()).read()
    }

    /// One that is fed lines.
    pub(crate) fn start_fed(command: Command) -> Self {
        Self::spawn(command, Stdio::piped()).read()
    }

    /// Nobody reads what it writes to its standard output.
    pub(crate) fn start_unread(command: Command) -> Self {
        Self::spawn(command, Stdio::null())
    }

    fn spawn(mut command: Command, input: Stdio) -> Self {
        let mut child = command
            .env_remove("PULSEGATE_LOG")
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, unread) = (child.stdin.take(), child.stdout.take());
        let stderr = Caught::new(child.stderr.take().unwrap());
        Self { child, input, stdout: Caught::new(std::io::empty()), unread, stderr }
    }

    fn read(mut self) -> Self {
        self.stdout = Caught::new(self.unread.take().unwrap());
        self
    }

    /// `pulsegate serve` on a free port, once it listens, and the address.
    pub(crate) fn serve(args: &[&str]) -> (Self, SocketAddr) {
        Self::serve_at("127.0.0.1:0", args)
    }

    /// `pulsegate serve`, once it listens, and the address.
    pub(crate) fn serve_at(listen: &str, args: &[&str]) -> (Self, SocketAddr) {
        let program = Self::start(pulsegate(&[&["serve", "--listen", listen], args].concat()));
        let address = program.address();
        (program, address)
    }

    /// Where it listens; waits until it does.
    #[track_caller]
    pub(crate) fn address(&self) -> SocketAddr {
        wait_until("the program listens", || self.listening().is_some());
        self.listening().unwrap()
    }

    fn listening(&self) -> Option<SocketAddr> {
        let text = self.stderr();
        let (_, rest) = text.split_once("listening on ")?;
        rest.split_whitespace().next()?.parse().ok()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by name, such as `TERM`. After `STOP` it has stopped when this returns.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.id())]).status();
        assert!(sent.unwrap().success(), "can't send SIG{name}");
        if name == "STOP" {
            // Its other threads run on until the one that takes the signal gets a core.
            wait_until("all of its threads have stopped", || self.has_stopped());
        }
    }

    fn has_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        threads.flatten().all(|thread| {
            let state = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            state.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// Nobody will ever read its standard output.
    pub(crate) fn close_output(&mut self) {
        self.unread = None;
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end and returns the exit code, when everything that it said is caught.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.wait_within(PATIENCE)
    }

    #[track_caller]
    fn wait_within(&mut self, patience: Duration) -> Option<i32> {
        let limit = Instant::now() + patience;
        while self.is_running() {
            assert!(Instant::now() < limit, "it never ends: {:#?}\n{}", self.last_said(), self.stderr());
            std::thread::sleep(Duration::from_millis(2));
        }
        self.stdout.finish();
        self.stderr.finish();
        self.child.wait().unwrap().code()
    }

    /// Kills it, and returns everything that it has said.
    #[track_caller]
    pub(crate) fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.ended(PATIENCE)
    }

    /// Ends its input, and waits until it has ended too.
    #[track_caller]
    pub(crate) fn finish(mut self, patience: Duration) -> Ended {
        self.input = None;
        self.ended(patience)
    }

    #[track_caller]
    fn ended(&mut self, patience: Duration) -> Ended {
        let code = self.wait_within(patience);
        Ended { code, said: self.said(), complaints: self.stderr.lines() }
    }

    /// A line for it; one that has ended gets nothing.
    pub(crate) fn feed(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            let _ = input.write_all(format!("{line}\n").as_bytes());
        }
    }

    /// Nothing more comes for it.
    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    /// The lines of its standard output so far.
    pub(crate) fn said(&self) -> Vec<String> {
        self.stdout.lines()
    }

    /// Few enough to be read where a test fails.
    fn last_said(&self) -> Vec<String> {
        let mut said = self.said();
        said.split_off(said.len().saturating_sub(30))
    }

    /// Waits until it has said such a line, or for so long.
    pub(crate) fn heard(&self, patience: Duration, is_it: impl Fn(&str) -> bool) -> bool {
        let limit = Instant::now() + patience;
        while !self.stdout.lines.lock().unwrap().iter().any(|line| is_it(line)) {
            if Instant::now() >= limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Processor time used so far, by user and kernel together.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let (_, after_name) = stat.rsplit_once(") ").unwrap();
        let ticks: u64 =
            after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
        // A tick is a hundredth of a second on every Linux that this runs on.
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Program {
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
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                into.lock().unwrap().push(line);
            }
        });
        Self { lines, reader: Some(reader) }
    }

    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().iter().map(|line| format!("{line}\n")).collect()
    }
}
