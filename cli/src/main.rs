//! The program: reads the command line, runs one command, turns its outcome into an exit code. Each command is one
//! file, with its arguments and what it does with them; `bench` is a crate of its own.
//!
//! Exit codes: 0 success; 1 failure while running; 2 wrong arguments or configuration; 3 (`connect`) the server closed
//! the connection before everything was sent, (`bench`) the figures are not valid.

mod bench;
mod check;
mod connect;
mod messages;
mod serve;

use clap::Parser;
use std::ffi::OsStr;
use std::io::IsTerminal;
use std::process::ExitCode;

/// Whether stderr is a terminal that does more than show one line after the other.
pub(crate) fn is_terminal() -> bool {
    std::io::stderr().is_terminal() && can_move(std::env::var_os("TERM").as_deref())
}

/// Whether stderr is to have colours (<https://no-color.org>).
pub(crate) fn shows_colours() -> bool {
    is_terminal() && wants_colours(std::env::var_os("NO_COLOR").as_deref())
}

fn can_move(term: Option<&OsStr>) -> bool {
    term.is_none_or(|term| term != "dumb")
}

fn wants_colours(no_color: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty)
}

/// A connection gateway: holds very many TCP connections, each exactly as long as your rules allow
#[derive(clap::Parser)]
#[command(name = "pulsegate", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Run the gateway
    Serve(Box<serve::Args>),
    /// Connect to a server as a client, send messages, and say what becomes of them
    Connect(connect::Args),
    /// Validate a configuration file
    Check(check::Args),
    /// Show the messages in a store on disk, whether or not a gateway is running on it
    Messages(messages::Args),
    /// Put a load on a server, and measure what it costs and how exact its deadlines are
    Bench(Box<pulsegate_bench::Args>),
}

impl Cli {
    /// Runs the command; errors go to stderr.
    fn run(self) -> ExitCode {
        let outcome = match self.command {
            Command::Serve(args) => args.run(),
            Command::Connect(args) => args.run(),
            Command::Check(args) => args.run(),
            Command::Messages(args) => args.run(),
            Command::Bench(args) => bench::run(*args),
        };
        outcome.unwrap_or_else(|error| {
            eprintln!("pulsegate: {error:#}");
            ExitCode::FAILURE
        })
    }
}

fn main() -> ExitCode {
    Cli::parse().run()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// The texts behind the options, of a command and those below it.
    fn texts(command: &clap::Command) -> Vec<String> {
        let own = command.get_after_help().map(ToString::to_string);
        own.into_iter().chain(command.get_subcommands().flat_map(texts)).collect()
    }

    #[test]
    fn help_fits_into_eighty_columns() {
        let texts = texts(&Cli::command());
        assert!(texts.len() >= 4, "serve, connect, messages and bench have examples");
        for line in texts.iter().flat_map(|text| text.lines()) {
            assert!(line.chars().count() < 80, "it would be wrapped in the middle: {line:?}");
        }
    }

    #[test]
    fn a_dumb_terminal_and_who_wants_none_get_no_colours() {
        assert!(can_move(None) && can_move(Some(OsStr::new("xterm"))) && !can_move(Some(OsStr::new("dumb"))));
        assert!(wants_colours(None) && wants_colours(Some(OsStr::new(""))));
        assert!(!wants_colours(Some(OsStr::new("1"))));
    }
}
