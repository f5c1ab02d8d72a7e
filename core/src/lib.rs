//! The rules of pulsegate, without any I/O: no socket, no thread, no clock, no log. Time is an argument.
//!
//! A [`Connection`](connection::Connection) is a pure state machine: bytes, the end of input, timeouts and
//! commands go in; bytes to transmit, events and the next timeout come out. A [`Wheel`](wheel::Wheel) says
//! which of very many connections have to be looked at now. A [`StallGuard`](stall::StallGuard) tells the time in which
//! the owner could not run from the time in which a peer was silent.
//!
//! [`pulse`], on top of [`frame`] and [`exchange`], is the pulse protocol (PROTOCOL.md) on one connection, for either
//! side; a gateway's connection speaks it, or raw bytes, as its [`Policy`](policy::Policy) says.
//!
//! This crate is for the other crates of the project. Unlike theirs, its interface may change with any version.
//!
//! Modules, each using only those after it: `connection`, `lines`, `lifetime`, `timer`, `policy`, `pulse`,
//! `close`, `frame`, `exchange`, `sparse`, `wheel`, `stall`, `time`.

pub mod close;
pub mod connection;
pub mod exchange;
pub mod frame;
pub mod lifetime;
pub mod lines;
pub mod policy;
pub mod pulse;
pub mod sparse;
pub mod stall;
pub mod time;
pub mod timer;
pub mod wheel;
