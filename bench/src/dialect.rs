//! What a client sends as its opening and as its messages, and what it expects of answers. Another protocol is added
//! here; what it needs beyond fixed bytes goes into a file of its own, as in `pulse`. Must not know: sockets, or when
//! anything is sent.

use crate::pulse::beat;
use pulsegate_core::frame::Beat;

/// The filler of messages whose text is not given.
const FILLER: &[u8] = b"pulsegate bench ";

/// What the clients of a round send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// The first bytes on a connection.
    pub(crate) opening: Vec<u8>,
    /// Each message after that.
    pub(crate) message: Vec<u8>,
    /// A client counts as connected only once the server has sent something.
    pub(crate) answered: bool,
    /// The pulse protocol is spoken: each client has an opening of its own, the answer is WELCOME, and input has
    /// meaning.
    pub(crate) pulse: bool,
}

impl Dialect {
    /// Lines of `size` bytes, the end of the line included, unless the text is given.
    pub(crate) fn raw(size: usize, message: Option<Vec<u8>>, opening: Option<Vec<u8>>) -> Self {
        let message = message.unwrap_or_else(|| filler(size));
        Self { opening: opening.unwrap_or_else(|| message.clone()), message, answered: false, pulse: false }
    }

    /// Sessions of the pulse protocol, whose heartbeats are beats.
    pub(crate) fn pulse() -> Self {
        Self { opening: Vec::new(), message: beat(Beat::Beat), answered: true, pulse: true }
    }
}

/// Text of `size` bytes that ends in the end of a line.
pub(crate) fn filler(size: usize) -> Vec<u8> {
    let mut text: Vec<u8> = FILLER.iter().copied().cycle().take(size.saturating_sub(1)).collect();
    text.push(b'\n');
    text
}

/// Reads bytes as they are written on a command line: `\n`, `\r`, `\t`, `\0`, `\\` and `\xHH` are escapes.
///
/// # Errors
/// An escape that isn't one of these, and nothing at all.
pub(crate) fn parse_bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(match letters.next() {
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => hexadecimal(letters.by_ref().take(2).collect())?,
            other => {
                let after = other.map(String::from).unwrap_or_default();
                return Err(format!("\\{after} is no escape; there are \\n \\r \\t \\0 \\\\ and \\xHH"));
            }
        });
    }
    if bytes.is_empty() { Err("nothing to send; give it at least one byte".to_owned()) } else { Ok(bytes) }
}

fn hexadecimal(digits: String) -> Result<u8, String> {
    let byte = (digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .then(|| u8::from_str_radix(&digits, 16).ok())
        .flatten();
    byte.ok_or_else(|| format!("\\x{digits} is no byte; give \\x two hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_lines_of_the_size_that_was_asked_for() {
        for size in [1, 2, 32, 1000] {
            let dialect = Dialect::raw(size, None, None);
            assert_eq!(dialect.message.len(), size);
            assert_eq!(dialect.message.iter().position(|byte| *byte == b'\n'), Some(size - 1));
            assert_eq!(dialect.opening, dialect.message);
        }
    }

    #[test]
    fn escapes_are_read() {
        assert_eq!(parse_bytes(r"PING\r\n"), Ok(b"PING\r\n".to_vec()));
        assert_eq!(parse_bytes(r"\xc0\x00\\\t\0"), Ok(vec![0xc0, 0, b'\\', b'\t', 0]));
        for (text, said) in [
            (r"\q", "\\q is no escape"),
            ("\\", "\\ is no escape"),
            (r"\x1", "two hexadecimal digits"),
            (r"\x+1", "two hexadecimal digits"),
            ("", "at least one byte"),
        ] {
            let error = parse_bytes(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
