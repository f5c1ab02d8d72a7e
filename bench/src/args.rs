//! The arguments of `pulsegate bench`, checked and turned into a plan. Must not know: how a plan is run.

use crate::dialect::{Dialect, parse_bytes};
use crate::null;
use crate::plan::Kind;
use anyhow::{anyhow, bail};
use pulsegate_config::units::{parse_count, parse_duration, parse_size};
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

const LOAD: &str = "Load";
const GENERATOR: &str = "Generator";
const REPORT: &str = "Report";
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
const MESSAGE_BYTES: u64 = 32;
const EXCHANGE_BYTES: u64 = 256;
/// Messages in flight in a session.
const WINDOW: usize = 8;
const TICK: Duration = Duration::from_micros(200);

/// What is measured.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Mode {
    /// Hold connections: server memory for each
    Idle(IdleArgs),
    /// Clients that each send a heartbeat at intervals: server CPU for each heartbeat
    Beat(BeatArgs),
    /// As many messages as the server takes
    Flood(FloodArgs),
    /// Messages with receipts, in the pulse protocol: how many per second, and how long from send to receipt
    Exchange(ExchangeArgs),
    /// Clients fall silent: how long after the timeout the server closes them, and whether ever before it
    Reap(ReapArgs),
    /// Clients keep sending and are closed at a fixed deadline: how long after it
    Short(ShortArgs),
    /// Connect, send one message, close, over and over: connections per second, server CPU for each
    Churn(ChurnArgs),
    /// All clients reconnect at once: how long until all are connected again
    Storm(StormArgs),
    /// Run the null server, which accepts, reads and discards: the least a server can cost, to compare with
    Null(null::Args),
}

/// What all loads have in common.
#[derive(clap::Args, Debug)]
pub(crate) struct Common {
    /// The server: host:port, for example 127.0.0.1:7373
    #[arg(value_name = "ADDR")]
    pub(crate) address: String,
    /// Size of a message, including its line end [default: 32; exchange: 256]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = LOAD)]
    size: Option<u64>,
    /// Clients speak the pulse protocol: they count as connected at WELCOME, send beats, and answer questions
    #[arg(long, conflicts_with_all = ["size", "message", "opening", "answered", "null"], help_heading = LOAD)]
    pulse: bool,
    /// Send exactly these bytes as a message instead; \n \r \t \0 \\ and \xHH are escapes
    #[arg(long, value_name = "TEXT", conflicts_with = "size", help_heading = LOAD)]
    message: Option<String>,
    /// Send these bytes first on each connection [default: a message]
    #[arg(long, value_name = "TEXT", help_heading = LOAD)]
    opening: Option<String>,
    /// A client counts as connected only once the server has answered its opening
    #[arg(long, conflicts_with = "null", help_heading = LOAD)]
    answered: bool,
    /// Connections opened per second
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "10000", help_heading = LOAD)]
    pub(crate) open_rate: NonZeroUsize,
    /// Server process on this machine whose memory and CPU to measure; may be repeated
    #[arg(long, value_name = "PID", help_heading = REPORT)]
    pub(crate) pid: Vec<u32>,
    /// Threads that hold connections [default: 1, or more if the limit of open files requires it]
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = GENERATOR)]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Source addresses, counting up from 127.0.0.1, for servers at 127.x.x.x [default: as many as the number of
    /// ports requires]
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = GENERATOR)]
    pub(crate) sources: Option<NonZeroUsize>,
    /// Sends that are due within this time of each other go out together [default: 200us; exchange: 0s]
    #[arg(long, value_name = "DUR", value_parser = parse_duration, help_heading = GENERATOR)]
    tick: Option<Duration>,
    /// Start the null server and compare with it; rounds alternate
    #[arg(long, help_heading = REPORT)]
    pub(crate) null: bool,
    /// Rounds against the server, and as many against the null server [default: 1, with --null 3]
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = REPORT)]
    pub(crate) rounds: Option<NonZeroUsize>,
    /// Run the null server on this core only, counted from 0 [default: any core]
    #[arg(long, value_name = "N", requires = "null", help_heading = REPORT)]
    pub(crate) null_core: Option<usize>,
    /// Print JSON instead of a table
    #[arg(long, help_heading = REPORT)]
    pub(crate) json: bool,
    /// Write a report with plots to this HTML file
    #[arg(long, value_name = "FILE", help_heading = REPORT)]
    pub(crate) html: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    common: Common,
    /// Connections to hold
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "1000", help_heading = LOAD)]
    connections: NonZeroUsize,
    /// How long to hold them
    #[arg(long = "for", value_name = "DUR", value_parser = parse_duration, default_value = "5s", help_heading = LOAD)]
    span: Duration,
    /// Each sends a message this often, for servers that close silent clients [default: only the first message]
    #[arg(long, value_name = "DUR", value_parser = parse_duration, help_heading = LOAD)]
    every: Option<Duration>,
}

#[derive(clap::Args, Debug)]
pub(crate) struct BeatArgs {
    #[command(flatten)]
    common: Common,
    /// Number of clients
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "1000", help_heading = LOAD)]
    connections: NonZeroUsize,
    /// Interval between a client's messages; clients are spread evenly over it
    #[arg(long, value_name = "DUR", value_parser = parse_duration, default_value = "1s", help_heading = LOAD)]
    every: Duration,
    /// How long to measure
    #[arg(long = "for", value_name = "DUR", value_parser = parse_duration, default_value = "10s", help_heading = LOAD)]
    span: Duration,
}

#[derive(clap::Args, Debug)]
pub(crate) struct FloodArgs {
    #[command(flatten)]
    common: Common,
    /// Connections that send
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "16", help_heading = LOAD)]
    connections: NonZeroUsize,
    /// How long to measure, after a warm-up of a fifth of it
    #[arg(long = "for", value_name = "DUR", value_parser = parse_duration, default_value = "5s", help_heading = LOAD)]
    span: Duration,
    /// Messages in one write
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "16", help_heading = LOAD)]
    batch: NonZeroUsize,
}

#[derive(clap::Args, Debug)]
pub(crate) struct ExchangeArgs {
    #[command(flatten)]
    common: Common,
    /// Sessions that send
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "16", help_heading = LOAD)]
    connections: NonZeroUsize,
    /// Messages in flight in each session, within the gateway's window [default: 8; with --rate: the whole window]
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = LOAD)]
    window: Option<NonZeroUsize>,
    /// Messages per second in total, whether or not receipts come; latency counts from when each was due [default: a
    /// new message for each receipt]
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = LOAD)]
    rate: Option<NonZeroUsize>,
    /// How long to measure, after a warm-up of a fifth of it
    #[arg(long = "for", value_name = "DUR", value_parser = parse_duration, default_value = "5s", help_heading = LOAD)]
    span: Duration,
    /// How often a session with nothing in flight sends a heartbeat
    #[arg(long, value_name = "DUR", value_parser = parse_duration, default_value = "1s", help_heading = LOAD)]
    every: Duration,
}

#[derive(clap::Args, Debug)]
pub(crate) struct ReapArgs {
    #[command(flatten)]
    common: Common,
    /// Number of clients, including those that keep beating
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "1000", help_heading = LOAD)]
    connections: NonZeroUsize,
    /// The server's heartbeat timeout
    #[arg(long, value_name = "DUR", value_parser = parse_duration, default_value = "5s", help_heading = LOAD)]
    timeout: Duration,
    /// Clients fall silent one after another over this time; 0s: all at once
    #[arg(long, value_name = "DUR", value_parser = parse_duration, default_value = "2s", help_heading = LOAD)]
    spread: Duration,
    /// Clients still open this long after the timeout count as never closed
    #[arg(long, value_name = "DUR", value_parser = parse_duration, default_value = "5s", help_heading = LOAD)]
    grace: Duration,
    /// This many clients keep beating and must stay open
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = LOAD)]
    beating: usize,
    /// How often a client that isn't silent sends [default: a quarter of the timeout]
    #[arg(long, value_name = "DUR", value_parser = parse_duration, help_heading = LOAD)]
    every: Option<Duration>,
    /// Each client sends once, as soon as it is connected, and then falls silent; --open-rate sets how many per second
    #[arg(long, conflicts_with_all = ["spread", "beating", "every", "pulse", "answered"], help_heading = LOAD)]
    once: bool,
}

#[derive(clap::Args, Debug)]
pub(crate) struct ShortArgs {
    #[command(flatten)]
    common: Common,
    /// Number of clients
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "1000", help_heading = LOAD)]
    connections: NonZeroUsize,
    /// The server's deadline, counted from accept
    #[arg(long, value_name = "DUR", value_parser = parse_duration, default_value = "30s", help_heading = LOAD)]
    deadline: Duration,
    /// Clients connect one after another over this time; 0s: all at once
    #[arg(long, value_name = "DUR", value_parser = parse_duration, default_value = "2s", help_heading = LOAD)]
    spread: Duration,
    /// Clients still open this long after the deadline count as never closed
    #[arg(long, value_name = "DUR", value_parser = parse_duration, default_value = "5s", help_heading = LOAD)]
    grace: Duration,
    /// Each sends a message this often
    #[arg(long, value_name = "DUR", value_parser = parse_duration, default_value = "1s", help_heading = LOAD)]
    every: Duration,
}

#[derive(clap::Args, Debug)]
pub(crate) struct ChurnArgs {
    #[command(flatten)]
    common: Common,
    /// Number of concurrent connections
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "64", help_heading = LOAD)]
    connections: NonZeroUsize,
    /// How long to measure, after a warm-up of a fifth of it
    #[arg(long = "for", value_name = "DUR", value_parser = parse_duration, default_value = "5s", help_heading = LOAD)]
    span: Duration,
    /// Connections per second [default: as many as possible]
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = LOAD)]
    rate: Option<NonZeroUsize>,
}

#[derive(clap::Args, Debug)]
pub(crate) struct StormArgs {
    #[command(flatten)]
    common: Common,
    /// Number of clients
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "1000", help_heading = LOAD)]
    connections: NonZeroUsize,
    /// Clients not connected again after this time count as never
    #[arg(long, value_name = "DUR", value_parser = parse_duration, default_value = "60s", help_heading = LOAD)]
    within: Duration,
}

/// The load that was asked for.
pub(crate) struct Order {
    pub(crate) kind: Kind,
    pub(crate) connections: usize,
    pub(crate) common: Common,
}

impl Mode {
    /// The load that is asked for; for the null server its arguments instead.
    pub(crate) fn order(self) -> Result<Order, null::Args> {
        let order = |kind, connections: NonZeroUsize, common| {
            Ok(Order { kind, connections: connections.get(), common })
        };
        match self {
            Self::Idle(args) => {
                order(Kind::Idle { hold: args.span, every: args.every }, args.connections, args.common)
            }
            Self::Beat(args) => {
                order(Kind::Beat { every: args.every, span: args.span }, args.connections, args.common)
            }
            Self::Flood(args) => {
                let batch = args.batch.get();
                order(Kind::Flood { span: args.span, batch }, args.connections, args.common)
            }
            Self::Exchange(args) => {
                let rate = args.rate.map(|rate| rate.get() as u64);
                let default = if rate.is_some() { usize::MAX } else { WINDOW };
                let window = args.window.map_or(default, NonZeroUsize::get);
                let size = args.common.size.unwrap_or(EXCHANGE_BYTES) as usize;
                let kind = Kind::Exchange { span: args.span, size, window, rate, every: args.every };
                order(kind, args.connections, args.common)
            }
            Self::Reap(ReapArgs { once: true, timeout, grace, connections, common, .. }) => {
                let spread =
                    Duration::from_secs_f64(connections.get() as f64 / common.open_rate.get() as f64);
                order(Kind::Once { timeout, spread, grace }, connections, common)
            }
            Self::Reap(args) => {
                let ReapArgs { timeout, spread, grace, beating, .. } = args;
                let every = args.every.unwrap_or(timeout / 4);
                order(Kind::Reap { timeout, spread, grace, beating, every }, args.connections, args.common)
            }
            Self::Short(args) => {
                let ShortArgs { deadline, spread, grace, every, .. } = args;
                order(Kind::Short { deadline, spread, grace, every }, args.connections, args.common)
            }
            Self::Churn(args) => {
                let rate = args.rate.map(|rate| rate.get() as u64);
                order(Kind::Churn { span: args.span, rate }, args.connections, args.common)
            }
            Self::Storm(args) => order(Kind::Storm { within: args.within }, args.connections, args.common),
            Self::Null(args) => Err(args),
        }
    }
}

impl Order {
    /// Checks the arguments against each other.
    ///
    /// # Errors
    /// The flag at fault, and what to give it.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.kind.every().is_some_and(|every| every.is_zero()) {
            bail!("--every: must be above zero; to send as fast as possible use `bench flood`");
        }
        if let Kind::Reap { beating, timeout, every, .. } = self.kind {
            if beating >= self.connections {
                bail!(
                    "--beating: {beating} of {} clients leave none to fall silent; lower it",
                    self.connections
                );
            }
            if every >= timeout {
                bail!(
                    "--every: must be shorter than --timeout, or those who keep beating would be closed too; lower it"
                );
            }
        }
        if matches!(self.kind, Kind::Exchange { .. }) {
            let common = &self.common;
            let unfit = [
                ("--message", common.message.is_some()),
                ("--opening", common.opening.is_some()),
                ("--answered", common.answered),
                ("--null", common.null),
            ];
            if let Some((flag, _)) = unfit.iter().find(|(_, is_given)| *is_given) {
                bail!(
                    "{flag}: has no meaning in the pulse protocol, which `bench exchange` speaks; leave it out"
                );
            }
        }
        if self.common.pulse && matches!(self.kind, Kind::Flood { .. }) {
            bail!("--pulse: in the pulse protocol messages have receipts; use `bench exchange`");
        }
        let longest = Duration::from_secs(7 * 24 * 3600);
        if self.kind.span() > longest {
            bail!("a run may take at most 7 days; lower the durations");
        }
        Ok(())
    }

    /// What the clients send.
    ///
    /// # Errors
    /// If a size or an escape is invalid.
    pub(crate) fn dialect(&self) -> anyhow::Result<Dialect> {
        let common = &self.common;
        let size = common.size.unwrap_or(MESSAGE_BYTES);
        if !(1..=MESSAGE_BYTES_MAX).contains(&size) {
            bail!("--size: {size} is out of range; give it 1 to 1MiB");
        }
        if self.speaks_pulse() {
            return Ok(Dialect::pulse());
        }
        let bytes = |flag: &str, text: &Option<String>| {
            let parsed = text.as_deref().map(parse_bytes).transpose();
            parsed.map_err(|problem| anyhow!("{flag}: {problem}"))
        };
        let (message, opening) = (bytes("--message", &common.message)?, bytes("--opening", &common.opening)?);
        let size = usize::try_from(size)?;
        Ok(Dialect { answered: common.answered, ..Dialect::raw(size, message, opening) })
    }

    const fn speaks_pulse(&self) -> bool {
        self.common.pulse || matches!(self.kind, Kind::Exchange { .. })
    }

    /// Sends that are due within this time of each other go out together.
    pub(crate) fn tick(&self) -> Duration {
        // In an exchange this would be measured as the server's time.
        let default = if matches!(self.kind, Kind::Exchange { .. }) { Duration::ZERO } else { TICK };
        self.common.tick.unwrap_or(default)
    }

    /// The server's address; for a name, the first one.
    ///
    /// # Errors
    /// If it is not host:port, or the name is unknown.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        let text = &self.common.address;
        let found = text.to_socket_addrs().map_err(|error| {
            anyhow!(
                "`{}` is not an address ({error}); write host:port, for example 127.0.0.1:7373",
                text.escape_debug()
            )
        })?;
        // A server on `localhost` is more often found at its IPv4 address.
        let mut found: Vec<SocketAddr> = found.collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        found.first().copied().ok_or_else(|| anyhow!("`{}` has no address", text.escape_debug()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(clap::Parser, Debug)]
    struct Line {
        #[command(subcommand)]
        mode: Mode,
    }

    fn order(line: &str) -> Order {
        let words = std::iter::once("bench").chain(line.split_whitespace());
        Line::try_parse_from(words).unwrap().mode.order().unwrap()
    }

    #[test]
    fn the_command_is_well_formed() {
        Line::command().debug_assert();
    }

    #[test]
    fn each_mode_has_defaults_that_agree() {
        for mode in ["idle", "beat", "flood", "reap", "short", "churn", "storm"] {
            let order = order(&format!("{mode} 127.0.0.1:7373"));
            assert_eq!(order.kind.word(), mode);
            order.check().unwrap();
            assert_eq!(order.dialect().unwrap().message.len(), 32);
            assert_eq!(order.address().unwrap(), ([127, 0, 0, 1], 7373).into());
        }
        let words = ["bench", "null", "--threads", "2"];
        assert!(Line::try_parse_from(words).unwrap().mode.order().is_err(), "the null server is no load");
    }

    #[test]
    fn an_exchange_speaks_pulse_and_others_may() {
        let exchange = order("exchange 127.0.0.1:7373 --size 1KiB --rate 100");
        exchange.check().unwrap();
        let Kind::Exchange { size, window, rate, .. } = exchange.kind else { panic!("{:?}", exchange.kind) };
        assert_eq!((size, window, rate, exchange.tick()), (1024, usize::MAX, Some(100), Duration::ZERO));
        let idle = order("idle 127.0.0.1:7373 --pulse");
        assert_eq!(exchange.dialect().unwrap(), idle.dialect().unwrap());
        assert_eq!((idle.dialect().unwrap().message.len(), idle.tick()), (5, TICK));
        for line in ["exchange 127.0.0.1:7373 --null", "flood 127.0.0.1:7373 --pulse"] {
            assert!(order(line).check().is_err(), "{line}");
        }
    }

    #[test]
    fn what_is_asked_for_arrives() {
        let order = order(
            r"reap localhost:1 --connections 50 --timeout 8s --spread 0s --beating 9 --message PING\r\n --opening HI --answered",
        );
        let second = Duration::from_secs(1);
        let Kind::Reap { timeout, spread, beating, every, .. } = order.kind else {
            panic!("{:?}", order.kind)
        };
        assert_eq!((order.connections, beating), (50, 9));
        assert_eq!((timeout, spread, every), (second * 8, Duration::ZERO, second * 2));
        let (opening, message) = (b"HI".to_vec(), b"PING\r\n".to_vec());
        let expected = Dialect { opening, message, answered: true, pulse: false };
        assert_eq!(order.dialect().unwrap(), expected);
        assert!(order.address().unwrap().ip().is_loopback());
    }
}
