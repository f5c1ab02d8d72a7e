//! Clients that speak the pulse protocol: each a device with one session at a time, over one connection after the
//! other. They keep the protocol, and note what they were told.

use super::judge::Judge;
use super::model::{Arrived, Model};
use super::story::Known;
use super::world::{Link, World};
use crate::end::End;
use fastrand::Rng;
use pulsegate_core::close::CloseReason;
use pulsegate_core::exchange::{Receiving, Sending, Unsettled, Window};
use pulsegate_core::frame::{
    self, Beat, Durability, Frame, FrameReader, Hello, LifetimeKind, NOTICE_STOPPED, PREFACE, Refusals,
};
use pulsegate_core::pulse::{Pulse, PulseEvent};
use pulsegate_core::time::Instant;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::rc::Rc;
use std::time::Duration;

const WINDOW: Window = Window { messages: 4, bytes: 16 * 1024 };
const MESSAGE_BYTES_MAX: u32 = 8 * 1024;
/// How many bytes a slow line takes in a second: each 1,024 of a message prove that its sender lives (PROTOCOL.md section
/// 3.4). What is short it takes at once.
const LINE_RATE: u64 = 1_200;
const LINE_BURST: Duration = Duration::from_millis(100);
/// In this time everybody who is there hears something of the gateway: its heartbeat's, and some steps of the simulation.
const SILENCE_MAX: Duration = Duration::from_millis(3_500);
/// Reasons from this code on are told to nobody.
const UNTOLD_CODES: u16 = 90;

type Payload = Box<[u8]>;

/// The last part of the address from which a device comes.
pub(super) const fn host_of(device: usize) -> u8 {
    10 + device as u8
}

/// Whether what this device sends takes long to get through.
pub(super) const fn is_slow(device: usize) -> bool {
    device > 0 && device.is_multiple_of(4)
}

#[derive(Debug)]
struct Call {
    client: usize,
    pulse: Pulse<Payload>,
    beaten: Instant,
    interval: Duration,
    /// What waits to be sent on a slow line, and until when it has sent without a rest.
    line: Vec<u8>,
    flowed: Instant,
    /// When it was last silent itself, or has heard something.
    spoken_to: Instant,
    /// Since when it has its session.
    attached: Option<Instant>,
    /// Since when it waits for the next receipt.
    owed: Option<Instant>,
    /// When it was last told that receipts have stopped.
    stopped: Option<Instant>,
    /// It has said its last word.
    left: bool,
}

#[derive(Debug)]
struct Device {
    name: String,
    /// What a commit means in its store.
    durability: Durability,
    /// It reads, beats and answers in time; others do so when they like.
    diligent: bool,
    /// What it sends takes long to get through.
    is_slow: bool,
    call: Option<Call>,
    sending: Sending<Payload>,
    receiving: Receiving,
    token: [u8; 16],
    said: u64,
    story: Known,
    past: Vec<Known>,
    /// Codes of NOTICE.
    notices: Vec<u16>,
}

/// All devices of one store.
pub(super) struct Devices {
    world: Rc<RefCell<World>>,
    devices: Vec<Device>,
    /// They have much to say.
    pub(super) talkative: bool,
    /// The session that a connection was told.
    pub(super) sessions: BTreeMap<usize, u64>,
}

/// What has to be done after the peer's frames were taken in.
#[derive(Default)]
struct Heard {
    welcome: Option<Entry>,
    messages: Vec<(u64, Payload)>,
    settled: Option<(u64, u64)>,
    refused: Vec<u64>,
    notices: Vec<u16>,
}

/// What WELCOME says.
struct Entry {
    resumed: bool,
    session: u64,
    token: [u8; 16],
    interval: Duration,
    durability: Durability,
    lost: RangeInclusive<u64>,
}

impl Devices {
    /// Devices with these numbers.
    pub(super) fn new(world: Rc<RefCell<World>>, numbers: Range<usize>, durability: Durability) -> Self {
        let device = |number| Device {
            name: format!("device {number}"),
            durability,
            diligent: number % 2 == 0,
            is_slow: is_slow(number),
            call: None,
            sending: Sending::new(WINDOW),
            receiving: Receiving::default(),
            token: [0; 16],
            said: 0,
            story: Known::default(),
            past: Vec::new(),
            notices: Vec::new(),
        };
        let devices = numbers.map(device).collect();
        Self { world, devices, talkative: false, sessions: BTreeMap::new() }
    }

    pub(super) fn is_diligent(&self, device: usize) -> bool {
        self.devices[device].diligent
    }

    /// Up to which of its messages a device has receipts.
    pub(super) fn settled(&self, device: usize) -> u64 {
        self.devices[device].story.settled
    }

    /// What a device was told by NOTICE.
    pub(super) fn notices(&self, device: usize) -> &[u16] {
        &self.devices[device].notices
    }

    pub(super) const fn len(&self) -> usize {
        self.devices.len()
    }

    /// A device has a new connection; an older one is left as it is.
    pub(super) fn handle_connect(&mut self, device: usize, client: usize, model: &mut Model) {
        if let Some(call) = &self.devices[device].call {
            model.note_forsaken(call.client);
        }
        self.forsake(device);
        let now = self.world.borrow().now;
        let device = &mut self.devices[device];
        let hello = Hello {
            lifetime: LifetimeKind::Any,
            beat_min_ms: 0,
            beat_max_ms: 0,
            window: WINDOW,
            message_bytes_max: MESSAGE_BYTES_MAX,
            session: device.story.session,
            token: device.token,
            committed: device.receiving.committed(),
            acknowledged: device.sending.settled(),
            id: &device.name,
            refused: Refusals::EMPTY,
        };
        let pulse = Pulse::client(&hello, device.sending.clone(), device.receiving);
        let interval = Duration::from_secs(3600);
        device.call = Some(Call {
            client,
            pulse,
            beaten: now,
            interval,
            line: Vec::new(),
            flowed: now,
            spoken_to: now,
            attached: None,
            owed: None,
            stopped: None,
            left: false,
        });
        device.transmit(now, model);
    }

    /// The device forgets its connection, and keeps its session.
    fn forsake(&mut self, device: usize) {
        let device = &mut self.devices[device];
        if let Some(call) = device.call.take() {
            (device.sending, device.receiving) = call.pulse.into_halves();
        }
    }

    /// All who are diligent do what is to be done, and one who is not may.
    pub(super) fn live(&mut self, model: &mut Model, random: &mut Rng) {
        let anybody = random.usize(..self.devices.len() * 8);
        for device in 0..self.devices.len() {
            if self.devices[device].diligent || device == anybody {
                self.exchange(device, model);
            }
        }
    }

    /// A device has something to say.
    pub(super) fn say(&mut self, device: usize, model: &mut Model, random: &mut Rng) {
        let now = self.world.borrow().now;
        let device = &mut self.devices[device];
        // Without a connection, or before it is let in, it keeps nothing: its numbers begin with its session.
        let Some(call) = device.call.as_mut().filter(|call| call.pulse.is_attached() && !call.left) else {
            return;
        };
        let (count, bytes_max) = match (self.talkative, device.is_slow) {
            (true, _) => (60, 20),
            (false, true) => (6, 8_000),
            (false, false) => (6, 600),
        };
        for _ in 0..random.usize(1..count) {
            device.said += 1;
            let mut payload = format!("{} says {}", device.name, device.said).into_bytes();
            let most = call.pulse.peer_message_bytes_max() as usize;
            payload.resize((payload.len() + random.usize(..bytes_max)).min(most), b'.');
            let payload = Payload::from(payload);
            let number = call.pulse.push(payload.clone());
            device.story.said.push(payload);
            assert_eq!(number, device.story.said.len() as u64);
        }
        call.owed.get_or_insert(now);
        device.transmit(now, model);
    }

    /// A device leaves: for good, or to come back.
    pub(super) fn leave(&mut self, device: usize, model: &mut Model, random: &mut Rng) {
        self.exchange(device, model);
        let code = u16::from(random.bool());
        let Some(call) = self.devices[device].call.as_mut().filter(|call| !call.left) else { return };
        let mut out = std::mem::take(&mut call.line);
        call.pulse.bye(code, 0, 0, "", &mut out);
        call.left = true;
        model.say(call.client, &out);
        model.note_leave(call.client);
    }

    /// Reads, answers, beats; and gives up a connection that has ended.
    fn exchange(&mut self, device: usize, model: &mut Model) {
        let Some(client) = self.devices[device].call.as_ref().map(|call| call.client) else { return };
        let (now, bytes, ended) = {
            let mut world = self.world.borrow_mut();
            let bytes = world.drink(client);
            (world.now, bytes, world.links[&client].ended.is_some())
        };
        self.devices[device].take_in(now, &bytes, &mut self.sessions);
        if ended {
            model.hang_up(client);
            return self.forsake(device);
        }
        let device = &mut self.devices[device];
        if let Some(call) = device.call.as_mut().filter(|call| call.beaten.after(call.interval) <= now) {
            call.pulse.beat(Beat::Beat);
        }
        device.transmit(now, model);
    }

    /// The sink takes nothing, and the gateway has said so then: who is there has heard it. If that is long ago, nobody is
    /// left who has waited for a receipt ever since.
    pub(super) fn check_told(&self, model: &Model, then: Instant, is_long_ago: bool) {
        let world = self.world.borrow();
        for device in self.devices.iter().filter(|device| device.diligent && !device.is_slow) {
            let Some(call) = device.call.as_ref().filter(|call| model.is_whole(call.client)) else {
                continue;
            };
            let link = &world.links[&call.client];
            if call.attached.is_none_or(|attached| attached >= then) || world.is_behind(call.client) {
                continue;
            }
            assert!(call.stopped >= Some(then), "{} was not told that receipts have stopped", device.name);
            let waits = link.backlog() == 0 && call.owed.is_some_and(|owed| owed <= then);
            assert!(
                !waits || !is_long_ago,
                "{} waits for receipts of a sink that takes nothing",
                device.name
            );
        }
    }

    /// Who has long been sending something hears meanwhile that the gateway lives: a question of its own would have to wait.
    pub(super) fn check_spoken_to(&self, model: &Model) {
        let world = self.world.borrow();
        for device in self.devices.iter().filter(|device| device.diligent && device.is_slow) {
            let Some(call) = device.call.as_ref().filter(|call| model.is_whole(call.client)) else {
                continue;
            };
            let silence = world.now.since(call.spoken_to).saturating_sub(model.stalls_since(call.spoken_to));
            let may_be_told = call.attached.is_some() && !model.write_bound.contains(&call.client);
            let is_sending = may_be_told && !call.line.is_empty();
            assert!(!is_sending || silence < SILENCE_MAX, "{} hears nothing for {silence:?}", device.name);
        }
    }

    /// Each device that is connected and diligent has all that was meant for it, and receipts for all it said. With a dead
    /// store there is none.
    pub(super) fn check_quiet(&self, model: &Model, is_dead: bool, judge: &Judge) {
        for device in self.devices.iter().filter(|device| device.diligent && !device.is_slow) {
            let Some(call) = device.call.as_ref() else { continue };
            if !call.pulse.is_attached() || !model.is_whole(call.client) {
                continue;
            }
            assert!(!is_dead, "{} is kept, and its store or its sink is dead", device.name);
            judge.with_story(device.story.session, |story| device.story.check_whole(&device.name, story));
        }
    }

    /// What the devices know agrees with what was committed, and that with what has reached the sink, if there is one.
    pub(super) fn check_end(&self, judge: &Judge, arrived: Option<&Arrived>) {
        let is_dead = judge.is_dead();
        for device in &self.devices {
            for known in device.past.iter().chain([&device.story]).filter(|known| known.session != 0) {
                judge.with_story(known.session, |story| {
                    known.check(&device.name, story);
                    let Some(arrived) = arrived else { return };
                    let arrived = arrived.get(&known.session).map_or(&[][..], Vec::as_slice);
                    known.check_arrived(&device.name, story, arrived, is_dead);
                });
            }
        }
    }
}

impl Device {
    /// Takes in what has come.
    fn take_in(&mut self, now: Instant, bytes: &[u8], sessions: &mut BTreeMap<usize, u64>) {
        let Some(call) = self.call.as_mut().filter(|_| !bytes.is_empty()) else { return };
        call.spoken_to = now;
        let mut heard = Heard::default();
        let outcome = call.pulse.handle_input(now, bytes, |event| heard.note(event));
        assert_eq!(outcome, Ok(()), "the gateway keeps the protocol with {}", self.name);
        if let Some(entry) = heard.welcome {
            (self.token, call.interval, call.attached) = (entry.token, entry.interval, Some(now));
            assert_eq!(entry.durability, self.durability, "{}", self.name);
            sessions.insert(call.client, entry.session);
            if !entry.resumed {
                let begun = Known { session: entry.session, ..Known::default() };
                self.past.push(std::mem::replace(&mut self.story, begun));
                // What has never left belongs to the new session, if it takes it.
                for (_, fate, payload) in
                    call.pulse.take_left_over().into_iter().flat_map(Sending::into_unsettled)
                {
                    let is_short = payload.len() <= call.pulse.peer_message_bytes_max() as usize;
                    if fate == Unsettled::NeverSent && is_short {
                        self.story.said.push(payload.clone());
                        call.pulse.push(payload);
                    }
                }
            }
            assert_eq!(self.story.session, entry.session);
            self.story.lost.extend(entry.lost);
        }
        if heard.notices.contains(&NOTICE_STOPPED) {
            call.stopped = Some(now);
        }
        self.notices.append(&mut heard.notices);
        self.story.refused.extend(heard.refused);
        if let Some((first, last)) = heard.settled {
            assert_eq!(first, self.story.settled + 1, "{}: each is settled once", self.name);
            self.story.settled = last;
        }
        if heard.settled.is_some() || call.attached == Some(now) {
            call.owed = (self.story.settled < self.story.said.len() as u64).then_some(now);
        }
        for (number, payload) in heard.messages {
            self.story.got.push(payload);
            assert_eq!(number, self.story.got.len() as u64, "{} gets each once, in order", self.name);
            call.pulse.commit(number);
        }
    }

    /// Sends what is to be sent, unless it has left or the connection is broken.
    fn transmit(&mut self, now: Instant, model: &mut Model) {
        let Some(call) = self.call.as_mut().filter(|call| !call.left && model.is_whole(call.client)) else {
            return;
        };
        if call.line.is_empty() {
            call.pulse.poll_transmit(now, 16 * 1024, &mut call.line);
            (call.flowed, call.spoken_to) = (now.before(LINE_BURST), now);
        }
        let most = if self.is_slow && call.attached.is_some() { call.flow(now) } else { call.line.len() };
        let out: Vec<u8> = call.line.drain(..most).collect();
        if !out.is_empty() {
            call.beaten = now;
            model.say(call.client, &out);
        }
    }
}

impl Call {
    /// How many bytes a slow line has taken by now.
    fn flow(&mut self, now: Instant) -> usize {
        const SECOND: u64 = 1_000_000_000;
        let bytes = now.since(self.flowed).as_nanos() as u64 * LINE_RATE / SECOND;
        self.flowed = self.flowed.after(Duration::from_nanos(bytes * SECOND / LINE_RATE));
        self.line.len().min(bytes as usize)
    }
}

impl Heard {
    fn note(&mut self, event: PulseEvent<'_>) {
        match event {
            PulseEvent::Welcome(welcome) => {
                let (first, last) = welcome.lost;
                self.welcome = Some(Entry {
                    resumed: welcome.resumed,
                    session: welcome.session,
                    token: welcome.token,
                    interval: Duration::from_millis(welcome.beat_interval_ms.into()),
                    durability: welcome.durability,
                    // None are the numbers from 0 to 0.
                    lost: first.max(1)..=last,
                });
            }
            PulseEvent::Message { number, payload } => self.messages.push((number, payload.into())),
            PulseEvent::Settled { first, last } => {
                let first = self.settled.map_or(first, |(earlier, before)| {
                    assert_eq!(first, before + 1);
                    earlier
                });
                self.settled = Some((first, last));
            }
            PulseEvent::Refused { number, .. } => self.refused.push(number),
            PulseEvent::Hello(_) => panic!("a gateway says no HELLO"),
            PulseEvent::Notice { code, .. } => self.notices.push(code),
            PulseEvent::Confirmed { .. } | PulseEvent::Bye(_) | PulseEvent::Alive => {}
        }
    }
}

/// A device that can be told is told why, once, as the last of all frames. What it did not take when all is stopped is
/// given up.
pub(super) fn check_bye(client: usize, link: &Link, ended: &End, stopped: Option<Instant>) {
    let mut told = Vec::new();
    let outcome = FrameReader::default().handle_input(&link.told(), frame::MESSAGE_BYTES_MAX, |frame| {
        assert!(told.is_empty(), "client {client}: nothing comes after BYE");
        if let Frame::Bye(bye) = frame {
            told.push(bye.code);
        }
        true
    });
    assert!(outcome.is_ok(), "client {client} is sent frames");
    let code = ended.reason.code();
    let is_known = ended.totals.bytes_in >= PREFACE.len() as u64;
    let is_cut = stopped.is_some_and(|stopped| link.ended.is_some_and(|ended| stopped <= ended));
    if code < UNTOLD_CODES && is_known && !link.aborted && !link.reset && !is_cut {
        assert_eq!(told, [code], "client {client} is told why: {}", ended.reason);
    } else {
        assert!(told.iter().all(|told| *told == code), "client {client} is told {told:?}: {}", ended.reason);
    }
}

/// Whoever can't be kept is told so in its own language, if it is told at all; a device says at once which that is.
pub(super) fn check_farewell(client: usize, is_device: bool, link: &Link, reason: CloseReason) {
    let is_shown = is_device && link.id.is_some() && link.side.is_none() && link.read >= PREFACE.len();
    let mut codes = Vec::new();
    let outcome = FrameReader::default().handle_input(&link.told(), frame::MESSAGE_BYTES_MAX, |frame| {
        codes.push(if let Frame::Bye(bye) = frame { bye.code } else { 0 });
        true
    });
    assert!(outcome.is_ok(), "client {client} is sent frames");
    let told = |reason: CloseReason| codes == [reason.code()];
    let has_right_words = told(reason) || told(CloseReason::Drain);
    let is_right = match is_shown {
        true => link.reset || has_right_words,
        // Through a layer, not all that was read need have been shown.
        false => codes.is_empty() || link.side.is_some() && has_right_words,
    };
    assert!(is_right, "client {client}, to whom {reason} applies, is told {:?}", link.told());
}
