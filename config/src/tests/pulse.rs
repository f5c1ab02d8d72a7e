//! The keys of a listener that belong to one protocol: what goes together, and where errors point.

use super::{check, check_key, parsed};
use pulsegate_core::policy::{Policy, Protocol, SecondConnection};
use std::time::Duration;

/// One listener with these lines, which begin in line 3.
fn listener(lines: &str) -> String {
    format!("[[listener]]\nlisten = \"127.0.0.1:1\"\n{lines}\n")
}

fn policy_of(lines: &str) -> Policy {
    parsed(&listener(lines)).listeners.remove(0).policy
}

#[test]
fn words_reach_their_settings() {
    for (written, protocol) in [("raw", Protocol::Raw), ("pulse", Protocol::Pulse), ("auto", Protocol::Auto)]
    {
        assert_eq!(policy_of(&format!("protocol = \"{written}\"")).protocol, protocol);
    }
    for (written, second) in [
        ("allow", SecondConnection::Allow),
        ("replace", SecondConnection::Replace),
        ("refuse", SecondConnection::Refuse),
    ] {
        let policy = policy_of(&format!("protocol = \"pulse\"\nsecond_connection = \"{written}\""));
        assert_eq!(policy.pulse.second_connection, second);
    }
    check_key(
        "protocol = \"http\"",
        12,
        "protocol: unknown value \"http\"",
        "give it \"raw\", \"pulse\" or \"auto\"",
    );
    check_key(
        "second_connection = \"drop\"",
        21,
        "second_connection: unknown value \"drop\"",
        "give it \"allow\", \"replace\" or \"refuse\"",
    );
}

/// What belongs to the pulse protocol, each with a sound value.
const OF_PULSE: [(&str, &str); 5] = [
    ("window_messages_max", "256"),
    ("window_bytes_max", "\"256KiB\""),
    ("heartbeat_timeout_max", "\"5m\""),
    ("session_timeout", "\"1h\""),
    ("second_connection", "\"allow\""),
];

/// What is for raw clients, each with a sound value.
const OF_RAW: [(&str, &str); 4] =
    [("heartbeat", "\"any\""), ("framing", "\"chunks\""), ("reply", "\"OK\""), ("farewell", "\"BYE\"")];

#[test]
fn what_belongs_to_pulse_is_refused_at_a_raw_listener() {
    for (key, value) in OF_PULSE {
        let problem = format!("{key}: it belongs to the pulse protocol, but this listener is raw");
        let help = "take it out, or set `protocol` to pulse or auto";
        parsed(&listener(&format!("{key} = {value}")));
        let said = listener(&format!("protocol = \"raw\"\n{key} = {value}"));
        check(&said, 4, key.len() + 4, &problem, help);
    }
}

#[test]
fn what_is_for_raw_clients_is_refused_at_a_pulse_listener() {
    for (key, value) in OF_RAW {
        check(
            &listener(&format!("protocol = \"pulse\"\n{key} = {value}")),
            4,
            key.len() + 4,
            &format!("{key}: it is for raw clients, but a pulse listener has none"),
            "take it out, or set `protocol` to auto",
        );
    }
}

#[test]
fn where_both_are_spoken_all_of_it_goes_together() {
    let lines = OF_PULSE.iter().chain(&OF_RAW).map(|(key, value)| format!("{key} = {value}\n"));
    let policy = policy_of(&format!("protocol = \"auto\"\n{}", lines.collect::<String>()));
    assert_eq!(policy.pulse.heartbeat_timeout_max, Some(Duration::from_secs(300)));
    assert_eq!(policy.reply.as_deref(), Some("OK"));
}

#[test]
fn only_long_connections_get_a_longer_heartbeat_timeout() {
    check(
        &listener(
            "lifetime = \"short\"\ndeadline = \"5s\"\nprotocol = \"auto\"\nheartbeat_timeout_max = \"3s\"",
        ),
        6,
        25,
        "heartbeat_timeout_max: it belongs to long connections, but these are short",
        "take it out, or set `lifetime` to long",
    );
}

#[test]
fn the_window_holds_one_of_the_longest_messages() {
    let window = |lines: &str| policy_of(&format!("protocol = \"auto\"\n{lines}")).pulse.window.bytes;
    assert_eq!(window(""), 256 * 1024);
    assert_eq!(window("message_bytes_max = \"1MB\""), 1_000_000);
    assert_eq!(window("message_bytes_max = \"8MB\"\nwindow_bytes_max = \"64MiB\""), 64 * 1024 * 1024);
    check(
        &listener("protocol = \"auto\"\nmessage_bytes_max = \"1MB\"\nwindow_bytes_max = \"256KiB\""),
        5,
        20,
        "window_bytes_max: the window has to hold at least one of the longest messages",
        "raise it to `message_bytes_max` or more",
    );
}

#[test]
fn values_out_of_range_are_refused() {
    let messages = "give it a whole number from 1 to 1000000";
    for (key, column, problem, fix) in [
        ("window_messages_max = 0", 23, "0 is out of range", messages),
        ("window_messages_max = 1000001", 23, "1000001 is out of range", messages),
        ("window_messages_max = 4294967297", 23, "4294967297 is out of range", messages),
        ("window_bytes_max = \"65MiB\"", 20, "65MiB is out of range", "give it a size from 1B to 64MiB"),
        (
            "message_bytes_max = \"17MB\"",
            21,
            "the pulse protocol carries at most 16MB in a message",
            "lower it to 16MB or less, or set `protocol` to raw",
        ),
        (
            "session_timeout = \"366days\"",
            19,
            "366days is out of range",
            "give it a duration above 0s, up to 365days",
        ),
        (
            "heartbeat_timeout_max = \"25h\"",
            25,
            "25h is longer than `age_max`, 24h",
            "lower it to 24h or less, or raise `age_max`",
        ),
    ] {
        let name = key.split(' ').next().expect("a key");
        let text = listener(&format!("protocol = \"pulse\"\n{key}"));
        check(&text, 4, column, &format!("{name}: {problem}"), fix);
    }
    check(
        &listener("protocol = \"pulse\"\nheartbeat_timeout = \"9s\"\nheartbeat_timeout_max = \"8s\""),
        4,
        21,
        "heartbeat_timeout: 9s is longer than `heartbeat_timeout_max`, 8s",
        "lower it to 8s or less, or raise `heartbeat_timeout_max`",
    );
}
