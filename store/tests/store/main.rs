//! The store through its public interface. Time is handed in, so nothing sleeps; what needs a process of its own
//! runs this executable again, as its child.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a reply that is not to come fails the test, whichever it is"
)]

mod appending;
mod child;
mod connections;
mod crash;
mod displaced;
mod driver;
mod exchange;
mod faults;
mod goes_on;
mod in_doubt;
mod memory;
mod order;
mod orphans;
mod outgoing;
mod overwritten;
mod random;
mod reading;
mod refusals;
mod room;
mod sessions;
mod shares;
mod upkeep;
