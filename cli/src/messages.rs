//! `pulsegate messages`: shows the messages in a store, whether or not a gateway is running on it. Must not know: the
//! configuration, or anything of the store but its reader.

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pulsegate::text::{hex, json_line, readable, utc};
use pulsegate_store::{ReadError, Reader, StoredMessage};
use std::io::{self, BufWriter, Stdout, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How often it looks for new messages.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long to wait at the end for an output that takes nothing.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Each line has the id of the message, the time it arrived, its client,
session/number (session 0: a raw client), and its text. Ids go up by one in the
order of commits and are never reused.

Examples:
  pulsegate messages --data-dir data
      All messages that are kept.
  pulsegate messages --data-dir data --after 1200 --limit 100
      The first hundred after message 1200.
  pulsegate messages --data-dir data --follow --json | jq -r .text
      All messages that are kept, and new ones as they come, for another
      program.

Exit codes: 0 everything was shown, the output was closed, or SIGINT or SIGTERM
ended --follow; 1 the store can't be read; 2 wrong arguments.";

/// Which messages, and how.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Directory of the store
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Only messages with a higher id than this [default: all]
    #[arg(long, value_name = "N")]
    after: Option<u64>,
    /// Keep waiting for new messages instead of exiting after the last one
    #[arg(long)]
    follow: bool,
    /// Print one JSON object per line: id, session, client, number, received_at, received_at_ms, and text, or hex if
    /// the payload is not UTF-8
    #[arg(long)]
    json: bool,
    /// Exit after this many messages [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

impl Args {
    /// Prints the messages on stdout, and notes about them on stderr.
    ///
    /// # Errors
    /// If the store can't be read, or stdout can't be written to.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let mut show = Show::open(self)?;
        let outcome = if show.args.follow { follow(show) } else { show.show_all() };
        let has_seen_enough = |error: &anyhow::Error| {
            error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        };
        match outcome {
            Err(error) if !has_seen_enough(&error) => Err(error),
            Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
        }
    }
}

/// Shows what comes until a signal, or until there is nobody to show it to.
fn follow(mut show: Show) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let ending = Arc::clone(&show.ending);
        let (sender, mut outcome) = oneshot::channel();
        // On a thread of its own, so that an output that takes nothing can't keep a signal from being heard.
        std::thread::Builder::new().name("messages".to_owned()).spawn(move || {
            let _ = sender.send(show.show_what_comes());
        })?;
        let ended = tokio::select! {
            outcome = &mut outcome => Some(outcome),
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
        };
        if let Some(outcome) = ended {
            return outcome.context("reading the messages failed")?;
        }
        ending.store(true, Ordering::Relaxed);
        // A reader that hasn't taken the last line by then doesn't get it.
        let _ = tokio::time::timeout(LAST_WORDS_WITHIN, outcome).await;
        Ok(())
    })
}

/// Messages on their way from a store to stdout.
struct Show {
    args: Args,
    reader: Reader,
    out: BufWriter<Stdout>,
    /// The id of the last message that was shown, or is not to be.
    last: u64,
    /// How many may still be shown.
    left: u64,
    /// Whether it matters if messages after `last` are gone: somebody has named it, or has seen it.
    is_awaited: bool,
    /// Set when no more is to be shown.
    ending: Arc<AtomicBool>,
}

impl Show {
    fn open(args: Args) -> anyhow::Result<Self> {
        Ok(Self {
            reader: open(&args.data_dir)?,
            out: BufWriter::with_capacity(64 * 1024, io::stdout()),
            last: args.after.unwrap_or(0),
            left: args.limit.unwrap_or(u64::MAX),
            is_awaited: args.after.is_some(),
            ending: Arc::default(),
            args,
        })
    }

    /// Shows all that there is.
    fn show_all(&mut self) -> anyhow::Result<()> {
        while !self.is_done() {
            let page = self.reader.messages_after(self.last, usize::try_from(self.left)?).map_err(explain)?;
            let first = match page.first() {
                Some(first) => first.id,
                None => self.reader.deleted_to().map_err(explain)?.saturating_add(1),
            };
            if self.is_awaited && first - 1 > self.last {
                eprintln!(
                    "pulsegate: messages {} to {} are gone: the store keeps messages for a limited time, and a limited \
                     number of bytes",
                    self.last + 1,
                    first - 1
                );
            }
            self.last = self.last.max(first - 1);
            if page.is_empty() {
                break;
            }
            self.show_page(&page)?;
        }
        Ok(())
    }

    fn show_page(&mut self, page: &[StoredMessage]) -> anyhow::Result<()> {
        for message in page {
            if self.is_done() {
                break;
            }
            let line = if self.args.json { json_of(message) } else { human_line(message) };
            writeln!(self.out, "{line}")?;
            (self.last, self.left, self.is_awaited) = (message.id, self.left - 1, true);
        }
        Ok(self.out.flush()?)
    }

    /// Shows all that there is and all that comes.
    fn show_what_comes(&mut self) -> anyhow::Result<()> {
        loop {
            self.show_all()?;
            if self.is_done() || is_closed(&self.out.get_ref().as_fd()) {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
            if self.reader.is_replaced() {
                self.turn_to_the_new_one()?;
            }
        }
    }

    /// Goes on with the store that has taken the old one's place, once there is one.
    fn turn_to_the_new_one(&mut self) -> anyhow::Result<()> {
        let new = match Reader::open(&self.args.data_dir) {
            Ok(new) => new,
            Err(ReadError::Missing(_)) => return Ok(()),
            Err(error) => return Err(explain(error)),
        };
        // What came between the last look and the end of the old one.
        self.show_all()?;
        eprintln!(
            "pulsegate: another store has taken the place of the old one; its messages follow from the first"
        );
        (self.reader, self.last, self.is_awaited) = (new, 0, false);
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.left == 0 || self.ending.load(Ordering::Relaxed)
    }
}

fn open(directory: &Path) -> anyhow::Result<Reader> {
    Reader::open(directory).map_err(explain)
}

/// Why the store can't be read, and what to do.
fn explain(error: ReadError) -> anyhow::Error {
    let fix = match &error {
        ReadError::Missing(_) => "name the directory in which a gateway keeps its store, with --data-dir",
        ReadError::Forbidden(_) => "run this as the user that the gateway runs as",
        ReadError::Older(_) => "start a gateway of this version on it, which upgrades it",
        ReadError::Newer(_) => "use the version of pulsegate that made it",
        ReadError::Sqlite(_) if error.is_damage() => {
            "the file is damaged: stop the gateway, and restore a backup"
        }
        ReadError::Sqlite(_) => {
            "run this as the user that the gateway runs as; if you do, look at the gateway's log"
        }
    };
    anyhow::anyhow!("{error}; {fix}")
}

/// Whether nobody reads what is written there any more, which is otherwise found out with the next message only.
fn is_closed(out: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(out.as_fd(), PollFlags::empty())];
    let ended = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds[0].revents().is_some_and(|happened| happened.intersects(ended))
}

fn human_line(message: &StoredMessage) -> String {
    let StoredMessage { id, session, number, .. } = message;
    let (client, text) = (readable(message.client.as_bytes()), readable(&message.payload));
    format!("{id}  {}  {client}  {session}/{number}  {text}", time(message.received_at_ms))
}

fn json_of(message: &StoredMessage) -> String {
    let StoredMessage { id, session, client, number, received_at_ms, payload } = message;
    let (key, payload) = match std::str::from_utf8(payload) {
        Ok(text) => ("text", text.to_owned()),
        Err(_) => ("hex", hex(payload)),
    };
    json_line(&serde_json::json!({
        "id": id, "session": session, "client": client, "number": number,
        "received_at": time(*received_at_ms), "received_at_ms": received_at_ms, key: payload,
    }))
}

fn time(ms: u64) -> String {
    utc(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}
