//! The test vectors of PROTOCOL.md section 10, in the file that all implementations' tests read.

use super::{encoded, frames};
use pulsegate_core::frame::PREFACE;

const VECTORS: &str = include_str!("../../../protocol-vectors.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_vectors_are_what_is_sent() {
    let ours = std::iter::once(("preface", PREFACE.to_vec()))
        .chain(frames().into_iter().map(|(name, frame)| (name, encoded(&frame))));
    let ours: String = ours.map(|(name, bytes)| format!("{name}: {}\n", hex(&bytes))).collect();
    let theirs: String = VECTORS
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(ours, theirs, "protocol-vectors.txt");
}
