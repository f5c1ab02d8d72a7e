//! What a worker counts while it plays, and the sum over all workers. Must not know: what the counts mean for a mode.

use crate::pulse::Told;
use crate::stage::Nanos;
use crate::statistics::Spans;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// Counts of one part of a round: its opening, or what is measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Connections that came to be.
    pub(crate) connected: u64,
    /// Connections that didn't, by cause.
    pub(crate) failures: BTreeMap<&'static str, u64>,
    /// Messages written in full.
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    /// Messages that the server's full buffers held up.
    pub(crate) blocked: u64,
    pub(crate) heard_bytes: u64,
    /// Connections that the server ended in order, and by a reset.
    pub(crate) closed: u64,
    pub(crate) reset: u64,
    /// Of those ended, the ones that had no reason to be.
    pub(crate) dropped: u64,
    /// Connections that should have ended or entered and did not, until patience ran out.
    pub(crate) never: u64,
    /// What the server's BYE said, by code, to clients that were in.
    pub(crate) byes: BTreeMap<u16, u64>,
    /// Connections ended because the server broke the protocol.
    pub(crate) faults: u64,
    /// Sessions that were resumed.
    pub(crate) resumed: u64,
    /// What the last WELCOME told.
    pub(crate) told: Option<Told>,
    /// Messages whose fate the server told while messages were sent.
    pub(crate) settled: u64,
    /// How long messages were sent; of the worker that took longest.
    pub(crate) sending: Duration,
    /// Messages that it refused, of all.
    pub(crate) refused: u64,
    /// Messages whose session ended before their fate was told.
    pub(crate) unknown: u64,
    /// Messages that were due, and for which there was no room in the window until the end.
    pub(crate) unsent: u64,
    /// How late connections were ended, negative if early.
    pub(crate) late: Vec<i64>,
    /// How long it took: a connection from start to end, or until it was in.
    pub(crate) spans: Spans,
    /// How late messages were sent, against the schedule.
    pub(crate) lag: Spans,
    /// The longest time in which a worker didn't look at its sockets.
    pub(crate) turn_max: Nanos,
}

impl Tally {
    pub(crate) fn note_failure(&mut self, error: &io::Error) {
        let cause = error.raw_os_error().map_or("other", |code| nix::errno::Errno::from_raw(code).desc());
        *self.failures.entry(cause).or_default() += 1;
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    pub(crate) const fn ended(&self) -> u64 {
        self.closed + self.reset
    }

    /// Adds what another worker counted.
    pub(crate) fn absorb(&mut self, other: Self) {
        for (cause, count) in other.failures {
            *self.failures.entry(cause).or_default() += count;
        }
        for (code, count) in other.byes {
            *self.byes.entry(code).or_default() += count;
        }
        self.faults += other.faults;
        self.resumed += other.resumed;
        self.told = self.told.or(other.told);
        self.settled += other.settled;
        self.sending = self.sending.max(other.sending);
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.unsent += other.unsent;
        self.connected += other.connected;
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.blocked += other.blocked;
        self.heard_bytes += other.heard_bytes;
        self.closed += other.closed;
        self.reset += other.reset;
        self.dropped += other.dropped;
        self.never += other.never;
        self.late.extend(other.late);
        self.spans.absorb(&other.spans);
        self.lag.absorb(&other.lag);
        self.turn_max = self.turn_max.max(other.turn_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let mut sum = Tally { sent: 2, late: vec![1], turn_max: 9, ..Tally::default() };
        sum.note_failure(&io::Error::from_raw_os_error(111));
        let mut other =
            Tally { sent: 3, late: vec![-2], turn_max: 4, closed: 1, reset: 1, ..Tally::default() };
        other.note_failure(&io::Error::from_raw_os_error(111));
        other.note_failure(&io::Error::other("strange"));
        sum.absorb(other);
        assert_eq!((sum.sent, sum.failed(), sum.ended(), sum.turn_max), (5, 3, 2, 9));
        assert_eq!(sum.late, [1, -2]);
        assert_eq!(sum.failures.get("Connection refused"), Some(&2));
    }
}
