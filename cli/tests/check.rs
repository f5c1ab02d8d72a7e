//! `pulsegate check` as people run it: what it prints, where, and its exit codes.

use std::path::Path;
use std::process::{Command, Output};

fn pulsegate(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pulsegate"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the program starts")
}

/// Runs `check` on a file of these bytes and compares exit code, stdout and stderr.
#[track_caller]
fn check(bytes: &[u8], code: i32, stdout: &str, stderr: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("gate.toml"), bytes).expect("written");
    let output = pulsegate(folder.path(), &["check", "gate.toml"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
    assert_eq!(String::from_utf8_lossy(&output.stderr), stderr);
    assert_eq!(output.status.code(), Some(code));
}

#[test]
fn a_sound_file_is_told_a_fact_a_line() {
    check(
        b"[[listener]]\nlisten = \"127.0.0.1:7373\"\n\n\
          [[listener]]\nlisten = \"[::1]:7374\"\nlifetime = \"short\"\ndeadline = \"30s\"\n\
          framing = \"lines\"\nsink = \"echo\"\n",
        0,
        "listener 127.0.0.1:7373 long, raw or pulse: first message within 10s, heartbeat timeout 5s, maximum age 24h, \
         any bytes are a heartbeat, raw chunks and pulse messages to print\n\
         listener [::1]:7374 short, raw or pulse: first message within 10s, closed after 30s, \
         raw lines and pulse messages to echo\n\
         sessions: at most 1000000 sessions, 62500 from one address\n\
         connections: as many as the limit of open files allows\n\
         waiting: at most 4MiB for a sink, 16MiB for a store, 256MiB for all clients\n\
         gate.toml is valid.\n",
        "",
    );
}

#[test]
fn a_store_is_shown_and_what_may_surprise_is_told() {
    check(
        b"connections_max = 5000\n\
          [[listener]]\nname = \"devices\"\nlisten = \"0.0.0.0:7373\"\nprotocol = \"raw\"\nsink = \"store\"\n",
        0,
        "listener 0.0.0.0:7373 (devices) long, raw: first message within 10s, heartbeat timeout 5s, maximum age 24h, \
         any bytes are a heartbeat, chunks to store\n\
         store data, synced to disk before a receipt leaves\n\
         store keeps messages for 7days, at most 8GiB; older ones go, read or not\n\
         connections: at most 5000 connections\n\
         waiting: at most 4MiB for a sink, 16MiB for a store, 256MiB for all clients\n\
         warning: devices can be reached from other machines, without TLS: what is sent there can be read and changed on \
         its way\n\
         warning: devices: one address may hold three quarters of the places; set connections_per_address_max\n\
         gate.toml is valid.\n",
        "",
    );
}

#[test]
fn a_folder_that_is_a_file_is_told_in_its_place() {
    check(
        b"[store]\ndata_dir = \"gate.toml/data\"\n[[listener]]\nlisten = \"127.0.0.1:7373\"\nsink = \"store\"\n",
        2,
        "",
        "pulsegate: gate.toml:2:12: data_dir: gate.toml is no folder\n  \
           2 | data_dir = \"gate.toml/data\"\n    \
             |            ^^^^^^^^^^^^^^^^\n\
         help: name another folder, or move that away\n",
    );
}

#[test]
fn the_example_is_sound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = pulsegate(&root, &["check", "pulsegate.example.toml"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_contradiction_is_shown_in_its_place() {
    check(
        b"[[listener]]\nlisten = \"127.0.0.1:7373\"\nage_max = \"8s\"\nfirst_message_timeout = \"10s\"\n",
        2,
        "",
        "pulsegate: gate.toml:4:25: first_message_timeout: 10s is longer than `age_max`, 8s\n  \
           4 | first_message_timeout = \"10s\"\n    \
             |                         ^^^^^\n\
         help: lower it to 8s or less, or raise `age_max`\n",
    );
}

#[test]
fn all_faults_are_shown_in_their_places() {
    check(
        b"drain-within = \"1s\"\n[[listener]]\nlisten = \"localhost:7373\"\n",
        2,
        "",
        "pulsegate: gate.toml:1:1: unknown key `drain-within`\n  \
           1 | drain-within = \"1s\"\n    \
             | ^^^^^^^^^^^^\n\
         help: did you mean `drain_within`?\n\
         \n\
         gate.toml:3:10: listen: \"localhost\" is a host name\n  \
           3 | listen = \"localhost:7373\"\n    \
             |          ^^^^^^^^^^^^^^^^\n\
         help: give it the IP address, such as 127.0.0.1:7373, or 0.0.0.0:7373 for all of\n      \
               this machine\n\
         \n\
         gate.toml: 2 faults\n",
    );
}

#[test]
fn a_file_without_a_listener_is_refused() {
    check(
        b"",
        2,
        "",
        "pulsegate: gate.toml:1:1: listener: there is no listener\n  \
           1 |\n    \
             | ^\n\
         help: add a [[listener]] table with `listen` = \"127.0.0.1:7373\"\n",
    );
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    check(
        b"log = \"\xff\"\n",
        2,
        "",
        "pulsegate: gate.toml:1:8: this is not UTF-8\n  \
           1 | log = \"\u{fffd}\"\n    \
             |        ^\n\
         help: save the file as UTF-8 text\n",
    );
}

#[test]
fn what_can_not_be_read_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, why) in
        [("absent.toml", "No such file or directory (os error 2)"), (".", "Is a directory (os error 21)")]
    {
        let output = pulsegate(folder.path(), &["check", path]);
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            format!(
                "pulsegate: {path}: can't be read: {why}\nhelp: give the path of a file that may be read\n"
            )
        );
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn flags_of_serve_that_contradict_each_other_exit_with_2() {
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, said) in [
        (
            ["serve", "--short", "5s", "--first-message", "8s"],
            "pulsegate: --first-message: 8s is longer than --short, 5s; lower it to 5s or less, or raise --short\n",
        ),
        (
            ["serve", "--config", "absent.toml", "--log", "json"],
            "pulsegate: absent.toml: can't be read: No such file or directory (os error 2)\n\
             help: give the path of a file that may be read\n",
        ),
    ] {
        let output = pulsegate(folder.path(), &arguments);
        assert_eq!(String::from_utf8_lossy(&output.stderr), said);
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn the_file_in_the_readme_is_valid() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("```toml\n").expect("README.md has a configuration file");
    let (file, _) = rest.split_once("```").expect("README.md: the file ends");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("gate.toml"), file).expect("written");
    let output = pulsegate(folder.path(), &["check", "gate.toml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
