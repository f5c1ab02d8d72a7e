//! The listening sockets of a shard: at which there is somebody to accept, and when to try again after the kernel had
//! no descriptor. It neither spins nor dies when descriptors run out. Which newcomers are accepted is not decided here.

use crate::shard::io::Io;
use pulsegate_core::close::CloseReason;
use pulsegate_core::time::Instant;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

/// How long to wait after the kernel had no descriptor or no memory for a connection.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(100);
/// At most one line about it in this time.
const SILENCE_BETWEEN_LINES: Duration = Duration::from_secs(10);

/// A shard's sockets to which newcomers come.
#[derive(Debug)]
pub(crate) struct Acceptor<L> {
    /// Each stands at the number of its listener, which it keeps whoever else is closed.
    listeners: Vec<Option<Listening<L>>>,
    shortage: Shortage,
    /// What has become of each newcomer, in tests.
    pub(crate) fates: Vec<(SocketAddr, Result<(), CloseReason>)>,
}

#[derive(Debug)]
struct Listening<L> {
    socket: L,
    backlog: Backlog,
}

/// What is known of the newcomers that wait at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backlog {
    /// They wait until all shards listen.
    Held,
    /// Nobody waits: the poller tells of the next one.
    Empty,
    /// Somebody may wait.
    Ready,
    /// The kernel has no descriptor or no memory for the next one, and none is to be asked for before this instant.
    Short(Instant),
}

/// What to tell the log about descriptors that ran out.
#[derive(Debug, Default)]
struct Shortage {
    refused: u64,
    told: Option<Instant>,
}

/// What has come of one attempt to accept somebody.
#[derive(Debug)]
pub(crate) enum Accepted<S> {
    /// Somebody has come.
    Newcomer(S, SocketAddr),
    /// It had gone before, or a firewall forbade it: the next one, please.
    Gone,
    /// Nobody else is to be accepted now.
    Nobody,
    /// There is no descriptor or no memory for the next one.
    Shortage(io::Error),
}

impl<L> Listening<L> {
    const fn due(&self) -> Option<Instant> {
        match self.backlog {
            Backlog::Held | Backlog::Empty => None,
            Backlog::Ready => Some(Instant::ORIGIN),
            Backlog::Short(until) => Some(until),
        }
    }
}

impl<L> Acceptor<L> {
    /// No listener yet.
    pub(crate) fn new() -> Self {
        Self { listeners: Vec::new(), shortage: Shortage::default(), fates: Vec::new() }
    }

    /// Adds the socket of the listener with this number. Nobody is accepted there before [`begin`](Self::begin).
    pub(crate) fn add(&mut self, number: u16, socket: L) {
        let place = usize::from(number);
        if place >= self.listeners.len() {
            self.listeners.resize_with(place + 1, || None);
        }
        self.listeners[place] = Some(Listening { socket, backlog: Backlog::Held });
    }

    /// From now on those are accepted who come to the sockets there are.
    pub(crate) fn begin(&mut self) {
        for listening in self.listeners.iter_mut().flatten().filter(|it| it.backlog == Backlog::Held) {
            listening.backlog = Backlog::Ready;
        }
    }

    /// The poller says that somebody has come to the listener with this number, which may be closed already.
    pub(crate) fn handle_ready(&mut self, number: u16) {
        // Newcomers during a shortage don't shorten the wait, or each of them would wake us in vain.
        if let Some(listening) = self.at(number).filter(|it| it.backlog == Backlog::Empty) {
            listening.backlog = Backlog::Ready;
        }
    }

    /// The numbers that listeners have.
    pub(crate) fn numbers(&self) -> std::ops::Range<u16> {
        0..self.listeners.len() as u16
    }

    /// From when on somebody may be accepted at this listener, if anybody.
    pub(crate) fn due(&self, number: u16) -> Option<Instant> {
        self.listeners.get(usize::from(number))?.as_ref()?.due()
    }

    /// Accepts one.
    pub(crate) fn accept<I: Io<Listener = L>>(&mut self, io: &mut I, number: u16) -> Accepted<I::Stream> {
        let Some(listening) = self.at(number) else { return Accepted::Nobody };
        let accepted = judge(io.accept(&listening.socket));
        match accepted {
            Accepted::Newcomer(..) | Accepted::Gone => listening.backlog = Backlog::Ready,
            Accepted::Nobody => listening.backlog = Backlog::Empty,
            Accepted::Shortage(_) => {}
        }
        accepted
    }

    /// After a shortage: accepts one by means of the spare descriptor, only to be told that there is no other. If that
    /// can't be, nobody is accepted here for a while. Afterwards, [`Io::keep_spare`] is due.
    pub(crate) fn accept_by_spare<I: Io<Listener = L>>(
        &mut self,
        io: &mut I,
        number: u16,
        now: Instant,
        error: &io::Error,
    ) -> Accepted<I::Stream> {
        // The kernel wanted a descriptor before it looked whether anybody was there: perhaps nobody is.
        match io.give_up_spare().then(|| self.accept(io, number)) {
            Some(outcome @ (Accepted::Nobody | Accepted::Gone)) => outcome,
            Some(newcomer @ Accepted::Newcomer(..)) => {
                self.shortage.refused += 1;
                self.shortage.tell(now, error);
                newcomer
            }
            Some(Accepted::Shortage(_)) | None => {
                self.shortage.tell(now, error);
                if let Some(listening) = self.at(number) {
                    listening.backlog = Backlog::Short(now.after(RETRY_AFTER));
                }
                Accepted::Nobody
            }
        }
    }

    /// When there is something to do though nobody new has come.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.listeners.iter().flatten().filter_map(Listening::due).min()
    }

    /// Gives out the sockets at which nobody waits any more, and those at which nobody can be answered for want of
    /// descriptors: they are to be closed.
    pub(crate) fn take_idle(&mut self) -> impl Iterator<Item = L> {
        let is_idle = |it: &mut Listening<L>| it.backlog != Backlog::Ready;
        self.listeners.iter_mut().filter_map(move |place| Some(place.take_if(is_idle)?.socket))
    }

    /// Gives out all sockets, whoever waits there: they are to be closed.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = L> {
        self.listeners.drain(..).flatten().map(|listening| listening.socket)
    }

    /// Whether no listener is left.
    pub(crate) fn is_closed(&self) -> bool {
        self.listeners.iter().all(Option::is_none)
    }

    fn at(&mut self, number: u16) -> Option<&mut Listening<L>> {
        self.listeners.get_mut(usize::from(number))?.as_mut()
    }
}

impl Shortage {
    fn tell(&mut self, now: Instant, error: &io::Error) {
        if self.told.is_some_and(|told| now.since(told) < SILENCE_BETWEEN_LINES) {
            return;
        }
        let refused = std::mem::take(&mut self.refused);
        tracing::warn!(
            refused,
            %error,
            "can't accept: refusing newcomers until there is room; raise the limit of open files (ulimit -n)"
        );
        self.told = Some(now);
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an open enum: what is not known is a shortage")]
fn judge<S>(outcome: io::Result<(S, SocketAddr)>) -> Accepted<S> {
    match outcome {
        Ok((stream, address)) => Accepted::Newcomer(stream, address),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock => Accepted::Nobody,
            ErrorKind::Interrupted
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::PermissionDenied
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable => Accepted::Gone,
            _ => Accepted::Shortage(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ORIGIN.after(Duration::from_millis(millis))
    }

    /// Three listeners, at each of which somebody may wait.
    fn three() -> Acceptor<char> {
        let mut acceptor = Acceptor::new();
        (0..3).zip('a'..='c').for_each(|(number, socket)| acceptor.add(number, socket));
        acceptor.begin();
        acceptor
    }

    fn set(acceptor: &mut Acceptor<char>, number: u16, backlog: Backlog) {
        acceptor.at(number).expect("it is open").backlog = backlog;
    }

    fn is_ready(acceptor: &Acceptor<char>, number: u16) -> bool {
        acceptor.due(number) == Some(Instant::ORIGIN)
    }

    #[test]
    fn nobody_is_accepted_before_it_begins() {
        let mut acceptor = Acceptor::new();
        acceptor.add(1, 'b');
        acceptor.handle_ready(1);
        assert_eq!((acceptor.due(1), acceptor.next_wake()), (None, None));
        acceptor.begin();
        assert_eq!((acceptor.due(0), acceptor.due(1)), (None, Some(Instant::ORIGIN)));
    }

    #[test]
    fn a_listener_keeps_its_number_when_another_one_is_closed_and_one_in_its_place_is_a_new_one() {
        let mut acceptor = three();
        set(&mut acceptor, 0, Backlog::Empty);
        assert_eq!(acceptor.take_idle().collect::<String>(), "a");
        acceptor.handle_ready(0);
        set(&mut acceptor, 1, Backlog::Empty);
        set(&mut acceptor, 2, Backlog::Empty);
        assert_eq!(acceptor.next_wake(), None, "nobody comes to one that is closed");
        acceptor.handle_ready(1);
        assert!(is_ready(&acceptor, 1) && !is_ready(&acceptor, 2));
        acceptor.add(0, 'd');
        acceptor.begin();
        assert!(is_ready(&acceptor, 0));
        assert_eq!(acceptor.take_idle().collect::<String>(), "c");
        assert_eq!(acceptor.take_all().collect::<String>(), "db");
        assert!(acceptor.is_closed());
    }

    #[test]
    fn who_comes_during_a_shortage_does_not_shorten_the_wait() {
        let mut acceptor = three();
        (0..3).for_each(|number| set(&mut acceptor, number, Backlog::Short(at(100 + u64::from(number)))));
        acceptor.handle_ready(0);
        assert_eq!((acceptor.due(0), acceptor.next_wake()), (Some(at(100)), Some(at(100))));
        set(&mut acceptor, 0, Backlog::Empty);
        assert_eq!(acceptor.next_wake(), Some(at(101)));
        assert_eq!(acceptor.take_idle().collect::<String>(), "abc", "nobody can be answered there");
    }

    #[test]
    fn a_shortage_is_told_of_once_in_a_while_with_how_many_were_refused() {
        let mut shortage = Shortage::default();
        let error = io::Error::from(ErrorKind::OutOfMemory);
        for millis in 1..=3 {
            shortage.refused += 1;
            shortage.tell(at(millis), &error);
        }
        assert_eq!(shortage.refused, 2, "the first line has told of one");
        shortage.tell(at(1).after(SILENCE_BETWEEN_LINES), &error);
        assert_eq!(shortage.refused, 0);
    }
}
