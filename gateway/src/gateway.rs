//! The gateway as a whole: put together, drained, stopped, waited for. How its threads start stands in `starting`.

mod ending;
mod routing;
mod starting;

use crate::config::{Config, Faults, ListenerConfig, PrintFormat};
use crate::print::Print;
use crate::stores::{Awaited, Committers, Replies, Ticker};
use crate::text::counted;
use ending::Deadline;
use nix::errno::Errno;
use pulsegate_sessions::{Committer, Recipient, SubmitError};
use pulsegate_shard::{
    Command, Counts, Leftover, Mailbox, Opened, Published, PushOutcome, Sink, SinkError, SinkQueue,
};
use pulsegate_store::OpenError;
pub use routing::CommitterError;
use routing::Make;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

/// Why a gateway can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Settings that can't be kept.
    #[error(transparent)]
    Config(#[from] Faults),
    /// An address can't be listened on.
    #[error("can't listen on {address}: {error}{}", listen_mend(.error))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// An application's committer could not be made.
    #[error("can't make the committer {name}: {error}")]
    Committer {
        /// The name under which it was given.
        name: String,
        /// What it said.
        error: CommitterError,
    },
    /// The kernel refused a poller, timer or thread.
    #[error("the kernel refused what a shard needs{}", kernel_mend(.0))]
    Kernel(#[from] io::Error),
}

/// What to do where an address can't be had.
fn listen_mend(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => "; stop the program that listens there, or listen on another port",
        Some(Errno::EADDRNOTAVAIL) => "; give an address of this machine, or 0.0.0.0 for all of them",
        Some(Errno::EACCES) => "; ports below 1024 take a privilege: choose a higher one",
        _ => "",
    }
}

/// What to do where the kernel has no descriptor.
fn kernel_mend(error: &io::Error) -> &'static str {
    let is_short =
        [Errno::EMFILE, Errno::ENFILE].into_iter().any(|code| error.raw_os_error() == Some(code as i32));
    if is_short { "; raise the limit of open files (ulimit -n)" } else { "" }
}

/// A part of a running gateway has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    /// A store has ended before its time; the log says why.
    #[error("a store has failed: its thread has ended")]
    Store,
    /// The store could not write when the gateway ended; the log says why.
    #[error(
        "the store could not write at the end: nothing was acknowledged since, and what its files lost is lost; the \
         log says why"
    )]
    StoreStopped,
    /// Not everything could be handed over in time.
    #[error("{} lost: sinks or stores did not take them in time", counted(*messages, "message"))]
    GivenUp {
        /// How many messages. Those that their clients still keep are not counted.
        messages: u64,
    },
}

/// Puts a gateway together.
#[derive(Default)]
pub struct Builder {
    config: Config,
    listeners: Vec<ListenerConfig>,
    sinks: Vec<(String, Box<dyn Sink>)>,
    committers: Vec<(String, Make)>,
}

impl Builder {
    /// Sets all settings. Listeners added by [`listener`](Self::listener) replace the listeners in them.
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

    /// Adds a committer. Listeners name it like a sink. It keeps the sessions of their clients, commits the clients'
    /// messages, and replies, upon which receipts are sent. Messages of raw clients come as
    /// [`Request::Append`](crate::Request::Append). `make` is called when the gateway starts, if a listener has this
    /// name; the committer sends its replies through [`Replies`].
    #[must_use]
    pub fn committer<C: Committer + 'static>(
        mut self,
        name: &str,
        make: impl FnOnce(Replies) -> Result<C, CommitterError> + Send + 'static,
    ) -> Self {
        let make = move |replies| make(replies).map(|made| -> Arc<dyn Committer> { Arc::new(made) });
        self.committers.push((name.to_owned(), Box::new(make)));
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
        let sinks: Vec<String> = self.sinks.iter().map(|(name, _)| name.clone()).collect();
        let committers: Vec<String> = self.committers.iter().map(|(name, _)| name.clone()).collect();
        let routes = routing::routes(&self.config, &sinks, &committers)?;
        starting::start(&self.config, &routes, self.sinks, self.committers)
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
    let out = io::stdout();
    let is_terminal = out.is_terminal();
    Box::new(Print::new(out, format, is_terminal))
}

/// A running gateway. Dropping it stops it at once; [`wait`](Self::wait) waits until it has been stopped.
#[derive(Debug)]
pub struct Gateway {
    control: Control,
    addresses: Vec<SocketAddr>,
    max_connections: usize,
    warnings: Vec<String>,
    shards: Vec<JoinHandle<io::Result<Leftover>>>,
    /// Dropped before the stores, which it tells the time.
    ticker: Option<Ticker>,
    stores: Vec<Opened>,
    sinks: Vec<SinkThread>,
}

#[derive(Debug)]
struct SinkThread {
    name: String,
    queue: Arc<SinkQueue>,
    thread: JoinHandle<Result<(), SinkError>>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// Controls a running gateway, from any thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    mailboxes: Arc<[Arc<Mailbox>]>,
    published: Arc<[Arc<Published>]>,
    committers: Committers,
    /// Those of the listeners' sinks, by their place.
    by_sink: Arc<BTreeMap<String, usize>>,
    awaited: Arc<Awaited>,
    deadline: Arc<Deadline>,
}

/// Why a message to a client was not taken. What becomes of one that was taken, its [`PushOutcome`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No listener keeps sessions, or the gateway has stopped.
    #[error("this gateway keeps no sessions, or has stopped")]
    NoSessions,
    /// The store has too much waiting: try again later.
    #[error("the store has too much waiting; try again later")]
    Busy,
}

impl Control {
    /// Sends a message to a client of the pulse protocol, whether it is connected or not: the newest session of its id,
    /// or the session that is named. It is kept, as durably as the clients' own messages, until the client has
    /// committed it or its session has expired. `on_outcome` is called once, on the store's thread, and must not block
    /// there. If the store ends before it could answer, the outcome is
    /// [`PushRefusal::Unknown`](crate::PushRefusal::Unknown).
    ///
    /// If there are several stores (the one on disk, one in memory for each other sink, and those of the application),
    /// they are asked in turn until one knows the client; [`send_by`](Self::send_by) asks a certain one. The number of
    /// a session has a meaning in its own store only.
    ///
    /// # Errors
    /// See [`SendError`]; `on_outcome` is not called then.
    pub fn send(
        &self,
        to: Recipient,
        payload: impl Into<Box<[u8]>>,
        on_outcome: impl FnOnce(PushOutcome) + Send + 'static,
    ) -> Result<(), SendError> {
        self.submit(None, to, payload.into(), on_outcome)
    }

    /// The same, asking only the store that keeps the sessions of the listeners with this sink.
    ///
    /// # Errors
    /// See [`SendError`]; `on_outcome` is not called then.
    pub fn send_by(
        &self,
        sink: &str,
        to: Recipient,
        payload: impl Into<Box<[u8]>>,
        on_outcome: impl FnOnce(PushOutcome) + Send + 'static,
    ) -> Result<(), SendError> {
        let place = *self.by_sink.get(sink).ok_or(SendError::NoSessions)?;
        self.submit(Some(place), to, payload.into(), on_outcome)
    }

    fn submit(
        &self,
        only: Option<usize>,
        to: Recipient,
        payload: Box<[u8]>,
        on_outcome: impl FnOnce(PushOutcome) + Send + 'static,
    ) -> Result<(), SendError> {
        let submitted = self.awaited.submit(&self.committers, only, to, payload, Box::new(on_outcome));
        submitted.map_err(|error| match error {
            SubmitError::Busy => SendError::Busy,
            SubmitError::Closed => SendError::NoSessions,
        })
    }

    /// The counters since the start, as of each shard's last turn.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Published::sum(&self.published)
    }

    /// The counters of each listener, in the order of the configuration. Their sum is [`counts`](Self::counts).
    #[must_use]
    pub fn counts_of_listeners(&self) -> Vec<Counts> {
        Published::sums_of_listeners(&self.published)
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for mailbox in self.mailboxes.iter() {
            // Refused only by a shard that has ended.
            let _ = mailbox.post(command());
        }
    }
}

impl Gateway {
    /// Returns a builder with the default settings.
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

    /// What on this machine is too small for the settings, each with what to do about it.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns its control.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Waits until it has been drained or stopped, and everything was handed to the sinks and stores, or given up.
    ///
    /// # Errors
    /// The first failure of a part; the other parts have been stopped then. [`Control::counts`] still has the counters.
    pub fn wait(mut self) -> Result<Counts, RunError> {
        let failure = self.end();
        failure.map_or_else(|| Ok(self.control.counts()), Err)
    }
}
