//! What a round's counts amount to.

use super::*;
use crate::dialect::Dialect;
use crate::round::ServerUse;
use crate::tally::Tally;
use crate::watch::{CpuTime, Processes};

const SECOND: Duration = Duration::from_secs(1);

fn plan(kind: Kind) -> Plan {
    Plan {
        kind,
        address: ([127, 0, 0, 1], 1).into(),
        connections: 100,
        dialect: Dialect::raw(32, None, None),
        tick: Duration::ZERO,
        open_rate: 1,
        servers: Processes::default(),
    }
}

fn round(measured: Tally) -> Round {
    Round {
        opening: Tally { connected: 100, ..Tally::default() },
        measured,
        opened_in: SECOND,
        open: 100,
        span: SECOND * 2,
        server: Some(ServerUse {
            before: 1_000_000,
            with: 1_012_800,
            after: Some(1_000_000),
            cpu: CpuTime { all: SECOND, user_ticks: 25, ticks: 100 },
        }),
        own_cpu: SECOND,
        busiest: 0.5,
        others: 0.0,
        series: Vec::new(),
        measured_from: SECOND,
        measured_until: SECOND * 3,
    }
}

fn reap() -> Kind {
    Kind::Reap { timeout: SECOND * 5, spread: SECOND, grace: SECOND, beating: 0, every: SECOND }
}

#[track_caller]
fn check(figures: &[Figure], key: &str, expected: f64) {
    let figure = figures.iter().find(|figure| figure.key == key);
    let value = figure.unwrap_or_else(|| panic!("no {key} in {figures:?}")).value;
    assert!((value - expected).abs() < 1e-6, "{key} is {value}");
}

#[test]
fn idle_divides_what_was_added_by_the_connections() {
    let figures = figures(&plan(Kind::Idle { hold: SECOND, every: None }), &round(Tally::default()));
    check(&figures, "memory_per_connection", 128.0);
    check(&figures, "memory_kept_per_connection", 0.0);
    check(&figures, "connected", 100.0);
    check(&figures, "server_cores", 0.5);
}

#[test]
fn beat_divides_the_servers_time_by_the_heartbeats() {
    let plan = plan(Kind::Beat { every: SECOND, span: SECOND * 2 });
    let figures = figures(&plan, &round(Tally { sent: 200, ..Tally::default() }));
    check(&figures, "sent_per_second", 100.0);
    check(&figures, "cpu_per_heartbeat_us", 5_000.0);
    check(&figures, "cpu_user_us", 1_250.0);
}

#[test]
fn flood_counts_messages_by_their_bytes() {
    let plan = plan(Kind::Flood { span: SECOND * 2, batch: 4 });
    let figures = figures(&plan, &round(Tally { sent_bytes: 32 * 1_000, ..Tally::default() }));
    check(&figures, "sent_per_second", 500.0);
    check(&figures, "bytes_per_second", 16_000.0);
}

fn exchange(window: usize, rate: Option<u64>) -> Plan {
    let kind = Kind::Exchange { span: SECOND * 2, size: 256, window, rate, every: SECOND };
    Plan { dialect: Dialect::pulse(), ..plan(kind) }
}

fn settled() -> Tally {
    let mut tally = Tally { settled: 900, sending: SECOND, ..Tally::default() };
    tally.spans.record_many(2_000_000, 1_000);
    tally
}

#[test]
fn exchange_divides_the_time_of_sending_by_what_was_settled_in_it() {
    let (plan, round) = (exchange(8, None), round(settled()));
    let figures = figures(&plan, &round);
    for (key, expected) in [
        ("messages_per_second", 900.0),
        ("bytes_per_second", 230_400.0),
        ("cpu_per_message_us", 1_000.0),
        ("generator_per_message_us", 1_000.0),
        ("never", 0.0),
    ] {
        check(&figures, key, expected);
    }
    let middle = figures.iter().find(|figure| figure.key == "latency_p50_us").unwrap().value;
    assert!((middle - 2_000.0).abs() < 2.0, "{middle}");
    assert_eq!(findings(&plan, &round, true), []);
}

#[test]
fn what_spoils_an_exchange_is_said() {
    let spoilt = |tally: Tally, said: &str| check_spoilt(exchange(8, None).kind, &round(tally), true, said);
    spoilt(Tally::default(), "no receipt came");
    spoilt(Tally { never: 2, ..settled() }, "2 messages had no receipt");
    spoilt(Tally { refused: 3, ..settled() }, "not accepted: 3 messages");
    spoilt(Tally { dropped: 1, ..settled() }, "the server ended 1 connection meanwhile");
    spoilt(Tally { faults: 1, ..settled() }, "broke the protocol");
    let said = findings(&exchange(8, Some(1_000)), &round(Tally { unsent: 77, ..settled() }), true);
    assert!(said.len() == 1 && said[0].text.contains("only 90 %") && said[0].text.contains("77"), "{said:?}");
}

#[test]
fn reap_tells_the_early_from_the_late() {
    let late = vec![3_000_000, -1_000_000, 1_000_000, 2_000_000];
    let round = round(Tally { late, never: 7, dropped: 2, ..Tally::default() });
    let figures = figures(&plan(reap()), &round);
    for (key, expected) in [
        ("ended", 4.0),
        ("early", 1.0),
        ("never", 7.0),
        ("dropped", 2.0),
        ("late_min_ms", -1.0),
        ("late_p50_ms", 1.0),
        ("late_max_ms", 3.0),
    ] {
        check(&figures, key, expected);
    }
    let findings = findings(&plan(reap()), &round, true);
    assert!(findings.iter().all(|finding| !finding.spoils), "{findings:?}");
    assert_eq!(findings.len(), 2, "the early ones and the dropped ones are said: {findings:?}");
}

#[track_caller]
fn check_spoilt(kind: Kind, round: &Round, has_rules: bool, said: &str) {
    let findings = findings(&plan(kind), round, has_rules);
    let spoils = |finding: &&Finding| finding.spoils && finding.text.contains(said);
    assert!(findings.iter().any(|finding| spoils(&finding)), "{findings:?}");
}

#[test]
fn what_spoils_a_measurement_is_said() {
    let beat = Kind::Beat { every: SECOND, span: SECOND * 2 };
    let flood = Kind::Flood { span: SECOND, batch: 1 };
    let churn = Kind::Churn { span: SECOND, rate: None };
    let mut refused = round(Tally { sent: 200, ..Tally::default() });
    refused.opening.failures.insert("Connection refused", 3);
    check_spoilt(beat, &refused, false, "3 Connection refused");
    check_spoilt(beat, &round(Tally { sent: 150, ..Tally::default() }), true, "only 75 %");
    check_spoilt(beat, &round(Tally { sent: 200, dropped: 1, ..Tally::default() }), true, "ended 1");
    let few = Round { open: 90, ..round(Tally { sent: 180, ..Tally::default() }) };
    check_spoilt(beat, &few, true, "10 of 100 connections were gone");
    check_spoilt(flood, &round(Tally::default()), true, "bottleneck");
    let hurried = Round { busiest: 0.95, ..round(Tally::default()) };
    check_spoilt(churn, &hurried, true, "bottleneck");
    check_spoilt(churn, &round(Tally { never: 1, ..Tally::default() }), true, "1 connection had no answer");
    check_spoilt(reap(), &round(Tally::default()), true, "nobody was ended");
    check_spoilt(
        reap(),
        &round(Tally { late: vec![-1], ..Tally::default() }),
        true,
        "everybody was ended before 5s",
    );
}

#[test]
fn what_is_sound_is_not_spoilt() {
    let flood = Kind::Flood { span: SECOND, batch: 1 };
    let nobody_ended = round(Tally::default());
    assert_eq!(findings(&plan(reap()), &nobody_ended, false), [], "the null server ends nobody");
    assert_eq!(findings(&plan(flood), &nobody_ended, false), [], "the null server may be too fast");
    assert_eq!(findings(&plan(flood), &round(Tally { blocked: 1, ..Tally::default() }), true), []);
    let mut lagging = Tally { blocked: 1, ..Tally::default() };
    lagging.lag.record(30_000_000);
    let said = findings(&plan(flood), &round(lagging), true);
    assert!(said.len() == 1 && !said[0].spoils && said[0].text.contains("30 ms late"), "{said:?}");
    let busy = Round { others: 1.0, ..round(Tally { blocked: 1, ..Tally::default() }) };
    let said = findings(&plan(flood), &busy, true);
    assert!(said.len() == 1 && !said[0].spoils, "{said:?}");
}
