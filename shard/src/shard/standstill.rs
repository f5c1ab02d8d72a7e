//! Since when something that connections wait for has not moved. One that is slow, but
//! moves, ends nobody.

use pulsegate_core::time::OwnInstant;

/// What a shard has seen of a sink's or store's standstill.
#[derive(Debug, Default)]
pub(crate) struct Standstill {
    moves: u64,
    since: Option<OwnInstant>,
}

impl Standstill {
    /// Looks at it: whether it takes nothing now, and how often it has moved so far. Returns since when it stands
    /// still.
    pub(crate) fn observe(&mut self, is_full: bool, moves: u64, own: OwnInstant) -> Option<OwnInstant> {
        if !is_full {
            self.since = None;
        } else if self.since.is_none() || self.moves != moves {
            self.since = Some(own);
        }
        self.moves = moves;
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_what_is_full_and_does_not_move_stands_still() {
        let mut standstill = Standstill::default();
        let at = |nanos| OwnInstant::ORIGIN.after(Duration::from_nanos(nanos));
        assert_eq!(standstill.observe(false, 1, at(1)), None);
        assert_eq!(standstill.observe(true, 1, at(2)), Some(at(2)));
        assert_eq!(standstill.observe(true, 1, at(3)), Some(at(2)));
        assert_eq!(standstill.observe(true, 2, at(4)), Some(at(4)));
        assert_eq!(standstill.observe(false, 2, at(5)), None);
        assert_eq!(standstill.observe(true, 2, at(6)), Some(at(6)));
    }
}
