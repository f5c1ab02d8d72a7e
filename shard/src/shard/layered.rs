//! Reading by a layer: what comes from the socket goes to the layer, and what that yields is the connection's input.

use crate::counters::Counter;
use crate::shard::io::{Io, Reach};
use crate::shard::layer::RECEIVED_BYTES_MAX;
use crate::shard::served::Served;
use pulsegate_core::lifetime::Phase;
use pulsegate_core::time::Now;

impl<I: Io> Served<'_, I> {
    /// Whether what comes is for a layer. After the end it is thrown away as it is.
    #[inline]
    pub(crate) fn reads_by_layer(&self) -> bool {
        self.entry.pipe.has_layer() && self.entry.connection.lifetime().phase() == Phase::Open
    }

    /// Reads once: the socket if nothing is left of what the layer has yielded, then that. Returns whether there may be more
    /// to read now.
    ///
    /// Only what is yielded has to have room. So a handshake goes on though the sink is full, and of whoever sends nothing
    /// but what is the layer's own it is known that it is silent.
    pub(crate) fn read_by_layer(&mut self, reach: Reach, buffer: &mut [u8]) -> bool {
        if self.is_over() || !self.entry.connection.wants_read() {
            return false;
        }
        let mut now = self.now();
        let mut is_dry = false;
        if !self.entry.pipe.has_unread() {
            let received = &mut buffer[..RECEIVED_BYTES_MAX];
            let outcome = self.io.read(&mut self.entry.stream, received);
            now = self.now();
            match outcome {
                Ok(0) => self.entry.pipe.receive_end(),
                Ok(count) => {
                    self.counts.count(Counter::BytesIn, count as u64);
                    self.entry.pipe.receive(&mut received[..count]);
                    is_dry = count < RECEIVED_BYTES_MAX && reach == Reach::ShortRead;
                }
                Err(error) => return self.handle_read_error(now, &error),
            }
        }
        if !self.hand_on(now, buffer) {
            self.reconcile(now);
            return false;
        }
        is_dry &= !self.entry.pipe.has_unread();
        if is_dry {
            self.entry.marks.note_read_dry();
        }
        self.reconcile(now);
        !is_dry
    }

    /// Hands on what there is room for of what the layer has yielded, and the end that comes after it. Returns whether more
    /// may be read.
    fn hand_on(&mut self, now: Now, buffer: &mut [u8]) -> bool {
        if !self.entry.pipe.unread().is_empty() {
            let room = self.room().min(buffer.len());
            if room == 0 {
                return false;
            }
            let count = self.entry.pipe.read(&mut buffer[..room]);
            self.take_in(now, &buffer[..count]);
        }
        match self.entry.pipe.take_end() {
            None => true,
            Some(Ok(())) => {
                self.handle_read_end(now);
                false
            }
            Some(Err(reason)) => {
                if !self.ends_otherwise(now) {
                    self.end(now, reason);
                }
                false
            }
        }
    }
}
