//! Configuration files, good and bad: what comes out, and where errors point.

mod documents;
mod keys;
mod pulse;
mod store;

use super::*;
use proptest::prelude::*;
use pulsegate::config::keys::{GATEWAY, LISTENER, STORE};
use pulsegate::config::{Config, SINKS};
use pulsegate_core::policy::LifetimePolicy;
use std::io::Write;
use std::time::Duration;

fn parsed(text: &str) -> Config {
    match parse(text, "f.toml", &SINKS) {
        Ok(settings) => settings.config,
        Err(error) => panic!("{error}"),
    }
}

fn refused(text: &str) -> FileError {
    parse(text, "f.toml", &SINKS).expect_err("the file is wrong")
}

/// Checks place, problem and fix of the one fault in a file.
#[track_caller]
fn check(text: &str, line: usize, column: usize, problem: &str, fix: &str) {
    let error = refused(text);
    let told: Vec<_> =
        error.marks().iter().map(|mark| (mark.position(), mark.problem(), mark.fix())).collect();
    assert_eq!(told, [(Some((line, column)), problem, fix)], "\n{text}\n{error}");
}

/// As [`check`], for one key in a listener that is otherwise sound; the key stands in line 3.
#[track_caller]
fn check_key(key: &str, column: usize, problem: &str, help: &str) {
    check(&format!("[[listener]]\nlisten = \"127.0.0.1:1\"\n{key}\n"), 3, column, problem, help);
}

/// As [`check`], for a key of the top level, in line 1.
#[track_caller]
fn check_top(key: &str, column: usize, problem: &str, help: &str) {
    check(&format!("{key}\n[[listener]]\nlisten = \"127.0.0.1:1\"\n"), 1, column, problem, help);
}

#[test]
fn an_error_shows_the_place_and_what_to_do() {
    let error = refused(
        "[[listener]]\nlisten = \"127.0.0.1:1\"\nage_max = \"8s\"\nfirst_message_timeout = \"10s\" # slow\n",
    );
    assert_eq!(
        error.to_string(),
        "f.toml:4:25: first_message_timeout: 10s is longer than `age_max`, 8s\n  \
           4 | first_message_timeout = \"10s\" # slow\n    \
             |                         ^^^^^\n\
         help: lower it to 8s or less, or raise `age_max`"
    );
}

const MANY: &str = r#"shard = 2
drain_within = 3
[store]
durability = "none"
[[listener]]
listen = "localhost:7373"
age_max = "8s"
first_message_timeout = "10s"
[[listener]]
listen = "0.0.0.0:75010"
message_bytes_max = "big"
window_bytes_max = "64KiB"
[[listener]]
listen = 127.0.0.1:7374
sink = "strore"
[[listener]]
listen = "0.0.0.0:9000"
lifetime = "short"
[[listener]]
listen = "127.0.0.1:9000"
[[listener]]
listen = "127.0.0.1:7373"
"#;

#[test]
fn all_faults_of_a_file_are_told_at_once_and_nothing_that_only_follows_from_them() {
    let error = refused(MANY);
    let told: Vec<_> =
        error.marks().iter().map(|mark| (mark.position().expect("a place").0, mark.problem())).collect();
    let all = [
        (1, "unknown key `shard`"),
        (2, "drain_within: 3 has no unit"),
        (4, "durability: unknown value \"none\""),
        (6, "listen: \"localhost\" is a host name"),
        (8, "first_message_timeout: 10s is longer than `age_max`, 8s"),
        (10, "listen: there is no port 75010"),
        (11, "message_bytes_max: \"big\" is not a size"),
        (14, "this is not a value"),
        (15, "sink: there is no sink \"strore\""),
        (18, "deadline: with `lifetime` = \"short\" it is required"),
        (20, "listen: 0.0.0.0:9000 takes 127.0.0.1:9000 too, and another listener has that"),
    ];
    assert_eq!(told, all);
    assert!(error.to_string().ends_with("\n\nf.toml: 11 faults"));
}

#[test]
fn syntax_errors_have_a_place() {
    let quotes = "put words, durations and addresses in quotes, e.g. \"10s\"";
    for (text, line, column, problem, help) in [
        ("[[listener]]\nlisten =\n", 2, 9, "the value is missing", "write it behind the `=`"),
        ("[[listener]]\nlisten\n", 2, 7, "key with no value", "expected `=`"),
        ("[[listener]\n", 1, 12, "unclosed array table", "expected `]`"),
        ("log = text\n[[listener]]\nlisten = '[::1]:1'", 1, 7, "this is not a value", quotes),
        ("[[listener]]\nlisten = 127.0.0.1:7373\n", 2, 10, "this is not a value", quotes),
        ("drain_within = 1m 30s\n[[listener]]\nlisten = '[::1]:1'", 1, 16, "this is not a value", quotes),
        (
            "shards = 01\n[[listener]]\nlisten = '[::1]:1'",
            1,
            10,
            "unexpected leading zero",
            "fix the TOML, see https://toml.io",
        ),
        (
            "ä = 'ö' x\n[[listener]]\nlisten = '[::1]:1'",
            1,
            9,
            "unexpected key or value",
            "expected newline, `#`",
        ),
        ("# ä\0\n", 1, 4, "this is not text", "save the file as UTF-8 text"),
        (
            "log = \"text\"\nlog = \"json\"\n[[listener]]\nlisten = '[::1]:1'",
            2,
            1,
            "this key is already set above",
            "write each key once per table",
        ),
    ] {
        check(text, line, column, problem, help);
    }
}

#[test]
fn unknown_keys_come_with_the_nearest_ones() {
    check_key(
        "heartbeat-timeout = \"5s\"",
        1,
        "unknown key `heartbeat-timeout`",
        "did you mean `heartbeat_timeout`?",
    );
    check_key(
        "timeout = \"5s\"",
        1,
        "unknown key `timeout`",
        "did you mean `heartbeat_timeout`, `write_timeout` or `sink_timeout`?",
    );
    check_key("colour = 1", 1, "unknown key `colour`", "docs/reference.md has all keys");
    check_top("colour = 1", 1, "unknown key `colour`", "docs/reference.md has all keys");
    check_key(
        "shards = 2",
        1,
        "unknown key `shards`",
        "it is a key of the whole gateway: put it above the first [store] or [[listener]]",
    );
    check_top(
        "framing = \"lines\"",
        1,
        "unknown key `framing`",
        "it is a key of a listener: put it below a [[listener]]",
    );
}

#[test]
fn wrong_types_have_a_place() {
    let duration = "expected a duration such as 10s, 250ms, 24h or 1m 30s";
    let size = "expected a size such as 64KiB, 1MB or 4096 (bytes)";
    let count = "expected a whole number of at least 1";
    for (key, column, problem, fix) in [
        ("age_max = 10", 11, "10 has no unit", "add a unit, e.g. \"10s\""),
        ("age_max = \"10\"", 11, "10 has no unit", "add a unit, e.g. \"10s\""),
        ("age_max = 1.5", 11, "1.5 has no unit", "add a unit, e.g. \"10s\""),
        ("age_max = \"soon; now\"", 11, "\"soon; now\" is not a duration", duration),
        (
            "age_max = true",
            11,
            "this is of the type boolean",
            "give it a duration above 0s, up to 365days, in quotes",
        ),
        ("message_bytes_max = \"big\"", 21, "\"big\" is not a size", size),
        ("message_bytes_max = -1", 21, "-1 is not a size", size),
        ("message_bytes_max = 99999999999999999999", 21, "99999999999999999999 is not a size", size),
        ("connections_max = 0", 19, "0 is out of range", "give it a whole number of at least 1"),
        ("connections_per_address_max = -1", 31, "-1 is not a count", count),
        ("newcomers_max = 99999999999999999999", 17, "99999999999999999999 is not a count", count),
        ("newcomers_max = \"9\"", 17, "\"9\" is in quotes", "write the number without quotes"),
        ("lifetime = \"medium\"", 12, "unknown value \"medium\"", "give it \"short\" or \"long\""),
        ("lifetime = 5", 12, "this is of the type integer", "give it \"short\" or \"long\", in quotes"),
    ] {
        let name = key.split(' ').next().expect("a key");
        check_key(key, column, &format!("{name}: {problem}"), fix);
    }
    check_top("print = \"xml\"", 9, "print: unknown value \"xml\"", "give it \"human\" or \"json\"");
    check_top("shards = 0", 10, "shards: 0 is out of range", "give it a whole number from 1 to 1024");
    check_top(
        "shards = 0x10000",
        10,
        "shards: 65536 is out of range",
        "give it a whole number from 1 to 1024",
    );
    check(
        "[listener]\nlisten = \"127.0.0.1:1\"\n",
        1,
        1,
        "this makes one table of the listeners",
        "write [[listener]], with two brackets",
    );
    check("listener = [5]\n", 1, 13, "a listener is a table", "write [[listener]], and its keys below it");
    check("listener = 5\n", 1, 12, "a listener is a table", "write [[listener]], and its keys below it");
    check(
        "[[listener]]\nlisten = \"localhost:80\"\n",
        2,
        10,
        "listen: \"localhost\" is a host name",
        "give it the IP address, such as 127.0.0.1:80, or 0.0.0.0:80 for all of this machine",
    );
}

#[test]
fn keys_that_do_not_go_together_are_refused() {
    for (key, column, problem, fix) in [
        (
            "deadline = \"5s\"",
            12,
            "deadline: it belongs to short connections, but these are long",
            "take it out, or set `lifetime` to short",
        ),
        (
            "lifetime = \"short\"",
            12,
            "deadline: with `lifetime` = \"short\" it is required",
            "add `deadline` = \"30s\"",
        ),
        (
            "minimum_rate_grace = \"5s\"",
            22,
            "minimum_rate_grace: it says nothing without `minimum_rate`",
            "add `minimum_rate`, or take it out",
        ),
        (
            "heartbeat = \"PING\"",
            13,
            "heartbeat: a named heartbeat is a line, but the framing is chunks",
            "set `framing` to lines",
        ),
    ] {
        check_key(key, column, problem, fix);
    }
    for key in ["heartbeat_timeout", "age_max"] {
        check(
            &format!(
                "[[listener]]\nlisten = \"[::1]:0\"\nlifetime = \"short\"\ndeadline = \"5s\"\n{key} = \"1s\"\n"
            ),
            5,
            key.len() + 4,
            &format!("{key}: it belongs to long connections, but these are short"),
            "take it out, or set `lifetime` to long",
        );
    }
}

#[test]
fn values_out_of_range_are_refused() {
    let life = "give it a duration above 0s, up to 365days";
    for (key, column, problem, fix) in [
        ("linger_timeout = \"0s\"", 18, "0s is out of range", life),
        ("age_max = \"2years\"", 11, "2years is out of range", life),
        ("message_bytes_max = 0", 21, "0B is out of range", "give it a size from 1B to 64MiB"),
        ("minimum_rate = 0", 16, "0B is out of range", "give it a size from 1B to 1GB"),
        ("minimum_rate = \"2GB\"", 16, "2GB is out of range", "give it a size from 1B to 1GB"),
        (
            "accept_rate_max = 4294967296",
            19,
            "4294967296 is out of range",
            "give it a whole number from 1 to 1000000",
        ),
        ("user_timeout = \"999ms\"", 16, "999ms is out of range", "give it a duration from 1s to 24days"),
        ("keepalive = \"0s\"", 13, "0s is out of range", "give it a duration from 1s to 9h 6m 7s"),
        ("sink = \"kafka\"", 8, "there is no sink \"kafka\"", "known sinks: print, echo, discard, store"),
        ("farewell = \"a\\nb\"", 12, "it is more than one line", "write one line; its line end is added"),
        ("reply = \"OK {number}\"", 9, "there is no placeholder {number}", "write {n}"),
    ] {
        let name = key.split(' ').next().expect("a key");
        check_key(key, column, &format!("{name}: {problem}"), fix);
    }
    for (key, column, problem, fix) in [
        ("drain_within = \"61m\"", 16, "1h 1m is out of range", "give it a duration from 0s to 1h"),
        ("summary_every = \"0s\"", 17, "0s is out of range", "give it a duration from 1s to 24h"),
        ("sink_queue_bytes_max = 1", 24, "1B is out of range", "give it a size from 64KiB to 1GiB"),
        ("shards = 1025", 10, "1025 is out of range", "give it a whole number from 1 to 1024"),
    ] {
        let name = key.split(' ').next().expect("a key");
        check_top(key, column, &format!("{name}: {problem}"), fix);
    }
}

#[test]
fn what_is_absent_points_at_the_header() {
    let help = "add a [[listener]] table with `listen` = \"127.0.0.1:7373\"";
    check("", 1, 1, "listener: there is no listener", help);
    check("\u{feff}", 1, 1, "listener: there is no listener", help);
    check("log = \"json\"\nlistener = []\n", 2, 12, "listener: there is no listener", help);
    check(
        "\n[[listener]]\nlisten = \"[::1]:1\"\n\n  [[listener]]\nsink = \"echo\"\n",
        5,
        3,
        "listen: this listener has no address",
        "add `listen` = \"127.0.0.1:7373\"",
    );
    check(
        "[[listener]]\nlisten = \"[::1]:1\"\nheartbeat_timeout = \"25h\"\n",
        3,
        21,
        "heartbeat_timeout: 25h is longer than `age_max`, 24h",
        "lower it to 24h or less, or raise `age_max`",
    );
}

#[test]
fn an_address_stands_once() {
    let twice = |address: &str| {
        format!("[[listener]]\nlisten = \"{address}\"\n[[listener]]\nlisten = \"{address}\"\n")
    };
    check(
        &twice("[::1]:7373"),
        4,
        10,
        "listen: [::1]:7373 is the address of another listener too",
        "give each listener a port of its own",
    );
    assert_eq!(parsed(&twice("[::1]:0")).listeners.len(), 2);
}

#[test]
fn defaults_follow_a_brief_lifetime() {
    let config = parsed(
        "[[listener]]\nlisten = \"[::1]:1\"\nage_max = \"2s\"\n\
         [[listener]]\nlisten = \"[::1]:2\"\nlifetime = \"short\"\ndeadline = \"3s\"\n",
    );
    let seconds = Duration::from_secs;
    let lifetimes: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| (listener.policy.lifetime, listener.policy.first_message))
        .collect();
    assert_eq!(
        lifetimes,
        [
            (LifetimePolicy::Long { heartbeat_timeout: seconds(2), max_age: seconds(2) }, seconds(2)),
            (LifetimePolicy::Short { deadline: seconds(3) }, seconds(3)),
        ]
    );
}

fn read_bytes(bytes: &[u8]) -> Result<Config, FileError> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("written");
    read(file.path(), &SINKS).map(|settings| settings.config)
}

/// What is said of a file in which one thing is wrong.
fn only(error: &FileError) -> &Mark {
    let [mark] = error.marks() else { panic!("{error}") };
    mark
}

#[test]
fn files_that_are_no_text_are_refused() {
    let error = read_bytes(b"# \xc3\xa4\nlog = \"\xff\xfe\"\n").expect_err("not UTF-8");
    assert_eq!((only(&error).position(), only(&error).problem()), (Some((2, 8)), "this is not UTF-8"));
    assert_eq!(only(&read_bytes(&[0; 100]).expect_err("only NUL")).position(), Some((1, 1)));
    let folder = tempfile::tempdir().expect("a folder");
    let error = read(folder.path(), &SINKS).expect_err("a folder");
    assert!(
        only(&error).position().is_none() && only(&error).problem().starts_with("can't be read: "),
        "{error}"
    );
    let error = read(&folder.path().join("absent"), &SINKS).expect_err("no file");
    assert_eq!(only(&error).problem(), "can't be read: No such file or directory (os error 2)");
}

#[test]
fn a_file_may_be_one_mebibyte_and_no_more() {
    let mut text = b"[[listener]]\nlisten = \"127.0.0.1:7373\"\n#".to_vec();
    text.resize(FILE_BYTES_MAX, b'x');
    assert_eq!(read_bytes(&text), Ok(Config::default()));
    text.push(b'x');
    assert_eq!(only(&read_bytes(&text).expect_err("too large")).problem(), "is larger than 1 MiB");
    let endless = read(Path::new("/dev/zero"), &SINKS).expect_err("endless");
    assert_eq!(only(&endless).problem(), "is larger than 1 MiB");
}

/// One line of a file, right or wrong.
fn any_line() -> impl Strategy<Value = String> {
    let keys: Vec<&str> = (GATEWAY.iter().map(|key| key.name))
        .chain(STORE.iter().map(|key| key.name))
        .chain(LISTENER.iter().map(|key| key.name))
        .collect();
    let values = prop_oneof![
        Just("\"10s\"".to_owned()),
        Just("\"short\"".to_owned()),
        Just("\"127.0.0.1:0\"".to_owned()),
        "-?[0-9]{1,40}",
        "\"[0-9]{1,21}(s|ms|y|KiB|EiB)?\"",
        "\\PC{0,12}",
    ];
    prop_oneof![
        Just("[[listener]]".to_owned()),
        Just("[store]".to_owned()),
        (proptest::sample::select(keys), values).prop_map(|(key, value)| format!("{key} = {value}")),
        ".{0,20}",
    ]
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(lines in proptest::collection::vec(any_line(), 0..8), tail in ".*") {
        if let Err(error) = parse(&(lines.join("\n") + &tail), "f.toml", &SINKS) {
            let said = error.to_string();
            prop_assert!(!error.marks().is_empty());
            prop_assert_eq!(said.matches("\nhelp: ").count(), error.marks().len());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = read_bytes(&bytes);
    }
}
