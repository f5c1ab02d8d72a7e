//! pulsegate: a connection gateway, as a library.
//!
//! It accepts very many TCP connections, keeps each one exactly as long as its listener's
//! [`Policy`] says, and hands what they send to a [`Sink`].
//!
//! ```no_run
//! use pulsegate::{Gateway, Handle, ListenerConfig, Message, Sink};
//!
//! struct Greeter;
//!
//! impl Sink for Greeter {
//!     fn handle_message(&mut self, connection: &Handle, message: &Message<'_>) {
//!         println!("#{} says {}", connection.number(), String::from_utf8_lossy(message.payload));
//!         let _ = connection.send(*b"welcome\n");
//!         if message.number == 10 {
//!             let _ = connection.finish();
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = ListenerConfig { sink: "greeter".to_owned(), ..ListenerConfig::default() };
//! let gateway = Gateway::builder().listener(listener).sink("greeter", Greeter).start()?;
//! println!("listening on {}", gateway.addresses()[0]);
//! gateway.wait()?;
//! # Ok(())
//! # }
//! ```
//!
//! Modules, each using only those after it: `gateway`, `stores`, `print`, `event_loop`, `sockets`, `gathering`, `shard`, `post`,
//! `origins`, `sink`, `handle`, `mailbox`, `end`, `id`, `machine`, `tables`, `waker`, `counters`, `listening`, `config`, `limits`,
//! `kept_places`, `place`, `peer`, `clock`, `time_origin`, `text`.

mod clock;
pub mod config;
mod counters;
mod end;
mod event_loop;
mod gateway;
mod gathering;
mod handle;
mod id;
mod kept_places;
mod limits;
mod listening;
mod machine;
mod mailbox;
mod origins;
mod peer;
mod place;
mod post;
mod print;
mod shard;
mod sink;
mod sockets;
mod stores;
mod tables;
pub mod text;
mod time_origin;
mod waker;

pub use config::{Config, ListenerConfig};
pub use counters::Counts;
pub use end::End;
pub use gateway::{Builder, CommitterError, Control, Gateway, RunError, SendError, StartError};
pub use handle::{Handle, HandleError};
pub use id::ConnectionNumber;
pub use post::PushOutcome;
pub use pulsegate_core::close::{CloseReason, Retry, Who};
pub use pulsegate_core::connection::Totals;
pub use pulsegate_core::exchange::{Cursor, Verdict};
pub use pulsegate_core::frame::Durability;
pub use pulsegate_core::policy::{
    Framing, Heartbeat, LifetimePolicy, MinimumRate, Policy, Protocol, PulsePolicy, SecondConnection,
};
pub use pulsegate_core::timer::Timer;
pub use pulsegate_sessions::{
    Attach, AttachRefusal, Attached, Attachment, Committer, EndReason, Figures, Limits, Moment, Outcome,
    Outgoing, PushRefusal, Recipient, Refusal, RefusalCode, Reply, Request, Resume, Seat, Source,
    SubmitError, Ticket, Token,
};
pub use pulsegate_store::StoreConfig;
pub use sink::{Message, Sender, Sink, SinkError};
pub use stores::Replies;
