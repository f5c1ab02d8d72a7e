//! What the two clients for people, `pulsegate connect --id` and the one in Python, say to a shell: the same.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::PATIENCE;
use common::program::{Program, interpreter, pulsegate};
use common::server::{answering, bye};
use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// Both clients, each with these arguments, as far as there are interpreters.
fn both(arguments: &[&str]) -> Vec<Command> {
    let mut commands = vec![pulsegate(&[&["connect"], arguments].concat())];
    if let Some(interpreter) = interpreter() {
        let mut python = Command::new(interpreter);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/python");
        python.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONPATH", folder);
        python.args(["-m", "pulsegate"]).args(arguments);
        commands.push(python);
    }
    commands
}

/// Both clients send these lines and end so.
#[track_caller]
fn check(expected: i32, arguments: &[&str], lines: &[&str]) {
    for command in both(arguments) {
        let name = format!("{command:?}");
        let mut client = Program::start_fed(command);
        lines.iter().for_each(|line| client.feed(line));
        let ended = client.finish(PATIENCE);
        assert_eq!(ended.code, Some(expected), "{name}: {ended:#?}");
    }
}

#[track_caller]
fn check_at(expected: i32, address: SocketAddr, lines: &[&str]) {
    check(expected, &[&address.to_string(), "--id", "x"], lines);
}

#[test]
fn what_was_committed_is_a_success_and_what_was_not_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let (config, data) = (directory.path().join("pulsegate.toml"), directory.path().join("data"));
    let text = format!(
        "[store]\ndata_dir = {data:?}\nquota_bytes_max = \"2KiB\"\nquota_every = \"1h\"\n\n\
         [[listener]]\nlisten = \"127.0.0.1:0\"\nprotocol = \"pulse\"\nsink = \"store\"\nmessage_bytes_max = \"1KiB\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let gateway = Program::start(pulsegate(&["serve", "--config", config.to_str().unwrap()]));
    let (address, line) = (gateway.address(), "x".repeat(900));
    check_at(0, address, &["one", "two"]);
    check_at(0, address, &[]);
    check_at(3, address, &["one", &line, &line, &line]);
    check_at(3, address, &["one", &"x".repeat(1025), "three"]);
}

#[test]
fn who_does_not_speak_the_protocol_is_a_failure_and_who_says_never_is_an_end() {
    let (_gateway, raw) = Program::serve(&["--protocol", "raw", "--sink", "discard"]);
    check_at(1, raw, &["one"]);
    check_at(1, answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"), &["one"]);
    check_at(1, answering(b""), &["one"]);
    check_at(3, answering(&bye(54, "not authenticated")), &["one"]);
}

#[test]
fn an_outbox_that_cannot_be_used_is_a_failure_and_arguments_that_cannot_be_are_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = directory.path().join("none").join("outbox.db");
    check(1, &["127.0.0.1:1", "--id", "x", "--outbox", outbox.to_str().unwrap()], &["one"]);
    check(2, &["nonsense", "--id", "x"], &[]);
    check(2, &["127.0.0.1:0", "--id", "x"], &[]);
    check(2, &["127.0.0.1:1", "--id", &"x".repeat(129)], &[]);
    check(2, &["127.0.0.1:1"], &[]);
}

#[test]
fn an_interruption_has_a_code_of_its_own() {
    // Bound, so that nobody else gets it, and nothing listens.
    let free = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    free.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = free.local_addr().unwrap().as_socket().unwrap().to_string();
    for name in ["INT", "TERM"] {
        for command in both(&[&address, "--id", "x"]) {
            let mut client = Program::start_fed(command);
            client.feed("one");
            assert!(client.heard(PATIENCE, |line| line.contains("disconnected")), "{}", client.stderr());
            client.signal(name);
            let ended = client.finish(PATIENCE);
            assert_eq!(ended.code, Some(130), "{name}: {ended:#?}");
        }
    }
}

#[test]
fn both_say_the_same_of_their_codes() {
    for mut command in both(&["--help"]) {
        let help = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let codes = help.lines().filter_map(|line| line.split_whitespace().next()?.parse::<i32>().ok());
        assert_eq!(codes.collect::<Vec<_>>(), [0, 1, 2, 3, 130], "{help}");
    }
}
