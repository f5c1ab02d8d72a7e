//! Threads that each have a descriptor table of their own, so that together they hold more connections than one table
//! allows. Must not know: what the threads do.

use nix::sched::{CloneFlags, unshare};
use std::io;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;

/// Whether a thread may part from the table that it was born into. Tried on a thread that ends at once.
pub(crate) fn are_permitted() -> bool {
    std::thread::spawn(part).join().is_ok_and(|parted| parted.is_ok())
}

fn part() -> io::Result<()> {
    Ok(unshare(CloneFlags::CLONE_FILES)?)
}

/// Starts `count` threads that do `work` with their number, each with a table of its own if `parted`.
///
/// Nobody opens anything before all tables have parted: a socket that is open then would stay open in the others'
/// tables for ever.
///
/// # Errors
/// When the system doesn't give that many threads.
pub(crate) fn start<T: Send + 'static>(
    count: usize,
    parted: bool,
    work: impl Fn(usize) -> anyhow::Result<T> + Send + Sync + 'static,
) -> io::Result<Vec<JoinHandle<anyhow::Result<T>>>> {
    let all_parted = Arc::new(Barrier::new(count));
    let work = Arc::new(work);
    let start = |number: usize| {
        let (all_parted, work) = (Arc::clone(&all_parted), Arc::clone(&work));
        std::thread::Builder::new().name(format!("bench-{number}")).spawn(move || {
            let outcome = if parted { part() } else { Ok(()) };
            all_parted.wait();
            outcome?;
            work(number)
        })
    };
    (0..count).map(start).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    #[test]
    fn threads_with_tables_of_their_own_get_the_same_numbers() {
        if !are_permitted() {
            return;
        }
        let meet = Arc::new(Barrier::new(4));
        let work = move |_: usize| {
            let socket = TcpListener::bind("127.0.0.1:0")?;
            meet.wait();
            Ok(socket.as_raw_fd())
        };
        let threads = start(4, true, work).unwrap();
        let numbers: Vec<i32> = threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect();
        let first = numbers[0];
        assert!(numbers.iter().all(|number| (first - number).abs() <= 8), "{numbers:?}");
    }
}
