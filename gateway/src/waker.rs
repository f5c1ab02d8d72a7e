//! Wakes a shard's thread, from any other: a descriptor that is made before descriptor tables part, so that it has the
//! same number in each. A poller is only in the table of its shard.

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

/// The waker of one shard; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Waker(Arc<EventFd>);

impl Waker {
    /// A waker that no poller knows yet.
    ///
    /// # Errors
    /// When the kernel gives no descriptor.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(Arc::new(EventFd::from_flags(flags)?)))
    }

    /// Makes it wake this poller from now on.
    ///
    /// # Errors
    /// When the kernel has no memory for it.
    pub(crate) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.as_raw_fd()), token, Interest::READABLE)
    }

    /// Wakes it. The poller tells each write once, so nobody has to read what was written.
    pub(crate) fn wake(&self) {
        // It fails only after 2^64 wakes.
        let _ = self.0.write(1);
    }

    /// Its number, the same in each table.
    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::time::Duration;

    #[test]
    fn each_wake_is_told_once_though_nobody_reads_it() {
        let mut poll = Poll::new().expect("a poller");
        let waker = Waker::new().expect("a waker");
        waker.register(poll.registry(), Token(7)).expect("registered");
        let mut events = Events::with_capacity(8);
        for _ in 0..3 {
            let other = waker.clone();
            std::thread::spawn(move || other.wake()).join().expect("it wakes");
            poll.poll(&mut events, Some(Duration::from_secs(30))).expect("polled");
            assert_eq!(events.iter().map(|event| event.token()).collect::<Vec<_>>(), [Token(7)]);
            poll.poll(&mut events, Some(Duration::ZERO)).expect("polled");
            assert!(events.is_empty());
        }
    }
}
