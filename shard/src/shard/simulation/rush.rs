//! Many ends at once, and what of a silent client is known without reading its socket.

use super::Simulation;
use super::listeners::{NAMED, TIMEOUT};
use pulsegate_core::close::CloseReason;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
/// How many there are at once.
const CROWD: usize = 24;

/// Clients whose time is over at one instant, which is given too.
fn crowd(simulation: &mut Simulation) -> Vec<usize> {
    let crowd: Vec<usize> = (0..CROWD)
        .map(|index| {
            let client = simulation.connect_from(NAMED, 1 + (index / 4) as u8);
            simulation.model.say(client, b"PING\n");
            (0..3).for_each(|_| simulation.turn());
            client
        })
        .collect();
    simulation.advance(Duration::ZERO);
    crowd
}

fn count(simulation: &Simulation, crowd: &[usize], what: impl Fn(&super::Link) -> bool) -> usize {
    let world = simulation.world.borrow();
    crowd.iter().filter(|client| what(&world.links[client])).count()
}

/// Brings the clock to this instant after now, with one turn there for all that is due.
fn jump(simulation: &mut Simulation, span: Duration) {
    simulation.advance(span - MS);
    let _ = simulation.shard.sleep();
    let then = simulation.now().after(2 * MS);
    simulation.world.borrow_mut().now = then;
    simulation.turn();
}

#[test]
fn all_are_told_before_any_socket_is_closed() {
    let mut simulation = Simulation::new(0);
    let crowd = crowd(&mut simulation);
    jump(&mut simulation, TIMEOUT);
    assert_eq!(count(&simulation, &crowd, |link| link.ended.is_some()), CROWD);
    assert_eq!(count(&simulation, &crowd, |link| link.closed), 0);
    assert!(!simulation.shard.is_done() && simulation.shard.sleep() == Some(super::Instant::ORIGIN));
    simulation.turn();
    assert_eq!(count(&simulation, &crowd, |link| link.closed), CROWD);
    assert!(simulation.shard.sleep() != Some(super::Instant::ORIGIN), "nothing is left to be done");
}

#[test]
fn a_newcomer_takes_the_place_of_one_that_has_ended() {
    let mut simulation = Simulation::new(0);
    let crowd = crowd(&mut simulation);
    jump(&mut simulation, TIMEOUT);
    for newcomers in 1..=3 {
        simulation.connect_from(NAMED, 10);
        assert_eq!(count(&simulation, &crowd, |link| link.closed), newcomers);
    }
}

#[test]
fn those_who_have_ended_make_room_when_descriptors_run_out() {
    let mut simulation = Simulation::new(0);
    let crowd = crowd(&mut simulation);
    simulation.world.borrow_mut().kernel.bound(0);
    jump(&mut simulation, TIMEOUT);
    assert_eq!(count(&simulation, &crowd, |link| link.closed), 0);
    (0..4).for_each(|_| _ = simulation.connect_from(NAMED, 10));
    let counts = simulation.shard.counts.total();
    assert_eq!((counts.open(), counts.ended(CloseReason::OutOfDescriptors)), (4, 0));
}

#[test]
fn a_heartbeat_in_time_that_the_poller_has_not_told_of_is_found() {
    let mut simulation = Simulation::new(0);
    let crowd = crowd(&mut simulation);
    simulation.advance(TIMEOUT - 2 * MS);
    let _ = simulation.shard.sleep();
    let before = simulation.now().after(MS);
    simulation.world.borrow_mut().now = before;
    let ready = simulation.poll();
    // The poller has looked; now a heartbeat comes, and only then the shard goes on, too late for all the others.
    simulation.model.say(crowd[0], b"PING\n");
    simulation.world.borrow_mut().now = before.after(3 * MS);
    simulation.turn_with(ready);
    assert_eq!(count(&simulation, &crowd, |link| link.ended.is_none()), 1);
    assert_eq!(count(&simulation, &crowd[..1], |link| link.ended.is_none()), 1);
}

#[test]
fn who_was_heard_out_is_not_read_again() {
    let mut simulation = Simulation::new(0);
    let crowd = crowd(&mut simulation);
    let reads = simulation.world.borrow().reads;
    jump(&mut simulation, TIMEOUT);
    assert_eq!(count(&simulation, &crowd, |link| link.ended.is_some()), CROWD);
    assert_eq!(simulation.world.borrow().reads, reads);
}
