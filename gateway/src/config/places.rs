//! The places of a listener, and the last quarter of them, which is kept for addresses that hold few: so one address
//! alone keeps nobody out.

use super::ListenerConfig;

/// The part of the places that is kept: one in so many.
const KEPT_PART: usize = 4;
/// Who holds fewer than one in so many of the places holds few,
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
    /// Those of so many places; `few` is never more than what is open to all, so that it takes more than one address to
    /// fill the rest.
    pub(crate) fn of(places: usize) -> Self {
        let count = places / KEPT_PART;
        Self { count, few: (places / FEW_PART).max(FEW_MIN).min(places - count) }
    }
}

impl ListenerConfig {
    /// Which places of this listener are kept, in a gateway with so many places in all. `None` if there are none: they
    /// are too few, or `max_per_address` allows an address more than the others, as where a proxy stands.
    #[must_use]
    pub fn kept_places(&self, of_all: usize) -> Option<KeptPlaces> {
        let places = self.max_connections.map_or(of_all, |own| own.min(of_all));
        let kept = KeptPlaces::of(places);
        let is_wanted = self.max_per_address.is_none_or(|most| most <= places - kept.count);
        (is_wanted && kept.count > 0).then_some(kept)
    }
}
