//! Frames: the test vectors that every implementation reads, limits before allocation, and no bytes that panic.

#[path = "../common/vectors.rs"]
mod read_vectors;
mod reader;
mod vectors;

use proptest::prelude::*;
use pulsegate_core::exchange::Window;
use pulsegate_core::frame::{
    BODY_BYTES_MAX, Beat, Bye, Durability, Frame, FrameError, HEADER_BYTES, Header, Hello, LifetimeKind,
    PREFACE, Refusals, VERSION_PLACE, Welcome,
};

const MESSAGE_BYTES_MAX: u32 = 4096;

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

/// As a receiver does it: the header is checked before the body is looked at.
fn decoded(bytes: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().expect("a whole header");
    let header = Header::decode(*header);
    header.check(MESSAGE_BYTES_MAX)?;
    assert_eq!(header.body_bytes(), body.len(), "a whole body");
    Frame::decode(header, body)
}

fn hello() -> Hello<'static> {
    Hello {
        lifetime: LifetimeKind::Long,
        beat_min_ms: 1_000,
        beat_max_ms: 60_000,
        window: Window { messages: 64, bytes: 65_536 },
        message_bytes_max: 65_536,
        session: 7,
        token: [0xAB; 16],
        committed: 3,
        acknowledged: 9,
        id: "sensor-7",
        refused: Refusals::default(),
    }
}

fn welcome() -> Welcome<'static> {
    Welcome {
        resumed: true,
        lifetime: LifetimeKind::Short,
        durability: Durability::Synced,
        beat_interval_ms: 1_666,
        beat_timeout_ms: 5_000,
        remaining_ms: 10_000,
        session_ttl_ms: 3_600_000,
        window: Window { messages: 256, bytes: 1_048_576 },
        message_bytes_max: 65_536,
        server_time_ms: 1_795_000_000_000,
        session: 7,
        token: [0xCD; 16],
        committed: 9,
        acknowledged: 3,
        lost: (8, 9),
        refused: Refusals::default(),
    }
}

/// Message 2, over quota.
const TWO_FOR_QUOTA: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 2, 0, 2];
/// Message 2, over quota, and message 9, too large.
const TWO_AND_NINE: [u8; 20] = [0, 0, 0, 0, 0, 0, 0, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1];

fn refusals(bytes: &'static [u8]) -> Refusals<'static> {
    Refusals::read(bytes, 9).expect("numbers in order, up to 9")
}

#[test]
fn refusals_are_named_in_order_and_up_to_the_cursor() {
    assert_eq!(Refusals::write([(2, 2), (9, 1)]), TWO_AND_NINE);
    assert_eq!(refusals(&TWO_AND_NINE).iter().collect::<Vec<_>>(), [(2, 2), (9, 1)]);
    for (what, list, committed) in [
        ("beyond the cursor", vec![(2, 2), (9, 1)], 8),
        ("number 0", vec![(0, 1)], 8),
        ("twice the same", vec![(2, 2), (2, 2)], 8),
        ("out of order", vec![(3, 2), (2, 2)], 8),
        ("too many", (1..=65).map(|number| (number, 1)).collect(), 99),
    ] {
        assert_eq!(Refusals::read(&Refusals::write(list), committed), Err(FrameError::Malformed), "{what}");
    }
    assert_eq!(Refusals::read(&TWO_AND_NINE[..19], 9), Err(FrameError::Malformed), "half a refusal");
    let most = Refusals::write((1..=64).map(|number| (number, 1)));
    assert_eq!(Refusals::read(&most, 64).map(|refusals| refusals.iter().count()), Ok(64));
}

fn frames() -> Vec<(&'static str, Frame<'static>)> {
    vec![
        ("hello", Frame::Hello(hello())),
        (
            "hello of a new session",
            Frame::Hello(Hello {
                session: 0,
                token: [0; 16],
                committed: 0,
                acknowledged: 0,
                id: "ü",
                ..hello()
            }),
        ),
        ("hello with a refusal", Frame::Hello(Hello { refused: refusals(&TWO_FOR_QUOTA), ..hello() })),
        ("welcome", Frame::Welcome(welcome())),
        ("welcome with refusals", Frame::Welcome(Welcome { refused: refusals(&TWO_AND_NINE), ..welcome() })),
        ("beat", Frame::Beat(Beat::Beat)),
        ("question", Frame::Beat(Beat::Question)),
        ("answer", Frame::Beat(Beat::Answer)),
        ("message", Frame::Message { number: 1, payload: b"hello" }),
        ("empty message", Frame::Message { number: u64::MAX, payload: b"" }),
        ("receipt", Frame::Receipt { committed: 258 }),
        ("refuse", Frame::Refuse { number: 2, code: 1, text: "too large" }),
        ("confirm", Frame::Confirm { floor: 258 }),
        ("notice", Frame::Notice { code: 1, in_ms: 5_000, text: "the deadline is near" }),
        ("bye", Frame::Bye(Bye { code: 12, retry: 1, delay_ms: 0, committed: 258, text: "short deadline" })),
    ]
}

#[test]
fn every_frame_survives_the_way() {
    for (name, frame) in frames() {
        assert_eq!(decoded(&encoded(&frame)), Ok(Some(frame)), "{name}");
    }
}

#[test]
fn the_preface_names_its_version() {
    assert_eq!(PREFACE[VERSION_PLACE], 1);
}

#[test]
fn a_body_of_another_length_is_refused() {
    for (name, frame) in frames() {
        let bytes = encoded(&frame);
        let whole = bytes.len() - HEADER_BYTES;
        for length in 0..whole {
            let mut short = bytes[..HEADER_BYTES + length].to_vec();
            short[1..HEADER_BYTES].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
            if let Ok(Some(other)) = decoded(&short) {
                assert_ne!(other, frame, "{name} cut to {length} bytes");
            }
        }
    }
}

#[test]
fn lengths_are_checked_before_anything_else() {
    let check = |kind: u8, length: u32| {
        let header = (u32::from(kind) << 24 | length).to_be_bytes();
        Header::decode(header).check(MESSAGE_BYTES_MAX)
    };
    assert_eq!(check(0x04, 8 + MESSAGE_BYTES_MAX), Ok(()));
    assert_eq!(check(0x04, 9 + MESSAGE_BYTES_MAX), Err(FrameError::TooLarge));
    assert_eq!(check(0x04, 7), Err(FrameError::Malformed));
    assert_eq!(check(0x01, 0xFF_FFFF), Err(FrameError::TooLarge));
    assert_eq!(check(0x05, 9), Err(FrameError::Malformed));
    assert_eq!(check(0x00, 0), Err(FrameError::Unknown));
    assert_eq!(check(0x0A, 0), Err(FrameError::Unknown));
    assert_eq!(check(0x7F, 0), Err(FrameError::Unknown));
    assert_eq!(check(0x80, BODY_BYTES_MAX as u32), Ok(()));
    assert_eq!(check(0xFF, BODY_BYTES_MAX as u32 + 1), Err(FrameError::TooLarge));
}

#[test]
fn fields_out_of_range_are_refused() {
    let spoiled = |frame: Frame<'_>, place: usize, byte: u8| {
        let mut bytes = encoded(&frame);
        bytes[HEADER_BYTES + place] = byte;
        decoded(&bytes).map(|_| ())
    };
    for (what, frame, place, byte, fault) in [
        ("a lifetime that does not exist", Frame::Hello(hello()), 0, 3, FrameError::Malformed),
        ("a zero that is none", Frame::Hello(hello()), 1, 1, FrameError::Malformed),
        ("an id that is shorter than told", Frame::Hello(hello()), 3, 9, FrameError::Malformed),
        ("an id of no length", Frame::Hello(hello()), 3, 0, FrameError::Malformed),
        ("a beat_min above beat_max", Frame::Hello(hello()), 4, 0xFF, FrameError::Malformed),
        ("no window", Frame::Hello(hello()), 15, 0, FrameError::Malformed),
        ("a window smaller than a message", Frame::Hello(hello()), 17, 0, FrameError::Malformed),
        ("an id that is no text", Frame::Hello(hello()), 64, 0xFF, FrameError::BadText),
        ("an outcome that does not exist", Frame::Welcome(welcome()), 0, 2, FrameError::Malformed),
        ("any lifetime in a welcome", Frame::Welcome(welcome()), 1, 0, FrameError::Malformed),
        ("a beat that does not exist", Frame::Beat(Beat::Beat), 0, 3, FrameError::Malformed),
        ("message number 0", Frame::Message { number: 1, payload: b"" }, 7, 0, FrameError::Malformed),
        (
            "a retry that does not exist",
            Frame::Bye(Bye { code: 0, retry: 0, delay_ms: 0, committed: 0, text: "" }),
            2,
            3,
            FrameError::Malformed,
        ),
        (
            "a text that is none",
            Frame::Refuse { number: 1, code: 1, text: "x" },
            10,
            0xC0,
            FrameError::BadText,
        ),
    ] {
        assert_eq!(spoiled(frame, place, byte), Err(fault), "{what}");
    }
    let forgotten = Hello { session: 0, ..hello() };
    assert_eq!(
        decoded(&encoded(&Frame::Hello(forgotten))),
        Err(FrameError::Malformed),
        "a token of no session"
    );
}

#[test]
fn types_to_be_skipped_are_skipped() {
    assert_eq!(decoded(&[0x80, 0, 0, 2, 1, 2]), Ok(None));
    assert_eq!(decoded(&[0xFF, 0, 0, 0]), Ok(None));
}

#[test]
fn texts_are_cut_at_a_character() {
    let long = "ü".repeat(400);
    let bytes = encoded(&Frame::Notice { code: 1, in_ms: 0, text: &long });
    let Ok(Some(Frame::Notice { text, .. })) = decoded(&bytes) else { panic!("a notice") };
    assert_eq!(text, "ü".repeat(256));
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_is_understood_is_canonical(kind: u8, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = (u32::from(kind) << 24 | body.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&body);
        if let Ok(Some(frame)) = decoded(&bytes) {
            prop_assert_eq!(encoded(&frame), bytes);
        }
    }

    #[test]
    fn a_frame_with_one_byte_changed_is_refused_or_canonical(place in 0_usize..15, at: prop::sample::Index, byte: u8) {
        let (_, frame) = frames()[place];
        let mut bytes = encoded(&frame);
        let at = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
        bytes[at] = byte;
        if let Ok(Some(frame)) = decoded(&bytes) {
            prop_assert_eq!(encoded(&frame), bytes);
        }
    }
}

#[test]
fn a_durability_that_is_not_known_is_passed_on_as_a_number() {
    for code in 0..=u8::MAX {
        assert_eq!(Durability::from_code(code).code(), code);
    }
    let mut bytes = Vec::new();
    Frame::Welcome(Welcome { durability: Durability::Other(7), ..welcome() }).encode(&mut bytes);
    let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().expect("a header");
    let frame = Frame::decode(Header::decode(*header), body).expect("a frame");
    assert!(matches!(frame, Some(Frame::Welcome(welcome)) if welcome.durability == Durability::Other(7)));
    assert_eq!(Durability::Other(7).to_string(), "at durability 7");
}
