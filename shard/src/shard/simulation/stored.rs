//! A store on disk: raw clients leave their messages there, and some devices have their sessions there.

use super::devices::{Devices, host_of};
use super::judge::Judge;
use super::listeners::{SINK_STALL, STORED};
use super::world::World;
use super::{DEVICES, STEPS, Simulation};
use crate::mailbox::Command;
use crate::peer::Peer;
use crate::post::Post;
use crate::shard::ledger::Ledger;
use fastrand::Rng;
use pulsegate_core::close::CloseReason;
use pulsegate_core::frame::Durability;
use pulsegate_sessions::Rules;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// They have the numbers after those of the others.
const DEVICES_STORED: usize = 3;
/// So little may wait in the shard that reading rests at times.
pub(super) const BACKLOG_BYTES_MAX: usize = 16 * 1024;
/// About what an end may be late by.
const TICK: Duration = Duration::from_millis(20);

/// The store, and the devices whose sessions it keeps.
pub(super) struct Disk {
    pub(super) judge: Arc<Judge>,
    pub(super) devices: Devices,
    /// At which step it dies, if it does.
    pub(super) death: Option<u32>,
    /// It forgets a session now and then.
    forgets: bool,
    /// It loses the last messages of a session now and then.
    sets_back: bool,
}

impl Disk {
    /// The store, and the shard's side of it.
    pub(super) fn new(
        world: &Rc<RefCell<World>>,
        post: Post,
        rules: Rules,
        random: &mut Rng,
    ) -> (Self, Ledger) {
        let durability = if random.bool() { Durability::Os } else { Durability::Synced };
        let judge = Arc::new(Judge::new(post, None, durability, rules));
        let committing: Arc<Judge> = Arc::clone(&judge);
        let mut ledger = Ledger::new(committing, None, 1);
        ledger.backlog_bytes_max = BACKLOG_BYTES_MAX;
        let devices = Devices::new(Rc::clone(world), DEVICES..DEVICES + DEVICES_STORED, durability);
        let death = (random.u32(..20) == 0).then(|| random.u32(..STEPS));
        let (forgets, sets_back) = (random.u32(..8) == 0, random.u32(..8) == 0);
        (Self { judge, devices, death, forgets, sets_back }, ledger)
    }
}

impl Simulation {
    /// The store on disk commits.
    pub(super) fn serve_disk(&mut self, requests: usize) {
        let works = self.disk.judge.works();
        self.disk.judge.tell_time(self.now());
        let is_idle = self.disk.judge.commit(requests);
        if works && (requests > 0 || is_idle) {
            let now = self.now();
            self.model.stored.moved.push(now);
        }
    }

    /// More waits for it than newcomers may add to.
    pub(super) fn is_disk_overrun(&self) -> bool {
        self.shard.outlets.ledgers[1].bytes() >= 2 * BACKLOG_BYTES_MAX
    }

    /// A turn has added all that it adds to what waits for the store, and was told of what the store has taken before.
    pub(super) fn note_backlog(&mut self) {
        // Tests may have another one, or none.
        let Some(ledger) = self.shard.outlets.ledgers.get_mut(1) else { return };
        if std::mem::take(&mut ledger.waited) >= 2 * BACKLOG_BYTES_MAX {
            let now = self.now();
            self.model.stored.overrun.push(now);
        }
    }

    /// What befalls the store on disk.
    pub(super) fn change_disk(&mut self) {
        let now = self.now();
        let Disk { judge, death, forgets, sets_back, .. } = &self.disk;
        if *death == Some(self.step) {
            judge.die();
            self.model.stored.death = Some(now);
        }
        if *forgets && self.random.u32(..20) == 0 {
            judge.forget(self.random.u64(..=judge.begun()), self.random.bool());
            self.model.stored.forgotten.get_or_insert(now);
        }
        if *sets_back && self.random.u32(..20) == 0 {
            judge.set_back(self.random.u64(..=judge.begun()), self.random.u64(1..8));
            self.model.stored.forgotten.get_or_insert(now);
        }
    }

    /// The store says that these have used up their share, and no others.
    pub(super) fn rest_stored(&mut self, sessions: &[u64], hosts: &[u8]) {
        let source =
            |host: &u8| Peer::new(SocketAddr::from(([10, 0, 0, *host], 0))).source().network().number();
        let sources: Vec<_> = hosts.iter().map(source).collect();
        if self.disk.judge.rest(sessions, &sources) {
            let now = self.now();
            self.model.stored.rests.note(now, sessions, hosts);
        }
    }

    /// Other devices, raw clients and sessions have used up their share there, or none.
    pub(super) fn tire_stored(&mut self) {
        let devices = (DEVICES..DEVICES + DEVICES_STORED).map(host_of);
        let hosts: Vec<u8> = devices.chain(1..5).filter(|_| self.random.u32(..4) == 0).collect();
        let begun = self.disk.judge.begun();
        let sessions: Vec<u64> = (1..=begun).filter(|_| self.random.u32(..4) == 0).collect();
        self.rest_stored(&sessions, &hosts);
    }

    /// A device with a session on disk comes, or comes back; from an address of its own.
    pub(super) fn call_stored(&mut self, device: usize) {
        let Some(client) = self.come(STORED, host_of(DEVICES + device)) else { return };
        self.model.handle_device(client, DEVICES + device, self.disk.devices.is_diligent(device));
        self.disk.devices.handle_connect(device, client, &mut self.model);
    }

    /// Such a device does something of its own will, or its store does, or the application does for it.
    pub(super) fn exchange_stored(&mut self) {
        let device = self.random.usize(..DEVICES_STORED);
        let Self { disk: Disk { judge, devices, .. }, model, random, .. } = self;
        match random.u32(..20) {
            0..3 => self.call_stored(device),
            3..8 => devices.say(device, model, random),
            8 => devices.leave(device, model, random),
            9 => judge.stop(),
            10..13 => judge.go_on(),
            13..16 => self.send_stored(),
            _ => {
                let requests = random.usize(1..30);
                self.serve_disk(requests);
            }
        }
    }

    /// The application has a message for somebody who has come to the listener of this store.
    fn send_stored(&mut self) {
        let known: Vec<_> = self.disk.devices.sessions.keys().copied().collect();
        let Some(client) = self.random.choice(known) else { return };
        let Some(id) = self.world.borrow().links[&client].id else { return };
        let bytes = vec![b'a' + self.random.u8(..26); self.random.usize(..10_000)];
        self.mailbox.post(Command::Send(id, bytes.into())).expect("the shard runs");
    }
}

/// Whether a client is ended that waits for its session while the store is busy with so many messages of another one,
/// of which it may commit one just in time.
fn is_ended_behind_others(messages: usize, moves: bool) -> bool {
    let mut simulation = Simulation::new(0);
    let loud = simulation.connect_from(STORED, 1);
    simulation.model.say(loud, &b"loud\n".repeat(messages));
    simulation.advance(Duration::ZERO);
    let client = simulation.clients;
    simulation.call_stored(0);
    simulation.advance(SINK_STALL - TICK);
    // Too little for a word of it to its shards.
    simulation.serve_disk(usize::from(moves));
    simulation.advance(2 * TICK);
    let has_ended = simulation.world.borrow().links[&client].ended.is_some();
    assert_eq!(simulation.shard.counts.total().ended(CloseReason::SinkStalled), u64::from(has_ended));
    has_ended
}

#[test]
fn who_waits_for_a_session_behind_others_is_ended_only_if_the_store_takes_nothing() {
    assert!(is_ended_behind_others(150, false));
    assert!(!is_ended_behind_others(150, true));
}

#[test]
fn who_waits_for_a_session_behind_what_the_store_has_taken_is_ended_only_if_it_commits_nothing() {
    assert!(is_ended_behind_others(10, false));
    assert!(!is_ended_behind_others(10, true));
}

#[test]
fn what_the_store_commits_before_somebody_comes_delays_no_end() {
    let mut simulation = Simulation::new(0);
    let loud = simulation.connect_from(STORED, 1);
    simulation.model.say(loud, &b"loud\n".repeat(10));
    simulation.advance(Duration::ZERO);
    simulation.serve_disk(1);
    let client = simulation.clients;
    simulation.call_stored(0);
    simulation.advance(SINK_STALL + TICK);
    assert!(simulation.world.borrow().links[&client].ended.is_some());
}

/// Whether a client is ended that is not read for want of room, while the store may commit one message just in time,
/// which the shard, that has nothing else to do, is not told of.
fn is_ended_for_want_of_room(moves: bool) -> bool {
    let mut simulation = Simulation::new(0);
    let loud = simulation.connect_from(STORED, 1);
    for _ in 0..3 {
        simulation.model.say(loud, &b"loud\n".repeat(150));
        simulation.advance(Duration::ZERO);
    }
    simulation.advance(SINK_STALL - TICK);
    let _ = simulation.disk.judge.commit(usize::from(moves));
    simulation.world.borrow_mut().now = simulation.now().after(2 * TICK);
    simulation.turn();
    simulation.shard.counts.total().ended(CloseReason::SinkStalled) > 0
}

#[test]
fn who_is_not_read_for_want_of_room_is_ended_only_if_the_store_commits_nothing() {
    assert!(is_ended_for_want_of_room(false));
    assert!(!is_ended_for_want_of_room(true));
}
