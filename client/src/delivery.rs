//! What becomes of one message, and how its sender learns of it (PROTOCOL.md section 7.5). Must not know
//! connections.

use bytes::Bytes;
use pulsegate_core::frame::Durability;
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A message is committed: the gateway has it for good, as far as its durability level says. With
/// [`Durability::None`] that is as long as the gateway runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Committed {
    /// Its id at this client, see [`Delivery::id`].
    pub id: u64,
    /// The session in which it was committed.
    pub session: u64,
    /// Its number in that session.
    pub number: u64,
    /// What the gateway has promised with it.
    pub durability: Durability,
}

/// Why a message is not known to be committed. Apart from [`Unknown`](Self::Unknown) and [`Kept`](Self::Kept),
/// each is the outcome *not accepted* of PROTOCOL.md section 7.5: the gateway does not have it and never will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The gateway refused it.
    #[error("the message was not accepted (code {code}): {text}")]
    NotAccepted {
        /// Why (PROTOCOL.md section 7.3): 1 too large for the destination, 2 over quota, 3 not wanted.
        code: u16,
        /// A sentence for people; empty if the refusal came by a WELCOME.
        text: String,
    },
    /// It is longer than the gateway takes, or than the outbox holds: code 1 of PROTOCOL.md section 7.3. It was not
    /// sent.
    #[error("the message has {bytes} bytes and may have {bytes_max}; send less at once")]
    TooLarge {
        /// Its length, in bytes.
        bytes: usize,
        /// The most that it could have, in bytes.
        bytes_max: usize,
    },
    /// The client ended before it was sent.
    #[error("the client has ended and the message was not sent; Client::closed says why")]
    Closed,
    /// The session is gone, or was given up, before the receipt arrived: it may or may not have been committed.
    /// The client never sends it again by itself.
    #[error(
        "nobody knows whether the message was committed; send it again only if it does no harm to have it twice"
    )]
    Unknown,
    /// The client ended, and the message is kept for the next one: it is in the outbox's file, or in the
    /// [`SavedSession`](crate::SavedSession) that [`Client::leave`](crate::Client::leave) has returned.
    #[error("the client has ended; the message goes on with the next client that takes up what was kept")]
    Kept,
}

/// Why [`Client::try_send`](crate::Client::try_send) didn't take a message. It was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError {
    /// As much waits as [`Options::outbox_bytes_max`](crate::Options) allows. Holds the message.
    #[error("too much waits to be committed; try again later, or wait with push")]
    Full(Bytes),
    /// It is longer than the gateway takes, or than the outbox holds.
    #[error("the message has {bytes} bytes and may have {bytes_max}; send less at once")]
    TooLarge {
        /// Its length, in bytes.
        bytes: usize,
        /// The most that it could have, in bytes.
        bytes_max: usize,
    },
    /// The client has ended, or is being closed. Holds the message.
    #[error("the client has ended; Client::closed says why")]
    Closed(Bytes),
}

/// What becomes of a message.
pub(crate) type Outcome = Result<Committed, SendError>;

/// A message on its way: a future of its outcome. Dropping it takes nothing back.
#[derive(Debug)]
#[must_use = "it alone says what becomes of the message"]
pub struct Delivery {
    id: u64,
    outcome: oneshot::Receiver<Outcome>,
    stored: Option<oneshot::Receiver<()>>,
}

impl Delivery {
    /// The message's id at this client: counted from 1 by the client, or with an outbox on disk by its file. It
    /// stays the same where the message's number changes because a new session began.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Waits until the message outlives the process: with an outbox on disk, until it is there; without one, not
    /// at all. Says whether it does.
    pub async fn stored(&mut self) -> bool {
        match self.stored.take() {
            Some(stored) => stored.await.is_ok(),
            None => true,
        }
    }
}

impl Future for Delivery {
    type Output = Result<Committed, SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // It is left without an outcome only where the runtime ends before the client.
        Pin::new(&mut self.outcome).poll(context).map(|outcome| outcome.unwrap_or(Err(SendError::Unknown)))
    }
}

/// How many messages have ended without anybody's knowing what became of them, because their client was dropped or
/// its runtime has ended. Says so when all of the client is gone: nobody else could.
#[derive(Debug)]
pub(crate) struct Untold {
    client: String,
    messages: AtomicU64,
    /// The last handle was dropped, with no word.
    is_abandoned: AtomicBool,
}

impl Untold {
    pub(crate) fn new(client: &str) -> Arc<Self> {
        let (messages, is_abandoned) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { client: client.to_owned(), messages, is_abandoned })
    }

    /// The client ends because nobody holds it any more.
    pub(crate) fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Relaxed);
    }
}

impl Drop for Untold {
    fn drop(&mut self) {
        let messages = *self.messages.get_mut();
        if messages == 0 {
            return;
        }
        let (plural, client) = (if messages == 1 { "" } else { "s" }, &self.client);
        let warning = format!(
            "pulsegate-client: the client {client:?} ended without close or leave: nobody knows whether {messages} \
             message{plural} of it arrived\n"
        );
        // Unlike `eprintln`, this may fail: there may be no standard error.
        let _ = std::io::stderr().write_all(warning.as_bytes());
    }
}

/// The client's side of a [`Delivery`].
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) id: u64,
    /// Taken by the outcome.
    outcome: Option<oneshot::Sender<Outcome>>,
    /// The message outlives the process.
    is_kept: bool,
    untold: Arc<Untold>,
    stored: Option<oneshot::Sender<()>>,
    /// Heard in a REFUSE; it counts when a receipt covers the message.
    pub(crate) refused: Option<(u16, String)>,
    /// Given back with the outcome.
    _room: Option<OwnedSemaphorePermit>,
}

impl Ticket {
    /// Both sides of a delivery.
    pub(crate) fn new(
        id: u64,
        room: Option<OwnedSemaphorePermit>,
        keeping: Keeping,
        untold: &Arc<Untold>,
    ) -> (Self, Delivery) {
        let (outcome, outcome_of) = oneshot::channel();
        let (stored, stored_of) = if keeping == Keeping::Awaited {
            let (stored, stored_of) = oneshot::channel();
            (Some(stored), Some(stored_of))
        } else {
            (None, None)
        };
        let (is_kept, untold) = (keeping == Keeping::OnDisk, Arc::clone(untold));
        let ticket = Self { id, outcome: Some(outcome), is_kept, untold, stored, refused: None, _room: room };
        (ticket, Delivery { id, outcome: outcome_of, stored: stored_of })
    }

    /// The message is on disk, if there is one.
    pub(crate) fn tell_stored(&mut self) {
        self.is_kept |= self.stored.is_some();
        if let Some(stored) = self.stored.take() {
            // Nobody has to want to know.
            let _ = stored.send(());
        }
    }

    /// The message has its outcome.
    pub(crate) fn tell(mut self, outcome: Outcome) {
        let Some(sender) = self.outcome.take() else { return };
        let is_open = matches!(outcome, Err(SendError::Unknown | SendError::Closed));
        // Nobody has to want to know, as long as there is a client that could be asked.
        if sender.send(outcome).is_err() && is_open && self.untold.is_abandoned.load(Ordering::Relaxed) {
            self.untold.messages.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // It never got an outcome: the runtime has ended before the client.
        if self.outcome.take().is_some_and(|outcome| outcome.is_closed()) && !self.is_kept {
            self.untold.messages.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether a message outlives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// It doesn't.
    InMemory,
    /// It will, and that will be said.
    Awaited,
    /// It does already.
    OnDisk,
}
