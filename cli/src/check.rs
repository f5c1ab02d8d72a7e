//! `pulsegate check`: says whether a configuration file is valid, and shows its listeners. Opens no socket.

use pulsegate::config::SINKS;
use pulsegate_config::Summary;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// The arguments of `pulsegate check`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Configuration file (TOML; pulsegate.example.toml has every key with its default)
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Args {
    /// Prints one line per listener and that the file is valid; or, on stderr, what is wrong and where.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let config = match pulsegate_config::read(&self.file, &SINKS) {
            Ok(settings) => settings.config,
            Err(error) => return Ok(refused(&error)),
        };
        let mut out = std::io::stdout().lock();
        for listener in &config.listeners {
            writeln!(out, "{}", Summary(listener))?;
        }
        writeln!(out, "{} is valid.", self.file.display())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints on stderr why the arguments or the configuration can't be used, and returns the exit code for it.
pub(crate) fn refused(error: &impl fmt::Display) -> ExitCode {
    eprintln!("pulsegate: {error:#}");
    ExitCode::from(2)
}
