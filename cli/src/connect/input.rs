//! Lines of an input as bytes, whatever they hold, within a bound. Must not know: what becomes of them.

use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// A line of the input, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// All of it.
    Whole(Vec<u8>),
    /// It was longer than allowed, with so many bytes, and is not kept.
    TooLong(u64),
}

/// An input that is cut into lines.
pub(super) struct Input<R> {
    from: R,
    bytes_max: usize,
    line: Vec<u8>,
    /// How long the line is up to here, of which `line` has at most `bytes_max`.
    bytes: u64,
}

impl<R: AsyncBufRead + Unpin> Input<R> {
    /// Lines of at most this many bytes.
    pub(super) fn new(from: R, bytes_max: usize) -> Self {
        Self { from, bytes_max, line: Vec::new(), bytes: 0 }
    }

    /// The next line; `None` after the last one, which needs no line end. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When the input can't be read.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let input = self.from.fill_buf().await?;
            if input.is_empty() {
                return Ok((self.bytes > 0).then(|| self.cut()));
            }
            let end = input.iter().position(|&byte| byte == b'\n');
            let body = input.get(..end.unwrap_or(input.len())).unwrap_or_default();
            // One byte more than allowed, for what may be half of a line end.
            let room = (self.bytes_max + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(body.get(..room).unwrap_or(body));
            self.bytes += body.len() as u64;
            let taken = body.len() + usize::from(end.is_some());
            self.from.consume(taken);
            if end.is_some() {
                return Ok(Some(self.cut()));
            }
        }
    }

    fn cut(&mut self) -> Line {
        let mut line = std::mem::take(&mut self.line);
        let bytes = std::mem::take(&mut self.bytes);
        if line.len() as u64 == bytes && line.last() == Some(&b'\r') {
            line.pop();
        }
        if bytes > line.len() as u64 + 1 || line.len() > self.bytes_max {
            return Line::TooLong(bytes);
        }
        Line::Whole(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::BufReader;

    async fn lines(text: &[u8], bytes_max: usize) -> Vec<Line> {
        let mut input = Input::new(BufReader::with_capacity(3, text), bytes_max);
        let mut lines = Vec::new();
        while let Some(line) = input.next().await.expect("a slice can be read") {
            lines.push(line);
        }
        lines
    }

    fn whole(text: &[u8]) -> Line {
        Line::Whole(text.to_vec())
    }

    #[tokio::test]
    async fn bytes_that_are_not_text_are_a_line_like_any_other() {
        let expected = [whole(b"one"), whole(b"\xff\xfe\0"), whole(b""), whole(b"two"), whole(b"rest")];
        assert_eq!(lines(b"one\n\xff\xfe\0\n\ntwo\r\nrest", 10).await, expected);
        assert_eq!(lines(b"", 10).await, []);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_takes_no_other_along() {
        let text = b"12345\n123456\n12345\r\n1234567\r\n12345678901234567890\nend";
        let expected = [
            whole(b"12345"),
            Line::TooLong(6),
            whole(b"12345"),
            Line::TooLong(8),
            Line::TooLong(20),
            whole(b"end"),
        ];
        assert_eq!(lines(text, 5).await, expected);
    }
}
