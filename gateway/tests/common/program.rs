//! The real program as a child, ended with the test, its output caught.

use super::{PATIENCE, wait_until};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A running `pulsegate`.
pub(crate) struct Program {
    child: Child,
    stdout: Caught,
    /// Its other end, if nobody reads it.
    unread: Option<ChildStdout>,
    stderr: Caught,
}

/// What came out so far.
struct Caught {
    lines: Arc<Mutex<Vec<(Instant, String)>>>,
    reader: Option<JoinHandle<()>>,
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

impl Program {
    pub(crate) fn start(command: Command) -> Self {
        let mut program = Self::start_unread(command);
        program.stdout = Caught::new(program.unread.take().unwrap());
        program
    }

    /// Nobody reads what it writes to its standard output.
    pub(crate) fn start_unread(mut command: Command) -> Self {
        let mut child = command
            .env_remove("PULSEGATE_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let unread = child.stdout.take();
        let stderr = Caught::new(child.stderr.take().unwrap());
        Self { child, stdout: Caught::new(std::io::empty()), unread, stderr }
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

    /// Sends it a signal by name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.id())]).status();
        assert!(sent.unwrap().success(), "can't send SIG{name}");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end and returns the exit code, when everything that it said is caught.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let limit = Instant::now() + PATIENCE;
        while self.is_running() {
            assert!(Instant::now() < limit, "it never ends:\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(2));
        }
        self.stdout.finish();
        self.stderr.finish();
        self.child.wait().unwrap().code()
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
                into.lock().unwrap().push((Instant::now(), line));
            }
        });
        Self { lines, reader: Some(reader) }
    }

    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().iter().map(|(_, line)| format!("{line}\n")).collect()
    }
}
