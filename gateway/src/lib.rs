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
//! Modules, each using only those after it: `gateway`, `stores`, `print`, `event_loop`, `sockets`, `gathering`, `machine`,
//! `tables`, `waker`, `listening`, `config`, `clock`, `text`.

mod clock;
pub mod config;
mod event_loop;
mod gateway;
mod gathering;
mod listening;
mod machine;
mod print;
mod sockets;
mod stores;
mod tables;
pub mod text;
mod waker;

pub use config::{Config, ListenerConfig};
pub use gateway::{Builder, CommitterError, Control, Gateway, RunError, SendError, StartError};
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
pub use pulsegate_shard::{
    ConnectionNumber, Counts, End, Handle, HandleError, Message, PushOutcome, Sender, Sink, SinkError,
};
pub use pulsegate_store::StoreConfig;
pub use stores::Replies;
