//! What the peer knows: its connections, and what has happened. Knows no socket, and no rule of sessions: those are asked
//! for.

use crate::script::{Answer, Script};
use crate::store::Store;
use bytes::Bytes;
use pulsegate_core::close::CloseReason;
use pulsegate_core::exchange::{Receiving, Sending, Window};
use pulsegate_core::frame::{Beat, Durability, Hello, LifetimeKind, PREFACE, Refusals, Welcome};
use pulsegate_core::policy::SecondConnection;
use pulsegate_core::pulse::{Pulse, PulseEvent};
use pulsegate_core::time::Instant;
use pulsegate_sessions::{
    Attach, Attached, LOAD_BYTES_MAX, Moment, Outcome, Recipient, Reply, Request, Resume, Seat, Ticket,
};
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
    store: Store,
    connections: BTreeMap<u64, Connection>,
    last_connection: u64,
}

#[derive(Debug)]
struct Connection {
    pulse: Pulse<Box<[u8]>>,
    preface: Vec<u8>,
    seat: Option<Seat>,
    is_new: bool,
    has_spoken: bool,
    /// Received and not committed.
    held: Vec<(u64, Bytes)>,
    last_words: Vec<u8>,
    left: Option<u64>,
    is_cut: bool,
    is_over: bool,
}

/// The code of the peer's refusals (PROTOCOL.md section 7.3), whatever its store calls them.
const NOT_WANTED: u16 = 3;

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
        self.store.newest().map_or(0, |session| session.out_committed)
    }

    pub(crate) fn open(&mut self) -> u64 {
        self.last_connection += 1;
        self.open += 1;
        let Script { window, message_bytes_max, cut_after, random, .. } = &mut self.script;
        let connection = Connection {
            pulse: Pulse::gateway(*window, *message_bytes_max),
            preface: Vec::new(),
            seat: None,
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
        self.detach(id, false);
        self.connections.remove(&id).is_some_and(|connection| connection.is_over && !connection.is_cut)
    }

    /// It leaves its session: for good if nothing has come from it in a new one, or its client has said so.
    fn detach(&mut self, id: u64, says_so: bool) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(seat) = connection.seat.take() else { return };
        (connection.is_over, connection.held) = (true, Vec::new());
        let for_good = says_so || connection.is_new && !connection.has_spoken;
        self.ask_store(vec![Request::Detach { seat, for_good, now: Moment::default() }]);
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
        let was_attached = connection.seat.is_some();
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
            Heard::Handed(handed) => {
                if let (&Handed::Committed(committed), Some(seat)) = (&handed, self.seat_of(id)) {
                    let attachment = seat.attachment;
                    self.ask_store(vec![Request::OutReceipt { attachment, committed }]);
                }
                self.handed.push(handed);
            }
            Heard::Confirmed(floor) => {
                self.confirmed = floor;
                if let Some(Seat { attachment, .. }) = self.seat_of(id) {
                    self.ask_store(vec![Request::Confirm { attachment, floor }]);
                }
            }
            Heard::Bye(code) => {
                self.byes.push(code);
                self.detach(id, code == 0);
            }
            Heard::Sign => self.signs += 1,
        }
    }

    fn seat_of(&self, id: u64) -> Option<Seat> {
        self.connections.get(&id)?.seat
    }

    /// A frame has come: from now on only the next token is valid.
    fn handle_spoken(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !std::mem::replace(&mut connection.has_spoken, true)
        {
            self.spoken += 1;
            if let Some(Seat { attachment, .. }) = connection.seat {
                self.ask_store(vec![Request::TokenUsed { attachment }]);
            }
        }
    }

    fn handle_hello(&mut self, id: u64, hailed: Hailed, token: [u8; 16]) {
        let Hailed { session, committed, acknowledged, .. } = hailed;
        let client = hailed.id.clone();
        self.hellos.push(hailed);
        if let Some(answer) = self.script.answers.pop_front() {
            return self.end(id, &answer);
        }
        let next = self.script.random.u128(..).to_be_bytes();
        let resume = (session != 0).then_some(Resume { session, token, committed, acknowledged });
        self.ask_store(vec![Request::Attach(Box::new(Attach {
            ticket: id.into(),
            client,
            source: 0,
            resume,
            token: next,
            second: SecondConnection::Allow,
            // It sends what it is told to, even if that is too long for the client.
            message_bytes_max: u32::MAX,
            told_bytes_max: self.script.message_bytes_max,
            now: Moment::default(),
            time_to_live: Duration::from_hours(1),
        }))]);
    }

    /// Asks for what concerns sessions, and does what the answers say.
    fn ask_store(&mut self, requests: Vec<Request>) {
        let (committed, replies) = self.store.commit(requests);
        self.committed.extend(committed);
        replies.into_iter().for_each(|reply| self.handle_reply(reply));
    }

    fn handle_reply(&mut self, reply: Reply) {
        match reply {
            Reply::Attached(attached) => self.handle_attached(&attached),
            Reply::AttachRefused { ticket, .. } => {
                self.end(connection_of(ticket), &Answer::new(CloseReason::BadToken.code(), 0));
            }
            Reply::Committed { seat, committed } => {
                if let Some(connection) = self.attached(seat) {
                    connection.pulse.commit(committed);
                }
            }
            Reply::Refused { seat, refusal } => {
                if let Some(connection) = self.attached(seat) {
                    connection.pulse.refuse(refusal.number, NOT_WANTED, "not wanted");
                }
            }
            Reply::Pushed { attachment, connection: Some(ticket), payload, .. } => {
                if let Some(connection) = self.attached(Seat { ticket, attachment }) {
                    connection.pulse.push(payload);
                }
            }
            Reply::Loaded { seat, messages, has_more } => {
                let above = messages.last().map_or(0, |message| message.number);
                if let Some(connection) = self.attached(seat) {
                    messages.into_iter().for_each(|message| _ = connection.pulse.push(message.payload));
                    if has_more {
                        self.load(seat, above);
                    }
                }
            }
            Reply::Pushed { connection: None, .. } | Reply::Detached { .. } => {}
            Reply::Ended { .. }
            | Reply::Orphaned { .. }
            | Reply::PushRefused { .. }
            | Reply::Expired { .. }
            | Reply::Resting { .. }
            | Reply::Ready
            | Reply::Stopped { .. }
            | Reply::GoesOn => panic!("a client of this peer has no way to this: {reply:?}"),
        }
    }

    fn attached(&mut self, seat: Seat) -> Option<&mut Connection> {
        self.connections
            .get_mut(&connection_of(seat.ticket))
            .filter(|connection| connection.seat == Some(seat))
    }

    fn load(&mut self, seat: Seat, above: u64) {
        self.ask_store(vec![Request::Load { seat, above, bytes_max: LOAD_BYTES_MAX }]);
    }

    fn handle_attached(&mut self, attached: &Attached) {
        if let Some(ticket) = attached.replaced {
            let reason = CloseReason::Replaced;
            let answer = Answer { delay_ms: 5_000, ..Answer::new(reason.code(), 2) };
            self.end(connection_of(ticket), &answer);
        }
        let Self { script, connections, violations, .. } = self;
        let Some(connection) = connections.get_mut(&connection_of(attached.seat.ticket)) else { return };
        let refused = Refusals::write(attached.refused.iter().map(|refusal| (refusal.number, NOT_WANTED)));
        let ms = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        let (committed, acknowledged) = (attached.committed, attached.acknowledged);
        let resumed = attached.outcome == Outcome::Resumed;
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
            session: attached.session(),
            token: attached.token,
            committed,
            acknowledged,
            lost: attached.lost.unwrap_or_default(),
            refused: Refusals::read(&refused, committed).unwrap_or_default(),
        };
        if let Some(edit) = &script.edit {
            edit(&mut welcome);
        }
        let sending = Sending::restore(acknowledged, acknowledged, [], script.window);
        let receiving = Receiving::restore(committed, attached.floor);
        if let Err(reason) = connection.pulse.welcome(&welcome, sending, receiving) {
            violations.push(reason);
        }
        (connection.seat, connection.is_new) = (Some(attached.seat), !resumed);
        if script.lost_welcomes > 0 {
            script.lost_welcomes -= 1;
            connection.is_cut = true;
        }
        if attached.is_behind {
            self.load(attached.seat, acknowledged);
        }
    }

    /// Commits what was received, in this order.
    fn commit(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(seat) = connection.seat else { return };
        let refused = self.script.refused.as_deref();
        let request = |(number, payload): (u64, Bytes)| {
            let is_refused = refused.is_some_and(|refused| payload.starts_with(refused));
            let payload = if is_refused { Store::too_long() } else { payload[..].into() };
            Request::Message { seat, number, received_at_ms: 0, payload }
        };
        let requests: Vec<_> = connection.held.drain(..).map(request).collect();
        if !requests.is_empty() {
            self.ask_store(requests);
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
        self.detach(id, false);
    }

    fn ids(&self) -> Vec<u64> {
        self.connections.keys().copied().collect()
    }

    pub(crate) fn cut(&mut self) {
        for id in self.ids() {
            self.detach(id, false);
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
        self.store.forget();
    }

    pub(crate) fn push(&mut self, message: Bytes) {
        let to = Recipient::Session(self.store.newest_number());
        self.ask_store(vec![Request::Push { ticket: 0, to, now_ms: 0, payload: message[..].into() }]);
    }
}

fn connection_of(ticket: Ticket) -> u64 {
    u64::try_from(ticket).unwrap_or(0)
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
