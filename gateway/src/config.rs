//! All settings of a gateway, resolved and with their defaults. Where they come from (a file, flags, an
//! embedding program) is not known here.

mod check;
pub mod defaults;
mod fault;
pub mod keys;

pub use fault::{Fault, Faults, Misfit, Place};
pub use pulsegate_core::frame::Durability;
pub use pulsegate_shard::KeptPlaces;
pub use pulsegate_store::{Quota, StoreConfig};

use pulsegate_core::frame::MESSAGE_BYTES_MAX;
use pulsegate_core::policy::{Policy, Protocol};
use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// The name of the sink that is the embedded store.
pub const STORE: &str = "store";
/// The names of the sinks that every gateway has.
pub const SINKS: [&str; 4] = ["print", "echo", "discard", STORE];

/// Who has a table of descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescriptorTables {
    /// Each shard its own, where the kernel lets it: the limit of descriptors counts for each of them.
    ///
    /// Descriptors of the embedding program then mean something else on a shard's thread. Signal handlers don't run
    /// there, and neither do sinks and callbacks, but a subscriber of `tracing` does: it must hand its lines to
    /// another thread (`tracing_appender::non_blocking`) or write to a standard stream. One that writes to a file or a
    /// socket of its own would write to a client.
    PerShard,
    /// All share that of the process.
    Shared,
}

/// How the print sink writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrintFormat {
    /// One line for people: time, peer, connection, text.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// All settings of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The listeners; at least one.
    pub listeners: Vec<ListenerConfig>,
    /// Threads that hold connections; `None`: one per core, or more where the descriptors for
    /// [`max_connections`](Self::max_connections) ask for it.
    pub shards: Option<NonZeroUsize>,
    /// Who has a table of descriptors; `None`: the program gives each shard one, an embedded gateway shares that of the
    /// process.
    pub descriptor_tables: Option<DescriptorTables>,
    /// The most connections in all; `None`: as many as the limit of descriptors allows, less a reserve.
    pub max_connections: Option<usize>,
    /// How long input may gather before it is looked at, where so much comes that it pays; zero: not at all. `None`:
    /// see [`gathering`](Self::gathering).
    pub gather: Option<Duration>,
    /// Over how long a drain spreads the ends of the connections.
    pub drain_within: Duration,
    /// How often the log sums up what ended and why.
    pub summary_every: Duration,
    /// The most that waits for one sink, in bytes.
    pub sink_queue_bytes_max: usize,
    /// How the print sink writes.
    pub print: PrintFormat,
    /// How the log is written.
    pub log: LogFormat,
    /// The folder of the store's files.
    pub data_dir: PathBuf,
    /// The settings of the store, but for its longest message: see [`store_config`](Self::store_config).
    pub store: StoreConfig,
}

/// How long input gathers where nobody waits for an answer and nothing is said about it.
const GATHER: Duration = Duration::from_millis(1);

impl Config {
    /// How long input may gather: as it is set; else 1 ms where no listener ever sends anything back but a farewell, and
    /// not at all where one does.
    #[must_use]
    pub fn gathering(&self) -> Duration {
        let answers = self.listeners.iter().any(ListenerConfig::answers);
        self.gather.unwrap_or(if answers { Duration::ZERO } else { GATHER })
    }

    /// The settings of the store, with the longest message of the listeners that need it as its own.
    #[must_use]
    pub fn store_config(&self) -> StoreConfig {
        let message_bytes_max = self.longest_stored();
        StoreConfig {
            message_bytes_max: message_bytes_max.unwrap_or(self.store.message_bytes_max),
            ..self.store.clone()
        }
    }

    /// Whether a listener keeps its messages in the store, in the folder of its files.
    #[must_use]
    pub fn has_store(&self) -> bool {
        self.listeners.iter().any(|listener| listener.sink == STORE)
    }

    /// The longest message that the store has to take, in bytes.
    fn longest_stored(&self) -> Option<usize> {
        let stored = self.listeners.iter().filter(|listener| listener.needs_store());
        stored.map(ListenerConfig::stored_bytes_max).max()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listeners: vec![ListenerConfig::default()],
            shards: None,
            descriptor_tables: None,
            max_connections: None,
            gather: None,
            drain_within: Duration::from_secs(3),
            summary_every: Duration::from_secs(10),
            sink_queue_bytes_max: 4 * 1024 * 1024,
            print: PrintFormat::default(),
            log: LogFormat::default(),
            data_dir: PathBuf::from("data"),
            store: StoreConfig::default(),
        }
    }
}

/// One listener: an address with a policy, limits and a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// What the log calls it, 1 to 64 letters, digits and `-_.:[]`; no other listener is called so. `None`: its address.
    pub name: Option<String>,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The rules for its connections.
    pub policy: Policy,
    /// Where messages go: `print`, `echo`, `discard`, `store`, or a name under which an embedding program gave
    /// a sink.
    pub sink: String,
    /// The most connections through this listener; `None`: no fewer than the gateway holds in all.
    pub max_connections: Option<usize>,
    /// The most connections from one source address (IPv6: from one /64); `None`: no limit of its own. See
    /// [`kept_places`](Self::kept_places) too.
    pub max_per_address: Option<usize>,
    /// The most connections that have not completed a first message; `None`: as many as in all.
    pub max_newcomers: Option<usize>,
    /// Connections accepted per second, in bursts of up to one second's worth.
    pub accept_rate: u32,
    /// `TCP_USER_TIMEOUT`: how long sent data may stay unacknowledged before the kernel gives the peer up.
    pub user_timeout: Duration,
    /// After how long an idle connection gets TCP keepalive probes from the kernel.
    pub keepalive: Duration,
}

impl ListenerConfig {
    /// What it is called: its name, or its address as it was configured.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        self.name.as_deref().map_or_else(|| Cow::Owned(self.listen.to_string()), Cow::Borrowed)
    }

    /// Which places of this listener are kept, in a gateway with so many places in all. `None` if there are none: they
    /// are too few, or `max_per_address` allows an address more than the others, as where a proxy stands.
    #[must_use]
    pub fn kept_places(&self, of_all: usize) -> Option<KeptPlaces> {
        let places = self.max_connections.map_or(of_all, |own| own.min(of_all));
        KeptPlaces::among(places, self.max_per_address)
    }

    /// Whether its messages or its sessions are the store's.
    fn needs_store(&self) -> bool {
        self.sink == STORE || self.policy.protocol != Protocol::Raw
    }

    fn stored_bytes_max(&self) -> usize {
        self.policy.message_bytes_max.min(MESSAGE_BYTES_MAX as usize)
    }
}

impl ListenerConfig {
    /// Whether its clients are sent anything for what they send.
    fn answers(&self) -> bool {
        let is_mute = ["print", "discard", STORE].contains(&self.sink.as_str());
        !is_mute || self.policy.protocol != Protocol::Raw || self.policy.reply.is_some()
    }
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            name: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7373)),
            policy: defaults::policy(defaults::long(None, None)),
            sink: "print".to_owned(),
            max_connections: None,
            max_per_address: None,
            max_newcomers: None,
            accept_rate: 50_000,
            user_timeout: Duration::from_secs(30),
            keepalive: Duration::from_secs(120),
        }
    }
}

/// How many shards there are unless it is set; more only where the limit of descriptors counts for each.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
