//! A store whose thread dies with a client's messages: their sink hears of each end nevertheless, and a drain ends.

use super::Simulation;
use super::judge::Judge;
use crate::mailbox::Command;
use crate::post::Post;
use crate::shard::ledger::Ledger;
use pulsegate_core::frame::Durability;
use pulsegate_sessions::{Attachment, Request, Rules};
use std::sync::Arc;
use std::time::Duration;

const DEVICE: usize = 0;

/// A device that is attached, and has nothing in flight.
pub(super) fn one_attached() -> (Simulation, usize) {
    one_attached_in(Simulation::new(0))
}

/// The same in a simulation of one's own.
pub(super) fn one_attached_in(mut simulation: Simulation) -> (Simulation, usize) {
    let client = simulation.clients;
    simulation.call(DEVICE);
    for _ in 0..3 {
        simulation.advance(Duration::ZERO);
        simulation.serve_all();
    }
    (simulation, client)
}

/// A device whose messages wait in the store.
pub(super) fn one_under_way() -> (Simulation, usize) {
    let (mut simulation, client) = one_attached();
    let Simulation { devices, model, random, .. } = &mut simulation;
    devices.say(DEVICE, model, random);
    simulation.advance(Duration::ZERO);
    assert_eq!(simulation.model.lines_at_sink(client), 0);
    (simulation, client)
}

fn end(simulation: &mut Simulation, client: usize) {
    simulation.model.reset(client);
    simulation.advance(Duration::ZERO);
    assert!(simulation.world.borrow().links[&client].ended.is_some());
}

/// Whether the sink has heard of the end, now that it has taken everything.
fn is_told(simulation: &mut Simulation, client: usize) -> bool {
    simulation.serve_sink(usize::MAX);
    simulation.model.is_told_of_end(client)
}

fn drain(simulation: &mut Simulation) {
    simulation.mailbox.post(Command::Drain(Duration::ZERO)).expect("the shard runs");
    for _ in 0..10 {
        simulation.serve_all();
        simulation.advance(Duration::from_secs(1));
    }
    assert!(simulation.shard.is_done(), "a drain ends");
}

#[test]
fn an_end_that_waited_for_a_store_is_told_when_the_store_dies() {
    let (mut simulation, client) = one_under_way();
    end(&mut simulation, client);
    assert!(!is_told(&mut simulation, client), "its messages come first");
    // The shard has nothing for the store any more: it hears of the death by the store's last word.
    simulation.judge.die();
    simulation.advance(Duration::ZERO);
    assert!(is_told(&mut simulation, client));
    drain(&mut simulation);
}

#[test]
fn an_end_is_told_though_the_store_dies_in_the_last_turn() {
    let (mut simulation, client) = one_under_way();
    end(&mut simulation, client);
    simulation.judge.die();
    simulation.mailbox.post(Command::Drain(Duration::ZERO)).expect("the shard runs");
    while !simulation.shard.is_done() {
        assert!(
            simulation.shard.has_work() || simulation.shard.agenda.drain.is_none(),
            "nothing would wake it"
        );
        simulation.turn();
    }
    assert!(is_told(&mut simulation, client), "nothing is left behind by a shard that is done");
}

#[test]
fn an_end_after_the_death_of_the_store_is_told_at_once() {
    let (mut simulation, client) = one_under_way();
    simulation.judge.die();
    end(&mut simulation, client);
    assert!(is_told(&mut simulation, client));
    drain(&mut simulation);
}

#[test]
fn who_waits_for_receipts_of_a_dead_store_is_ended() {
    let (mut simulation, client) = one_under_way();
    simulation.judge.die();
    simulation.advance(Duration::ZERO);
    assert!(is_told(&mut simulation, client));
    drain(&mut simulation);
}

#[test]
fn who_asks_a_dead_store_for_a_session_is_ended() {
    let mut simulation = Simulation::new(0);
    let client = simulation.connect_from(super::listeners::AUTO, 10);
    simulation.advance(Duration::ZERO);
    simulation.judge.die();
    simulation.advance(Duration::ZERO);
    simulation.model.handle_device(client, DEVICE, true);
    simulation.devices.handle_connect(DEVICE, client, &mut simulation.model);
    simulation.advance(Duration::ZERO);
    assert!(is_told(&mut simulation, client));
    drain(&mut simulation);
}

#[test]
fn an_end_that_waits_for_a_store_is_not_told_when_another_one_dies() {
    let (mut simulation, client) = one_under_way();
    let post = Post::new(2, [Arc::clone(&simulation.mailbox)].into());
    let origins = simulation.shard.outlets.ledgers[0].origins.clone().expect("it is in memory");
    let other = Arc::new(Judge::new(post, Some(origins), Durability::None, Rules::UNLIMITED));
    let mut ledgers = std::mem::take(&mut simulation.shard.outlets.ledgers).into_vec();
    ledgers.push(Ledger::new(Arc::<Judge>::clone(&other), None, 1));
    simulation.shard.outlets.ledgers = ledgers.into();
    end(&mut simulation, client);
    other.die();
    simulation.shard.outlets.ledgers[2]
        .request(Request::Confirm { attachment: Attachment { session: 1, epoch: 1 }, floor: 0 });
    simulation.advance(Duration::ZERO);
    assert!(simulation.shard.outlets.ledgers[2].has_failed());
    assert!(!is_told(&mut simulation, client), "its messages come first");
    simulation.serve_judge(usize::MAX);
    simulation.advance(Duration::ZERO);
    assert!(is_told(&mut simulation, client));
    assert!(simulation.model.lines_at_sink(client) > 0);
    drain(&mut simulation);
}

#[test]
fn raw_clients_need_no_store_for_sessions() {
    let mut simulation = Simulation::new(0);
    let old = simulation.connect_from(super::listeners::AUTO, 2);
    simulation.model.say(old, b"before\n");
    simulation.advance(Duration::ZERO);
    simulation.judge.die();
    // Whoever wants a session finds out that it is dead.
    for device in [DEVICE, DEVICE + 1] {
        simulation.call(device);
        simulation.advance(Duration::ZERO);
    }
    assert!(simulation.shard.outlets.ledgers[0].has_failed());
    let new = simulation.connect_from(super::listeners::AUTO, 3);
    simulation.model.say(old, b"after\n");
    simulation.model.say(new, b"a newcomer\n");
    simulation.advance(Duration::ZERO);
    simulation.serve_sink(usize::MAX);
    assert_eq!((simulation.model.lines_at_sink(old), simulation.model.lines_at_sink(new)), (2, 1));
    assert!(!is_told(&mut simulation, old) && !is_told(&mut simulation, new), "both are kept");
    drain(&mut simulation);
}
