//! The peer's sessions: in memory, by the rules that gateways have. Knows no connection.

use bytes::Bytes;
use pulsegate_sessions::{Committed, Memory, Reply, Request, Rules, Session, Unjudged};

/// The longest message that there is, in bytes (PROTOCOL.md section 9).
const MESSAGE_BYTES_MAX: usize = 16_000_000;
/// Nobody comes to any other limit.
const RULES: Rules = Rules { message_bytes_max: MESSAGE_BYTES_MAX, ..Rules::UNLIMITED };

/// All sessions, and what they have to judge yet.
#[derive(Debug)]
pub(crate) struct Store {
    memory: Memory,
    unjudged: Unjudged,
    newest: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self { memory: Memory::new(RULES, 0, 0), unjudged: Unjudged::new(usize::MAX), newest: 0 }
    }
}

impl Store {
    /// A message that is refused.
    pub(crate) fn too_long() -> Box<[u8]> {
        vec![0; MESSAGE_BYTES_MAX + 1].into()
    }

    /// Does what is asked for. Returns the messages that were committed, and the replies.
    pub(crate) fn commit(&mut self, mut requests: Vec<Request>) -> (Vec<Bytes>, Vec<Reply>) {
        let (mut all_messages, mut all_replies) = (Vec::new(), Vec::new());
        loop {
            let batch = self.unjudged.sort(std::mem::take(&mut requests));
            let Committed { replies, messages, held, .. } = self.memory.commit(&batch);
            all_messages.extend(messages.into_iter().filter_map(|place| {
                let Request::Message { payload, .. } = &batch[place] else { return None };
                Some(Bytes::copy_from_slice(payload))
            }));
            for reply in &replies {
                if let Reply::Attached(attached) = reply {
                    self.newest = self.newest.max(attached.session());
                }
            }
            all_replies.extend(replies);
            self.unjudged.handle_commit(batch, &held);
            if !self.unjudged.is_due() {
                return (all_messages, all_replies);
            }
        }
    }

    /// The number of the newest session that there ever was.
    pub(crate) const fn newest_number(&self) -> u64 {
        self.newest
    }

    /// The newest session, if it is still there.
    pub(crate) fn newest(&self) -> Option<Session> {
        self.memory.session(self.newest)
    }

    /// Forgets all sessions. No number of theirs comes again.
    pub(crate) fn forget(&mut self) {
        self.memory = Memory::new(RULES, self.newest, 0);
    }
}
