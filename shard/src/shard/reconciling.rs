//! After a connection has changed: writes its output, does what its phase asks for, schedules its next deadline.

use crate::counters::Counter;
use crate::shard::entry::Entry;
use crate::shard::io::Io;
use crate::shard::served::{Fate, Served};
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::Written;
use pulsegate_core::lifetime::{Pause, Phase};
use pulsegate_core::time::Now;
use std::io::ErrorKind;

impl<I: Io> Served<'_, I> {
    /// Brings the socket and the schedule up to what the connection has become.
    pub(crate) fn reconcile(&mut self, now: Now) {
        self.write_out(now);
        match self.entry.connection.lifetime().phase() {
            Phase::Lingering if self.entry.marks.turned_away.is_some() => return self.release(false),
            Phase::Closed => return self.release(false),
            Phase::Aborted => return self.release(true),
            Phase::Open => self.balance(now),
            Phase::Flushing | Phase::Lingering => {}
        }
        self.watch_writable();
        if self.entry.connection.take_earlier() {
            self.reschedule();
        }
    }

    /// The connection is over.
    pub(crate) const fn release(&mut self, abort: bool) {
        self.fate = Fate::Release { abort };
    }

    /// Its socket is of no use any more, for this reason.
    pub(crate) fn fail(&mut self, now: Now, reason: CloseReason) {
        self.change(now, |connection, policy, output| {
            connection.handle_failure(now, policy, reason, output);
        });
    }

    /// Writes until everything has left or must wait. A farewell may come out of the last write.
    fn write_out(&mut self, now: Now) {
        loop {
            let phase = self.entry.connection.lifetime().phase();
            if phase > Phase::Flushing {
                return self.transmit.clear();
            }
            if phase == Phase::Open && self.transmit.is_empty() && !self.entry.pipe.has_unsent() {
                return;
            }
            let written = self.write();
            self.act(now, |connection, policy, output| {
                connection.handle_written(now, policy, written, output);
            });
            if self.transmit.is_empty() && !self.has_last_bytes() {
                return self.begin_lingering();
            }
        }
    }

    /// It has ended, and its layer has yet to say its last.
    fn has_last_bytes(&self) -> bool {
        self.entry.pipe.has_layer() && self.entry.connection.lifetime().phase() == Phase::Flushing
    }

    /// If the last byte has just left for good: ends our side, and reads on what the peer still sends.
    fn begin_lingering(&mut self) {
        if self.entry.connection.lifetime().phase() == Phase::Lingering {
            self.io.shut_down(&self.entry.stream);
            if !self.entry.marks.is_read_dry() {
                self.list();
            }
        }
    }

    /// One attempt to write what waits and what is new. What the kernel doesn't take waits.
    fn write(&mut self) -> Written {
        let Entry { connection, pipe, marks, stream, .. } = &mut *self.entry;
        let drained = marks.is_read_dry();
        let direct = pipe.is_bare();
        if !direct {
            pipe.append(self.transmit);
            self.transmit.clear();
            if connection.lifetime().phase() != Phase::Open {
                pipe.close();
            }
        }
        if marks.write_failure.is_some() {
            self.transmit.clear();
            pipe.clear();
            return Written { drained, ..Written::default() };
        }
        let bytes = if direct { self.transmit.as_slice() } else { pipe.unsent() };
        let (count, error) = write_all(self.io, stream, bytes);
        if direct {
            pipe.append(&self.transmit[count..]);
            self.transmit.clear();
        } else {
            pipe.advance(count);
        }
        self.counts.count(Counter::BytesOut, count as u64);
        if let Some(error) = error {
            marks.write_failure = Some(failure_reason(&error));
            pipe.clear();
            self.list();
        }
        Written { bytes: count, waiting: self.entry.pipe.waiting(), drained }
    }

    /// Stops reading while too much output waits, and resumes when half of it has been sent.
    fn balance(&mut self, now: Now) {
        let Entry { connection, pipe, marks, .. } = &mut *self.entry;
        let policy = &self.listener.policy;
        // What waits for a layer to be open leaves only if we read on.
        let waiting = pipe.unsent().len();
        if waiting >= policy.output_bytes_max {
            connection.pause(now, Pause::Output);
        } else if waiting <= policy.output_bytes_max / 2 && connection.lifetime().is_paused() {
            connection.resume(now, policy, Pause::Output);
            if connection.wants_read() && !marks.is_read_dry() {
                self.list();
            }
        }
    }

    fn watch_writable(&mut self) {
        let wanted = self.entry.pipe.has_unsent();
        if wanted != self.entry.marks.watches_writable {
            self.entry.marks.watches_writable = wanted;
            // If the kernel has no memory for this, the write stall ends the connection.
            let _ = self.io.watch_writable(&mut self.entry.stream, self.id, wanted);
        }
    }
}

/// Writes until all is written, nothing more is taken, or it fails.
pub(crate) fn write_all<I: Io>(
    io: &mut I,
    stream: &mut I::Stream,
    bytes: &[u8],
) -> (usize, Option<std::io::Error>) {
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

/// The close reason for an error of a socket.
#[expect(clippy::wildcard_enum_match_arm, reason = "an open enum, and any other error is just that")]
pub(crate) fn failure_reason(error: &std::io::Error) -> CloseReason {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            CloseReason::PeerReset
        }
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            CloseReason::PeerVanished
        }
        _ => CloseReason::SocketError,
    }
}
