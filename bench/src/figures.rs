//! Turns the counts into the figures of a mode, and says whether they are valid. Must not know: how figures are shown.

mod exchange;

use crate::plan::{Kind, Plan};
use crate::pulse::word;
use crate::round::Round;
use crate::statistics::Sorted;
use pulsegate::text::{self, counted};
use pulsegate_core::close::CloseReason;
use std::time::Duration;

/// A generator thread that was busy for longer than this share could not keep up reliably.
const BUSY_MAX: f64 = 0.9;
/// A server that used this many cores is what limits.
const SERVER_BUSY: f64 = 0.85;
/// Of the heartbeats that the schedule asks for.
const SENT_MIN: f64 = 0.98;
/// Cores that others may use before figures are doubtful.
const OTHERS_MAX: f64 = 0.4;

/// Nanoseconds by which messages may be late without coming in bunches that a server would notice.
const LAG_MAX: i64 = 10_000_000;

/// In what a figure is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Count,
    PerSecond,
    Bytes,
    BytesPerSecond,
    Millis,
    Micros,
    Cores,
}

/// How the rounds' values become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fold {
    Median,
    Sum,
}

/// One number of a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    pub(crate) unit: Unit,
    pub(crate) fold: Fold,
    pub(crate) value: f64,
}

/// A remark on a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The figures are not valid.
    pub(crate) spoils: bool,
    pub(crate) text: String,
}

/// Collects figures in the order in which they are shown.
#[derive(Default)]
struct Figures {
    list: Vec<Figure>,
}

impl Figures {
    fn add(&mut self, key: &'static str, label: &'static str, unit: Unit, value: Option<f64>) {
        if let Some(value) = value {
            self.list.push(Figure { key, label, unit, fold: Fold::Median, value });
        }
    }

    fn count(&mut self, key: &'static str, label: &'static str, value: u64) {
        let value = value as f64;
        self.list.push(Figure { key, label, unit: Unit::Count, fold: Fold::Sum, value });
    }
}

fn millis(nanos: i64) -> f64 {
    nanos as f64 / 1e6
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

/// The figures of one round.
pub(crate) fn figures(plan: &Plan, round: &Round) -> Vec<Figure> {
    let mut figures = Figures::default();
    let measured = &round.measured;
    let seconds = round.span.as_secs_f64().max(1e-9);
    figures.count("connected", "connected", round.opening.connected + measured.connected);
    figures.count("failed", "not connected", round.opening.failed() + measured.failed());
    match plan.kind {
        Kind::Idle { .. } => add_memory(&mut figures, round),
        Kind::Beat { .. } => {
            figures.add(
                "sent_per_second",
                "heartbeats",
                Unit::PerSecond,
                Some(measured.sent as f64 / seconds),
            );
            let (key, label) = ("cpu_per_heartbeat_us", "server CPU per heartbeat");
            add_cpu(&mut figures, round, key, label, measured.sent);
            add_dropped(&mut figures, round);
        }
        Kind::Flood { .. } => {
            let messages = measured.sent_bytes / plan.dialect.message.len().max(1) as u64;
            figures.add("sent_per_second", "messages", Unit::PerSecond, Some(messages as f64 / seconds));
            let bytes = measured.sent_bytes as f64 / seconds;
            figures.add("bytes_per_second", "bytes", Unit::BytesPerSecond, Some(bytes));
            add_cpu(&mut figures, round, "cpu_per_message_us", "server CPU per message", messages);
            add_dropped(&mut figures, round);
        }
        Kind::Exchange { size, .. } => exchange::add(&mut figures, round, size),
        Kind::Reap { .. } | Kind::Once { .. } | Kind::Short { .. } => {
            add_lateness(&mut figures, round);
            if matches!(plan.kind, Kind::Reap { .. }) {
                let label = "ended while beating";
                figures.count("dropped", label, round.opening.dropped + measured.dropped);
            }
        }
        Kind::Churn { .. } => {
            let count = measured.spans.count();
            let rate = Some(count as f64 / seconds);
            figures.add("churned_per_second", "connections", Unit::PerSecond, rate);
            let (key, label) = ("cpu_per_connection_us", "server CPU per connection");
            add_cpu(&mut figures, round, key, label, count);
            add_spans(&mut figures, round, ["life p50", "life p99", "life p99.9", "life max"]);
            figures.count("never", "never closed by the server", measured.never);
        }
        Kind::Storm { .. } => {
            figures.count("in_again", "in again", measured.spans.count().saturating_sub(measured.dropped));
            if plan.dialect.pulse {
                figures.count("resumed", "their sessions resumed", measured.resumed);
            }
            add_dropped(&mut figures, round);
            figures.count("never", "never in again", measured.never);
            add_spans(
                &mut figures,
                round,
                ["in again p50", "in again p99", "in again p99.9", "all in again"],
            );
            let (key, label) = ("cpu_per_connection_us", "server CPU per connection");
            add_cpu(&mut figures, round, key, label, measured.spans.count());
        }
    }
    let server = round.server.map(|server| server.cpu.all.as_secs_f64() / seconds);
    figures.add("server_cores", "server CPU", Unit::Cores, server);
    add_generator(&mut figures, round);
    figures.list
}

fn add_dropped(figures: &mut Figures, round: &Round) {
    figures.count("dropped", "ended by the server", round.opening.dropped + round.measured.dropped);
}

fn add_memory(figures: &mut Figures, round: &Round) {
    let Some(server) = round.server else { return };
    let per_connection = |bytes: u64| Some((bytes as f64 - server.before as f64) / round.open.max(1) as f64);
    let label = "server memory per connection";
    figures.add("memory_per_connection", label, Unit::Bytes, per_connection(server.with));
    if let Some(after) = server.after {
        let label = "kept per connection when all have left";
        figures.add("memory_kept_per_connection", label, Unit::Bytes, per_connection(after));
        figures.add("memory_before", "server memory before", Unit::Bytes, Some(server.before as f64));
        figures.add("memory_with", "with all connections", Unit::Bytes, Some(server.with as f64));
        figures.add("memory_after", "after they have left", Unit::Bytes, Some(after as f64));
    }
}

fn add_cpu(figures: &mut Figures, round: &Round, key: &'static str, label: &'static str, count: u64) {
    let Some(server) = round.server.filter(|_| count > 0) else { return };
    let each = micros(server.cpu.all) / count as f64;
    figures.add(key, label, Unit::Micros, Some(each));
    let user = server.cpu.user_share().map(|share| each * share);
    figures.add("cpu_user_us", "of it outside the kernel", Unit::Micros, user);
}

fn add_lateness(figures: &mut Figures, round: &Round) {
    let late = Sorted::new(round.measured.late.clone());
    figures.count("ended", "ended by the server", late.count() as u64);
    figures.count("early", "of them too early", late.negative() as u64);
    figures.count("never", "never ended", round.measured.never);
    figures.add("late_min_ms", "late min", Unit::Millis, late.min().map(millis));
    figures.add("late_p50_ms", "late p50", Unit::Millis, late.at(0.5).map(millis));
    figures.add("late_p99_ms", "late p99", Unit::Millis, late.at(0.99).map(millis));
    figures.add("late_p999_ms", "late p99.9", Unit::Millis, late.at(0.999).map(millis));
    figures.add("late_max_ms", "late max", Unit::Millis, late.at(1.0).map(millis));
}

fn add_spans(figures: &mut Figures, round: &Round, labels: [&'static str; 4]) {
    let spans = &round.measured.spans;
    let keys = ["span_p50_ms", "span_p99_ms", "span_p999_ms", "span_max_ms"];
    for ((key, label), share) in keys.into_iter().zip(labels).zip(crate::statistics::SHARES) {
        figures.add(key, label, Unit::Millis, spans.at(share).map(millis));
    }
}

fn add_generator(figures: &mut Figures, round: &Round) {
    let seconds = round.span.as_secs_f64().max(1e-9);
    let own = round.own_cpu.as_secs_f64() / seconds;
    figures.add("generator_cores", "generator CPU", Unit::Cores, Some(own));
    let lag = round.measured.lag.at(0.99).map(millis);
    figures.add("send_lag_p99_ms", "generator sends late p99", Unit::Millis, lag);
    let turn = Some(millis(i64::try_from(round.measured.turn_max).unwrap_or(i64::MAX)));
    figures.add("turn_max_ms", "generator looks away, max", Unit::Millis, turn);
}

/// The remarks on a round. The null server has no rules, so it has to end nobody.
pub(crate) fn findings(plan: &Plan, round: &Round, has_rules: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |spoils: bool, text: String| findings.push(Finding { spoils, text });
    let measured = &round.measured;
    let mut failures = round.opening.failures.clone();
    for (cause, count) in &measured.failures {
        *failures.entry(cause).or_default() += count;
    }
    if !failures.is_empty() {
        let total: u64 = failures.values().sum();
        let causes: Vec<String> = failures.iter().map(|(cause, count)| format!("{count} {cause}")).collect();
        say(true, format!("{} did not come to be: {}", counted(total, "connection"), causes.join(", ")));
    }
    if plan.kind.opens_first() && round.open < plan.connections && failures.is_empty() {
        let missing = plan.connections - round.open;
        say(
            true,
            format!(
                "{missing} of {} connections were gone before the measurement began: {WANTED}",
                plan.connections
            ),
        );
    }
    let ends = match plan.kind {
        Kind::Idle { .. }
        | Kind::Beat { .. }
        | Kind::Flood { .. }
        | Kind::Exchange { .. }
        | Kind::Storm { .. } => measured.dropped,
        Kind::Reap { .. } | Kind::Once { .. } | Kind::Short { .. } | Kind::Churn { .. } => 0,
    };
    if ends > 0 {
        say(true, format!("the server ended {} meanwhile: {WANTED}", counted(ends, "connection")));
    }
    say_byes(plan, round, &mut say);
    if let Kind::Exchange { size, window, rate, .. } = plan.kind {
        exchange::say(round, size, window, rate, &mut say);
    }
    say_verdict(plan, round, has_rules, &mut say);
    say_bottleneck(plan, round, has_rules, &mut say);
    if round.server.is_some() && round.others > OTHERS_MAX {
        say(
            false,
            format!(
                "other programs used {:.1} cores meanwhile; figures of time are worse for it",
                round.others
            ),
        );
    }
    findings
}

const WANTED: &str = "are its limits and its timeout large enough for this load?";

/// Why the server ended connections, where it said so for another reason than is wanted.
fn say_byes(plan: &Plan, round: &Round, say: &mut impl FnMut(bool, String)) {
    let wanted = match plan.kind {
        Kind::Reap { .. } | Kind::Once { .. } => Some(CloseReason::HeartbeatTimeout.code()),
        Kind::Short { .. } => Some(CloseReason::ShortDeadline.code()),
        Kind::Idle { .. }
        | Kind::Beat { .. }
        | Kind::Flood { .. }
        | Kind::Exchange { .. }
        | Kind::Churn { .. }
        | Kind::Storm { .. } => None,
    };
    for (code, count) in round.opening.byes.iter().chain(&round.measured.byes) {
        if Some(*code) != wanted {
            say(false, format!("the server said BYE {code} ({}) to {count} of those it ended", word(*code)));
        }
    }
    let faults = round.opening.faults + round.measured.faults;
    if faults > 0 {
        say(
            true,
            format!(
                "the server broke the protocol {}: does it speak version 1 of it?",
                counted(faults, "time")
            ),
        );
    }
}

fn say_verdict(plan: &Plan, round: &Round, has_rules: bool, say: &mut impl FnMut(bool, String)) {
    let measured = &round.measured;
    if matches!(plan.kind, Kind::Churn { .. } | Kind::Storm { .. }) && measured.never > 0 {
        say(true, format!("{} had no answer", counted(measured.never, "connection")));
    }
    let (flag, limit) = match plan.kind {
        Kind::Reap { timeout, .. } | Kind::Once { timeout, .. } => ("--timeout", timeout),
        Kind::Short { deadline, .. } => ("--deadline", deadline),
        Kind::Idle { .. }
        | Kind::Beat { .. }
        | Kind::Flood { .. }
        | Kind::Exchange { .. }
        | Kind::Churn { .. }
        | Kind::Storm { .. } => return,
    };
    if !has_rules {
        return;
    }
    let limit = text::duration(limit);
    let early = measured.late.iter().filter(|late| **late < 0).count();
    if measured.late.is_empty() {
        say(
            true,
            format!("nobody was ended: does the server end such clients after {limit}? {flag} says so"),
        );
    } else if early == measured.late.len() {
        say(true, format!("everybody was ended before {limit}: is {flag} what the server has?"));
    } else if early > 0 {
        say(false, format!("ended before {limit} had passed: {early}"));
    }
    let dropped = round.opening.dropped + measured.dropped;
    if dropped > 0 {
        say(false, format!("ended though they went on sending: {dropped}"));
    }
}

fn say_bottleneck(plan: &Plan, round: &Round, has_rules: bool, say: &mut impl FnMut(bool, String)) {
    let measured = &round.measured;
    let seconds = round.span.as_secs_f64().max(1e-9);
    let busy = (round.busiest * 100.0).round();
    if let Kind::Beat { every, .. } = plan.kind {
        let asked = round.open as f64 * seconds / every.as_secs_f64();
        if (measured.sent as f64) < asked * SENT_MIN - 1.0 {
            let share = 100.0 * measured.sent as f64 / asked;
            say(
                true,
                format!(
                    "only {share:.0} % of the heartbeats went out (generator threads {busy} % busy): give it more --threads or less to do"
                ),
            );
        }
    }
    if let Some(lag) = measured.lag.at(0.99).filter(|lag| *lag > LAG_MAX) {
        let late = millis(lag).round();
        say(
            false,
            format!("one message in a hundred went out {late} ms late or more, so they came in bunches"),
        );
    }
    if !has_rules {
        return;
    }
    let limits_itself =
        round.server.is_some_and(|server| server.cpu.all.as_secs_f64() / seconds > SERVER_BUSY);
    let outruns = match plan.kind {
        // It always has more to send: the server took it all, or had to be waited for.
        Kind::Flood { .. } => measured.blocked > 0,
        Kind::Idle { .. }
        | Kind::Beat { .. }
        | Kind::Exchange { .. }
        | Kind::Reap { .. }
        | Kind::Once { .. }
        | Kind::Short { .. }
        | Kind::Churn { .. }
        | Kind::Storm { .. } => round.busiest <= BUSY_MAX,
    };
    if !limits_itself && !outruns {
        say(
            true,
            format!(
                "the load generator was the bottleneck (a thread {busy} % busy): the server can do more; give it more \
                 --threads, or cores of its own"
            ),
        );
    }
}

#[cfg(test)]
mod tests;
