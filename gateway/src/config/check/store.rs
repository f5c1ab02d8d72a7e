//! Says what of the settings of a store can't be kept.

use super::{Fault, Faults, Place};
use crate::config::keys::QUEUE_BYTES;
use crate::text::size;
use pulsegate_shard::{BACKLOG_BYTES, BACKLOG_PART};
use pulsegate_store::StoreConfig;

/// In front of the store's queue waits as much as one in so many parts of it, or so many bytes for each shard if that is
/// more.
const WAITS_BESIDE: u64 = BACKLOG_PART as u64;
const WAITS_BESIDE_MIN: u64 = *BACKLOG_BYTES.start() as u64;
/// So large a part of what is kept is left to others at least, whatever one address sends.
const OTHERS_PARTS: u64 = 8;

/// What one session, one address or all together may have. What is left out gives way to what is said.
pub(super) fn check_shares(store: &StoreConfig, faults: &mut Faults) {
    let mut refuse = |key, bytes, bounds: &str| {
        let problem = format!("{} is out of range", size(bytes));
        faults.push(Fault::new(Place::Store, key, problem, format!("give it {bounds}")));
    };
    for (key, bytes) in [
        ("outgoing_bytes_in_all_max", store.outgoing_bytes_in_all),
        ("outgoing_bytes_per_address_max", store.outgoing_bytes_per_source),
    ] {
        if let Some(bytes) = bytes.filter(|bytes| *bytes < store.outgoing_bytes_max) {
            refuse(key, bytes, "at least `outgoing_bytes_max`");
        }
    }
    for (key, bytes) in [
        ("retention_bytes_per_session_max", store.retention_bytes_per_session),
        ("retention_bytes_per_address_max", store.retention_bytes_per_source),
    ] {
        let bounds = store.retention_bytes.div_ceil(1024)..=store.retention_bytes;
        if let Some(bytes) = bytes.filter(|bytes| !bounds.contains(bytes)) {
            refuse(key, bytes, "1/1024 of `retention_bytes_max` to all of them");
        }
    }
}

/// One address must not push out what others have sent: beside its share, what waits when that is used up is stored as well.
pub(super) fn check_room_for_others(store: &StoreConfig, shards: usize, faults: &mut Faults) {
    // Who gives nearly all to one address on purpose wants no share.
    let Some(share) = store.retention_bytes_of_source() else { return };
    let queue = store.queue_bytes_max as u64;
    let beside_min = WAITS_BESIDE_MIN * shards.max(1) as u64;
    let (kept, waits) = (store.retention_bytes, queue + (queue / WAITS_BESIDE).max(beside_min));
    let for_others = kept / OTHERS_PARTS;
    if share + waits + for_others <= kept {
        return;
    }
    let problem = format!(
        "{} are too few: one address may have {} of them, and the {} that can wait for the store are stored as well, which \
         leaves others next to nothing",
        said(kept),
        said(share),
        said(waits)
    );
    // The share is a part of what is kept, unless it is set.
    let needed = match store.retention_bytes_per_source {
        Some(share) => (share + waits).div_ceil(OTHERS_PARTS - 1) * OTHERS_PARTS,
        None => waits.div_ceil(5) * 8,
    };
    let waits_max = kept.saturating_sub(share + for_others);
    let queue_max = (waits_max / (WAITS_BESIDE + 1) * WAITS_BESIDE).min(waits_max.saturating_sub(beside_min));
    let fix = if queue_max >= *QUEUE_BYTES.start() {
        format!("raise it to {}, or lower `queue_bytes_max` to {}KiB", said(needed), queue_max >> 10)
    } else {
        format!("raise it to {}", said(needed))
    };
    faults.push(Fault::new(Place::Store, "retention_bytes_max", problem, fix));
}

/// Bytes as the file takes them, rounded up.
fn said(bytes: u64) -> String {
    match bytes {
        0..=0xf_ffff => format!("{}KiB", bytes.div_ceil(1 << 10)),
        0x10_0000.. => format!("{}MiB", bytes.div_ceil(1 << 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(store: &StoreConfig, shards: usize) -> Option<Fault> {
        let mut faults = Faults::default();
        check_room_for_others(store, shards, &mut faults);
        faults.0.pop()
    }

    /// The bytes that a fix names after these words.
    fn proposed(fix: &str, after: &str) -> Option<u64> {
        let (_, rest) = fix.split_once(after)?;
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number = rest[..digits].parse::<u64>().expect("a number");
        Some(number << if rest[digits..].starts_with("KiB") { 10 } else { 20 })
    }

    #[test]
    fn each_shard_lets_its_least_wait_in_front_of_the_queue() {
        let store = StoreConfig { retention_bytes: 32 << 20, ..StoreConfig::default() };
        assert_eq!(refused(&store, 16), None);
        let refused = refused(&store, 64).expect("32 MiB wait");
        assert!(refused.problem.contains("the 32MiB that can wait"), "{refused}");
    }

    #[test]
    fn what_a_refusal_proposes_is_accepted() {
        let mut refusals = 0;
        for shards in [1, 7, 64, 1024] {
            for queue_bytes_max in [64 << 10, (1 << 20) + 1, (16 << 20) + 3, (1 << 30) - 1] {
                for share in [None, Some((1 << 20) - 5), Some(16 << 20)] {
                    for retention_bytes in [1 << 20, (24 << 20) + 7, 1 << 30] {
                        let store = StoreConfig {
                            retention_bytes,
                            queue_bytes_max,
                            retention_bytes_per_source: share,
                            ..StoreConfig::default()
                        };
                        let Some(refusal) = refused(&store, shards) else { continue };
                        refusals += 1;
                        let raised = proposed(&refusal.fix, "raise it to ").expect("a size to raise it to");
                        let raised = StoreConfig { retention_bytes: raised, ..store.clone() };
                        assert_eq!(refused(&raised, shards), None, "{refusal}");
                        let Some(lowered) = proposed(&refusal.fix, "queue_bytes_max` to ") else { continue };
                        let queue_bytes_max = usize::try_from(lowered).expect("it fits");
                        let lowered = StoreConfig { queue_bytes_max, ..store };
                        assert_eq!(refused(&lowered, shards), None, "{refusal}");
                    }
                }
            }
        }
        assert!(refusals > 50, "{refusals}");
    }
}
