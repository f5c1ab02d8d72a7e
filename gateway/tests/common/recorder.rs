//! A sink that remembers everything, notices what must not happen, and can be held up.

use super::wait_until;
use pulsegate::{CloseReason, ConnectionNumber, End, Handle, Message, Sink};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// What became of one connection.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) handle: Handle,
    pub(crate) opened_at: Instant,
    pub(crate) messages: Vec<Vec<u8>>,
    /// The id and the session of who has sent the last of them, if there was one.
    pub(crate) sender: Option<(String, u64)>,
    pub(crate) input_ended: bool,
    pub(crate) ended: Option<End>,
}

#[derive(Default)]
struct Log {
    /// By the order in which the sink heard of them, from 1 on.
    lives: BTreeMap<u64, Life>,
    order: BTreeMap<ConnectionNumber, u64>,
    faults: Vec<String>,
}

/// Remembers everything; clones share their memory.
#[derive(Clone, Default)]
pub(crate) struct Recorder {
    log: Arc<Mutex<Log>>,
    gate: Arc<Gate>,
}

/// While it is shut, messages have to wait in front of it.
#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Recorder {
    /// From now on the sink is stuck at the next message.
    pub(crate) fn block(&self) {
        *self.gate.shut.lock().unwrap() = true;
    }

    /// The sink goes on.
    pub(crate) fn unblock(&self) {
        *self.gate.shut.lock().unwrap() = false;
        self.gate.opened.notify_all();
    }

    pub(crate) fn number_of(&self, peer: SocketAddr) -> Option<u64> {
        let log = self.log.lock().unwrap();
        log.lives.iter().find(|(_, life)| life.handle.peer() == peer).map(|(number, _)| *number)
    }

    /// The place of this connection among those that the sink heard of.
    #[track_caller]
    pub(crate) fn place_of(&self, connection: &Handle) -> u64 {
        self.log.lock().unwrap().order[&connection.number()]
    }

    #[track_caller]
    pub(crate) fn life(&self, number: u64) -> Life {
        self.log
            .lock()
            .unwrap()
            .lives
            .get(&number)
            .unwrap_or_else(|| panic!("no connection {number}"))
            .clone()
    }

    pub(crate) fn handle(&self, number: u64) -> Handle {
        self.life(number).handle
    }

    pub(crate) fn lives(&self) -> usize {
        self.log.lock().unwrap().lives.len()
    }

    pub(crate) fn message_count(&self, number: u64) -> usize {
        self.log.lock().unwrap().lives.get(&number).map_or(0, |life| life.messages.len())
    }

    /// What it sent, as text.
    pub(crate) fn texts(&self, number: u64) -> Vec<String> {
        let text = |message: Vec<u8>| String::from_utf8(message).unwrap();
        self.life(number).messages.into_iter().map(text).collect()
    }

    /// How it ended; waits for that.
    #[track_caller]
    pub(crate) fn ended(&self, number: u64) -> End {
        wait_until("the sink hears of the end", || self.life(number).ended.is_some());
        self.life(number).ended.unwrap()
    }

    #[track_caller]
    pub(crate) fn reason(&self, number: u64) -> CloseReason {
        self.ended(number).reason
    }

    /// Every connection that was opened has ended, once, and nothing came after it.
    #[track_caller]
    pub(crate) fn assert_sound(&self) {
        let log = self.log.lock().unwrap();
        assert!(log.faults.is_empty(), "{:#?}", log.faults);
        let open: Vec<_> = log.lives.iter().filter(|(_, life)| life.ended.is_none()).collect();
        assert!(open.is_empty(), "{} connections have not ended for the sink", open.len());
    }

    fn record(&self, connection: &Handle, what: &str, change: impl FnOnce(&mut Life) -> bool) {
        let log = &mut *self.log.lock().unwrap();
        let number = connection.number();
        let place = log.order.get(&number).copied().unwrap_or_default();
        let sound = match log.lives.get_mut(&place) {
            Some(life) if life.ended.is_none() => change(life),
            Some(_) | None => false,
        };
        if !sound {
            log.faults.push(format!("connection {number}: {what} out of order"));
        }
    }
}

impl Sink for Recorder {
    fn handle_opened(&mut self, connection: &Handle) {
        let life = Life {
            handle: connection.clone(),
            opened_at: Instant::now(),
            messages: Vec::new(),
            sender: None,
            input_ended: false,
            ended: None,
        };
        let log = &mut *self.log.lock().unwrap();
        let place = log.lives.len() as u64 + 1;
        log.lives.insert(place, life);
        if log.order.insert(connection.number(), place).is_some() {
            log.faults.push(format!("connection {}: opened twice", connection.number()));
        }
    }

    fn handle_message(&mut self, connection: &Handle, message: &Message<'_>) {
        drop(self.gate.opened.wait_while(self.gate.shut.lock().unwrap(), |shut| *shut).unwrap());
        self.record(connection, "a message", |life| {
            life.messages.push(message.payload.to_vec());
            life.sender = message.sender.map(|sender| (sender.client.to_owned(), sender.session));
            !life.input_ended && life.messages.len() as u64 == message.number
        });
    }

    fn handle_input_end(&mut self, connection: &Handle) {
        self.record(connection, "the end of input", |life| !std::mem::replace(&mut life.input_ended, true));
        let _ = connection.finish();
    }

    fn handle_closed(&mut self, connection: &Handle, end: &End) {
        self.record(connection, "the end", |life| {
            life.ended = Some(end.clone());
            end.number == connection.number()
                && end.peer == connection.peer()
                && end.totals.messages == life.messages.len() as u64
        });
    }
}
