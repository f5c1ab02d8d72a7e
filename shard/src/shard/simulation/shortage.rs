//! Newcomers when the kernel has no descriptor or no memory for them: each is answered, or waits until it can be.

use super::Simulation;
use super::finish::DRAIN;
use super::listeners::{DEMANDING, NAMED};
use crate::mailbox::Command;
use crate::shard::acceptor::RETRY_AFTER;
use nix::errno::Errno;
use pulsegate_core::close::CloseReason;
use pulsegate_core::time::Instant;
use std::time::Duration;

/// So many come to the demanding listener, which says farewell, and are accepted if they can be.
fn come(simulation: &mut Simulation, count: usize) -> Vec<usize> {
    let clients = (0..count).map(|_| simulation.come(DEMANDING, 1).expect("the listener is open")).collect();
    simulation.advance(Duration::ZERO);
    clients
}

fn said_to(simulation: &Simulation, client: usize) -> String {
    String::from_utf8_lossy(&simulation.world.borrow().links[&client].history).into_owned()
}

fn is_waiting(simulation: &Simulation, client: usize) -> bool {
    simulation.model.is_waiting(client)
}

fn refused(simulation: &Simulation) -> u64 {
    simulation.shard.counts.total().ended(CloseReason::OutOfDescriptors)
}

#[test]
fn who_finds_no_descriptor_is_told_so_and_the_spare_one_is_kept_for_the_next() {
    let mut simulation = Simulation::new(0);
    come(&mut simulation, 1);
    simulation.world.borrow_mut().kernel.bound(1);
    let clients = come(&mut simulation, 4);
    assert_eq!((simulation.shard.counts.total().accepted(), refused(&simulation)), (5, 3));
    assert_eq!(said_to(&simulation, clients[0]), "");
    for client in &clients[1..] {
        assert_eq!(said_to(&simulation, *client), "bye out of descriptors\n");
        assert!(simulation.world.borrow().links[client].closed);
    }
    assert!(simulation.world.borrow().kernel.has_spare);
    assert_ne!(simulation.shard.sleep(), Some(Instant::ORIGIN), "nothing is left to be done");
}

#[test]
fn where_not_even_the_spare_one_helps_they_wait_and_the_shard_sleeps_meanwhile() {
    let mut simulation = Simulation::new(0);
    simulation.world.borrow_mut().kernel.lack = Some(Errno::ENFILE);
    let first = come(&mut simulation, 1)[0];
    let retry = simulation.now().after(RETRY_AFTER);
    assert_eq!(simulation.shard.sleep(), Some(retry));
    simulation.advance(RETRY_AFTER / 2);
    simulation.world.borrow_mut().kernel.relieve();
    let second = come(&mut simulation, 1)[0];
    assert!(is_waiting(&simulation, first) && is_waiting(&simulation, second), "newcomers shorten no wait");
    simulation.advance(RETRY_AFTER / 2);
    assert!(!is_waiting(&simulation, first) && !is_waiting(&simulation, second));
    assert_eq!((simulation.shard.counts.total().open(), refused(&simulation)), (2, 0));
}

#[test]
fn a_spare_descriptor_that_was_lost_comes_before_all_who_wait() {
    let mut simulation = Simulation::new(0);
    simulation.world.borrow_mut().kernel.lack = Some(Errno::ENFILE);
    let clients = come(&mut simulation, 3);
    assert!(!simulation.world.borrow().kernel.has_spare);
    simulation.world.borrow_mut().kernel.bound(1);
    simulation.advance(RETRY_AFTER);
    assert!(clients.iter().all(|client| !is_waiting(&simulation, *client)), "all are answered");
    assert_eq!(refused(&simulation), 3);
    assert!(simulation.world.borrow().kernel.has_spare);
}

#[test]
fn where_the_poller_has_no_room_a_newcomer_is_told() {
    let mut simulation = Simulation::new(0);
    simulation.world.borrow_mut().kernel.lack = Some(Errno::ENOSPC);
    let client = come(&mut simulation, 1)[0];
    assert_eq!(said_to(&simulation, client), "bye out of descriptors\n");
    assert_eq!((simulation.shard.counts.total().open(), refused(&simulation)), (0, 1));
}

#[test]
fn one_that_has_gone_again_keeps_nobody_waiting() {
    let mut simulation = Simulation::new(0);
    let [gone, next] = [0, 1].map(|_| simulation.come(NAMED, 1).expect("the listener is open"));
    simulation.model.reset(gone);
    simulation.advance(Duration::ZERO);
    assert!(is_waiting(&simulation, gone) && !is_waiting(&simulation, next));
    assert_eq!(simulation.shard.counts.total().accepted(), 1);
}

#[test]
fn while_it_drains_newcomers_are_told_and_then_the_listeners_are_closed() {
    let mut simulation = Simulation::new(0);
    come(&mut simulation, 1);
    simulation.mailbox.post(Command::Drain(DRAIN)).expect("the shard runs");
    simulation.advance(Duration::ZERO);
    let newcomer = come(&mut simulation, 1)[0];
    assert_eq!(said_to(&simulation, newcomer), "bye drain\n");
    assert!(!simulation.shard.is_over());
    simulation.model.hang_up(0);
    simulation.advance(DRAIN);
    assert!(simulation.shard.is_over());
    assert_eq!(simulation.come(DEMANDING, 1), None, "nobody listens any more");
}
