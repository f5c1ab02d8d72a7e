//! What a store holds, in numbers.

/// What a store holds, as of its last commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Sessions.
    pub sessions: u64,
    /// Sessions with a connection.
    pub attached: u64,
    /// Messages; none in memory, where they are forwarded.
    pub messages: u64,
    /// Their bytes; each counts 64 beside its payload and its client's id.
    pub message_bytes: u64,
    /// Payload that waits for the receipts of clients, in bytes.
    pub outgoing_bytes: u64,
    /// How many [`Request::Append`](crate::Request::Append)s were not stored since the store was opened, because they
    /// can't be.
    pub appends_refused: u64,
    /// What waits for the committer, in bytes, what it is working on included.
    pub queue_bytes: usize,
    /// Whether nothing can be committed.
    pub stopped: bool,
}
