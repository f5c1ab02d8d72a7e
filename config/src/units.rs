//! Durations, sizes, counts and addresses as people write them, each with an error that says what is
//! expected. For flags (`value_parser = parse_duration`) and for files (the `Written…` types). Knows neither
//! the keys nor which values make sense for them.

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

/// A written value that isn't what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {mend}")]
pub struct UnitError {
    /// What is wrong.
    pub problem: String,
    /// What is expected instead; never contains `; `.
    pub mend: &'static str,
}

const DURATION_EXPECTED: &str = "expected a duration such as 10s, 250ms, 24h or 1m 30s";
const DURATION_BARE: &str = "add a unit, e.g. 10s";
const DURATION_BARE_IN_FILE: &str = "add a unit, e.g. \"10s\"";
const SIZE_EXPECTED: &str = "expected a size such as 64KiB, 1MB or 4096 (bytes)";
const COUNT_EXPECTED: &str = "expected a whole number of at least 1";
const ADDRESS_EXPECTED: &str = "expected an IP address and a port such as 127.0.0.1:7373 or [::1]:7373";

/// The most digits in a duration. With more, `humantime` can be led to the last second that a [`Duration`]
/// holds and panic at the next: twelve digits are needed to get there and four to step over.
const DURATION_DIGITS_MAX: usize = 15;

/// Reads a duration with units: `10s`, `250ms`, `1m 30s`, `24h`.
///
/// # Errors
/// What is not a number with a unit, a bare number, and what is too long to be held.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let text = text.trim();
    if !text.is_empty() && text.chars().all(|letter| letter.is_ascii_digit() || letter == '.') {
        return Err(UnitError { problem: format!("{} has no unit", clipped(text)), mend: DURATION_BARE });
    }
    if text.chars().filter(char::is_ascii_digit).count() > DURATION_DIGITS_MAX {
        return Err(UnitError {
            problem: format!("{} has too many digits", quoted(text)),
            mend: DURATION_EXPECTED,
        });
    }
    humantime::parse_duration(text).map_err(|_| UnitError {
        problem: format!("{} is not a duration", quoted(text)),
        mend: DURATION_EXPECTED,
    })
}

/// Reads a size in bytes: `64KiB`, `1MB`, or a plain number.
///
/// # Errors
/// What is not a number with or without a unit, and what doesn't fit into 64 bits.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let refused = |why: &str| UnitError { problem: format!("{} {why}", quoted(text)), mend: SIZE_EXPECTED };
    let size: bytesize::ByteSize = text.trim().parse().map_err(|_| refused("is not a size"))?;
    // The largest number is also what bytesize gives for everything above it.
    if size.0 == u64::MAX { Err(refused("is too large")) } else { Ok(size.0) }
}

/// Reads a whole number of at least 1.
///
/// # Errors
/// Zero, and what is not a whole number.
pub fn parse_count(text: &str) -> Result<NonZeroUsize, UnitError> {
    text.trim()
        .parse()
        .map_err(|_| UnitError { problem: format!("{} is not a count", quoted(text)), mend: COUNT_EXPECTED })
}

/// Reads an IP address with a port.
///
/// # Errors
/// Anything else, host names too: which of a name's addresses is meant would be a guess.
pub fn parse_address(text: &str) -> Result<SocketAddr, UnitError> {
    text.trim().parse().map_err(|_| UnitError {
        problem: format!("{} is not an address", quoted(text)),
        mend: ADDRESS_EXPECTED,
    })
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

/// A duration in a file: a string with units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenDuration(pub Duration);

/// A size in bytes in a file: a string with a unit, or a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenSize(pub u64);

/// A whole number of at least 1 in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenCount(pub NonZeroUsize);

/// An address in a file: a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenAddress(pub SocketAddr);

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = WrittenDuration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"10s\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        parse_duration(text).map(WrittenDuration).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Err(E::custom(bare(number)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Err(E::custom(bare(number)))
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Self::Value, E> {
        Err(E::custom(bare(number)))
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<Self::Value, E> {
        Err(E::custom(bare(number)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Err(E::custom(bare(number)))
    }
}

fn bare(number: impl fmt::Display) -> UnitError {
    UnitError { problem: format!("{number} has no unit"), mend: DURATION_BARE_IN_FILE }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = WrittenSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"64KiB\" or 4096")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        parse_size(text).map(WrittenSize).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        u64::try_from(number).map(WrittenSize).map_err(|_| E::custom(no_size(number)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(WrittenSize(number))
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Self::Value, E> {
        Err(E::custom(no_size(number)))
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<Self::Value, E> {
        Err(E::custom(no_size(number)))
    }
}

fn no_size(number: impl fmt::Display) -> UnitError {
    UnitError { problem: format!("{number} is not a size"), mend: SIZE_EXPECTED }
}

struct CountVisitor;

impl Visitor<'_> for CountVisitor {
    type Value = WrittenCount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number of at least 1")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        count(number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        count(number)
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Self::Value, E> {
        count(number)
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<Self::Value, E> {
        count(number)
    }
}

fn count<E: Error>(number: impl TryInto<usize> + fmt::Display + Copy) -> Result<WrittenCount, E> {
    number.try_into().ok().and_then(NonZeroUsize::new).map(WrittenCount).ok_or_else(|| {
        E::custom(UnitError { problem: format!("{number} is not a count"), mend: COUNT_EXPECTED })
    })
}

struct AddressVisitor;

impl Visitor<'_> for AddressVisitor {
    type Value = WrittenAddress;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address such as \"127.0.0.1:7373\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        parse_address(text).map(WrittenAddress).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for WrittenDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DurationVisitor)
    }
}

impl<'de> Deserialize<'de> for WrittenSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl<'de> Deserialize<'de> for WrittenCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

impl<'de> Deserialize<'de> for WrittenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AddressVisitor)
    }
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
    fn counts_and_addresses_say_what_is_expected() {
        assert_eq!(
            parse_count("0").expect_err("none").to_string(),
            "\"0\" is not a count; expected a whole number of at least 1"
        );
        assert_eq!(
            parse_address("localhost:80").expect_err("a name").to_string(),
            "\"localhost:80\" is not an address; \
             expected an IP address and a port such as 127.0.0.1:7373 or [::1]:7373"
        );
    }

    #[test]
    fn an_error_is_not_as_long_as_its_text() {
        let long = "x".repeat(1 << 20);
        assert!(parse_duration(&long).expect_err("no duration").to_string().len() < 200);
        assert!(parse_duration(&"1".repeat(1 << 20)).expect_err("no unit").to_string().len() < 200);
        assert!(parse_size(&long).expect_err("no size").to_string().len() < 200);
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
