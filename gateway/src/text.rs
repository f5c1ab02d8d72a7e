//! What strangers sent, made harmless for a terminal. Knows nothing of where it came from or is shown.

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
        && !matches!(character, '\\' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
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
    fn a_stranger_cannot_drive_the_terminal() {
        assert_eq!(readable(b"\x1b[2Jgr\xc3\xbc\xc3\x9fe\xff\\n"), "\\u{1b}[2Jgrüße\\xff\\\\n");
        assert_eq!(readable("\u{202e}abc\u{9b}1m".as_bytes()), "\\u{202e}abc\\u{9b}1m");
        assert_eq!(readable(b"a\nb\n"), "a\\nb");
    }
}
