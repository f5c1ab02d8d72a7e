//! `flood`: messages are written for as long as the server takes them. A connection whose buffers are full rests until
//! there is room again.

use super::{Load, Turn};
use crate::crowd::{Crowd, Happening, What, Written};
use crate::stage::Nanos;
use std::collections::VecDeque;

/// Writes in one turn.
const PER_TURN_MAX: usize = 32;

pub(super) struct Flood {
    span: Nanos,
    ends_at: Nanos,
    /// What one write sends: some messages.
    payload: Vec<u8>,
    /// Those that take bytes.
    willing: VecDeque<usize>,
    /// Where each is in the payload.
    written: Vec<usize>,
}

impl Flood {
    pub(super) const fn new(span: Nanos, payload: Vec<u8>) -> Self {
        Self { span, ends_at: 0, payload, willing: VecDeque::new(), written: Vec::new() }
    }
}

impl Load for Flood {
    fn begin(&mut self, crowd: &mut Crowd, at: Nanos) {
        self.ends_at = at + self.span;
        self.written = vec![0; crowd.size()];
        self.willing = (0..crowd.size()).filter(|index| crowd.is_open(*index)).collect();
    }

    fn turn(&mut self, crowd: &mut Crowd, now: Nanos) -> Turn {
        if now >= self.ends_at {
            return Turn::Done;
        }
        for _ in 0..PER_TURN_MAX {
            let Some(index) = self.willing.pop_front() else { return Turn::Until(self.ends_at) };
            match crowd.write(index, &self.payload[self.written[index]..]) {
                Written::Bytes(count) => {
                    self.written[index] = (self.written[index] + count) % self.payload.len();
                    self.willing.push_back(index);
                }
                Written::Full => crowd.tally.blocked += 1,
                Written::Gone => {}
            }
        }
        Turn::Busy
    }

    fn handle(&mut self, crowd: &mut Crowd, happening: Happening) {
        match happening.what {
            What::Writable if !self.willing.contains(&happening.index) => {
                self.willing.push_back(happening.index)
            }
            What::Ended => crowd.tally.dropped += 1,
            What::Writable | What::Opened | What::Failed | What::Settled(_) => {}
        }
    }
}
