//! Puts the parts of a gateway together and starts its threads.
//!
//! Each shard's thread opens its own sockets, last of all: where descriptor tables part, what is opened before is in
//! every table and what is opened after is in one. So all wakers are made first, and no socket is
//! ([`tables`] says what else that means).

use super::{Control, Gateway, SinkThread, StartError};
use crate::clock::Clock;
use crate::config::{Config, DescriptorTables, ListenerConfig};
use crate::counters::Published;
use crate::limits::{Gauge, Limits};
use crate::mailbox::Mailbox;
use crate::shard::acceptor::Acceptor;
use crate::shard::event_loop::{EventLoop, WAKER, listener_token};
use crate::shard::listener::{Delivery, Listener};
use crate::shard::sockets::Sockets;
use crate::shard::{Leftover, Shard, Shared};
use crate::sink::Sink;
use crate::sink::queue::SinkQueue;
use crate::stores::{Awaited, Destination, Opened, Ticker};
use crate::waker::Waker;
use crate::{listening, machine, tables};
use mio::net::TcpListener;
use mio::{Interest, Poll};
use pulsegate_core::policy::Protocol;
use pulsegate_store::Store;
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

/// Starts a gateway with these settings and sinks.
pub(super) fn start(
    config: &Config,
    deliveries: Vec<Delivery>,
    sinks: Vec<(String, Box<dyn Sink>)>,
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
    let (stores, ledgers) = open_stores(config, &deliveries, &destination, clock, &queues)?;

    let needs = config.listeners.iter().zip(&deliveries).zip(&ledgers);
    let needs = needs.map(|((listener, delivery), ledger)| Need::of(listener, delivery, *ledger)).collect();
    let total = Arc::new(Gauge::new(connections));
    let listener = |((config, delivery), ledger): ((&ListenerConfig, Delivery), Option<usize>)| {
        let limits = Limits::new(Arc::clone(&total), config);
        Listener::new(config.policy.clone(), limits, delivery, ledger)
    };
    let listeners = config.listeners.iter().zip(deliveries).zip(ledgers).map(listener).collect();
    let owned = stores.clone();
    let all: Vec<Arc<Store>> = stores.iter().map(|opened| Arc::clone(&opened.store)).collect();
    let numbers = AtomicU64::new(0);
    let shared = Arc::new(Shared { listeners, queues: queues.clone(), stores: stores.into(), numbers });

    let published: Arc<[Arc<Published>]> = mailboxes.iter().map(|_| Arc::default()).collect();
    let weak = all.iter().map(Arc::downgrade).collect();
    let control = Control { mailboxes, published, stores: weak, awaited, deadline: Arc::default() };
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
        stores: owned,
        sinks: Vec::new(),
    };
    for ((name, sink), queue) in sinks.into_iter().zip(queues) {
        gateway.sinks.push(start_sink(name, sink, queue, clock, LastOne(Arc::clone(&survival)))?);
    }
    let listeners: Arc<[ListenerConfig]> = config.listeners.clone().into();
    let gather = config.gathering();
    let mut berths = Vec::new();
    for (index, waker) in wakers.into_iter().enumerate() {
        let shared = Arc::clone(&shared);
        let (control, listeners) = (control.clone(), Arc::clone(&listeners));
        let (orders, orders_of) = mpsc::channel();
        let (reports_of, reports) = mpsc::channel();
        let kept = has_own_tables.then(|| Arc::clone(&waker_numbers));
        let launch = Launch { index, waker, clock, shared, control, listeners, kept, gather };
        let thread = std::thread::Builder::new().name(format!("shard-{index}"));
        gateway.shards.push(thread.spawn(move || launch.run(&orders_of, &reports_of))?);
        berths.push(Berth { orders, reports });
    }
    gateway.addresses = launch_all(&berths)?;
    Ok(gateway)
}

/// Has all tables part, the first shard open the listeners alone, then the others join, then all begin.
fn launch_all(berths: &[Berth]) -> Result<Vec<SocketAddr>, StartError> {
    for berth in berths {
        berth.report()?;
    }
    let Some((first, others)) = berths.split_first() else { return Ok(Vec::new()) };
    first.order(Order::Open(None));
    let addresses = first.report()?;
    others.iter().for_each(|berth| berth.order(Order::Open(Some(addresses.clone()))));
    for berth in others {
        berth.report()?;
    }
    berths.iter().for_each(|berth| berth.order(Order::Begin));
    Ok(addresses)
}

/// What a shard's thread is told on its way to its first turn. If nothing comes any more, it ends.
enum Order {
    /// Open the listeners: at these addresses, which the first shard has taken, or as that one.
    Open(Option<Vec<SocketAddr>>),
    /// Begin to serve.
    Begin,
}

/// The way to a shard's thread until it begins to serve.
struct Berth {
    orders: mpsc::Sender<Order>,
    reports: mpsc::Receiver<Result<Vec<SocketAddr>, StartError>>,
}

impl Berth {
    fn order(&self, order: Order) {
        // A thread that has ended has reported why.
        let _ = self.orders.send(order);
    }

    fn report(&self) -> Result<Vec<SocketAddr>, StartError> {
        let ended = |_| StartError::Kernel(io::Error::other("a shard's thread has ended before it began"));
        self.reports.recv().map_err(ended)?
    }
}

/// What a shard's thread needs before its first turn.
struct Launch {
    index: usize,
    waker: Waker,
    clock: Clock,
    shared: Arc<Shared>,
    control: Control,
    listeners: Arc<[ListenerConfig]>,
    /// The wakers that a table of its own keeps, if it gets one.
    kept: Option<Arc<HashSet<RawFd>>>,
    gather: Duration,
}

impl Launch {
    /// The thread of a shard.
    fn run(
        self,
        orders: &mpsc::Receiver<Order>,
        reports: &mpsc::Sender<Result<Vec<SocketAddr>, StartError>>,
    ) -> io::Result<Leftover> {
        let parted = self.part();
        let may_go_on = parted.is_ok();
        // Whoever started us has given up if nobody listens; then no order comes either.
        let _ = reports.send(parted.map(|()| Vec::new()));
        if !may_go_on {
            return Ok(Leftover::default());
        }
        let Ok(Order::Open(addresses)) = orders.recv() else { return Ok(Leftover::default()) };
        let all_or_none = AllOrNone { control: self.control.clone(), failed: true };
        let (report, event_loop) = match self.prepare(addresses) {
            Ok((addresses, event_loop)) => (Ok(addresses), Some(event_loop)),
            Err(error) => (Err(error), None),
        };
        let _ = reports.send(report);
        match (orders.recv(), event_loop) {
            (Ok(Order::Begin), Some(event_loop)) => all_or_none.run(event_loop),
            (Ok(Order::Begin | Order::Open(_)) | Err(_), _) => Ok(Leftover::default()),
        }
    }

    fn part(&self) -> Result<(), StartError> {
        let Some(kept) = &self.kept else { return Ok(()) };
        Ok(tables::part(kept)?)
    }

    fn prepare(self, addresses: Option<Vec<SocketAddr>>) -> Result<(Vec<SocketAddr>, EventLoop), StartError> {
        let poll = Poll::new()?;
        self.waker.register(poll.registry(), WAKER)?;
        let (addresses, sockets) = open_listeners(&self.listeners, &poll, addresses)?;
        let io = Sockets { registry: poll.registry().try_clone()?, clock: self.clock };
        let mailbox = Arc::clone(&self.control.mailboxes[self.index]);
        let published = Arc::clone(&self.control.published[self.index]);
        let shard = Shard::new(self.index, io, self.shared, mailbox, published);
        let event_loop = EventLoop::new(poll, self.clock, Acceptor::new(sockets), shard, self.gather)?;
        Ok((addresses, event_loop))
    }
}

/// A shard's sockets, each with the number of its listener.
type ShardSockets = Vec<(u16, TcpListener)>;

/// Opens one socket for each listener, alone or beside those at these addresses.
fn open_listeners(
    listeners: &[ListenerConfig],
    poll: &Poll,
    taken: Option<Vec<SocketAddr>>,
) -> Result<(Vec<SocketAddr>, ShardSockets), StartError> {
    let (mut addresses, mut sockets) = (Vec::new(), Vec::new());
    for (door, listener) in listeners.iter().enumerate() {
        let taken = taken.as_ref().map(|taken| taken[door]);
        let (address, mut socket) =
            listening::open(listener, taken, takes_v4(listeners, listener.listen.port()))
                .map_err(|error| StartError::Listen { address: listener.listen, error })?;
        poll.registry().register(&mut socket, listener_token(door), Interest::READABLE)?;
        addresses.push(address);
        sockets.push((door as u16, socket));
    }
    Ok((addresses, sockets))
}

/// Whether one of these takes IPv4 on this port.
fn takes_v4(listeners: &[ListenerConfig], port: u16) -> bool {
    port != 0 && listeners.iter().any(|other| other.listen.is_ipv4() && other.listen.port() == port)
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

/// Opens the stores that the listeners need. Returns them, and which of them each listener's ledger is.
fn open_stores(
    config: &Config,
    deliveries: &[Delivery],
    destination: &Destination,
    clock: Clock,
    queues: &[Arc<SinkQueue>],
) -> Result<(Vec<Opened>, Vec<Option<usize>>), StartError> {
    let kinds = config.listeners.iter().zip(deliveries).map(kind_of_store);
    let kinds: Vec<Option<StoreKind>> = kinds.collect();
    let mut wanted: Vec<StoreKind> = kinds.iter().flatten().copied().collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut stores = Vec::new();
    for (place, kind) in wanted.iter().enumerate() {
        let settings = config.store_config();
        stores.push(match *kind {
            StoreKind::Disk => destination.open(place, &config.data_dir, settings, clock)?,
            StoreKind::Memory(lane) => {
                let queue = lane.map(|lane| Arc::clone(&queues[lane]));
                destination.open_in_memory(place, settings, clock, queue)?
            }
        });
    }
    let place = |kind: Option<StoreKind>| wanted.iter().position(|wanted| Some(*wanted) == kind);
    Ok((stores, kinds.into_iter().map(place).collect()))
}

/// What keeps the sessions of a listener: the store on disk, or the one in memory of its sink. Each sink that has a
/// thread has its own, so that one that takes nothing holds up nobody else's clients.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum StoreKind {
    Disk,
    Memory(Option<usize>),
}

fn kind_of_store((listener, delivery): (&ListenerConfig, &Delivery)) -> Option<StoreKind> {
    let kind = match *delivery {
        Delivery::Store => return Some(StoreKind::Disk),
        Delivery::Lane(lane) => StoreKind::Memory(Some(lane)),
        Delivery::Discard | Delivery::Echo(_) => StoreKind::Memory(None),
    };
    (listener.policy.protocol != Protocol::Raw).then_some(kind)
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
    fn of(listener: &ListenerConfig, delivery: &Delivery, ledger: Option<usize>) -> Self {
        let lane = match *delivery {
            Delivery::Lane(lane) => Some(lane),
            Delivery::Discard | Delivery::Echo(_) | Delivery::Store => None,
        };
        let is_needed = listener.policy.protocol == Protocol::Pulse || matches!(delivery, Delivery::Store);
        Self { lane, ledger: ledger.filter(|_| is_needed) }
    }
}

/// Ends the gateway when the last listener has lost its sink or its store: one that refuses everybody for ever is worse
/// than none, which is started anew.
struct Survival {
    needs: Box<[Need]>,
    queues: Box<[Arc<SinkQueue>]>,
    control: Control,
}

impl Survival {
    /// A sink has ended.
    fn look(&self) {
        let has_ended = |ledger: usize| self.control.stores[ledger].upgrade().is_none_or(|it| it.has_ended());
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
        let mut stores = self.control.stores.iter().filter_map(Weak::upgrade);
        if stores.any(|store| store.has_ended()) {
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
        let outcome = served.serve(sink, clock);
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
    use crate::gateway::RunError;
    use std::net::Ipv4Addr;
    use std::num::NonZeroUsize;

    fn listener(protocol: Protocol, sink: &str) -> ListenerConfig {
        let listen = (Ipv4Addr::LOCALHOST, 0).into();
        let mut config = ListenerConfig { listen, sink: sink.to_owned(), ..ListenerConfig::default() };
        config.policy.protocol = protocol;
        config
    }

    #[test]
    fn a_gateway_without_a_store_that_works_ends_if_no_listener_can_do_without() {
        let directory = tempfile::tempdir().expect("there is a disk");
        let listeners = vec![listener(Protocol::Auto, "store"), listener(Protocol::Pulse, "discard")];
        let data_dir = directory.path().join("store");
        let config = Config { listeners, data_dir, shards: NonZeroUsize::new(1), ..Config::default() };
        let gateway = Gateway::builder().config(config).start().expect("it starts");
        for opened in &gateway.stores {
            assert!(opened.store.close(Duration::from_secs(60)).is_ok());
        }
        let outcome = gateway.wait();
        assert!(matches!(outcome, Err(RunError::Store)), "{outcome:?}");
    }

    #[test]
    fn raw_clients_whose_messages_go_elsewhere_need_no_store() {
        let need = |protocol, delivery| Need::of(&listener(protocol, ""), &delivery, Some(7)).ledger;
        assert_eq!(need(Protocol::Auto, Delivery::Discard), None);
        assert_eq!(need(Protocol::Auto, Delivery::Lane(0)), None);
        assert_eq!(need(Protocol::Pulse, Delivery::Lane(0)), Some(7));
        assert_eq!(need(Protocol::Raw, Delivery::Store), Some(7));
    }
}
