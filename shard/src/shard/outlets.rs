//! What goes from a shard to sinks and committers, and what is in the way: which connections are held back for lack of
//! room, since when, and which may continue. Must not know: connections, but by their ids.

use crate::end::End;
use crate::id::ConnectionId;
use crate::post::Opened;
use crate::shard::held::HeldEnd;
use crate::shard::lane::Lane;
use crate::shard::ledger::{Ledger, Stuck};
use crate::sink::queue::{From, SinkQueue};
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::Attachment;
use pulsegate_core::time::OwnInstant;
use pulsegate_sessions::Request;
use std::sync::Arc;
use std::time::Duration;

/// Where messages go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outlet {
    /// They are counted and forgotten.
    Discard,
    /// They go back to their sender, with this line end.
    Echo(&'static [u8]),
    /// To the sink with this place among the lanes.
    Lane(usize),
    /// To a store.
    Ledger {
        /// Its place among the ledgers.
        ledger: usize,
        /// The sink that gets what a store in memory has committed.
        lane: Option<usize>,
        /// A store in memory hands on what it has committed.
        forwards: bool,
    },
}

impl Outlet {
    /// The place of its ledger, if that is what it is.
    pub(crate) const fn ledger(&self) -> Option<usize> {
        match *self {
            Self::Ledger { ledger, .. } => Some(ledger),
            Self::Discard | Self::Echo(_) | Self::Lane(_) => None,
        }
    }
}

/// What a shard could not hand over before it ended.
#[derive(Debug, Default)]
pub struct Leftover {
    /// Ends to report to the sinks when the stores in memory have forwarded what they can.
    pub ends: Vec<HeldEnd>,
    /// How many messages each store has not taken, in the order of the ledgers: these are lost.
    pub messages: Vec<u64>,
}

/// A shard's sides of all sinks and stores.
#[derive(Debug)]
pub(crate) struct Outlets {
    /// The shard's number.
    pub(crate) shard: usize,
    pub(crate) lanes: Box<[Lane]>,
    pub(crate) ledgers: Box<[Ledger]>,
    /// Some who are held back may go on, or have to be ended.
    has_room: bool,
    /// What could not be handed over before the shard ended.
    pub(crate) leftover: Leftover,
}

impl Outlets {
    /// The sides of these, of a shard with this number, one of so many.
    pub(crate) fn new(shard: usize, shards: usize, queues: &[Arc<SinkQueue>], stores: &[Opened]) -> Self {
        let ledger =
            |opened: &Opened| Ledger::new(Arc::clone(&opened.committer), opened.origins.clone(), shards);
        Self {
            shard,
            lanes: queues.iter().map(|queue| Lane::new(Arc::clone(queue))).collect(),
            ledgers: stores.iter().map(ledger).collect(),
            has_room: false,
            leftover: Leftover::default(),
        }
    }

    /// Asks something of a store, at the end of the turn.
    pub(crate) fn request(&mut self, ledger: usize, request: Request) {
        self.ledgers[ledger].request(request);
    }

    /// Why nothing may be read for this outlet now, if nothing may. Those who are held back already come first: else
    /// whoever sends most takes all the room there is, and they are ended for it.
    #[inline]
    pub(crate) fn obstacle(&self, outlet: &Outlet) -> Option<CloseReason> {
        let (obstacle, paused) = match *outlet {
            Outlet::Discard | Outlet::Echo(_) => return None,
            Outlet::Lane(lane) => (self.lanes[lane].obstacle(), &self.lanes[lane].paused),
            Outlet::Ledger { ledger, lane, .. } => {
                // The store waits for its sink; but what has failed stands in the way of the messages.
                let has_failed = lane.is_some_and(|lane| self.lanes[lane].queue.has_failed());
                let failed = has_failed.then_some(CloseReason::SinkFailed);
                (failed.or_else(|| self.ledgers[ledger].obstacle()), &self.ledgers[ledger].paused)
            }
        };
        obstacle.or_else(|| (!paused.is_empty()).then_some(CloseReason::SinkStalled))
    }

    /// Why newcomers are refused because of this outlet, if they are. That it is full is no reason: a newcomer is held
    /// back like all others.
    #[inline]
    pub(crate) fn obstacle_of_newcomers(
        &mut self,
        outlet: &Outlet,
        own: OwnInstant,
        sink_stall: Duration,
    ) -> Option<CloseReason> {
        let (lane, ledger) = match *outlet {
            Outlet::Discard | Outlet::Echo(_) => return None,
            Outlet::Lane(lane) => (Some(lane), None),
            Outlet::Ledger { ledger, lane, .. } => (lane, Some(ledger)),
        };
        let obstacle = lane.and_then(|lane| self.lanes[lane].obstacle_of_newcomers(own, sink_stall));
        obstacle.or_else(|| self.ledgers[ledger?].obstacle_of_newcomers(own, sink_stall))
    }

    /// Notes a connection that waits until there is room.
    pub(crate) fn pause(&mut self, outlet: &Outlet, id: ConnectionId) {
        match *outlet {
            Outlet::Discard | Outlet::Echo(_) => {}
            Outlet::Lane(lane) => self.lanes[lane].paused.push(id),
            Outlet::Ledger { ledger, .. } => self.ledgers[ledger].paused.push(id),
        }
    }

    /// Since when this outlet has not moved, or now if it does. With `awaits_answer` somebody waits for an answer of
    /// the store, and not for room.
    pub(crate) fn moved(
        &mut self,
        outlet: &Outlet,
        awaits_answer: bool,
        own: OwnInstant,
    ) -> Option<OwnInstant> {
        Some(match *outlet {
            Outlet::Discard | Outlet::Echo(_) => return None,
            Outlet::Lane(lane) => self.lanes[lane].rests_since(own).unwrap_or(own),
            Outlet::Ledger { ledger, .. } if awaits_answer => self.ledgers[ledger].last_moved(own),
            Outlet::Ledger { ledger, .. } => self.ledgers[ledger].rests_since(own).unwrap_or(own),
        })
    }

    /// Since when the sink has no room and takes nothing that gets what a store in memory has committed.
    pub(crate) fn sink_rests_since(&mut self, outlet: &Outlet, own: OwnInstant) -> Option<OwnInstant> {
        let Outlet::Ledger { lane: Some(lane), .. } = *outlet else { return None };
        self.lanes[lane].rests_since(own)
    }

    /// A sink may have room again.
    pub(crate) const fn handle_room(&mut self) {
        self.has_room = true;
    }

    /// Whether a sink has failed of which that was not known.
    pub(crate) fn sink_fails_now(&mut self) -> bool {
        // Each of them has to be asked.
        self.lanes.iter_mut().fold(false, |fails, lane| lane.fails_now() | fails)
    }

    /// Whether some who are held back may go on.
    pub(crate) const fn has_room(&self) -> bool {
        self.has_room
    }

    /// Those who were held back and may go on.
    pub(crate) fn take_released(&mut self) -> Vec<ConnectionId> {
        let mut released = Vec::new();
        if !std::mem::take(&mut self.has_room) {
            return released;
        }
        for lane in self.lanes.iter_mut().filter(|lane| !lane.paused.is_empty()) {
            if lane.obstacle() != Some(CloseReason::SinkStalled) {
                released.append(&mut lane.paused);
            }
        }
        for ledger in self.ledgers.iter_mut().filter(|ledger| !ledger.paused.is_empty()) {
            if ledger.obstacle() != Some(CloseReason::SinkStalled) {
                released.append(&mut ledger.paused);
            }
        }
        released
    }

    /// The committer of this ledger waits for its sink, which takes nothing since then; or it doesn't any longer.
    pub(crate) fn set_stuck(&mut self, ledger: usize, stuck: Option<Stuck>) {
        if let Some(ledger) = self.ledgers.get_mut(ledger) {
            ledger.stuck = stuck;
        }
    }

    /// The ledgers whose connections may have waited too long for a sink that takes nothing.
    pub(crate) fn check_stuck(&mut self, own: impl FnOnce() -> OwnInstant) -> Vec<usize> {
        if self.ledgers.iter().all(|ledger| ledger.stuck.is_none()) {
            return Vec::new();
        }
        let own = own();
        let is_due = |(place, ledger): (usize, &mut Ledger)| {
            let stuck = ledger.stuck.as_mut().filter(|stuck| stuck.check <= own)?;
            stuck.check = own.after(stuck.every);
            Some(place)
        };
        self.ledgers.iter_mut().enumerate().filter_map(is_due).collect()
    }

    /// When [`check_stuck`](Self::check_stuck) is due.
    pub(crate) fn next_stuck_check(&self) -> Option<OwnInstant> {
        self.ledgers.iter().filter_map(|ledger| Some(ledger.stuck?.check)).min()
    }

    /// Hands over what the turn has gathered for stores. Returns whether one has died that had not: from it nothing
    /// more will come.
    pub(crate) fn submit(&mut self, mut own: impl FnMut() -> OwnInstant) -> bool {
        let mut dies = false;
        for ledger in &mut self.ledgers {
            let had_failed = ledger.has_failed();
            if ledger.submit() {
                // It moves, also for those who wait for an answer behind what others have sent.
                ledger.handle_answer(own());
            }
            self.has_room |= ledger.releases();
            if ledger.has_failed() && !had_failed {
                ledger.held.release_all(&mut self.lanes);
                dies = true;
            }
        }
        dies
    }

    /// Hands over what the turn has gathered for sinks.
    pub(crate) fn push(&mut self, mut own: impl FnMut() -> OwnInstant) {
        for lane in &mut self.lanes {
            if !lane.batch.is_empty() {
                lane.queue.push(self.shard, std::mem::take(&mut lane.batch));
            }
            if lane.queue.is_full(0) {
                lane.rests_since(own());
            }
            // Only now the queue counts all that keeps connections from being read.
            if !lane.paused.is_empty() && !lane.queue.wait(self.shard) {
                self.has_room = true;
            }
        }
    }

    /// What the stores have yet to take, in bytes.
    pub(crate) fn held_up_bytes(&self) -> usize {
        self.ledgers.iter().map(Ledger::bytes).sum()
    }

    /// Whether the stores have taken everything, and the sinks were told of all ends.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.ledgers.iter().all(|ledger| ledger.held.is_empty() && ledger.is_handed_over())
    }

    /// Gives up what could not be handed over.
    pub(crate) fn give_up(&mut self) {
        let Leftover { ends, messages } = &mut self.leftover;
        messages.resize(self.ledgers.len(), 0);
        for (ledger, lost) in self.ledgers.iter_mut().zip(messages) {
            *lost += ledger.give_up();
            ends.extend(ledger.held.take_all());
        }
    }

    /// Nobody is held back any more.
    pub(crate) fn forget_waiting(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.paused.clear());
        for ledger in &mut self.ledgers {
            ledger.paused.clear();
            ledger.resting.release_all();
        }
    }

    /// Tells a sink of the end of a connection that was attached like that: later, if the store in memory behind this
    /// outlet has yet to forward messages of it.
    pub(crate) fn report_end(
        &mut self,
        lane: usize,
        outlet: &Outlet,
        attachment: Option<Attachment>,
        (from, end): (From, End),
    ) {
        let held = HeldEnd { lane, from, end };
        match outlet.ledger().map(|ledger| &mut self.ledgers[ledger]) {
            Some(ledger)
                if attachment.is_some()
                    && !ledger.has_failed()
                    && held.end.reason != CloseReason::Replaced =>
            {
                ledger.held.insert(held);
            }
            Some(_) | None => held.report(&mut self.lanes),
        }
    }

    /// The end of this connection need not be held back any more: its messages have been forwarded.
    pub(crate) fn release_end(&mut self, ledger: usize, id: ConnectionId) {
        self.ledgers[ledger].held.release(id, &mut self.lanes);
    }

    /// The same, whichever store it was.
    pub(crate) fn release_end_everywhere(&mut self, id: ConnectionId) {
        self.ledgers.iter_mut().for_each(|ledger| ledger.held.release(id, &mut self.lanes));
    }
}
