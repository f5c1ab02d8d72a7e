//! Reading: what the poller, an unfinished turn or a verdict asks to be read, each time a bounded piece.

use crate::id::ConnectionId;
use crate::shard::Shard;
use crate::shard::door::{Delivery, Door};
use crate::shard::entry::Input;
use crate::shard::io::Io;
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::reply_bytes_max;
use pulsegate_core::frame::PREFACE;
use pulsegate_core::lifetime::{Pause, Phase};
use pulsegate_core::policy::Framing;
use pulsegate_core::pulse::{Opening, judge_opening};
use std::io::ErrorKind;

/// How often one connection is read in one go; the rest waits for the next turn.
const READS_AT_ONCE: usize = 4;
/// How many connections of the list are read on in one turn.
const LISTED_PER_TURN: usize = 256;
/// Reading rests rather than go on in smaller pieces than this, until some of the output has left.
const READ_BYTES_MIN: usize = 256;
/// How far a connection is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Until a read returns less than it could: the poller tells of what comes later.
    ShortRead,
    /// Until there is nothing more: an end, an error or a mark of urgent data, at which a read stops, may stand behind
    /// the bytes, and nobody will tell again.
    End,
}

impl<I: Io> Shard<I> {
    /// The poller says that there is something to read, and how far that reaches.
    pub(crate) fn handle_readable(&mut self, id: ConnectionId, reach: Reach) {
        let Some(key) = self.table.find(id) else { return };
        if let Some(entry) = self.table.at(key) {
            entry.marks.forget_drained();
            if reach == Reach::End && !entry.connection.wants_read() {
                return self.handle_hangup(key);
            }
        }
        self.read(key, reach);
    }

    /// The poller says that there is room to write.
    pub(crate) fn handle_writable(&mut self, id: ConnectionId) {
        let Some(key) = self.table.find(id) else { return };
        let now = self.now();
        self.settle(key, now);
    }

    /// Reads on where the last turn stopped.
    pub(crate) fn read_listed(&mut self) {
        for _ in 0..LISTED_PER_TURN.min(self.listed.len()) {
            let Some(id) = self.listed.pop_front() else { return };
            let Some(key) = self.table.find(id) else { continue };
            if let Some(entry) = self.table.at(key) {
                entry.marks.input = Input::Open;
            }
            self.read(key, Reach::End);
        }
    }

    /// Remembers that a connection has to be read without being told by the poller.
    pub(crate) fn list(&mut self, key: u32) {
        let Some(entry) = self.table.at(key) else { return };
        if entry.marks.input != Input::Listed {
            entry.marks.input = Input::Listed;
            self.listed.push_back(entry.id(key));
        }
    }

    /// Reads a connection, if it wants to be read, until there is nothing more or it has had its share.
    pub(crate) fn read(&mut self, key: u32, reach: Reach) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let finished = (0..READS_AT_ONCE).any(|_| !self.read_once(key, reach, &mut buffer));
        self.buffer = buffer;
        if !finished {
            self.list(key);
        }
    }

    /// Returns whether there may be more to read now.
    fn read_once(&mut self, key: u32, reach: Reach, buffer: &mut [u8]) -> bool {
        let room = self.room(key).min(buffer.len());
        let Some(entry) = self.table.at(key).filter(|_| room > 0) else { return false };
        let turned_away = entry.marks.turned_away;
        let outcome = self.io.read(&mut entry.stream, &mut buffer[..room]);
        let now = self.now();
        match outcome {
            Ok(0) => {
                self.mark_drained(key);
                // After a reset that a write has found this is no end of the peer's making.
                if self.give_up_void(key) || self.end_turned_away(key, now) {
                    return false;
                }
                self.act(key, now, |connection, policy, courier| {
                    connection.handle_discarded(policy, None);
                    connection.handle_input_end(now, policy, courier);
                });
                self.settle(key, now);
                false
            }
            Ok(count) => {
                self.counts.bytes_in += count as u64;
                if let Some(reason) = turned_away {
                    self.hear_turned_away(key, now, reason, &buffer[..count]);
                } else {
                    self.act(key, now, |connection, policy, courier| {
                        if connection.lifetime().phase() == Phase::Lingering {
                            connection.handle_discarded(policy, Some(count));
                        } else {
                            connection.handle_input(now, policy, &buffer[..count], courier);
                        }
                    });
                }
                let more = count == room || reach == Reach::End;
                if !more {
                    self.mark_drained(key);
                }
                self.settle(key, now);
                more
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.mark_drained(key);
                self.give_up_void(key);
                false
            }
            Err(error) => {
                self.fail(key, failure_reason(&error));
                false
            }
        }
    }

    /// How much may be read of this connection now. Zero holds it back until what stands in the way is gone.
    fn room(&mut self, key: u32) -> usize {
        let Some(entry) = self.table.at(key).filter(|entry| entry.connection.wants_read()) else { return 0 };
        if entry.connection.lifetime().phase() != Phase::Open || entry.marks.turned_away.is_some() {
            return usize::MAX;
        }
        let door = &self.shared.doors[usize::from(entry.listener)];
        let is_pulse = entry.connection.is_pulse();
        let is_answered = !is_pulse && entry.marks.void.is_none();
        let waiting = entry.waiting.len();
        let answerable = if is_answered { answerable(door, waiting) } else { usize::MAX };
        if answerable < READ_BYTES_MIN && waiting > door.policy.output_bytes_max / 2 {
            self.rest(key, Pause::Output);
            return 0;
        }
        match door.delivery {
            Delivery::Echo(_) | Delivery::Discard if !is_pulse => answerable,
            Delivery::Echo(_) | Delivery::Discard | Delivery::Lane(_) | Delivery::Store => {
                let share = self.share_of(key);
                if share == 0 {
                    let now = self.now();
                    self.hold_for_share(key, now);
                    return 0;
                }
                match self.obstacle_of(key) {
                    None => answerable.min(share),
                    Some(CloseReason::SinkStalled) if self.begins_a_session(key) => answerable.min(share),
                    Some(obstacle) => {
                        self.hold(key, obstacle);
                        0
                    }
                }
            }
        }
    }

    /// Whether what waits to be read, the first that comes, is of a client of the pulse protocol: it is let in, and only
    /// its messages wait for the sink.
    fn begins_a_session(&mut self, key: u32) -> bool {
        let Some(entry) = self.table.at(key) else { return false };
        let policy = &self.shared.doors[usize::from(entry.listener)].policy;
        if entry.connection.totals().bytes_in > 0 || !entry.connection.is_undecided(policy) {
            return false;
        }
        let mut opening = [0; PREFACE.len()];
        let count = self.io.peek(&entry.stream, &mut opening);
        matches!(judge_opening(&opening[..count]), Opening::Pulse | Opening::OtherVersion)
    }

    /// The sink takes nothing: reading rests, and with it the clocks of silence. A failed sink ends it.
    fn hold(&mut self, key: u32, obstacle: CloseReason) {
        let now = self.now();
        if obstacle == CloseReason::SinkFailed {
            return self.end(key, now, obstacle);
        }
        self.note_paused(key);
        self.rest(key, Pause::Sink);
        // From now on it is known since when it waits.
        let now = self.now();
        self.note_progress(key, now);
    }

    fn rest(&mut self, key: u32, why: Pause) {
        let now = self.now();
        if let Some(entry) = self.table.at(key) {
            entry.connection.pause(now, why);
        }
        self.settle(key, now);
    }

    /// Reading is stopped, but the socket may have come to an error: that is seen all the same.
    fn handle_hangup(&mut self, key: u32) {
        let Some(entry) = self.table.at(key) else { return };
        if let Some(error) = self.io.failure(&entry.stream) {
            self.fail(key, failure_reason(&error));
        }
    }

    /// If writing has failed before: now everything is read too. Returns whether it has.
    fn give_up_void(&mut self, key: u32) -> bool {
        let void = self.table.at(key).and_then(|entry| entry.marks.void);
        if let Some(reason) = void {
            self.fail(key, reason);
        }
        void.is_some()
    }

    fn fail(&mut self, key: u32, reason: CloseReason) {
        let now = self.now();
        self.act(key, now, |connection, policy, courier| {
            connection.handle_failure(now, policy, reason, courier)
        });
        self.settle(key, now);
    }

    fn mark_drained(&mut self, key: u32) {
        if let Some(entry) = self.table.at(key) {
            entry.marks.mark_drained();
        }
    }
}

/// How much may be read of a raw connection so that what it is answered stays within its output limit, but for the
/// last answer, if so much waits already.
fn answerable(door: &Door, waiting: usize) -> usize {
    let policy = &door.policy;
    let free = policy.output_bytes_max.saturating_sub(waiting);
    let replied = policy.reply.as_ref().map_or(usize::MAX, |reply| {
        let message_bytes_min = match policy.framing {
            Framing::Chunks => policy.message_bytes_max,
            Framing::Lines => 1,
        };
        (free / reply_bytes_max(reply)).max(1).saturating_mul(message_bytes_min)
    });
    match door.delivery {
        Delivery::Echo(_) => free.min(replied),
        Delivery::Discard | Delivery::Lane(_) | Delivery::Store => replied,
    }
}

/// Whose doing an error of a socket is.
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
