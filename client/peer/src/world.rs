//! What the peer knows: its sessions, its connections, and what has happened. Knows no socket.

use crate::script::{Answer, Script};
use bytes::Bytes;
use pulsegate_core::close::CloseReason;
use pulsegate_core::exchange::{Receiving, Sending, Window};
use pulsegate_core::frame::{Beat, Durability, Hello, LifetimeKind, PREFACE, Refusals, Welcome};
use pulsegate_core::pulse::{Pulse, PulseEvent};
use pulsegate_core::time::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// What became of a message that the peer has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handed {
    /// The client has committed the messages up to this number.
    Committed(u64),
    /// It has refused this one, with this code.
    Refused(u64, u16),
}

/// A HELLO that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hailed {
    /// Who.
    pub id: String,
    /// The session to be resumed, or 0.
    pub session: u64,
    /// The client's cursor.
    pub committed: u64,
    /// What it holds receipts for.
    pub acknowledged: u64,
    /// What it has refused.
    pub refused: Vec<(u64, u16)>,
    /// How much may be in flight to it.
    pub window: Window,
    /// The longest message that it takes, in bytes.
    pub message_bytes_max: u32,
}

/// Everything that the peer knows.
#[derive(Debug, Default)]
pub struct World {
    /// How it behaves.
    pub script: Script,
    /// What was committed, in this order, over all sessions.
    pub committed: Vec<Bytes>,
    /// The HELLOs that have come.
    pub hellos: Vec<Hailed>,
    /// The codes of the goodbyes that have come.
    pub byes: Vec<u16>,
    /// The highest confirmation of a client.
    pub confirmed: u64,
    /// What became of the peer's own messages.
    pub handed: Vec<Handed>,
    /// How often what came has proved a client alive.
    pub signs: u64,
    /// On how many connections a frame has come after WELCOME.
    pub spoken: u64,
    /// What clients did against the rules.
    pub violations: Vec<CloseReason>,
    /// How many connections there are.
    pub open: usize,
    /// How many messages were received, those that came again included.
    pub received: u64,
    sessions: BTreeMap<u64, Session>,
    connections: BTreeMap<u64, Connection>,
    last_session: u64,
    last_connection: u64,
}

#[derive(Debug)]
struct Session {
    token: [u8; 16],
    next: Option<[u8; 16]>,
    /// Where the halves are, if not here.
    connection: Option<u64>,
    sending: Sending<Bytes>,
    receiving: Receiving,
    refusals: Vec<(u64, u16)>,
}

#[derive(Debug)]
struct Connection {
    pulse: Pulse<Bytes>,
    preface: Vec<u8>,
    session: Option<u64>,
    is_new: bool,
    has_spoken: bool,
    /// Received and not committed.
    held: Vec<(u64, Bytes)>,
    last_words: Vec<u8>,
    left: Option<u64>,
    is_cut: bool,
    is_over: bool,
}

/// An event, kept.
enum Heard {
    Hello(Hailed, [u8; 16]),
    Message(u64, Bytes),
    Handed(Handed),
    Confirmed(u64),
    Bye(u16),
    Sign,
}

/// The same moment always: a peer confirms when it is asked to send anything.
fn moment(count: u64) -> Instant {
    Instant::from_nanos(count.saturating_mul(1_000_000_000))
}

impl World {
    pub(crate) fn new(script: Script) -> Self {
        Self { script, ..Self::default() }
    }

    /// The number of the newest session's own message up to which all are settled.
    #[must_use]
    pub fn settled(&self) -> u64 {
        let session = self.sessions.values().next_back();
        let of_session = |session: &Session| {
            let connection = session.connection.and_then(|id| self.connections.get(&id));
            connection.map_or(&session.sending, |connection| connection.pulse.sending()).settled()
        };
        session.map_or(0, of_session)
    }

    pub(crate) fn open(&mut self) -> u64 {
        self.last_connection += 1;
        self.open += 1;
        let Script { window, message_bytes_max, cut_after, random, .. } = &mut self.script;
        let connection = Connection {
            pulse: Pulse::gateway(*window, *message_bytes_max),
            preface: Vec::new(),
            session: None,
            is_new: false,
            has_spoken: false,
            held: Vec::new(),
            last_words: Vec::new(),
            left: cut_after.clone().map(|range| random.u64(range)),
            is_cut: false,
            is_over: false,
        };
        self.connections.insert(self.last_connection, connection);
        self.last_connection
    }

    /// The connection is gone. Whether the client is to be given time to end it.
    pub(crate) fn close(&mut self, id: u64) -> bool {
        self.open -= 1;
        self.detach(id);
        self.connections.remove(&id).is_some_and(|connection| connection.is_over && !connection.is_cut)
    }

    /// Takes the halves back.
    fn detach(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(number) = connection.session.take() else { return };
        let pulse = std::mem::replace(&mut connection.pulse, Pulse::gateway(self.script.window, 1));
        (connection.is_over, connection.held) = (true, Vec::new());
        let Some(session) = self.sessions.get_mut(&number) else { return };
        (session.sending, session.receiving) = pulse.into_halves();
        session.connection = None;
        if connection.is_new && !connection.has_spoken {
            self.sessions.remove(&number);
        }
    }

    pub(crate) fn handle_input(&mut self, id: u64, input: &[u8]) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let allowed = connection
            .left
            .map_or(input.len(), |left| usize::try_from(left).unwrap_or(usize::MAX).min(input.len()));
        connection.is_cut |= connection.left.is_some() && allowed < input.len();
        connection.left = connection.left.map(|left| left - allowed as u64);
        let of_preface = (PREFACE.len() - connection.preface.len()).min(allowed);
        let (preface, frames) = input[..allowed].split_at(of_preface);
        connection.preface.extend_from_slice(preface);
        assert!(PREFACE.starts_with(&connection.preface), "the client begins with the preface");
        // Before WELCOME there is no token to be used.
        let was_attached = connection.session.is_some();
        let mut heard = Vec::new();
        let outcome = connection.pulse.handle_input(moment(0), frames, |event| heard.push(keep(&event)));
        for heard in heard.into_iter().flatten() {
            if was_attached && !matches!(heard, Heard::Bye(_)) {
                self.handle_spoken(id);
            }
            self.handle(id, heard);
        }
        if let Err(reason) = outcome {
            self.violations.push(reason);
            self.end(id, &Answer::new(reason.code(), 0));
        }
        if !self.script.holds_receipts {
            self.commit(id);
        }
    }

    fn handle(&mut self, id: u64, heard: Heard) {
        match heard {
            Heard::Hello(hailed, token) => self.handle_hello(id, hailed, token),
            Heard::Message(number, payload) => {
                self.received += 1;
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.held.push((number, payload));
                }
            }
            Heard::Handed(handed) => self.handed.push(handed),
            Heard::Confirmed(floor) => {
                self.confirmed = floor;
                if let Some(session) = self.session_of(id) {
                    session.refusals.retain(|(number, _)| *number > floor);
                }
            }
            Heard::Bye(code) => {
                self.byes.push(code);
                let number = self.connections.get(&id).and_then(|connection| connection.session);
                self.detach(id);
                if code == 0 {
                    number.map(|number| self.sessions.remove(&number));
                }
            }
            Heard::Sign => self.signs += 1,
        }
    }

    fn session_of(&mut self, id: u64) -> Option<&mut Session> {
        let number = self.connections.get(&id)?.session?;
        self.sessions.get_mut(&number)
    }

    /// A frame has come: from now on only the next token is valid.
    fn handle_spoken(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !std::mem::replace(&mut connection.has_spoken, true)
        {
            self.spoken += 1;
        }
        if let Some(session) = self.session_of(id)
            && let Some(next) = session.next.take()
        {
            session.token = next;
        }
    }

    fn handle_hello(&mut self, id: u64, hailed: Hailed, token: [u8; 16]) {
        self.hellos.push(hailed.clone());
        if let Some(answer) = self.script.answers.pop_front() {
            return self.end(id, &answer);
        }
        let old = self.sessions.get(&hailed.session).map(|session| (session.token, session.next));
        let number = match old {
            Some((valid, next)) if token != valid && Some(token) != next => {
                return self.end(id, &Answer::new(CloseReason::BadToken.code(), 0));
            }
            Some((_, next)) => {
                self.replace(hailed.session);
                if Some(token) == next
                    && let Some(session) = self.sessions.get_mut(&hailed.session)
                {
                    (session.token, session.next) = (token, None);
                }
                hailed.session
            }
            None => self.begin(),
        };
        self.welcome(id, number, old.is_some(), &hailed);
    }

    fn begin(&mut self) -> u64 {
        self.last_session += 1;
        let none = Window { messages: 0, bytes: 0 };
        let session = Session {
            token: self.script.random.u128(..).to_be_bytes(),
            next: None,
            connection: None,
            sending: Sending::new(none),
            receiving: Receiving::default(),
            refusals: Vec::new(),
        };
        self.sessions.insert(self.last_session, session);
        self.last_session
    }

    /// Another connection of this session ends.
    fn replace(&mut self, number: u64) {
        if let Some(old) = self.sessions.get(&number).and_then(|session| session.connection) {
            let reason = CloseReason::Replaced;
            self.end(old, &Answer { delay_ms: 5_000, ..Answer::new(reason.code(), 2) });
        }
    }

    fn welcome(&mut self, id: u64, number: u64, resumed: bool, hailed: &Hailed) {
        let Self { script, sessions, connections, violations, .. } = self;
        let (Some(session), Some(connection)) = (sessions.get_mut(&number), connections.get_mut(&id)) else {
            return;
        };
        session.refusals.retain(|(number, _)| *number > hailed.acknowledged);
        let next = *session.next.get_or_insert_with(|| script.random.u128(..).to_be_bytes());
        let refused = Refusals::write(session.refusals.iter().copied());
        let ms = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        let committed = session.receiving.committed();
        let mut welcome = Welcome {
            resumed,
            lifetime: LifetimeKind::Long,
            durability: Durability::None,
            beat_interval_ms: ms(script.beat_interval),
            beat_timeout_ms: ms(script.beat_timeout),
            remaining_ms: 86_400_000,
            session_ttl_ms: 3_600_000,
            window: script.window,
            message_bytes_max: script.message_bytes_max,
            server_time_ms: 1_000,
            session: number,
            token: next,
            committed,
            acknowledged: session.sending.settled(),
            lost: (0, 0),
            refused: Refusals::read(&refused, committed).unwrap_or_default(),
        };
        if let Some(edit) = &script.edit {
            edit(&mut welcome);
        }
        if !resumed {
            session.token = next;
            session.next = None;
        }
        let sending = std::mem::replace(&mut session.sending, Sending::new(script.window));
        if let Err(reason) = connection.pulse.welcome(&welcome, sending, session.receiving) {
            violations.push(reason);
        }
        session.connection = Some(id);
        (connection.session, connection.is_new) = (Some(number), !resumed);
        if script.lost_welcomes > 0 {
            script.lost_welcomes -= 1;
            connection.is_cut = true;
        }
    }

    /// Commits what was received, in this order.
    fn commit(&mut self, id: u64) {
        let Self { script, sessions, connections, committed, .. } = self;
        let Some(connection) = connections.get_mut(&id) else { return };
        let Some(session) = connection.session.and_then(|number| sessions.get_mut(&number)) else { return };
        for (number, payload) in connection.held.drain(..) {
            if script.refused.as_ref().is_some_and(|refused| payload.starts_with(refused)) {
                session.refusals.push((number, 3));
                connection.pulse.refuse(number, 3, "not wanted");
            } else {
                committed.push(payload);
            }
            connection.pulse.commit(number);
        }
    }

    /// Appends what is to be sent now. Whether the connection is over.
    pub(crate) fn take_output(&mut self, id: u64, output: &mut Vec<u8>) -> bool {
        if !self.script.holds_receipts {
            self.commit(id);
        }
        let Some(connection) = self.connections.get_mut(&id) else { return true };
        let before = output.len();
        if !connection.is_cut && !self.script.is_mute {
            connection.pulse.poll_transmit(moment(1), usize::MAX, output);
            output.append(&mut connection.last_words);
        }
        if let Some(left) = &mut connection.left {
            let new = (output.len() - before) as u64;
            if new >= *left {
                output.truncate(before + usize::try_from(*left).unwrap_or(0));
                connection.is_cut = true;
            }
            *left = left.saturating_sub(new);
        }
        connection.is_cut || connection.is_over
    }

    fn end(&mut self, id: u64, answer: &Answer) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let Answer { code, retry, delay_ms, text } = answer;
            let mut words = Vec::new();
            connection.pulse.poll_transmit(moment(1), usize::MAX, &mut words);
            connection.pulse.bye(*code, *retry, *delay_ms, text, &mut words);
            connection.last_words = words;
            connection.is_over = true;
        }
        self.detach(id);
    }

    fn ids(&self) -> Vec<u64> {
        self.connections.keys().copied().collect()
    }

    pub(crate) fn cut(&mut self) {
        for id in self.ids() {
            self.detach(id);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.is_cut = true;
            }
        }
    }

    pub(crate) fn bye(&mut self, answer: &Answer) {
        self.ids().into_iter().for_each(|id| self.end(id, answer));
    }

    pub(crate) fn notice(&mut self, code: u16, within: Duration, text: &str) {
        let within = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
        self.connections.values_mut().for_each(|connection| connection.pulse.notice(code, within, text));
    }

    pub(crate) fn ask(&mut self) {
        self.connections.values_mut().for_each(|connection| connection.pulse.beat(Beat::Question));
    }

    pub(crate) fn forget(&mut self) {
        self.cut();
        self.sessions.clear();
    }

    pub(crate) fn push(&mut self, message: Bytes) {
        let session = self.sessions.last_entry().expect("a session to send to").into_mut();
        match session.connection.and_then(|id| self.connections.get_mut(&id)) {
            Some(connection) => connection.pulse.push(message),
            None => session.sending.push(message),
        };
    }
}

fn keep(event: &PulseEvent<'_>) -> Option<Heard> {
    match *event {
        PulseEvent::Hello(hello) => {
            let Hello { session, committed, acknowledged, window, message_bytes_max, .. } = hello;
            let (id, refused) = (hello.id.to_owned(), hello.refused.iter().collect());
            let hailed = Hailed { id, session, committed, acknowledged, refused, window, message_bytes_max };
            Some(Heard::Hello(hailed, hello.token))
        }
        PulseEvent::Message { number, payload } => {
            Some(Heard::Message(number, Bytes::copy_from_slice(payload)))
        }
        PulseEvent::Settled { last, .. } => Some(Heard::Handed(Handed::Committed(last))),
        PulseEvent::Refused { number, code, .. } => Some(Heard::Handed(Handed::Refused(number, code))),
        PulseEvent::Confirmed { floor } => Some(Heard::Confirmed(floor)),
        PulseEvent::Bye(bye) => Some(Heard::Bye(bye.code)),
        PulseEvent::Alive => Some(Heard::Sign),
        PulseEvent::Welcome(_) | PulseEvent::Notice { .. } => None,
    }
}
