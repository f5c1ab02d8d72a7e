//! A model check of the exchange (PROTOCOL.md section 7): the real halves and the real verdict in a small
//! world of one client, one gateway and the network between them, every interleaving of it explored.
//! `holds` is what must hold, `broken` shows that the check can fail, rule by rule. `--nocapture` prints the
//! number of states and the shortest way to each violation.
//!
//! Bounds: up to 3 messages, a window of 2, 2 connections at once, up to 3 faults of a kind (so 4 attaches);
//! in all some 3 to 4 million states, the largest scenario with 850,000 states.
//!
//! Left out, because nothing here depends on it: the other direction (the same code), heartbeats, bytes, two
//! clients.

mod broken;
mod client;
mod explorer;
mod gateway;
mod holds;
mod scenario;
mod world;
