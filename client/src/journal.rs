//! What has to outlive the process, in the order in which it happens, and how much of that is on disk
//! (PROTOCOL.md section 5.8). Without an outbox on disk everything counts as stored at once. Must not know why
//! something is written.

use bytes::Bytes;
use tokio::sync::mpsc;

/// A change that has to outlive the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A message was taken in.
    Insert(u64, Bytes),
    /// A message was not accepted by the client itself.
    Remove(u64),
    /// Messages up to this id may have been sent from now on.
    Mark(u64),
    /// The messages up to this id are settled, the last of them under this number.
    Settle {
        /// The id.
        id: u64,
        /// The number.
        number: u64,
    },
    /// The session's token from now on.
    Resume([u8; 16]),
    /// The gateway is told that it may send messages of so many bytes in this session.
    Tell(u32),
    /// A session has begun, or with number 0 none is left; messages up to `forget` ended with the one before.
    Begin {
        /// The session's number.
        session: u64,
        /// Its token.
        token: [u8; 16],
        /// The last id of which nothing more will be heard.
        forget: u64,
        /// The longest message that the gateway was told of in it, in bytes.
        told_max: u32,
    },
    /// The cursor of the gateway's messages, and which of those that it has passed were refused.
    Cursor(u64, Vec<(u64, u16)>),
    /// The gateway knows the refusals up to this number.
    Known(u64),
}

/// What the disk has to say.
#[derive(Debug)]
pub(crate) enum Report {
    /// All entries up to this place are on disk.
    #[cfg_attr(not(feature = "outbox"), expect(dead_code, reason = "without a disk nobody reports"))]
    Stored(u64),
    /// Nothing can be written for now, for this reason; it is tried again until it can.
    #[cfg_attr(not(feature = "outbox"), expect(dead_code, reason = "without a disk nobody reports"))]
    Stuck(String),
    /// Nothing can be written any more, for this reason.
    Failed(String),
}

/// What was found on disk, or handed over by the application.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) session: u64,
    pub(crate) token: [u8; 16],
    /// The longest message that the gateway was told of in it, in bytes; 0: nothing is known.
    pub(crate) told_max: u32,
    /// Its client's own messages: the highest number that is settled, and the highest id that was given out.
    pub(crate) settled: u64,
    pub(crate) last_id: u64,
    /// What is not settled, oldest first; that up to the id `marked` may have been sent.
    pub(crate) messages: Vec<(u64, Bytes)>,
    pub(crate) marked: u64,
    /// The gateway's messages.
    pub(crate) committed: u64,
    pub(crate) refused: Vec<(u64, u16)>,
}

/// The way to the disk, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    disk: Option<mpsc::UnboundedSender<Entry>>,
    written: u64,
    stored: u64,
}

impl Journal {
    /// With a disk, whose thread takes entries one by one and reports how many are stored.
    #[cfg(feature = "outbox")]
    pub(crate) fn on_disk(disk: mpsc::UnboundedSender<Entry>) -> Self {
        Self { disk: Some(disk), written: 0, stored: 0 }
    }

    pub(crate) const fn is_on_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// Hands an entry over. Returns its place, for [`is_stored`](Self::is_stored).
    pub(crate) fn write(&mut self, entry: Entry) -> u64 {
        if let Some(disk) = &self.disk {
            self.written += 1;
            // If the thread is gone it has reported why, and nothing more is ever stored.
            let _ = disk.send(entry);
        }
        self.written
    }

    pub(crate) const fn is_stored(&self, place: u64) -> bool {
        place <= self.stored
    }

    /// Whether all that was ever written is on disk.
    pub(crate) const fn is_all_stored(&self) -> bool {
        self.stored == self.written
    }

    /// Everything up to this place is on disk.
    pub(crate) fn handle_stored(&mut self, place: u64) {
        self.stored = self.stored.max(place);
    }

    /// Nothing more will be written: the thread ends when it has stored what it was given.
    pub(crate) fn end(&mut self) {
        self.disk = None;
    }
}
