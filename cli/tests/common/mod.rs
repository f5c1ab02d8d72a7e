//! What the tests of the program share: the program as a child, and what the tests of the library share. Must not know
//! what is tested.
#![allow(dead_code, unused_imports, reason = "each test program uses its own part of this")]

#[path = "../../../gateway/tests/common/mod.rs"]
mod library;
pub(crate) mod program;
pub(crate) mod server;

pub(crate) use library::*;
