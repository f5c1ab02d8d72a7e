//! The tables of a file, as far as the text is TOML, and what is wrong with the rest of it in the words of this file's
//! keys. Knows no key.

use crate::error::Found;
use crate::source::Spans;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// The help where there is none that is more exact.
const FIX: &str = "fix the TOML, see https://toml.io";

/// What toml says first about a value that is neither in quotes nor a number nor `true` or `false`.
const UNQUOTED: [&str; 4] =
    ["string values must be quoted", "invalid boolean", "invalid float", "invalid integer"];

/// A key with its value.
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) name_at: Range<usize>,
    pub(crate) value: &'a DeValue<'a>,
    pub(crate) value_at: Range<usize>,
}

/// The keys of a table.
pub(crate) fn entries<'a>(table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let entry = |(name, value): (&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>)| Entry {
        name: name.get_ref(),
        name_at: name.span(),
        value: value.get_ref(),
        value_at: value.span(),
    };
    table.iter().map(entry).collect()
}

/// Where its keys stand.
pub(crate) fn spans(header: Range<usize>, entries: &[Entry<'_>]) -> Spans {
    let values = entries.iter().map(|entry| (entry.name.to_owned(), entry.value_at.clone())).collect();
    Spans { header, values }
}

/// Text that is no TOML.
#[derive(Debug, Default)]
pub(crate) struct Broken {
    pub(crate) found: Vec<Found>,
    /// Whether the header of a table is among it, so that keys may seem to belong elsewhere.
    pub(crate) has_header: bool,
    /// The lines of it.
    lines: Vec<Range<usize>>,
    /// The keys that are set in these lines, and where.
    pub(crate) keys: Vec<(usize, String)>,
}

impl Broken {
    /// What is wrong with this text, by these errors.
    pub(crate) fn of<'a>(text: &str, errors: impl Iterator<Item = &'a toml::de::Error>) -> Self {
        let mut broken = Self::default();
        for error in errors {
            let found = explain(text, error);
            let line = line_at(text, found.0.start);
            // Of a line the first error says what is wrong, and the others follow from it.
            if broken.lines.contains(&line) {
                continue;
            }
            let source = text[line.clone()].trim_start();
            broken.has_header |= source.starts_with('[');
            let key = source.split(['=', ' ', '\r']).next().unwrap_or_default();
            broken.keys.push((line.start, key.to_owned()));
            broken.lines.push(line);
            broken.found.push(found);
        }
        broken
    }

    /// Whether something that was found there only follows from what is no TOML.
    pub(crate) fn covers(&self, at: usize) -> bool {
        self.lines.iter().any(|line| (line.start..=line.end).contains(&at))
    }
}

/// The line around a place, without its end.
fn line_at(text: &str, at: usize) -> Range<usize> {
    let at = text.floor_char_boundary(at);
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    start..end
}

/// What is wrong in this text.
fn explain(text: &str, error: &toml::de::Error) -> Found {
    let span = error.span().unwrap_or_default();
    let message = error.message();
    let found = |problem: &str, fix: &str| (span.clone(), problem.to_owned(), fix.to_owned());
    if UNQUOTED.iter().any(|start| message.starts_with(start)) {
        return explain_unquoted(text, span);
    }
    if message == "duplicate key" {
        return found("this key is already set above", "write each key once per table");
    }
    match message.rsplit_once(", expected ") {
        Some((problem, "nothing")) => found(problem, FIX),
        Some((problem, expected)) => found(problem, &format!("expected {expected}")),
        None => found(message, FIX),
    }
}

/// Of `127.0.0.1:7373` toml takes the first half for a number; the place is where the value starts.
fn explain_unquoted(text: &str, span: Range<usize>) -> Found {
    if span.is_empty() {
        return (span, "the value is missing".to_owned(), "write it behind the `=`".to_owned());
    }
    let before = text.get(..span.start).unwrap_or_default();
    let start = before.trim_end_matches(|letter: char| letter.is_ascii_alphanumeric() || letter == '.').len();
    let fix = "put words, durations and addresses in quotes, e.g. \"10s\"";
    (start..span.end, "this is not a value".to_owned(), fix.to_owned())
}
