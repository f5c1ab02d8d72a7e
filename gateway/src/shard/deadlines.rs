//! Deadlines: fixed ones act at once, before anything is read; silence is judged when everything that came before its
//! deadline has been read.

use crate::shard::Shard;
use crate::shard::entry::Input;
use crate::shard::io::Io;
use crate::shard::reading::Reach;
use pulsegate_core::close::CloseReason;
use pulsegate_core::time::{Instant, Now};
use pulsegate_core::timer::Before;

/// How many connections are ended, or put on trial, in one turn.
const VERDICTS_PER_TURN: usize = 256;
/// From so many in one turn on it is a rush: all are told before any of their sockets is closed.
const RUSH: usize = 16;
/// How many keys the wheel hands out in one turn; most are only filed again.
const KEYS_PER_TURN: usize = 4096;

impl<I: Io> Shard<I> {
    /// Ends those whose fixed deadline has come, and notes the suspects. What came until `heard` is known, or among
    /// what became ready in this turn.
    pub(crate) fn expire(&mut self, heard: Instant) {
        self.heard = heard;
        if !self.ledgers.is_empty() {
            self.wall_ms = self.io.wall_ms();
        }
        let now = self.now();
        let mut verdicts = 0;
        for _ in 0..KEYS_PER_TURN {
            if verdicts == VERDICTS_PER_TURN {
                break;
            }
            let Some(key) = self.wheel.poll(&mut self.table, now.instant) else { break };
            match self.due(key, now) {
                None => self.file(key, now),
                Some(Before::Nothing) => {
                    verdicts += 1;
                    self.rush |= verdicts == RUSH;
                    self.time_out(key, now);
                }
                Some(Before::Reading | Before::Writing | Before::Hearing) => {
                    verdicts += 1;
                    if let Some(entry) = self.table.at(key) {
                        let id = entry.id(key);
                        self.suspects.push_back(id);
                    }
                }
            }
        }
        self.rush = verdicts >= RUSH;
    }

    /// Ends the suspects that a last try doesn't clear.
    pub(crate) fn judge(&mut self) {
        while let Some(id) = self.suspects.pop_front() {
            let Some(key) = self.table.find(id) else { continue };
            let now = self.now();
            match self.due(key, now) {
                None => {}
                Some(Before::Nothing) => self.time_out(key, now),
                // The mailbox has been emptied since it became a suspect.
                Some(Before::Hearing) => {
                    self.note_progress(key, now);
                    if self.due(key, now).is_some() {
                        self.time_out(key, now);
                    }
                }
                Some(Before::Writing) => {
                    self.settle(key, now);
                    self.end_if_due(key);
                }
                Some(Before::Reading) if self.was_heard_out(key, now) => self.time_out(key, now),
                Some(Before::Reading) if self.is_silent_and_would_be_held(key) => self.time_out(key, now),
                Some(Before::Reading) => {
                    self.read(key, Reach::End);
                    self.end_if_due(key);
                }
            }
            if self.table.find(id).is_some() {
                let now = self.now();
                self.file(key, now);
            }
        }
    }

    fn end_if_due(&mut self, key: u32) {
        let now = self.now();
        // If it had more to read than its share of a turn, the verdict waits.
        let listed = self.table.at(key).is_some_and(|entry| entry.marks.input == Input::Listed);
        if !listed && self.due(key, now).is_some() {
            self.time_out(key, now);
        }
    }

    fn time_out(&mut self, key: u32, now: Now) {
        if self.end_turned_away(key, now) {
            return;
        }
        self.act(key, now, |connection, policy, courier| connection.handle_timeout(now, policy, courier));
        self.settle(key, now);
    }

    fn due(&mut self, key: u32, now: Now) -> Option<Before> {
        let entry = self.table.at(key)?;
        entry.connection.due(now, &self.shared.doors[usize::from(entry.listener)].policy)
    }

    /// All that it had sent by its deadline has been read, so that another read would find nothing.
    fn was_heard_out(&mut self, key: u32, now: Now) -> bool {
        let Some(entry) = self.table.at(key) else { return false };
        let policy = &self.shared.doors[usize::from(entry.listener)].policy;
        let deadline = entry.connection.poll_timeout(now.stalled, policy);
        entry.marks.is_drained() && deadline.is_some_and(|(deadline, _)| deadline <= self.heard)
    }

    /// Nothing may be read because the sink is full, or its share is used up, but there is nothing to be read either.
    fn is_silent_and_would_be_held(&mut self, key: u32) -> bool {
        let may_not_be_read =
            self.share_of(key) == 0 || self.obstacle_of(key) == Some(CloseReason::SinkStalled);
        may_not_be_read && self.table.at(key).is_some_and(|entry| !self.io.has_unread(&entry.stream))
    }
}
