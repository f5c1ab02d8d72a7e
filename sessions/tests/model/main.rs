//! A model check of the exchange (PROTOCOL.md section 7): the halves of the exchange and the rules of sessions that ship,
//! in a small world of one client, one gateway and the network between them, every interleaving of it explored.
//! `holds` is what must hold, `broken` shows that the check can fail, fault by fault. `--nocapture` prints the
//! number of states and the shortest way to each violation.
//!
//! Bounds: up to 3 messages, a window of 2, 2 connections at once, up to 3 faults of a kind (so 4 attaches);
//! in all some 6 million states, the largest scenario with 930,000 states.
//!
//! Left out, because nothing here depends on it: the other direction (the same code), heartbeats, bytes, two
//! clients, limits but that of refusals. Of those 63 of 64 are taken where it is about them.

#[path = "../common/mod.rs"]
mod common;

mod broken;
mod client;
mod explorer;
mod gateway;
mod holds;
mod scenario;
mod store;
mod wiring;
mod world;
