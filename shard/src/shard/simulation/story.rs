//! What a device knows of one of its sessions, compared with what its store has kept of it and what has reached the sink.

use super::judge::Story;
use std::collections::BTreeSet;

type Payload = Box<[u8]>;

/// What a device knows of one session.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) session: u64,
    /// Its own messages, in the order of their numbers.
    pub(super) said: Vec<Payload>,
    /// Up to here they have receipts.
    pub(super) settled: u64,
    /// Of these it was told that they are not accepted,
    pub(super) refused: BTreeSet<u64>,
    /// and of these that they are lost, though they had receipts.
    pub(super) lost: BTreeSet<u64>,
    /// What it got, in the order of the numbers.
    pub(super) got: Vec<Payload>,
}

impl Known {
    /// It agrees with what was kept, as far as it goes.
    pub(super) fn check(&self, name: &str, kept: &Story) {
        for (number, fate) in &kept.fates {
            let said = self.said.get(*number as usize - 1);
            let is_its = fate.as_ref().is_none_or(|fate| said == Some(fate));
            assert!(said.is_some() && is_its, "{name}: something else is committed as {number}");
        }
        for number in 1..=self.settled {
            match kept.fates.get(&number) {
                None => assert!(kept.was_set_back, "{name}: a receipt for nothing, {number}"),
                Some(fate) => assert!(
                    fate.is_none() == self.refused.contains(&number) || kept.was_set_back,
                    "{name}: told something else of {number} than {fate:?}"
                ),
            }
        }
        for number in &self.lost {
            assert!(!kept.fates.contains_key(number), "{name}: {number} is not lost");
        }
        assert!(kept.pushed.starts_with(&self.got), "{name} got something else");
    }

    /// Nothing is under way any more: all that is known to either is known to both.
    pub(super) fn check_whole(&self, name: &str, kept: &Story) {
        assert_eq!(self.settled, self.said.len() as u64, "{name} waits for receipts");
        assert_eq!(kept.pushed.len(), self.got.len(), "{name} waits for messages");
        let mut gone = (1..=self.settled).filter(|number| !kept.fates.contains_key(number));
        let untold = gone.find(|number| !self.lost.contains(number));
        assert_eq!(untold, None, "{name} was not told that this message is lost");
    }

    /// What was committed has reached the sink, each message once and in order; all of it, unless something has failed.
    pub(super) fn check_arrived(
        &self,
        name: &str,
        kept: &Story,
        arrived: &[(u64, Payload)],
        has_failed: bool,
    ) {
        let mut committed = kept.committed();
        for (number, payload) in arrived {
            assert_eq!(committed.next(), Some((*number, &**payload)), "{name}: once each, in order");
        }
        if let Some((number, _)) = committed.next() {
            assert!(has_failed, "{name}: the sink has not got message {number}");
            assert!(number > self.settled, "{name}: message {number} is acknowledged, and lost");
        }
    }
}
