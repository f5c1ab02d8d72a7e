//! The end of a drain: a shard is done when what it holds for stores is handed over, and nothing is told of a connection
//! after its end. Both have a bound.

use super::Simulation;
use super::dead_store::{one_attached, one_under_way};
use super::judge::LIMITS;
use crate::mailbox::Command;
use crate::shard::ledger::Ledger;
use parking_lot::Mutex;
use pulsegate_core::frame::Durability;
use pulsegate_sessions::{Committer, Limits, Moment, Reply, Request, SubmitError};
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A store that has room for so many requests, until it is given more.
#[derive(Debug, Default)]
struct Shelf(Mutex<(usize, Vec<Request>)>);

impl Committer for Shelf {
    fn submit_all(&self, requests: &mut Vec<Request>) -> Result<(), SubmitError> {
        let (room, taken) = &mut *self.0.lock();
        let count = requests.len().min(*room);
        *room -= count;
        taken.extend(requests.drain(..count));
        if requests.is_empty() { Ok(()) } else { Err(SubmitError::Busy) }
    }

    fn tick(&self, _: Moment) {}

    fn limits(&self) -> Limits {
        Limits { durability: Durability::Synced, ..LIMITS }
    }

    fn begin_close(&self) {}

    fn has_ended(&self) -> bool {
        false
    }

    fn close(&self, _: Duration) -> Result<u64, u64> {
        Ok(0)
    }
}

fn append(number: u64) -> Request {
    Request::Append { client: "raw".into(), number, source: 0, received_at_ms: 0, payload: [][..].into() }
}

/// A shard that drains, has no connection left, and still holds ten messages for a store with room for four.
fn draining() -> (Simulation, Arc<Shelf>) {
    let mut simulation = Simulation::new(0);
    let shelf = Arc::new(Shelf(Mutex::new((4, Vec::new()))));
    let ledger = Ledger::new(Arc::<Shelf>::clone(&shelf), None, 1);
    simulation.shard.outlets.ledgers = [ledger].into();
    (1..=10).for_each(|number| simulation.shard.outlets.ledgers[0].request(append(number)));
    simulation.mailbox.post(Command::Drain(SECOND)).expect("the shard runs");
    simulation.advance(2 * SECOND);
    assert!(simulation.shard.connections.table.is_empty());
    (simulation, shelf)
}

fn lost(simulation: &Simulation) -> u64 {
    simulation.shard.outlets.leftover.messages.iter().sum()
}

#[test]
fn a_drain_ends_when_a_busy_store_has_taken_everything() {
    let (mut simulation, shelf) = draining();
    assert!(!simulation.shard.is_done(), "six messages would be lost");
    shelf.0.lock().0 = 100;
    simulation.mailbox.post(Command::Replies(0, vec![Reply::Ready])).expect("the shard runs");
    simulation.turn();
    assert!(simulation.shard.is_done());
    assert_eq!((shelf.0.lock().1.len(), lost(&simulation)), (10, 0));
}

#[test]
fn a_drain_gives_up_what_a_store_does_not_take_in_time_and_counts_it() {
    let (mut simulation, _) = draining();
    simulation.advance(SECOND);
    assert!(!simulation.shard.is_done());
    simulation.advance(SECOND + SECOND);
    assert!(simulation.shard.is_done(), "a drain has a bound");
    assert_eq!(lost(&simulation), 6);
}

#[test]
fn a_stop_while_it_drains_shortens_the_wait() {
    let (mut simulation, _) = draining();
    simulation.mailbox.post(Command::Stop).expect("the shard runs");
    simulation.advance(SECOND);
    assert!(simulation.shard.is_done());
    assert_eq!(lost(&simulation), 6);
}

#[test]
fn a_stop_tells_no_end_before_the_messages_that_a_store_has_yet_to_forward() {
    let (mut simulation, client) = one_under_way();
    simulation.mailbox.post(Command::Stop).expect("the shard runs");
    simulation.advance(Duration::ZERO);
    simulation.serve_sink(usize::MAX);
    assert!(!simulation.model.is_told_of_end(client), "its messages come first");
    assert!(!simulation.shard.is_done());
    simulation.serve_judge(usize::MAX);
    simulation.advance(Duration::ZERO);
    simulation.serve_sink(usize::MAX);
    assert!(simulation.model.lines_at_sink(client) > 0 && simulation.model.is_told_of_end(client));
    assert!(simulation.shard.is_done());
}

#[test]
fn ends_that_wait_for_a_store_beyond_the_bound_are_left_to_be_told_last() {
    let (mut simulation, client) = one_attached();
    simulation.mailbox.post(Command::Drain(Duration::ZERO)).expect("the shard runs");
    simulation.advance(4 * SECOND);
    assert!(simulation.shard.is_done());
    assert_eq!(simulation.shard.outlets.leftover.ends.len(), 1);
    assert!(!simulation.model.is_told_of_end(client));
    assert_eq!(simulation.model.lines_at_sink(client), 0);
}
