//! `pulsegate serve`: flags, and a file if there is one, become the settings of a gateway, which then runs.

mod log;
mod running;
mod signals;

use self::running::STOPPED_EARLY;
use self::signals::Signals;
use crate::check::refused;
use pulsegate::config::check::{ConfigFault, STORE_KEYS, without_store};
use pulsegate::config::{
    Config, DescriptorTables, Durability, ListenerConfig, LogFormat, PrintFormat, SINKS, defaults,
};
use pulsegate_config::units::{parse_address, parse_count, parse_duration};
use pulsegate_core::policy::{Framing, Heartbeat, LifetimePolicy, Policy, Protocol};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const LISTENER: &str = "Listener (with --config, say it in the file)";

const EXAMPLES: &str = "\
Durations have a unit: 250ms, 10s, 1m 30s, 24h.

Examples:
  pulsegate serve
      Listen on 127.0.0.1:7373; keep a connection while bytes come at least
      every 5s.
  pulsegate serve --long 1m --framing lines --heartbeat PING
      Keep a connection while the line PING comes at least every minute.
  pulsegate serve --listen 0.0.0.0:9000 --short 30s --sink echo
      End every connection 30s after it was accepted, and send back what it
      sends.
  pulsegate serve --protocol auto --sink store --data-dir ./data
      Speak the pulse protocol to who begins with it, and keep all messages in
      a store on disk.
  pulsegate serve --config pulsegate.toml --log json
      Everything from a file, but the log as JSON. `pulsegate check` validates
      a file.

SIGTERM or SIGINT drains: newcomers are told to come back, connections are
ended over --drain-within. A second one, at least half a second after the
first, ends at once. SIGQUIT ends on the spot; SIGHUP and others are ignored.
The log goes to stderr; PULSEGATE_LOG=debug has a line for each connection that
ended.";

/// Where the settings come from.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Configuration file (TOML); flags of the gateway override it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    listener: ListenerArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// What each listener is like; without a file only.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = LISTENER)]
struct ListenerArgs {
    /// Address to listen on; may be repeated, port 0 takes a free one [default: 127.0.0.1:7373]
    #[arg(long, value_name = "ADDR", value_parser = parse_address, conflicts_with = "config")]
    listen: Vec<SocketAddr>,
    /// What is spoken: raw bytes, the pulse protocol, or what a client begins with [default: auto]
    #[arg(long, conflicts_with = "config")]
    protocol: Option<ProtocolArg>,
    /// Short connections: ended this long after accept, whatever they send
    #[arg(long, value_name = "DUR", value_parser = parse_duration, conflicts_with_all = ["config", "long"])]
    short: Option<Duration>,
    /// Long connections: kept while heartbeats come at least this often [default: 5s]
    #[arg(long, value_name = "DUR", value_parser = parse_duration, conflicts_with = "config")]
    long: Option<Duration>,
    /// From accept to the first complete message [default: 10s, or less if the connection can't live that long]
    #[arg(long, value_name = "DUR", value_parser = parse_duration, conflicts_with = "config")]
    first_message: Option<Duration>,
    /// The longest that a long connection lives, heartbeats or not [default: 24h]
    #[arg(long, value_name = "DUR", value_parser = parse_duration, conflicts_with_all = ["config", "short"])]
    max_age: Option<Duration>,
    /// What proves the peer alive: any bytes, or only this line (needs --framing lines) [default: any]
    #[arg(long, value_name = "any|TEXT", conflicts_with = "config")]
    heartbeat: Option<String>,
    /// How bytes become messages: as they are read, or line by line [default: chunks]
    #[arg(long, conflicts_with = "config")]
    framing: Option<FramingArg>,
    /// Where messages go [default: print]
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(SINKS), conflicts_with = "config")]
    sink: Option<String>,
    /// The most connections from one source address (IPv6: from one /64) [default: no limit of its own, but the last
    /// quarter of the places is kept for addresses that hold few]
    #[arg(long, value_name = "N", value_parser = parse_count, conflicts_with = "config")]
    max_per_address: Option<NonZeroUsize>,
}

/// What the gateway as a whole is like; goes before the file.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Gateway")]
struct GatewayArgs {
    /// How the print sink writes [default: human]
    #[arg(long)]
    print: Option<PrintArg>,
    /// The most connections in all [default: what the limit of descriptors allows, less a reserve]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    max_connections: Option<NonZeroUsize>,
    /// Threads that hold connections, at most 1024 [default: one per core]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    shards: Option<NonZeroUsize>,
    /// Over how long a graceful stop spreads the ends of the connections, at most 1h [default: 3s]
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    drain_within: Option<Duration>,
    /// Folder of the store's files [default: data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What a stored message survives: the end of the gateway, or the loss of power too [default: synced]
    #[arg(long)]
    durability: Option<DurabilityArg>,
    /// How the log is written [default: text]
    #[arg(long)]
    log: Option<LogArg>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ProtocolArg {
    /// Bytes, in chunks or lines
    Raw,
    /// The pulse protocol
    Pulse,
    /// Pulse for those who begin with its preface, raw for all others
    Auto,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FramingArg {
    /// Whatever one read returns is a message
    Chunks,
    /// A message is a line
    Lines,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum DurabilityArg {
    /// The end of the gateway, not the loss of power
    Os,
    /// The loss of power as well
    Synced,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum PrintArg {
    /// One line for people: time, peer, connection, text
    Human,
    /// One JSON object per line
    Json,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LogArg {
    /// One line for people
    Text,
    /// One JSON object per line
    Json,
}

impl Args {
    /// Runs the gateway until it is told to stop.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::start()?;
        // Without a poller of its own, so that nothing here fails for want of descriptors.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        match signals.unless_stopped(&runtime, move || self.config())? {
            Some(Ok(config)) => running::run_gateway(&config, signals, &runtime),
            Some(Err(error)) => Ok(refused(&error)),
            None => {
                eprintln!("pulsegate: {STOPPED_EARLY}");
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    /// The settings that the flags, and the file if there is one, amount to.
    ///
    /// # Errors
    /// A file that can't be used, and flags that can't be kept or contradict each other.
    fn config(&self) -> anyhow::Result<Config> {
        let mut config = match &self.config {
            Some(path) => pulsegate_config::read(path, &SINKS)?,
            None => Config { listeners: self.listener.listeners(), ..Config::default() },
        };
        self.gateway.override_in(&mut config);
        config.descriptor_tables.get_or_insert(DescriptorTables::PerShard);
        config.check(&SINKS).map_err(|fault| anyhow::anyhow!(in_flags(&fault)))?;
        let said = [self.gateway.data_dir.is_some(), self.gateway.durability.is_some()];
        let idle = STORE_KEYS.into_iter().zip(said).find(|(_, is_said)| *is_said);
        if let (Some((key, _)), false) = (idle, config.has_store()) {
            let mut fault = without_store(key);
            if self.config.is_none() {
                fault.mend = "add --sink store, or take it out".to_owned();
            }
            anyhow::bail!(in_flags(&fault));
        }
        Ok(config)
    }
}

impl ListenerArgs {
    fn listeners(&self) -> Vec<ListenerConfig> {
        let default = ListenerConfig::default();
        let listener = ListenerConfig {
            policy: self.policy(),
            sink: self.sink.clone().unwrap_or(default.sink),
            max_per_address: self.max_per_address.map(NonZeroUsize::get),
            ..default
        };
        if self.listen.is_empty() {
            return vec![listener];
        }
        self.listen.iter().map(|listen| ListenerConfig { listen: *listen, ..listener.clone() }).collect()
    }

    fn policy(&self) -> Policy {
        let lifetime = match self.short {
            Some(deadline) => LifetimePolicy::Short { deadline },
            None => defaults::long(self.long, self.max_age),
        };
        let default = defaults::policy(lifetime);
        Policy {
            protocol: match self.protocol {
                None => default.protocol,
                Some(ProtocolArg::Raw) => Protocol::Raw,
                Some(ProtocolArg::Pulse) => Protocol::Pulse,
                Some(ProtocolArg::Auto) => Protocol::Auto,
            },
            first_message: self.first_message.unwrap_or(default.first_message),
            heartbeat: match self.heartbeat.as_deref() {
                None => default.heartbeat,
                Some("any") => Heartbeat::Any,
                Some(line) => Heartbeat::Line(line.as_bytes().into()),
            },
            framing: match self.framing {
                None => default.framing,
                Some(FramingArg::Chunks) => Framing::Chunks,
                Some(FramingArg::Lines) => Framing::Lines,
            },
            ..default
        }
    }
}

impl GatewayArgs {
    fn override_in(&self, config: &mut Config) {
        match self.print {
            None => {}
            Some(PrintArg::Human) => config.print = PrintFormat::Human,
            Some(PrintArg::Json) => config.print = PrintFormat::Json,
        }
        match self.log {
            None => {}
            Some(LogArg::Text) => config.log = LogFormat::Text,
            Some(LogArg::Json) => config.log = LogFormat::Json,
        }
        config.shards = self.shards.or(config.shards);
        config.max_connections = self.max_connections.map(NonZeroUsize::get).or(config.max_connections);
        config.drain_within = self.drain_within.unwrap_or(config.drain_within);
        if let Some(folder) = &self.data_dir {
            config.data_dir.clone_from(folder);
        }
        match self.durability {
            None => {}
            Some(DurabilityArg::Os) => config.store.durability = Durability::Os,
            Some(DurabilityArg::Synced) => config.store.durability = Durability::Synced,
        }
    }
}

/// The keys that have a flag, and the flag.
const FLAGS: [(&str, &str); 15] = [
    ("listen", "--listen"),
    ("protocol", "--protocol"),
    ("deadline", "--short"),
    ("heartbeat_timeout", "--long"),
    ("max_age", "--max-age"),
    ("first_message", "--first-message"),
    ("heartbeat", "--heartbeat"),
    ("framing", "--framing"),
    ("sink", "--sink"),
    ("max_per_address", "--max-per-address"),
    ("max_connections", "--max-connections"),
    ("shards", "--shards"),
    ("drain_within", "--drain-within"),
    ("data_dir", "--data-dir"),
    ("durability", "--durability"),
];

/// A fault in the words of the command line: keys become the flags that set them.
fn in_flags(fault: &ConfigFault) -> String {
    let field = FLAGS.iter().find(|(key, _)| *key == fault.field).map_or(fault.field, |(_, flag)| flag);
    let mut text = format!("{}; {}", fault.problem, fault.mend);
    // The other keys are also plain words of English.
    for (key, flag) in FLAGS.iter().filter(|(key, _)| key.contains('_') || *key == "deadline") {
        text = text.replace(key, flag);
    }
    format!("{field}: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(clap::Parser, Debug)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn config(flags: &str) -> Config {
        let words = std::iter::once("serve").chain(flags.split_whitespace());
        let line = Line::try_parse_from(words).expect("the flags are known");
        line.args.config().expect("the flags agree")
    }

    #[track_caller]
    fn check_refused(flags: &str, said: &str) {
        let line = Line::try_parse_from(std::iter::once("serve").chain(flags.split_whitespace()));
        let error =
            line.expect("the flags are known").args.config().expect_err("the flags contradict each other");
        assert_eq!(error.to_string(), said);
    }

    #[track_caller]
    fn check_unparsed(flags: &str, part: &str) {
        let error = Line::try_parse_from(std::iter::once("serve").chain(flags.split_whitespace()))
            .expect_err("clap refuses the flags");
        assert_eq!(error.exit_code(), 2);
        let said = error.to_string();
        assert!(said.contains(part), "{said}");
    }

    #[test]
    fn the_command_is_well_formed() {
        Line::command().debug_assert();
    }

    #[test]
    fn no_flags_are_the_defaults() {
        let tables = Some(DescriptorTables::PerShard);
        assert_eq!(config(""), Config { descriptor_tables: tables, ..Config::default() });
    }

    #[test]
    fn flags_apply_to_each_listener() {
        let config = config(
            "--listen [::1]:0 --listen 127.0.0.1:9 --protocol auto --short 3s --framing lines \
             --heartbeat PING --sink echo --max-per-address 7",
        );
        assert_eq!(config.listeners.len(), 2);
        assert_eq!(config.listeners[1].listen, SocketAddr::from(([127, 0, 0, 1], 9)));
        for listener in &config.listeners {
            let seconds = Duration::from_secs;
            assert_eq!(listener.policy.lifetime, LifetimePolicy::Short { deadline: seconds(3) });
            assert_eq!(listener.policy.first_message, seconds(3));
            assert_eq!(listener.policy.protocol, Protocol::Auto);
            assert_eq!(listener.policy.framing, Framing::Lines);
            assert_eq!(listener.policy.heartbeat, Heartbeat::Line(b"PING"[..].into()));
            assert_eq!((listener.sink.as_str(), listener.max_per_address), ("echo", Some(7)));
        }
    }

    #[test]
    fn flags_of_the_gateway_override_the_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = "shards = 1\nlog = \"json\"\ndrain_within = \"1s\"\n\
                    [store]\ndata_dir = \"here\"\nwal_bytes = \"1MiB\"\n\
                    [[listener]]\nlisten = \"127.0.0.1:9\"\nsink = \"store\"\n";
        std::fs::write(file.path(), text).expect("written");
        let config = config(&format!(
            "--config {} --shards 3 --max-connections 5 --print json --data-dir there --durability os",
            file.path().display()
        ));
        assert_eq!(config.shards, NonZeroUsize::new(3));
        assert_eq!((config.print, config.log), (PrintFormat::Json, LogFormat::Json));
        assert_eq!((config.max_connections, config.drain_within), (Some(5), Duration::from_secs(1)));
        assert_eq!(config.listeners[0].sink, "store");
        assert_eq!(config.data_dir, PathBuf::from("there"));
        assert_eq!((config.store.durability, config.store.wal_bytes), (Durability::Os, 1024 * 1024));
        let kept = self::config(&format!("--config {}", file.path().display()));
        assert_eq!((kept.data_dir, kept.store.durability), ("here".into(), Durability::Synced));
    }

    #[test]
    fn a_store_needs_no_file_of_settings() {
        let config = config("--protocol pulse --sink store --data-dir ./data --durability synced");
        let listener = &config.listeners[0];
        assert_eq!((listener.policy.protocol, listener.sink.as_str()), (Protocol::Pulse, "store"));
        assert_eq!(config.data_dir, PathBuf::from("./data"));
        assert_eq!(config.store_config().message_bytes_max, listener.policy.message_bytes_max);
    }

    #[test]
    fn contradictions_name_the_flag() {
        for (flags, said) in [
            (
                "--short 5s --first-message 8s",
                "--first-message: 8s is longer than --short, 5s, so it could never come; \
                 lower --first-message to 5s or less, or raise --short",
            ),
            (
                "--long 8s --max-age 5s",
                "--long: 8s is longer than --max-age, 5s, so it could never come; \
                 lower --long to 5s or less, or raise --max-age",
            ),
            ("--short 0s", "--short: zero would end every connection at once; give it a value above zero"),
            (
                "--heartbeat PING",
                "--heartbeat: a named heartbeat is a line, but the framing is chunks; set the framing to lines",
            ),
            (
                "--protocol pulse --framing lines",
                "--framing: it is for raw clients, but a pulse listener has none; \
                 take it out, or set the protocol to auto",
            ),
            (
                "--protocol pulse --heartbeat PING",
                "--heartbeat: it is for raw clients, but a pulse listener has none; \
                 take it out, or set the protocol to auto",
            ),
            (
                "--listen 127.0.0.1:9 --listen 127.0.0.1:9",
                "--listen: 127.0.0.1:9 is the address of another listener too; \
                 give each listener an address of its own",
            ),
            (
                "--protocol pulse --data-dir ./data",
                "--data-dir: no listener has the sink store, so that nothing is kept on disk; \
                 add --sink store, or take it out",
            ),
            (
                "--durability os",
                "--durability: no listener has the sink store, so that nothing is kept on disk; \
                 add --sink store, or take it out",
            ),
            ("--drain-within 2h", "--drain-within: 2h is out of range; give it 0s to 1h"),
            (
                "--shards 5000",
                "--shards: more than 1024 threads are no gain; give it at most 1024, or leave it out",
            ),
        ] {
            check_refused(flags, said);
        }
    }

    #[test]
    fn flags_that_exclude_each_other_are_refused() {
        for flag in [
            "--listen [::1]:9",
            "--protocol pulse",
            "--short 1s",
            "--long 1s",
            "--first-message 1s",
            "--max-age 1s",
            "--heartbeat any",
            "--framing lines",
            "--sink echo",
            "--max-per-address 1",
        ] {
            check_unparsed(&format!("--config x.toml {flag}"), "cannot be used with");
        }
        check_unparsed("--short 1s --long 1s", "cannot be used with");
        check_unparsed("--short 1s --max-age 1s", "cannot be used with");
    }

    #[test]
    fn values_say_what_is_expected() {
        check_unparsed("--long 10", "10 has no unit; add a unit, e.g. 10s");
        check_unparsed("--shards 0", "expected a whole number of at least 1");
        check_unparsed("--listen localhost", "expected an IP address and a port");
        check_unparsed("--sink kafka", "[possible values: print, echo, discard, store]");
        check_unparsed("--data-dir=", "a value is required");
        check_unparsed("--durability none", "[possible values: os, synced]");
        check_unparsed("--protocol http", "[possible values: raw, pulse, auto]");
    }
}
