//! What must hold, whatever happens: the clients' side of the story, compared with the gateway's.

mod sending;
mod stored;
mod truth;

use super::devices::{check_bye, check_farewell, is_slow};
use super::listeners::{
    AUTO, DEADLINE, FIRST_MESSAGE, MAX_AGE, NAMED, NARROW, RULES, SHORT, SINK_STALL, TIMEOUT, TURNED_AWAY,
};
use super::recorder::{Recorder, Records};
use super::world::World;
use crate::counters::Counts;
use crate::end::End;
use crate::handle::Handle;
use crate::mailbox::Command;
use crate::shard::listener::Delivery;
use fastrand::Rng;
use pulsegate_core::close::CloseReason;
use pulsegate_core::lifetime::Direction;
use pulsegate_core::policy::Policy;
use pulsegate_core::stall::{CREDIT_MAX, SLEEP_MAX, STALL_MIN};
use pulsegate_core::time::Instant;
use pulsegate_core::wheel::TICK;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use stored::{Rests, Stored};
use truth::{check_layer, check_messages, check_reason, check_record, is_of_layer, silence};

/// What may end a device's connection at any time. A message that is too long for it does not, and nothing else that it
/// gets has a bound here.
const ALWAYS_TRUE: [CloseReason; 4] =
    [CloseReason::ReadDeadline, CloseReason::WriteDeadline, CloseReason::Application, CloseReason::Drain];

/// What a client has done.
struct Client {
    listener: usize,
    /// The last part of its address.
    host: u8,
    /// The one that speaks the pulse protocol here.
    device: Option<usize>,
    /// It is a device that beats, and does all else in time.
    diligent: bool,
    /// It has said BYE.
    left: bool,
    /// It waits for that no longer.
    accepted: bool,
    /// When it was accepted; before, when it came.
    opened: Instant,
    refused: Option<CloseReason>,
    unfinished: Vec<u8>,
    lines: Vec<(Instant, Vec<u8>)>,
    /// When it sent something, accept included, and how many bytes it had sent before.
    bytes: Vec<(Instant, u64)>,
    sent: u64,
    /// How many of these the gateway had taken after the last turn.
    read: u64,
    /// All stalls until it was accepted.
    stalls: Duration,
    /// The turn that heard its last heartbeat, as the named listener counts it, with all stalls until then.
    last_beat: Option<(Instant, Duration)>,
    /// A heartbeat is on its way that no turn has heard yet.
    beats: bool,
    /// The instant of the first turn in which the gateway could see that its time is over.
    over: Option<Instant>,
    hung_up: bool,
    reset: bool,
}

/// The numbered messages that have reached the sink, by session.
pub(super) type Arrived = BTreeMap<u64, Vec<(u64, Box<[u8]>)>>;

pub(super) struct Model {
    world: Rc<RefCell<World>>,
    clients: Vec<Client>,
    records: Records,
    /// When the sink had taken everything.
    idle: Vec<Instant>,
    /// When the sink has taken something.
    pub(super) taken: Vec<Instant>,
    /// When the sink failed.
    failure: Option<Instant>,
    /// To whom nothing may be written after some time, as the application says.
    pub(super) write_bound: BTreeSet<usize>,
    /// How many bytes each client had been sent then.
    sent_before: BTreeMap<usize, usize>,
    /// When the store had committed everything.
    judged: Vec<Instant>,
    /// When the store died.
    death: Option<Instant>,
    /// Since when the store has forgotten sessions, if it has.
    forgotten: Option<Instant>,
    pub(super) rests: Rests,
    pub(super) stored: Stored,
    /// From when on connections may be stopped.
    pub(super) stopped: Option<Instant>,
    stalls: Duration,
    /// When the shard could not run, and for how long.
    stopped_for: Vec<(Instant, Duration)>,
    /// When those stalls began that are long enough to be credited, and how long they were.
    credited: Vec<(Instant, Duration)>,
}

impl Model {
    pub(super) fn new(world: Rc<RefCell<World>>) -> Self {
        Self {
            world,
            clients: Vec::new(),
            records: Records::default(),
            idle: Vec::new(),
            taken: Vec::new(),
            failure: None,
            write_bound: BTreeSet::new(),
            sent_before: BTreeMap::new(),
            judged: Vec::new(),
            death: None,
            forgotten: None,
            rests: Rests::default(),
            stored: Stored::default(),
            stopped: None,
            stalls: Duration::ZERO,
            stopped_for: Vec::new(),
            credited: Vec::new(),
        }
    }

    pub(super) fn sink(&self) -> Recorder {
        Recorder::new(&self.records)
    }

    /// How many lines of a client the sink has got.
    pub(super) fn lines_at_sink(&self, client: usize) -> usize {
        self.records.lock().get(&client).map_or(0, |told| told.messages.len())
    }

    /// Whether the sink was told of the end of a client.
    pub(super) fn is_told_of_end(&self, client: usize) -> bool {
        self.records.lock().get(&client).is_some_and(|told| told.ended.is_some())
    }

    fn now(&self) -> Instant {
        self.world.borrow().now
    }

    /// Somebody has come, and waits to be accepted.
    pub(super) fn handle_connect(&mut self, (listener, host): (usize, u8)) {
        let opened = self.now();
        self.clients.push(Client {
            listener,
            host,
            device: None,
            diligent: false,
            left: false,
            accepted: false,
            opened,
            refused: None,
            unfinished: Vec::new(),
            lines: Vec::new(),
            bytes: vec![(opened, 0)],
            sent: 0,
            read: 0,
            stalls: self.stalls,
            last_beat: None,
            beats: false,
            over: None,
            hung_up: false,
            reset: false,
        });
    }

    /// Somebody was let in, or is told why not.
    pub(super) fn handle_accepted(&mut self, client: usize, refused: Option<CloseReason>) {
        let now = self.now();
        let state = &mut self.clients[client];
        (state.accepted, state.opened, state.refused, state.stalls) = (true, now, refused, self.stalls);
        // What it has sent before comes with it.
        state.bytes.iter_mut().for_each(|(instant, _)| *instant = now);
        self.note_device(client);
    }

    /// Whether a client has not been accepted.
    pub(super) fn is_waiting(&self, client: usize) -> bool {
        !self.clients[client].accepted
    }

    /// A client is a device.
    pub(super) fn handle_device(&mut self, client: usize, device: usize, diligent: bool) {
        let state = &mut self.clients[client];
        (state.device, state.diligent) = (Some(device), diligent);
        self.note_device(client);
    }

    fn note_device(&self, client: usize) {
        let state = &self.clients[client];
        let is_told_of = matches!(RULES[state.listener].delivery, Delivery::Lane(_));
        if is_told_of && state.accepted && state.refused.is_none() && state.device.is_some() {
            self.records.lock().entry(client).or_default().is_pulse = true;
        }
    }

    /// A device has said its last word on this connection.
    pub(super) fn note_leave(&mut self, client: usize) {
        self.clients[client].left = true;
    }

    /// A device does nothing for this connection any more.
    pub(super) fn note_forsaken(&mut self, client: usize) {
        self.clients[client].diligent = false;
    }

    /// This client is one that is kept.
    pub(super) fn is_let_in(&self, client: usize) -> bool {
        self.clients[client].accepted && self.clients[client].refused.is_none()
    }

    /// The listener that a client has come to.
    pub(super) fn listener(&self, client: usize) -> usize {
        self.clients[client].listener
    }

    /// Neither side has ended this connection.
    pub(super) fn is_whole(&self, client: usize) -> bool {
        let state = &self.clients[client];
        let ended = self.world.borrow().links[&client].ended.is_some();
        !(state.hung_up || state.reset || state.left || ended)
    }

    /// The clients that the gateway has not ended.
    pub(super) fn living(&self) -> Vec<usize> {
        let world = self.world.borrow();
        (0..self.clients.len())
            .filter(|client| world.links[client].ended.is_none() && !world.links[client].closed)
            .collect()
    }

    pub(super) fn hang_up(&mut self, client: usize) {
        if let Some(state) = self.clients.get_mut(client) {
            state.hung_up = true;
            let whole = self.world.borrow_mut().finish(client);
            self.note_sent(client, &whole);
        }
    }

    pub(super) fn reset(&mut self, client: usize) {
        if let Some(state) = self.clients.get_mut(client) {
            state.reset = true;
            self.world.borrow_mut().touch(client, |link| link.reset = true);
        }
    }

    /// A device reads for itself.
    pub(super) fn drink(&self, client: usize) {
        if self.clients.get(client).is_some_and(|state| state.device.is_some()) {
            return;
        }
        self.world.borrow_mut().drink(client);
    }

    /// The application does something with a connection that the sink knows.
    pub(super) fn command(&mut self, random: &mut Rng) {
        let records = self.records.lock();
        // Devices are few among all, and messages for them are worth more looks.
        let devices = random.bool();
        let known = records.values().filter(|told| !devices || told.is_pulse && told.ended.is_none());
        let handles: Vec<&Handle> = known.filter_map(|told| told.handle.as_ref()).collect();
        let Some(handle) = random.choice(&handles) else { return };
        let deadline = random.bool().then(|| self.now().after(Duration::from_millis(random.u64(..3_000))));
        let command = match random.u32(..if devices { 20 } else { 6 }) {
            0 | 1 | 6.. => {
                Command::Send(handle.id, vec![b'a' + random.u8(..26); random.usize(..10_000)].into())
            }
            2 => Command::Finish(handle.id),
            3 => Command::Close(handle.id),
            4 => Command::SetDeadline(handle.id, Direction::Read, deadline),
            _ => {
                self.write_bound.insert(usize::from(handle.peer().port()));
                Command::SetDeadline(handle.id, Direction::Write, deadline)
            }
        };
        handle.mailbox.post(command).expect("the shard runs");
    }

    /// The shard was stopped, and it ends now.
    pub(super) fn handle_stall(&mut self, span: Duration) {
        self.stalls += span;
        self.stopped_for.push((self.now(), span));
        if span > STALL_MIN + SLEEP_MAX && self.stalls < CREDIT_MAX {
            self.credited.push((self.now().before(span), span));
        }
    }

    pub(super) fn handle_sink_idle(&mut self) {
        self.idle.push(self.now());
    }

    /// Whether the sink has taken nothing for so long that nobody need wait any more.
    pub(super) fn has_stalled(&self, now: Instant) -> bool {
        last(&self.taken, now).is_none_or(|taken| now.since(taken) >= SINK_STALL)
    }

    pub(super) fn handle_judge_idle(&mut self) {
        self.judged.push(self.now());
    }

    pub(super) fn handle_judge_death(&mut self) {
        self.death = Some(self.now());
    }

    pub(super) fn handle_forgotten(&mut self) {
        self.forgotten = self.forgotten.or_else(|| Some(self.now()));
    }

    /// Nobody is kept past what a listener allows, but for a tick, or until the first turn after it. Called after each
    /// turn.
    pub(super) fn check_bounds(&mut self) {
        let world = self.world.borrow();
        let clients = self.clients.iter_mut().enumerate();
        for (client, state) in clients {
            if !state.accepted || world.links[&client].ended.is_some() || world.links[&client].closed {
                continue;
            }
            if std::mem::take(&mut state.beats) {
                state.last_beat = Some((world.now, self.stalls));
            }
            let latest = match state.listener {
                _ if state.refused.is_some() => state.opened.after(TURNED_AWAY),
                SHORT => state.opened.after(DEADLINE),
                NAMED if state.hung_up || state.reset => continue,
                NAMED => state.last_beat.map_or_else(
                    || state.opened.after(FIRST_MESSAGE).after(self.stalls - state.stalls),
                    |(heard, stalls)| heard.after(TIMEOUT).after(self.stalls - stalls),
                ),
                _ => state.opened.after(MAX_AGE),
            };
            if world.now <= latest.after(TICK) {
                state.over = None;
                continue;
            }
            // What a client doesn't take may still be on its way out for a moment after the end.
            let over = *state.over.get_or_insert(world.now);
            let flushed = over.after(Policy::default().flush);
            let kept = world.now.since(latest);
            let is_leaving = world.is_behind(client) && world.now <= flushed.after(TICK);
            // A question that was due before takes a turn for itself, at the same instant.
            assert!(
                world.now == over || is_leaving,
                "client {client} of listener {} is kept {kept:?} too long",
                state.listener
            );
        }
    }

    /// Everything is over: the two stories agree.
    pub(super) fn check_end(&self, counts: &Counts, sessions: &BTreeMap<usize, u64>) {
        let records = self.records.lock();
        let world = self.world.borrow();
        assert_eq!(counts.accepted(), self.clients.iter().filter(|state| state.accepted).count() as u64);
        assert_eq!(counts.open(), 0);
        for (client, state) in self.clients.iter().enumerate() {
            assert!(world.links[&client].closed, "client {client} is left over");
            check_layer(client, state, &world.links[&client], self.stopped);
            let told = records.get(&client);
            let is_told_of = matches!(RULES[state.listener].delivery, Delivery::Lane(_));
            if !is_told_of || !state.accepted || state.refused.is_some() {
                assert!(told.is_none(), "the sink hears nothing of client {client}");
                if let (Some(reason), AUTO | NARROW) = (state.refused, state.listener) {
                    check_farewell(client, state.device.is_some(), &world.links[&client], reason);
                }
                continue;
            }
            if self.failure.is_some() && told.is_none_or(|told| told.ended.is_none()) {
                // Of whom the sink knows no end, it will hear no more.
                continue;
            }
            let told = told.unwrap_or_else(|| panic!("the sink hears of client {client}"));
            let ended =
                told.ended.as_ref().unwrap_or_else(|| panic!("the sink hears of the end of client {client}"));
            check_record(client, state, ended, sessions.get(&client).copied());
            if state.device.is_some() {
                check_bye(client, &world.links[&client], ended, self.stopped);
                let session = sessions.get(&client).copied();
                let has_rested = ended.reason == CloseReason::SinkStalled
                    && self.rests.names(state.host, session, state.opened.after(ended.age));
                let true_reason = has_rested || self.is_true_for_device(client, state, ended);
                assert!(true_reason, "client {client}, a device, can't have ended with {ended:?}");
            } else {
                check_messages(client, state, told, ended);
                check_reason(client, state, ended, self);
            }
        }
    }

    /// What has reached the sink of each session: the connections know whose it is.
    pub(super) fn arrived(&self, sessions: &BTreeMap<usize, u64>) -> Arrived {
        let mut arrived = Arrived::new();
        let records = self.records.lock();
        for (client, told) in records.iter().filter(|(_, told)| told.is_pulse && !told.numbers.is_empty()) {
            let session = sessions.get(client).expect("who sends messages has been welcomed");
            let messages =
                told.numbers.iter().copied().zip(told.messages.iter().map(|bytes| bytes[..].into()));
            arrived.entry(*session).or_default().extend(messages);
        }
        arrived
    }

    /// What is special to a device; anything else is as with the others.
    fn is_true_for_device(&self, client: usize, state: &Client, ended: &End) -> bool {
        let at = state.opened.after(ended.age);
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "what is not listed has no condition, or is never true"
        )]
        match ended.reason {
            CloseReason::HeartbeatTimeout => {
                let (from, until) = silence(state, &ended.totals, at);
                // Not each byte on a slow line proves that its sender lives.
                let was_silent = until.since(from) >= TIMEOUT || state.device.is_some_and(is_slow);
                !state.diligent && was_silent
            }
            // What it speaks is known only when its first bytes are read, for which a raw one's sink needs room.
            CloseReason::SinkStalled => {
                let idle = if ended.totals.bytes_in == 0 { &self.idle } else { &self.judged };
                at.since(last(idle, at).unwrap_or(state.opened)) >= SINK_STALL || self.has_stalled(at)
            }
            CloseReason::SinkFailed => {
                [self.death, self.failure, self.forgotten].into_iter().flatten().any(|since| since <= at)
            }
            // Its token may have been valid when it came, and not when its HELLO was read.
            CloseReason::Replaced | CloseReason::BadToken => {
                // One that came before may have said HELLO, or have been read, after it.
                let others = self.clients.iter().enumerate().filter(|(other, _)| *other != client);
                others.into_iter().any(|(_, other)| other.device == state.device)
            }
            CloseReason::PeerClosed => state.hung_up || state.left,
            CloseReason::FirstMessageTimeout => false,
            CloseReason::MaxAge => ended.age >= MAX_AGE,
            CloseReason::HalfCloseTimeout | CloseReason::TruncatedFrame => state.hung_up,
            CloseReason::PeerReset => state.reset,
            CloseReason::MalformedFrame => {
                is_of_layer(self.world.borrow().links[&client].side.as_ref(), ended.reason)
            }
            CloseReason::Stopped => self.stopped.is_some_and(|since| since <= at),
            _ => ALWAYS_TRUE.contains(&ended.reason),
        }
    }
}

/// The last of these instants by then.
fn last(instants: &[Instant], at: Instant) -> Option<Instant> {
    instants.iter().copied().filter(|instant| *instant <= at).max()
}
