//! A client over its quota with far more in flight than the gateway keeps refusals: each message gets its outcome
//! (PROTOCOL.md section 7.3). The real program on both ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::PATIENCE;
use common::program::{Program, pulsegate};

fn serve(directory: &std::path::Path, quota_bytes: &str) -> (Program, String) {
    let config = directory.join("pulsegate.toml");
    let data = directory.join("data");
    let text = format!(
        "[store]\ndata_dir = {data:?}\nquota_bytes_max = {quota_bytes:?}\nquota_every = \"1h\"\n\n\
         [[listener]]\nlisten = \"127.0.0.1:0\"\nprotocol = \"pulse\"\nsink = \"store\"\nmessage_bytes_max = \"1KiB\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let gateway = Program::start(pulsegate(&["serve", "--config", config.to_str().unwrap()]));
    let address = gateway.address().to_string();
    (gateway, address)
}

/// Feeds so many lines of 64 bytes, and returns how many were told to be committed and refused, and the exit code.
fn send(address: &str, lines: usize) -> (usize, usize, Option<i32>) {
    let mut client = Program::start_fed(pulsegate(&["connect", address, "--id", "meter"]));
    (0..lines).for_each(|line| client.feed(&format!("{line:064}")));
    let ended = client.finish(PATIENCE);
    let said = |words: &str| ended.said.iter().filter(|line| line.contains(words)).count();
    let last = ended.said.last().unwrap();
    assert!(!ended.said.iter().any(|line| line.contains("unknown")), "{last}");
    (said(" received ("), said("not accepted"), ended.code)
}

#[test]
fn two_hundred_lines_over_a_quota_all_get_their_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, address) = serve(directory.path(), "2KiB");
    let (committed, refused, code) = send(&address, 200);
    assert_eq!((committed, refused, code), (16, 184, Some(3)), "{}", gateway.stderr());
}
