//! The embedded store: messages, cursors and sessions on one disk, without any network.
//!
//! The owner of connections submits [`Request`]s by [`Store::submit`], which never blocks, and gets [`Reply`]s by the
//! callback given to [`Store::open`]. One thread commits: a batch is what arrived while the last batch was being
//! written. A batch is one transaction, and its replies are delivered once that transaction is as durable as
//! [`Durability`] says, never before. [`Sessions`](pulsegate_sessions::Sessions) decides what becomes of each request:
//! the store keeps the sessions, and looks up what the rules need.
//!
//! The store reads no clock: a [`Moment`] comes with the requests that need one, and with [`Store::tick`], upon which
//! happens what nobody asks for: expiry, retention, and trying again after a fault.
//!
//! A store may also be in memory ([`Store::open_in_memory`]): then sessions, cursors and receipts are the same, but
//! the committed messages are forwarded, and nothing outlives the store.
//!
//! The files are `pulsegate.db` (SQLite; its schema is [`SCHEMA`]), `pulsegate.lock`, and `pulsegate.reserve`, which
//! only takes up room and is deleted when the disk is full. A [`Reader`] reads them while a gateway writes, from any
//! process. Each tick checks that they are still where they were, and stops the store if not, or if they were
//! overwritten in place: what was acknowledged since the previous tick may then be only in removed files, or lost.
//!
//! Everything except the store in memory needs the feature `sqlite`.
//!
//! Modules, each using only those after it: `opening`, `store`, `in_memory`, `committer`, `working`, `parts`, `queue`,
//! `batch`, `rows`, `tickets`, `reader`, `database`, `migration`, `schema`, `lock`, `room`, `last_write`, `log_file`,
//! `files`, `lasting`, `warnings`, `config`.

#[cfg(feature = "sqlite")]
mod batch;
#[cfg(feature = "sqlite")]
mod committer;
mod config;
#[cfg(feature = "sqlite")]
mod database;
#[cfg(feature = "sqlite")]
mod files;
mod in_memory;
#[cfg(feature = "sqlite")]
mod last_write;
#[cfg(feature = "sqlite")]
mod lasting;
#[cfg(feature = "sqlite")]
mod lock;
#[cfg(feature = "sqlite")]
mod log_file;
#[cfg(feature = "sqlite")]
mod migration;
#[cfg(feature = "sqlite")]
mod opening;
mod parts;
mod queue;
#[cfg(feature = "sqlite")]
mod reader;
#[cfg(feature = "sqlite")]
mod room;
#[cfg(feature = "sqlite")]
mod rows;
#[cfg(feature = "sqlite")]
mod schema;
mod store;
#[cfg(feature = "sqlite")]
mod tickets;
mod warnings;
#[cfg(feature = "sqlite")]
mod working;

pub use config::{ConfigError, Quota, StoreConfig};
pub use pulsegate_core::frame::Durability;
pub use pulsegate_core::policy::SecondConnection;
pub use pulsegate_sessions::{
    Attach, AttachRefusal, Attached, Attachment, Committer, EndReason, Figures, Forwarded, LOAD_BYTES_MAX,
    Limits, Moment, NotForwarded, Outcome, Outgoing, PushRefusal, Recipient, Refusal, RefusalCode, Reply,
    Request, Resume, Seat, Source, SubmitError, Ticket, Token,
};
#[cfg(feature = "sqlite")]
pub use reader::{ReadError, Reader, StoredMessage};
#[cfg(feature = "sqlite")]
pub use schema::{SCHEMA, SCHEMA_VERSION};
pub use store::{OpenError, Store};
