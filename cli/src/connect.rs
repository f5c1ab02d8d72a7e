//! `pulsegate connect`: a client for people. Raw: plays a scenario, messages at an even pace, silences, and a watch
//! for the server's end of the connection. In the pulse protocol: lines become messages whose fate is told. Must
//! not know: the gateway's configuration, or how the server decides.

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
      sent, received (the gateway has committed it, in its memory or on its
      disk) and confirmed (the gateway knows that we know), and what the
      gateway sends. It comes back by itself and goes on, and at the end of the
      input it waits until all is settled, up to 30 s. Ctrl-C ends it within a
      second, and says what is not settled; a second one ends it at once.
  pulsegate connect 127.0.0.1:7373 --id sensor-7 --outbox sensor-7.outbox
      The same, and what was read is kept in a file until it is settled.
  pulsegate connect 127.0.0.1:7373 --raw --every 2s --pause 24s --repeat 2
      Ten messages, 24 s of silence, and the same again. A gateway with a
      heartbeat timeout of 5 s ends the connection 5 s after the tenth.

Exit codes (with --id those of clients/python/pulsegate.py, too):
  0    everything was sent; with --id: every message was committed
  1    no connection; with --id: nobody there speaks the pulse protocol, or
       the input or the outbox can't be used
  2    wrong arguments
  3    the server ended the connection before; with --id: a message was not
       committed, or the gateway says not to come back
  130  interrupted";

/// The arguments of `pulsegate connect`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, override_usage = "pulsegate connect <ADDR> --id <ID> [--outbox <FILE>]\n       pulsegate connect <ADDR> --raw [OPTIONS]")]
pub(crate) struct Args {
    /// Where to connect to: host:port, for example 127.0.0.1:7373.
    #[arg(value_name = "ADDR", value_parser = dial::parse_address)]
    address: String,

    /// Who we are, for a session in the pulse protocol: lines from stdin become messages
    #[arg(long, value_name = "ID", value_parser = session::parse_id, conflicts_with = "raw", required_unless_present = "raw")]
    id: Option<String>,

    /// A file that keeps messages until they are settled, so that they outlive this program
    #[arg(long, value_name = "FILE", requires = "id", conflicts_with = "raw")]
    outbox: Option<PathBuf>,

    /// Send plain lines of text, as the options below say
    #[arg(long)]
    raw: bool,

    /// What to send; a line end is added. An n in braces, as in the default, stands for the running number, from 1.
    #[arg(long, value_name = "TEXT", default_value = "message {n}", conflicts_with = "id")]
    message: String,

    /// Time from one message of a burst to the next.
    #[arg(long, value_name = "DUR", default_value = "2s", value_parser = parse_duration, conflicts_with = "id")]
    every: Duration,

    /// Messages in a burst, at least 1.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "id")]
    count: u32,

    /// Silence between the last message of a burst and the first of the next; at 0s bursts follow each other at
    /// the pace of --every.
    #[arg(long, value_name = "DUR", default_value = "0s", value_parser = parse_duration, conflicts_with = "id")]
    pause: Duration,

    /// Bursts in all, at least 1.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "id")]
    repeat: u32,
}

impl Args {
    /// Plays the scenario, or sends what stdin says, and says on stdout what happens.
    ///
    /// # Errors
    /// When there is no connection, or stdout can't be written to.
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
        // A read of stdin may be under way, and can't be called off.
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
