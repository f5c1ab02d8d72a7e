//! The output of the program on a disk that is full: it waits for room, and the stop doesn't wait for ever.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::program::Program;
use common::{connect, wait_until};
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Lets the program's files have so many bytes; returns whether that can be said here.
fn limit_files(program: &Program, limit: &str) -> bool {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &program.id().to_string(), &format!("--fsize={limit}:unlimited")]);
    command.status().is_ok_and(|status| status.success())
}

/// `serve` that prints to this file; a write above the limit of its size fails, and is not a signal.
fn serve_to(file: &Path) -> Program {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; out=$1; shift; exec \"$@\" >\"$out\"", "sh"]);
    command.arg(file).arg(env!("CARGO_BIN_EXE_pulsegate"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--protocol", "raw", "--framing", "lines"]);
    Program::start(command)
}

fn messages_in(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let words = text.lines().filter_map(|line| line.rsplit_once("  "));
    words.filter(|(_, word)| word.starts_with('m')).map(|(_, word)| word.to_owned()).collect()
}

#[test]
fn an_output_on_a_full_disk_waits_for_room_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("out");
    let mut program = serve_to(&file);
    let address = program.address();
    if !limit_files(&program, "1000") {
        eprintln!("SKIPPED: there is no prlimit here");
        return;
    }
    let mut client = connect(address);
    (0..100).for_each(|number| writeln!(client, "m{number}").unwrap());
    wait_until("it is full", || program.stderr().contains("trying again"));
    (100..200).for_each(|number| writeln!(client, "m{number}").unwrap());
    assert!(program.is_running());
    assert!(limit_files(&program, "unlimited"));
    wait_until("it goes on", || program.stderr().contains("can be written again"));
    program.signal("TERM");
    assert_eq!(program.wait(), Some(0), "{}", program.stderr());
    assert_eq!(messages_in(&file), (0..200).map(|number| format!("m{number}")).collect::<Vec<_>>());
    assert_eq!(program.stderr().matches("trying again").count(), 1);
}

#[test]
fn a_disk_that_stays_full_does_not_hold_up_the_stop() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("out");
    let mut program = serve_to(&file);
    let address = program.address();
    if !limit_files(&program, "0") {
        eprintln!("SKIPPED: there is no prlimit here");
        return;
    }
    let mut client = connect(address);
    (0..10).for_each(|number| writeln!(client, "m{number}").unwrap());
    wait_until("it is full", || program.stderr().contains("trying again"));
    program.signal("TERM");
    assert_eq!(program.wait(), Some(1), "{}", program.stderr());
    assert!(program.stderr().contains("given up: sink print"), "{}", program.stderr());
}
