//! The rules of sessions, without any storage: requests, replies, and how the one leads to the other.
//!
//! The owner of connections submits [`Request`]s to a [`Committer`] and gets [`Reply`]s. A [`Seat`] says to which
//! connection a request belongs, and where its replies go.
//!
//! # How a committer uses the rules
//!
//! A [`Session`] is a plain value. [`Sessions`] has those that are in use, what they have in common, and the rules
//! about several of them. It reads and writes nothing. A committer's *backend* takes a batch of requests and hands each
//! to [`Sessions::handle`]:
//!
//! - If that returns a [`Need`], the backend looks it up, passes it to the method that the need names, and calls again.
//!   Nothing has changed until then, so a backend that looks things up asynchronously may handle requests of other
//!   sessions in between. A session that was looked up stays in use until [`Sessions::trim`].
//! - Otherwise it has appended [`Effect`]s, which are carried out in their order. The messages themselves stay in the
//!   requests: an effect names its request by its place in the batch.
//!
//! At the end of the batch [`Sessions::save`] appends each session and source that has changed, once, and
//! [`Sessions::finish`] the receipts and ends. Then the batch is committed, all of it or nothing, and only after that
//! its replies are sent. A backend may carry effects out earlier, in the same transaction.
//!
//! Each request sees what earlier ones of its batch have changed, since they share the sessions in use. But a search
//! among all sessions finds only what was saved, so the backend calls [`Sessions::save_for`] before it looks.
//!
//! If a write fails, nothing is answered, and `Sessions` is no longer valid: the backend makes a new one from what is
//! stored, and handles the same batch again. If nobody can tell whether a batch was committed, the backend keeps its
//! replies, finds out, and sends them if it was. Handling it twice would do no harm either: what was committed is known
//! by the cursor, and gets its receipt again.
//!
//! [`Session::connection`] has a meaning only as long as the gateway runs. A backend that outlives it starts with no
//! session attached.
//!
//! Modules, each using only those after it: `committer`, `unjudged`, `memory`, `packed`, `sessions`, `shares`,
//! `resting`, `session`, `token`, `effect`, `forwarded`, `weight`, `request`, `reply`, `attach`, `refusal`, `rules`,
//! `figures`, `seat`, `number_hasher`.

mod attach;
mod committer;
mod effect;
mod figures;
mod forwarded;
mod memory;
mod number_hasher;
mod packed;
mod refusal;
mod reply;
mod request;
mod resting;
mod rules;
mod seat;
mod session;
mod sessions;
mod shares;
mod token;
mod unjudged;
mod weight;

pub use attach::{Attach, Attached, Outcome, Resume, Token};
pub use committer::{Committer, Limits, SubmitError};
pub use effect::{Effect, Holding, Loss, Need, Part};
pub use figures::Figures;
pub use forwarded::{Forwarded, NotForwarded};
pub use memory::{Committed, Memory};
pub use pulsegate_core::connection::Attachment;
pub use refusal::{AttachRefusal, EndReason, PushRefusal, Refusal, RefusalCode};
pub use reply::{Outgoing, Reply};
pub use request::{LOAD_BYTES_MAX, Recipient, Request};
pub use rules::{CLIENT_BYTES_MAX, MESSAGE_BYTES, Rules, millis};
pub use seat::{Moment, Seat, Source, Ticket};
pub use session::{Judged, Session};
pub use sessions::{Sessions, Sums, loaded};
pub use shares::NOBODY;
pub use unjudged::Unjudged;
