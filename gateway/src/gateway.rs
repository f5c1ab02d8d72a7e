//! The gateway as a whole: builds the parts, starts the threads, drains and stops them.

use crate::clock::{Clock, wall_ms};
use crate::config::check::ConfigFault;
use crate::config::{Config, ListenerConfig, PrintFormat, SINKS, STORE};
use crate::counters::{Counts, Published};
use crate::limits::{Gauge, Limits};
use crate::mailbox::{Command, Mailbox};
use crate::origins::Origins;
use crate::shard::acceptor::Acceptor;
use crate::shard::door::{Delivery, Door};
use crate::shard::event_loop::{EventLoop, WAKER, listener_token};
use crate::shard::sockets::Sockets;
use crate::shard::{Shard, Shared};
use crate::sink::print::Print;
use crate::sink::queue::SinkQueue;
use crate::sink::{Sink, SinkError};
use crate::stores::{Awaited, Destination, Opened, PushOutcome, Ticker};
use crate::{listening, machine};
use mio::net::TcpListener;
use mio::{Interest, Poll, Waker};
use pulsegate_core::policy::{Framing, Protocol};
use pulsegate_store::{OpenError, Recipient, Request, Store, SubmitError};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// Why a gateway can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting can't be kept.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// An address can't be listened on.
    #[error("can't listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The kernel gave no poller, timer or thread.
    #[error("the kernel denies what a shard needs: {0}")]
    Kernel(#[from] io::Error),
}

/// A part of a running gateway has failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A shard's poller failed.
    #[error("a shard has failed: {0}")]
    Shard(#[from] io::Error),
    /// A thread panicked: a fault in pulsegate, or in an application's sink.
    #[error("thread {0} has panicked")]
    Panic(String),
    /// A sink's flush failed.
    #[error("sink {name} has failed: {error}")]
    Sink {
        /// The sink's name.
        name: String,
        /// What it said.
        error: SinkError,
    },
}

/// Puts a gateway together.
#[derive(Default)]
pub struct Builder {
    config: Config,
    listeners: Vec<ListenerConfig>,
    sinks: Vec<(String, Box<dyn Sink>)>,
}

impl Builder {
    /// Takes all settings. Listeners added by [`listener`](Self::listener) replace those of the settings.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Adds a listener.
    #[must_use]
    pub fn listener(mut self, listener: ListenerConfig) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Adds a sink, which listeners refer to by this name.
    #[must_use]
    pub fn sink(mut self, name: &str, sink: impl Sink) -> Self {
        self.sinks.push((name.to_owned(), Box::new(sink)));
        self
    }

    /// Opens the listeners and starts the threads.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left behind then.
    pub fn start(mut self) -> Result<Gateway, StartError> {
        if !self.listeners.is_empty() {
            self.config.listeners = std::mem::take(&mut self.listeners);
        }
        self.add_print();
        let names: Vec<String> = self.sinks.iter().map(|(name, _)| name.clone()).collect();
        let deliveries = deliveries(&self.config, &names)?;
        start(&self.config, deliveries, self.sinks)
    }

    /// The print sink has a thread only if a listener wants it.
    fn add_print(&mut self) {
        let given = self.sinks.iter().any(|(name, _)| name == "print");
        if !given && self.config.listeners.iter().any(|listener| listener.sink == "print") {
            self.sinks.push(("print".to_owned(), print_sink(self.config.print)));
        }
    }
}

fn print_sink(format: PrintFormat) -> Box<dyn Sink> {
    Box::new(Print::new(io::stdout(), format))
}

/// Where each listener's messages go.
fn deliveries(config: &Config, sinks: &[String]) -> Result<Vec<Delivery>, ConfigFault> {
    let known: Vec<&str> = SINKS.into_iter().chain(sinks.iter().map(String::as_str)).collect();
    config.check(&known)?;
    let delivery = |listener: &ListenerConfig| match sinks.iter().position(|name| *name == listener.sink) {
        Some(lane) => Delivery::Lane(lane),
        None if listener.sink == STORE => Delivery::Store,
        None if listener.sink == "echo" => Delivery::Echo(match listener.policy.framing {
            Framing::Chunks => b"",
            Framing::Lines => b"\n",
        }),
        None => Delivery::Discard,
    };
    Ok(config.listeners.iter().map(delivery).collect())
}

/// A running gateway. Dropping it stops it at once; [`wait`](Self::wait) waits for its end.
#[derive(Debug)]
pub struct Gateway {
    control: Control,
    addresses: Vec<SocketAddr>,
    max_connections: usize,
    warnings: Vec<String>,
    shards: Vec<JoinHandle<io::Result<()>>>,
    /// Dropped before the stores, which it tells the time.
    ticker: Option<Ticker>,
    stores: Vec<Arc<Store>>,
    sinks: Vec<SinkThread>,
}

#[derive(Debug)]
struct SinkThread {
    name: String,
    queue: Arc<SinkQueue>,
    thread: JoinHandle<Result<(), SinkError>>,
}

/// The way to a running gateway from any thread.
#[derive(Clone, Debug)]
pub struct Control {
    mailboxes: Arc<[Arc<Mailbox>]>,
    published: Arc<[Arc<Published>]>,
    stores: Arc<[Weak<Store>]>,
    awaited: Arc<Awaited>,
}

/// A message to a client was not taken; what becomes of one that was taken says its [`PushOutcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No listener keeps sessions, or the gateway has stopped.
    #[error("this gateway keeps no sessions, or has stopped")]
    NoSessions,
    /// The store has too much waiting: try again later.
    #[error("the store has too much waiting; try again later")]
    Busy,
}

impl Control {
    /// Stops gracefully: accepts nobody any more, ends the connections spread over `within`.
    pub fn drain(&self, within: Duration) {
        self.tell_all(|| Command::Drain(within));
    }

    /// Ends everything now.
    pub fn stop(&self) {
        self.tell_all(|| Command::Stop);
    }

    /// Sends a message to a client of the pulse protocol, whether it is connected or not: the newest session of its
    /// id, or the session that is named. It is kept, as durably as the clients' own messages, until the client has
    /// committed it or its session has expired. `on_outcome` hears on the store's thread whether it was taken,
    /// and must not block there.
    ///
    /// # Errors
    /// See [`SendError`]; `on_outcome` is not called then.
    pub fn send(
        &self,
        to: Recipient,
        payload: impl Into<Box<[u8]>>,
        on_outcome: impl FnOnce(PushOutcome) + Send + 'static,
    ) -> Result<(), SendError> {
        let store = self.stores.first().and_then(Weak::upgrade).ok_or(SendError::NoSessions)?;
        let ticket = self.awaited.ticket(Box::new(on_outcome));
        let request = Request::Push { ticket, to, now_ms: wall_ms(), payload: payload.into() };
        store.submit(request).map_err(|error| {
            self.awaited.forget(ticket);
            match error {
                SubmitError::Busy => SendError::Busy,
                SubmitError::Closed => SendError::NoSessions,
            }
        })
    }

    /// What was counted since the start, as of the shards' last turns.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for published in self.published.iter() {
            counts.add(&published.load());
        }
        counts
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for mailbox in self.mailboxes.iter() {
            // Refused only by a shard that has ended.
            let _ = mailbox.post(command());
        }
    }
}

impl Gateway {
    /// Starts putting a gateway together.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The addresses it listens on, in the order of the listeners, with the ports that were taken.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The most connections that it holds.
    #[must_use]
    pub const fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// What of this machine is too small for the settings, each with the mend.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The way to it from any thread.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Waits until it has been drained or stopped, and everything was handed to the sinks.
    ///
    /// # Errors
    /// The first failure of a part; the other parts have been stopped then.
    pub fn wait(mut self) -> Result<Counts, RunError> {
        let mut failure = None;
        for shard in std::mem::take(&mut self.shards) {
            let name = shard.thread().name().unwrap_or("shard").to_owned();
            let outcome = shard.join().map_err(|_| RunError::Panic(name)).and_then(|ran| Ok(ran?));
            if let Err(error) = outcome {
                failure.get_or_insert(error);
            }
        }
        self.close_stores();
        for SinkThread { name, queue, thread } in std::mem::take(&mut self.sinks) {
            queue.close();
            let outcome = thread.join().map_err(|_| RunError::Panic(name.clone()));
            if let Err(error) =
                outcome.and_then(|served| served.map_err(|error| RunError::Sink { name, error }))
            {
                failure.get_or_insert(error);
            }
        }
        failure.map_or_else(|| Ok(self.control.counts()), Err)
    }
}

impl Gateway {
    /// Commits what was submitted, as far as it can be, and hands on what goes to sinks.
    fn close_stores(&mut self) {
        self.ticker = None;
        self.stores.clear();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.control.stop();
        for shard in self.shards.drain(..) {
            // What it failed at, only those learn who wait.
            let _ = shard.join();
        }
        self.close_stores();
        for sink in &self.sinks {
            sink.queue.close();
        }
    }
}

/// Stops all shards if one ends before its time: a gateway that serves only some is worse than none.
struct AllOrNone {
    control: Control,
    failed: bool,
}

impl AllOrNone {
    fn run(mut self, event_loop: EventLoop) -> io::Result<()> {
        event_loop.run()?;
        self.failed = false;
        Ok(())
    }
}

impl Drop for AllOrNone {
    fn drop(&mut self) {
        if self.failed {
            self.control.stop();
        }
    }
}

fn start(
    config: &Config,
    deliveries: Vec<Delivery>,
    sinks: Vec<(String, Box<dyn Sink>)>,
) -> Result<Gateway, StartError> {
    let clock = Clock::start();
    let shard_count =
        config.shards.or_else(|| std::thread::available_parallelism().ok()).map_or(1, usize::from);
    let machine::Allowance { connections, warnings } = machine::allowance(config, shard_count);

    let polls = (0..shard_count).map(|_| Poll::new()).collect::<io::Result<Vec<Poll>>>()?;
    let mailboxes = polls.iter().map(mailbox).collect::<io::Result<Vec<_>>>()?;
    let (addresses, sockets) = open_listeners(config, &polls)?;
    let queue = |_: &_| Arc::new(SinkQueue::new(config.sink_queue_bytes_max, &mailboxes));
    let queues: Box<[Arc<SinkQueue>]> = sinks.iter().map(queue).collect();

    let mailboxes: Arc<[Arc<Mailbox>]> = mailboxes.into();
    let awaited = Arc::<Awaited>::default();
    let origins = Arc::new(Origins::new(queues.clone(), Arc::clone(&mailboxes)));
    let destination = Destination { mailboxes: Arc::clone(&mailboxes), awaited: Arc::clone(&awaited) };
    let (stores, ledgers) = open_stores(config, &deliveries, &destination, clock, &origins)?;

    let total = Arc::new(Gauge::new(connections));
    let door = |((listener, delivery), ledger): ((&ListenerConfig, Delivery), Option<usize>)| Door {
        policy: listener.policy.clone(),
        limits: Limits::new(Arc::clone(&total), listener),
        delivery,
        ledger,
    };
    let doors = config.listeners.iter().zip(deliveries).zip(ledgers).map(door).collect();
    let owned: Vec<Arc<Store>> = stores.iter().map(|opened| Arc::clone(&opened.store)).collect();
    let shared = Arc::new(Shared {
        doors,
        queues: queues.clone(),
        stores: stores.into(),
        origins,
        numbers: AtomicU64::new(0),
    });

    let published: Arc<[Arc<Published>]> = mailboxes.iter().map(|_| Arc::default()).collect();
    let weak = owned.iter().map(Arc::downgrade).collect();
    let control = Control { mailboxes, published, stores: weak, awaited };
    let ticker = (!owned.is_empty()).then(|| Ticker::start(owned.clone(), clock)).transpose()?;
    // From here on, dropping the gateway stops the threads that have been started.
    let mut gateway = Gateway {
        control: control.clone(),
        addresses,
        max_connections: connections,
        warnings,
        shards: Vec::new(),
        ticker,
        stores: owned,
        sinks: Vec::new(),
    };
    for ((name, sink), queue) in sinks.into_iter().zip(queues) {
        gateway.sinks.push(start_sink(name, sink, queue, clock)?);
    }
    for (index, (poll, sockets)) in polls.into_iter().zip(sockets).enumerate() {
        let rim = Sockets { registry: poll.registry().try_clone()?, clock };
        let mailbox = Arc::clone(&control.mailboxes[index]);
        let published = Arc::clone(&control.published[index]);
        let shard = Shard::new(index, rim, Arc::clone(&shared), mailbox, published);
        let event_loop = EventLoop::new(poll, clock, Acceptor::new(sockets), shard)?;
        let thread = std::thread::Builder::new().name(format!("shard-{index}"));
        let all_or_none = AllOrNone { control: control.clone(), failed: true };
        gateway.shards.push(thread.spawn(move || all_or_none.run(event_loop))?);
    }
    Ok(gateway)
}

/// Opens the stores that the listeners need. Returns them, and which of them each listener's ledger is.
fn open_stores(
    config: &Config,
    deliveries: &[Delivery],
    destination: &Destination,
    clock: Clock,
    origins: &Arc<Origins>,
) -> Result<(Vec<Opened>, Vec<Option<usize>>), StartError> {
    let on_disk = |delivery: &Delivery| *delivery == Delivery::Store;
    let in_memory = |(listener, delivery): (&ListenerConfig, &Delivery)| {
        listener.policy.protocol != Protocol::Raw && !on_disk(delivery)
    };
    let mut stores = Vec::new();
    let disk = deliveries.iter().any(on_disk).then_some(stores.len());
    if let Some(place) = disk {
        stores.push(destination.open(place, &config.data_dir, config.store_config(), clock)?);
    }
    let memory = config.listeners.iter().zip(deliveries).any(in_memory).then_some(stores.len());
    if let Some(place) = memory {
        stores.push(destination.open_in_memory(place, config.store_config(), clock, Arc::clone(origins))?);
    }
    let ledger = |(listener, delivery): (&ListenerConfig, &Delivery)| match delivery {
        Delivery::Store => disk,
        Delivery::Discard | Delivery::Echo(_) | Delivery::Lane(_) => {
            memory.filter(|_| listener.policy.protocol != Protocol::Raw)
        }
    };
    Ok((stores, config.listeners.iter().zip(deliveries).map(ledger).collect()))
}

fn mailbox(poll: &Poll) -> io::Result<Arc<Mailbox>> {
    let waker = Waker::new(poll.registry(), WAKER)?;
    Ok(Arc::new(Mailbox::new(move || {
        // It fails only when the shard's poller is gone, and with it everybody who could be woken.
        let _ = waker.wake();
    })))
}

/// Per shard: its sockets, each with the number of its listener.
type ShardSockets = Vec<(u16, TcpListener)>;

fn open_listeners(
    config: &Config,
    polls: &[Poll],
) -> Result<(Vec<SocketAddr>, Vec<ShardSockets>), StartError> {
    let mut addresses = Vec::new();
    let mut of_shards: Vec<ShardSockets> = polls.iter().map(|_| Vec::new()).collect();
    for (door, listener) in config.listeners.iter().enumerate() {
        let (address, sockets) = listening::open(listener, polls.len())
            .map_err(|error| StartError::Listen { address: listener.listen, error })?;
        addresses.push(address);
        for ((mut socket, poll), of_shard) in sockets.into_iter().zip(polls).zip(&mut of_shards) {
            poll.registry().register(&mut socket, listener_token(door), Interest::READABLE)?;
            of_shard.push((door as u16, socket));
        }
    }
    Ok((addresses, of_shards))
}

fn start_sink(
    name: String,
    sink: Box<dyn Sink>,
    queue: Arc<SinkQueue>,
    clock: Clock,
) -> io::Result<SinkThread> {
    let thread = std::thread::Builder::new().name(format!("sink-{name}"));
    let served = Arc::clone(&queue);
    let sink_name = name.clone();
    let thread = thread.spawn(move || {
        let outcome = served.serve(sink, clock);
        if let Err(error) = &outcome {
            tracing::error!(sink = sink_name, %error, "a sink has failed; its connections end, others go on");
        }
        outcome
    })?;
    Ok(SinkThread { name, queue, thread })
}
