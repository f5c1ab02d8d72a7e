//! What a store holds, and whether that can be. Must not know who was killed.

use pulsegate_store::{Reader, StoredMessage};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// A message as the store has it: its session, its number there, and which of its client's it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) session: u64,
    pub(crate) number: u64,
    pub(crate) count: u64,
}

/// The messages of each client, in the order of their commits.
#[derive(Debug)]
pub(crate) struct Books {
    clients: HashMap<String, Vec<Row>>,
}

impl Books {
    /// Reads a store. Fails if numbers of a session are missing, doubled or out of order, if a client's messages are
    /// doubled or out of order, or if a session has messages of two clients.
    #[track_caller]
    pub(crate) fn read(data_dir: &Path) -> Self {
        let mut clients: HashMap<String, Vec<Row>> = HashMap::new();
        let mut sessions: BTreeMap<u64, (String, u64)> = BTreeMap::new();
        for message in all_messages(data_dir) {
            let StoredMessage { session, client, number, payload, .. } = message;
            let text = String::from_utf8(payload).unwrap();
            let words: Vec<&str> = text.split(' ').collect();
            assert_eq!(words[0], client, "a message stands under another's name: {text}");
            let count = words[1].parse().unwrap();
            let (owner, last) = sessions.entry(session).or_insert_with(|| (client.clone(), 0));
            assert_eq!(*owner, client, "session {session} has two clients");
            assert_eq!(number, *last + 1, "session {session} of {client}: the numbers of its messages");
            *last = number;
            let rows = clients.entry(client.clone()).or_default();
            if let Some(before) = rows.last() {
                let in_order = before.count < count;
                assert!(in_order, "{client}: message {count} stands behind {}", before.count);
            }
            rows.push(Row { session, number, count });
        }
        Self { clients }
    }

    pub(crate) fn rows(&self, client: &str) -> &[Row] {
        self.clients.get(client).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn message_count(&self) -> usize {
        self.clients.values().map(Vec::len).sum()
    }

    /// Everything that this client sent is there.
    #[track_caller]
    pub(crate) fn assert_complete(&self, client: &str, sent: u64) {
        let counts: Vec<u64> = self.rows(client).iter().map(|row| row.count).collect();
        let missing: Vec<u64> = (0..sent).filter(|count| counts.binary_search(count).is_err()).collect();
        assert!(missing.is_empty(), "{client}: committed and lost: {missing:?}");
        assert_eq!(counts.len() as u64, sent, "{client}: more than was sent");
    }
}

fn all_messages(data_dir: &Path) -> Vec<StoredMessage> {
    let reader = Reader::open(data_dir).unwrap();
    let mut messages: Vec<StoredMessage> = Vec::new();
    loop {
        let last = messages.last().map_or(0, |message| message.id);
        let page = reader.messages_after(last, usize::MAX).unwrap();
        if page.is_empty() {
            return messages;
        }
        messages.extend(page);
    }
}
