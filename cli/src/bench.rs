//! `pulsegate bench`: a crate of its own measures, here its outcome becomes an exit code.

use crate::check::refused;
use crate::is_terminal;
use pulsegate_bench::{Args, Outcome};
use std::process::ExitCode;

/// It ran to its end, but the figures aren't what they are said to be.
const EXIT_NOT_VALID: u8 = 3;

/// Measures, and shows what came out.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    Ok(match args.run(is_terminal())? {
        Outcome::Valid => ExitCode::SUCCESS,
        Outcome::NotValid => ExitCode::from(EXIT_NOT_VALID),
        Outcome::Refused(error) => refused(&error),
    })
}
