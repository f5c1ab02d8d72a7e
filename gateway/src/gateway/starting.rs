//! Puts the parts of a gateway together and starts its threads.
//!
//! Each shard's thread opens its own sockets, last of all: with separate descriptor tables, what is opened before the
//! tables part is in all of them, and what is opened after is in one. So all wakers are made first, and no socket is
//! ([`tables`] says what else that means).

use super::routing::{self, Committing, Make, Route};
use super::{Control, Gateway, SinkThread, StartError};
use crate::clock::Clock;
use crate::config::{Config, DescriptorTables, ListenerConfig};
use crate::event_loop::EventLoop;
use crate::sockets::{Sockets, WAKER};
use crate::stores::{Awaited, Destination, Ticker};
use crate::waker::Waker;
use crate::{machine, tables};
use mio::Poll;
use pulsegate_core::policy::Protocol;
use pulsegate_sessions::Committer;
use pulsegate_shard::{
    Bounds, Command, Delivery, Gauge, Leftover, Limits, Listener, Mailbox, Place, Published, Shard, Shared,
    Sink, SinkQueue,
};
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

/// Starts a gateway with these settings and sinks.
pub(super) fn start(
    config: &Config,
    routes: &[Route],
    sinks: Vec<(String, Box<dyn Sink>)>,
    committers: Vec<(String, Make)>,
) -> Result<Gateway, StartError> {
    let clock = Clock::start();
    let wants_own_tables = config.descriptor_tables == Some(DescriptorTables::PerShard);
    let obstacle = wants_own_tables.then(tables::obstacle).flatten();
    let has_own_tables = wants_own_tables && obstacle.is_none();
    let machine::Allowance { shards, connections, mut warnings } = machine::allowance(config, has_own_tables);
    if let Some(obstacle) = obstacle {
        warnings.push(format!(
            "shards can't have descriptor tables of their own ({obstacle}): they share one, which costs a little time \
             and bounds all connections together"
        ));
    }

    let wakers = (0..shards).map(|_| Waker::new()).collect::<io::Result<Vec<Waker>>>()?;
    let waker_numbers: Arc<HashSet<RawFd>> = Arc::new(wakers.iter().map(Waker::as_raw_fd).collect());
    let mailboxes: Arc<[_]> = wakers.iter().cloned().map(mailbox).collect();
    let queue = |_: &_| Arc::new(SinkQueue::new(config.sink_queue_bytes_max, &mailboxes));
    let queues: Box<[Arc<SinkQueue>]> = sinks.iter().map(queue).collect();
    let awaited = Arc::<Awaited>::default();
    let destination = Destination { mailboxes: Arc::clone(&mailboxes), awaited: Arc::clone(&awaited) };
    let Committing { opened, ledgers, by_sink } =
        routing::open(config, routes, &destination, clock, &queues, committers)?;

    let needs = config.listeners.iter().zip(routes).zip(&ledgers);
    let needs =
        needs.map(|((listener, route), ledger)| Need::of(listener, route.delivery, *ledger)).collect();
    let total = Arc::new(Gauge::new(connections));
    let listener = |((config, route), ledger): ((&ListenerConfig, &Route), Option<usize>)| {
        let limits = Limits::new(config.name().as_ref().into(), Arc::clone(&total), bounds(config));
        Listener::new(config.policy.clone(), limits, route.delivery, ledger)
    };
    let listeners = config.listeners.iter().zip(routes).zip(ledgers).map(listener).collect();
    let all: Vec<Arc<dyn Committer>> = opened.iter().map(|it| Arc::clone(&it.committer)).collect();
    let stores = opened.clone().into();
    let shared = Arc::new(Shared { listeners, queues: queues.clone(), stores, shards });

    let published: Arc<[Arc<Published>]> =
        mailboxes.iter().map(|_| Arc::new(Published::new(config.listeners.len()))).collect();
    let committers = all.iter().map(Arc::downgrade).collect();
    let by_sink = Arc::new(by_sink);
    let control = Control { mailboxes, published, committers, by_sink, awaited, deadline: Arc::default() };
    let survival = Arc::new(Survival { needs, queues: queues.clone(), control: control.clone() });
    let watch = Arc::clone(&survival);
    let ticker =
        (!all.is_empty()).then(|| Ticker::start(all, clock, move || watch.look_at_stores())).transpose()?;
    // From here on, dropping the gateway stops the threads that have been started.
    let mut gateway = Gateway {
        control: control.clone(),
        addresses: Vec::new(),
        max_connections: connections,
        warnings,
        shards: Vec::new(),
        ticker,
        stores: opened,
        sinks: Vec::new(),
    };
    for ((name, sink), queue) in sinks.into_iter().zip(queues) {
        gateway.sinks.push(start_sink(name, sink, queue, clock, LastOne(Arc::clone(&survival)))?);
    }
    let gather = config.gathering();
    let (reports, reports_of_all) = mpsc::channel();
    for (index, waker) in wakers.into_iter().enumerate() {
        let (shared, control) = (Arc::clone(&shared), control.clone());
        let kept = has_own_tables.then(|| Arc::clone(&waker_numbers));
        let launch = Launch { index, waker, clock, shared, control, kept, gather };
        let thread = std::thread::Builder::new().name(format!("shard-{index}"));
        let report = reports.clone();
        gateway.shards.push(thread.spawn(move || launch.run(report))?);
    }
    drop(reports);
    for _ in 0..shards {
        reports_of_all.recv().map_err(|_| gone())??;
    }
    gateway.addresses = open_listeners(&config.listeners, &control.mailboxes)?;
    Ok(gateway)
}

/// What a listener lets in at most.
const fn bounds(listener: &ListenerConfig) -> Bounds {
    let &ListenerConfig { max_connections, max_newcomers, max_per_address, accept_rate, .. } = listener;
    Bounds { max_connections, max_newcomers, max_per_address, accept_rate }
}

/// A shard's thread has ended before it was told to.
fn gone() -> StartError {
    StartError::Kernel(io::Error::other("a shard's thread has ended before it began"))
}

/// Has the first shard open the listeners alone, then the others join, then all begin.
fn open_listeners(
    listeners: &[ListenerConfig],
    mailboxes: &[Arc<Mailbox>],
) -> Result<Vec<SocketAddr>, StartError> {
    let Some((first, others)) = mailboxes.split_first() else { return Ok(Vec::new()) };
    let mut places: Vec<Place> = listeners.iter().map(|listener| place(listener, listeners)).collect();
    let addresses = Opening::begin(first, &places)?.wait(listeners)?;
    for (place, address) in places.iter_mut().zip(&addresses) {
        (place.address, place.shared) = (*address, true);
    }
    let openings: Result<Vec<Opening>, StartError> =
        others.iter().map(|mailbox| Opening::begin(mailbox, &places)).collect();
    for opening in openings? {
        opening.wait(listeners)?;
    }
    for mailbox in mailboxes {
        mailbox.post(Command::Accept).map_err(|_| gone())?;
    }
    Ok(addresses)
}

/// Sockets that a shard was told to open, in the order of the listeners.
struct Opening(Vec<mpsc::Receiver<io::Result<SocketAddr>>>);

impl Opening {
    fn begin(mailbox: &Mailbox, places: &[Place]) -> Result<Self, StartError> {
        let open = |(number, place): (usize, &Place)| {
            let (answer, answers) = mpsc::channel();
            mailbox.post(Command::Listen(number as u16, *place, answer)).map_err(|_| gone())?;
            Ok(answers)
        };
        places.iter().enumerate().map(open).collect::<Result<_, _>>().map(Self)
    }

    fn wait(self, listeners: &[ListenerConfig]) -> Result<Vec<SocketAddr>, StartError> {
        let address = |(answer, listener): (mpsc::Receiver<io::Result<SocketAddr>>, &ListenerConfig)| {
            let opened = answer.recv().map_err(|_| gone())?;
            opened.map_err(|error| StartError::Listen { address: listener.listen, error })
        };
        self.0.into_iter().zip(listeners).map(address).collect()
    }
}

/// Where a listener listens, as one of these.
fn place(listener: &ListenerConfig, all: &[ListenerConfig]) -> Place {
    let port = listener.listen.port();
    let takes_v4 = |other: &ListenerConfig| other.listen.is_ipv4() && other.listen.port() == port;
    Place {
        address: listener.listen,
        shared: false,
        only_v6: listener.listen.is_ipv6() && port != 0 && all.iter().any(takes_v4),
        keepalive: listener.keepalive,
        user_timeout: listener.user_timeout,
    }
}

/// What a shard's thread needs before its first turn.
struct Launch {
    index: usize,
    waker: Waker,
    clock: Clock,
    shared: Arc<Shared>,
    control: Control,
    /// The wakers that a table of its own keeps, if it gets one.
    kept: Option<Arc<HashSet<RawFd>>>,
    gather: Duration,
}

impl Launch {
    /// The thread of a shard. Says whether it begins, and is told by commands what to listen to.
    fn run(self, report: mpsc::Sender<Result<(), StartError>>) -> io::Result<Leftover> {
        let all_or_none = AllOrNone { control: self.control.clone(), failed: true };
        let (outcome, event_loop) = match self.prepare() {
            Ok(event_loop) => (Ok(()), Some(event_loop)),
            Err(error) => (Err(error), None),
        };
        // If nobody receives it, the start was given up, and we have been told to stop.
        let _ = report.send(outcome);
        drop(report);
        event_loop.map_or_else(|| Ok(Leftover::default()), |event_loop| all_or_none.run(event_loop))
    }

    fn prepare(self) -> Result<EventLoop, StartError> {
        if let Some(kept) = &self.kept {
            tables::part(kept)?;
        }
        let poll = Poll::new()?;
        self.waker.register(poll.registry(), WAKER)?;
        let io = Sockets::new(poll.registry().try_clone()?, self.clock);
        let mailbox = Arc::clone(&self.control.mailboxes[self.index]);
        let published = Arc::clone(&self.control.published[self.index]);
        let shard = Shard::new(self.index, io, self.shared, mailbox, published);
        Ok(EventLoop::new(poll, self.clock, shard, self.gather)?)
    }
}

/// Stops all shards if one ends before its time: a gateway that serves only some is worse than none.
struct AllOrNone {
    control: Control,
    failed: bool,
}

impl AllOrNone {
    fn run(mut self, event_loop: EventLoop) -> io::Result<Leftover> {
        let leftover = event_loop.run()?;
        self.failed = false;
        Ok(leftover)
    }
}

impl Drop for AllOrNone {
    fn drop(&mut self) {
        if self.failed {
            self.control.stop();
        }
    }
}

fn mailbox(waker: Waker) -> Arc<Mailbox> {
    Arc::new(Mailbox::new(move || waker.wake()))
}

/// What a listener can't do without.
struct Need {
    /// Its sink, if that has a thread.
    lane: Option<usize>,
    /// Its store. Raw clients whose messages go elsewhere need none.
    ledger: Option<usize>,
}

impl Need {
    fn of(listener: &ListenerConfig, delivery: Delivery, ledger: Option<usize>) -> Self {
        let lane = match delivery {
            Delivery::Lane(lane) => Some(lane),
            Delivery::Discard | Delivery::Echo(_) | Delivery::Commit => None,
        };
        let is_needed = listener.policy.protocol == Protocol::Pulse || delivery == Delivery::Commit;
        Self { lane, ledger: ledger.filter(|_| is_needed) }
    }
}

/// Ends the gateway when the last listener has lost its sink or its store: a gateway that refuses everybody for ever is
/// worse than one that has ended, which is started again.
struct Survival {
    needs: Box<[Need]>,
    queues: Box<[Arc<SinkQueue>]>,
    control: Control,
}

impl Survival {
    /// A sink has ended.
    fn look(&self) {
        let has_ended =
            |ledger: usize| self.control.committers[ledger].upgrade().is_none_or(|it| it.has_ended());
        let is_dead = |need: &Need| {
            need.lane.is_some_and(|lane| self.queues[lane].has_failed()) || need.ledger.is_some_and(has_ended)
        };
        if !self.control.deadline.is_set() && self.needs.iter().all(is_dead) {
            tracing::error!("no listener is left whose sink and store work: ending");
            self.control.drain(Duration::ZERO);
        }
    }

    /// As long as all work, this costs a lock for each.
    fn look_at_stores(&self) {
        let mut committers = self.control.committers.iter().filter_map(Weak::upgrade);
        if committers.any(|committer| committer.has_ended()) {
            self.look();
        }
    }
}

/// Goes with a sink's thread.
struct LastOne(Arc<Survival>);

impl Drop for LastOne {
    fn drop(&mut self) {
        self.0.look();
    }
}

fn start_sink(
    name: String,
    sink: Box<dyn Sink>,
    queue: Arc<SinkQueue>,
    clock: Clock,
    last: LastOne,
) -> io::Result<SinkThread> {
    let thread = std::thread::Builder::new().name(format!("sink-{name}"));
    let served = Arc::clone(&queue);
    let sink_name = name.clone();
    let (alive, ended) = mpsc::channel();
    let thread = thread.spawn(move || {
        let _alive: mpsc::Sender<()> = alive;
        // However it ends.
        let _last = last;
        let outcome = served.serve(sink, clock.origin());
        if let Err(error) = &outcome {
            tracing::error!(sink = sink_name, %error, "a sink has failed; its connections end, others go on");
        }
        outcome
    })?;
    Ok(SinkThread { name, queue, thread, ended })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn listener(protocol: Protocol, sink: &str) -> ListenerConfig {
        let listen = (Ipv4Addr::LOCALHOST, 0).into();
        let mut config = ListenerConfig { listen, sink: sink.to_owned(), ..ListenerConfig::default() };
        config.policy.protocol = protocol;
        config
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn a_gateway_without_a_store_that_works_ends_if_no_listener_can_do_without() {
        let directory = tempfile::tempdir().expect("there is a disk");
        let listeners = vec![listener(Protocol::Auto, "store"), listener(Protocol::Pulse, "discard")];
        let data_dir = directory.path().join("store");
        let config =
            Config { listeners, data_dir, shards: std::num::NonZeroUsize::new(1), ..Config::default() };
        let gateway = Gateway::builder().config(config).start().expect("it starts");
        for opened in &gateway.stores {
            assert!(opened.committer.close(Duration::from_secs(60)).is_ok());
        }
        let outcome = gateway.wait();
        assert!(matches!(outcome, Err(crate::gateway::RunError::Store)), "{outcome:?}");
    }

    #[test]
    fn raw_clients_whose_messages_go_elsewhere_need_no_store() {
        let need = |protocol, delivery| Need::of(&listener(protocol, ""), delivery, Some(7)).ledger;
        assert_eq!(need(Protocol::Auto, Delivery::Discard), None);
        assert_eq!(need(Protocol::Auto, Delivery::Lane(0)), None);
        assert_eq!(need(Protocol::Pulse, Delivery::Lane(0)), Some(7));
        assert_eq!(need(Protocol::Raw, Delivery::Commit), Some(7));
    }
}
