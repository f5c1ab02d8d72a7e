//! What a simulated kernel has only so many of: places in a backlog, descriptors, memory.

use crate::shard::acceptor::RETRY_AFTER;
use nix::errno::Errno;
use pulsegate_core::time::Instant;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// The most that wait at a listener.
pub(crate) const BACKLOG: usize = 8;

/// Those who wait at a listener, oldest first.
type Backlog = VecDeque<(usize, SocketAddr)>;

/// The listening sockets, and the descriptors of the gateway.
#[derive(Debug)]
pub(crate) struct Kernel {
    backlogs: Vec<Option<Backlog>>,
    /// How many descriptors the gateway may have.
    pub(crate) descriptors_max: usize,
    /// How many it has, the spare one included.
    descriptors: usize,
    pub(crate) has_spare: bool,
    /// What there is none of: descriptors for anybody, memory, or room in pollers.
    pub(crate) lack: Option<Errno>,
    /// When the spare descriptor was last given up, or was not to be had.
    bare: Option<Instant>,
    /// When somebody could last not be accepted at each listener, though the gateway had given up its spare descriptor for it.
    helpless: Vec<Option<Instant>>,
    /// When something was last missing.
    pub(crate) missed: Option<Instant>,
    /// When listeners were closed at which somebody waited who could have been answered.
    pub(crate) forsaken: Vec<Instant>,
}

impl Kernel {
    pub(crate) const fn new() -> Self {
        Self {
            backlogs: Vec::new(),
            descriptors_max: usize::MAX,
            descriptors: 0,
            has_spare: false,
            lack: None,
            bare: None,
            helpless: Vec::new(),
            missed: None,
            forsaken: Vec::new(),
        }
    }

    /// There is enough of all again.
    pub(crate) const fn relieve(&mut self) {
        (self.descriptors_max, self.lack) = (usize::MAX, None);
    }

    /// From now on the gateway gets only so many more descriptors.
    pub(crate) const fn bound(&mut self, more: usize) {
        (self.descriptors_max, self.lack) = (self.descriptors + more, None);
    }

    pub(crate) fn listen(&mut self, listener: usize) {
        if listener >= self.backlogs.len() {
            self.backlogs.resize_with(listener + 1, || None);
            self.helpless.resize(listener + 1, None);
        }
        self.backlogs[listener] = Some(VecDeque::new());
        self.descriptors += 1;
    }

    /// Whether a listener is open.
    pub(crate) fn is_open(&self, listener: usize) -> bool {
        self.backlogs.get(listener).is_some_and(Option::is_some)
    }

    /// Nobody listens any more. Returns who has waited; `told`, whether the gateway has been told of all of them.
    pub(crate) fn unlisten(&mut self, listener: usize, now: Instant, told: bool) -> Backlog {
        self.descriptors -= 1;
        let backlog = self.backlogs[listener].take().expect("a listener is closed once");
        if !backlog.is_empty() && told && !self.is_excused(listener, now) {
            self.forsaken.push(now);
        }
        backlog
    }

    /// Somebody comes; in vain if nobody listens, or if too many wait.
    pub(crate) fn come(&mut self, listener: usize, client: usize, address: SocketAddr) -> bool {
        let backlog = self.backlogs.get_mut(listener).and_then(Option::as_mut);
        let Some(backlog) = backlog.filter(|backlog| backlog.len() < BACKLOG) else { return false };
        backlog.push_back((client, address));
        true
    }

    /// Takes the client that has waited longest, and a descriptor for it.
    pub(crate) fn accept(&mut self, listener: usize, now: Instant) -> io::Result<(usize, SocketAddr)> {
        // As Linux does it, before it looks whether anybody is there.
        if let Some(error) = self.obstacle(now) {
            if !self.has_spare && self.bare == Some(now) {
                self.helpless[listener] = Some(now);
            }
            return Err(error);
        }
        let backlog = self.backlogs[listener].as_mut().expect("a closed listener is not used any more");
        let client = backlog.pop_front().ok_or(ErrorKind::WouldBlock)?;
        self.descriptors += 1;
        Ok(client)
    }

    /// A socket was closed.
    pub(crate) const fn give_back(&mut self) {
        self.descriptors -= 1;
    }

    pub(crate) fn keep_spare(&mut self, now: Instant) {
        if self.has_spare {
            return;
        }
        if self.obstacle(now).is_some() {
            self.bare = Some(now);
            return;
        }
        self.has_spare = true;
        self.descriptors += 1;
    }

    pub(crate) fn give_up_spare(&mut self, now: Instant) -> bool {
        let had = std::mem::take(&mut self.has_spare);
        if had {
            self.descriptors -= 1;
            self.bare = Some(now);
        }
        had
    }

    /// Whether a poller has room for one more socket.
    pub(crate) fn watch(&mut self, now: Instant) -> io::Result<()> {
        match self.lack {
            Some(lack @ Errno::ENOSPC) => {
                self.missed = Some(now);
                Err(lack.into())
            }
            _ => Ok(()),
        }
    }

    fn obstacle(&mut self, now: Instant) -> Option<io::Error> {
        let is_full = self.descriptors >= self.descriptors_max;
        let lack =
            self.lack.filter(|lack| *lack != Errno::ENOSPC).or_else(|| is_full.then_some(Errno::EMFILE))?;
        self.missed = Some(now);
        Some(lack.into())
    }

    /// Nobody waits at a listener that the gateway has been told of, unless there was really nothing left to answer with a
    /// moment ago.
    pub(crate) fn check_quiet(&self, now: Instant) {
        for (listener, backlog) in self.backlogs.iter().enumerate() {
            let waiting = backlog.as_ref().map_or(0, VecDeque::len);
            assert!(
                waiting == 0 || self.is_excused(listener, now),
                "{waiting} wait at listener {listener} for nothing"
            );
        }
    }

    fn is_excused(&self, listener: usize, now: Instant) -> bool {
        self.helpless[listener].is_some_and(|since| now < since.after(RETRY_AFTER))
    }
}
