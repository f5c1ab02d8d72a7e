//! The last quarter of some places, which is kept for addresses that hold few: so one address alone keeps nobody out.

/// The part of the places that is kept: one in so many.
const KEPT_PART: usize = 4;
/// An address that holds fewer than one in this many of the places holds few,
const FEW_PART: usize = 256;
/// and so does who holds fewer than this.
const FEW_MIN: usize = 4;

/// Places that are kept for addresses (IPv6: networks of 48 bits) that hold few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptPlaces {
    /// How many are kept.
    pub count: usize,
    /// Who holds fewer connections than this gets one of them.
    pub few: usize,
}

impl KeptPlaces {
    /// Those among so many places, of which an address may have as many. `None` if there are none: they are too few, or
    /// an address may have more than the others, as where a proxy stands.
    #[must_use]
    pub fn among(places: usize, max_per_address: Option<usize>) -> Option<Self> {
        let kept = Self::of(places);
        let is_wanted = max_per_address.is_none_or(|most| most <= places - kept.count);
        (is_wanted && kept.count > 0).then_some(kept)
    }

    /// Those of so many places; `few` is never more than what is open to all, so that it takes more than one address to
    /// fill the rest.
    pub(crate) fn of(places: usize) -> Self {
        let count = places / KEPT_PART;
        Self { count, few: (places / FEW_PART).max(FEW_MIN).min(places - count) }
    }
}
