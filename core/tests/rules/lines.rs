//! Cutting bytes into lines gives the same lines however the bytes are split, and stops when it is told to.

use proptest::prelude::*;
use pulsegate_core::lines::Lines;

const BYTES_MAX: usize = 6;

/// The lines of `inputs`, and whether none was too long.
fn cut<'a>(inputs: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
    let (mut lines, mut seen) = (Lines::default(), Vec::new());
    for input in inputs {
        let outcome = lines.handle_input(input, BYTES_MAX, |line| {
            seen.push(line.to_vec());
            true
        });
        if outcome.is_err() {
            return (seen, false);
        }
        assert!(lines.kept() <= BYTES_MAX + 1, "an unfinished line is bounded, too");
    }
    (seen, true)
}

#[test]
fn it_stops_at_the_line_at_which_it_is_told_to() {
    let mut seen = 0;
    let outcome = Lines::default().handle_input(b"one\ntwo\nlonger than allowed\n", BYTES_MAX, |_| {
        seen += 1;
        seen < 2
    });
    assert_eq!((outcome, seen), (Ok(()), 2));
}

proptest! {
    #[test]
    fn the_same_lines_come_out_however_the_bytes_are_split(
        text in prop::collection::vec(prop::sample::select(&b"ab\n\r"[..]), 0..40),
        size in 1_usize..8,
    ) {
        let (split, whole) = (cut(text.chunks(size)), cut([&text[..]]));
        // A line too long is seen as early as its bytes are there, in either way.
        prop_assert_eq!(split, whole);
    }

    #[test]
    fn what_fits_is_what_splitting_by_hand_gives(
        text in prop::collection::vec(prop::sample::select(&b"ab\n\r"[..]), 0..40),
    ) {
        let mut expected: Vec<Vec<u8>> = text
            .split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec())
            .collect();
        expected.pop();
        let (seen, fit) = cut([&text[..]]);
        let fitting = expected.iter().take_while(|line| line.len() <= BYTES_MAX).count();
        prop_assert_eq!(&seen[..], &expected[..fitting]);
        prop_assert!(!fit || fitting == expected.len());
    }
}
