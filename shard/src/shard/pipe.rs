//! What lies between a connection and its socket: output that the kernel did not take yet. Knows no socket: whoever
//! writes to it takes the bytes from here.

use crate::shard::byte_queue::ByteQueue;

/// The way from a connection to its socket. Nothing is allocated while nothing waits there.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    unsent: Option<Box<ByteQueue>>,
}

impl Pipe {
    /// Whether output can go straight to the socket: none waits that comes first.
    pub(crate) const fn is_bare(&self) -> bool {
        self.unsent.is_none()
    }

    /// How many bytes of output wait.
    pub(crate) fn waiting(&self) -> usize {
        self.unsent.as_ref().map_or(0, |unsent| unsent.len())
    }

    /// Whether something waits that the socket is to take.
    pub(crate) const fn has_unsent(&self) -> bool {
        self.unsent.is_some()
    }

    /// What the socket is to take, oldest first.
    pub(crate) fn unsent(&self) -> &[u8] {
        self.unsent.as_ref().map_or(&[], |unsent| unsent.as_slice())
    }

    /// More output, after all that waits.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.unsent.get_or_insert_default().append(bytes);
        }
    }

    /// The socket has taken `count` bytes.
    pub(crate) fn advance(&mut self, count: usize) {
        let Some(unsent) = &mut self.unsent else { return };
        unsent.advance(count);
        if unsent.is_empty() {
            self.unsent = None;
        }
    }

    /// Throws away all output that waits.
    pub(crate) fn clear(&mut self) {
        self.unsent = None;
    }
}
