//! Text for a terminal: bytes made harmless, and a stream of bytes cut into lines within a bound. Must not know:
//! sockets, or where the text is shown.

use std::fmt::Write;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of a line that are shown; of longer ones the beginning, and their length.
pub(super) const SHOWN_BYTES_MAX: usize = 256;

/// How long an unfinished line waits for its end before it is shown as it is.
const UNFINISHED_WAIT: Duration = Duration::from_millis(100);

/// Cuts what comes in into lines, and holds no more of an unfinished one than is shown.
#[derive(Default)]
pub(super) struct Lines {
    head: Vec<u8>,
    bytes: usize,
    due: Option<Instant>,
}

impl Lines {
    /// Takes in bytes that arrived at `now`; returns the lines that they complete, ready to be shown.
    pub(super) fn push(&mut self, input: &[u8], now: Instant) -> Vec<String> {
        let mut complete = Vec::new();
        for piece in input.split_inclusive(|&byte| byte == b'\n') {
            let body = piece.strip_suffix(b"\n");
            self.append(body.unwrap_or(piece));
            if body.is_some() {
                complete.push(self.cut());
            }
        }
        if self.bytes > 0 && self.due.is_none() {
            self.due = Some(now + UNFINISHED_WAIT);
        }
        complete
    }

    /// When the unfinished line, if there is one, is to be shown without its end.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes out the unfinished line, ready to be shown.
    pub(super) fn take_unfinished(&mut self) -> Option<String> {
        (self.bytes > 0).then(|| self.cut())
    }

    fn append(&mut self, body: &[u8]) {
        let room = SHOWN_BYTES_MAX - self.head.len();
        self.head.extend_from_slice(&body[..body.len().min(room)]);
        self.bytes += body.len();
    }

    fn cut(&mut self) -> String {
        let text = shown(&self.head, self.bytes);
        self.head.clear();
        self.bytes = 0;
        self.due = None;
        text
    }
}

/// The text in quotes, escaped so that it can't drive a terminal; `bytes` is its whole length, of which `head` may be
/// only the beginning.
pub(super) fn shown(head: &[u8], bytes: usize) -> String {
    let mut head = &head[..head.len().min(SHOWN_BYTES_MAX)];
    let is_cut = head.len() < bytes;
    if is_cut
        && let Err(error) = std::str::from_utf8(head)
        && error.error_len().is_none()
    {
        head = &head[..error.valid_up_to()];
    }
    let mut text = String::from("\"");
    for chunk in head.utf8_chunks() {
        // Of all escapes, those of `Debug` keep printable text readable and leave no control character.
        let quoted = format!("{:?}", chunk.valid());
        text.push_str(&quoted[1..quoted.len() - 1]);
        for byte in chunk.invalid() {
            // Writing into a String can't fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
    if is_cut {
        let _ = write!(text, "... ({bytes} bytes)");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &[u8]) -> String {
        shown(text, text.len())
    }

    #[test]
    fn printable_text_is_shown_as_it_is() {
        assert_eq!(whole("it's 5 µs".as_bytes()), "\"it's 5 µs\"");
    }

    #[test]
    fn nothing_that_drives_a_terminal_passes() {
        let text = whole(b"\x1b[2J\x07\r\t\0\x7f\xff\xc2\x9b\xe2\x80\xae\"\\");
        assert_eq!(text, r#""\u{1b}[2J\u{7}\r\t\0\u{7f}\xff\u{9b}\u{202e}\"\\""#);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = format!("{}é tail", "a".repeat(SHOWN_BYTES_MAX - 1));
        let expected = format!("\"{}\"... ({} bytes)", "a".repeat(SHOWN_BYTES_MAX - 1), text.len());
        assert_eq!(whole(text.as_bytes()), expected);
    }

    #[tokio::test]
    async fn lines_are_put_together_over_chunks() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        assert_eq!(lines.push(b"one\ntw", now), ["\"one\""]);
        assert_eq!(lines.due(), Some(now + UNFINISHED_WAIT));
        assert_eq!(lines.push(b"o\n\nthr", now), ["\"two\"", "\"\""]);
        assert_eq!(lines.take_unfinished().as_deref(), Some("\"thr\""));
        assert_eq!((lines.take_unfinished(), lines.due()), (None, None));
    }

    #[tokio::test]
    async fn an_endless_line_takes_no_more_memory_than_its_head() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        for _ in 0..1000 {
            assert!(lines.push(&[b'x'; 4096], now).is_empty());
        }
        assert_eq!(lines.head.len(), SHOWN_BYTES_MAX);
        let shown = lines.push(b"\n", now);
        assert!(shown[0].ends_with("x\"... (4096000 bytes)"), "{shown:?}");
    }
}
