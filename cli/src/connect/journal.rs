//! What the client says: one line on stdout per thing that happens, each with its moment in UTC. Must not know:
//! what the lines are about.

use anyhow::Context;
use pulsegate::text::utc;
use std::fmt;
use std::io::Write;
use std::time::{Duration, SystemTime};

/// Writes one line with the time of day in front.
///
/// # Errors
/// When stdout can't be written to.
pub(super) fn say(what: fmt::Arguments<'_>) -> anyhow::Result<()> {
    let now = utc(SystemTime::now());
    let line = format!("{now} {what}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).context("standard output can't be written to")
}

/// A time span in seconds, to the millisecond.
pub(super) fn seconds(span: Duration) -> String {
    format!("{:.3} s", span.as_secs_f64())
}
