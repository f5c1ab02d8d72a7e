//! When something is due that happens again and again at an even pace: pure arithmetic on the round's clock. Must not
//! know: what is due.

use crate::stage::Nanos;

/// Everybody's turn once in a period, each at a phase of its own.
#[derive(Clone, Debug)]
pub(crate) struct Rounds {
    period: Nanos,
    members: u64,
    origin: Nanos,
    taken: u64,
}

impl Rounds {
    /// The first member's turn is at `origin`. Without members nothing is ever due.
    pub(crate) const fn new(period: Nanos, members: u64, origin: Nanos) -> Self {
        Self { period, members, origin, taken: 0 }
    }

    /// The same, so much later.
    pub(crate) const fn later(&self, by: Nanos) -> Self {
        Self::new(self.period, self.members, self.origin + by)
    }

    /// When the next turn is due. Counted from the origin, so that no rounding adds up.
    pub(crate) fn due(&self) -> Option<Nanos> {
        self.due_of(self.taken)
    }

    /// When a member's turn in this round, both counted from 0, is or was due.
    pub(crate) fn due_in(&self, member: usize, round: u64) -> Option<Nanos> {
        self.due_of(round.saturating_mul(self.members).saturating_add(member as u64))
    }

    fn due_of(&self, turn: u64) -> Option<Nanos> {
        let since = (u128::from(turn) * u128::from(self.period)).checked_div(u128::from(self.members))?;
        Some(self.origin.saturating_add(u64::try_from(since).unwrap_or(u64::MAX)))
    }

    /// Whose turn it is, and since when, if one is due.
    pub(crate) fn take(&mut self, now: Nanos) -> Option<(usize, Nanos)> {
        let due = self.due().filter(|due| *due <= now)?;
        let member = self.taken % self.members;
        self.taken += 1;
        Some((usize::try_from(member).unwrap_or(usize::MAX), due))
    }
}

/// A number of things at an even pace, once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ramp {
    start: Nanos,
    span: Nanos,
    count: u64,
    taken: u64,
}

impl Ramp {
    /// `count` things evenly over `span`; with a span of zero all at once.
    pub(crate) const fn new(start: Nanos, span: Nanos, count: u64) -> Self {
        Self { start, span, count, taken: 0 }
    }

    pub(crate) const fn taken(&self) -> u64 {
        self.taken
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.taken >= self.count
    }

    pub(crate) fn due(&self) -> Option<Nanos> {
        if self.is_over() {
            return None;
        }
        let since = u128::from(self.taken) * u128::from(self.span) / u128::from(self.count.max(1));
        Some(self.start.saturating_add(u64::try_from(since).unwrap_or(u64::MAX)))
    }

    /// The next one's number, if it is due.
    pub(crate) fn take(&mut self, now: Nanos) -> Option<usize> {
        self.due().filter(|due| *due <= now)?;
        self.taken += 1;
        usize::try_from(self.taken - 1).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_spread_members_evenly_and_never_drift() {
        let mut rounds = Rounds::new(1_000, 3, 100);
        let mut taken = Vec::new();
        for now in 0..3_100 {
            while let Some((member, due)) = rounds.take(now) {
                assert_eq!(due, now);
                taken.push((member, due));
            }
        }
        assert_eq!(taken[..4], [(0, 100), (1, 433), (2, 766), (0, 1_100)]);
        assert_eq!(taken.len(), 9);
        assert_eq!(
            [(1, 0), (0, 1)].map(|(member, round)| rounds.due_in(member, round)),
            [Some(433), Some(1_100)]
        );
    }

    #[test]
    fn what_was_missed_is_still_due() {
        let mut rounds = Rounds::new(1_000, 2, 0);
        let dues: Vec<_> = std::iter::from_fn(|| rounds.take(1_600)).collect();
        assert_eq!(dues, [(0, 0), (1, 500), (0, 1_000), (1, 1_500)]);
    }

    #[test]
    fn nobody_is_due_when_nobody_takes_part() {
        assert_eq!(Rounds::new(5, 0, 0).take(u64::MAX), None);
        assert_eq!(Ramp::new(0, 5, 0).take(u64::MAX), None);
    }

    #[test]
    fn a_ramp_takes_each_once_over_its_span() {
        let mut ramp = Ramp::new(50, 1_000, 4);
        assert_eq!(ramp.take(49), None);
        assert_eq!((ramp.take(50), ramp.due()), (Some(0), Some(300)));
        assert_eq!((ramp.take(900), ramp.take(900), ramp.take(900)), (Some(1), Some(2), Some(3)));
        assert!(ramp.is_over() && ramp.take(u64::MAX).is_none());
        let mut at_once = Ramp::new(7, 0, 3);
        assert_eq!((at_once.take(7), at_once.take(7), at_once.take(7)), (Some(0), Some(1), Some(2)));
    }
}
