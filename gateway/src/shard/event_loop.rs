//! The thread of a shard: waits for sockets, commands and deadlines, and runs turns. It carries and asks
//! the clock; what is decided is decided in [`Shard`].

use crate::clock::Clock;
use crate::id::ConnectionId;
use crate::shard::acceptor::Acceptor;
use crate::shard::gathering::Gathering;
use crate::shard::reading::Reach;
use crate::shard::sockets::Sockets;
use crate::shard::{Leftover, Shard};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use pulsegate_core::time::Instant;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// How many events one turn takes from the poller.
const EVENTS_PER_TURN: usize = 1024;

/// A shorter sleep is not worth its call.
const GATHER_MIN: Duration = Duration::from_micros(100);

/// The upper half of the tokens that are not connections'; no table grows that far.
const OTHERS: usize = (u32::MAX as usize) << 32;
const TIMER: Token = Token(OTHERS);
/// The token of the mailbox's waker.
pub(crate) const WAKER: Token = Token(OTHERS + 1);
const LISTENERS: usize = OTHERS + 2;

/// The token of a shard's n-th listening socket.
pub(crate) const fn listener_token(index: usize) -> Token {
    Token(LISTENERS + index)
}

/// A shard with what it waits on.
pub(crate) struct EventLoop {
    poll: Poll,
    alarm: Alarm,
    clock: Clock,
    acceptor: Acceptor,
    shard: Shard<Sockets>,
    gathering: Gathering,
    /// The poller has told of everything that came until then.
    heard: Instant,
}

impl EventLoop {
    /// A loop around this shard. `poll` is the one in which its waker and its listeners are registered; input may
    /// gather for up to `gather`.
    ///
    /// # Errors
    /// When the kernel gives no timer.
    pub(crate) fn new(
        poll: Poll,
        clock: Clock,
        acceptor: Acceptor,
        shard: Shard<Sockets>,
        gather: Duration,
    ) -> io::Result<Self> {
        let alarm = Alarm::new(poll.registry())?;
        let now = clock.now();
        let gathering = Gathering::new(gather, now);
        Ok(Self { poll, alarm, clock, acceptor, shard, gathering, heard: now })
    }

    /// Runs until it was told to drain or stop and holds nothing any more. Returns what it had to give up.
    ///
    /// # Errors
    /// When the poller fails, which no peer can cause.
    pub(crate) fn run(mut self) -> io::Result<Leftover> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut ended = self.clock.now();
        while !self.is_over() {
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

    /// Sleeps for so long, or until there is something to do by itself.
    fn gather(&mut self, span: Duration) {
        let span = self.next_wake().map_or(span, |wake| self.clock.until(wake).min(span));
        if span >= GATHER_MIN {
            std::thread::sleep(span);
        }
    }

    fn next_wake(&mut self) -> Option<Instant> {
        let accept = self.acceptor.next_wake();
        [self.shard.sleep(), accept].into_iter().flatten().min()
    }

    /// Asks the poller, at some time after `asked`.
    fn wait(&mut self, events: &mut Events, asked: Instant) -> io::Result<()> {
        let wake = self.next_wake();
        let timeout = self.alarm.set(&self.clock, wake)?;
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                // It may have told of nothing though something was there: no more is known than before.
                events.clear();
                return Ok(());
            }
            outcome => outcome?,
        }
        if events.iter().count() < EVENTS_PER_TURN {
            // It looked when it was asked, and again when the alarm rang, if that is what it tells of.
            let rang =
                events.iter().any(|event| event.token() == TIMER).then_some(self.alarm.rings).flatten();
            self.heard = rang.map_or(asked, |rang| asked.max(rang));
        }
        Ok(())
    }

    /// Whether nothing is left. While it drains the doors stay open, so that newcomers are answered; they are closed
    /// between turns, since no other turn may come after that in which the last thing has left.
    fn is_over(&mut self) -> bool {
        let is_done = self.shard.is_done();
        if is_done {
            self.acceptor.close_when_empty();
        }
        if self.shard.is_draining() && self.shard.answers_nobody() {
            self.acceptor.close();
        }
        is_done && self.acceptor.is_closed()
    }

    /// Returns how many events there were of sockets.
    fn turn(&mut self, events: &Events) -> u32 {
        self.shard.expire(self.heard);
        let mut count = 0;
        for event in events {
            match event.token() {
                TIMER => self.alarm.handle_ring(),
                WAKER => {}
                Token(token) if token >= LISTENERS => {
                    count += 1;
                    self.acceptor.handle_ready(token - LISTENERS);
                }
                Token(token) => {
                    count += 1;
                    let id = ConnectionId::from_bits(token as u64);
                    if event.is_writable() {
                        self.shard.handle_writable(id);
                    }
                    let is_more = event.is_read_closed() || event.is_error() || event.is_priority();
                    if event.is_readable() || is_more {
                        let reach = if is_more { Reach::End } else { Reach::ShortRead };
                        self.shard.handle_readable(id, reach);
                    }
                }
            }
        }
        self.acceptor.accept(&mut self.shard);
        self.shard.handle_commands();
        self.shard.read_listed();
        self.shard.judge();
        if self.shard.is_draining() {
            self.shard.drain_step();
        }
        self.shard.end_turn();
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
