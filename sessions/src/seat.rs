//! Who asks, and where the answer goes. Knows no request.

use pulsegate_core::connection::Attachment;

/// The caller's own: whatever it needs to bring a reply where it belongs, such as a shard and a connection. The store
/// hands it back, remembers that of each session's connection, and does nothing else with it.
pub type Ticket = u128;

/// Where a connection comes from, as its shares are counted: the caller's own number for an address or a network. 0 is
/// nobody's: it has no share, and no session or message of it is counted for one.
pub type Source = i64;

/// An instant on both clocks of the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    /// Milliseconds since 1970-01-01 UTC. It may jump: only what people read uses it.
    pub wall_ms: u64,
    /// Milliseconds on a clock that never goes back and runs while the gateway does, from wherever it begins.
    /// Sessions' times to live, the age of messages and the periods of quotas use it.
    pub uptime_ms: u64,
}

/// A connection that is attached to a session, and where replies for it go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seat {
    /// The caller's own.
    pub ticket: Ticket,
    /// The session, and the epoch of the connection.
    pub attachment: Attachment,
}

impl Seat {
    /// The seat of this connection.
    #[must_use]
    pub const fn new(ticket: Ticket, session: u64, epoch: u64) -> Self {
        Self { ticket, attachment: Attachment { session, epoch } }
    }

    /// The session's number.
    #[must_use]
    pub const fn session(&self) -> u64 {
        self.attachment.session
    }

    /// The epoch of the connection.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.attachment.epoch
    }
}
