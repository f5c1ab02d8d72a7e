//! Bytes that wait, oldest first.

/// A queue of bytes in one piece.
#[derive(Debug, Default)]
pub(crate) struct ByteQueue {
    bytes: Vec<u8>,
    /// This many of them have been sent.
    start: usize,
}

impl ByteQueue {
    /// How many bytes wait.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether nothing waits.
    pub(crate) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What waits, oldest first.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Adds to the end.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.end().extend_from_slice(bytes);
    }

    /// The buffer to whose end more is to be appended.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        &mut self.bytes
    }

    /// The first `count` bytes leave. An empty queue holds no memory.
    pub(crate) fn advance(&mut self, count: usize) {
        self.start += count;
        if self.start >= self.bytes.len() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let mut queue = ByteQueue::default();
        queue.append(b"abc");
        queue.advance(2);
        queue.append(b"def");
        assert_eq!((queue.as_slice(), queue.len()), (&b"cdef"[..], 4));
        queue.advance(4);
        assert!(queue.is_empty());
        queue.append(b"g");
        assert_eq!(queue.as_slice(), b"g");
    }

    #[test]
    fn what_has_left_takes_no_room_for_long() {
        let mut queue = ByteQueue::default();
        queue.append(&[0; 50]);
        for _ in 0..1_000 {
            queue.append(&[0; 100]);
            queue.advance(100);
        }
        assert!(queue.bytes.capacity() < 1_000);
        queue.advance(50);
        assert_eq!((queue.len(), queue.bytes.capacity()), (0, 0));
    }
}
