//! Descriptor tables: a shard may have one of its own. That is the way past a hard limit of descriptors, which
//! counts for each table, and spares the kernel a reference count in every call on a socket.
//!
//! A descriptor is a number, and with several tables a number that one thread knows may be a client's socket in
//! another thread's table. So nothing may run on a shard's thread that uses a number from elsewhere:
//!
//! - Wakers are made before any table parts and are kept in all: their numbers mean the same everywhere. All that
//!   posts to a mailbox uses one.
//! - A signal handler writes to a pipe or socket by its number (tokio's and signal-hook's do), on whatever thread the
//!   kernel has chosen: so a shard's thread blocks all signals before its table parts.
//! - The standard streams stay open in each table, for a panic's message.
//! - Pollers, timers and sockets of a shard are made on its thread, after its table has parted, and are only there.
//! - The store's files, SQLite's temporary ones among them, are opened, locked and closed by threads of the process's
//!   table, which also drop the store. The copies that a parting table closes take no lock with them: record locks
//!   belong to a table, and those of `flock` to the open file.
//! - Sinks, callbacks and names to be looked up are never run or resolved on a shard's thread.
//! - A line of the log is handed to whatever `tracing` subscriber there is, on the shard's thread. The program's
//!   passes it to a thread of its own. One that writes to a file or a socket at once would write to a client's
//!   socket: so an embedding program has to ask for separate tables
//!   ([`DescriptorTables::PerShard`](crate::config::DescriptorTables::PerShard) says what it has to heed).
//! - Random numbers come from a system call, without a descriptor, on each Linux that has `unshare` and pollers.

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::RawFd;

/// The standard streams.
const STANDARD: std::ops::RangeInclusive<RawFd> = 0..=2;

/// Signals of which a thread is itself the cause: blocked, they would end the process without a handler's words.
const FAULTS: [Signal; 6] =
    [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGTRAP, Signal::SIGSYS];

/// What keeps a thread from having a table of its own, if anything does. A thread tries it.
pub(crate) fn obstacle() -> Option<&'static str> {
    let attempt = || {
        block_signals();
        if unshare(CloneFlags::CLONE_FILES).is_err() {
            return Some("unshare is forbidden");
        }
        open_here().is_err().then_some("/proc is not there")
    };
    let thread = std::thread::Builder::new().spawn(attempt);
    thread.map_or(Some("there is no thread to try it"), |thread| {
        thread.join().unwrap_or(Some("the thread that tried it has died"))
    })
}

/// Has the calling thread take no signals but those of its own faults.
fn block_signals() {
    let mut signals = SigSet::all();
    FAULTS.into_iter().for_each(|signal| signals.remove(signal));
    // It fails for arguments that don't exist, and has none.
    let _ = signals.thread_block();
}

/// The numbers that are open in the calling thread's table.
fn open_here() -> io::Result<Vec<RawFd>> {
    let folder = fs::read_dir("/proc/thread-self/fd")?;
    Ok(folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Gives the calling thread a descriptor table of its own, in which only the standard streams and `kept` stay open: a
/// copy of any other socket or file would keep it open when its owner closes it. From then on the thread takes no
/// signals.
///
/// # Errors
/// What the kernel said.
pub(crate) fn part(kept: &HashSet<RawFd>) -> io::Result<()> {
    block_signals();
    unshare(CloneFlags::CLONE_FILES)?;
    for number in open_here()? {
        if STANDARD.contains(&number) || kept.contains(&number) {
            continue;
        }
        match nix::unistd::close(number) {
            // The folder that was read is closed already. A tool that watches the program keeps some for itself.
            Ok(()) | Err(Errno::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waker::Waker;
    use std::net::TcpListener;

    fn is_open(descriptor: i32) -> bool {
        fs::read_link(format!("/proc/thread-self/fd/{descriptor}")).is_ok()
    }

    #[test]
    fn what_was_open_is_open_no_longer_and_what_is_opened_is_not_elsewhere() {
        use std::os::fd::AsRawFd;
        if let Some(obstacle) = obstacle() {
            println!("SKIPPED: {obstacle}");
            return;
        }
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let number = socket.as_raw_fd();
        let poll = mio::Poll::new().expect("a poller");
        let poller = poll.as_raw_fd();
        let waker = Waker::new().expect("a waker");
        let kept = HashSet::from([waker.as_raw_fd()]);
        let opened = std::thread::spawn(move || {
            part(&kept).expect("it was possible a moment ago");
            assert!(!is_open(number) && !is_open(poller) && is_open(0));
            assert!(kept.iter().all(|waker| is_open(*waker)));
            let blocked = SigSet::thread_get_mask().expect("a mask");
            assert!(blocked.contains(Signal::SIGTERM) && blocked.contains(Signal::SIGCHLD));
            assert!(!blocked.contains(Signal::SIGSEGV));
            let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
            (other.local_addr().expect("it is bound"), is_open(other.as_raw_fd()))
        });
        let (address, was_open) = opened.join().expect("the thread ends well");
        drop(waker);
        assert!(was_open && is_open(number), "our own table is as it was");
        assert!(TcpListener::bind(address).is_ok(), "the socket has ended with its thread's table");
    }
}
