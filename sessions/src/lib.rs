//! Sessions, apart from what keeps them: what is asked of them, what is answered, and the rules by which.
//!
//! Whoever owns connections hands [`Request`]s to a [`Committer`] and gets [`Reply`]s. A [`Seat`] says of which
//! connection a request is and where its replies go.
//!
//! # How a committer uses the rules
//!
//! A [`Session`] is a plain value. [`Sessions`] has those that are in use, what they have in common, and the rules among
//! them. It reads and writes nothing. A committer's *backend* takes a batch of requests and hands each to
//! [`Sessions::handle`]:
//!
//! - If that says [`Need`], the backend looks it up, hands it over by the method that the need names, and asks again.
//!   Nothing has changed until then, so a backend that looks things up without waiting may handle requests of other
//!   sessions in between. A session that was looked up stays in use until [`Sessions::trim`].
//! - Else it has appended [`Effect`]s. They are done in their order. The messages themselves stay in the requests: an effect
//!   names its request by its place in the batch.
//!
//! At the end of the batch [`Sessions::save`] appends what of sessions and sources has changed, once for each however often
//! it did, and [`Sessions::finish`] the receipts and ends. Then the batch is committed, all of it or nothing, and only
//! after that its replies are given. Whoever writes effects down earlier may do so, in the same transaction.
//!
//! What a batch does is seen by what comes after it in the same batch: sessions in use are as they have become. Only a
//! search among all sessions finds what was saved, so the backend calls [`Sessions::save_for`] before it looks.
//!
//! If a write fails, nothing is answered. All of `Sessions` is void: the backend makes a new one from what is stored, and
//! handles the same batch again. If nobody can tell whether a batch was committed, the backend keeps its replies, finds
//! out, and gives them if it was. To be handled twice does no harm then either: what was committed is known by its
//! cursor, and gets its receipt again.
//!
//! Which connection a session has ([`Session::connection`]) is known for as long as the gateway runs. A backend that
//! outlives it forgets that, and begins with no session attached.
//!
//! Modules, each using only those after it: `committer`, `unjudged`, `memory`, `packed`, `sessions`, `shares`, `resting`, `session`, `token`,
//! `effect`, `forwarded`, `weight`, `request`, `reply`, `attach`, `refusal`, `rules`, `figures`, `seat`, `number_hasher`.

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
