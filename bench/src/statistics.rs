//! Distributions and medians. Must not know: what is measured.

use hdrhistogram::Histogram;

/// One hour in nanoseconds; what takes longer counts as that.
const LONGEST: u64 = 3_600_000_000_000;
/// Three significant figures.
const FIGURES: u8 = 3;

/// The shares that reports show.
pub(crate) const SHARES: [f64; 4] = [0.5, 0.99, 0.999, 1.0];

/// Many spans in nanoseconds, kept to three significant figures.
#[derive(Clone, Debug)]
pub(crate) struct Spans {
    histogram: Histogram<u64>,
}

impl Default for Spans {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST, FIGURES).expect("the bounds are in order");
        Self { histogram }
    }
}

impl Spans {
    pub(crate) fn record(&mut self, nanos: u64) {
        self.histogram.saturating_record(nanos.clamp(1, LONGEST));
    }

    /// The same span, so many times.
    pub(crate) fn record_many(&mut self, nanos: u64, count: u64) {
        self.histogram.saturating_record_n(nanos.clamp(1, LONGEST), count);
    }

    pub(crate) fn absorb(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("all histograms have the same bounds");
    }

    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The span that this share of all stays below; none if there are no spans.
    pub(crate) fn at(&self, share: f64) -> Option<i64> {
        (self.count() > 0).then(|| i64::try_from(self.histogram.value_at_quantile(share)).unwrap_or(i64::MAX))
    }

    /// Points of the distribution: value, and the share of all up to it.
    pub(crate) fn curve(&self) -> Vec<(i64, f64)> {
        let total = self.count().max(1) as f64;
        let mut below = 0;
        let step = |value: hdrhistogram::iterators::IterationValue<u64>| {
            below += value.count_since_last_iteration();
            (i64::try_from(value.value_iterated_to()).unwrap_or(i64::MAX), below as f64 / total)
        };
        self.histogram.iter_recorded().map(step).collect()
    }
}

/// Exact signed values in order; for bounded numbers of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sorted {
    values: Vec<i64>,
}

impl Sorted {
    pub(crate) fn new(mut values: Vec<i64>) -> Self {
        values.sort_unstable();
        Self { values }
    }

    pub(crate) const fn count(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn min(&self) -> Option<i64> {
        self.values.first().copied()
    }

    /// How many are below zero.
    pub(crate) fn negative(&self) -> usize {
        self.values.partition_point(|value| *value < 0)
    }

    /// The value that this share of all stays at or below; none if there are no values.
    pub(crate) fn at(&self, share: f64) -> Option<i64> {
        let rank = (share * self.values.len() as f64).ceil() as usize;
        self.values.get(rank.max(1) - 1).copied()
    }

    /// Points of the distribution, at most a few hundred: value, and the share of all up to it.
    pub(crate) fn curve(&self) -> Vec<(i64, f64)> {
        const POINTS: usize = 400;
        let count = self.values.len();
        let stride = count.div_ceil(POINTS).max(1);
        let ranks = (1..=count).filter(|rank| *rank == 1 || rank % stride == 0 || *rank == count);
        ranks.map(|rank| (self.values[rank - 1], rank as f64 / count as f64)).collect()
    }
}

/// The middle value; of an even number the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => sorted.get(middle).copied(),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_are_exact() {
        let sorted = Sorted::new((1..=1000).rev().collect());
        assert_eq!(SHARES.map(|share| sorted.at(share)), [Some(500), Some(990), Some(999), Some(1000)]);
        assert_eq!((sorted.min(), sorted.count()), (Some(1), 1000));
        assert_eq!(Sorted::default().at(0.5), None);
    }

    #[test]
    fn early_ones_are_counted() {
        assert_eq!(Sorted::new(vec![3, -1, 0, -7]).negative(), 2);
    }

    #[test]
    fn medians_are_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn spans_are_kept_to_three_figures_and_can_be_joined() {
        let (mut spans, mut others) = (Spans::default(), Spans::default());
        (1..=500).for_each(|value| spans.record(value * 1_000));
        (501..=1000).for_each(|value| others.record(value * 1_000));
        others.record(u64::MAX);
        spans.absorb(&others);
        assert_eq!(spans.count(), 1001);
        let middle = spans.at(0.5).unwrap();
        assert!((middle - 501_000).abs() <= 1_000, "{middle}");
        assert_eq!(Spans::default().at(0.5), None);
        assert!(spans.curve().last().is_some_and(|(_, share)| (*share - 1.0).abs() < 1e-9));
    }

    proptest! {
        #[test]
        fn a_curve_only_rises(values in prop::collection::vec(-1_000_i64..1_000, 1..2_000)) {
            let curve = Sorted::new(values).curve();
            prop_assert!(curve.len() <= 402);
            prop_assert!(curve.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 < pair[1].1));
            prop_assert!((curve.last().unwrap().1 - 1.0).abs() < 1e-9);
        }
    }
}
