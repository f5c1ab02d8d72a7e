//! The thread of a store in memory: judges batches, hands on what they have committed, and answers. Knows no database and no
//! file; a commit of it can't fail.

use crate::parts::Parts;
use crate::warnings::Losses;
use pulsegate_sessions::{Committed, Figures, Forwarded, Loss, Memory, Moment, NotForwarded, Reply, Request};
use tracing::{error, warn};

/// Takes the messages of a batch.
pub(crate) type Forward = dyn FnMut(Vec<Forwarded>) -> Result<(), NotForwarded> + Send;

/// The committer of a store in memory.
pub(crate) struct InMemory {
    pub(crate) parts: Parts,
    pub(crate) memory: Memory,
    pub(crate) forward: Box<Forward>,
    pub(crate) now: Moment,
}

impl InMemory {
    /// The body of the thread.
    pub(crate) fn run(mut self) {
        if let Err(error) = self.commit_all() {
            self.fail(error);
        }
        self.parts.warnings.handle_end();
    }

    /// Commits until nothing more will come.
    fn commit_all(&mut self) -> Result<(), NotForwarded> {
        loop {
            let turn = self.parts.queue.wait(true, self.memory.is_due() || self.parts.unjudged.is_due());
            let requests = self.parts.unjudged.sort(turn.requests);
            if let Some(now) = turn.tick {
                self.now = now;
                self.memory.handle_tick(now.uptime_ms);
                self.parts.unjudged.handle_tick();
            }
            self.commit(requests, turn.bytes)?;
            if turn.closed && self.parts.queue.is_empty() && !self.parts.unjudged.is_due() {
                // What has expired until now, and nobody has asked for.
                self.memory.handle_tick(self.now.uptime_ms);
                return self.commit(Vec::new(), 0);
            }
        }
    }

    /// Commits a batch that counts so many bytes in the queue: its messages go on, then its replies are given.
    fn commit(&mut self, mut requests: Vec<Request>, bytes: usize) -> Result<(), NotForwarded> {
        let Committed { mut replies, messages, held, losses } = self.memory.commit(&requests);
        self.note(losses);
        if !messages.is_empty() {
            let taken = messages.into_iter().filter_map(|place| Forwarded::take_from(&mut requests[place]));
            (self.forward)(taken.collect())?;
        }
        self.parts.unjudged.handle_commit(requests, &held);
        replies.append(&mut self.parts.unjudged.take_ended());
        if self.parts.queue.release(bytes) {
            replies.push(Reply::Ready);
        }
        if !replies.is_empty() {
            (self.parts.deliver)(replies);
        }
        Ok(())
    }

    /// What somebody has lost by a batch is said, and what there is now is known.
    fn note(&mut self, lost: Vec<Loss>) {
        let mut losses = Losses { unaccepted: self.parts.queue.take_unaccepted(), ..Losses::default() };
        let mut appends_refused = 0;
        for loss in lost {
            appends_refused += u64::from(loss == Loss::Append);
            losses.note(loss);
        }
        self.parts.warnings.handle_commit(losses, self.now.uptime_ms);
        if appends_refused > 0 {
            warn!(appends_refused, "messages without a session can't be stored in memory");
        }
        let mut known = self.parts.figures.lock();
        *known =
            Figures { appends_refused: known.appends_refused + appends_refused, ..figures(&self.memory) };
    }

    /// Messages that were judged have nowhere to go. None of their batch is answered, and nothing that comes after.
    fn fail(&mut self, error: NotForwarded) {
        self.parts.figures.lock().stopped = true;
        // Before anybody is told, so that who is told finds it closed.
        self.parts.queue.close();
        error!(%error, "the store can't hand messages on: nothing more is acknowledged");
        (self.parts.deliver)(vec![Reply::Stopped { why: error.to_string() }]);
    }
}

/// What a store in memory holds.
pub(crate) fn figures(memory: &Memory) -> Figures {
    Figures {
        sessions: memory.count(),
        attached: memory.attached() as u64,
        outgoing_bytes: memory.outgoing_bytes(),
        ..Figures::default()
    }
}
