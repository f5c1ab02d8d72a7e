//! `pulsegate connect`: a client for people. Raw: plays a scenario of messages at an even pace and silences, and waits
//! for the server to close the connection. In the pulse protocol: lines become messages, and it says what becomes of
//! each. Must not know: the gateway's configuration, or how the server decides.

mod dial;
mod input;
mod journal;
mod lines;
mod plan;
mod play;
mod session;
mod stuck;

use dial::Dialled;
use plan::Plan;
use pulsegate_config::units::parse_duration;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

const EXAMPLES: &str = "\
Examples:
  pulsegate connect 127.0.0.1:7373 --id sensor-7
      Each line of the input becomes a message. The client says when it is
      sent, received (the gateway has committed it, in memory or on disk) and
      confirmed (the gateway knows that the client knows), and prints what the
      gateway sends. It reconnects by itself. At the end of the input it waits
      up to 30 s for the receipts. Ctrl-C ends it within a second and says how
      many messages have no receipt yet; a second one ends it at once.
  pulsegate connect 127.0.0.1:7373 --id sensor-7 --outbox sensor-7.outbox
      The same, but what was read is kept in a file until there is a receipt.
  pulsegate connect 127.0.0.1:7373 --raw --every 2s --pause 24s --repeat 2
      Ten messages, 24 s of silence, and the same again. A gateway with a
      heartbeat timeout of 5 s closes the connection 5 s after the tenth.

Exit codes (with --id the same as those of the Python client):
  0    everything was sent; with --id: every message was committed
  1    no connection; with --id: the server doesn't speak the pulse protocol,
       or the input or the outbox can't be used
  2    wrong arguments
  3    the server closed the connection before everything was sent; with --id:
       a message was not committed, or the gateway says not to come back
  130  interrupted";

/// The arguments of `pulsegate connect`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, override_usage = "pulsegate connect <ADDR> --id <ID> [--outbox <FILE>]\n       pulsegate connect <ADDR> --raw [OPTIONS]")]
pub(crate) struct Args {
    /// Server to connect to: host:port, for example 127.0.0.1:7373
    #[arg(value_name = "ADDR", value_parser = dial::parse_address)]
    address: String,

    /// The id of this client, for a session in the pulse protocol: lines from stdin become messages
    #[arg(long, value_name = "ID", value_parser = session::parse_id, conflicts_with = "raw", required_unless_present = "raw")]
    id: Option<String>,

    /// Keep messages in this file until they have a receipt, so that they outlive this program
    #[arg(long, value_name = "FILE", requires = "id", conflicts_with = "raw")]
    outbox: Option<PathBuf>,

    /// Send plain lines of text, as set by the options below
    #[arg(long)]
    raw: bool,

    // Clap would make a line break of the placeholder itself.
    /// What to send; a line end is added. An n in braces, as in the default, stands for the message's number, from 1
    #[arg(long, value_name = "TEXT", default_value = "message {n}", conflicts_with = "id")]
    message: String,

    /// Time from one message of a burst to the next
    #[arg(long, value_name = "DUR", default_value = "2s", value_parser = parse_duration, conflicts_with = "id")]
    every: Duration,

    /// Number of messages in a burst, at least 1
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "id")]
    count: u32,

    /// Silence between the last message of a burst and the first of the next; at 0s bursts follow each other at
    /// the pace of --every
    #[arg(long, value_name = "DUR", default_value = "0s", value_parser = parse_duration, conflicts_with = "id")]
    pause: Duration,

    /// Number of bursts, at least 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "id")]
    repeat: u32,
}

impl Args {
    /// Plays the scenario, or sends the lines of stdin, and prints on stdout what happens.
    ///
    /// # Errors
    /// If there is no connection, or stdout can't be written to.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let with_session = [SignalKind::interrupt(), SignalKind::terminate()];
        stuck::watch(if self.id.is_some() { &with_session } else { &with_session[..1] })?;
        let code = match self.id {
            Some(id) => runtime.block_on(session::run(&self.address, id, self.outbox)),
            None => {
                let addresses = dial::resolve(&self.address)?;
                runtime.block_on(self.connect_and_play(&addresses))
            }
        };
        // A read of stdin may be under way, and can't be cancelled.
        runtime.shutdown_background();
        code
    }

    async fn connect_and_play(self, addresses: &[SocketAddr]) -> anyhow::Result<ExitCode> {
        let Self { address, id: _, outbox: _, raw: _, message, every, count, pause, repeat } = self;
        let plan = Plan { message, every, count, pause, repeat };
        let mut interrupt = signal(SignalKind::interrupt())?;
        let dialled = tokio::select! {
            dialled = dial::connect(&address, addresses) => dialled?,
            _ = interrupt.recv() => {
                journal::say(format_args!("interrupted before there was a connection"))?;
                return Ok(play::EXIT_INTERRUPTED.into());
            }
        };
        let (mut stream, to) = match dialled {
            Dialled::Open(stream, to) => (stream, to),
            Dialled::Reset(by) => {
                journal::say(format_args!(
                    "the server at {by} reset the connection at once: nothing was sent"
                ))?;
                return Ok(play::EXIT_ENDED.into());
            }
        };
        // Fails only on a connection that is over already, and then reading tells how it ended.
        let _ = stream.set_nodelay(true);
        let from = stream.local_addr()?;
        journal::say(format_args!("connected to {to} from {from}"))?;
        play::Play::new(&plan, &mut stream, &mut interrupt).run().await
    }
}
