//! Sinks that fail, and sinks that take nothing or take it slowly: what stands in the way of the sink stands in the way
//! of those whose messages go there by a store.

use super::Simulation;
use super::dead_store::one_attached_in;
use super::listeners::{AUTO, MAX_AGE, SINK_STALL};
use crate::mailbox::Command;
use pulsegate_core::close::CloseReason;
use pulsegate_core::frame::{NOTICE_GOES_ON, NOTICE_STOPPED};
use std::time::Duration;

/// A diligent one.
const DEVICE: usize = 0;
const TICK: Duration = Duration::from_millis(20);

/// How long the store waits for the sink before it says so.
const STUCK_AFTER: Duration = Duration::from_secs(2);

impl Simulation {
    /// The store waits for the sink, and says so after some time; or it does not.
    pub(super) fn note_wait(&mut self, waits: bool) {
        let now = self.now();
        let origins = self.shard.outlets.ledgers[0].origins.as_ref().expect("it is in memory");
        match (&mut self.waits, waits) {
            (None, true) => self.waits = Some((now, None)),
            (Some((since, told @ None)), true) if now.since(*since) >= STUCK_AFTER => {
                *told = Some(now);
                origins.tell_stuck(true);
            }
            (Some((_, told)), false) => {
                if told.is_some() {
                    origins.tell_stuck(false);
                }
                self.waits = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// Nothing is left undone: then nobody is there whose sink has failed, and who waits for receipts knows why, and does
    /// not wait for too long.
    pub(super) fn check_sink(&self) {
        if self.queue.has_failed() {
            return self.model.check_failed();
        }
        let Some((_, Some(told))) = self.waits else { return };
        // It may have taken something since, and be full again.
        let rests = self.model.taken.last().map_or(told, |taken| told.max(*taken));
        let own = self.now().since(rests).saturating_sub(self.model.stalls_since(rests));
        self.devices.check_told(&self.model, told, own >= SINK_STALL + TICK);
    }

    /// The sink takes up to so many batches.
    pub(super) fn serve_sink(&mut self, batches: usize) {
        for _ in 0..batches {
            if self.rest.contains(&self.step) || self.queue.has_failed() {
                return;
            }
            if self.queue.serve_one(&mut self.model.sink(), self.origin).is_none() {
                return self.model.handle_sink_idle();
            }
            self.note_taken();
        }
    }

    /// The sink takes a part of a batch.
    fn trickle(&mut self) {
        self.queue.note_taken();
        self.note_taken();
    }

    /// The sink has taken all that it ever will.
    pub(super) fn fail_sink(&mut self) {
        while self.queue.serve_one(&mut self.model.sink(), self.origin).is_some() {}
        self.queue.fail();
        self.model.handle_sink_failure();
    }

    /// The sink has taken something.
    pub(super) fn note_taken(&mut self) {
        let now = self.now();
        self.model.taken.push(now);
    }
}

/// A device that is attached, and has nothing in flight.
fn attached() -> (Simulation, usize) {
    let mut simulation = Simulation::new(0);
    (simulation.rest, simulation.failure, simulation.death) = (0..0, None, None);
    one_attached_in(simulation)
}

fn say(simulation: &mut Simulation) {
    let Simulation { devices, model, random, .. } = simulation;
    devices.say(DEVICE, model, random);
    simulation.advance(Duration::ZERO);
}

/// Lets time pass in which the sink takes nothing, and everybody else does what is to be done.
fn wait(simulation: &mut Simulation, span: Duration) {
    let end = simulation.now().after(span);
    while simulation.now() < end {
        simulation.advance(TICK);
        simulation.serve_judge(usize::MAX);
        let Simulation { devices, model, random, .. } = simulation;
        devices.live(model, random);
    }
}

/// Fills the sink's queue by a raw client.
fn flood(simulation: &mut Simulation) {
    let loud = simulation.connect_from(0, 1);
    while !simulation.queue.is_full(0) {
        simulation.model.say(loud, &b"loud\n".repeat(10));
        simulation.advance(Duration::ZERO);
    }
}

fn has_ended(simulation: &Simulation, client: usize) -> bool {
    simulation.world.borrow().links[&client].ended.is_some()
}

fn ended(simulation: &Simulation, reason: CloseReason) -> u64 {
    simulation.shard.counts.total().ended(reason)
}

#[test]
fn the_hello_of_who_comes_to_a_full_sink_is_read_and_only_its_messages_wait() {
    let mut simulation = Simulation::new(0);
    (simulation.rest, simulation.failure, simulation.death) = (0..0, None, None);
    flood(&mut simulation);
    let client = simulation.clients;
    simulation.call(DEVICE);
    wait(&mut simulation, 10 * TICK);
    assert!(simulation.queue.is_full(0));
    let id = simulation.world.borrow().links[&client].id.expect("it is watched");
    let is_asked_for =
        simulation.shard.connections.get(id).is_some_and(|entry| entry.connection.awaits_welcome());
    assert!(is_asked_for, "its HELLO is read, and the store asked");
}

#[test]
fn who_is_attached_ends_with_the_sink_and_gets_no_receipt() {
    let (mut simulation, client) = attached();
    say(&mut simulation);
    let settled = simulation.devices.settled(DEVICE);
    simulation.fail_sink();
    simulation.serve_judge(usize::MAX);
    simulation.advance(Duration::ZERO);
    let Simulation { devices, model, random, .. } = &mut simulation;
    devices.live(model, random);
    assert!(has_ended(&simulation, client));
    assert_eq!(ended(&simulation, CloseReason::SinkFailed), 1);
    assert_eq!(simulation.devices.settled(DEVICE), settled, "nothing is receipted that the sink has not got");
}

#[test]
fn who_is_idle_ends_with_the_sink_too() {
    let (mut simulation, client) = attached();
    simulation.fail_sink();
    simulation.advance(Duration::ZERO);
    assert!(has_ended(&simulation, client));
    assert_eq!(ended(&simulation, CloseReason::SinkFailed), 1);
}

#[test]
fn a_failed_sink_is_swept_once_however_often_others_have_room() {
    let (mut simulation, _) = attached();
    simulation.fail_sink();
    for _ in 0..10 {
        simulation.mailbox.post(Command::SinkReady).expect("the shard runs");
    }
    simulation.turn();
    assert!(simulation.shard.agenda.sweeps.len() <= 1, "{} wait", simulation.shard.agenda.sweeps.len());
    simulation.advance(Duration::ZERO);
    simulation.mailbox.post(Command::SinkReady).expect("the shard runs");
    simulation.turn();
    assert!(simulation.shard.agenda.sweeps.is_empty());
}

#[test]
fn who_waits_for_a_session_when_the_sink_fails_gets_none() {
    let (mut simulation, _) = attached();
    let client = simulation.clients;
    simulation.call(DEVICE + 2);
    simulation.advance(Duration::ZERO);
    simulation.judge.commit(usize::MAX);
    simulation.queue.fail();
    simulation.advance(Duration::ZERO);
    assert!(has_ended(&simulation, client));
    assert_eq!(ended(&simulation, CloseReason::SinkFailed), 2);
}

#[test]
fn a_stuck_sink_is_told_of_and_ends_only_those_who_wait_for_receipts() {
    let (mut simulation, idle) = attached();
    let waiting = simulation.clients;
    simulation.call(DEVICE + 2);
    for _ in 0..3 {
        simulation.advance(Duration::ZERO);
        simulation.serve_all();
    }
    flood(&mut simulation);
    let Simulation { devices, model, random, .. } = &mut simulation;
    devices.say(DEVICE + 2, model, random);
    wait(&mut simulation, SINK_STALL / 2);
    assert_eq!(simulation.devices.notices(DEVICE), [NOTICE_STOPPED]);
    assert!(!has_ended(&simulation, waiting));
    wait(&mut simulation, SINK_STALL / 2 + 4 * TICK);
    assert!(has_ended(&simulation, waiting));
    assert!(!has_ended(&simulation, idle), "nothing of it waits");
    assert_eq!(ended(&simulation, CloseReason::SinkStalled), 1);
    simulation.serve_sink(usize::MAX);
    wait(&mut simulation, 4 * TICK);
    assert_eq!(simulation.devices.notices(DEVICE), [NOTICE_STOPPED, NOTICE_GOES_ON]);
}

#[test]
fn a_sink_that_is_slow_but_moves_ends_nobody() {
    let (mut simulation, client) = attached();
    flood(&mut simulation);
    say(&mut simulation);
    let loud = client + 1;
    simulation.model.say(loud, b"PING\n");
    wait(&mut simulation, SINK_STALL - 4 * TICK);
    simulation.trickle();
    // As long as they may live at all.
    wait(&mut simulation, MAX_AGE - SINK_STALL);
    assert!(!has_ended(&simulation, client) && !has_ended(&simulation, loud));
}

#[test]
fn newcomers_are_let_in_though_the_sink_is_full_until_it_has_taken_nothing_for_long() {
    let (mut simulation, _) = attached();
    flood(&mut simulation);
    let newcomer = simulation.connect_from(AUTO, 2);
    assert!(!has_ended(&simulation, newcomer));
    assert_eq!(ended(&simulation, CloseReason::SinkStalled), 0);
    wait(&mut simulation, SINK_STALL + 4 * TICK);
    let before = ended(&simulation, CloseReason::SinkStalled);
    let newcomer = simulation.connect_from(AUTO, 3);
    simulation.model.say(newcomer, b"a raw one\n");
    simulation.turn();
    assert_eq!(ended(&simulation, CloseReason::SinkStalled), before + 1);
}

#[test]
fn newcomers_do_not_fill_the_memory_for_a_sink_that_takes_nothing() {
    let (mut simulation, _) = attached();
    flood(&mut simulation);
    for _ in 0..1_000 {
        let client = simulation.connect_from(0, 2);
        simulation.model.reset(client);
        simulation.turn();
    }
    let slack = 1024;
    assert!(simulation.queue.bytes() <= 2 * super::QUEUE_BYTES + slack, "{}", simulation.queue.bytes());
}
