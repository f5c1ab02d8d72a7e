//! The log: on stderr, written by a thread of its own, so that no shard ever waits for a slow terminal or a
//! full pipe. Lines that this thread can't keep up with are dropped and counted.

use crate::shows_colours;
use anyhow::Context;
use pulsegate::config::LogFormat;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};

/// The variable that sets how much is logged.
pub(crate) const LEVEL: &str = "PULSEGATE_LOG";

/// The log; what is left is written when it is dropped.
pub(crate) struct Log {
    _writer: WorkerGuard,
    left_out: ErrorCounter,
}

impl Log {
    /// Starts logging.
    pub(crate) fn start(format: LogFormat) -> anyhow::Result<Self> {
        let (writer, guard) =
            NonBlockingBuilder::default().lossy(true).thread_name("log").finish(std::io::stderr());
        let left_out = writer.error_counter();
        let log = tracing_subscriber::fmt()
            .with_max_level(level()?)
            .with_target(false)
            .with_ansi(shows_colours())
            .with_writer(writer);
        match format {
            LogFormat::Text => log.init(),
            LogFormat::Json => log.json().flatten_event(true).init(),
        }
        Ok(Self { _writer: guard, left_out })
    }

    /// How many lines were left out.
    pub(crate) fn left_out(&self) -> usize {
        self.left_out.dropped_lines()
    }
}

fn level() -> anyhow::Result<LevelFilter> {
    let Ok(level) = std::env::var(LEVEL) else { return Ok(LevelFilter::INFO) };
    level.parse().with_context(|| {
        format!("{LEVEL}={level:?} is not a log level; use off, error, warn, info, debug or trace")
    })
}
