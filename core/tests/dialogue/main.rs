//! A gateway's connection where the pulse protocol is spoken, in virtual time: no sleep, no clock, and nothing
//! but the public API. One module per behaviour; `driver` is what they share, `words` what the two sides say.

mod assurance;
mod beats;
mod blocked;
#[path = "../common/mod.rs"]
mod common;
mod confirming;
mod deadlines;
mod document;
mod driver;
mod ends;
mod exchange;
mod farewells;
mod hello;
mod leaving;
mod notices;
mod owed_welcome;
mod preface;
mod questions;
mod random;
#[path = "../common/vectors.rs"]
mod read_vectors;
mod resuming;
mod tokens;
mod vectors;
mod violations;
mod words;
