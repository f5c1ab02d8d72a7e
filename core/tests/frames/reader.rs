//! Frames come out of the stream whole, however it is cut, and nothing is kept of what is refused.

use super::{MESSAGE_BYTES_MAX, encoded, frames};
use proptest::prelude::*;
use pulsegate_core::frame::{Beat, Frame, FrameError, FrameReader};

/// What a reader hands over of these pieces, as encoded frames, and how it ends.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Result<FrameReader, FrameError>) {
    let mut reader = FrameReader::default();
    let mut seen = Vec::new();
    for piece in pieces {
        let outcome = reader.handle_input(piece, MESSAGE_BYTES_MAX, |frame| {
            seen.push(encoded(&frame));
            true
        });
        if let Err(fault) = outcome {
            return (seen, Err(fault));
        }
    }
    (seen, Ok(reader))
}

fn stream() -> (Vec<Vec<u8>>, Vec<u8>) {
    let large = vec![7; MESSAGE_BYTES_MAX as usize];
    let mut all: Vec<Vec<u8>> = frames().iter().map(|(_, frame)| encoded(frame)).collect();
    all.push(encoded(&Frame::Message { number: 5, payload: &large }));
    let bytes = all.concat();
    (all, bytes)
}

#[test]
fn one_byte_at_a_time_is_as_good_as_all_at_once() {
    let (frames, bytes) = stream();
    for size in [1, 2, 3, 5, 1000, bytes.len()] {
        let (seen, reader) = read(bytes.chunks(size));
        assert_eq!(seen, frames, "pieces of {size} bytes");
        assert!(reader.unwrap().is_between_frames());
    }
}

#[test]
fn an_unfinished_frame_is_not_handed_over() {
    let (frames, bytes) = stream();
    let (seen, reader) = read([&bytes[..bytes.len() - 1]]);
    assert_eq!(seen.len(), frames.len() - 1);
    assert!(!reader.unwrap().is_between_frames());
}

#[test]
fn a_frame_that_is_too_long_is_refused_by_its_header() {
    let message = [4, 0xFF, 0xFF, 0xFF];
    for pieces in [vec![&message[..]], message.chunks(1).collect()] {
        let (seen, outcome) = read(pieces);
        assert!(seen.is_empty());
        assert_eq!(outcome.unwrap_err(), FrameError::TooLarge);
    }
}

#[test]
fn frames_to_be_skipped_are_not_handed_over_and_hide_nothing() {
    let beat = encoded(&Frame::Beat(Beat::Beat));
    let bytes = [&[0x80, 0, 0, 2, 9, 9][..], &beat].concat();
    for size in 1..=bytes.len() {
        assert_eq!(read(bytes.chunks(size)).0, std::slice::from_ref(&beat));
    }
}

#[test]
fn nothing_is_read_after_the_owner_has_had_enough() {
    let (_, bytes) = stream();
    let mut reader = FrameReader::default();
    let mut seen = 0;
    let outcome = reader.handle_input(&bytes, MESSAGE_BYTES_MAX, |_| {
        seen += 1;
        seen < 3
    });
    assert_eq!((outcome, seen), (Ok(true), 3));
}

proptest! {
    #[test]
    fn however_the_stream_is_cut_the_same_comes_out(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let (frames, bytes) = stream();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).chain([0, bytes.len()]).collect();
        places.sort_unstable();
        let (seen, _) = read(places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]));
        prop_assert_eq!(seen, frames);
    }

    #[test]
    fn any_bytes_in_any_pieces_are_judged_alike(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1_usize..40) {
        let (whole, whole_end) = read([&bytes[..]]);
        let (pieces, pieces_end) = read(bytes.chunks(size));
        prop_assert_eq!(whole, pieces);
        prop_assert_eq!(whole_end.err(), pieces_end.err());
    }
}
