//! Durations, sizes, counts and addresses as people write them, each with an error that says what is expected: for flags
//! and, by the kind of a key, for values in files. Knows neither the keys nor which values make sense for them.

mod address;

pub use address::parse_address;

use pulsegate::config::Misfit;
use pulsegate::config::keys::{Kind, Value};
use std::num::NonZeroUsize;
use std::time::Duration;
use toml::de::{DeInteger, DeValue};

const DURATION_EXPECTED: &str = "expected a duration such as 10s, 250ms, 24h or 1m 30s";
const DURATION_BARE: &str = "add a unit, e.g. 10s";
const DURATION_BARE_IN_FILE: &str = "add a unit, e.g. \"10s\"";
const SIZE_EXPECTED: &str = "expected a size such as 64KiB, 1MB or 4096 (bytes)";
const COUNT_EXPECTED: &str = "expected a whole number of at least 1";

/// The most digits in a duration. With more, `humantime` can be led to the last second that a [`Duration`]
/// holds and panic at the next: twelve digits are needed to get there and four to step over.
const DURATION_DIGITS_MAX: usize = 15;

/// Reads a duration with units: `10s`, `250ms`, `1m 30s`, `24h`.
///
/// # Errors
/// What is not a number with a unit, a bare number, and what is too long to be held.
pub fn parse_duration(text: &str) -> Result<Duration, Misfit> {
    let text = text.trim();
    if !text.is_empty() && text.chars().all(|letter| letter.is_ascii_digit() || letter == '.') {
        return Err(Misfit::new(format!("{} has no unit", clipped(text)), DURATION_BARE));
    }
    if text.chars().filter(char::is_ascii_digit).count() > DURATION_DIGITS_MAX {
        return Err(Misfit::new(format!("{} has too many digits", quoted(text)), DURATION_EXPECTED));
    }
    humantime::parse_duration(text)
        .map_err(|_| Misfit::new(format!("{} is not a duration", quoted(text)), DURATION_EXPECTED))
}

/// Reads a size in bytes: `64KiB`, `1MB`, or a plain number.
///
/// # Errors
/// What is not a number with or without a unit, and what doesn't fit into 64 bits.
pub fn parse_size(text: &str) -> Result<u64, Misfit> {
    let refused = |why: &str| Misfit::new(format!("{} {why}", quoted(text)), SIZE_EXPECTED);
    let size: bytesize::ByteSize = text.trim().parse().map_err(|_| refused("is not a size"))?;
    // The largest number is also what bytesize gives for everything above it.
    if size.0 == u64::MAX { Err(refused("is too large")) } else { Ok(size.0) }
}

/// Reads a whole number of at least 1.
///
/// # Errors
/// Zero, and what is not a whole number.
pub fn parse_count(text: &str) -> Result<NonZeroUsize, Misfit> {
    text.trim().parse().map_err(|_| Misfit::new(format!("{} is not a count", quoted(text)), COUNT_EXPECTED))
}

/// Reads a value of this kind from the command line.
///
/// # Errors
/// What is written in another way, or out of range.
pub fn parse(kind: &Kind, text: &str) -> Result<Value, Misfit> {
    let value = match kind {
        Kind::Duration(_) => Value::Duration(parse_duration(text)?),
        Kind::Size(_) => Value::Number(parse_size(text)?),
        Kind::Count(_) => Value::Number(parse_count(text)?.get() as u64),
        Kind::Address => Value::Address(parse_address(text)?),
        Kind::Word(_) | Kind::Line(_) | Kind::Text(..) => Value::Text(text.to_owned()),
    };
    kind.check(&value)?;
    Ok(value)
}

/// Reads a value of this kind from a file.
pub(crate) fn read(kind: &Kind, written: &DeValue<'_>) -> Result<Value, Misfit> {
    let value = match (kind, written) {
        (Kind::Count(_), DeValue::Integer(number)) => {
            Value::Number(whole(number, "a count", COUNT_EXPECTED)?)
        }
        (Kind::Size(_), DeValue::Integer(number)) => Value::Number(whole(number, "a size", SIZE_EXPECTED)?),
        (Kind::Duration(_), DeValue::Integer(number)) => return Err(bare(number)),
        (Kind::Duration(_), DeValue::Float(number)) => return Err(bare(number)),
        (Kind::Duration(_), DeValue::String(text)) => {
            Value::Duration(parse_duration(text).map_err(in_quotes)?)
        }
        (Kind::Size(_), DeValue::String(text)) => Value::Number(parse_size(text)?),
        (Kind::Count(_), DeValue::String(text)) => {
            let problem = format!("{} is in quotes", quoted(text));
            return Err(Misfit::new(problem, "write the number without quotes"));
        }
        (Kind::Address, DeValue::String(text)) => Value::Address(parse_address(text)?),
        (Kind::Word(_) | Kind::Line(_) | Kind::Text(..), DeValue::String(text)) => {
            Value::Text(text.to_string())
        }
        (kind, written) => {
            let problem = format!("this is of the type {}", written.type_str());
            let quotes = if matches!(kind, Kind::Size(_) | Kind::Count(_)) { "" } else { ", in quotes" };
            return Err(Misfit::new(problem, format!("give it {kind}{quotes}")));
        }
    };
    kind.check(&value)?;
    Ok(value)
}

fn whole(number: &DeInteger<'_>, what: &str, expected: &str) -> Result<u64, Misfit> {
    u64::from_str_radix(number.as_str(), number.radix())
        .map_err(|_| Misfit::new(format!("{} is not {what}", clipped(&number.to_string())), expected))
}

fn bare(number: impl std::fmt::Display) -> Misfit {
    Misfit::new(format!("{} has no unit", clipped(&number.to_string())), DURATION_BARE_IN_FILE)
}

/// What a flag needs no quotes for.
fn in_quotes(misfit: Misfit) -> Misfit {
    if misfit.fix == DURATION_BARE { Misfit::new(misfit.problem, DURATION_BARE_IN_FILE) } else { misfit }
}

/// Enough of a text to recognize it by, so that an error is never as long as the file.
fn clipped(text: &str) -> String {
    const LETTERS_MAX: usize = 40;
    let mut short: String = text.chars().take(LETTERS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn quoted(text: &str) -> String {
    format!("{:?}", clipped(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("10s", 10_000),
            (" 10s ", 10_000),
            ("250ms", 250),
            ("1m 30s", 90_000),
            ("1m30s", 90_000),
            ("24h", 86_400_000),
            ("1.5s", 1_500),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_told_what_is_expected() {
        for (text, said) in [
            ("10", "10 has no unit; add a unit, e.g. 10s"),
            ("0", "0 has no unit; add a unit, e.g. 10s"),
            ("1.5", "1.5 has no unit; add a unit, e.g. 10s"),
            ("", "\"\" is not a duration; expected a duration such as 10s, 250ms, 24h or 1m 30s"),
            ("-1s", "\"-1s\" is not a duration; expected a duration such as 10s, 250ms, 24h or 1m 30s"),
            (
                "10 parsec",
                "\"10 parsec\" is not a duration; expected a duration such as 10s, 250ms, 24h or 1m 30s",
            ),
            (
                "18446744073709551615s 1000ms",
                "\"18446744073709551615s 1000ms\" has too many digits; \
                 expected a duration such as 10s, 250ms, 24h or 1m 30s",
            ),
            (
                "999999999999999y",
                "\"999999999999999y\" is not a duration; expected a duration such as 10s, 250ms, 24h or 1m 30s",
            ),
        ] {
            assert_eq!(parse_duration(text).expect_err(text).to_string(), said);
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in
            [("64KiB", 65_536), ("1MB", 1_000_000), ("4096", 4096), ("1.5 KiB", 1536), ("0", 0)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_told_what_is_expected() {
        for (text, why) in [
            ("", "\"\" is not a size"),
            ("-1", "\"-1\" is not a size"),
            ("1.5", "\"1.5\" is not a size"),
            ("12 apples", "\"12 apples\" is not a size"),
            ("99999999999999999999EiB", "\"99999999999999999999EiB\" is too large"),
        ] {
            let said = format!("{why}; expected a size such as 64KiB, 1MB or 4096 (bytes)");
            assert_eq!(parse_size(text).expect_err(text).to_string(), said);
        }
    }

    #[test]
    fn counts_say_what_is_expected() {
        assert_eq!(
            parse_count("0").expect_err("none").to_string(),
            "\"0\" is not a count; expected a whole number of at least 1"
        );
    }

    #[test]
    fn an_error_is_not_as_long_as_its_text() {
        let long = "x".repeat(1 << 20);
        assert!(parse_duration(&long).expect_err("no duration").to_string().len() < 200);
        assert!(parse_duration(&"1".repeat(1 << 20)).expect_err("no unit").to_string().len() < 200);
        assert!(parse_size(&long).expect_err("no size").to_string().len() < 200);
        assert!(parse_address(&long).expect_err("no address").to_string().len() < 300);
    }

    const ALMOST_A_VALUE: &str =
        "([0-9]{1,21}(\\.[0-9]{1,5})? ?(ns|ms|s|m|h|d|w|y|KiB|EiB|MB|µs)? ?){0,6}|.*";

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in ALMOST_A_VALUE) {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
            let _ = parse_count(&text);
            let _ = parse_address(&text);
        }
    }
}
