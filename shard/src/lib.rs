//! A shard of pulsegate: very many connections on one thread, without a thread, a socket or a clock of its own.
//!
//! This is a part of `pulsegate`, which is the library to build on. It makes no promises to anybody else: whatever is
//! public here is public for that crate, and may change with each version.
//!
//! A [`Shard`] gets what it needs of the world by the trait [`Io`], and by calls: whoever drives it has a poller, calls
//! [`Shard::turn`] with what that tells, and [`Shard::sleep`] to learn when the next turn is due. Other threads reach it by
//! its [`Mailbox`], its messages go to [`SinkQueue`]s and to [`Committer`](pulsegate_sessions::Committer)s. A simulation
//! does all of that in virtual time (`cargo test -p pulsegate-shard simulation`).
//!
//! Must not know: how sockets are opened and polled, how a store keeps what it keeps, where settings come from.
//!
//! Modules, each using only those after it: `shard`, `post`, `origins`, `sink`, `handle`, `mailbox`, `end`, `id`, `counters`,
//! `limits`, `kept_places`, `place`, `peer`, `time_origin`.

mod counters;
mod end;
mod handle;
mod id;
mod kept_places;
mod limits;
mod mailbox;
mod origins;
mod peer;
mod place;
mod post;
mod shard;
mod sink;
mod time_origin;

pub use counters::{Counts, Published};
pub use end::End;
pub use handle::{Handle, HandleError};
pub use id::{ConnectionId, ConnectionNumber, Numbers};
pub use kept_places::KeptPlaces;
pub use limits::{Bounds, Gauge, Limits};
pub use mailbox::{Command, Mailbox, Refused};
pub use origins::Origins;
pub use peer::Peer;
pub use place::Place;
pub use post::{APPLICATION, Opened, Post, PushOutcome};
pub use shard::held::HeldEnd;
pub use shard::io::{Io, Reach, Ready};
pub use shard::layer::{InputEnd, Layer, MakeLayer, RECEIVED_BYTES_MAX};
pub use shard::ledger::{BACKLOG_BYTES, BACKLOG_PART};
pub use shard::listener::{Delivery, Listener};
pub use shard::{Leftover, Shard, Shared};
pub use sink::queue::{Batch, From, SinkQueue};
pub use sink::{Message, Sender, Sink, SinkError, TryAgain};
pub use time_origin::TimeOrigin;
