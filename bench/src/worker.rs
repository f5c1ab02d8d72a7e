//! A thread of the generator: its event loop, and the phases of a round. Ends are stamped as soon as the poller tells of
//! them; closing our side comes when there is nothing more urgent. Must not know: what a mode measures.

use crate::crowd::{Crowd, Route, What};
use crate::load::{Load, Opener, Turn, load};
use crate::plan::{Plan, share};
use crate::room::Sources;
use crate::schedule::Rounds;
use crate::stage::{Nanos, Stage, nanos};
use crate::tally::Tally;
use crate::watch::own_thread_cpu;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const TIMER: Token = Token(usize::MAX);
/// Few, so that the last of them is stamped soon after the poller told of it.
const EVENTS_PER_TURN: usize = 256;
/// Heartbeats in one turn.
const BEATS_PER_TURN_MAX: usize = 256;
/// Connections closed in one turn that has nothing else to do.
const CLOSES_PER_TURN_MAX: usize = 32;
/// Connections under way at the same time, of one worker, while everybody connects.
const OPENING_AT_ONCE_MAX: usize = 512;
/// How long sessions may take to be ended by the server after they have said goodbye.
const GOODBYE: Nanos = 3_000_000_000;
/// The longest sleep: cues are looked for after each.
const NAP: Nanos = 20_000_000;

/// What a worker brings back.
pub(crate) struct Outcome {
    pub(crate) opening: Tally,
    pub(crate) measured: Tally,
    /// Its processor time in the measured part, and how long that was.
    pub(crate) cpu: Duration,
    pub(crate) span: Duration,
}

enum Phase {
    Opening(Opener),
    Ready,
    /// The load runs, but doesn't count before this instant.
    Warming(Nanos),
    Measuring,
    Over,
}

/// One worker.
pub(crate) struct Worker {
    plan: Arc<Plan>,
    stage: Arc<Stage>,
    number: usize,
    poll: Poll,
    timer: TimerFd,
    crowd: Crowd,
    load: Box<dyn Load>,
    rounds: Option<Rounds>,
    phase: Phase,
    opening: Tally,
    measured: Option<(Tally, Duration, Duration)>,
    began: (Nanos, Duration),
    last_stamp: Nanos,
}

impl Worker {
    /// Worker `number` of `workers`. Opens its poller and timer, so it is called on the worker's own thread.
    ///
    /// # Errors
    /// When the system has no descriptors even for these.
    pub(crate) fn new(
        plan: Arc<Plan>,
        stage: Arc<Stage>,
        sources: Sources,
        workers: usize,
        number: usize,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        poll.registry().register(&mut SourceFd(&timer.as_fd().as_raw_fd()), TIMER, Interest::READABLE)?;
        let mine = share(plan.connections, workers, number);
        let route = Route { address: plan.address, sources, first: mine.start };
        let dialect = Arc::new(plan.dialect.clone());
        let crowd = Crowd::new(poll.registry().try_clone()?, stage.clock, route, dialect, mine.len());
        let now = stage.clock.now();
        let rounds = plan.kind.every().map(|every| {
            // Workers take their steps between each other's.
            let phase = nanos(every) / plan.connections.max(1) as u64 * number as u64 / workers as u64;
            Rounds::new(nanos(every), mine.len() as u64, now + phase)
        });
        let phase = if plan.kind.opens_first() {
            let span = plan.connections as u64 * 1_000_000_000 / plan.open_rate.max(1);
            Phase::Opening(Opener::new(now, span, mine.len(), OPENING_AT_ONCE_MAX))
        } else {
            stage.worker_is_ready();
            Phase::Ready
        };
        Ok(Self {
            load: load(&plan, workers, number),
            plan,
            stage,
            number,
            poll,
            timer,
            crowd,
            rounds,
            phase,
            opening: Tally::default(),
            measured: None,
            began: (now, Duration::ZERO),
            last_stamp: now,
        })
    }

    /// Plays until the conductor says that it is over.
    ///
    /// # Errors
    /// When the poller fails, which no server can cause.
    pub(crate) fn run(mut self) -> io::Result<Outcome> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        loop {
            let now = self.stage.clock.now();
            if self.stage.is_leaving() {
                break;
            }
            let turn = self.turn(now);
            let turn = self.beat(now, turn);
            self.publish();
            self.wait(&mut events, turn)?;
        }
        if self.plan.dialect.pulse && !self.stage.is_aborted() {
            self.leave(&mut events)?;
        }
        let (measured, span, cpu) = self.measured.take().unwrap_or_default();
        self.stage.live(self.number).open.store(0, Ordering::Relaxed);
        Ok(Outcome { opening: self.opening, measured, cpu, span })
    }

    fn turn(&mut self, now: Nanos) -> Turn {
        match &mut self.phase {
            Phase::Opening(opener) => {
                let turn = opener.turn(&mut self.crowd, now);
                if turn == Turn::Done {
                    self.stage.worker_is_ready();
                    self.phase = Phase::Ready;
                    return Turn::Busy;
                }
                turn
            }
            Phase::Ready => match self.stage.go_at() {
                Some(at) if at <= now => {
                    self.load.begin(&mut self.crowd, at);
                    self.phase = Phase::Warming(at + nanos(self.plan.kind.warm()));
                    Turn::Busy
                }
                cue => Turn::Until(cue.unwrap_or(Nanos::MAX)),
            },
            Phase::Warming(until) if *until <= now => {
                self.opening = std::mem::take(&mut self.crowd.tally);
                self.began = (now, own_thread_cpu());
                self.phase = Phase::Measuring;
                Turn::Busy
            }
            Phase::Warming(until) => {
                let until = Turn::Until(*until);
                self.load.turn(&mut self.crowd, now).and(until)
            }
            Phase::Measuring => {
                let turn = self.load.turn(&mut self.crowd, now);
                if turn == Turn::Done {
                    self.end_measuring(now);
                }
                turn
            }
            Phase::Over => Turn::Until(Nanos::MAX),
        }
    }

    fn end_measuring(&mut self, now: Nanos) {
        let (from, cpu) = self.began;
        let span = Duration::from_nanos(now - from);
        let cpu = own_thread_cpu().saturating_sub(cpu);
        self.measured = Some((std::mem::take(&mut self.crowd.tally), span, cpu));
        self.phase = Phase::Over;
        self.stage.worker_is_done();
    }

    /// Sends the heartbeats that are due.
    fn beat(&mut self, now: Nanos, turn: Turn) -> Turn {
        let Some(rounds) = &mut self.rounds else { return turn };
        for _ in 0..BEATS_PER_TURN_MAX {
            let Some((index, due)) = rounds.take(now) else { break };
            if self.crowd.is_open(index) && self.load.beats(index) {
                self.crowd.tally.lag.record(self.stage.clock.now() - due);
                self.crowd.send(index);
            }
        }
        match rounds.due() {
            Some(due) if due <= now => Turn::Busy,
            Some(due) => turn.and(Turn::Until(due)),
            None => turn,
        }
    }

    /// Sessions that aren't said goodbye to would stay with the server.
    fn leave(&mut self, events: &mut Events) -> io::Result<()> {
        self.phase = Phase::Over;
        self.crowd.leave();
        let until = self.stage.clock.now() + GOODBYE;
        while self.crowd.open_count() > 0 && self.stage.clock.now() < until {
            self.wait(events, Turn::Until(until))?;
        }
        Ok(())
    }

    fn publish(&self) {
        let live = self.stage.live(self.number);
        let tally = &self.crowd.tally;
        let measured = self.measured.as_ref().map(|(tally, ..)| tally);
        let sum = |count: fn(&Tally) -> u64| count(&self.opening) + count(tally) + measured.map_or(0, count);
        live.open.store(self.crowd.open_count(), Ordering::Relaxed);
        live.failed.store(sum(Tally::failed), Ordering::Relaxed);
        live.ended.store(sum(Tally::ended), Ordering::Relaxed);
        live.sent.store(sum(|tally| tally.sent), Ordering::Relaxed);
    }

    /// Sleeps until something happens or is due, and takes in what happened.
    fn wait(&mut self, events: &mut Events, turn: Turn) -> io::Result<()> {
        let now = self.stage.clock.now();
        if matches!(self.phase, Phase::Measuring) {
            let tally = &mut self.crowd.tally;
            tally.turn_max = tally.turn_max.max(now.saturating_sub(self.last_stamp));
        }
        let timeout = self.timeout(now, turn)?;
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            outcome => outcome?,
        }
        let stamp = self.stage.clock.now();
        self.last_stamp = stamp;
        for event in &*events {
            if event.token() != TIMER {
                self.crowd.handle(event, stamp);
            }
        }
        self.hand_on();
        if events.is_empty() && self.crowd.has_corpses() {
            self.crowd.close_some(CLOSES_PER_TURN_MAX);
        }
        Ok(())
    }

    fn timeout(&self, now: Nanos, turn: Turn) -> io::Result<Option<Duration>> {
        if self.crowd.has_corpses() {
            return Ok(Some(Duration::ZERO));
        }
        let wake = match turn {
            Turn::Busy => return Ok(Some(Duration::ZERO)),
            Turn::Until(due) => due.max(self.last_stamp + nanos(self.plan.tick)),
            Turn::Done => now,
        };
        let span = Duration::from_nanos(wake.saturating_sub(now).min(NAP));
        if span.is_zero() {
            return Ok(Some(Duration::ZERO));
        }
        // The poller counts whole milliseconds only.
        self.timer.set(Expiration::OneShot(TimeSpec::from_duration(span)), TimerSetTimeFlags::empty())?;
        Ok(None)
    }

    /// Tells the load what happened, once it has begun.
    fn hand_on(&mut self) {
        let happenings = self.crowd.take_happenings();
        let has_begun = !matches!(self.phase, Phase::Opening(_) | Phase::Ready);
        for happening in &happenings {
            if has_begun {
                self.load.handle(&mut self.crowd, *happening);
            } else if happening.what == What::Ended {
                self.crowd.tally.dropped += 1;
            }
        }
        self.crowd.recycle(happenings);
    }
}
