//! Signals to the real program: none is lost, none reaches a client, none ends it unasked.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::program::{Program, pulsegate};
use common::{blocked_signals, connect, hear_out, is_quiet, millis, signal_bit, wait_until};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;

/// Longer than the time in which two signals are one.
const NEXT_SIGNAL: std::time::Duration = millis(700);

fn serve(more: &[&str]) -> (Program, SocketAddr) {
    let args = ["--long", "60s", "--first-message", "60s", "--sink", "discard", "--shards", "4"];
    Program::serve(&[&args[..], more].concat())
}

const HUP: u64 = signal_bit(1);
const SEGV: u64 = signal_bit(11);
const TERM: u64 = signal_bit(15);
const CHLD: u64 = signal_bit(17);
const TSTP: u64 = signal_bit(20);

#[test]
fn no_signal_is_lost_and_none_puts_a_byte_into_a_clients_stream() {
    for round in 0..10 {
        let (mut program, address) = serve(&["--drain-within", "0s"]);
        let mut clients: Vec<TcpStream> = (0..40).map(|_| connect(address)).collect();
        clients.iter_mut().for_each(|client| client.write_all(b"hello\n").unwrap());
        // Whatever thread wakes first after the stop is asked to take what has come meanwhile.
        program.signal("STOP");
        program.signal("TERM");
        program.signal("CONT");
        assert_eq!(program.wait(), Some(0), "round {round}: {}", program.stderr());
        for client in &mut clients {
            assert_eq!(hear_out(client).0, b"", "round {round}: nobody has sent this");
        }
    }
}

#[test]
fn all_threads_but_those_that_wait_for_signals_block_them_and_job_control_stays() {
    let (program, _) = serve(&[]);
    let is_sound = |(name, mask): &(String, u64)| {
        // The one that waits shows as blocked what it doesn't wait for.
        let all = if name == "signals" { 0 } else { TERM | HUP };
        // A shard leaves job control to the others.
        let job_control = if name.starts_with("shard-") { CHLD | TSTP } else { 0 };
        mask & all == all && mask & SEGV == 0 && mask & (CHLD | TSTP) == job_control
    };
    // While a thread is born, it and its parent block all for a moment.
    wait_until("each thread blocks what it has to", || blocked_signals(program.id()).iter().all(is_sound));
}

#[test]
fn signals_for_which_there_is_no_use_are_said_and_ignored() {
    let (mut program, address) = serve(&[]);
    let client = connect(address);
    for name in ["HUP", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR", "RTMIN"] {
        program.signal(name);
        if name != "RTMIN" {
            wait_until("it is said", || program.stderr().contains(&format!("SIG{name} is ignored")));
        }
    }
    assert!(program.is_running() && is_quiet(&client));
    program.signal("TERM");
    program.signal("CONT");
    wait_until("it drains", || program.stderr().contains("draining 1"));
}

#[test]
fn two_signals_within_half_a_second_are_one_and_a_later_one_is_the_second() {
    let (mut program, address) = serve(&["--drain-within", "1h"]);
    let _clients = [connect(address), connect(address)];
    program.signal("TERM");
    program.signal("INT");
    wait_until("it drains", || program.stderr().contains("draining"));
    sleep(NEXT_SIGNAL);
    assert!(program.is_running() && !program.stderr().contains("ending at once"), "{}", program.stderr());
    program.signal("TERM");
    assert_eq!(program.wait(), Some(1), "{}", program.stderr());
}

/// A configuration that never comes keeps the program in its start.
fn starting(folder: &Path) -> Vec<String> {
    let file = folder.join("pulsegate.toml");
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    vec![
        env!("CARGO_BIN_EXE_pulsegate").into(),
        "serve".into(),
        "--config".into(),
        file.to_str().unwrap().into(),
    ]
}

fn is_waiting_for_signals(process: u32) -> bool {
    blocked_signals(process).iter().any(|(name, _)| name == "start")
}

#[test]
fn a_signal_during_the_start_is_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let command = starting(folder.path());
    let mut program = Program::start(pulsegate(&command[1..].iter().map(String::as_str).collect::<Vec<_>>()));
    wait_until("it starts", || is_waiting_for_signals(program.id()));
    program.signal("TERM");
    assert_eq!(program.wait(), Some(0), "{}", program.stderr());
    assert!(program.stderr().contains("stopped by a signal while starting"), "{}", program.stderr());
}

#[test]
fn the_first_process_of_a_container_obeys_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let inner = starting(folder.path());
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child"]).args(&inner);
    let mut program = Program::start(command);
    let children = format!("/proc/{0}/task/{0}/children", program.id());
    let child = || std::fs::read_to_string(&children).ok()?.trim().parse::<u32>().ok();
    wait_until("it runs, or may not", || !program.is_running() || child().is_some());
    let Some(child) = child() else {
        println!("SKIPPED: unshare is forbidden here");
        return;
    };
    wait_until("it starts", || is_waiting_for_signals(child));
    let sent = Command::new("sh").args(["-c", &format!("kill -TERM {child}")]).status();
    assert!(sent.unwrap().success());
    assert_eq!(program.wait(), Some(0), "{}", program.stderr());
}
