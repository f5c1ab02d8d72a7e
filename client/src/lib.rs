//! The client of pulsegate for tokio: messages whose fate is known, over as many connections as it takes
//! (PROTOCOL.md).
//!
//! Modules, each using only those after it: `client`, `driver`, `session`, `link`, `ledger`, `inbound`, `message`,
//! `outbox`, `journal`, `command`, `delivery`, `event`, `ended`, `options`, `backoff`, `deadlined`.

mod backoff;
mod client;
mod command;
mod deadlined;
mod delivery;
mod driver;
mod ended;
mod event;
mod inbound;
mod journal;
mod ledger;
mod link;
mod message;
mod options;
#[cfg(feature = "outbox")]
mod outbox;
mod session;

pub use backoff::Backoff;
pub use bytes::Bytes;
pub use client::{Client, ConnectError};
pub use deadlined::{Deadlined, Deadlines};
pub use delivery::{Committed, Delivery, SendError, TrySendError};
pub use ended::{Closed, Reason};
pub use event::{Connected, Event, Events};
pub use message::Message;
pub use options::{Options, OptionsError, Reconnect, SavedSession};
#[cfg(feature = "outbox")]
pub use outbox::OutboxError;
pub use pulsegate_core::close::{CloseReason, Retry};
pub use pulsegate_core::exchange::Window;
pub use pulsegate_core::frame::{Durability, LifetimeKind};
