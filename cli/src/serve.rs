//! `pulsegate serve`: flags, and a file if there is one, become the settings of a gateway, which then runs.

mod flags;
mod log;
mod occupied;
mod running;
mod signals;

use self::flags::Flags;
use self::running::STOPPED_EARLY;
use self::signals::Signals;
use crate::check::{folder_fault, refused};
use pulsegate::config::{Config, DescriptorTables, Fault, SINKS};
use pulsegate_config::{Settings, Source};
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Durations have a unit: 250ms, 10s, 1m 30s, 24h.

Examples:
  pulsegate serve
      Listen on 127.0.0.1:7373; keep a connection while bytes arrive at least
      every 5s.
  pulsegate serve --long 1m --framing lines --heartbeat PING
      Keep a connection while the line PING arrives at least every minute.
  pulsegate serve --listen 0.0.0.0:9000 --short 30s --sink echo
      End every connection 30s after it was accepted; until then echo what it
      sends.
  pulsegate serve --protocol auto --sink store --data-dir ./data
      Speak the pulse protocol with clients that begin with it, and keep all
      messages in a store on disk.
  pulsegate serve --config pulsegate.toml --log json
      Take everything from a file, but log as JSON. `pulsegate check` validates
      a file.

SIGTERM or SIGINT drains: newcomers are told to come back, and connections are
closed over --drain-within. A second one, at least half a second after the
first, closes everything at once. SIGQUIT ends the program on the spot; SIGHUP
and others are ignored. The log goes to stderr; PULSEGATE_LOG=debug adds a line
for each connection that ended.";

/// Where the settings come from.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Configuration file (TOML); flags of the gateway override it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

impl Args {
    /// Runs the gateway until it is told to stop.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::start()?;
        // Without a poller of its own, so that nothing here fails for want of descriptors.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        match signals.unless_stopped(&runtime, move || self.config())? {
            Some(Ok((config, source))) => running::run_gateway(&config, source.as_ref(), signals, &runtime),
            Some(Err(error)) => Ok(refused(&error)),
            None => {
                eprintln!("pulsegate: {STOPPED_EARLY}");
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    /// The settings from the flags, and from the file if there is one.
    ///
    /// # Errors
    /// A file that can't be used, and flags that are invalid or contradict each other.
    fn config(&self) -> anyhow::Result<(Config, Option<Source>)> {
        let (mut config, source) = match &self.config {
            Some(path) => {
                let Settings { config, source } = pulsegate_config::read(path, &SINKS)?;
                (config, Some(source))
            }
            None => (Config { listeners: self.flags.listeners(), ..Config::default() }, None),
        };
        config.descriptor_tables.get_or_insert(DescriptorTables::PerShard);
        self.flags.apply_to(&mut config)?;
        if let Some(fault) = folder_fault(&config) {
            anyhow::bail!(shown(&fault, source.as_ref()));
        }
        Ok((config, source))
    }
}

/// A fault where the file says what is at fault, or in the words of the flags.
fn shown(fault: &Fault, source: Option<&Source>) -> String {
    match source.filter(|source| source.sets(fault.place, fault.key)) {
        Some(source) => source.show(std::slice::from_ref(fault)).to_string(),
        None => flags::said(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};
    use pulsegate::config::{Durability, LogFormat, PrintFormat};
    use pulsegate_core::policy::{Framing, Heartbeat, LifetimePolicy, Protocol};
    use std::net::SocketAddr;
    use std::num::NonZeroUsize;
    use std::time::Duration;

    #[derive(clap::Parser, Debug)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn config(flags: &str) -> Config {
        let words = std::iter::once("serve").chain(flags.split_whitespace());
        let line = Line::try_parse_from(words).expect("the flags are known");
        line.args.config().expect("the flags agree").0
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
        let raw_only =
            "it is for raw clients, but a pulse listener has none; take it out, or set --protocol to auto";
        let no_store = "no listener has the sink store, so that nothing is kept on disk; \
                        set the --sink of a listener to store, or take it out";
        let too_long = |flag, bound| {
            format!("--{flag}: 8s is longer than --{bound}, 5s; lower it to 5s or less, or raise --{bound}")
        };
        for (flags, said) in [
            ("--short 5s --first-message 8s", too_long("first-message", "short")),
            ("--long 8s --max-age 5s", too_long("long", "max-age")),
            (
                "--heartbeat PING",
                "--heartbeat: a named heartbeat is a line, but the framing is chunks; set --framing to lines".to_owned(),
            ),
            ("--protocol pulse --framing lines", format!("--framing: {raw_only}")),
            ("--protocol pulse --heartbeat PING", format!("--heartbeat: {raw_only}")),
            (
                "--listen 127.0.0.1:9 --listen 127.0.0.1:9",
                "--listen: 127.0.0.1:9 is the address of another listener too; give each listener a port of its own".to_owned(),
            ),
            (
                "--listen 0.0.0.0:9 --listen 127.0.0.1:9",
                "--listen: 0.0.0.0:9 takes 127.0.0.1:9 too, and another listener has that; \
                 give each listener a port of its own".to_owned(),
            ),
            ("--protocol pulse --data-dir ./data", format!("--data-dir: {no_store}")),
            ("--durability os", format!("--durability: {no_store}")),
            (
                "--sink strore",
                "--sink: there is no sink \"strore\"; known sinks: print, echo, discard, store".to_owned(),
            ),
            (
                "--first-message 25h --durability os --sink strore",
                format!(
                    "--durability: {no_store}\n\
                     --first-message: 25h is longer than --max-age, 24h; lower it to 24h or less, or raise --max-age\n\
                     --sink: there is no sink \"strore\"; known sinks: print, echo, discard, store"
                ),
            ),
        ] {
            check_refused(flags, &said);
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
        check_unparsed(
            "--listen localhost:80",
            "is a host name; give it the IP address, such as 127.0.0.1:80",
        );
        check_unparsed("--shards 5000", "5000 is out of range; give it a whole number from 1 to 1024");
        check_unparsed("--drain-within 2h", "2h is out of range; give it a duration from 0s to 1h");
        check_unparsed("--short 0s", "0s is out of range; give it a duration above 0s, up to 365days");
        check_unparsed("--durability none", "[possible values: os, synced]");
        check_unparsed("--protocol http", "[possible values: raw, pulse, auto]");
    }
}
