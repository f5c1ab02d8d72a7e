//! Says what of the settings of a store can't be kept.

use super::{
    ConfigFault, OUTGOING_BYTES, OUTGOING_MESSAGES_MAX, QUEUE_BYTES, QUOTA_BYTES, QUOTA_EVERY_MAX,
    RETENTION_AGE_MAX, RETENTION_BYTES, SESSIONS_MAX, STORE_TIME_MIN, WAL_BYTES, fault, numbered, sized,
    within,
};
use pulsegate_store::StoreConfig;

/// In front of the store's queue waits as much as one in so many parts of it, or so many bytes if that is more.
const WAITS_BESIDE: u64 = 4;
const WAITS_BESIDE_MIN: u64 = 256 * 1024;
/// So large a part of what is kept is left to others at least, whatever one address sends.
const OTHERS_PARTS: u64 = 8;

pub(super) fn check_store(store: &StoreConfig) -> Result<(), ConfigFault> {
    numbered("max_sessions", store.sessions_max, 1, SESSIONS_MAX)?;
    sized("queue_bytes_max", store.queue_bytes_max as u64, QUEUE_BYTES)?;
    within("retention_age", store.retention_age, STORE_TIME_MIN, RETENTION_AGE_MAX)?;
    sized("retention_bytes", store.retention_bytes, RETENTION_BYTES)?;
    sized("quota_bytes", store.quota.bytes, QUOTA_BYTES)?;
    within("quota_every", store.quota.every, STORE_TIME_MIN, QUOTA_EVERY_MAX)?;
    numbered("outgoing_messages_max", store.outgoing_messages_max, 1, OUTGOING_MESSAGES_MAX)?;
    sized("outgoing_bytes_max", store.outgoing_bytes_max, OUTGOING_BYTES)?;
    sized("wal_bytes", store.wal_bytes, WAL_BYTES)?;
    check_shares(store)
}

/// What one session, one address or all together may have. What is left out gives way to what is said.
fn check_shares(store: &StoreConfig) -> Result<(), ConfigFault> {
    let sessions = store.sessions_per_source_max.unwrap_or(1);
    numbered("max_sessions_per_address", sessions, 1, SESSIONS_MAX)?;
    for (field, bytes) in [
        ("outgoing_bytes_in_all", store.outgoing_bytes_in_all),
        ("outgoing_bytes_per_address", store.outgoing_bytes_per_source),
    ] {
        let Some(bytes) = bytes else { continue };
        let bounds = store.outgoing_bytes_max..=*RETENTION_BYTES.bounds.end();
        if !bounds.contains(&bytes) {
            let problem = format!("{bytes} bytes are out of range");
            return Err(fault(field, &problem, "give it at least outgoing_bytes_max, at most 1PiB"));
        }
    }
    for (field, bytes) in [
        ("retention_bytes_per_session", store.retention_bytes_per_session),
        ("retention_bytes_per_address", store.retention_bytes_per_source),
    ] {
        let Some(bytes) = bytes else { continue };
        if !(store.retention_bytes.div_ceil(1024)..=store.retention_bytes).contains(&bytes) {
            let problem = format!("{bytes} bytes are out of range");
            return Err(fault(
                field,
                &problem,
                "give it 1/1024 of retention_bytes at least, all of them at most",
            ));
        }
    }
    Ok(())
}

/// One address must not push out what others have sent: beside its share, what waits when that is used up is stored as well.
pub(super) fn check_room_for_others(store: &StoreConfig) -> Result<(), ConfigFault> {
    // Who gives nearly all to one address on purpose wants no share.
    let Some(share) = store.retention_bytes_of_source() else { return Ok(()) };
    let queue = store.queue_bytes_max as u64;
    let (kept, waits) = (store.retention_bytes, queue + (queue / WAITS_BESIDE).max(WAITS_BESIDE_MIN));
    let for_others = kept / OTHERS_PARTS;
    if share + waits + for_others <= kept {
        return Ok(());
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
        Some(share) => (share + waits) / (OTHERS_PARTS - 1) * OTHERS_PARTS,
        None => waits / 5 * 8,
    };
    let waits_max = kept.saturating_sub(share + for_others);
    let queue_max =
        (waits_max / (WAITS_BESIDE + 1) * WAITS_BESIDE).min(waits_max.saturating_sub(WAITS_BESIDE_MIN));
    let mend = if queue_max >= *QUEUE_BYTES.bounds.start() {
        format!("raise it to {}, or lower queue_bytes_max to {}KiB", said(needed), queue_max >> 10)
    } else {
        format!("raise it to {}", said(needed))
    };
    Err(fault("retention_bytes", &problem, &mend))
}

/// Bytes as the file takes them, rounded up.
fn said(bytes: u64) -> String {
    match bytes {
        0..=0xf_ffff => format!("{}KiB", bytes.div_ceil(1 << 10)),
        0x10_0000.. => format!("{}MiB", bytes.div_ceil(1 << 20)),
    }
}
