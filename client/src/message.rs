//! Messages from the gateway on their way to the application. Must not know the protocol: what the application
//! says of a message goes to the driver.

use crate::command::{Command, Verdict};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::sync::mpsc::WeakUnboundedSender;

/// The code of a refusal that says no more than "not wanted" (PROTOCOL.md section 7.3).
const NOT_WANTED: u16 = 3;

/// A message from the gateway, which wants to know what became of it.
///
/// The gateway is told that it is committed when the application [accepts](Self::accept) it, and that it is not
/// when it [refuses](Self::refuse) it. A message that is dropped without a word is refused as "not wanted", so
/// that nothing is ever acknowledged by accident. Messages are receipted in the order of their numbers: one that is
/// kept for long holds up those after it, once the window is full.
///
/// If the process ends between what the application does with a message and the receipt, the message comes again
/// in the next process, if that continues the session: [`session`](Self::session) and
/// [`number`](Self::number) tell it from a new one.
#[derive(Debug)]
#[must_use = "a message that is dropped is refused"]
pub struct Message {
    incoming: Incoming,
    /// Taken away once the message is judged.
    commands: Option<WeakUnboundedSender<Command>>,
}

impl Message {
    /// The session in which it came.
    #[must_use]
    pub const fn session(&self) -> u64 {
        self.incoming.session
    }

    /// Its number in the session.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.incoming.number
    }

    /// Its bytes.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.incoming.payload
    }

    /// Takes it: the gateway is told that it is committed. Returns its bytes.
    pub fn accept(mut self) -> Bytes {
        self.judge(Verdict::Accepted);
        std::mem::take(&mut self.incoming.payload)
    }

    /// Doesn't take it. The code is 1 for "too large", 2 for "over quota", 3 for "not wanted"; the text is a
    /// sentence for people, of which 512 bytes arrive.
    pub fn refuse(mut self, code: u16, text: impl Into<String>) {
        self.judge(Verdict::Refused(code, text.into()));
    }

    fn judge(&mut self, verdict: Verdict) {
        let Some(commands) = self.commands.take().and_then(|commands| commands.upgrade()) else { return };
        let Incoming { epoch, number, .. } = self.incoming;
        // When the client has ended, nobody is left to be told; the gateway still has the message.
        let _ = commands.send(Command::Judge { epoch, number, verdict });
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.judge(Verdict::Refused(NOT_WANTED, "the application let it go unread".to_owned()));
    }
}

/// A message that the application has not taken yet.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Of which session it is, as the inbound half counts them.
    pub(crate) epoch: u64,
    pub(crate) session: u64,
    pub(crate) number: u64,
    pub(crate) payload: Bytes,
}

/// Messages that wait for the application. The window that the gateway was told bounds them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inbox {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Incoming>,
    is_over: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, message: Incoming) {
        self.lock().messages.push_back(message);
        self.shared.news.notify_one();
    }

    /// Forgets what nobody has taken: the session in which it came is gone.
    pub(crate) fn clear(&self) {
        self.lock().messages.clear();
    }

    /// No more will come, and what is there is not handed out any more: nobody could be told that it was taken.
    pub(crate) fn end(&self) {
        let mut waiting = self.lock();
        waiting.is_over = true;
        waiting.messages.clear();
        drop(waiting);
        self.shared.news.notify_waiters();
    }

    /// The next message; `None` after the end. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&self, commands: &WeakUnboundedSender<Command>) -> Option<Message> {
        loop {
            let news = self.shared.news.notified();
            {
                let mut waiting = self.lock();
                if let Some(incoming) = waiting.messages.pop_front() {
                    if !waiting.messages.is_empty() {
                        self.shared.news.notify_one();
                    }
                    return Some(Message { incoming, commands: Some(commands.clone()) });
                }
                if waiting.is_over {
                    return None;
                }
            }
            news.await;
        }
    }
}
