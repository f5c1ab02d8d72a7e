//! After a connection has changed: its output leaves, its phase is obeyed, its next timeout is filed.

use crate::shard::Shard;
use crate::shard::io::Io;
use crate::shard::reading::failure_reason;
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::Written;
use pulsegate_core::lifetime::{Pause, Phase};
use pulsegate_core::time::Now;
use std::io::ErrorKind;

/// How many sockets are closed in one turn when others no longer end in a rush.
pub(crate) const SPENT_PER_TURN: usize = 64;

impl<I: Io> Shard<I> {
    /// Brings the socket and the wheel up to what the connection has become.
    pub(crate) fn settle(&mut self, key: u32, now: Now) {
        self.write_out(key, now);
        let Some(entry) = self.table.at(key) else { return };
        let is_turned_away = entry.marks.turned_away.is_some();
        match entry.connection.lifetime().phase() {
            Phase::Lingering if is_turned_away => return self.release(key, false),
            Phase::Closed => return self.release(key, false),
            Phase::Aborted => return self.release(key, true),
            Phase::Open => self.balance(key, now),
            Phase::Flushing | Phase::Lingering => {}
        }
        self.watch_writable(key);
        if self.table.at(key).is_some_and(|entry| entry.connection.take_earlier()) {
            self.file(key, now);
        }
    }

    /// Ends a connection. Only the first reason counts.
    pub(crate) fn end(&mut self, key: u32, now: Now, reason: CloseReason) {
        self.act(key, now, |connection, policy, courier| connection.close(now, policy, reason, courier));
        self.settle(key, now);
    }

    /// Files the connection's next timeout.
    pub(crate) fn file(&mut self, key: u32, now: Now) {
        let Some(entry) = self.table.at(key) else { return };
        let policy = &self.shared.doors[usize::from(entry.listener)].policy;
        if let Some((deadline, _)) = entry.connection.poll_timeout(now.stalled, policy) {
            self.wheel.file(&mut self.table, key, deadline);
        }
    }

    /// Writes until everything has left or must wait. A farewell may come out of the last write.
    fn write_out(&mut self, key: u32, now: Now) {
        loop {
            let Some(entry) = self.table.at(key) else { return self.transmit.clear() };
            let idle = self.transmit.is_empty() && entry.waiting.len() == 0;
            let phase = entry.connection.lifetime().phase();
            if phase > Phase::Flushing {
                return self.transmit.clear();
            }
            if idle && phase == Phase::Open {
                return;
            }
            let written = self.write(key);
            self.act(key, now, |connection, policy, courier| {
                connection.handle_written(now, policy, written, courier);
            });
            if self.transmit.is_empty() {
                return self.begin_lingering(key);
            }
        }
    }

    /// If the last byte has just left for good: ends our side, and reads on what the peer still sends.
    fn begin_lingering(&mut self, key: u32) {
        let Some(entry) = self.table.at(key) else { return };
        if entry.connection.lifetime().phase() == Phase::Lingering {
            self.io.shut_down(&entry.stream);
            if !entry.marks.is_drained() {
                self.list(key);
            }
        }
    }

    /// One attempt to write what waits and what is new. What the kernel doesn't take waits.
    fn write(&mut self, key: u32) -> Written {
        let Some(entry) = self.table.at(key) else { return Written::default() };
        let drained = entry.marks.is_drained();
        if entry.marks.void.is_some() {
            self.transmit.clear();
            return Written { drained, ..Written::default() };
        }
        let direct = entry.waiting.len() == 0;
        if !direct {
            entry.waiting.append(&self.transmit);
            self.transmit.clear();
        }
        let bytes = if direct { self.transmit.as_slice() } else { entry.waiting.as_slice() };
        let (count, error) = write_all(&mut self.io, &mut entry.stream, bytes);
        if direct {
            entry.waiting.append(&self.transmit[count..]);
            self.transmit.clear();
        } else {
            entry.waiting.advance(count);
        }
        self.counts.bytes_out += count as u64;
        if let Some(error) = error {
            entry.marks.void = Some(failure_reason(&error));
            entry.waiting.clear();
            self.list(key);
        }
        let waiting = self.table.at(key).map_or(0, |entry| entry.waiting.len());
        Written { bytes: count, waiting, drained }
    }

    /// Stops reading while too much output waits, and goes on when half of it has left.
    fn balance(&mut self, key: u32, now: Now) {
        let Some(entry) = self.table.at(key) else { return };
        let policy = &self.shared.doors[usize::from(entry.listener)].policy;
        let waiting = entry.waiting.len();
        if waiting >= policy.output_bytes_max {
            entry.connection.pause(now, Pause::Output);
        } else if waiting <= policy.output_bytes_max / 2 && entry.connection.lifetime().is_paused() {
            entry.connection.resume(now, policy, Pause::Output);
            if entry.connection.wants_read() && !entry.marks.is_drained() {
                self.list(key);
            }
        }
    }

    fn watch_writable(&mut self, key: u32) {
        let Some(entry) = self.table.at(key) else { return };
        let wanted = entry.waiting.len() > 0;
        if wanted != entry.marks.watches_writable {
            entry.marks.watches_writable = wanted;
            let id = entry.id(key);
            // If the kernel has no memory for this, the write stall ends the connection.
            let _ = self.io.watch_writable(&mut entry.stream, id, wanted);
        }
    }

    /// The connection is over: everything that it held is given back.
    pub(crate) fn release(&mut self, key: u32, abort: bool) {
        self.wheel.remove(&mut self.table, key);
        let Some(entry) = self.table.remove(key) else { return };
        let door = &self.shared.doors[usize::from(entry.listener)];
        if entry.marks.turned_away.is_none() {
            door.limits.leave(entry.peer.source(), !entry.connection.lifetime().has_spoken());
        }
        if self.rush && !abort {
            // The peer is told now. What else a close costs, a third of it, must not keep the next one waiting.
            self.io.shut_down(&entry.stream);
            self.spent.push_back(entry.stream);
        } else {
            self.io.close(entry.stream, abort);
        }
    }

    /// Closes up to so many of those whose end has been sent. Returns how many.
    pub(crate) fn close_spent(&mut self, count: usize) -> usize {
        let count = count.min(self.spent.len());
        for stream in self.spent.drain(..count) {
            self.io.close(stream, false);
        }
        count
    }
}

/// Writes until all is written, nothing more is taken, or it fails.
fn write_all<I: Io>(io: &mut I, stream: &mut I::Stream, bytes: &[u8]) -> (usize, Option<std::io::Error>) {
    let mut count = 0;
    while count < bytes.len() {
        match io.write(stream, &bytes[count..]) {
            Ok(0) => return (count, None),
            Ok(written) => count += written,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (count, None),
            Err(error) => return (count, Some(error)),
        }
    }
    (count, None)
}
