//! The control thread of a running gateway: signals and summaries. No connection passes through here.

use super::log::Log;
use super::signals::Signals;
use super::{occupied, shown};
use crate::check::refused;
use anyhow::Context;
use nix::sys::signal::Signal;
use pulsegate::config::{Config, Fault, KeptPlaces, ListenerConfig, Place};
use pulsegate::text::{self, counted};
use pulsegate::{Control, Counts, Gateway, RunError, StartError};
use pulsegate_config::{Source, Summary as Rules};
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::{Instant, interval_at};

/// What is said where a signal has ended the program before anything ran.
pub(super) const STOPPED_EARLY: &str = "stopped by a signal while starting";
/// Signals that come closer together are one: who ends the program may tell both it and its process group.
const SAME_SIGNAL_WITHIN: Duration = Duration::from_millis(500);

/// Runs a gateway until it is told to stop.
pub(super) fn run_gateway(
    config: &Config,
    source: Option<&Source>,
    mut signals: Signals,
    runtime: &Runtime,
) -> anyhow::Result<ExitCode> {
    let log = match Log::start(config.log) {
        Ok(log) => log,
        Err(error) => return Ok(refused(&error)),
    };
    let builder = Gateway::builder().config(config.clone());
    let gateway = match signals.unless_stopped(runtime, move || builder.start())? {
        Some(Ok(gateway)) => gateway,
        Some(Err(error @ StartError::Config(_))) => return Ok(refused(&error)),
        Some(Err(StartError::Listen { address, error })) => {
            eprintln!("pulsegate: {}", not_listening(config, source, address, &error));
            return Ok(ExitCode::FAILURE);
        }
        Some(Err(error)) => return Err(error.into()),
        None => {
            tracing::info!("{STOPPED_EARLY}");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let started = Instant::now();
    let of = gateway.control();
    let (outcome, forced) = runtime.block_on(control(gateway, config, &log, signals))?;
    let counts = of.counts();
    tracing::info!(
        ran = text::duration(Duration::from_secs(started.elapsed().as_secs())),
        accepted = counts.accepted(),
        messages = counts.messages(),
        ended = %counts.reasons_phrase(),
        "stopped"
    );
    outcome?;
    Ok(if forced { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Why an address can't be listened on, where it is set.
fn not_listening(config: &Config, source: Option<&Source>, address: SocketAddr, error: &io::Error) -> String {
    let listener = config.listeners.iter().position(|listener| listener.listen == address);
    let place = Place::Listener(listener.unwrap_or_default());
    shown(&Fault::of(place, "listen", occupied::misfit(address, error)), source)
}

/// What is said once everything runs.
fn what_runs(config: &Config, gateway: &Gateway) -> (Vec<String>, Vec<String>) {
    let line = |(listener, address): (&ListenerConfig, &SocketAddr)| {
        let listener = ListenerConfig { listen: *address, ..listener.clone() };
        format!("listening on {}", Rules(&listener))
    };
    let lines = config.listeners.iter().zip(gateway.addresses()).map(line);
    (gateway.warnings().to_vec(), lines.chain(places(config, gateway)).collect())
}

/// For how many there is room, and which places not everybody gets.
fn places(config: &Config, gateway: &Gateway) -> Vec<String> {
    let all = gateway.max_connections();
    let in_all = format!("at most {} in all", counted(all as u64, "connection"));
    let kept = |listener: &ListenerConfig| {
        let KeptPlaces { count, few } = listener.kept_places(all)?;
        Some(format!("the last {count} only for addresses that have fewer than {few}"))
    };
    if let [listener] = config.listeners.as_slice() {
        return vec![kept(listener).map_or_else(|| in_all.clone(), |kept| format!("{in_all}, {kept}"))];
    }
    let listeners = config.listeners.iter().zip(gateway.addresses());
    let of_each = listeners.filter_map(|(listener, address)| Some(format!("{address}: {}", kept(listener)?)));
    std::iter::once(in_all).chain(of_each).collect()
}

/// Waits for signals and sums up, until the gateway has ended. Says, too, whether it was ended by force.
async fn control(
    gateway: Gateway,
    config: &Config,
    log: &Log,
    mut taken: Signals,
) -> anyhow::Result<(Result<Counts, RunError>, bool)> {
    let control = gateway.control();
    let (warnings, lines) = what_runs(config, &gateway);
    let mut ended = wait_aside(gateway)?;
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    lines.iter().for_each(|line| tracing::info!("{line}"));
    let mut summary = Summary::new(control.clone());
    let mut ticks = interval_at(Instant::now() + config.summary_every, config.summary_every);
    let mut signals = 0;
    let mut last: Option<Instant> = None;
    loop {
        tokio::select! {
            outcome = &mut ended => return Ok((outcome.context("the thread that waits has died")?, signals > 1)),
            signal = taken.stop() => {
                let now = Instant::now();
                if last.is_some_and(|last| now - last < SAME_SIGNAL_WITHIN) {
                    tracing::debug!("{signal} so soon after the last one is taken for the same");
                    continue;
                }
                last = Some(now);
                signals += 1;
                handle_signal(signal, signals, config, &control);
            }
            _ = ticks.tick() => summary.write(log),
        }
    }
}

fn handle_signal(name: Signal, count: u32, config: &Config, control: &Control) {
    if count == 1 {
        let open = control.counts().open();
        let within = text::duration(config.drain_within);
        tracing::info!(
            "{name}: draining {} within {within}; again to end at once",
            counted(open, "connection")
        );
        control.drain(config.drain_within);
    } else {
        tracing::warn!("{name} again: ending at once");
        control.stop();
    }
}

/// Waits for the gateway on a thread of its own, since that blocks.
fn wait_aside(gateway: Gateway) -> io::Result<oneshot::Receiver<Result<Counts, RunError>>> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name("wait".to_owned()).spawn(move || {
        // Nobody listens only if the control thread is gone, and the program with it.
        let _ = sender.send(gateway.wait());
    })?;
    Ok(receiver)
}

/// One line per interval in which something happened, so that a million clients don't fill a disk.
struct Summary {
    control: Control,
    before: Counts,
    left_out: usize,
}

impl Summary {
    fn new(control: Control) -> Self {
        Self { control, before: Counts::default(), left_out: 0 }
    }

    fn write(&mut self, log: &Log) {
        let counts = self.control.counts();
        let since = counts.since(&self.before);
        if since != Counts::default() {
            tracing::info!(
                open = counts.open(),
                accepted = since.accepted(),
                messages = since.messages(),
                bytes_in = since.bytes_in(),
                bytes_out = since.bytes_out(),
                ended = %since.reasons_phrase(),
                "summary"
            );
        }
        if since.stalled_ms() > 0 {
            tracing::warn!(
                stalled_ms = since.stalled_ms(),
                "the gateway could not run; silence was not counted meanwhile"
            );
        }
        if log.left_out() > self.left_out {
            tracing::warn!(
                lines = log.left_out() - self.left_out,
                "log lines were left out: stderr is too slow"
            );
            self.left_out = log.left_out();
        }
        self.before = counts;
    }
}
