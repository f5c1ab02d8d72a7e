//! The table of the store: what is refused, and where errors point.

use super::{check, check_top, parsed};
use pulsegate::config::Durability;

const LISTENER: &str = "[[listener]]\nlisten = \"127.0.0.1:1\"\n";

/// As [`check`], for one key of the store; the key stands in line 2.
#[track_caller]
fn check_store(key: &str, column: usize, problem: &str, help: &str) {
    check(&format!("[store]\n{key}\n{LISTENER}"), 2, column, problem, help);
}

#[test]
fn both_durabilities_are_read() {
    for (written, durability) in [("os", Durability::Os), ("synced", Durability::Synced)] {
        let config = parsed(&format!("[store]\ndurability = \"{written}\"\n{LISTENER}sink = \"store\"\n"));
        assert_eq!(config.store_config().durability, durability);
    }
    check_store(
        "durability = \"none\"",
        14,
        "durability: unknown value \"none\"",
        "give it \"os\" or \"synced\"",
    );
}

#[test]
fn the_store_s_files_without_the_store_are_refused() {
    let problem = "no listener has the sink store, so that nothing is kept on disk";
    let help = "set the `sink` of a listener to store, or take it out";
    check_store("data_dir = \"data\"", 12, &format!("data_dir: {problem}"), help);
    check_store("durability = \"os\"", 14, &format!("durability: {problem}"), help);
    parsed(&format!("[store]\nsessions_max = 5\n{LISTENER}protocol = \"auto\"\n"));
}

#[test]
fn values_out_of_range_are_refused() {
    for (key, column, problem, fix) in [
        ("data_dir = 5", 12, "this is of the type integer", "give it a folder, in quotes"),
        ("sessions_max = 0", 16, "0 is out of range", "give it a whole number from 1 to 1000000000"),
        (
            "sessions_max = 1000000001",
            16,
            "1000000001 is out of range",
            "give it a whole number from 1 to 1000000000",
        ),
        ("queue_bytes_max = \"63KiB\"", 19, "63KiB is out of range", "give it a size from 64KiB to 1GiB"),
        (
            "retention_age_max = \"11years\"",
            21,
            "11years is out of range",
            "give it a duration from 1s to 10years",
        ),
        ("retention_bytes_max = 1000", 23, "1kB is out of range", "give it a size from 1MiB to 1PiB"),
        ("quota_bytes_max = 64", 19, "64B is out of range", "give it a size from 65B to 1PiB"),
        ("quota_every = \"31days\"", 15, "31days is out of range", "give it a duration from 1s to 30days"),
        (
            "outgoing_messages_max = 1000001",
            25,
            "1000001 is out of range",
            "give it a whole number from 1 to 1000000",
        ),
        ("outgoing_bytes_max = \"2GiB\"", 22, "2GiB is out of range", "give it a size from 1B to 1GiB"),
        ("wal_bytes = \"100KiB\"", 13, "100KiB is out of range", "give it a size from 256KiB to 1GiB"),
    ] {
        let name = key.split(' ').next().expect("a key");
        check_store(key, column, &format!("{name}: {problem}"), fix);
    }
    check(
        &format!("[store]\ndata_dir = \"\"\n{LISTENER}sink = \"store\"\n"),
        2,
        12,
        "data_dir: it is empty or contains a NUL byte",
        "name a folder, such as data",
    );
}

#[test]
fn a_store_takes_what_its_listeners_send() {
    let large = format!("{LISTENER}sink = \"store\"\nmessage_bytes_max = \"9MB\"\n");
    let problem = "queue_bytes_max: 16MiB is too little for messages of up to 9MB";
    let help = "raise it to 18MB or more, or lower `message_bytes_max`";
    check(&large, 4, 21, problem, help);
    check(&format!("[store]\n{large}"), 5, 21, problem, help);
    check(&format!("[store]\nqueue_bytes_max = \"16MiB\"\n{large}"), 2, 19, problem, help);
    parsed(&format!("[store]\nqueue_bytes_max = \"18MB\"\n{large}"));
    parsed(&large.replace("\"store\"", "\"discard\"\nprotocol = \"raw\""));

    check(
        &format!("[store]\nquota_bytes_max = 1000\n{LISTENER}protocol = \"auto\"\n"),
        2,
        19,
        "quota_bytes_max: 1kB is too little for messages of up to 64KiB",
        "raise it to 65600B or more, or lower `message_bytes_max`",
    );
    check(
        &format!("{LISTENER}sink = \"store\"\nmessage_bytes_max = \"16MiB\"\nprotocol = \"raw\"\n"),
        4,
        21,
        "message_bytes_max: the store takes at most 16MB in a message",
        "lower it to 16MB or less, or choose another `sink`",
    );
}

#[test]
fn what_is_kept_has_room_for_others_beside_one_address_and_what_waits() {
    let store = |keys: &str| format!("shards = 1\n[store]\n{keys}\n{LISTENER}sink = \"store\"\n");
    let refused = |keys: &str, numbers: &str, help: &str| {
        let problem = format!(
            "retention_bytes_max: {numbers} can wait for the store are stored as well, which leaves others next to nothing"
        );
        check(&store(keys), 3, 23, &problem, help);
    };
    refused(
        "retention_bytes_max = \"24MiB\"",
        "24MiB are too few: one address may have 6MiB of them, and the 20MiB that",
        "raise it to 32MiB, or lower `queue_bytes_max` to 12288KiB",
    );
    parsed(&store("retention_bytes_max = \"32MiB\""));
    parsed(&store("retention_bytes_max = \"24MiB\"\nqueue_bytes_max = \"12288KiB\""));
    refused(
        "retention_bytes_max = \"32MiB\"\nretention_bytes_per_address_max = \"16MiB\"",
        "32MiB are too few: one address may have 16MiB of them, and the 20MiB that",
        "raise it to 42MiB, or lower `queue_bytes_max` to 9830KiB",
    );
    parsed(&store("retention_bytes_max = \"42MiB\"\nretention_bytes_per_address_max = \"16MiB\""));
    refused(
        "retention_bytes_max = \"1MiB\"\nretention_bytes_per_address_max = \"890KiB\"\nqueue_bytes_max = \"128KiB\"",
        "1MiB are too few: one address may have 890KiB of them, and the 384KiB that",
        "raise it to 2MiB",
    );
    // Without a share, and where nothing is kept, nobody is promised any.
    parsed(&store("retention_bytes_max = \"24MiB\"\nretention_bytes_per_address_max = \"21MiB\""));
    parsed(&format!("[store]\nretention_bytes_max = \"1MiB\"\n{LISTENER}"));
}

#[test]
fn keys_of_the_store_belong_into_its_table() {
    check_store("colour = 1", 1, "unknown key `colour`", "docs/reference.md has all keys");
    check_store(
        "max_session = 1",
        1,
        "unknown key `max_session`",
        "did you mean `sessions_max`, `sessions_per_address_max` or `retention_bytes_per_session_max`?",
    );
    check_store(
        "shards = 2",
        1,
        "unknown key `shards`",
        "it is a key of the whole gateway: put it above the first [store] or [[listener]]",
    );
    check_store(
        "protocol = \"auto\"",
        1,
        "unknown key `protocol`",
        "it is a key of a listener: put it below a [[listener]]",
    );
    check_top(
        "data_dir = \"data\"",
        1,
        "unknown key `data_dir`",
        "it is a key of the store: put it below [store]",
    );
    check(
        &format!("{LISTENER}durability = \"os\"\n"),
        3,
        1,
        "unknown key `durability`",
        "it is a key of the store: put it below [store]",
    );
    check_top("store = 5", 9, "the store is a table", "write [store], and its keys below it");
    check(
        &format!("[[store]]\ndata_dir = \"data\"\n{LISTENER}"),
        1,
        1,
        "this makes a list of stores",
        "write [store], with one bracket",
    );
}
