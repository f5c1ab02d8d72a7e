//! Says how far a run is, on stderr: a line that is rewritten on a terminal, a plain one now and then elsewhere. Must not
//! know: what runs.

use std::io::Write;
use std::time::{Duration, Instant};

const ON_TERMINAL: Duration = Duration::from_millis(200);
const ELSEWHERE: Duration = Duration::from_secs(5);

/// Where progress is shown.
#[derive(Debug)]
pub(crate) struct Progress {
    is_terminal: bool,
    shown_at: Instant,
    is_shown: bool,
}

impl Progress {
    /// `is_terminal`: stderr can rewrite a line.
    pub(crate) fn new(is_terminal: bool) -> Self {
        Self { is_terminal, shown_at: Instant::now(), is_shown: false }
    }

    /// Shows this unless something was shown just before.
    pub(crate) fn show(&mut self, text: impl Fn() -> String) {
        let pause = if self.is_terminal { ON_TERMINAL } else { ELSEWHERE };
        if self.shown_at.elapsed() < pause {
            return;
        }
        self.shown_at = Instant::now();
        self.is_shown = self.is_terminal;
        // Nobody reads it any more: no reason to stop measuring.
        let _ = if self.is_terminal {
            write!(std::io::stderr(), "\r\x1b[K{}", text())
        } else {
            writeln!(std::io::stderr(), "{}", text())
        };
    }

    /// Leaves the line empty for what comes next.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
