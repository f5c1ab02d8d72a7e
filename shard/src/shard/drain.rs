//! The graceful stop: when each connection is ended, and when refused newcomers should come back.
//!
//! Each connection's end is planned in advance, so that its client can be told. The port stays open meanwhile, and
//! newcomers are told to come back when the drain is over.

use crate::id::ConnectionId;
use crate::shard::table::{Numbered, Table};
use pulsegate_core::close::Retry;
use pulsegate_core::time::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// How long a gateway takes from its last connection until the next one listens.
const RESTART: Duration = Duration::from_secs(1);
/// How long after the last end newcomers are answered at most.
pub(crate) const ANSWERS_AFTER: Duration = Duration::from_secs(2);
/// How long after the last planned end a shard waits until everything is handed over.
const HANDOVER: Duration = Duration::from_secs(3);
/// The same when it is told to stop while it drains.
const HANDOVER_FORCED: Duration = Duration::from_millis(500);
/// What is added for each newcomer to the part of the return that it gets; of the sums only the part below 1 counts,
/// and these are spread as evenly as can be (the golden ratio).
const SPREAD_STEP: f64 = 0.618_033_988_749_895;

/// A drain in progress: an even pace over `within`, the first one at once.
#[derive(Debug)]
pub(crate) struct Drain {
    began: Instant,
    within: Duration,
    total: usize,
    /// How long the clients of each listener take to come back, at the rate at which it accepts.
    returns: Box<[Duration]>,
    /// The next place of the table to look at; `None` when all have their plan.
    cursor: Option<u32>,
    /// How many have their plan.
    planned: usize,
    /// Those that are still to be ended.
    waiting: VecDeque<ConnectionId>,
    newcomers: u32,
    /// What isn't handed over by then is given up.
    bound: Instant,
}

impl Drain {
    /// A drain of `total` connections that begins at `now`.
    pub(crate) fn new(now: Instant, within: Duration, total: usize, returns: Box<[Duration]>) -> Self {
        let (waiting, bound) = (VecDeque::new(), now.after(within).after(HANDOVER));
        Self { began: now, within, total, returns, cursor: Some(0), planned: 0, waiting, newcomers: 0, bound }
    }

    /// Plans the end of one more connection; `None` when all have their plan. Those that come now are not among them.
    pub(crate) fn plan<T: Numbered>(&mut self, table: &mut Table<T>) -> Option<(ConnectionId, Instant)> {
        let Some(id) = table.next(self.cursor?).filter(|_| self.planned < self.total) else {
            self.cursor = None;
            return None;
        };
        self.cursor = Some(id.key() + 1);
        let end = self.end_of(self.planned);
        self.planned += 1;
        self.waiting.push_back(id);
        Some((id, end))
    }

    /// The next connection to be ended by `now`, and its part of the drain, from 0 to 1; `None` when the pace is kept.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(ConnectionId, f64)> {
        let place = self.planned - self.waiting.len();
        let is_due = self.end_of(place) <= now;
        let id = self.waiting.pop_front_if(|_| is_due)?;
        Some((id, self.part(place)))
    }

    /// When there is something to do; `None` when all were ended.
    pub(crate) fn next(&self) -> Option<Instant> {
        if self.cursor.is_some() {
            return Some(self.began);
        }
        let place = self.planned - self.waiting.len();
        (!self.waiting.is_empty()).then(|| self.end_of(place))
    }

    /// Whether newcomers are still to be answered.
    pub(crate) fn answers(&self, now: Instant) -> bool {
        now < self.began.after(self.within).after(ANSWERS_AFTER)
    }

    /// It is to end at once: nothing that was planned comes any more.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.within = self.within.min(now.since(self.began));
        self.cursor = None;
        self.waiting.clear();
        self.bound = self.bound.min(now.after(HANDOVER_FORCED));
    }

    /// When what isn't handed over is given up.
    pub(crate) const fn bound(&self) -> Instant {
        self.bound
    }

    /// When a client of this listener should come back: after the drain and the restart, and then so that with
    /// their parts between 0 and 1 all come at the rate at which the listener accepts.
    pub(crate) fn retry(&self, now: Instant, listener: u16, part: f64) -> Retry {
        let left = self.began.after(self.within).since(now);
        let returns = self.returns.get(usize::from(listener)).copied().unwrap_or_default();
        let delay = left + RESTART + returns.mul_f64(part);
        Retry::After(Duration::from_millis(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The part of the next newcomer.
    pub(crate) fn newcomer(&mut self) -> f64 {
        self.newcomers = self.newcomers.wrapping_add(1);
        (f64::from(self.newcomers) * SPREAD_STEP).fract()
    }

    fn part(&self, place: usize) -> f64 {
        place.min(self.total) as f64 / self.total.max(1) as f64
    }

    fn end_of(&self, place: usize) -> Instant {
        self.began.after(self.within.mul_f64(self.part(place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ConnectionNumber;

    fn at(millis: u64) -> Instant {
        Instant::ORIGIN.after(Duration::from_millis(millis))
    }

    fn drain_of(count: usize, within: Duration) -> (Drain, Table<u64>) {
        let mut table = Table::new();
        (0..count as u64).for_each(|number| {
            table.insert(number);
        });
        let returns = Box::new([Duration::from_secs(4)]);
        (Drain::new(at(0), within, count, returns), table)
    }

    fn taken(drain: &mut Drain, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| drain.take(now)).map(|(id, _)| id.key()).collect()
    }

    #[test]
    fn each_end_comes_when_it_was_planned_though_others_have_left() {
        let (mut drain, mut table) = drain_of(10, Duration::from_secs(10));
        assert_eq!(drain.next(), Some(at(0)));
        assert_eq!(
            drain.plan(&mut table),
            Some((ConnectionId::new(0, ConnectionNumber::from_bits(0)), at(0)))
        );
        assert_eq!(taken(&mut drain, at(0)), [0]);
        let plans: Vec<_> = std::iter::from_fn(|| drain.plan(&mut table)).collect();
        let planned =
            |n: u32| (ConnectionId::new(n, ConnectionNumber::from_bits(n.into())), at(u64::from(n) * 1_000));
        assert_eq!(plans, (1..10).map(planned).collect::<Vec<_>>());
        assert_eq!(drain.next(), Some(at(1_000)));
        table.remove(1);
        assert_eq!(taken(&mut drain, at(3_500)), [1, 2, 3]);
        assert_eq!(drain.next(), Some(at(4_000)));
        assert_eq!(taken(&mut drain, at(20_000)), [4, 5, 6, 7, 8, 9]);
        assert_eq!(drain.next(), None);
    }

    #[test]
    fn a_stop_while_it_drains_leaves_nothing_planned_and_soon_answers_nobody() {
        let (mut drain, mut table) = drain_of(10, Duration::from_secs(100));
        while drain.plan(&mut table).is_some() {}
        drain.hurry(at(5_000));
        assert_eq!(drain.next(), None);
        assert_eq!(drain.plan(&mut table), None);
        assert!(drain.answers(at(6_999)) && !drain.answers(at(7_000)));
        assert_eq!(drain.bound(), at(5_500));
        assert_eq!(drain.retry(at(5_000), 0, 0.0), Retry::After(RESTART), "no drain has to be waited for");
        drain.hurry(at(6_000));
        assert!(!drain.answers(at(7_000)), "another one delays nothing");
    }

    #[test]
    fn those_who_come_while_it_drains_get_no_place_in_it() {
        let (mut drain, mut table) = drain_of(3, Duration::from_secs(3));
        table.insert(100);
        assert_eq!(std::iter::from_fn(|| drain.plan(&mut table)).count(), 3);
    }

    #[test]
    fn all_come_back_after_the_drain_and_not_all_at_once() {
        let (mut drain, mut table) = drain_of(1_000, Duration::from_secs(10));
        while drain.plan(&mut table).is_some() {}
        let comes_back = |drain: &Drain, now: Instant, part| match drain.retry(now, 0, part) {
            Retry::After(delay) => now.after(delay),
            retry @ (Retry::Now | Retry::Never) => panic!("{retry}"),
        };
        let mut returns = Vec::new();
        for second in 0..=10 {
            let now = at(second * 1_000);
            while let Some((_, part)) = drain.take(now) {
                returns.push(comes_back(&drain, now, part));
            }
            let part = drain.newcomer();
            assert!((0.0..1.0).contains(&part));
            assert!(comes_back(&drain, now, part) >= at(11_000));
        }
        assert_eq!(returns.len(), 1_000);
        let in_second = |second: u64| {
            returns
                .iter()
                .filter(|back| (at(second * 1_000)..at((second + 1) * 1_000)).contains(back))
                .count()
        };
        assert_eq!([11, 12, 13, 14, 15].map(in_second), [250, 250, 250, 250, 0]);
    }
}
