//! Makes what strangers sent harmless for a terminal, and writes moments and durations as text. Must not know: where it
//! comes from, or where it is shown.

use std::fmt::{self, Display, Write};
use std::time::{Duration, SystemTime};

/// The last second of the year 9999, since 1970-01-01 UTC.
const TIME_SECONDS_MAX: u64 = 253_402_300_799;
/// A day, in seconds.
const DAY: u64 = 24 * 3600;
/// A year of 365.25 days, in seconds: what a configuration means by it.
const YEAR: u64 = 31_557_600;

/// Text as it is, its last line end left out, everything else escaped.
#[must_use]
pub fn readable(payload: &[u8]) -> String {
    let payload = payload.strip_suffix(b"\n").unwrap_or(payload);
    let payload = payload.strip_suffix(b"\r").unwrap_or(payload);
    let mut text = String::with_capacity(payload.len());
    for chunk in payload.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_plain(character) {
                text.push(character);
            } else {
                text.extend(character.escape_default());
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Neither control characters nor those that turn the direction of what follows or hide it.
fn is_plain(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            '\\' | '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// A count with its noun in the singular or the plural: `1 message`, `2 messages`.
#[must_use]
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A JSON value in one line that can't drive a terminal: what is not plain text is escaped in JSON's own way, so that a
/// JSON reader gets it unchanged.
#[must_use]
pub fn json_line(value: &serde_json::Value) -> String {
    let json = value.to_string();
    let mut line = String::with_capacity(json.len());
    // All of them stand in strings: outside of those JSON is plain ASCII.
    for character in json.chars() {
        if character == '\\' || is_plain(character) {
            line.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing into a String can't fail.
            let _ = write!(line, "\\u{unit:04x}");
        }
    }
    line
}

/// A moment in UTC, to the millisecond. One that doesn't fit into four digits of a year is shown as the nearest that
/// does: a machine may start with any clock.
#[must_use]
pub fn utc(time: SystemTime) -> impl Display {
    let last = Duration::new(TIME_SECONDS_MAX, 999_000_000);
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().min(last);
    Utc { days: since.as_secs() / DAY, seconds: since.as_secs() % DAY, millis: since.subsec_millis() }
}

/// A moment since 1970-01-01.
struct Utc {
    days: u64,
    seconds: u64,
    millis: u32,
}

impl Utc {
    /// Year, month and day in the calendar. Counted from a first of March, so that a leap day ends a year, and in whole
    /// cycles of 400 years (H. Hinnant, "chrono-compatible low-level date algorithms").
    const fn date(&self) -> (u64, u64, u64) {
        let since_march = self.days + 719_468;
        let (cycle, day) = (since_march / 146_097, since_march % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let year = cycle * 400 + year;
        let day = day - (153 * month + 2) / 5 + 1;
        if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
    }
}

impl Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        let (hour, minute, second) = (self.seconds / 3600, self.seconds / 60 % 60, self.seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", self.millis)
    }
}

/// A duration as it is written in a configuration: `250ms`, `1m 30s`, `24h`, `7days`, `10years`. Hours are counted up
/// to two days, and years are named only where they are whole.
#[must_use]
pub fn duration(span: Duration) -> String {
    let (seconds, nanos) = (span.as_secs(), u64::from(span.subsec_nanos()));
    if seconds > 0 && seconds.is_multiple_of(YEAR) && nanos == 0 {
        return counted(seconds / YEAR, "year").replace(' ', "");
    }
    let days = if seconds < 2 * DAY { 0 } else { seconds / DAY };
    let rest = seconds - days * DAY;
    let mut parts = vec![(days, "days"), (rest / 3600, "h"), (rest / 60 % 60, "m"), (rest % 60, "s")];
    parts.extend([(nanos / 1_000_000, "ms"), (nanos / 1000 % 1000, "us"), (nanos % 1000, "ns")]);
    let parts: Vec<_> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// A size in bytes as people write it, in the unit that leaves nothing over and the smallest number: `64KiB`, `16MB`, `65B`.
#[must_use]
pub fn size(bytes: u64) -> String {
    let in_units = |base: u64, names: [&'static str; 5]| (1..=5).map(move |power| base.pow(power)).zip(names);
    let binary = in_units(1024, ["KiB", "MiB", "GiB", "TiB", "PiB"]);
    let units = binary.chain(in_units(1000, ["kB", "MB", "GB", "TB", "PB"]));
    let whole = units.filter(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    let (unit, name) = whole.max_by_key(|(unit, _)| *unit).unwrap_or((1, "B"));
    format!("{}{name}", bytes / unit)
}

/// Two digits for each byte.
#[must_use]
pub fn hex(payload: &[u8]) -> String {
    payload.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_hides_or_turns_text_is_escaped() {
        for hidden in ["\u{ad}", "\u{61c}", "\u{2060}", "\u{2064}", "\u{206a}", "\u{fff9}", "\u{e0041}"] {
            assert!(readable(hidden.as_bytes()).is_ascii(), "{hidden:?}");
        }
        assert_eq!(readable("grün 日本 🙂".as_bytes()), "grün 日本 🙂");
    }

    #[test]
    fn json_keeps_its_meaning_and_drives_no_terminal() {
        let text = "\u{1b}[2J \u{9b}1m \u{7f} \u{202e} \u{e0041} \\ \" grün 🙂";
        let value = serde_json::json!({ "text": text });
        let line = json_line(&value);
        assert!(line.chars().all(|character| character == '\\' || is_plain(character)), "{line:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).expect("JSON"), value);
        assert!(
            line.contains("grün 🙂") && line.contains("\\u009b") && line.contains("\\udb40\\udc41"),
            "{line}"
        );
    }

    #[test]
    fn any_clock_can_be_shown() {
        let (epoch, second) = (SystemTime::UNIX_EPOCH, Duration::from_secs(1));
        assert_eq!(utc(epoch - 1_000_000 * second).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(epoch + 1_000_000_000 * second).to_string(), "2001-09-09T01:46:40.000Z");
        let last = Duration::from_secs(TIME_SECONDS_MAX);
        assert_eq!(utc(epoch + last).to_string(), "9999-12-31T23:59:59.000Z");
        assert_eq!(utc(epoch + last + second).to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(utc(epoch + Duration::from_secs(1 << 60)).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        let seconds = Duration::from_secs;
        for (span, shown) in [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(1_002_003), "1ms 2us 3ns"),
            (seconds(90), "1m 30s"),
            (seconds(DAY), "24h"),
            (seconds(2 * DAY - 1), "47h 59m 59s"),
            (seconds(2 * DAY), "2days"),
            (seconds(7 * DAY + 3600), "7days 1h"),
            (seconds(YEAR), "1year"),
            (seconds(10 * YEAR), "10years"),
            (seconds(365 * DAY), "365days"),
        ] {
            assert_eq!(duration(span), shown);
        }
    }

    #[test]
    fn sizes_are_shown_as_they_are_written() {
        for (bytes, shown) in [
            (0, "0B"),
            (65, "65B"),
            (1024, "1KiB"),
            (64 << 20, "64MiB"),
            (1 << 50, "1PiB"),
            (16_000_000, "16MB"),
            (u64::MAX, "18446744073709551615B"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_what_another_makes_of_it_and_reads_again(
            seconds in 0..=TIME_SECONDS_MAX, nanos in 0..1_000_000_000_u32,
        ) {
            let span = Duration::new(seconds, nanos);
            let time = SystemTime::UNIX_EPOCH + span;
            prop_assert_eq!(utc(time).to_string(), humantime::format_rfc3339_millis(time).to_string());
            prop_assert_eq!(humantime::parse_duration(&duration(span)), Ok(span));
        }
    }

    #[test]
    fn a_stranger_cannot_drive_the_terminal() {
        assert_eq!(readable(b"\x1b[2Jgr\xc3\xbc\xc3\x9fe\xff\\n"), "\\u{1b}[2Jgrüße\\xff\\\\n");
        assert_eq!(readable("\u{202e}abc\u{9b}1m".as_bytes()), "\\u{202e}abc\\u{9b}1m");
        assert_eq!(readable(b"a\nb\n"), "a\\nb");
    }
}
