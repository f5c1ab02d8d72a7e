//! Documents that are made from the tables of keys: the example of a configuration file, and the reference. A test compares
//! them with what is in the repository.

use pulsegate::config::keys::{GATEWAY, Key, Kind, LISTENER, STORE, Scope, Value};
use pulsegate::text::{duration, size};
use std::fmt::Write;

/// The columns that a comment is wrapped at.
const COLUMNS: usize = 100;

const EXAMPLE_HEAD: &str = "\
All settings of a pulsegate, each with its default. What is off by default is commented out and shows an example. \
`pulsegate check FILE` says whether a file is sound; `pulsegate serve --config FILE` runs it.

Durations have a unit: \"250ms\", \"10s\", \"1m 30s\", \"24h\". Sizes are bytes, as a number or with a unit: 4096, \
\"64KiB\" (1024 each), \"1MB\" (1000 * 1000).

This file is made from the tables in gateway/src/config/keys/.";

const STORE_HEAD: &str = "The store: where messages are kept for listeners with the sink \"store\", and sessions for those at \
which the pulse protocol is spoken.";

const LISTENER_HEAD: &str =
    "A listener: an address with rules of its own. At least one; repeat the table for more.";

const SECOND_HEAD: &str =
    "A second listener, whose connections are short and whose messages are kept in the store.";

/// The example of a configuration file.
#[must_use]
pub fn example() -> String {
    let mut text = comment(EXAMPLE_HEAD);
    GATEWAY.iter().for_each(|key| text.push_str(&in_example(key)));
    text.push_str(&format!("\n{}[store]\n", comment(STORE_HEAD)));
    STORE.iter().for_each(|key| text.push_str(&in_example(key)));
    text.push_str(&format!("\n{}[[listener]]\n", comment(LISTENER_HEAD)));
    let (short, others): (Vec<_>, Vec<_>) =
        LISTENER.iter().partition(|key| key.scope.contains(&Scope::Short));
    others.iter().for_each(|key| text.push_str(&in_example(key)));
    let second = "listen = \"127.0.0.1:7374\"\n# lifetime = \"short\"\n# sink = \"store\"\n";
    text.push_str(&format!("\n{}# [[listener]]\n# {second}", comment(SECOND_HEAD)));
    short.iter().for_each(|key| text.push_str(&in_example(key)));
    text
}

fn in_example<T: Default>(key: &Key<T>) -> String {
    let left_out = key.left_out.map(|holds| format!(" Left out: {holds}.")).unwrap_or_default();
    let says = format!("{} {}{}{left_out}", key.says, values(&key.kind), scopes(key)).replace('`', "");
    let line = match (key.example, key.default()) {
        (Some(example), _) => format!("# {} = {example}", key.name),
        (None, Some(value)) => format!("{} = {}", key.name, shown(&key.kind, &value)),
        (None, None) => format!("# {} =", key.name),
    };
    format!("\n{}{line}\n", comment(&says))
}

/// Paragraphs as a comment.
fn comment(text: &str) -> String {
    let mut lines = String::new();
    for paragraph in text.split('\n') {
        let mut line = String::from("#");
        for word in paragraph.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > COLUMNS {
                lines.push_str(&line);
                lines.push('\n');
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        lines.push_str(&line);
        lines.push('\n');
    }
    lines
}

const REFERENCE_HEAD: &str = "\
# Settings

All settings of `pulsegate serve`. Where a key has a flag, it stands below the key. A file has all of them, and a listener of
its own rules for each address: `pulsegate serve --config FILE`. [pulsegate.example.toml](../pulsegate.example.toml) is such a
file; `pulsegate check FILE` says what is wrong with one, all at once, and what it amounts to.

Flags of a listener can't be combined with a file. Those of the gateway and the store override it.

Durations have a unit: `250ms`, `10s`, `1m 30s`, `24h`; in a file they stand in quotes. Sizes are bytes, as a number or with a
unit: `4096`, `64KiB` (1024 each), `1MB` (1000 * 1000).

This page is made from the tables in gateway/src/config/keys/.
";

/// The reference of all keys and flags, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = REFERENCE_HEAD.to_owned();
    text.push_str(&section("The gateway", "At the top of the file, above the first table.", GATEWAY));
    text.push_str(&section("The store: `[store]`", STORE_HEAD, STORE));
    text.push_str(&section("A listener: `[[listener]]`", LISTENER_HEAD, LISTENER));
    text
}

fn section<T: Default>(title: &str, head: &str, table: &[Key<T>]) -> String {
    let mut text = format!("\n## {title}\n\n{head}\n\n| key | default | meaning |\n|---|---|---|\n");
    for key in table {
        let flag = key.flag.map(|flag| format!("<br>`{flag}`")).unwrap_or_default();
        let default = default_of(key).unwrap_or_else(|| "required".to_owned());
        let meaning = format!("{} {}{}", key.says, values(&key.kind), scopes(key));
        // Writing to a string never fails.
        let _ = writeln!(text, "| `{}`{flag} | {default} | {meaning} |", key.name);
    }
    text
}

/// What it may be, as a sentence.
fn values(kind: &Kind) -> String {
    if let Kind::Word(words) = kind {
        let words: Vec<String> =
            words.iter().map(|(word, meaning)| format!("\"{word}\": {meaning}")).collect();
        return format!("{}.", words.join("; "));
    }
    let text = kind.to_string();
    let first = text.chars().next().map(|letter| letter.to_ascii_uppercase());
    format!("{}{}.", first.unwrap_or_default(), text.get(1..).unwrap_or_default())
}

fn scopes<T>(key: &Key<T>) -> String {
    key.scope.iter().map(|scope| format!(" {}", scope.phrase())).collect()
}

/// A value as a file shows it.
fn shown(kind: &Kind, value: &Value) -> String {
    match value {
        Value::Duration(span) => format!("{:?}", duration(*span)),
        Value::Number(bytes) if matches!(kind, Kind::Size(_)) => format!("{:?}", size(*bytes)),
        Value::Number(count) => count.to_string(),
        Value::Address(address) => format!("\"{address}\""),
        Value::Text(text) => format!("{text:?}"),
    }
}

/// What holds where a key is left out: its default, as a file shows it, or in words.
#[must_use]
pub fn default_of<T: Default>(key: &Key<T>) -> Option<String> {
    let value = || key.default().map(|value| shown(&key.kind, &value));
    key.left_out.map(str::to_owned).or_else(value)
}
