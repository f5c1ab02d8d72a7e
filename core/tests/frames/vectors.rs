//! The test vectors of PROTOCOL.md section 10, in the file that all implementations' tests read, field by field.

use super::{Frame, encoded};
use crate::read_vectors::{Vector, vectors};
use pulsegate_core::frame::{Beat, Bye, FrameError, FrameReader, Hello, PREFACE, Refusals, Welcome};

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() { "-".into() } else { bytes.iter().map(|byte| format!("{byte:02x}")).collect() }
}

fn list(refused: &Refusals<'_>) -> String {
    let list: Vec<String> = refused.iter().map(|(number, code)| format!("{number}:{code}")).collect();
    if list.is_empty() { "-".into() } else { list.join(" ") }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn hello(hello: &Hello<'_>) -> Vec<(&'static str, String)> {
    vec![
        ("frame", "HELLO".into()),
        ("lifetime", (hello.lifetime as u8).to_string()),
        ("beat_min", hello.beat_min_ms.to_string()),
        ("beat_max", hello.beat_max_ms.to_string()),
        ("window_messages", hello.window.messages.to_string()),
        ("window_bytes", hello.window.bytes.to_string()),
        ("message_max", hello.message_bytes_max.to_string()),
        ("session", hello.session.to_string()),
        ("token", hex(&hello.token)),
        ("committed", hello.committed.to_string()),
        ("acknowledged", hello.acknowledged.to_string()),
        ("id", quoted(hello.id)),
        ("refused", list(&hello.refused)),
    ]
}

fn welcome(welcome: &Welcome<'_>) -> Vec<(&'static str, String)> {
    vec![
        ("frame", "WELCOME".into()),
        ("outcome", u8::from(welcome.resumed).to_string()),
        ("lifetime", (welcome.lifetime as u8).to_string()),
        ("durability", welcome.durability.code().to_string()),
        ("beat_interval", welcome.beat_interval_ms.to_string()),
        ("beat_timeout", welcome.beat_timeout_ms.to_string()),
        ("remaining", welcome.remaining_ms.to_string()),
        ("session_ttl", welcome.session_ttl_ms.to_string()),
        ("window_messages", welcome.window.messages.to_string()),
        ("window_bytes", welcome.window.bytes.to_string()),
        ("message_max", welcome.message_bytes_max.to_string()),
        ("server_time", welcome.server_time_ms.to_string()),
        ("session", welcome.session.to_string()),
        ("token", hex(&welcome.token)),
        ("committed", welcome.committed.to_string()),
        ("acknowledged", welcome.acknowledged.to_string()),
        ("lost_from", welcome.lost.0.to_string()),
        ("lost_to", welcome.lost.1.to_string()),
        ("refused", list(&welcome.refused)),
    ]
}

fn bye(bye: &Bye<'_>) -> Vec<(&'static str, String)> {
    vec![
        ("frame", "BYE".into()),
        ("code", bye.code.to_string()),
        ("retry", bye.retry.to_string()),
        ("delay", bye.delay_ms.to_string()),
        ("committed", bye.committed.to_string()),
        ("text", quoted(bye.text)),
    ]
}

/// A frame's fields with the names of PROTOCOL.md, in its order.
fn fields(frame: &Frame<'_>) -> Vec<(&'static str, String)> {
    match *frame {
        Frame::Hello(ref frame) => hello(frame),
        Frame::Welcome(ref frame) => welcome(frame),
        Frame::Bye(ref frame) => bye(frame),
        Frame::Beat(beat) => {
            let kind = [Beat::Beat, Beat::Question, Beat::Answer].iter().position(|kind| *kind == beat);
            vec![("frame", "BEAT".into()), ("kind", kind.expect("one of them").to_string())]
        }
        Frame::Message { number, payload } => {
            vec![("frame", "MESSAGE".into()), ("number", number.to_string()), ("payload", hex(payload))]
        }
        Frame::Receipt { committed } => {
            vec![("frame", "RECEIPT".into()), ("committed", committed.to_string())]
        }
        Frame::Confirm { floor } => vec![("frame", "CONFIRM".into()), ("floor", floor.to_string())],
        Frame::Refuse { number, code, text } => vec![
            ("frame", "REFUSE".into()),
            ("number", number.to_string()),
            ("code", code.to_string()),
            ("text", quoted(text)),
        ],
        Frame::Notice { code, in_ms, text } => vec![
            ("frame", "NOTICE".into()),
            ("code", code.to_string()),
            ("within", in_ms.to_string()),
            ("text", quoted(text)),
        ],
    }
}

fn is_understood(vector: &Vector) -> bool {
    vector.field("frame").is_some()
}

#[test]
fn the_vectors_say_what_their_fields_are() {
    for vector in vectors().iter().filter(|vector| is_understood(vector)) {
        let mut seen = Vec::new();
        let outcome = FrameReader::default().handle_input(&vector.bytes, 1 << 20, |frame| {
            assert_eq!(encoded(&frame), vector.bytes, "{}", vector.name);
            seen.push(fields(&frame));
            true
        });
        match vector.field("frame") {
            Some("preface") => assert_eq!(vector.bytes, PREFACE),
            Some("skipped") => assert_eq!((outcome, seen.len()), (Ok(true), 0), "{}", vector.name),
            _ => {
                let theirs = vector.fields.iter().map(|(key, value)| (*key, (*value).to_owned()));
                assert_eq!(seen, [theirs.collect::<Vec<_>>()], "{}", vector.name);
                assert_eq!(outcome, Ok(true), "{}", vector.name);
            }
        }
    }
}

#[test]
fn each_type_of_frame_has_its_vectors_and_fields_that_could_be_swapped_differ() {
    let vectors = vectors();
    let of = |frame: &str| vectors.iter().filter(|vector| vector.field("frame") == Some(frame)).count();
    for frame in
        ["HELLO", "WELCOME", "BEAT", "MESSAGE", "RECEIPT", "REFUSE", "CONFIRM", "NOTICE", "BYE", "skipped"]
    {
        assert!(of(frame) > 0, "{frame}");
    }
    for name in ["hello", "welcome"] {
        let vector = vectors.iter().find(|vector| vector.name == name).expect("it is there");
        let mut values: Vec<u64> = vector
            .fields
            .iter()
            .filter(|(key, value)| *value != "0" && !matches!(*key, "lifetime" | "durability" | "outcome"))
            .filter_map(|(_, value)| value.parse().ok())
            .collect();
        values.sort_unstable();
        assert!(values.windows(2).all(|pair| pair[0] != pair[1]), "{name}: {values:?}");
    }
}

/// Those of which a frame alone shows what is wrong; the others need a connection (core/tests/dialogue).
#[test]
fn what_must_be_refused_is_refused_with_its_code() {
    for vector in vectors() {
        let Some(code @ (32..=34 | 39)) = vector.code().filter(|_| !is_understood(&vector)) else { continue };
        let limit = if vector.field("state") == Some("attached") { 1000 } else { 1016 };
        let fault = FrameReader::default().handle_input(&vector.bytes, limit, |_| true);
        let expected = match code {
            32 => FrameError::Malformed,
            33 => FrameError::Unknown,
            34 => FrameError::TooLarge,
            _ => FrameError::BadText,
        };
        assert_eq!(fault, Err(expected), "{}", vector.name);
    }
}
