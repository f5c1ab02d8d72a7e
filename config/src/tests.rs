//! Configuration files, good and bad: what comes out, and where errors point.

mod keys;
mod pulse;
mod store;

use super::*;
use proptest::prelude::*;
use pulsegate::config::SINKS;
use std::io::Write;

fn parsed(text: &str) -> Config {
    match parse(text, "f.toml", &SINKS) {
        Ok(config) => config,
        Err(error) => panic!("{error}"),
    }
}

fn refused(text: &str) -> ConfigError {
    parse(text, "f.toml", &SINKS).expect_err("the file is wrong")
}

/// Checks place, problem and help of the error in a file.
#[track_caller]
fn check(text: &str, line: usize, column: usize, problem: &str, help: &str) {
    let error = refused(text);
    assert_eq!(
        (error.position(), error.problem(), error.help()),
        (Some((line, column)), problem, help),
        "\n{text}\n{error}"
    );
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
    let error =
        refused("[[listener]]\nlisten = \"127.0.0.1:1\"\nmax_age = \"8s\"\nfirst_message = \"10s\" # slow\n");
    assert_eq!(
        error.to_string(),
        "f.toml:4:17: first_message: 10s is longer than max_age, 8s, so it could never come\n  \
           4 | first_message = \"10s\" # slow\n    \
             |                 ^^^^^\n\
         help: lower first_message to 8s or less, or raise max_age"
    );
}

#[test]
fn syntax_errors_have_a_place() {
    let quotes = "put words, durations and addresses in quotes, e.g. \"10s\"";
    for (text, line, column, problem, help) in [
        ("[[listener]]\nlisten =\n", 2, 9, "the value is missing", "write it behind the `=`"),
        ("[[listener]]\nlisten\n", 2, 7, "key with no value", "expected `=`"),
        ("[[listener]\n", 1, 12, "unclosed array table", "expected `]`"),
        ("log = text\n", 1, 7, "this is not a value", quotes),
        ("[[listener]]\nlisten = 127.0.0.1:7373\n", 2, 10, "this is not a value", quotes),
        ("drain_within = 1m 30s\n", 1, 16, "this is not a value", quotes),
        ("shards = 01\n", 1, 10, "unexpected leading zero", "mend the TOML, see https://toml.io"),
        ("ä = 'ö' x\n", 1, 9, "unexpected key or value", "expected newline, `#`"),
        ("# ä\0\n", 1, 4, "this is not text", "save the file as UTF-8 text"),
        (
            "log = \"text\"\nlog = \"json\"\n",
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
fn unknown_keys_come_with_the_known_ones() {
    let listener_keys = RawListener::KEYS.join(", ");
    let file_keys = RawFile::KEYS.join(", ");
    check_key(
        "heartbeat-timeout = \"5s\"",
        1,
        "unknown key `heartbeat-timeout`",
        &format!("did you mean `heartbeat_timeout`? known keys of a listener: {listener_keys}"),
    );
    check_key("colour = 1", 1, "unknown key `colour`", &format!("known keys of a listener: {listener_keys}"));
    check_top("colour = 1", 1, "unknown key `colour`", &format!("known keys of the top level: {file_keys}"));
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
    for (key, column, problem, help) in [
        ("max_age = 10", 11, "10 has no unit", "add a unit, e.g. \"10s\""),
        ("max_age = \"10\"", 11, "10 has no unit", "add a unit, e.g. 10s"),
        ("max_age = 1.5", 11, "1.5 has no unit", "add a unit, e.g. \"10s\""),
        ("max_age = \"soon; now\"", 11, "\"soon; now\" is not a duration", duration),
        ("max_age = true", 11, "invalid type: boolean `true`", "expected a duration such as \"10s\""),
        ("message_bytes_max = \"big\"", 21, "\"big\" is not a size", size),
        ("message_bytes_max = -1", 21, "-1 is not a size", size),
        ("message_bytes_max = 99999999999999999999", 21, "99999999999999999999 is not a size", size),
        ("max_connections = 0", 19, "0 is not a count", count),
        ("max_per_address = -1", 19, "-1 is not a count", count),
        ("max_newcomers = 99999999999999999999", 17, "99999999999999999999 is not a count", count),
        ("max_newcomers = \"9\"", 17, "invalid type: string \"9\"", count),
        (
            "accept_rate = 4294967296",
            15,
            "accept_rate: that is more than can be counted",
            "give it at most 4294967295",
        ),
        ("lifetime = \"medium\"", 12, "unknown value `medium`", "expected `short` or `long`"),
        ("lifetime = 5", 12, "this is not a string", "expected a word in quotes"),
        ("sink = 5", 8, "invalid type: integer `5`", "expected a string"),
    ] {
        check_key(key, column, problem, help);
    }
    check_top("print = \"xml\"", 9, "unknown value `xml`", "expected `human` or `json`");
    check_top("shards = 0", 10, "0 is not a count", count);
    check(
        "[listener]\nlisten = \"127.0.0.1:1\"\n",
        1,
        1,
        "this makes one table of the listeners",
        "write [[listener]], with two brackets",
    );
    check("listener = [5]\n", 1, 13, "invalid type: integer `5`", "expected a listener table");
    check(
        "[[listener]]\nlisten = \"localhost:80\"\n",
        2,
        10,
        "\"localhost:80\" is not an address",
        "expected an IP address and a port such as 127.0.0.1:7373 or [::1]:7373",
    );
}

#[test]
fn keys_that_do_not_go_together_are_refused() {
    for (key, column, problem, help) in [
        (
            "deadline = \"5s\"",
            12,
            "deadline belongs to lifetime = \"short\", but this listener is long",
            "take it out, or set lifetime = \"short\"",
        ),
        ("lifetime = \"short\"", 12, "a short listener needs a deadline", "add deadline = \"30s\""),
        (
            "minimum_rate_grace = \"5s\"",
            22,
            "minimum_rate_grace says nothing without minimum_rate",
            "add minimum_rate = \"100B\", or take it out",
        ),
        (
            "heartbeat = \"PING\"",
            13,
            "heartbeat: a named heartbeat is a line, but the framing is chunks",
            "set the framing to lines",
        ),
    ] {
        check_key(key, column, problem, help);
    }
    for key in ["heartbeat_timeout", "max_age"] {
        check(
            &format!(
                "[[listener]]\nlisten = \"[::1]:0\"\nlifetime = \"short\"\ndeadline = \"5s\"\n{key} = \"1s\"\n"
            ),
            5,
            key.len() + 4,
            &format!("{key} belongs to lifetime = \"long\", but this listener is short"),
            "take it out, or set lifetime = \"long\"",
        );
    }
}

#[test]
fn values_out_of_range_are_refused() {
    for (key, column, problem, help) in [
        (
            "linger = \"0s\"",
            10,
            "linger: zero would end every connection at once",
            "give it a value above zero",
        ),
        ("max_age = \"2years\"", 11, "max_age: more than a year is no bound", "give it at most 365 days"),
        (
            "message_bytes_max = 0",
            21,
            "message_bytes_max: zero bytes let nothing through",
            "give it at least 1 byte",
        ),
        (
            "minimum_rate = 0",
            16,
            "minimum_rate: a floor of zero bytes per second is none",
            "raise it, or leave it out",
        ),
        (
            "minimum_rate = \"2GB\"",
            16,
            "minimum_rate: no peer sends more than 1 GB per second",
            "give it at most 1GB",
        ),
        ("user_timeout = \"999ms\"", 16, "user_timeout: 999ms is out of range", "give it 1s to 24days"),
        ("keepalive = \"0s\"", 13, "keepalive: 0s is out of range", "give it 1s to 9h 6m 7s"),
        (
            "sink = \"kafka\"",
            8,
            "sink: there is no sink \"kafka\"",
            "known sinks: print, echo, discard, store",
        ),
        (
            "farewell = \"a\\nb\"",
            12,
            "farewell: it has to be one line of at most 512 bytes",
            "shorten it; the line end is added",
        ),
    ] {
        check_key(key, column, problem, help);
    }
    for (key, column, problem, help) in [
        ("drain_within = \"61m\"", 16, "drain_within: 1h 1m is out of range", "give it 0s to 1h"),
        ("summary_every = \"0s\"", 17, "summary_every: 0s is out of range", "give it 1s to 24h"),
        (
            "sink_queue_bytes_max = 1",
            24,
            "sink_queue_bytes_max: 1 bytes are out of range",
            "give it 64KiB to 1GiB",
        ),
        (
            "shards = 1025",
            10,
            "shards: more than 1024 threads are no gain",
            "give it at most 1024, or leave it out",
        ),
    ] {
        check_top(key, column, problem, help);
    }
}

#[test]
fn what_is_absent_points_at_the_header() {
    let help = "add a [[listener]] table with listen = \"127.0.0.1:7373\"";
    check("", 1, 1, "listener: there is no listener", help);
    check("\u{feff}", 1, 1, "listener: there is no listener", help);
    check("log = \"json\"\nlistener = []\n", 2, 12, "listener: there is no listener", help);
    check(
        "\n[[listener]]\nlisten = \"[::1]:1\"\n\n  [[listener]]\nsink = \"echo\"\n",
        5,
        3,
        "this listener has no address",
        "add listen = \"127.0.0.1:7373\"",
    );
    check(
        "[[listener]]\nlisten = \"[::1]:1\"\nheartbeat_timeout = \"25h\"\n",
        3,
        21,
        "heartbeat_timeout: 90000s is longer than max_age, 86400s, so it could never come",
        "lower heartbeat_timeout to 86400s or less, or raise max_age",
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
        "give each listener an address of its own",
    );
    assert_eq!(parsed(&twice("[::1]:0")).listeners.len(), 2);
}

#[test]
fn defaults_follow_a_brief_lifetime() {
    let config = parsed(
        "[[listener]]\nlisten = \"[::1]:1\"\nmax_age = \"2s\"\n\
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

fn read_bytes(bytes: &[u8]) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("written");
    read(file.path(), &SINKS)
}

#[test]
fn files_that_are_no_text_are_refused() {
    let error = read_bytes(b"# \xc3\xa4\nlog = \"\xff\xfe\"\n").expect_err("not UTF-8");
    assert_eq!((error.position(), error.problem()), (Some((2, 8)), "this is not UTF-8"));
    assert_eq!(read_bytes(&[0; 100]).expect_err("only NUL").position(), Some((1, 1)));
    let folder = tempfile::tempdir().expect("a folder");
    let error = read(folder.path(), &SINKS).expect_err("a folder");
    assert!(error.position().is_none() && error.problem().starts_with("can't be read: "), "{error}");
    let error = read(&folder.path().join("absent"), &SINKS).expect_err("no file");
    assert_eq!(error.problem(), "can't be read: No such file or directory (os error 2)");
}

#[test]
fn a_file_may_be_one_mebibyte_and_no_more() {
    let mut text = b"[[listener]]\nlisten = \"127.0.0.1:7373\"\n#".to_vec();
    text.resize(FILE_BYTES_MAX, b'x');
    assert_eq!(read_bytes(&text), Ok(Config::default()));
    text.push(b'x');
    assert_eq!(read_bytes(&text).expect_err("too large").problem(), "is larger than 1 MiB");
    let endless = read(Path::new("/dev/zero"), &SINKS).expect_err("endless");
    assert_eq!(endless.problem(), "is larger than 1 MiB");
}

/// One line of a file, right or wrong.
fn any_line() -> impl Strategy<Value = String> {
    let keys: Vec<&str> = [RawFile::KEYS, RawStore::KEYS, RawListener::KEYS].concat();
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
            prop_assert!(said.contains("\nhelp: "));
            prop_assert_eq!(said.lines().count(), 4);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = read_bytes(&bytes);
    }
}
