//! Plays a scenario over an open connection: always reading, even while a write is stuck, so that the end is known
//! the moment it comes. Must not know: how the connection came about, or the command line.

use super::journal::{say, seconds};
use super::lines::{Lines, shown};
use super::plan::{Next, Plan};
use pulsegate::text::{self, counted};
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::signal::unix::Signal;
use tokio::time::{Instant, sleep_until};

/// The exit code when the server ends the connection before everything was sent.
pub(super) const EXIT_ENDED: u8 = 3;

/// The exit code after Ctrl-C, as shells have it.
pub(super) const EXIT_INTERRUPTED: u8 = 130;

/// How long the server's end of stream is awaited after ours.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// How long, after a failed write, what the server said before is still read.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(1);

/// Reads before a message that is due goes out all the same, should the server never stop sending.
const READS_BEFORE_SEND_MAX: usize = 16;

const READ_BYTES: usize = 16 * 1024;

/// How the server ended the connection.
enum End {
    Closed,
    Reset,
    TimedOut,
    Failed(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        let kind = error.kind();
        if kind == io::ErrorKind::ConnectionReset {
            Self::Reset
        } else if kind == io::ErrorKind::TimedOut {
            Self::TimedOut
        } else if kind == io::ErrorKind::BrokenPipe {
            // What a write says after the server's end of stream.
            Self::Closed
        } else {
            Self::Failed(error)
        }
    }
}

impl End {
    fn words(&self) -> String {
        match self {
            Self::Closed => "the server closed the connection".to_owned(),
            Self::Reset => "the server reset the connection".to_owned(),
            Self::TimedOut => "the connection timed out (the server's side no longer answers)".to_owned(),
            Self::Failed(error) => format!("the connection failed ({error})"),
        }
    }
}

/// Why the scenario stops.
enum Halt {
    Ended(End),
    Interrupted,
}

/// What a wait ended with.
enum Step {
    Read(io::Result<usize>),
    Written(io::Result<usize>),
    Due,
    Unfinished,
    Interrupted,
}

/// A scenario that is being played.
pub(super) struct Play<'a> {
    plan: &'a Plan,
    reader: ReadHalf<'a>,
    writer: WriteHalf<'a>,
    interrupt: &'a mut Signal,
    heard: Lines,
    buffer: Vec<u8>,
    /// The message that is being written; empty in between.
    outgoing: Vec<u8>,
    written: usize,
    sent: u64,
    /// When the next message is to go out.
    due: Instant,
    connected_at: Instant,
    last_write_at: Option<Instant>,
}

impl<'a> Play<'a> {
    /// Makes ready to play over a connection that was made just now.
    pub(super) fn new(plan: &'a Plan, stream: &'a mut TcpStream, interrupt: &'a mut Signal) -> Self {
        let (reader, writer) = stream.split();
        let now = Instant::now();
        Self {
            plan,
            reader,
            writer,
            interrupt,
            heard: Lines::default(),
            buffer: vec![0; READ_BYTES],
            outgoing: Vec::new(),
            written: 0,
            sent: 0,
            due: now,
            connected_at: now,
            last_write_at: None,
        }
    }

    /// Plays to the end, whoever brings it about; returns the exit code for it.
    ///
    /// # Errors
    /// When stdout can't be written to.
    pub(super) async fn run(mut self) -> anyhow::Result<ExitCode> {
        while self.sent < self.plan.total() {
            if let Some(halt) = self.turn().await? {
                return self.halted(&halt);
            }
        }
        self.close().await
    }

    /// Waits for one thing to happen and handles it.
    async fn turn(&mut self) -> anyhow::Result<Option<Halt>> {
        let is_writing = !self.outgoing.is_empty();
        // A timer takes a millisecond at least: too long for a pace of zero.
        if !is_writing && self.due <= Instant::now() {
            return self.begin_message();
        }
        let wake_at = if is_writing { None } else { Some(self.due) };
        match self.wait(wake_at).await {
            Step::Read(outcome) => Ok(self.handle_read(outcome)?.map(Halt::Ended)),
            Step::Written(Ok(bytes)) if bytes > 0 => self.handle_written(bytes).map(|()| None),
            Step::Written(Ok(_)) => Ok(Some(Halt::Ended(End::Failed(io::ErrorKind::WriteZero.into())))),
            Step::Written(Err(error)) => self.last_words(error.into()).await.map(Some),
            Step::Due => self.begin_message(),
            Step::Unfinished => self.show_unfinished().map(|()| None),
            Step::Interrupted => Ok(Some(Halt::Interrupted)),
        }
    }

    /// Reads and, if there is a message to write, writes, until something comes of it or `wake_at` is there. Nothing
    /// is lost with the waits that don't win.
    async fn wait(&mut self, wake_at: Option<Instant>) -> Step {
        let unfinished = self.heard.due();
        let rest = &self.outgoing[self.written..];
        tokio::select! {
            outcome = self.reader.read(&mut self.buffer) => Step::Read(outcome),
            outcome = self.writer.write(rest), if !rest.is_empty() => Step::Written(outcome),
            () = at(wake_at), if wake_at.is_some() => Step::Due,
            () = at(unfinished), if unfinished.is_some() => Step::Unfinished,
            _ = self.interrupt.recv() => Step::Interrupted,
        }
    }

    /// Takes up the message that is due, unless the end has already come: a message isn't counted as sent that went
    /// into a connection which was known to be over.
    fn begin_message(&mut self) -> anyhow::Result<Option<Halt>> {
        for _ in 0..READS_BEFORE_SEND_MAX {
            let outcome = self.reader.try_read(&mut self.buffer);
            if outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                break;
            }
            if let Some(end) = self.handle_read(outcome)? {
                return Ok(Some(Halt::Ended(end)));
            }
        }
        self.outgoing = self.plan.text(self.sent + 1).into_bytes();
        self.outgoing.push(b'\n');
        self.written = 0;
        Ok(None)
    }

    fn handle_read(&mut self, outcome: io::Result<usize>) -> anyhow::Result<Option<End>> {
        let bytes = match outcome {
            Ok(0) => return self.show_unfinished().map(|()| Some(End::Closed)),
            Err(error) => return self.show_unfinished().map(|()| Some(error.into())),
            Ok(bytes) => bytes,
        };
        for line in self.heard.push(&self.buffer[..bytes], Instant::now()) {
            say(format_args!("received {line}"))?;
        }
        Ok(None)
    }

    fn show_unfinished(&mut self) -> anyhow::Result<()> {
        match self.heard.take_unfinished() {
            Some(text) => say(format_args!("received {text} (no line end)")),
            None => Ok(()),
        }
    }

    fn handle_written(&mut self, bytes: usize) -> anyhow::Result<()> {
        let now = Instant::now();
        self.last_write_at = Some(now);
        self.written += bytes;
        if self.written < self.outgoing.len() {
            return Ok(());
        }
        self.sent += 1;
        let text = &self.outgoing[..self.outgoing.len() - 1];
        say(format_args!("sent #{} {}", self.sent, shown(text, text.len())))?;
        self.outgoing.clear();
        self.written = 0;
        match self.plan.after(self.sent) {
            Next::Message => {
                // On the grid of the message before, so that delays don't add up; a message that was held up for
                // longer than the pace begins a new grid, so that none are sent in a heap to catch up.
                let on_grid = later(self.due, self.plan.every);
                self.due = if on_grid > now { on_grid } else { later(now, self.plan.every) };
            }
            Next::Silence => {
                self.due = later(now, self.plan.pause);
                say(format_args!("silent for {}", text::duration(self.plan.pause)))?;
            }
            Next::End => {}
        }
        Ok(())
    }

    /// After a failed write: reads what the server said before its end, and takes the manner of the end from there if
    /// the write didn't tell it.
    async fn last_words(&mut self, from_write: End) -> anyhow::Result<Halt> {
        self.outgoing.truncate(self.written);
        Ok(match self.listen(Instant::now() + LAST_WORDS_WAIT).await? {
            // The kernel tells of a reset once: after the write has heard it, reading just ends.
            Some(Halt::Ended(End::Closed)) | None => Halt::Ended(from_write),
            Some(halt) => halt,
        })
    }

    /// Only reads, until the end or `until`, at which it returns nothing.
    async fn listen(&mut self, until: Instant) -> anyhow::Result<Option<Halt>> {
        loop {
            match self.wait(Some(until)).await {
                Step::Read(outcome) => {
                    if let Some(end) = self.handle_read(outcome)? {
                        return Ok(Some(Halt::Ended(end)));
                    }
                }
                Step::Unfinished => self.show_unfinished()?,
                Step::Interrupted => return Ok(Some(Halt::Interrupted)),
                Step::Due | Step::Written(_) => {
                    self.show_unfinished()?;
                    return Ok(None);
                }
            }
        }
    }

    /// Everything was sent: closes our side, and hears the server out.
    async fn close(mut self) -> anyhow::Result<ExitCode> {
        let closed_at = Instant::now();
        let after = seconds(closed_at - self.connected_at);
        let halt = match self.writer.shutdown().await {
            Ok(()) => self.listen(closed_at + CLOSE_WAIT).await?,
            Err(error) => Some(Halt::Ended(error.into())),
        };
        let then = match &halt {
            Some(Halt::Interrupted) => return self.halted(&Halt::Interrupted),
            Some(Halt::Ended(end)) => format!("{} {} later", end.words(), seconds(closed_at.elapsed())),
            None => format!("the server kept its side open for {} longer", seconds(CLOSE_WAIT)),
        };
        let messages = counted(self.plan.total(), "message");
        say(format_args!("all {messages} sent, closed by us after {after}; {then}"))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Says how far it got.
    fn halted(&self, halt: &Halt) -> anyhow::Result<ExitCode> {
        let now = Instant::now();
        let (words, code) = match halt {
            Halt::Ended(end) => (end.words(), EXIT_ENDED),
            Halt::Interrupted => ("interrupted".to_owned(), EXIT_INTERRUPTED),
        };
        let after_connecting = seconds(now - self.connected_at);
        let after_send = match self.last_write_at {
            Some(at) => format!("{} after the last send", seconds(now - at)),
            None => "before anything was sent".to_owned(),
        };
        let in_part = match self.written {
            0 => String::new(),
            bytes => format!(", {bytes} bytes of #{}", self.sent + 1),
        };
        let (sent, messages) = (self.sent, counted(self.plan.total(), "message"));
        say(format_args!(
            "{words} {after_connecting} after connecting, {after_send}: {sent} of {messages} sent{in_part}"
        ))?;
        Ok(code.into())
    }
}

/// The instant, or where the clock can't count that far, one that nobody waits for.
fn later(from: Instant, wait: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    from.checked_add(wait).unwrap_or_else(|| from + FAR)
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
