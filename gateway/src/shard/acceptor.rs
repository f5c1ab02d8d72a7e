//! Accepting: bounded batches, an answer for everybody, and no way to spin or die when descriptors run out.

use crate::peer::Peer;
use crate::shard::Shard;
use crate::shard::sockets::Sockets;
use mio::net::{TcpListener, TcpStream};
use pulsegate_core::close::CloseReason;
use pulsegate_core::time::Instant;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

/// How many connections of one listener are accepted in one turn.
const ACCEPTS_PER_TURN: usize = 256;
/// How long to wait after the kernel had no descriptor or no memory for a connection.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// At most one line about it in this time.
const SILENCE_BETWEEN_LINES: Duration = Duration::from_secs(10);
/// The most that is read of a refused connection before it is closed.
const REFUSED_READ_BYTES: usize = 4096;

/// A shard's sockets for one listener, and the spare descriptor.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listeners: Vec<Listener>,
    /// Kept so that, when no descriptor is left, it can be given up for as long as it takes to answer a
    /// newcomer.
    spare: Option<File>,
    shortage: Shortage,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    door: u16,
    /// There may be more to accept.
    ready: bool,
    /// Not before this instant.
    retry: Option<Instant>,
}

/// What to tell the log about descriptors that ran out.
#[derive(Debug, Default)]
struct Shortage {
    refused: u64,
    told: Option<Instant>,
}

enum Outcome {
    Accepted,
    NothingLeft,
    TryLater,
}

impl Acceptor {
    /// Accepts from these sockets; each stands with the number of its listener.
    pub(crate) fn new(sockets: Vec<(u16, TcpListener)>) -> Self {
        let listener = |(door, socket)| Listener { socket, door, ready: true, retry: None };
        Self {
            listeners: sockets.into_iter().map(listener).collect(),
            spare: open_spare(),
            shortage: Shortage::default(),
        }
    }

    /// The poller says that somebody has come to this listener. Others may be closed already.
    pub(crate) fn handle_ready(&mut self, door: usize) {
        let is_it = |listener: &&mut Listener| usize::from(listener.door) == door;
        if let Some(listener) = self.listeners.iter_mut().find(is_it) {
            listener.ready = true;
        }
    }

    /// Accepts what is there, a bounded number from each listener.
    pub(crate) fn accept(&mut self, shard: &mut Shard<Sockets>) {
        for index in 0..self.listeners.len() {
            let now = shard.now().instant;
            let listener = &mut self.listeners[index];
            if listener.retry.is_some_and(|retry| retry > now)
                || !(listener.ready || listener.retry.is_some())
            {
                continue;
            }
            listener.retry = None;
            for _ in 0..ACCEPTS_PER_TURN {
                match self.accept_one(index, now, shard) {
                    Outcome::Accepted => self.listeners[index].ready = true,
                    Outcome::NothingLeft => {
                        self.listeners[index].ready = false;
                        break;
                    }
                    Outcome::TryLater => {
                        self.listeners[index].retry = Some(now.after(RETRY_AFTER));
                        self.listeners[index].ready = false;
                        break;
                    }
                }
            }
        }
    }

    /// When there is something to do though nobody new has come.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        // A newcomer doesn't shorten the wait after a shortage, or every one of them would wake us in vain.
        let wake = |listener: &Listener| listener.retry.or_else(|| listener.ready.then_some(Instant::ORIGIN));
        self.listeners.iter().filter_map(wake).min()
    }

    /// At the end: closes the doors at which nobody waits any more, and those at which nobody can be answered for want
    /// of descriptors.
    pub(crate) fn close_when_empty(&mut self) {
        self.listeners.retain(|listener| listener.ready && listener.retry.is_none());
    }

    /// Closes all doors, whoever waits there.
    pub(crate) fn close(&mut self) {
        self.listeners.clear();
    }

    /// Whether all doors are closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.listeners.is_empty()
    }

    fn accept_one(&mut self, index: usize, now: Instant, shard: &mut Shard<Sockets>) -> Outcome {
        let listener = &self.listeners[index];
        match listener.socket.accept() {
            Ok((stream, address)) => {
                let door = listener.door;
                if self.spare.is_none() {
                    self.spare = open_spare();
                }
                if let Err((stream, reason)) = shard.admit(stream, Peer::new(address), door) {
                    refuse(stream, shard.farewell(door, reason));
                }
                Outcome::Accepted
            }
            Err(error) => self.handle_error(index, now, &error, shard),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "an open enum: what is not known is a shortage")]
    fn handle_error(
        &mut self,
        index: usize,
        now: Instant,
        error: &io::Error,
        shard: &mut Shard<Sockets>,
    ) -> Outcome {
        match error.kind() {
            ErrorKind::WouldBlock => Outcome::NothingLeft,
            // The peer had gone before it was accepted, or a firewall forbade it: the next one, please.
            ErrorKind::Interrupted
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::PermissionDenied
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable => Outcome::Accepted,
            // Sockets that have ended hold descriptors until they are closed: now, then.
            _ if shard.close_ended(ACCEPTS_PER_TURN) > 0 => Outcome::Accepted,
            _ => self.handle_shortage(index, now, error, shard),
        }
    }

    /// No descriptor or no memory: the newcomer is answered by means of the spare descriptor.
    fn handle_shortage(
        &mut self,
        index: usize,
        now: Instant,
        error: &io::Error,
        shard: &mut Shard<Sockets>,
    ) -> Outcome {
        let had_spare = self.spare.take().is_some();
        let listener = &self.listeners[index];
        let outcome = match had_spare.then(|| listener.socket.accept()) {
            Some(Ok((stream, address))) => {
                shard.count_refused(Peer::new(address), CloseReason::OutOfDescriptors);
                refuse(stream, shard.farewell(listener.door, CloseReason::OutOfDescriptors));
                self.shortage.refused += 1;
                Outcome::Accepted
            }
            // The kernel wants a descriptor before it looks whether anybody is there: nobody is.
            Some(Err(error)) if error.kind() == ErrorKind::WouldBlock => Outcome::NothingLeft,
            Some(Err(_)) | None => Outcome::TryLater,
        };
        self.spare = open_spare();
        if !matches!(outcome, Outcome::NothingLeft) {
            self.shortage.tell(now, error);
        }
        outcome
    }
}

impl Shortage {
    fn tell(&mut self, now: Instant, error: &io::Error) {
        if self.told.is_some_and(|told| now.since(told) < SILENCE_BETWEEN_LINES) {
            return;
        }
        tracing::warn!(
            refused = std::mem::take(&mut self.refused),
            %error,
            "can't accept: refusing newcomers until there is room; raise the limit of open files (ulimit -n)"
        );
        self.told = Some(now);
    }
}

/// Tells a connection that can't be kept, and closes it. What it has sent is read, so that the close
/// doesn't become a reset that destroys the answer.
fn refuse(mut stream: TcpStream, farewell: Option<Vec<u8>>) {
    if let Some(words) = farewell {
        // A new socket's buffer takes them at once; if not, the peer is gone.
        let _ = stream.write(&words);
    }
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read(&mut [0; REFUSED_READ_BYTES]);
}

/// Any descriptor will do.
fn open_spare() -> Option<File> {
    File::open("/dev/null").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_keeps_its_number_when_another_one_is_closed() {
        let socket = || TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let mut acceptor = Acceptor::new((0..3).map(|door| (door, socket())).collect());
        acceptor.listeners[0].ready = false;
        acceptor.close_when_empty();
        acceptor.listeners.iter_mut().for_each(|listener| listener.ready = false);
        acceptor.handle_ready(0);
        assert!(acceptor.listeners.iter().all(|listener| !listener.ready), "it is closed");
        acceptor.handle_ready(1);
        acceptor.close_when_empty();
        let left: Vec<u16> = acceptor.listeners.iter().map(|listener| listener.door).collect();
        assert_eq!(left, [1]);
        acceptor.close();
        assert!(acceptor.is_closed());
    }
}
