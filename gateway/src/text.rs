//! What strangers sent, made harmless for a terminal, and moments as text. Knows nothing of where it came from or is
//! shown.

use std::fmt::{Display, Write};
use std::time::{Duration, SystemTime};

/// The last second of the year 9999, since 1970-01-01 UTC.
const TIME_SECONDS_MAX: u64 = 253_402_300_799;

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

/// A JSON value in one line that drives no terminal: what is not plain text is escaped in JSON's own way, so that
/// whoever reads it as JSON gets it as it was.
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
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since)
}

/// Two digits for each byte.
#[must_use]
pub fn hex(payload: &[u8]) -> String {
    payload.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_stranger_cannot_drive_the_terminal() {
        assert_eq!(readable(b"\x1b[2Jgr\xc3\xbc\xc3\x9fe\xff\\n"), "\\u{1b}[2Jgrüße\\xff\\\\n");
        assert_eq!(readable("\u{202e}abc\u{9b}1m".as_bytes()), "\\u{202e}abc\\u{9b}1m");
        assert_eq!(readable(b"a\nb\n"), "a\\nb");
    }
}
