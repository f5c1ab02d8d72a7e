//! Every rule of core, in virtual time: no sleep, no clock, and nothing but the public API. One module per
//! behaviour; `driver` is what they share.

mod closing;
mod closing_random;
mod deadlines;
mod driver;
mod lifetime_long;
mod lifetime_short;
mod lines;
mod million;
mod named_heartbeat;
mod output;
mod pauses;
mod rate;
mod stall;
mod timers;
mod wheel;
mod wheel_random;
