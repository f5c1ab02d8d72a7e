//! The documents that are made from the tables of keys. `PULSEGATE_REWRITE=1 cargo test -p pulsegate-config documents` makes
//! them anew.

use crate::reference::{example, reference};
use std::path::Path;

/// Compares a file of the repository with what it has to be, or makes it so.
#[track_caller]
fn check(path: &str, made: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if std::env::var_os("PULSEGATE_REWRITE").is_some() {
        std::fs::write(&file, made).expect(path);
    }
    let there = std::fs::read_to_string(&file).expect(path);
    let differs = there.lines().zip(made.lines()).find(|(there, made)| there != made);
    assert!(
        there == made,
        "{path} is not what the tables say: {differs:?}; \
         PULSEGATE_REWRITE=1 cargo test -p pulsegate-config documents"
    );
}

#[test]
fn the_documents_say_what_the_tables_of_keys_say() {
    check("pulsegate.example.toml", &example());
    check("docs/reference.md", &reference());
}
