//! The thread of a shard: waits for sockets, commands and deadlines, and runs turns. It owns the poller and the clock;
//! all decisions are made in [`Shard`].

use crate::clock::Clock;
use crate::gathering::Gathering;
use crate::sockets::{self, Sockets, TIMER, WAKER};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use pulsegate_core::time::Instant;
use pulsegate_shard::{Leftover, Shard};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// How many events one turn takes from the poller.
const EVENTS_PER_TURN: usize = 1024;

/// A shorter sleep is not worth its call.
const GATHER_MIN: Duration = Duration::from_micros(100);

/// A shard with what it waits on.
pub(crate) struct EventLoop {
    poll: Poll,
    alarm: Alarm,
    clock: Clock,
    shard: Shard<Sockets>,
    gathering: Gathering,
    /// The poller has reported everything that arrived until then.
    heard: Instant,
}

impl EventLoop {
    /// A loop around this shard. `poll` is the poller of its waker and its sockets; input may gather for up to
    /// `gather`.
    ///
    /// # Errors
    /// When the kernel gives no timer.
    pub(crate) fn new(poll: Poll, clock: Clock, shard: Shard<Sockets>, gather: Duration) -> io::Result<Self> {
        let alarm = Alarm::new(poll.registry())?;
        let now = clock.now();
        let gathering = Gathering::new(gather, now);
        Ok(Self { poll, alarm, clock, shard, gathering, heard: now })
    }

    /// Runs until it was told to drain or stop and holds nothing any more. Returns what it had to give up.
    ///
    /// # Errors
    /// When the poller fails, which no peer can cause.
    pub(crate) fn run(mut self) -> io::Result<Leftover> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut ended = self.clock.now();
        while !self.shard.is_over() {
            self.wait(&mut events, ended)?;
            let began = self.clock.now();
            let count = self.turn(&events);
            ended = self.clock.now();
            if let Some(span) = self.gathering.handle_turn(began, ended, count) {
                self.gather(span);
            }
        }
        Ok(self.shard.take_leftover())
    }

    /// Sleeps for this time, or until a deadline.
    fn gather(&mut self, span: Duration) {
        let span = self.shard.sleep().map_or(span, |wake| self.clock.until(wake).min(span));
        if span >= GATHER_MIN {
            std::thread::sleep(span);
        }
    }

    /// Waits on the poller. The present is `asked` or a little later.
    fn wait(&mut self, events: &mut Events, asked: Instant) -> io::Result<()> {
        let wake = self.shard.sleep();
        let timeout = self.alarm.set(&self.clock, wake)?;
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                // It may have reported nothing although something was there: no more is known than before.
                events.clear();
                return Ok(());
            }
            outcome => outcome?,
        }
        if events.iter().count() < EVENTS_PER_TURN {
            // It looked when it was asked, and again when the alarm rang, if it reports that.
            let rang =
                events.iter().any(|event| event.token() == TIMER).then_some(self.alarm.rings).flatten();
            self.heard = rang.map_or(asked, |rang| asked.max(rang));
        }
        Ok(())
    }

    /// Returns how many events there were of sockets.
    fn turn(&mut self, events: &Events) -> u32 {
        let Self { alarm, shard, heard, .. } = self;
        let mut count = 0;
        let ready = events.iter().filter_map(|event| match event.token() {
            TIMER => {
                alarm.handle_ring();
                None
            }
            WAKER => None,
            _ => {
                count += 1;
                Some(sockets::ready(event))
            }
        });
        shard.turn(*heard, ready);
        count
    }
}

/// A timer finer than the poller's own milliseconds.
#[derive(Debug)]
struct Alarm {
    timer: TimerFd,
    /// When it rings; an earlier ring than needed does no harm and saves setting it anew.
    rings: Option<Instant>,
}

impl Alarm {
    fn new(registry: &Registry) -> io::Result<Self> {
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        registry.register(&mut SourceFd(&timer.as_fd().as_raw_fd()), TIMER, Interest::READABLE)?;
        Ok(Self { timer, rings: None })
    }

    /// Makes sure that the poller wakes at `wake`, and returns the time-out to poll with.
    fn set(&mut self, clock: &Clock, wake: Option<Instant>) -> io::Result<Option<Duration>> {
        let Some(wake) = wake else { return Ok(None) };
        if self.rings.is_some_and(|rings| rings <= wake) {
            return Ok(None);
        }
        let span = clock.until(wake);
        if span.is_zero() {
            return Ok(Some(Duration::ZERO));
        }
        let expiration = Expiration::OneShot(TimeSpec::from_duration(span));
        self.timer.set(expiration, TimerSetTimeFlags::empty())?;
        self.rings = Some(wake);
        Ok(None)
    }

    /// Its ring needs no reading: setting it anew clears it, and the poller tells each ring once.
    const fn handle_ring(&mut self) {
        self.rings = None;
    }
}
