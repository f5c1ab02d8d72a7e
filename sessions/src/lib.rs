//! Sessions, apart from what keeps them: what is asked of them, and what is answered.
//!
//! Whoever owns connections hands [`Request`]s to a [`Committer`] and gets [`Reply`]s. A [`Seat`] says of which
//! connection a request is and where its replies go.
//!
//! Modules, each using only those after it: `committer`, `weight`, `request`, `reply`, `attach`, `refusal`, `figures`, `seat`.

mod attach;
mod committer;
mod figures;
mod refusal;
mod reply;
mod request;
mod seat;
mod weight;

pub use attach::{Attach, Attached, Outcome, Resume, Token};
pub use committer::{Committer, Limits, SubmitError};
pub use figures::Figures;
pub use pulsegate_core::connection::Attachment;
pub use refusal::{AttachRefusal, EndReason, PushRefusal, Refusal, RefusalCode};
pub use reply::{Outgoing, Reply};
pub use request::{LOAD_BYTES_MAX, Recipient, Request};
pub use seat::{Moment, Seat, Source, Ticket};
