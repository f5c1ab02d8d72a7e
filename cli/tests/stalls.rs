//! The real program is stopped for a while, as a laptop's lid or a busy host does it: the living stay.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::program::Program;
use common::{connect, hear_text, is_quiet, millis, wait_until};
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

const LIVING: usize = 300;
const TIMEOUT: Duration = millis(500);

/// Beats for all until told to stop; returns the longest gap between two rounds. What doesn't fit into a
/// stopped program's buffers is left out: others of the same client wait there already.
fn beat(clients: &[TcpStream], stop: &AtomicBool) -> Duration {
    let (mut last, mut gap) = (Instant::now(), Duration::ZERO);
    while !stop.load(SeqCst) {
        for mut client in clients {
            // An end shows afterwards.
            let _ = client.write(b"x");
        }
        gap = gap.max(last.elapsed());
        last = Instant::now();
        sleep(millis(100));
    }
    gap
}

#[test]
fn a_stopped_program_drops_nobody_who_went_on_beating_and_keeps_nobody_who_did_not() {
    let (program, address) = Program::serve(&["--long", "500ms", "--sink", "discard"]);
    let stop = AtomicBool::new(false);
    let living: Vec<_> = (0..LIVING).map(|_| connect(address)).collect();
    scope(|scope| {
        let beating = scope.spawn(|| beat(&living, &stop));
        let mut silent: Vec<_> = (0..20).map(|_| connect(address)).collect();
        for client in &mut silent {
            client.write_all(b"the last word\n").unwrap();
        }
        program.signal("STOP");
        sleep(millis(3_000));
        program.signal("CONT");
        for client in &mut silent {
            assert_eq!(hear_text(client), "");
        }
        sleep(TIMEOUT * 2);
        let dropped = living.iter().filter(|client| !is_quiet(client)).count();
        stop.store(true, SeqCst);
        let gap = beating.join().unwrap();
        // On a busy machine the test itself may fall silent, and then they are rightly ended.
        assert!(dropped == 0 || gap >= TIMEOUT, "{dropped} of {LIVING} dropped, the longest gap was {gap:?}");
    });
    wait_until("it still serves", || is_quiet(&connect(address)));
}
