//! Every end of a connection passes here, once: its record is made, counted and logged. Must not know: what leads to an
//! end, and which sink is told.

use crate::counters::Counts;
use crate::end::End;
use crate::id::ConnectionNumber;
use crate::peer::Peer;
use crate::shard::listener::Listener;
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::{Attachment, Connection};
use pulsegate_core::time::Now;
use std::sync::Arc;

/// A connection that has ended, unless it was refused before it became one.
pub(crate) struct Ended<'a> {
    pub(crate) connection: &'a Connection,
    /// The session that it had until then.
    pub(crate) attachment: Option<Attachment>,
    /// Bytes that wait for the peer to take them.
    pub(crate) unsent: usize,
}

/// Makes the record of an end, counts it and logs it.
pub(crate) fn record_end(
    listener: &Listener,
    counts: &mut Counts,
    now: Now,
    (number, peer): (ConnectionNumber, Peer),
    reason: CloseReason,
    ended: Option<&Ended<'_>>,
) -> End {
    let lifetime = ended.map(|ended| ended.connection.lifetime());
    let end = End {
        number,
        listener: Arc::clone(listener.limits.name()),
        peer: peer.address(),
        session: ended.and_then(|ended| ended.attachment).map(|attachment| attachment.session),
        reason,
        timer: lifetime.and_then(|lifetime| lifetime.timer()),
        age: lifetime.map(|lifetime| now.instant.since(lifetime.opened())).unwrap_or_default(),
        silent_for: lifetime.map(|lifetime| lifetime.silent_for(now.own())).unwrap_or_default(),
        totals: ended.map(|ended| ended.connection.totals()).unwrap_or_default(),
        unsent: ended.map_or(0, |ended| ended.unsent),
    };
    counts.count_end(reason);
    end.log();
    end
}
