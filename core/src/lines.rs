//! Cuts received bytes into lines. Keeps only the beginning of an unfinished line between two inputs.

/// A line is longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a line is longer than allowed")
    }
}

impl std::error::Error for TooLong {}

/// The unfinished line of one connection; nothing is allocated while there is none.
#[derive(Debug, Default)]
pub struct Lines {
    unfinished: Vec<u8>,
}

impl Lines {
    /// Takes input and hands each complete line to `on_line`, without its `\n` or `\r\n`, until `on_line`
    /// returns `false`.
    ///
    /// # Errors
    /// [`TooLong`] when a line, complete or not, is longer than `bytes_max`; the lines before it have been
    /// handed over, but nothing of this one or after it.
    pub fn handle_input(
        &mut self,
        input: &[u8],
        bytes_max: usize,
        mut on_line: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), TooLong> {
        let mut rest = input;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (head, tail) = (&rest[..end], &rest[end + 1..]);
            rest = tail;
            let go_on = if self.unfinished.is_empty() {
                on_line(checked(head, bytes_max)?)
            } else {
                let mut line = std::mem::take(&mut self.unfinished);
                line.extend_from_slice(head);
                on_line(checked(&line, bytes_max)?)
            };
            if !go_on {
                return Ok(());
            }
        }
        self.keep(rest, bytes_max)
    }

    /// How many bytes of an unfinished line are kept.
    #[must_use]
    pub const fn kept(&self) -> usize {
        self.unfinished.len()
    }

    fn keep(&mut self, rest: &[u8], bytes_max: usize) -> Result<(), TooLong> {
        if rest.is_empty() {
            return Ok(());
        }
        // One byte more than a line may have: it may be the `\r` of the line end.
        let length = self.kept() + rest.len();
        if length > bytes_max + 1 || (length > bytes_max && !rest.ends_with(b"\r")) {
            self.unfinished = Vec::new();
            return Err(TooLong);
        }
        self.unfinished.extend_from_slice(rest);
        Ok(())
    }
}

fn checked(line: &[u8], bytes_max: usize) -> Result<&[u8], TooLong> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > bytes_max { Err(TooLong) } else { Ok(line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(inputs: &[&str], bytes_max: usize) -> (Vec<String>, Result<(), TooLong>) {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for input in inputs {
            let outcome = lines.handle_input(input.as_bytes(), bytes_max, |line| {
                seen.push(String::from_utf8_lossy(line).into_owned());
                true
            });
            if outcome.is_err() {
                return (seen, outcome);
            }
        }
        (seen, Ok(()))
    }

    #[test]
    fn lines_come_out_whole_however_they_are_split() {
        let text = "one\r\n\ntwo\nthree\n";
        for split in 0..=text.len() {
            let (head, tail) = text.split_at(split);
            let (seen, outcome) = cut(&[head, tail], 8);
            assert_eq!((seen, outcome), (["one", "", "two", "three"].map(str::to_owned).to_vec(), Ok(())));
        }
    }

    #[test]
    fn a_line_of_the_greatest_length_passes_and_one_byte_more_does_not() {
        assert_eq!(cut(&["1234\r\n"], 4), (vec!["1234".to_owned()], Ok(())));
        assert_eq!(cut(&["1234\r", "\n"], 4), (vec!["1234".to_owned()], Ok(())));
        assert_eq!(cut(&["ok\n12345\n"], 4), (vec!["ok".to_owned()], Err(TooLong)));
        assert_eq!(cut(&["12", "34", "5"], 4), (vec![], Err(TooLong)));
        assert_eq!(cut(&["1234\r\r"], 4), (vec![], Err(TooLong)));
    }

    #[test]
    fn a_finished_line_leaves_nothing_allocated() {
        let mut lines = Lines::default();
        lines.handle_input(b"a", 8, |_| true).unwrap();
        assert_eq!(lines.kept(), 1);
        lines.handle_input(b"b\n", 8, |_| true).unwrap();
        assert_eq!(lines.unfinished.capacity(), 0);
    }
}
