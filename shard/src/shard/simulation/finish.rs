//! How a run ends: everybody gets what is due, then a drain or a stop, with stores that may be busy until after its
//! bound. What the event loop and the gateway do at their end is done here.

use super::Simulation;
use crate::mailbox::Command;
use crate::shard::drain::ANSWERS_AFTER;
use crate::sink::queue::Batch;
use pulsegate_core::time::Instant;
use std::time::Duration;

/// Over how long a shard drains.
pub(super) const DRAIN: Duration = Duration::from_secs(1);
/// So long before its bound is looked whether a shard is done.
const LAST_LOOK: Duration = Duration::from_millis(1);
/// A shard gives up so long after the last planned end,
const HANDOVER: Duration = Duration::from_secs(3);
/// or so long after a stop while it drains.
const HANDOVER_FORCED: Duration = Duration::from_millis(500);

impl Simulation {
    /// The end of a run, with all that must hold then.
    pub(super) fn finish(&mut self) {
        self.step = u32::MAX;
        self.world.borrow_mut().kernel.relieve();
        self.rest(&[], &[]);
        self.rest_stored(&[], &[]);
        for _ in 0..40 {
            self.serve_all();
            self.catch_up();
            self.advance(Duration::from_millis(50));
        }
        self.devices.check_quiet(&self.model, self.judge.is_dead() || self.queue.has_failed(), &self.judge);
        self.disk.devices.check_quiet(&self.model, self.disk.judge.is_dead(), &self.disk.judge);
        let is_late = self.drain();
        let lost = self.hand_over(is_late);
        self.model.check_end(&self.shard.counts.total(), &self.devices.sessions);
        self.model.check_stored(&self.disk.judge, &self.disk.devices.sessions, lost);
        self.devices.check_end(&self.judge, Some(&self.model.arrived(&self.devices.sessions)));
        self.disk.devices.check_end(&self.disk.judge, None);
        for listener in &self.shard.shared.listeners {
            listener.limits.assert_empty();
        }
    }

    /// The store on disk takes all that waits in the shard.
    fn catch_up(&mut self) {
        while !self.shard.outlets.ledgers[1].is_handed_over() {
            self.serve_disk(usize::MAX);
            self.turn();
        }
    }

    /// Lets the shard drain, or stops it, while the stores may be busy and clients go on. Returns whether it had to give
    /// up what they did not take.
    fn drain(&mut self) -> bool {
        self.speak();
        let (mut bound, mut answers_until) = self.begin_end();
        let busy_until = self.now().after(Duration::from_millis(self.random.u64(..6_000)));
        let is_hurried = self.random.u32(..8) == 0;
        let hurry_at = self.now().after(Duration::from_millis(self.random.u64(..4_000)));
        let mut hurry_at = is_hurried.then_some(hurry_at);
        let mut is_late = false;
        while !self.shard.is_over() {
            assert!(self.now() <= bound.max(answers_until).after(DRAIN), "a drain has a bound");
            if self.now() >= busy_until {
                self.serve_all();
                self.catch_up();
            }
            self.run_short();
            self.model.pump(false);
            (0..self.random.usize(..4)).for_each(|_| self.come_somewhere());
            let now = self.now();
            if hurry_at.take_if(|at| *at <= now).is_some() {
                self.post(Command::Stop);
                bound = bound.min(now.after(HANDOVER_FORCED));
                answers_until = answers_until.min(now.after(ANSWERS_AFTER));
                self.model.stopped = self.model.stopped.min(Some(now));
            }
            let span = Duration::from_millis(self.random.u64(1..500));
            let last_look = bound.before(LAST_LOOK);
            if now < last_look {
                self.advance(span.min(last_look.since(now)));
            } else {
                is_late |= !self.shard.is_done();
                self.advance(span);
            }
        }
        let is_answered = self.world.borrow().kernel.forsaken.iter().all(|at| *at >= answers_until);
        assert!(is_answered, "who comes while it drains is answered");
        is_late
    }

    /// Those who are there say something more.
    fn speak(&mut self) {
        for client in self.model.living() {
            if self.random.bool() {
                self.model.send(client, &mut self.random);
            }
        }
        self.turn();
    }

    /// Tells the shard to end, gracefully in most runs. Returns when it gives up what it could not hand over, and until when
    /// it answers newcomers.
    fn begin_end(&mut self) -> (Instant, Instant) {
        let now = self.now();
        let (command, within) = if self.random.u32(..8) == 0 {
            self.model.stopped = Some(now);
            (Command::Stop, Duration::ZERO)
        } else {
            (Command::Drain(DRAIN), DRAIN)
        };
        let bound = now.after(within).after(HANDOVER);
        self.model.stopped.get_or_insert(bound);
        self.post(command);
        (bound, now.after(within).after(ANSWERS_AFTER))
    }

    fn post(&self, command: Command) {
        self.mailbox.post(command).expect("the shard runs");
    }

    /// The shard has ended: its stores commit what they have got, then the sinks hear of the ends that waited for that.
    /// Returns how many messages the shard has given up.
    fn hand_over(&mut self, is_late: bool) -> u64 {
        let is_whole = self.shard.outlets.ledgers.iter().all(|ledger| ledger.is_handed_over());
        assert!(is_whole, "nothing is left behind");
        let leftover = std::mem::take(&mut self.shard.outlets.leftover);
        let lost = leftover.messages.iter().sum();
        assert!(is_late || lost == 0 && leftover.ends.is_empty(), "it was given up too early");
        self.judge.go_on();
        self.disk.judge.go_on();
        while !self.disk.judge.commit(usize::MAX) && !self.disk.judge.is_dead() {}
        // What was held back until others were judged comes with another batch, for which the sink needs room again.
        self.serve_sink(usize::MAX);
        while !self.judge.commit(usize::MAX) && !self.judge.is_dead() {
            self.serve_sink(usize::MAX);
        }
        let mut batch = Batch::default();
        leftover.ends.iter().for_each(|end| batch.push_closed(end.from, end.end.clone()));
        self.queue.push(0, batch);
        self.serve_sink(usize::MAX);
        if let (Some(origins), false) =
            (&self.shard.outlets.ledgers[0].origins, self.judge.is_dead() || is_late)
        {
            assert_eq!(origins.count(), 0, "nobody is remembered who has gone");
        }
        lost
    }
}
