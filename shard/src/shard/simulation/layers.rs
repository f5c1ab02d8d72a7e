//! Listeners whose connections have a layer: all that must hold elsewhere holds there too, and what is special to a layer.

use super::Simulation;
use super::framing_layer::{ClientSide, Framing, SENT_FRAME_BYTES};
use super::listeners::{AUTO, DEMANDING, NAMED, SHORT, STORED, TIMEOUT};
use crate::mailbox::Command;
use crate::shard::layer::RECEIVED_BYTES_MAX;
use fastrand::Rng;
use pulsegate_core::close::CloseReason;
use std::sync::Arc;
use std::time::Duration;

/// The most that the layer yields of what it is given at once, with what it had of a frame.
pub(super) const YIELDED_BYTES_MAX: usize = RECEIVED_BYTES_MAX + 256;
/// Clients mostly ask the layer for fewer answers than have so many bytes while they take nothing.
const ANSWERS_BYTES: usize = 512;
const LINES: usize = 0;
const MS: Duration = Duration::from_millis(1);

/// What so many bytes of output may become.
pub(super) const fn grown(bytes: usize) -> usize {
    bytes + bytes.div_ceil(SENT_FRAME_BYTES) * 4 + ANSWERS_BYTES
}

impl Simulation {
    /// Some listeners have layers made, in most runs.
    pub(super) fn choose_layers(&mut self) {
        let rarely = self.random.u32(1..6);
        for listener in 0..self.shard.shared.listeners.len() {
            if self.random.u32(..rarely) == 0 {
                self.add_layer(listener);
            }
        }
    }

    fn add_layer(&mut self, listener: usize) {
        let shared = Arc::get_mut(&mut self.shard.shared).expect("one shard has it");
        shared.listeners[listener].layers = Some(Box::new(Framing));
    }

    /// Somebody comes who keeps to the rules of the layer, and may not wait for the answer to its hello.
    fn come_by_layer(&mut self, listener: usize, waits: bool) -> usize {
        let client = self.come(listener, 1).expect("the listener is open");
        let side = ClientSide::faultless(waits, Rng::with_seed(1));
        self.with_side(client, |it| *it = side);
        self.model.pump(true);
        client
    }

    fn with_side(&mut self, client: usize, call: impl FnOnce(&mut ClientSide)) {
        let mut world = self.world.borrow_mut();
        call(world.links.get_mut(&client).and_then(|link| link.side.as_mut()).expect("it has one"));
    }

    /// All go as far with their handshakes as they can.
    fn shake_hands(&mut self) {
        for _ in 0..3 {
            self.advance(Duration::ZERO);
            self.model.pump(true);
        }
        self.advance(Duration::ZERO);
    }
}

/// A gateway with a layer behind this listener, and a client whose handshake is over.
fn one_by_layer(listener: usize) -> (Simulation, usize) {
    let mut simulation = Simulation::new(0);
    simulation.add_layer(listener);
    let client = simulation.come_by_layer(listener, true);
    simulation.shake_hands();
    (simulation, client)
}

fn ended(simulation: &Simulation, reason: CloseReason) -> u64 {
    simulation.shard.counts.total().ended(reason)
}

/// What a client was told, and whether that was the last.
fn told(simulation: &Simulation, client: usize) -> (String, bool) {
    let world = simulation.world.borrow();
    let link = &world.links[&client];
    let history = link.side.as_ref().expect("it has one").history(&link.history);
    (String::from_utf8_lossy(&history.plain).into_owned(), history.is_closed)
}

fn waiting(simulation: &mut Simulation, client: usize) -> usize {
    let id = simulation.world.borrow().links[&client].id.expect("it is watched");
    simulation.shard.connections.get(id).map_or(0, |entry| entry.pipe.waiting())
}

fn post(
    simulation: &mut Simulation,
    client: usize,
    command: impl FnOnce(crate::id::ConnectionId) -> Command,
) {
    let id = simulation.world.borrow().links[&client].id.expect("it is watched");
    simulation.mailbox.post(command(id)).expect("the shard runs");
    simulation.advance(Duration::ZERO);
}

#[test]
fn what_a_layer_has_yielded_is_read_to_the_end_though_the_poller_tells_nothing_of_it() {
    let (mut simulation, client) = one_by_layer(LINES);
    simulation.model.say(client, &b"a line\n".repeat(500));
    simulation.model.pump(true);
    for _ in 0..8 {
        simulation.advance(Duration::ZERO);
        simulation.serve_sink(usize::MAX);
    }
    assert_eq!(simulation.model.lines_at_sink(client), 500);
}

#[test]
fn a_newcomer_who_does_not_wait_for_the_handshake_is_read_at_once() {
    for seed in 0..50 {
        let mut simulation = Simulation::new(0);
        simulation.add_layer(LINES);
        let client = simulation.come(LINES, 1).expect("the listener is open");
        let side = ClientSide::faultless(false, Rng::with_seed(seed));
        simulation.with_side(client, |it| *it = side);
        simulation.model.say(client, b"early\nand more\n");
        simulation.model.pump(true);
        // Once without the poller, which has nothing to say of what the layer keeps.
        simulation.turn_with(Vec::from([crate::shard::io::Ready::Listener(LINES as u16)]));
        simulation.world.borrow_mut().ready.clear();
        simulation.advance(Duration::ZERO);
        simulation.serve_sink(usize::MAX);
        assert_eq!(simulation.model.lines_at_sink(client), 2, "seed {seed}");
    }
}

#[test]
fn bytes_that_yield_nothing_keep_nobody() {
    for listener in [LINES, NAMED] {
        let (mut simulation, client) = one_by_layer(listener);
        simulation.model.say(client, b"PING\n");
        simulation.model.pump(true);
        for _ in 0..10 {
            simulation.advance(TIMEOUT / 10);
            simulation.with_side(client, ClientSide::ping);
            simulation.model.pump(true);
        }
        simulation.advance(MS);
        assert_eq!(ended(&simulation, CloseReason::HeartbeatTimeout), 1, "listener {listener}");
    }
}

/// Somebody comes by a layer to a listener that holds as many of its address as it may, and says something.
fn one_too_many(listener: usize) -> (Simulation, usize) {
    let mut simulation = Simulation::new(0);
    (0..4).for_each(|_| _ = simulation.connect_from(listener, 1));
    simulation.add_layer(listener);
    let client = simulation.come_by_layer(listener, true);
    simulation.model.say(client, b"a raw one\n");
    simulation.shake_hands();
    assert_eq!(ended(&simulation, CloseReason::AddressLimit), 1);
    (simulation, client)
}

#[test]
fn a_refusal_at_the_door_is_left_to_the_layer() {
    let (simulation, client) = one_too_many(DEMANDING);
    assert_eq!(told(&simulation, client), (String::new(), true));
}

#[test]
fn who_may_first_show_what_it_speaks_is_told_through_the_layer_why_it_is_not_kept() {
    let (simulation, client) = one_too_many(STORED);
    assert_eq!(told(&simulation, client), ("bye address limit\n".to_owned(), true));
}

#[test]
fn a_farewell_goes_through_the_layer_and_the_layer_has_the_last_word() {
    let (mut simulation, client) = one_by_layer(DEMANDING);
    simulation.model.say(client, b"one\n");
    simulation.model.pump(true);
    simulation.advance(Duration::ZERO);
    post(&mut simulation, client, Command::Close);
    assert_eq!(told(&simulation, client), ("ok 1\nbye application\n".to_owned(), true));
    assert!(simulation.world.borrow().links[&client].ended.is_some());
}

#[test]
fn the_last_word_comes_also_when_nothing_else_is_left_to_be_sent() {
    let (mut simulation, client) = one_by_layer(SHORT);
    // All that waits leaves, and by that the connection ends.
    post(&mut simulation, client, |id| Command::Send(id, vec![b'x'; 4_500].into()));
    post(&mut simulation, client, Command::Finish);
    assert!(!told(&simulation, client).1 && waiting(&mut simulation, client) > 0);
    simulation.world.borrow_mut().drink(client);
    simulation.advance(Duration::ZERO);
    assert_eq!(told(&simulation, client), ("x".repeat(4_500), true));
}

#[test]
fn what_is_sent_before_the_handshake_is_over_leaves_after_it() {
    let mut simulation = Simulation::new(0);
    simulation.add_layer(LINES);
    let client = simulation.come_by_layer(LINES, true);
    simulation.advance(Duration::ZERO);
    post(&mut simulation, client, |id| Command::Send(id, b"welcome\n"[..].into()));
    assert_eq!((told(&simulation, client), waiting(&mut simulation, client)), ((String::new(), false), 8));
    post(&mut simulation, client, Command::Finish);
    simulation.shake_hands();
    assert_eq!(told(&simulation, client), ("welcome\n".to_owned(), true));
}

#[test]
fn what_waits_for_a_handshake_is_not_sent_after_the_end() {
    let mut simulation = Simulation::new(0);
    simulation.add_layer(LINES);
    let client = simulation.come_by_layer(LINES, true);
    simulation.advance(Duration::ZERO);
    post(&mut simulation, client, |id| Command::Send(id, b"welcome\n"[..].into()));
    post(&mut simulation, client, Command::Close);
    simulation.shake_hands();
    assert_eq!(told(&simulation, client), (String::new(), true));
}

#[test]
fn as_much_as_may_wait_for_a_handshake_does_not_stand_in_its_way() {
    let (mut simulation, listener) = (Simulation::new(0), SHORT);
    simulation.add_layer(listener);
    let client = simulation.come_by_layer(listener, true);
    simulation.advance(Duration::ZERO);
    let most = simulation.shard.shared.listeners[listener].policy.output_bytes_max;
    post(&mut simulation, client, |id| Command::Send(id, vec![b'x'; most].into()));
    simulation.shake_hands();
    assert!(!told(&simulation, client).0.is_empty());
}

#[test]
fn who_asks_the_layer_for_answers_and_takes_none_is_ended() {
    let (mut simulation, client) = one_by_layer(AUTO);
    let mut most = 0;
    while ended(&simulation, CloseReason::OutputFull) == 0 {
        simulation.with_side(client, |side| (0..1_000).for_each(|_| side.ping()));
        simulation.model.pump(true);
        simulation.advance(Duration::ZERO);
        most = most.max(waiting(&mut simulation, client));
        assert!(most < 64 * 1024, "{most} bytes wait");
    }
    assert!(most > 1_000);
}

#[test]
fn a_handshake_goes_on_though_the_sink_is_full_and_what_comes_then_waits() {
    let mut simulation = Simulation::new(0);
    simulation.add_layer(DEMANDING);
    let loud = simulation.connect_from(LINES, 2);
    while !simulation.queue.is_full(0) {
        simulation.model.say(loud, &b"loud\n".repeat(10));
        simulation.advance(Duration::ZERO);
    }
    let client = simulation.come_by_layer(DEMANDING, true);
    simulation.model.say(client, b"held back\n");
    simulation.shake_hands();
    assert_eq!(simulation.world.borrow().links[&client].backlog(), 0);
    assert_eq!(simulation.model.lines_at_sink(client), 0);
    for _ in 0..3 {
        simulation.serve_sink(usize::MAX);
        simulation.advance(Duration::ZERO);
    }
    assert_eq!(simulation.model.lines_at_sink(client), 1);
}

#[test]
fn what_is_against_the_rules_of_a_layer_ends_the_connection_after_what_came_before() {
    let (mut simulation, client) = one_by_layer(LINES);
    simulation.model.say(client, b"a line\n");
    simulation.with_side(client, ClientSide::spoil);
    simulation.model.pump(true);
    simulation.advance(Duration::ZERO);
    simulation.serve_sink(usize::MAX);
    assert_eq!(simulation.model.lines_at_sink(client), 1);
    assert_eq!(ended(&simulation, CloseReason::MalformedFrame), 1);
}
