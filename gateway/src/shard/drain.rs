//! The graceful stop: which connection is ended next, and when, so that all are within the time given.

use crate::shard::table::{Numbered, Table};
use pulsegate_core::time::Instant;
use std::time::Duration;

/// The most that are ended in one turn, so that the others are served meanwhile.
const ENDS_PER_TURN: usize = 256;

/// A drain in progress: an even pace over `within`, the first one at once.
#[derive(Debug)]
pub(crate) struct Drain {
    began: Instant,
    within: Duration,
    total: usize,
    ended: usize,
    /// The next place of the table to look at; `None` when all were looked at.
    cursor: Option<u32>,
    in_turn: usize,
}

impl Drain {
    /// A drain of `total` connections that begins at `now`.
    pub(crate) const fn new(now: Instant, within: Duration, total: usize) -> Self {
        Self { began: now, within, total, ended: 0, cursor: Some(0), in_turn: 0 }
    }

    /// The next connection to be ended by `now`; `None` when the pace is kept, or the turn has had enough.
    pub(crate) fn take<T: Numbered>(&mut self, now: Instant, table: &Table<T>) -> Option<u32> {
        if self.next()? > now || self.in_turn == ENDS_PER_TURN {
            self.in_turn = 0;
            return None;
        }
        let Some(key) = table.next_key(self.cursor?) else {
            self.cursor = None;
            return None;
        };
        self.cursor = Some(key + 1);
        self.ended += 1;
        self.in_turn += 1;
        Some(key)
    }

    /// When the next one is to be ended; `None` when all were.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.cursor?;
        let share = self.ended.min(self.total) as f64 / self.total.max(1) as f64;
        Some(self.began.after(self.within.mul_f64(share)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ORIGIN.after(Duration::from_millis(millis))
    }

    #[test]
    fn the_ends_are_spread_evenly_and_the_first_comes_at_once() {
        let mut table = Table::new();
        for number in 0..10u64 {
            table.insert(number);
        }
        let mut drain = Drain::new(at(0), Duration::from_secs(10), table.len());
        assert_eq!(drain.take(at(0), &table), Some(0));
        assert_eq!(drain.take(at(0), &table), None);
        assert_eq!(drain.next(), Some(at(1_000)));
        table.remove(1);
        assert_eq!(drain.take(at(3_500), &table), Some(2));
        assert_eq!(drain.take(at(3_500), &table), Some(3));
        assert_eq!(drain.take(at(3_500), &table), Some(4));
        assert_eq!(drain.take(at(3_500), &table), None);
        let rest: Vec<u32> = std::iter::from_fn(|| drain.take(at(20_000), &table)).collect();
        assert_eq!(rest, [5, 6, 7, 8, 9]);
        assert_eq!(drain.next(), None);
    }

    #[test]
    fn many_at_once_are_ended_in_bounded_turns() {
        let mut table = Table::new();
        for number in 0..1000u64 {
            table.insert(number);
        }
        let mut drain = Drain::new(at(0), Duration::ZERO, table.len());
        let turn: Vec<u32> = std::iter::from_fn(|| drain.take(at(0), &table)).collect();
        assert_eq!(turn.len(), ENDS_PER_TURN);
        assert_eq!(drain.next(), Some(at(0)));
    }
}
