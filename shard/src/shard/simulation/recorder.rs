//! The simulated application, and what it was told.

use crate::end::End;
use crate::handle::Handle;
use crate::sink::{Message, Sink};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the sink was told of a client.
#[derive(Default)]
pub(super) struct Told {
    pub(super) handle: Option<Handle>,
    pub(super) messages: Vec<Vec<u8>>,
    pub(super) numbers: Vec<u64>,
    pub(super) is_pulse: bool,
    pub(super) ended: Option<End>,
}

pub(super) type Records = Arc<Mutex<BTreeMap<usize, Told>>>;

/// The simulated application: it notes what it is told, and that nothing is told twice or too late.
pub(super) struct Recorder(Records);

impl Recorder {
    pub(super) fn new(records: &Records) -> Self {
        Self(Arc::clone(records))
    }

    fn with(&self, connection: &Handle, note: impl FnOnce(&mut Told)) {
        let client = usize::from(connection.peer().port());
        let mut records = self.0.lock();
        let told = records.entry(client).or_default();
        assert!(told.ended.is_none(), "client {client} has ended, and something comes after it");
        note(told);
    }
}

impl Sink for Recorder {
    fn handle_opened(&mut self, connection: &Handle) {
        self.with(connection, |told| {
            assert!(told.handle.is_none(), "a connection is announced once");
            told.handle = Some(connection.clone());
        });
    }

    fn handle_message(&mut self, connection: &Handle, message: &Message<'_>) {
        let Message { number, payload, .. } = *message;
        self.with(connection, |told| {
            told.messages.push(payload.to_vec());
            told.numbers.push(number);
            assert!(told.is_pulse || told.messages.len() as u64 == number);
        });
    }

    fn handle_closed(&mut self, connection: &Handle, ended: &End) {
        self.with(connection, |told| told.ended = Some(ended.clone()));
    }
}
