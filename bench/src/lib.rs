//! The load generator behind `pulsegate bench`: puts a load on a server that speaks raw bytes or the pulse protocol,
//! and reports what that cost, how exact the server's deadlines are, and how long receipts take. It has an event loop
//! of its own, so that it costs less than what it measures. Must not know: the inside of the gateway, which it sees
//! only from the network and from /proc.
//!
//! Parts, each using only those after it: `args`, `html`, `report`, `figures`, `round`, `worker`, `load`, `crowd`; then
//! plain ones, of which `dialect` is where another protocol goes in, as `pulse` has. `floor` starts `null`, which
//! servers are compared with.

mod args;
mod crowd;
mod dialect;
mod figures;
mod floor;
mod html;
mod load;
mod null;
mod plan;
mod plot;
mod progress;
mod pulse;
mod report;
mod room;
mod round;
mod schedule;
mod stage;
mod statistics;
mod tables;
mod tally;
mod watch;
mod worker;

use anyhow::Context;
use args::Order;
use dialect::Dialect;
use floor::Floor;
use plan::{Kind, Plan};
use progress::Progress;
use pulse::Told;
use pulsegate::text::duration;
use report::{Measured, Report, Target};
use room::{Machine, Room, Wish};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use watch::Processes;

/// The number of rounds with --null, unless it is given.
const ROUNDS_COMPARED: usize = 3;
/// Between two rounds, so that the kernel can clean up after the last one.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the server may take to answer the first of all connections.
const KNOCK: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples, against `pulsegate serve --sink discard --long 1m` (not the third):
  pulsegate bench idle 127.0.0.1:7373 --for 2s --pid $(pidof pulsegate)
      How much memory the server needs for each of 1,000 connections that do
      nothing.
  pulsegate bench beat 127.0.0.1:7373 --every 1s --pid PID --null
      What a heartbeat costs the server, and how many times the null server's
      cost that is.
  pulsegate bench reap 127.0.0.1:7373 --timeout 5s --html reap.html
      Whether clients that fall silent are closed after 5 s: how late, and how
      many too early.
  pulsegate bench exchange 127.0.0.1:7373 --connections 256 --window 8
      How many messages per second a pulse listener commits, and how long each
      takes from send to receipt.
  pulsegate bench exchange 127.0.0.1:7373 --rate 20000
      How long receipts take at 20,000 messages per second, counted from when
      each message was due.

Sizes and durations have units: 32, 1KiB, 250ms, 10s, 1m 30s.

Exit codes: 0 measured; 1 failed; 2 wrong arguments, or too few descriptors or
ports for them; 3 measured, but the figures are not valid: the report says why.";

/// What to measure.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    mode: args::Mode,
}

/// The outcome of a run.
#[derive(Debug)]
pub enum Outcome {
    /// The figures are valid.
    Valid,
    /// It ran to its end, but the figures are not valid; the report says why.
    NotValid,
    /// The arguments are wrong, or there are too few descriptors or ports for them; nothing was measured.
    Refused(anyhow::Error),
}

/// A run: which load, against which server.
struct Run {
    order: Order,
    address: SocketAddr,
    dialect: Dialect,
    machine: Machine,
    progress: Progress,
}

impl Args {
    /// Measures, prints the result on stdout, and the progress on stderr. `is_terminal`: stderr is a terminal
    /// that can rewrite a line.
    ///
    /// # Errors
    /// When the server can't be reached, or something goes wrong while measuring.
    pub fn run(self, is_terminal: bool) -> anyhow::Result<Outcome> {
        let order = match self.mode.order() {
            Ok(order) => order,
            Err(null) => return null.run().map(|()| Outcome::Valid),
        };
        let prepared = order.check().and_then(|()| Ok((order.address()?, order.dialect()?)));
        let (address, dialect) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Ok(Outcome::Refused(error)),
        };
        let machine = Machine::look();
        let wish = Wish {
            address,
            connections: order.connections,
            threads: order.common.threads.map(NonZeroUsize::get),
            sources: order.common.sources.map(NonZeroUsize::get),
            churns: matches!(order.kind, Kind::Churn { .. }),
        };
        let room = match machine.room(&wish) {
            Ok(room) => room,
            Err(problem) => return Ok(Outcome::Refused(anyhow::Error::msg(problem))),
        };
        Run { order, address, dialect, machine, progress: Progress::new(is_terminal) }.run(&room)
    }
}

/// What WELCOME told, beside what was asked for.
fn told(told: &Told) -> Vec<(&'static str, String)> {
    vec![
        ("durability", told.durability_word().to_owned()),
        ("gateway_window_messages", told.window.messages.to_string()),
        ("gateway_window_bytes", told.window.bytes.to_string()),
    ]
}

impl Run {
    fn run(mut self, room: &Room) -> anyhow::Result<Outcome> {
        self.knock()?;
        let compares = self.order.common.null;
        let default = if compares { ROUNDS_COMPARED } else { 1 };
        let count = self.order.common.rounds.map_or(default, NonZeroUsize::get);
        let mut rounds = Vec::new();
        for number in 1..=count {
            let targets: &[Target] =
                if compares { &[Target::Null, Target::Server] } else { &[Target::Server] };
            for target in targets {
                if !rounds.is_empty() {
                    std::thread::sleep(PAUSE);
                }
                let label = format!("round {number} of {count}, {}:", target.word());
                rounds.push(self.play(*target, room, &label)?);
            }
        }
        let report = Report {
            mode: self.order.kind.word(),
            address: self.address.to_string(),
            settings: self.settings(room, &rounds),
            warnings: room.warnings.clone(),
            rounds,
        };
        self.show(&report)?;
        Ok(if report.is_valid() { Outcome::Valid } else { Outcome::NotValid })
    }

    /// Fails if there is no server, before anything is measured.
    fn knock(&self) -> anyhow::Result<()> {
        let problem =
            || format!("no connection to {}: is the server running, and is the address right?", self.address);
        TcpStream::connect_timeout(&self.address, KNOCK).map(drop).with_context(problem)
    }

    fn play(&mut self, target: Target, room: &Room, label: &str) -> anyhow::Result<Measured> {
        let common = &self.order.common;
        let floor = match target {
            Target::Server => None,
            Target::Null => Some(Floor::start(self.order.connections, &self.machine, common.null_core)?),
        };
        let (address, ids) = floor
            .as_ref()
            .map_or_else(|| (self.address, common.pid.clone()), |floor| (floor.address, vec![floor.id()]));
        let plan = Arc::new(Plan {
            kind: self.kind(target),
            address,
            connections: self.order.connections,
            dialect: self.dialect.clone(),
            tick: self.order.tick(),
            open_rate: common.open_rate.get() as u64,
            servers: Processes { ids },
        });
        // The null server stands on the loopback, whatever the server's address.
        let room = match target {
            Target::Server => room.clone(),
            Target::Null => Room { sources: self.null_sources(room), ..room.clone() },
        };
        let round = round::play(&plan, &room, &mut self.progress, label)?;
        drop(floor);
        let figures = figures::figures(&plan, &round);
        let findings = figures::findings(&plan, &round, target == Target::Server);
        Ok(Measured { target, figures, findings, round })
    }

    /// Against the null server nobody waits for ends that don't come.
    fn kind(&self, target: Target) -> Kind {
        match (target, self.order.kind) {
            (Target::Null, Kind::Reap { timeout, spread, beating, every, .. }) => {
                Kind::Reap { timeout, spread, grace: Duration::ZERO, beating, every }
            }
            (Target::Null, Kind::Once { timeout, spread, .. }) => {
                Kind::Once { timeout, spread, grace: Duration::ZERO }
            }
            (Target::Null, Kind::Short { deadline, spread, every, .. }) => {
                Kind::Short { deadline, spread, grace: Duration::ZERO, every }
            }
            (Target::Null | Target::Server, kind) => kind,
        }
    }

    fn null_sources(&self, room: &Room) -> room::Sources {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let churns = matches!(self.order.kind, Kind::Churn { .. });
        let wish =
            Wish { address, connections: self.order.connections, threads: None, sources: None, churns };
        match room.sources {
            room::Sources::Loopback(_) => room.sources,
            room::Sources::Any => self.machine.room(&wish).map_or(room.sources, |room| room.sources),
        }
    }

    fn settings(&self, room: &Room, rounds: &[Measured]) -> Vec<(&'static str, String)> {
        let mut settings = vec![("connections", self.order.connections.to_string())];
        match self.order.kind {
            Kind::Idle { hold, every } => {
                settings.push(("for", duration(hold)));
                settings.extend(every.map(|every| ("every", duration(every))));
            }
            Kind::Beat { every, span } => {
                settings.extend([("every", duration(every)), ("for", duration(span))]);
            }
            Kind::Flood { span, batch } => {
                settings.extend([("for", duration(span)), ("batch", batch.to_string())]);
            }
            Kind::Exchange { span, size, window, rate, .. } => {
                settings.extend([("for", duration(span)), ("size", size.to_string())]);
                if window < usize::MAX {
                    settings.push(("window", window.to_string()));
                }
                settings.extend(rate.map(|rate| ("rate", rate.to_string())));
            }
            Kind::Reap { timeout, spread, beating, every, .. } => settings.extend([
                ("timeout", duration(timeout)),
                ("spread", duration(spread)),
                ("beating", beating.to_string()),
                ("every", duration(every)),
            ]),
            Kind::Once { timeout, spread, .. } => settings.extend([
                ("timeout", duration(timeout)),
                ("spread", duration(spread)),
                ("sent", "once, as soon as connected".to_owned()),
            ]),
            Kind::Short { deadline, spread, every, .. } => settings.extend([
                ("deadline", duration(deadline)),
                ("spread", duration(spread)),
                ("every", duration(every)),
            ]),
            Kind::Churn { span, rate } => {
                settings.push(("for", duration(span)));
                settings.extend(rate.map(|rate| ("rate", rate.to_string())));
            }
            Kind::Storm { within } => settings.push(("within", duration(within))),
        }
        if self.dialect.pulse {
            settings.push(("protocol", "pulse".to_owned()));
            settings
                .extend(rounds.iter().rev().find_map(|measured| measured.round.told()).iter().flat_map(told));
        } else {
            settings.push(("size", self.dialect.message.len().to_string()));
        }
        settings.push(("threads", room.threads.to_string()));
        if let room::Sources::Loopback(count) = room.sources {
            settings.push(("sources", count.to_string()));
        }
        settings
    }

    fn show(&self, report: &Report) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.order.common.json {
            serde_json::to_writer_pretty(&mut out, &report.json())?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", report.table())?;
        }
        if let Some(path) = &self.order.common.html {
            let problem = || format!("can't write {}", path.display());
            std::fs::write(path, html::page(report)).with_context(problem)?;
        }
        Ok(())
    }
}
