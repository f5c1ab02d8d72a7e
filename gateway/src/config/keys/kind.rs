//! What a value may be: its type and its range, said in the same words by documents and by errors.

use super::Value;
use crate::config::fault::Misfit;
use crate::text::{duration, size};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The longest line that is sent for a message or at an end, in bytes.
const LINE_BYTES_MAX: usize = 512;
/// Any count from 1.
pub(super) const ANY_COUNT: RangeInclusive<u64> = 1..=u64::MAX;

/// The type and the range of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A span of time.
    Duration(RangeInclusive<Duration>),
    /// A size in bytes.
    Size(RangeInclusive<u64>),
    /// A whole number.
    Count(RangeInclusive<u64>),
    /// An IP address and a port.
    Address,
    /// One of these words; what each means stands beside it.
    Word(&'static [(&'static str, &'static str)]),
    /// A line to be sent, with these placeholders.
    Line(&'static [&'static str]),
    /// Other text: what it is called in short, and how it is described: `DIR`, `a folder`.
    Text(&'static str, &'static str),
}

impl Kind {
    /// Whether it may be this value.
    ///
    /// # Errors
    /// Another type, or out of the range.
    pub fn check(&self, value: &Value) -> Result<(), Misfit> {
        let out =
            |shown: String| Err(Misfit::new(format!("{shown} is out of range"), format!("give it {self}")));
        match (self, value) {
            (Self::Duration(range), Value::Duration(value)) if !range.contains(value) => {
                out(duration(*value))
            }
            (Self::Size(range), Value::Number(value)) if !range.contains(value) => out(size(*value)),
            (Self::Count(range), Value::Number(value)) if !range.contains(value) => out(value.to_string()),
            (Self::Word(words), Value::Text(text)) if !words.iter().any(|(word, _)| word == text) => {
                Err(Misfit::new(format!("unknown value {text:?}"), format!("give it {self}")))
            }
            (Self::Line(placeholders), Value::Text(text)) => check_line(text, placeholders),
            (Self::Duration(_), Value::Duration(_))
            | (Self::Size(_) | Self::Count(_), Value::Number(_))
            | (Self::Address, Value::Address(_))
            | (Self::Word(_) | Self::Text(..), Value::Text(_)) => Ok(()),
            _ => Err(Misfit::new("it is of another type", format!("give it {self}"))),
        }
    }
}

fn check_line(text: &str, placeholders: &[&str]) -> Result<(), Misfit> {
    if text.contains(['\n', '\r']) {
        return Err(Misfit::new("it is more than one line", "write one line; its line end is added"));
    }
    if text.len() > LINE_BYTES_MAX {
        return Err(Misfit::new(format!("it is longer than {LINE_BYTES_MAX} bytes"), "shorten it"));
    }
    match placeholders_in(text).find(|name| !placeholders.contains(name)) {
        Some(name) => {
            let known: Vec<String> = placeholders.iter().map(|name| format!("{{{name}}}")).collect();
            Err(Misfit::new(
                format!("there is no placeholder {{{name}}}"),
                format!("write {}", known.join(" or ")),
            ))
        }
        None => Ok(()),
    }
}

/// The words in braces. What has anything else between its braces, such as JSON, is text.
fn placeholders_in(text: &str) -> impl Iterator<Item = &str> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split('{').skip(1).filter_map(move |rest| {
        let (name, _) = rest.split_once('}')?;
        (!name.is_empty() && name.chars().all(is_letter)).then_some(name)
    })
}

/// As in `give it a duration from 1s to 24h`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duration(range) if *range.start() == Duration::from_nanos(1) => {
                write!(f, "a duration above 0s, up to {}", duration(*range.end()))
            }
            Self::Duration(range) => {
                write!(f, "a duration from {} to {}", duration(*range.start()), duration(*range.end()))
            }
            Self::Size(range) => write!(f, "a size from {} to {}", size(*range.start()), size(*range.end())),
            Self::Count(range) if *range == ANY_COUNT => write!(f, "a whole number of at least 1"),
            Self::Count(range) => write!(f, "a whole number from {} to {}", range.start(), range.end()),
            Self::Address => write!(f, "an IP address and a port"),
            Self::Word(words) => {
                for (index, (word, _)) in words.iter().enumerate() {
                    let joint = match index {
                        0 => "",
                        _ if index + 1 == words.len() => " or ",
                        _ => ", ",
                    };
                    write!(f, "{joint}\"{word}\"")?;
                }
                Ok(())
            }
            Self::Line(_) => write!(f, "a line of at most {LINE_BYTES_MAX} bytes"),
            Self::Text(_, what) => write!(f, "{what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: &Kind, value: Value, said: &str) {
        let refused = kind.check(&value).expect_err("it is out of range");
        assert_eq!(refused.to_string(), said);
    }

    #[test]
    fn a_value_out_of_its_range_is_told_the_range() {
        let second = Duration::from_secs(1);
        let kind = Kind::Duration(second..=24 * 3600 * second);
        check(
            &kind,
            Value::Duration(Duration::ZERO),
            "0s is out of range; give it a duration from 1s to 24h",
        );
        let kind = Kind::Duration(Duration::from_nanos(1)..=second);
        check(
            &kind,
            Value::Duration(Duration::ZERO),
            "0s is out of range; give it a duration above 0s, up to 1s",
        );
        let kind = Kind::Size(64 << 10..=1 << 30);
        check(&kind, Value::Number(1), "1B is out of range; give it a size from 64KiB to 1GiB");
        check(
            &Kind::Count(ANY_COUNT),
            Value::Number(0),
            "0 is out of range; give it a whole number of at least 1",
        );
        let kind = Kind::Word(&[("raw", ""), ("pulse", ""), ("auto", "")]);
        let said = "unknown value \"http\"; give it \"raw\", \"pulse\" or \"auto\"";
        check(&kind, Value::Text("http".to_owned()), said);
        check(&Kind::Address, Value::Number(1), "it is of another type; give it an IP address and a port");
    }

    #[test]
    fn a_line_has_only_placeholders_that_are_known() {
        let kind = Kind::Line(&["reason", "retry"]);
        let text = |text: &str| Value::Text(text.to_owned());
        for fine in ["", "BYE {reason} {retry}", "{\"why\":\"{reason}\"}", "{}", "} { {reason}{retry}"] {
            assert_eq!(kind.check(&text(fine)), Ok(()), "{fine}");
        }
        let known = "write {reason} or {retry}";
        check(&kind, text("BYE {why}"), &format!("there is no placeholder {{why}}; {known}"));
        check(&kind, text("{reason} {Retry}"), &format!("there is no placeholder {{Retry}}; {known}"));
        check(&kind, text("a\nb"), "it is more than one line; write one line; its line end is added");
        check(&kind, text(&"a".repeat(513)), "it is longer than 512 bytes; shorten it");
    }
}
