//! Newcomers: accepted in bounded batches, and kept or told why not. All are answered, and while it drains the
//! listeners stay open for that.

use crate::counters::Counter;
use crate::peer::Peer;
use crate::place::Place;
use crate::shard::Shard;
use crate::shard::acceptor::Accepted;
use crate::shard::io::Io;
use crate::shard::reconciling::write_all;
use pulsegate_core::close::CloseReason;
use pulsegate_core::time::Instant;
use std::io;
use std::net::SocketAddr;

/// How many connections of one listener are accepted in one turn. One that has sent something already counts for two.
const ACCEPTS_PER_TURN: usize = 256;
/// The most that is read of a refused connection before it is closed.
const REFUSED_READ_BYTES: usize = 4096;

impl<I: Io> Shard<I> {
    /// Opens a socket for the listener with this number. Who comes waits until [`begin`](Self::begin). Returns the
    /// address, with its port if a free one was taken.
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) fn listen(&mut self, number: u16, place: &Place) -> io::Result<SocketAddr> {
        let (socket, address) = self.io.listen(place, number)?;
        self.acceptor.add(number, socket);
        Ok(address)
    }

    /// Accepts newcomers, a bounded number from each listener.
    pub(crate) fn accept(&mut self) {
        for number in self.acceptor.numbers() {
            let Some(due) = self.acceptor.due(number) else { continue };
            let now = self.now().instant;
            if due > now {
                continue;
            }
            // If it was lost to others it comes before everybody who waits: else nobody could be told that there is no
            // room.
            self.io.keep_spare();
            let mut done = 0;
            while done < ACCEPTS_PER_TURN
                && let Some(cost) = self.accept_one(number, now)
            {
                done += cost;
            }
        }
    }

    /// Returns for how many it counts; `None`: there is nobody else to be accepted now.
    fn accept_one(&mut self, number: u16, now: Instant) -> Option<usize> {
        match self.acceptor.accept(&mut self.io, number) {
            Accepted::Newcomer(stream, address) => {
                let fate = self.admit(stream, Peer::new(address), number);
                self.note_fate(address, fate.map(drop));
                Some(if fate == Ok(true) { 2 } else { 1 })
            }
            Accepted::Gone => Some(1),
            Accepted::Nobody => None,
            // Sockets that have ended hold descriptors until they are closed: now, then.
            Accepted::Shortage(_) if self.close_ended(ACCEPTS_PER_TURN) > 0 => Some(1),
            Accepted::Shortage(error) => self.refuse_one(number, now, &error).then_some(1),
        }
    }

    /// There is no descriptor, or no memory: the next one is told so with the help of the spare descriptor. Returns
    /// whether there may be more to accept now.
    fn refuse_one(&mut self, number: u16, now: Instant, error: &io::Error) -> bool {
        let accepted = self.acceptor.accept_by_spare(&mut self.io, number, now, error);
        let may_go_on = !matches!(accepted, Accepted::Nobody);
        if let Accepted::Newcomer(stream, address) = accepted {
            let reason = CloseReason::OutOfDescriptors;
            self.counts.of(number).count(Counter::Accepted, 1);
            let now = self.now();
            self.record_refusal(now, Peer::new(address), number, reason);
            self.refuse(stream, number, reason);
            self.note_fate(address, Err(reason));
        }
        self.io.keep_spare();
        may_go_on
    }

    /// Tells a connection that can't be kept, and closes it. What it has sent is read, so that the close doesn't become
    /// a reset that destroys the answer.
    pub(crate) fn refuse(&mut self, mut stream: I::Stream, listener: u16, reason: CloseReason) {
        let words = self.farewell(listener, reason).unwrap_or_default();
        let words = self.shared.listeners[usize::from(listener)].pipe().into_last_words(words);
        if !words.is_empty() {
            // A new socket's buffer takes them at once; if not, the peer is gone.
            let _ = write_all(&mut self.io, &mut stream, &words);
        }
        self.io.shut_down(&stream);
        let _ = self.io.read(&mut stream, &mut self.buffers.read[..REFUSED_READ_BYTES]);
        self.io.close(stream, false);
    }

    /// While it drains the listeners stay open, so that newcomers are answered. They are closed at the end of a turn,
    /// since no other one may come after that in which the last thing has left.
    pub(crate) fn close_listeners(&mut self) {
        if !self.is_draining() {
            return;
        }
        if self.answers_nobody() {
            self.acceptor.take_all().for_each(|socket| self.io.unlisten(socket));
        } else if self.is_done() {
            self.acceptor.take_idle().for_each(|socket| self.io.unlisten(socket));
        }
    }

    /// Notes what has become of a newcomer; only a simulation asks.
    fn note_fate(&mut self, address: SocketAddr, fate: Result<(), CloseReason>) {
        if cfg!(test) {
            self.acceptor.fates.push((address, fate));
        }
    }
}
