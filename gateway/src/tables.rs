//! Descriptor tables: a shard may have one of its own. That is the way past a hard limit of descriptors, which
//! counts for each table, and spares the kernel a reference count in every call on a socket.

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::io;

/// The standard streams.
const STANDARD: std::ops::RangeInclusive<i32> = 0..=2;

/// Whether the kernel lets a thread have a table of its own. Found out by a thread that does.
pub(crate) fn can_part() -> bool {
    let attempt = std::thread::Builder::new().spawn(|| unshare(CloneFlags::CLONE_FILES).is_ok());
    attempt.is_ok_and(|attempt| attempt.join().unwrap_or(false))
}

/// Gives the calling thread a table of its own, with a copy of what was open: of that only the standard streams,
/// pollers and wakers stay. A copy of a socket or a file would keep it open when its owner closes it.
///
/// # Errors
/// What the kernel said.
pub(crate) fn part() -> io::Result<()> {
    unshare(CloneFlags::CLONE_FILES)?;
    let open: Vec<i32> = fs::read_dir("/proc/thread-self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open {
        // The one by which the folder was read is closed already.
        let Ok(target) = fs::read_link(format!("/proc/thread-self/fd/{descriptor}")) else { continue };
        if !STANDARD.contains(&descriptor) && !target.to_string_lossy().starts_with("anon_inode:") {
            match nix::unistd::close(descriptor) {
                // A tool that watches the program keeps some for itself.
                Ok(()) | Err(Errno::EBADF) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn is_open(descriptor: i32) -> bool {
        fs::read_link(format!("/proc/thread-self/fd/{descriptor}")).is_ok()
    }

    #[test]
    fn what_was_open_is_open_no_longer_and_what_is_opened_is_not_elsewhere() {
        use std::os::fd::AsRawFd;
        if !can_part() {
            println!("SKIPPED: unshare is forbidden here");
            return;
        }
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let number = socket.as_raw_fd();
        let poll = mio::Poll::new().expect("a poller");
        let poller = poll.as_raw_fd();
        let opened = std::thread::spawn(move || {
            part().expect("it was possible a moment ago");
            assert!(!is_open(number) && is_open(poller) && is_open(0));
            let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
            (other.local_addr().expect("it is bound"), is_open(other.as_raw_fd()))
        });
        let (address, was_open) = opened.join().expect("the thread ends well");
        assert!(was_open && is_open(number), "our own table is as it was");
        assert!(TcpListener::bind(address).is_ok(), "the socket has ended with its thread's table");
    }
}
