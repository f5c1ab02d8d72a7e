//! Turns what the TOML parser and serde say into a problem and a help that name this file's own keys.

use crate::error::Fault;
use crate::raw::{RawFile, RawListener, RawStore};
use std::ops::Range;

/// A key that is no longer than this is compared with the known ones.
const KEY_LENGTH_MAX: usize = 64;

/// The help where there is none that is more exact.
const MEND: &str = "mend the TOML, see https://toml.io";

/// What toml says first about a value that is neither in quotes nor a number nor `true` or `false`.
const UNQUOTED: [&str; 4] =
    ["string values must be quoted", "invalid boolean", "invalid float", "invalid integer"];

/// What is wrong in this text.
pub(crate) fn explain(text: &str, error: &toml::de::Error) -> Fault {
    let span = error.span().unwrap_or_default();
    let message = error.message();
    if let Some((name, keys)) = unknown_field(message) {
        return explain_unknown(span, name, keys);
    }
    if UNQUOTED.iter().any(|start| message.starts_with(start)) {
        return explain_unquoted(text, span);
    }
    if text.get(span.clone()).is_some_and(|place| place.starts_with("[[store")) {
        return Fault::new(span, "this makes a list of stores", "write [store], with one bracket");
    }
    let (problem, help) = reword(message);
    Fault::new(span, problem, help)
}

/// Of `127.0.0.1:7373` toml takes the first half for a number; the place is where the value starts.
fn explain_unquoted(text: &str, span: Range<usize>) -> Fault {
    if span.is_empty() {
        return Fault::new(span, "the value is missing", "write it behind the `=`");
    }
    let before = text.get(..span.start).unwrap_or_default();
    let start = before.trim_end_matches(|letter: char| letter.is_ascii_alphanumeric() || letter == '.').len();
    Fault::new(
        start..span.end,
        "this is not a value",
        "put words, durations and addresses in quotes, e.g. \"10s\"",
    )
}

fn reword(message: &str) -> (String, String) {
    if message == "duplicate key" {
        return ("this key is already set above".to_owned(), "write each key once per table".to_owned());
    }
    if message == "wanted string or table" {
        return ("this is not a string".to_owned(), "expected a word in quotes".to_owned());
    }
    if message.starts_with("invalid type: map, expected a sequence") {
        return (
            "this makes one table of the listeners".to_owned(),
            "write [[listener]], with two brackets".to_owned(),
        );
    }
    if let Some(value) = message.strip_prefix("unknown variant ")
        && let Some((value, known)) = value.rsplit_once(", expected ")
    {
        return (format!("unknown value {value}"), format!("expected {known}"));
    }
    // What serde quotes from the file may contain anything, so only its own words are looked for, from the end.
    if !message.starts_with("invalid ")
        && let Some((problem, mend)) = message.rsplit_once("; ")
    {
        return (problem.to_owned(), mend.to_owned());
    }
    match message.rsplit_once(", expected ") {
        Some((problem, "nothing")) => (problem.to_owned(), MEND.to_owned()),
        Some((problem, expected)) => (problem.to_owned(), format!("expected {expected}")),
        None => (message.to_owned(), MEND.to_owned()),
    }
}

/// The name of an unknown key, and the list of the known ones as serde writes it.
fn unknown_field(message: &str) -> Option<(&str, &str)> {
    let (name, keys) = message.strip_prefix("unknown field `")?.rsplit_once("`, expected one of ")?;
    Some((name, keys))
}

/// The tables of a file: what each is called, its keys, and where a key belongs that is found elsewhere.
const TABLES: [(&str, &[&str], &str); 3] = [
    (
        "the top level",
        RawFile::KEYS,
        "it is a key of the whole gateway: put it above the first [store] or [[listener]]",
    ),
    ("a listener", RawListener::KEYS, "it is a key of a listener: put it below a [[listener]]"),
    ("the store", RawStore::KEYS, "it is a key of the store: put it below [store]"),
];

fn explain_unknown(span: Range<usize>, name: &str, keys: &str) -> Fault {
    let is_here = |known: &[&str]| known.iter().all(|key| keys.contains(&format!("`{key}`")));
    let (place, known, _) = TABLES.into_iter().find(|(_, known, _)| is_here(known)).unwrap_or(TABLES[0]);
    let help = if let Some(near) = nearest(name, known) {
        format!("did you mean `{near}`? known keys of {place}: {}", known.join(", "))
    } else if let Some((_, _, mend)) = TABLES.into_iter().find(|(_, keys, _)| keys.contains(&name)) {
        mend.to_owned()
    } else {
        format!("known keys of {place}: {}", known.join(", "))
    };
    Fault::new(span, format!("unknown key `{name}`"), help)
}

/// The known key that was probably meant.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if name.len() > KEY_LENGTH_MAX {
        return None;
    }
    let (distance, key) = known.iter().map(|key| (edits(name, key), *key)).min()?;
    (distance <= 1.max(key.len() / 4)).then_some(key)
}

/// How many characters have to be put in, taken out or changed to make one text of the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, letter) in from.chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (column, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (from, to, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("max-age", "max_age", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edits(from, to), count, "{from} {to}");
            assert_eq!(edits(to, from), count, "{to} {from}");
        }
    }

    #[test]
    fn only_a_near_key_is_offered() {
        assert_eq!(nearest("heartbeat_timout", RawListener::KEYS), Some("heartbeat_timeout"));
        assert_eq!(nearest("max-age", RawListener::KEYS), Some("max_age"));
        assert_eq!(nearest("timeout", RawListener::KEYS), None);
        assert_eq!(nearest(&"x".repeat(100_000), RawListener::KEYS), None);
    }
}
