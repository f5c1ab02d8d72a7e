//! The handle of a client: what an application calls. Knows the driver's inputs and nothing of its work.

use crate::command::Command;
use crate::delivery::{Committed, Delivery, Keeping, SendError, Ticket, TrySendError, Untold};
use crate::driver::{Driver, Inputs, Parts, Status};
use crate::ended::Closed;
use crate::event::{EventSender, EventSource, Events};
use crate::journal::{Found, Journal, Report};
use crate::message::{Inbox, Message};
use crate::options::{MESSAGE_OVERHEAD, Options, OptionsError, SavedSession};
use crate::session::Session;
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot, watch};

/// A client of a gateway. Cloning it costs one reference count; all clones are the same client.
///
/// A task behind it keeps a connection, sends heartbeats, answers questions, and reconnects when the connection ends.
/// When the last clone is dropped, that task ends at once: the gateway sees the connection end, and messages that wait
/// end as [`SendError::Unknown`], or as [`SendError::Closed`] if they were never sent, or as [`SendError::Kept`] with
/// an outbox on disk. [`close`](Self::close) and [`leave`](Self::leave) are the orderly ways. A program that ends
/// without them, right after it has sent something, may end before that was sent: the number of messages whose outcome
/// nobody could learn is written to the standard error.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    commands: mpsc::UnboundedSender<Command>,
    inbox: Inbox,
    events: EventSource,
    status: watch::Receiver<Status>,
    room: Arc<Semaphore>,
    room_bytes: usize,
    is_on_disk: bool,
    untold: Arc<Untold>,
    /// The last id that was given out. Held while a message is handed over, so that ids are in its order.
    last_id: Mutex<u64>,
    restored: Mutex<Vec<Delivery>>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The options contradict themselves.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The outbox can't be used.
    #[cfg(feature = "outbox")]
    #[error(transparent)]
    Outbox(#[from] crate::outbox::OutboxError),
    /// The first attempt has failed.
    #[error("no connection to the gateway: {0}")]
    Closed(Closed),
}

/// What is needed to continue from what was kept.
struct Origin {
    found: Found,
    journal: Journal,
    reports: Option<mpsc::UnboundedReceiver<Report>>,
}

impl Client {
    /// Connects to a gateway at `host:port` and waits for its WELCOME. From then on the client reconnects by itself.
    ///
    /// # Errors
    /// See [`ConnectError`]; the first attempt is the only one. [`start`](Self::start) does not give up so soon.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub async fn connect(address: impl ToString, options: Options) -> Result<Self, ConnectError> {
        let client = Self::begin(address.to_string(), options, true).await?;
        let mut status = client.shared.status.clone();
        // The task has always said how it ended before it is gone, unless the runtime has ended.
        let status = status.wait_for(|status| *status != Status::Opening).await.map(|status| status.clone());
        match status {
            Ok(Status::Closed(closed)) => Err(ConnectError::Closed(closed)),
            Ok(Status::Opening | Status::Attached { .. }) | Err(_) => Ok(client),
        }
    }

    /// Starts a client that connects in the background: messages can be sent at once, and wait until the gateway can be
    /// reached. [`Options::reconnect`] applies to all attempts.
    ///
    /// # Errors
    /// See [`ConnectError`]; never [`ConnectError::Closed`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub async fn start(address: impl ToString, options: Options) -> Result<Self, ConnectError> {
        Self::begin(address.to_string(), options, false).await
    }

    async fn begin(address: String, mut options: Options, is_impatient: bool) -> Result<Self, ConnectError> {
        options.check()?;
        let Origin { found, journal, reports } = origin(&mut options).await?;
        let (commands, commands_of) = mpsc::unbounded_channel();
        let (status, status_of) = watch::channel(Status::Opening);
        let (inbox, room) = (Inbox::default(), Arc::new(Semaphore::new(options.outbox_bytes_max)));
        let events = EventSender::new(options.events_max);
        let mut shared = Shared {
            commands,
            inbox: inbox.clone(),
            events: events.source(),
            status: status_of,
            room: Arc::clone(&room),
            room_bytes: options.outbox_bytes_max,
            is_on_disk: journal.is_on_disk(),
            untold: Untold::new(&options.id),
            last_id: Mutex::new(found.last_id),
            restored: Mutex::new(Vec::new()),
        };
        let untold = Arc::clone(&shared.untold);
        // What was kept has room in any case, though it may leave none for more.
        let take_room = |payload: &Bytes| {
            let bytes = (payload.len() + MESSAGE_OVERHEAD).min(room.available_permits());
            Arc::clone(&room).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
        };
        let (session, restored) = Session::restore(found, journal, inbox.clone(), events, untold, take_room);
        shared.restored = Mutex::new(restored);
        let inputs = Inputs { commands: commands_of, reports };
        let parts = Parts { address, options, session, inputs, inbox, status, room, is_impatient };
        tokio::spawn(Driver::new(parts).run());
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Sends a message, and waits until the gateway has committed it. Waits for room first, if as much waits as
    /// [`Options::outbox_bytes_max`] allows. There is no time limit: the client reconnects, as [`Options::reconnect`]
    /// says. If the future is dropped after there was room, the message is sent all the same.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, message: impl Into<Bytes>) -> Result<Committed, SendError> {
        self.push(message).await?.await
    }

    /// Sends a message as soon as there is room, and returns a future of its outcome. With an outbox on disk, that is
    /// after the message is stored there. Messages are sent in the order of these calls. If the
    /// future is dropped after there was room, the message is sent all the same.
    ///
    /// # Errors
    /// [`SendError::TooLarge`] or [`SendError::Closed`]; [`SendError::Unknown`] if the outbox on disk failed.
    pub async fn push(&self, message: impl Into<Bytes>) -> Result<Delivery, SendError> {
        let message = message.into();
        let count = self
            .measure(message.len())
            .map_err(|(bytes, bytes_max)| SendError::TooLarge { bytes, bytes_max })?;
        let room = Arc::clone(&self.shared.room);
        let room = room.acquire_many_owned(count).await.map_err(|_| SendError::Closed)?;
        let mut delivery = self.post(message, room).map_err(|_| SendError::Closed)?;
        if delivery.stored().await {
            Ok(delivery)
        } else {
            Err(delivery.await.err().unwrap_or(SendError::Unknown))
        }
    }

    /// Sends a message if there is room for it now. Never waits: with an outbox on disk the message is not yet stored
    /// there when this returns, and [`Delivery::stored`] waits for that.
    ///
    /// # Errors
    /// See [`TrySendError`].
    pub fn try_send(&self, message: impl Into<Bytes>) -> Result<Delivery, TrySendError> {
        let message = message.into();
        let count = self
            .measure(message.len())
            .map_err(|(bytes, bytes_max)| TrySendError::TooLarge { bytes, bytes_max })?;
        match Arc::clone(&self.shared.room).try_acquire_many_owned(count) {
            Ok(room) => self.post(message, room).map_err(TrySendError::Closed),
            Err(TryAcquireError::NoPermits) => Err(TrySendError::Full(message)),
            Err(TryAcquireError::Closed) => Err(TrySendError::Closed(message)),
        }
    }

    /// What a message counts for, or its length and what it could be.
    fn measure(&self, bytes: usize) -> Result<u32, (usize, usize)> {
        let of_gateway = match *self.shared.status.borrow() {
            Status::Attached { message_bytes_max, .. } => message_bytes_max as usize,
            Status::Opening | Status::Closed(_) => usize::MAX,
        };
        let bytes_max = of_gateway.min(self.shared.room_bytes - MESSAGE_OVERHEAD);
        if bytes > bytes_max {
            return Err((bytes, bytes_max));
        }
        u32::try_from(bytes + MESSAGE_OVERHEAD).map_err(|_| (bytes, bytes_max))
    }

    /// Hands a message to the task, or back if that has ended.
    fn post(&self, message: Bytes, room: OwnedSemaphorePermit) -> Result<Delivery, Bytes> {
        let mut last_id = self.shared.last_id.lock().unwrap_or_else(PoisonError::into_inner);
        let keeping = if self.shared.is_on_disk { Keeping::Awaited } else { Keeping::InMemory };
        let (ticket, delivery) = Ticket::new(*last_id + 1, Some(room), keeping, &self.shared.untold);
        match self.shared.commands.send(Command::Push(ticket, message)) {
            Ok(()) => {
                *last_id += 1;
                Ok(delivery)
            }
            Err(mpsc::error::SendError(Command::Push(_, message))) => Err(message),
            Err(mpsc::error::SendError(Command::Judge { .. } | Command::Close | Command::Leave(_))) => {
                Err(Bytes::new())
            }
        }
    }

    /// What is on its way from an earlier client: the messages that were found in the outbox on disk or came with
    /// [`Options::resume`], oldest first. Only the first call has them.
    #[must_use]
    pub fn restored(&self) -> Vec<Delivery> {
        std::mem::take(&mut self.shared.restored.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The next message from the gateway; `None` when the client has ended. Nothing is lost when the future is
    /// dropped. Several may wait: each message goes to one of them.
    pub async fn recv(&self) -> Option<Message> {
        // A strong reference would keep the client alive as long as somebody waits.
        self.shared.inbox.next(&self.shared.commands.downgrade()).await
    }

    /// The events from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.shared.events.watch()
    }

    /// The number of the session that the client is, or was last, attached to; `None` if it has ended or never was.
    #[must_use]
    pub fn session(&self) -> Option<u64> {
        match *self.shared.status.borrow() {
            Status::Attached { session, .. } => Some(session),
            Status::Opening | Status::Closed(_) => None,
        }
    }

    /// Waits for the end of the client, and says how it ended.
    pub async fn closed(&self) -> Closed {
        let mut status = self.shared.status.clone();
        loop {
            if let Status::Closed(closed) = &*status.borrow_and_update() {
                return closed.clone();
            }
            if status.changed().await.is_err() {
                return Closed::now(crate::ended::Reason::Dropped, "the runtime has ended");
            }
        }
    }

    /// Ends the client for good: takes no more messages, waits until all have their outcome and the gateway knows that
    /// the client knows, says BYE, and forgets the session. Gives up after [`Options::close_timeout`], with the reason
    /// [`Reason::CloseTimeout`](crate::Reason). Messages from the gateway that the application has not judged by then
    /// are not waited for. A gateway that is about to let the client back into its session is waited for,
    /// up to [`Options::opening_timeout`], even if nothing else is: only then it can be told that the session is over.
    pub async fn close(&self) -> Closed {
        self.shared.room.close();
        // If the task has ended, its end is known.
        let _ = self.shared.commands.send(Command::Close);
        self.closed().await
    }

    /// Says BYE now, without waiting for anything, and returns the session with its messages, to be continued by
    /// [`Options::resume`]; the deliveries of these messages end as [`SendError::Kept`]. `None` if the client had ended
    /// before. With an outbox on disk all of that is in its file too: use one of the two.
    pub async fn leave(&self) -> Option<SavedSession> {
        let (saved, saved_of) = oneshot::channel();
        self.shared.commands.send(Command::Leave(saved)).ok()?;
        let saved = saved_of.await.ok();
        self.closed().await;
        saved
    }
}

/// What was kept, by the application or on disk; else nothing.
#[cfg(not(feature = "outbox"))]
async fn origin(options: &mut Options) -> Result<Origin, ConnectError> {
    let found = options.resume.take().map(Found::from).unwrap_or_default();
    Ok(Origin { found, journal: Journal::default(), reports: None })
}

/// What was kept, by the application or on disk; else nothing.
#[cfg(feature = "outbox")]
async fn origin(options: &mut Options) -> Result<Origin, ConnectError> {
    let Some(path) = options.outbox.take() else {
        let found = options.resume.take().map(Found::from).unwrap_or_default();
        return Ok(Origin { found, journal: Journal::default(), reports: None });
    };
    if options.resume.is_some() {
        let rule = "must be none with an outbox on disk, which has a session of its own";
        return Err(OptionsError { option: "resume", rule }.into());
    }
    let (journal, found, reports) = crate::outbox::open(path, options.id.clone()).await?;
    Ok(Origin { found, journal, reports: Some(reports) })
}
