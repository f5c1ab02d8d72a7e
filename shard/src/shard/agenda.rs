//! What a shard has still to do though nothing becomes ready, and for whom. Each list is worked off in bounded pieces.
//! Knows connections by their ids alone, which may have ended meanwhile.

use crate::id::ConnectionId;
use crate::shard::drain::Drain;
use pulsegate_core::close::{CloseReason, Retry};
use pulsegate_core::time::Instant;
use std::collections::VecDeque;

/// From this many ends in one turn on, all are told before any of their sockets is closed.
const MASS: usize = 16;
/// How many sockets are closed in one turn when others no longer end in masses.
pub(crate) const CLOSED_PER_TURN: usize = 64;

/// What is to be done at each connection.
#[derive(Clone, Debug)]
pub(crate) enum Errand {
    /// Those of failed sinks and stores are ended.
    Purge,
    /// Those end that wait for the receipts of this ledger, if its sink has taken nothing for too long.
    EndStalled(usize),
    /// Clients of the pulse protocol get a notice (PROTOCOL.md section 8.1).
    Notice {
        /// Only those of this ledger.
        ledger: Option<usize>,
        code: u16,
        text: String,
    },
}

/// An errand on its way through the table.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// The next place to look at.
    pub(crate) next: u32,
    pub(crate) errand: Errand,
}

/// The lists of a shard; `S` is a connection's socket.
#[derive(Debug)]
pub(crate) struct Agenda<S> {
    /// To be read on without being told by the poller.
    pub(crate) listed: VecDeque<ConnectionId>,
    /// Their time for silence or for writing is over, unless a last try says otherwise.
    pub(crate) suspects: VecDeque<ConnectionId>,
    /// Connections that were turned away and wait to be told so, and some that were told, oldest first.
    pub(crate) turned_away: VecDeque<ConnectionId>,
    pub(crate) sweeps: VecDeque<Sweep>,
    /// The graceful stop, once it has begun.
    pub(crate) drain: Option<Drain>,
    /// Sockets whose end has been sent, and that are still to be closed.
    unclosed: VecDeque<S>,
    /// How many deadlines have struck in this turn.
    struck: usize,
    /// So many have that sockets are closed later.
    is_mass_end: bool,
}

impl<S> Agenda<S> {
    /// Nothing is to be done.
    pub(crate) const fn new() -> Self {
        Self {
            listed: VecDeque::new(),
            suspects: VecDeque::new(),
            turned_away: VecDeque::new(),
            sweeps: VecDeque::new(),
            drain: None,
            unclosed: VecDeque::new(),
            struck: 0,
            is_mass_end: false,
        }
    }

    /// Whether the next turn has something to do.
    pub(crate) fn has_work(&self) -> bool {
        let is_idle = self.listed.is_empty() && self.suspects.is_empty() && self.sweeps.is_empty();
        !is_idle || !self.unclosed.is_empty()
    }

    /// When a client that is refused for this reason should come back.
    pub(crate) fn retry_of(&mut self, now: Instant, listener: u16, reason: CloseReason) -> Retry {
        match &mut self.drain {
            Some(drain) if reason == CloseReason::Drain => {
                let part = drain.newcomer();
                drain.retry(now, listener, part)
            }
            Some(_) | None => reason.retry(),
        }
    }

    /// Sees to an errand, this turn and the next ones.
    pub(crate) fn sweep(&mut self, errand: Errand) {
        self.sweeps.push_back(Sweep { next: 0, errand });
    }

    /// Deadlines are about to strike.
    pub(crate) const fn begin_strikes(&mut self) {
        self.struck = 0;
    }

    /// A deadline strikes.
    pub(crate) const fn note_strike(&mut self) {
        self.struck += 1;
        self.is_mass_end |= self.struck == MASS;
    }

    /// All deadlines of this turn have struck.
    pub(crate) const fn end_strikes(&mut self) {
        self.is_mass_end = self.struck >= MASS;
    }

    /// How many deadlines have struck in this turn.
    pub(crate) const fn struck(&self) -> usize {
        self.struck
    }

    /// Whether sockets are closed later.
    pub(crate) const fn closes_later(&self) -> bool {
        self.is_mass_end
    }

    /// The socket's end has been sent; it is to be closed.
    pub(crate) fn close_later(&mut self, stream: S) {
        self.unclosed.push_back(stream);
    }

    /// Up to so many that are to be closed now.
    pub(crate) fn take_unclosed(&mut self, count: usize) -> impl ExactSizeIterator<Item = S> {
        let count = count.min(self.unclosed.len());
        self.unclosed.drain(..count)
    }

    /// Whether all sockets whose end has been sent are closed.
    pub(crate) fn has_closed_all(&self) -> bool {
        self.unclosed.is_empty()
    }
}
