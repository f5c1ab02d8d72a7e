//! `pulsegate check`: says whether a configuration file is valid, and shows its listeners. Opens no socket.

use pulsegate::config::{Config, Fault, Place, SINKS};
use pulsegate_config::{Overview, Settings};
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
    /// Prints what the file amounts to, what of it may surprise, and that it is valid, or on stderr what is wrong and where.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let Settings { config, source } = match pulsegate_config::read(&self.file, &SINKS) {
            Ok(settings) => settings,
            Err(error) => return Ok(refused(&error)),
        };
        if let Some(fault) = folder_fault(&config) {
            return Ok(refused(&source.show(&[fault])));
        }
        let overview = Overview(&config);
        let mut out = std::io::stdout().lock();
        write!(out, "{overview}")?;
        for warning in overview.warnings() {
            writeln!(out, "warning: {warning}")?;
        }
        writeln!(out, "{} is valid.", self.file.display())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What is wrong with the store's folder, as far as that is seen without making it.
pub(crate) fn folder_fault(config: &Config) -> Option<Fault> {
    let mut there = config.data_dir.ancestors().filter(|path| path.symlink_metadata().is_ok());
    let nearest = there.next().filter(|path| config.has_store() && !path.is_dir())?;
    let problem = format!("{} is no folder", nearest.display());
    Some(Fault::new(Place::Store, "data_dir", problem, "name another folder, or move that away"))
}

/// Prints on stderr why the arguments or the configuration can't be used, and returns the exit code for it.
pub(crate) fn refused(error: &impl fmt::Display) -> ExitCode {
    eprintln!("pulsegate: {error:#}");
    ExitCode::from(2)
}
