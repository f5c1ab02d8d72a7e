//! Connections that speak the pulse protocol: whole frames out, even if the socket has no room for them, and input that
//! means something.

use super::{Crowd, State, What, Written};
use crate::pulse::{Heard, beat, word};
use crate::stage::Nanos;
use pulsegate_core::frame::{Beat, Frame};
use std::sync::Arc;

impl Crowd {
    /// What opens a connection.
    pub(super) fn open_pulse(&mut self, index: usize) {
        let mut opening = Vec::new();
        self.peers[index].open(self.route.first + index, &mut opening);
        self.push(index, &opening);
    }

    /// Writes whole frames, and notes when; what doesn't go in now goes before everything that comes later.
    pub(crate) fn push(&mut self, index: usize, frames: &[u8]) -> Written {
        if !self.keeps_marks {
            // Before the write: the server may have them before the write returns.
            self.marks[index] = self.clock.now();
        }
        if !self.peers[index].unsent.is_empty() {
            self.peers[index].unsent.extend_from_slice(frames);
            return Written::Full;
        }
        let written = self.write(index, frames);
        let count = match written {
            Written::Bytes(count) => count,
            Written::Full => 0,
            Written::Gone => return Written::Gone,
        };
        if count < frames.len() {
            self.tally.blocked += 1;
            self.peers[index].unsent.extend_from_slice(&frames[count..]);
        }
        written
    }

    /// There is room again.
    pub(super) fn flush(&mut self, index: usize) {
        while !self.peers[index].unsent.is_empty() {
            let mut unsent = std::mem::take(&mut self.peers[index].unsent);
            let written = self.write(index, &unsent);
            if let Written::Bytes(count) = written {
                unsent.drain(..count);
                self.peers[index].unsent = unsent;
            } else {
                self.peers[index].unsent = if written == Written::Full { unsent } else { Vec::new() };
                return;
            }
        }
    }

    /// A heartbeat, and whether all of it went out. One that would wait behind other frames proves nothing more than they do.
    pub(super) fn beat(&mut self, index: usize) -> Written {
        if !self.peers[index].unsent.is_empty() {
            return Written::Full;
        }
        let dialect = Arc::clone(&self.dialect);
        let written = self.push(index, &dialect.message);
        if matches!(written, Written::Bytes(_)) {
            self.tally.sent += 1;
        }
        written
    }

    /// From now on this client says nothing of its own accord, not even if it is asked.
    pub(crate) fn mute(&mut self, index: usize) {
        if let Some(peer) = self.peers.get_mut(index) {
            peer.is_mute = true;
        }
    }

    /// Everybody who is there says goodbye for good and ends its side.
    pub(crate) fn leave(&mut self) {
        for index in 0..self.size() {
            if self.is_open(index) {
                self.shut_down(index);
            }
        }
    }

    pub(super) fn say_goodbye(&mut self, index: usize) {
        if let Some(peer) = self.peers.get_mut(index) {
            let mut goodbye = Vec::new();
            peer.say_goodbye(&mut goodbye);
            self.push(index, &goodbye);
        }
    }

    /// Takes in what was read. Returns whether the connection goes on.
    pub(super) fn hear(&mut self, index: usize, at: Nanos, count: usize) -> bool {
        let Ok(heard) = self.peers[index].handle_input(&self.buffer[..count]) else {
            self.tally.faults += 1;
            self.bury(index, at, false);
            return false;
        };
        let is_opening = self.states[index] == State::Awaiting;
        if let (true, Some(code)) = (is_opening, heard.bye) {
            self.refuse(index, at, word(code));
            return false;
        }
        if is_opening != heard.welcome.is_some() {
            self.tally.faults += 1;
            self.bury(index, at, false);
            return false;
        }
        self.answer(index, at, &heard);
        if let Some(code) = heard.bye {
            *self.tally.byes.entry(code).or_default() += 1;
            self.bury(index, at, false);
        }
        heard.bye.is_none()
    }

    /// It never came to be, and this is why.
    pub(super) fn refuse(&mut self, index: usize, at: Nanos, cause: &'static str) {
        *self.tally.failures.entry(cause).or_default() += 1;
        self.remove(index);
        self.note(index, at, What::Failed);
    }

    fn answer(&mut self, index: usize, at: Nanos, heard: &Heard) {
        if let Some(told) = heard.welcome {
            self.tally.resumed += u64::from(told.resumed);
            self.tally.told = Some(told);
            self.told = Some(told);
            // The first frame under a new token makes both sides keep it.
            self.push(index, &beat(Beat::Beat));
            self.handle_in(index, at);
        }
        self.tally.refused += heard.refused;
        if heard.asks && !self.peers[index].is_mute {
            self.push(index, &beat(Beat::Answer));
        }
        if heard.message > 0 && !self.peers[index].is_mute {
            let mut receipt = Vec::new();
            Frame::Receipt { committed: heard.message }.encode(&mut receipt);
            self.push(index, &receipt);
        }
        if heard.settled > 0 {
            // Not when the poller told of it: who is late in reading counts that as the server's time, never the other way.
            let read_at = self.clock.now();
            self.note(index, read_at, What::Settled(heard.settled));
        }
    }
}
