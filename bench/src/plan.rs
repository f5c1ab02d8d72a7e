//! What a round does: the load, its numbers, and where it goes. Plain data. Must not know: how it is done.

use crate::dialect::Dialect;
use crate::watch::Processes;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

/// Before the measured part, while the load already runs: at most.
const WARM_MAX: Duration = Duration::from_secs(1);

/// A mode with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Connections are held.
    Idle { hold: Duration, every: Option<Duration> },
    /// Each client sends something at intervals.
    Beat { every: Duration, span: Duration },
    /// As many messages as possible.
    Flood { span: Duration, batch: usize },
    /// Messages with receipts: a number in flight in each session, or a total rate.
    Exchange { span: Duration, size: usize, window: usize, rate: Option<u64>, every: Duration },
    /// Clients fall silent, except those that keep sending.
    Reap { timeout: Duration, spread: Duration, grace: Duration, beating: usize, every: Duration },
    /// The same with clients that send once, as soon as each is connected.
    Once { timeout: Duration, spread: Duration, grace: Duration },
    /// Clients keep sending, and are closed nevertheless.
    Short { deadline: Duration, spread: Duration, grace: Duration, every: Duration },
    /// Clients connect, send one message, and leave.
    Churn { span: Duration, rate: Option<u64> },
    /// All clients reconnect at once.
    Storm { within: Duration },
}

impl Kind {
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Idle { .. } => "idle",
            Self::Beat { .. } => "beat",
            Self::Flood { .. } => "flood",
            Self::Exchange { .. } => "exchange",
            Self::Reap { .. } | Self::Once { .. } => "reap",
            Self::Short { .. } => "short",
            Self::Churn { .. } => "churn",
            Self::Storm { .. } => "storm",
        }
    }

    /// The interval at which each open connection sends something, unless the load says that it is silent.
    pub(crate) const fn every(&self) -> Option<Duration> {
        match self {
            Self::Idle { every, .. } => *every,
            Self::Beat { every, .. }
            | Self::Exchange { every, .. }
            | Self::Reap { every, .. }
            | Self::Short { every, .. } => Some(*every),
            Self::Once { .. } | Self::Flood { .. } | Self::Churn { .. } | Self::Storm { .. } => None,
        }
    }

    /// Whether everybody is connected before the measured part.
    pub(crate) const fn opens_first(&self) -> bool {
        !matches!(self, Self::Once { .. } | Self::Short { .. } | Self::Churn { .. })
    }

    /// How long the load runs before it counts.
    pub(crate) fn warm(&self) -> Duration {
        match self {
            Self::Flood { span, .. } | Self::Exchange { span, .. } | Self::Churn { span, .. } => {
                (*span / 5).min(WARM_MAX)
            }
            Self::Idle { .. }
            | Self::Beat { .. }
            | Self::Reap { .. }
            | Self::Once { .. }
            | Self::Short { .. }
            | Self::Storm { .. } => Duration::ZERO,
        }
    }

    /// About how long the measured part takes, for the progress that people see; at most, where it ends by itself.
    pub(crate) fn span(&self) -> Duration {
        match self {
            Self::Idle { hold, .. } => *hold,
            Self::Beat { span, .. } => *span,
            Self::Flood { span, .. } | Self::Exchange { span, .. } | Self::Churn { span, .. } => {
                *span + self.warm()
            }
            Self::Reap { timeout: limit, spread, grace, .. }
            | Self::Once { timeout: limit, spread, grace }
            | Self::Short { deadline: limit, spread, grace, .. } => *limit + *spread + *grace,
            Self::Storm { within } => *within,
        }
    }
}

/// One round.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) dialect: Dialect,
    /// The generator sleeps at least this long between two turns.
    pub(crate) tick: Duration,
    /// Connections per second while everybody is connected.
    pub(crate) open_rate: u64,
    pub(crate) servers: Processes,
}

/// The part of `total` that worker `number` of `workers` takes.
pub(crate) const fn share(total: usize, workers: usize, number: usize) -> Range<usize> {
    // Multiplied first, so that the parts differ by one at most; no count comes near the type's end.
    total * number / workers..total * (number + 1) / workers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        for (total, workers) in [(10, 3), (1_000_000, 53), (2, 2), (5, 1)] {
            let shares: Vec<_> = (0..workers).map(|number| share(total, workers, number)).collect();
            assert_eq!((shares[0].start, shares[workers - 1].end), (0, total));
            assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(shares.iter().all(|share| share.len().abs_diff(total / workers) <= 1));
        }
    }
}
