//! Reading from connections, in bounded pieces: those that the poller names, those that had more in the last turn, and
//! suspects.

use crate::counters::Counter;
use crate::id::ConnectionId;
use crate::shard::Shard;
use crate::shard::entry::Input;
use crate::shard::io::{Io, Reach};
use crate::shard::outlets::Outlet;
use crate::shard::reconciling::failure_reason;
use crate::shard::served::Served;
use pulsegate_core::close::CloseReason;
use pulsegate_core::frame::PREFACE;
use pulsegate_core::lifetime::{Pause, Phase};
use pulsegate_core::pulse::{Opening, judge_opening};
use pulsegate_core::time::Now;
use std::io::{self, ErrorKind};

/// How often one connection is read in one go; the rest waits for the next turn.
const READS_AT_ONCE: usize = 4;
/// How many connections of the list are read on in one turn.
const LISTED_PER_TURN: usize = 256;
/// Reading rests rather than go on in smaller pieces than this, until some of the output has left.
const READ_BYTES_MIN: usize = 256;

impl<I: Io> Shard<I> {
    /// The poller says that there is something to read, and how far that reaches.
    pub(crate) fn handle_readable(&mut self, id: ConnectionId, reach: Reach) {
        self.serve(id, |served| {
            served.entry.marks.note_unread();
            if reach == Reach::End && !served.entry.connection.wants_read() {
                return served.handle_hangup();
            }
            served.read(reach);
        });
    }

    /// The poller says that there is room to write.
    pub(crate) fn handle_writable(&mut self, id: ConnectionId) {
        self.serve(id, |served| {
            let now = served.now();
            served.reconcile(now);
        });
    }

    /// Reads on where the last turn stopped.
    pub(crate) fn read_listed(&mut self) {
        for _ in 0..LISTED_PER_TURN.min(self.agenda.listed.len()) {
            let Some(id) = self.agenda.listed.pop_front() else { return };
            self.serve(id, |served| {
                served.entry.marks.input = Input::Open;
                served.read(Reach::End);
            });
        }
    }
}

impl<I: Io> Served<'_, I> {
    /// Reads it, if it wants to be read, until there is nothing more or it has had its share.
    pub(crate) fn read(&mut self, reach: Reach) {
        if !self.read_up_to(READS_AT_ONCE, reach) {
            self.list();
        }
    }

    /// Reads a newcomer once: most send as soon as they are connected, and those bytes would wait for the next turn, in
    /// which the poller tells of them. It tells of what is left in the socket, too. Returns whether there was
    /// something.
    pub(crate) fn read_first(&mut self) -> bool {
        // Whoever would be held back has to have sent something first: else its silence would not count.
        if self.share() == 0 || self.obstacle().is_some() {
            return false;
        }
        let before = self.counts.bytes_in();
        self.read_up_to(1, Reach::ShortRead);
        if self.entry.pipe.has_unread() {
            self.list();
        }
        self.counts.bytes_in() > before
    }

    /// Returns whether nothing is left to be read now.
    fn read_up_to(&mut self, times: usize, reach: Reach) -> bool {
        let buffer = std::mem::take(&mut self.buffer);
        let mut finished = false;
        for reads in 0..times {
            // If it has filled the queue itself, it waits behind all others.
            if finished || reads > 0 && self.obstacle() == Some(CloseReason::SinkStalled) {
                break;
            }
            finished = !self.read_once(reach, buffer);
        }
        self.buffer = buffer;
        finished
    }

    /// Returns whether there may be more to read now.
    fn read_once(&mut self, reach: Reach, buffer: &mut [u8]) -> bool {
        if self.reads_by_layer() {
            return self.read_by_layer(reach, buffer);
        }
        let room = self.room().min(buffer.len());
        if room == 0 {
            return false;
        }
        let outcome = self.io.read(&mut self.entry.stream, &mut buffer[..room]);
        let now = self.now();
        match outcome {
            Ok(0) => {
                self.handle_read_end(now);
                false
            }
            Ok(count) => {
                self.counts.count(Counter::BytesIn, count as u64);
                self.take_in(now, &buffer[..count]);
                let more = count == room || reach == Reach::End;
                if !more {
                    self.entry.marks.note_read_dry();
                }
                self.reconcile(now);
                more
            }
            Err(error) => self.handle_read_error(now, &error),
        }
    }

    /// Reading has given nothing. Returns whether there may be more to read now.
    pub(crate) fn handle_read_error(&mut self, now: Now, error: &io::Error) -> bool {
        if error.kind() == ErrorKind::Interrupted {
            return true;
        }
        if error.kind() == ErrorKind::WouldBlock {
            self.entry.marks.note_read_dry();
            self.fail_if_write_failed(now);
        } else {
            self.fail(now, failure_reason(error));
        }
        false
    }

    /// Takes what the peer has sent.
    pub(crate) fn take_in(&mut self, now: Now, bytes: &[u8]) {
        if let Some(reason) = self.entry.marks.turned_away {
            return self.hear_turned_away(now, reason, bytes);
        }
        self.act(now, |connection, policy, output| {
            if connection.lifetime().phase() == Phase::Lingering {
                connection.handle_discarded(policy, Some(bytes.len()));
            } else {
                connection.handle_input(now, policy, bytes, output);
            }
        });
    }

    /// The peer has ended its side.
    pub(crate) fn handle_read_end(&mut self, now: Now) {
        self.entry.marks.note_read_dry();
        if self.ends_otherwise(now) {
            return;
        }
        self.change(now, |connection, policy, output| {
            connection.handle_discarded(policy, None);
            connection.handle_input_end(now, policy, output);
        });
    }

    /// Whether it ends for another reason than that the peer has ended its side: a reset that a write has found, or a
    /// refusal.
    pub(super) fn ends_otherwise(&mut self, now: Now) -> bool {
        self.fail_if_write_failed(now) || self.end_turned_away(now)
    }

    /// How much may be read from it now. Zero holds it back until the obstacle is gone.
    pub(crate) fn room(&mut self) -> usize {
        let connection = &self.entry.connection;
        if self.is_over() || !connection.wants_read() {
            return 0;
        }
        if connection.lifetime().phase() != Phase::Open || self.entry.marks.turned_away.is_some() {
            return usize::MAX;
        }
        let waiting = self.entry.pipe.waiting();
        let is_answered = !connection.is_pulse() && self.entry.marks.write_failure.is_none();
        let answerable = if is_answered { self.listener.answerable(waiting) } else { usize::MAX };
        if answerable < READ_BYTES_MIN && waiting > self.listener.policy.output_bytes_max / 2 {
            self.rest(Pause::Output);
            return 0;
        }
        if matches!(self.outlet(), Outlet::Discard | Outlet::Echo(_)) {
            return answerable;
        }
        let share = self.share();
        if share == 0 {
            self.hold_for_share();
            return 0;
        }
        match self.obstacle() {
            None => answerable.min(share),
            Some(CloseReason::SinkStalled) if self.begins_a_session() => answerable.min(share),
            Some(obstacle) => {
                self.hold(obstacle);
                0
            }
        }
    }

    /// Whether the first bytes that wait to be read are those of a client of the pulse protocol: it gets its session,
    /// and only its messages wait for the sink.
    fn begins_a_session(&mut self) -> bool {
        let connection = &self.entry.connection;
        if connection.totals().bytes_in > 0 || !connection.is_undecided(&self.listener.policy) {
            return false;
        }
        let mut peeked = [0; PREFACE.len()];
        let opening = if self.reads_by_layer() {
            let unread = self.entry.pipe.unread();
            &unread[..unread.len().min(PREFACE.len())]
        } else {
            let count = self.io.peek(&self.entry.stream, &mut peeked);
            &peeked[..count]
        };
        matches!(judge_opening(opening), Opening::Pulse | Opening::OtherVersion)
    }

    /// Whether the peer has sent something that is not read yet, an end or an error included.
    pub(crate) fn has_unread(&mut self) -> bool {
        self.entry.pipe.has_unread() || self.io.has_unread(&self.entry.stream)
    }

    /// The sink takes nothing: reading rests, and with it the clocks of silence. A failed sink ends it.
    fn hold(&mut self, obstacle: CloseReason) {
        if obstacle == CloseReason::SinkFailed {
            let now = self.now();
            return self.end(now, obstacle);
        }
        self.outlets.pause(self.outlet(), self.id);
        self.rest(Pause::Sink);
        // From now on it is known since when it waits.
        let now = self.now();
        self.note_progress(now);
    }

    fn rest(&mut self, why: Pause) {
        let now = self.now();
        self.entry.connection.pause(now, why);
        self.reconcile(now);
    }

    /// Reading is stopped, but the socket may have come to an error: that is seen all the same.
    fn handle_hangup(&mut self) {
        if let Some(error) = self.io.failure(&self.entry.stream) {
            let now = self.now();
            self.fail(now, failure_reason(&error));
        }
    }

    /// If writing has failed before: now everything is read too. Returns whether it has.
    fn fail_if_write_failed(&mut self, now: Now) -> bool {
        let failure = self.entry.marks.write_failure;
        if let Some(reason) = failure {
            self.fail(now, reason);
        }
        failure.is_some()
    }
}
