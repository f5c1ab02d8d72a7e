//! Who may not be read because the sink is full: when the sink takes messages again, they are heard first.

use super::Simulation;
use super::listeners::SINK_STALL;
use std::time::Duration;

/// The listener whose lines go to the sink, and that has no other rules in the way.
const LISTENER: usize = 0;
const TICK: Duration = Duration::from_millis(20);

/// A client that has filled the queue, and one whose line is held back because of that.
fn one_held_back() -> (Simulation, usize, usize) {
    let mut simulation = Simulation::new(0);
    let (loud, quiet) = (simulation.connect_from(LISTENER, 1), simulation.connect_from(LISTENER, 2));
    flood(&mut simulation, loud);
    simulation.turn();
    simulation.model.say(quiet, b"quiet\n");
    simulation.turn();
    simulation.advance(Duration::ZERO);
    (simulation, loud, quiet)
}

fn flood(simulation: &mut Simulation, client: usize) {
    simulation.model.say(client, &b"loud\n".repeat(200));
}

fn has_ended(simulation: &Simulation, client: usize) -> bool {
    simulation.world.borrow().links[&client].ended.is_some()
}

#[test]
fn a_sink_that_takes_messages_again_in_time_ends_nobody() {
    let (mut simulation, _, quiet) = one_held_back();
    simulation.advance(SINK_STALL - TICK / 2);
    simulation.serve_sink(usize::MAX);
    // The shard is late by too little for a stall, and finds the time over and the sink's word at once.
    let late = simulation.now().after(TICK);
    simulation.world.borrow_mut().now = late;
    simulation.turn();
    assert!(!has_ended(&simulation, quiet));
    simulation.advance(TICK);
    simulation.serve_sink(usize::MAX);
    assert_eq!(simulation.model.lines_at_sink(quiet), 1);
}

#[test]
fn who_sends_most_does_not_keep_those_waiting_who_are_held_back() {
    let (mut simulation, loud, quiet) = one_held_back();
    for _ in 0..2 {
        simulation.serve_sink(usize::MAX);
        flood(&mut simulation, loud);
        simulation.turn();
    }
    simulation.serve_sink(usize::MAX);
    assert_eq!(simulation.model.lines_at_sink(quiet), 1);
}

#[test]
fn who_fills_the_queue_each_time_comes_after_those_who_are_held_back_with_it() {
    let mut simulation = Simulation::new(0);
    let (loud, quiet) = (simulation.connect_from(LISTENER, 1), simulation.connect_from(LISTENER, 2));
    for _ in 0..2 {
        flood(&mut simulation, loud);
        simulation.turn();
    }
    simulation.model.say(quiet, b"quiet\n");
    simulation.turn();
    for _ in 0..3 {
        flood(&mut simulation, loud);
        simulation.serve_sink(usize::MAX);
        simulation.advance(Duration::ZERO);
    }
    simulation.serve_sink(usize::MAX);
    assert_eq!(simulation.model.lines_at_sink(quiet), 1);
    assert!(simulation.model.lines_at_sink(loud) > 200, "it is heard too");
}

#[test]
fn a_sink_that_takes_nothing_ends_those_who_are_held_back() {
    let (mut simulation, loud, quiet) = one_held_back();
    simulation.advance(SINK_STALL - TICK);
    assert!(!has_ended(&simulation, quiet));
    simulation.advance(2 * TICK);
    assert!(has_ended(&simulation, quiet));
    assert!(has_ended(&simulation, loud), "it was silent, and not held back");
}
