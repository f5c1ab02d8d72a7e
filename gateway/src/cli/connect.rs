//! `pulsegate connect`: plays a scenario against a server as a client: messages at an even pace, silences, and a
//! watch for the server's end of the connection. Must not know: the gateway's configuration, its protocol, or how
//! the server decides.

mod dial;
mod journal;
mod lines;
mod plan;
mod play;

use clap::error::ErrorKind;
use dial::Dialled;
use plan::Plan;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

const EXAMPLES: &str = "\
Example: ten messages, 24 s of silence, and the same again. A gateway with a
heartbeat timeout of 5 s ends the connection 5 s after the tenth message, and
the client says so:

  pulsegate connect 127.0.0.1:7373 --raw --count 10 --every 2s --pause 24s --repeat 2

Exit codes: 0 everything was sent; 1 no connection; 2 wrong arguments;
3 the server ended the connection before everything was sent; 130 interrupted.";

/// The arguments of `pulsegate connect`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, override_usage = "pulsegate connect <ADDR> --raw [OPTIONS]")]
pub(crate) struct Args {
    /// Where to connect to: host:port, for example 127.0.0.1:7373.
    #[arg(value_name = "ADDR")]
    address: String,

    /// Send plain lines of text. Required: nothing else is there yet.
    #[arg(long)]
    raw: bool,

    /// What to send; a line end is added. An n in braces, as in the default, stands for the running number, from 1.
    #[arg(long, value_name = "TEXT", default_value = "message {n}")]
    message: String,

    /// Time from one message of a burst to the next.
    #[arg(long, value_name = "DUR", default_value = "2s", value_parser = humantime::parse_duration)]
    every: Duration,

    /// Messages in a burst, at least 1.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,

    /// Silence between the last message of a burst and the first of the next; at 0s bursts follow each other at
    /// the pace of --every.
    #[arg(long, value_name = "DUR", default_value = "0s", value_parser = humantime::parse_duration)]
    pause: Duration,

    /// Bursts in all, at least 1.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
}

impl Args {
    /// Plays the scenario, and says on stdout what happens.
    ///
    /// # Errors
    /// When there is no connection, or stdout can't be written to.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        if !self.raw {
            let message = "only `--raw` is there so far: add `--raw` to send plain lines of text";
            let mut command = <Self as clap::Args>::augment_args(clap::Command::new("pulsegate connect"));
            command.error(ErrorKind::MissingRequiredArgument, message).print()?;
            return Ok(ExitCode::from(2));
        }
        let addresses = dial::resolve(&self.address)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.connect_and_play(&addresses))
    }

    async fn connect_and_play(self, addresses: &[SocketAddr]) -> anyhow::Result<ExitCode> {
        let Self { address, raw: _, message, every, count, pause, repeat } = self;
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
