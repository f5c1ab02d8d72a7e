//! Who has used up its share of what a store keeps: it is not read, and neither it nor one that has gone is kept for
//! long. Nor does anybody end for what others leave in the store.

use super::listeners::{FIRST_MESSAGE, SINK_STALL, TIMEOUT};
use super::{Simulation, host_of};
use crate::peer::Peer;
use crate::post::ticket;
use crate::shard::listener::{Delivery, outlets};
use pulsegate_core::close::CloseReason;
use pulsegate_core::frame::{NOTICE_GOES_ON, NOTICE_RESTS};
use pulsegate_sessions::PushRefusal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A raw listener, whose lines go to the store here.
const LISTENER: usize = 0;
const HOST: u8 = 2;
/// A diligent one.
const DEVICE: usize = 0;
const TICK: Duration = Duration::from_millis(20);

impl Simulation {
    /// The store says that these have used up their share, and no others.
    pub(super) fn rest(&mut self, sessions: &[u64], hosts: &[u8]) {
        let source =
            |host: &u8| Peer::new(SocketAddr::from(([10, 0, 0, *host], 0))).source().network().number();
        let sources: Vec<_> = hosts.iter().map(source).collect();
        if self.judge.rest(sessions, &sources) {
            let now = self.now();
            self.model.rests.note(now, sessions, hosts);
        }
    }

    /// Now and then other devices and sessions have used up their share, or none.
    pub(super) fn tire_some(&mut self) {
        if self.tires.is_none_or(|rarely| self.random.u32(..rarely) > 0) {
            return;
        }
        let hosts: Vec<u8> =
            (0..self.devices.len()).filter(|_| self.random.u32(..3) == 0).map(host_of).collect();
        let sessions: Vec<u64> = (1..=self.judge.begun()).filter(|_| self.random.u32(..4) == 0).collect();
        self.rest(&sessions, &hosts);
        self.tire_stored();
    }
}

/// A gateway whose first listener keeps lines in a store, and an address that has used up its share there.
fn one_that_rests() -> Simulation {
    let mut simulation = Simulation::new(0);
    let shared = Arc::get_mut(&mut simulation.shard.shared).expect("one shard has it");
    let listener = &mut shared.listeners[LISTENER];
    (listener.raw, listener.pulse) = outlets(Delivery::Commit, Some(0));
    simulation.rest(&[], &[HOST]);
    simulation.advance(Duration::ZERO);
    simulation
}

fn has_ended(simulation: &Simulation, client: usize) -> bool {
    simulation.world.borrow().links[&client].ended.is_some()
}

fn ended(simulation: &Simulation, reason: CloseReason) -> u64 {
    simulation.shard.counts.total().ended(reason)
}

#[test]
fn who_rests_for_longer_than_sink_stall_is_ended() {
    let mut simulation = one_that_rests();
    let client = simulation.connect_from(LISTENER, HOST);
    simulation.model.say(client, b"held back\n");
    simulation.advance(SINK_STALL - TICK);
    assert!(!has_ended(&simulation, client), "it is no newcomer's silence that we don't read");
    simulation.advance(2 * TICK);
    assert!(has_ended(&simulation, client));
    assert_eq!(ended(&simulation, CloseReason::SinkStalled), 1);
}

#[test]
fn who_has_gone_while_it_rests_is_not_kept() {
    let mut simulation = one_that_rests();
    let client = simulation.connect_from(LISTENER, HOST);
    simulation.model.say(client, b"held back\n");
    simulation.advance(TICK);
    simulation.model.hang_up(client);
    simulation.advance(SINK_STALL + TICK);
    assert!(simulation.world.borrow().links[&client].closed);
    assert!(simulation.shard.connections.table.is_empty());
}

#[test]
fn a_silent_newcomer_whose_address_rests_is_ended_in_time() {
    let mut simulation = one_that_rests();
    let client = simulation.connect_from(LISTENER, HOST);
    simulation.advance(FIRST_MESSAGE + TICK);
    assert!(has_ended(&simulation, client));
    assert_eq!(ended(&simulation, CloseReason::FirstMessageTimeout), 1);
}

#[test]
fn those_who_ended_while_they_rested_are_forgotten() {
    let mut simulation = one_that_rests();
    for _ in 0..1_000 {
        let client = simulation.connect_from(LISTENER, HOST);
        simulation.model.say(client, b"held back\n");
        simulation.advance(Duration::ZERO);
        simulation.model.reset(client);
        simulation.advance(Duration::ZERO);
    }
    assert!(simulation.shard.connections.table.is_empty());
    let held = simulation.shard.outlets.ledgers[0].resting.held();
    assert!(held <= 70, "{held} are remembered");
}

/// A device that is attached, and whose address rests from now on.
fn device_that_rests() -> (Simulation, usize) {
    let mut simulation = Simulation::new(0);
    let client = simulation.clients;
    simulation.call(DEVICE);
    live(&mut simulation, 3 * TICK);
    simulation.rest(&[], &[host_of(DEVICE)]);
    (simulation, client)
}

fn live(simulation: &mut Simulation, span: Duration) {
    let end = simulation.now().after(span);
    while simulation.now() < end {
        simulation.advance(TICK);
        simulation.serve_all();
    }
}

#[test]
fn a_device_that_rests_goes_on_when_there_is_room_again() {
    let (mut simulation, client) = device_that_rests();
    // It beats, and that is not read.
    live(&mut simulation, SINK_STALL - TICK);
    assert_eq!(simulation.devices.notices(DEVICE), [NOTICE_RESTS]);
    simulation.rest(&[], &[]);
    live(&mut simulation, TIMEOUT);
    assert_eq!(simulation.devices.notices(DEVICE), [NOTICE_RESTS, NOTICE_GOES_ON]);
    assert!(!has_ended(&simulation, client));
}

#[test]
fn a_device_that_rests_for_long_is_ended() {
    let (mut simulation, client) = device_that_rests();
    live(&mut simulation, TIMEOUT + SINK_STALL);
    assert!(has_ended(&simulation, client));
    assert_eq!(ended(&simulation, CloseReason::SinkStalled), 1);
}

#[test]
fn a_silent_device_that_would_rest_is_asked_and_ended() {
    let (mut simulation, client) = device_that_rests();
    let id = simulation.shard.connections.table.next(0).expect("it is there");
    simulation.shard.connections.get(id).expect("it is there").marks.note_unread();
    simulation.advance(TIMEOUT + TICK);
    assert!(has_ended(&simulation, client));
    assert_eq!(ended(&simulation, CloseReason::HeartbeatTimeout), 1);
}

#[test]
fn a_client_ends_for_what_it_does_not_take_and_not_for_what_others_do_not() {
    let (mut simulation, client) = device_that_rests();
    let id = simulation.shard.connections.table.next(0).expect("it is there");
    let mut refuse = |why| {
        simulation.judge.refuse_push(ticket(0, id), why);
        simulation.advance(Duration::ZERO);
        has_ended(&simulation, client)
    };
    assert!(!refuse(PushRefusal::TooLarge));
    assert!(!refuse(PushRefusal::StoreFull));
    assert!(refuse(PushRefusal::Full));
    assert_eq!(ended(&simulation, CloseReason::OutputFull), 1);
}
