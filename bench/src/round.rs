//! One round: starts the workers, gives them their cues, and looks at the server's processes meanwhile. Must not know: what
//! the counts mean.

use crate::plan::{Kind, Plan};
use crate::progress::Progress;
use crate::pulse::Told;
use crate::room::Room;
use crate::stage::{Stage, nanos};
use crate::tables;
use crate::tally::Tally;
use crate::watch::{CpuTime, machine_cpu, own_cpu};
use crate::worker::{Outcome, Worker};
use anyhow::{Context, anyhow};
use std::sync::Arc;
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

/// Between two looks at the counts.
const LOOK: Duration = Duration::from_millis(20);
/// From the cue to the measured part: longer than a worker naps.
const CUE: Duration = Duration::from_millis(60);
/// After everybody is connected: the server catches up with what the kernel has accepted for it.
const SETTLING: Duration = Duration::from_millis(300);
/// After everybody has left: the server gives back what it gives back.
const LEAVING: Duration = Duration::from_millis(1_500);
/// More points than this are thinned out.
const SAMPLES_MAX: usize = 600;

/// A look at the round while it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Since the start of the round.
    pub(crate) at: Duration,
    pub(crate) open: usize,
    pub(crate) sent: u64,
    pub(crate) ended: u64,
    pub(crate) resident: Option<u64>,
    pub(crate) cpu: Option<Duration>,
}

/// What the server's processes used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerUse {
    /// Bytes before the first connection, with all of them, and after the last.
    pub(crate) before: u64,
    pub(crate) with: u64,
    pub(crate) after: Option<u64>,
    /// In the measured part.
    pub(crate) cpu: CpuTime,
}

/// A round that was played.
pub(crate) struct Round {
    pub(crate) opening: Tally,
    pub(crate) measured: Tally,
    /// How long connecting everybody took.
    pub(crate) opened_in: Duration,
    /// Connections that were open when the measured part began.
    pub(crate) open: usize,
    /// The measured part.
    pub(crate) span: Duration,
    pub(crate) server: Option<ServerUse>,
    /// Of the generator in the measured part: processor time, and the share that its busiest thread was busy.
    pub(crate) own_cpu: Duration,
    pub(crate) busiest: f64,
    /// Processor time of everybody else on this machine, in cores; the server's too if its processes aren't known.
    pub(crate) others: f64,
    pub(crate) series: Vec<Sample>,
    /// When the measured part began and ended, on the clock of the series.
    pub(crate) measured_from: Duration,
    pub(crate) measured_until: Duration,
}

impl Round {
    /// What WELCOME told, if there was any.
    pub(crate) fn told(&self) -> Option<Told> {
        self.measured.told.or(self.opening.told)
    }
}

struct Conductor<'a> {
    plan: &'a Plan,
    stage: Arc<Stage>,
    threads: Vec<JoinHandle<anyhow::Result<Outcome>>>,
    progress: &'a mut Progress,
    label: &'a str,
    began: Instant,
    series: Vec<Sample>,
    every: Duration,
}

/// Plays one round.
///
/// # Errors
/// When the server's processes can't be looked at, or a worker has failed.
pub(crate) fn play(
    plan: &Arc<Plan>,
    room: &Room,
    progress: &mut Progress,
    label: &str,
) -> anyhow::Result<Round> {
    let before = look(plan, "memory", || plan.servers.memory())?;
    let stage = Arc::new(Stage::new(room.threads));
    let threads = {
        let (plan, stage, workers, sources) =
            (Arc::clone(plan), Arc::clone(&stage), room.threads, room.sources);
        tables::start(room.threads, room.parted, move |number| {
            let worker = Worker::new(Arc::clone(&plan), Arc::clone(&stage), sources, workers, number);
            let outcome = worker.and_then(Worker::run);
            if outcome.is_err() {
                stage.abort();
            }
            outcome.context("the load generator's event loop failed")
        })
        .context("can't start the threads of the load generator; give fewer --threads")?
    };
    let conductor = Conductor {
        plan,
        stage,
        threads,
        progress,
        label,
        began: Instant::now(),
        series: Vec::new(),
        every: Duration::from_millis(100),
    };
    conductor.conduct(before)
}

/// Something of the server's processes, if they are known.
fn look<T>(plan: &Plan, what: &str, at: impl Fn() -> std::io::Result<T>) -> anyhow::Result<Option<T>> {
    if plan.servers.is_empty() {
        return Ok(None);
    }
    let text = || {
        format!(
            "can't read the {what} of the server's processes {:?}: is --pid right, and are they yours?",
            plan.servers.ids
        )
    };
    at().map(Some).with_context(text)
}

impl Conductor<'_> {
    fn conduct(mut self, before: Option<u64>) -> anyhow::Result<Round> {
        self.watch("connecting", Stage::all_ready);
        let opened_in = self.began.elapsed();
        self.rest(SETTLING, "connected");
        let open = self.stage.counts().open;
        let plan = self.plan;
        let now = self.stage.clock.now();
        self.stage.go(now + nanos(CUE));
        self.rest(CUE + plan.kind.warm(), "connected");
        let from = self.began.elapsed();
        let (cpu, own, machine) =
            (look(plan, "processor time", || plan.servers.cpu())?, own_cpu(), machine_cpu());
        self.watch(plan.kind.word(), Stage::all_done);
        let until = self.began.elapsed();
        let (cpu_then, own, machine) = (
            look(plan, "processor time", || plan.servers.cpu())?,
            own_cpu().saturating_sub(own),
            machine_cpu().saturating_sub(machine),
        );
        let with = look(plan, "memory", || plan.servers.memory())?;
        self.stage.leave();
        let outcomes = self.join()?;
        let after = if matches!(plan.kind, Kind::Idle { .. }) && before.is_some() {
            self.rest(LEAVING, "left");
            look(plan, "memory", || plan.servers.memory())?
        } else {
            None
        };
        self.progress.clear();
        let server = before.zip(with).zip(cpu.zip(cpu_then)).map(|((before, with), (cpu, cpu_then))| {
            ServerUse { before, with, after, cpu: cpu_then.since(cpu) }
        });
        let span = until - from;
        let known = own + server.map_or(Duration::ZERO, |server| server.cpu.all);
        let others = machine.saturating_sub(known).as_secs_f64() / span.as_secs_f64().max(1e-9);
        let series = std::mem::take(&mut self.series);
        Ok(gather(
            outcomes,
            Round {
                opening: Tally::default(),
                measured: Tally::default(),
                opened_in,
                open,
                span,
                server,
                own_cpu: own,
                busiest: 0.0,
                others,
                series,
                measured_from: from,
                measured_until: until,
            },
        ))
    }

    /// Looks on until it `is_so`, or a worker has given up.
    fn watch(&mut self, what: &str, is_so: fn(&Stage) -> bool) {
        while !is_so(&self.stage) && !self.stage.is_aborted() {
            if self.threads.iter().any(JoinHandle::is_finished) {
                return;
            }
            self.sample(what);
            sleep(LOOK);
        }
    }

    fn rest(&mut self, span: Duration, what: &str) {
        let until = Instant::now() + span;
        while Instant::now() < until {
            self.sample(what);
            sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
    }

    fn sample(&mut self, what: &str) {
        let at = self.began.elapsed();
        let counts = self.stage.counts();
        let total = self.plan.connections;
        self.progress.show(|| {
            format!(
                "{} {what}: {:.0} s, {} of {total} open, {} sent, {} ended, {} failed",
                self.label,
                at.as_secs_f64(),
                counts.open,
                counts.sent,
                counts.ended,
                counts.failed
            )
        });
        if self.series.last().is_some_and(|last| at - last.at < self.every) {
            return;
        }
        let servers = &self.plan.servers;
        let known = !servers.is_empty();
        self.series.push(Sample {
            at,
            open: counts.open,
            sent: counts.sent,
            ended: counts.ended,
            resident: known.then(|| servers.resident().ok()).flatten(),
            cpu: known.then(|| servers.cpu().ok()).flatten().map(|cpu| cpu.all),
        });
        if self.series.len() > SAMPLES_MAX {
            let mut place = 0;
            self.series.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.every *= 2;
        }
    }

    fn join(&mut self) -> anyhow::Result<Vec<Outcome>> {
        let joined = self
            .threads
            .drain(..)
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread of the load generator has died"))?);
        joined.collect()
    }
}

fn gather(outcomes: Vec<Outcome>, mut round: Round) -> Round {
    for outcome in outcomes {
        let busy = outcome.cpu.as_secs_f64() / outcome.span.as_secs_f64().max(1e-9);
        round.busiest = round.busiest.max(busy);
        round.opening.absorb(outcome.opening);
        round.measured.absorb(outcome.measured);
    }
    round
}
