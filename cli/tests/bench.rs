//! The load generator of the real program, small, against the real gateway and against the null server: what it counts
//! is consistent. Nothing is judged by how fast the machine is.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::program::{Program, pulsegate, pulsegate_with_descriptors};
use common::wait_until;
use serde_json::Value;
use std::process::Command;

const CLIENTS: &str = "200";

/// What a bench said, and its exit code.
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    fn of(command: Command) -> Self {
        let mut program = Program::start(command);
        let code = program.wait();
        Self { code, stdout: program.stdout(), stderr: program.stderr() }
    }

    /// Measured, whether or not it is valid: on a slow machine the generator may be the bottleneck.
    #[track_caller]
    fn json(&self) -> Value {
        assert!(matches!(self.code, Some(0 | 3)), "{:?}: {}{}", self.code, self.stdout, self.stderr);
        let json: Value = serde_json::from_str(&self.stdout).unwrap();
        assert_eq!(json["valid"], self.code == Some(0), "{json:#}");
        json
    }
}

/// A bench with JSON.
fn bench(mode: &str, address: &str, args: &[&str]) -> Outcome {
    Outcome::of(pulsegate(&[&["bench", mode, address, "--json"], args].concat()))
}

fn serve(args: &[&str]) -> (Program, String) {
    let (program, address) = Program::serve(&[&["--sink", "discard"], args].concat());
    (program, address.to_string())
}

/// A null server that listens.
fn null(args: &[&str]) -> (Program, String) {
    let program = Program::start(pulsegate(&[&["bench", "null"], args].concat()));
    wait_until("the null server listens", || program.stdout().contains('\n'));
    let address = program.stdout().trim().strip_prefix("listening on ").unwrap().to_owned();
    (program, address)
}

#[track_caller]
fn figure(json: &Value, key: &str) -> f64 {
    json["figures"][key]["value"].as_f64().unwrap_or_else(|| panic!("no {key} in {json:#}"))
}

#[track_caller]
fn check(json: &Value, expected: &[(&str, f64)]) {
    for (key, value) in expected {
        assert!((figure(json, key) - value).abs() < 1e-9, "{key} is not {value}: {:#}", json["figures"]);
    }
}

#[test]
fn silent_clients_are_ended_and_none_early() {
    let (_server, address) = serve(&["--long", "2s"]);
    let args = [
        "--connections",
        CLIENTS,
        "--timeout",
        "2s",
        "--spread",
        "500ms",
        "--beating",
        "50",
        "--every",
        "200ms",
    ];
    let json = bench("reap", &address, &args).json();
    check(&json, &[("connected", 200.0), ("ended", 150.0), ("early", 0.0), ("never", 0.0), ("failed", 0.0)]);
    assert!(figure(&json, "late_min_ms") >= 0.0);
    let ladder = ["late_min_ms", "late_p50_ms", "late_p99_ms", "late_p999_ms", "late_max_ms"];
    assert!(ladder.windows(2).all(|pair| figure(&json, pair[0]) <= figure(&json, pair[1])), "{json:#}");
    let curve = json["curves"][0]["points_ms_share"].as_array().unwrap();
    assert_eq!(curve.last().unwrap()[1], 1.0);
}

#[test]
fn clients_that_send_once_when_they_connect_are_ended_and_none_early() {
    let (_server, address) = serve(&["--long", "1s"]);
    let args = ["--connections", CLIENTS, "--timeout", "1s", "--open-rate", "1000", "--once"];
    let json = bench("reap", &address, &args).json();
    check(&json, &[("connected", 200.0), ("ended", 200.0), ("early", 0.0), ("never", 0.0), ("failed", 0.0)]);
    assert!(figure(&json, "late_min_ms") >= 0.0);
    assert_eq!(json["settings"]["spread"], "200ms");
}

#[test]
fn clients_that_go_on_sending_are_ended_at_the_deadline() {
    let (_server, address) = serve(&["--short", "1s"]);
    let args = ["--connections", CLIENTS, "--deadline", "1s", "--spread", "300ms", "--every", "100ms"];
    let json = bench("short", &address, &args).json();
    check(&json, &[("connected", 200.0), ("ended", 200.0), ("early", 0.0), ("never", 0.0)]);
}

#[test]
fn idle_connections_are_held_and_weighed() {
    let (server, address) = serve(&["--long", "60s", "--first-message", "60s"]);
    let id = server.id().to_string();
    let json = bench("idle", &address, &["--connections", CLIENTS, "--for", "500ms", "--pid", &id]).json();
    check(&json, &[("connected", 200.0), ("failed", 0.0)]);
    let (before, with) = (figure(&json, "memory_before"), figure(&json, "memory_with"));
    assert!((with - before - figure(&json, "memory_per_connection") * 200.0).abs() < 1.0, "{json:#}");
    let series = json["rounds"][0]["series"].as_array().unwrap();
    assert!(series.iter().any(|sample| sample["open"] == 200), "{json:#}");
}

/// As a newcomer runs it: against a server that is started as the help says.
#[test]
fn the_first_example_works_against_the_server_that_the_help_names() {
    let help = Outcome::of(pulsegate(&["bench", "--help"])).stdout;
    let (heading, examples) =
        help.split_once("Examples, against `pulsegate serve ").unwrap().1.split_once('\n').unwrap();
    let flags: Vec<_> = heading.split_once('`').unwrap().0.split(' ').collect();
    let example = examples.lines().next().unwrap().trim();
    let ends = (0..3).map(|_| {
        let (server, address) = Program::serve(&flags);
        let command = example
            .replace("127.0.0.1:7373", &address.to_string())
            .replace("$(pidof pulsegate)", &server.id().to_string());
        let outcome = Outcome::of(pulsegate(&command.split(' ').skip(1).collect::<Vec<_>>()));
        assert!(matches!(outcome.code, Some(0 | 3)), "{}{}", outcome.stdout, outcome.stderr);
        outcome.stdout + &outcome.stderr
    });
    // A machine that is too busy to connect them all in time gets a second try.
    let mut said = String::new();
    for outcome in ends {
        if !outcome.contains("the server ended") {
            return;
        }
        said = outcome;
    }
    panic!("{example}: {said}");
}

#[test]
fn heartbeats_are_sent_evenly_and_cost_something() {
    let (server, address) = serve(&["--long", "60s"]);
    let id = server.id().to_string();
    let args = ["--connections", CLIENTS, "--every", "200ms", "--for", "1s", "--pid", &id];
    let json = bench("beat", &address, &args).json();
    check(&json, &[("connected", 200.0), ("dropped", 0.0)]);
    assert!(
        figure(&json, "sent_per_second") > 0.0 && figure(&json, "cpu_per_heartbeat_us") > 0.0,
        "{json:#}"
    );
}

#[test]
fn a_flood_counts_its_messages() {
    let (_server, address) = serve(&["--long", "60s"]);
    let json = bench("flood", &address, &["--connections", "4", "--for", "500ms", "--size", "64"]).json();
    let (messages, bytes) = (figure(&json, "sent_per_second"), figure(&json, "bytes_per_second"));
    assert!(messages > 0.0 && (bytes / messages - 64.0).abs() < 1.0, "{json:#}");
}

#[test]
fn churned_connections_are_all_closed() {
    let (_server, address) = serve(&[]);
    let json = bench("churn", &address, &["--connections", "20", "--for", "500ms"]).json();
    check(&json, &[("failed", 0.0), ("never", 0.0)]);
    assert!(figure(&json, "churned_per_second") > 0.0);
    let json = bench("churn", &address, &["--connections", "20", "--for", "500ms", "--rate", "100"]).json();
    let connected = figure(&json, "connected");
    assert!((1.0..=60.0).contains(&connected), "a pace of 100 per second was asked for: {json:#}");
}

#[test]
fn after_a_storm_all_are_in_again() {
    let (_server, address) = serve(&[]);
    let json = bench("storm", &address, &["--connections", CLIENTS]).json();
    check(&json, &[("in_again", 200.0), ("never", 0.0), ("dropped", 0.0), ("connected", 400.0)]);
    assert!(figure(&json, "span_p50_ms") <= figure(&json, "span_max_ms"));
}

#[test]
fn an_answer_may_be_waited_for() {
    let (_server, address) = Program::serve(&["--sink", "echo"]);
    let args = ["--connections", "50", "--answered", "--message", r"hello\n"];
    let json = bench("storm", &address.to_string(), &args).json();
    check(&json, &[("in_again", 50.0), ("never", 0.0)]);
}

fn serve_pulse(args: &[&str]) -> (Program, String) {
    serve(&[&["--protocol", "pulse"], args].concat())
}

/// A gateway whose store is in this folder.
fn serve_store(folder: &tempfile::TempDir, args: &[&str]) -> (Program, String) {
    let folder = folder.path().to_str().unwrap();
    let store = ["--protocol", "pulse", "--sink", "store", "--data-dir", folder];
    let (program, address) = Program::serve(&[&store, args].concat());
    (program, address.to_string())
}

const NOTHING_LOST: [(&str, f64); 5] =
    [("failed", 0.0), ("refused", 0.0), ("unknown", 0.0), ("never", 0.0), ("dropped", 0.0)];

#[test]
fn an_exchange_counts_receipts_and_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let (server, address) = serve_store(&folder, &["--durability", "os"]);
    let id = server.id().to_string();
    let page = folder.path().join("exchange.html");
    let args = ["--connections", "8", "--window", "4", "--for", "1s", "--size", "100", "--pid", &id];
    let args = [&args[..], &["--html", page.to_str().unwrap()]].concat();
    let json = bench("exchange", &address, &args).json();
    check(&json, &NOTHING_LOST);
    check(&json, &[("connected", 8.0)]);
    assert_eq!(json["settings"]["durability"], "os", "{json:#}");
    assert_eq!(json["settings"]["gateway_window_messages"], "256", "{json:#}");
    let (messages, bytes) = (figure(&json, "messages_per_second"), figure(&json, "bytes_per_second"));
    assert!(messages > 0.0 && (bytes / messages - 100.0).abs() < 1e-6, "{json:#}");
    let ladder = ["latency_p50_us", "latency_p90_us", "latency_p99_us", "latency_p999_us", "latency_max_us"];
    assert!(ladder.windows(2).all(|pair| figure(&json, pair[0]) <= figure(&json, pair[1])), "{json:#}");
    assert!(figure(&json, "latency_p50_us") > 0.0 && figure(&json, "cpu_per_message_us") > 0.0, "{json:#}");
    assert!(std::fs::read_to_string(page).unwrap().contains("Send to receipt: histogram"));
}

#[test]
fn a_pace_is_kept_and_its_time_counts_from_when_messages_were_due() {
    let (server, address) = serve_pulse(&["--long", "60s"]);
    let args = ["--connections", "10", "--rate", "200", "--for", "2s"];
    let json = bench("exchange", &address, &args).json();
    check(&json, &NOTHING_LOST);
    let messages = figure(&json, "messages_per_second");
    assert!(messages > 0.0 && messages <= 201.0, "{json:#}");
    assert_eq!(json["settings"]["durability"], "none", "{json:#}");
    // Stopped in the middle: those that were due meanwhile have waited, though they could not be sent.
    let id = server.id().to_string();
    let stop = format!("sleep 1; kill -STOP {id}; sleep 1; kill -CONT {id}");
    let mut stopper = Command::new("sh").args(["-c", &stop]).spawn().unwrap();
    let args = ["--connections", "2", "--window", "1", "--rate", "100", "--for", "3s"];
    let json = bench("exchange", &address, &args).json();
    stopper.wait().unwrap();
    check(&json, &NOTHING_LOST);
    assert!(figure(&json, "latency_p90_us") > 500_000.0, "a third of all was due in that second: {json:#}");
}

#[test]
fn an_exchange_whose_sessions_end_is_not_valid() {
    let (_server, address) = serve_pulse(&["--max-age", "1s"]);
    let outcome = bench("exchange", &address, &["--connections", "4", "--for", "3s"]);
    let json = outcome.json();
    check(&json, &[("connected", 4.0), ("dropped", 4.0), ("never", 0.0)]);
    assert_eq!(outcome.code, Some(3), "{json:#}");
    for said in ["the server ended 4 connections", "BYE 13 (maximum age)"] {
        assert!(outcome.stdout.contains(said), "{said}: {json:#}");
    }
}

#[test]
fn who_does_not_let_sessions_in_is_not_measured() {
    for (address, said) in [
        (serve(&["--protocol", "raw"]), "raw listener"),
        (serve_pulse(&["--max-per-address", "3"]), "3 connections did not come to be: 3 address limit"),
    ]
    .iter()
    .map(|((_server, address), said)| (address, said))
    {
        let outcome = bench("exchange", address, &["--connections", "6", "--for", "200ms"]);
        assert_eq!(outcome.code, Some(3), "{}", outcome.stdout);
        assert!(outcome.stdout.contains(said), "{said}: {}", outcome.stdout);
    }
}

#[test]
fn sessions_are_held_weighed_and_ended_when_they_fall_silent() {
    let folder = tempfile::tempdir().unwrap();
    let (server, address) = serve_store(&folder, &["--long", "1200ms"]);
    let id = server.id().to_string();
    // Twice the timeout: those that have nothing to say live by their answers.
    let args = ["--pulse", "--connections", CLIENTS, "--for", "2500ms", "--pid", &id];
    let json = bench("idle", &address, &args).json();
    check(&json, &[("connected", 200.0), ("failed", 0.0)]);
    let series = json["rounds"][0]["series"].as_array().unwrap();
    assert!(series.iter().all(|sample| sample["ended"] == 0), "{json:#}");
    let args =
        ["--pulse", "--connections", CLIENTS, "--timeout", "1200ms", "--spread", "300ms", "--beating", "50"];
    let outcome = bench("reap", &address, &args);
    check(&outcome.json(), &[("ended", 150.0), ("early", 0.0), ("never", 0.0), ("dropped", 0.0)]);
    assert!(!outcome.stdout.contains("said BYE"), "all were told what is true: {}", outcome.stdout);
}

#[test]
fn sessions_come_again_and_are_forgotten_when_they_have_said_goodbye() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, address) = serve_store(&folder, &[]);
    for _ in 0..2 {
        let json = bench("storm", &address, &["--pulse", "--connections", "50"]).json();
        check(&json, &[("in_again", 50.0), ("resumed", 50.0), ("never", 0.0), ("dropped", 0.0)]);
    }
    let json = bench("churn", &address, &["--pulse", "--connections", "5", "--for", "500ms"]).json();
    check(&json, &[("failed", 0.0), ("never", 0.0)]);
}

/// The programs that were started with this mark in their environment.
fn marked(mark: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let has_mark = |path: &std::path::PathBuf| {
        let environment = std::fs::read(path.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|pair| pair == mark.as_bytes())
    };
    processes.filter(has_mark).count()
}

fn with_mark(mut command: Command, mark: &str) -> Command {
    let (name, value) = mark.split_once('=').unwrap();
    command.env(name, value);
    command
}

#[test]
fn the_null_server_is_compared_with_and_ends() {
    let (server, address) = serve(&["--long", "60s"]);
    let mark = format!("BENCH_MARK=compared-{}", std::process::id());
    let id = server.id().to_string();
    let args = [
        "bench",
        "beat",
        &address,
        "--json",
        "--null",
        "--rounds",
        "2",
        "--connections",
        CLIENTS,
        "--every",
        "200ms",
        "--for",
        "500ms",
        "--pid",
        &id,
    ];
    let json = Outcome::of(with_mark(pulsegate(&args), &mark)).json();
    let targets: Vec<_> = json["rounds"].as_array().unwrap().iter().map(|round| &round["target"]).collect();
    assert_eq!(targets, ["null", "server", "null", "server"]);
    let cost = &json["figures"]["cpu_per_heartbeat_us"];
    let ratio = cost["value"].as_f64().unwrap() / cost["null"].as_f64().unwrap();
    assert!((ratio - cost["ratio"].as_f64().unwrap()).abs() < 1e-9, "{cost:#}");
    assert_eq!(cost["null_rounds"].as_array().unwrap().len(), 2);
    assert_eq!(marked(&mark), 0, "the null server has outlived the bench");
}

#[test]
fn the_null_server_ends_with_a_bench_that_is_killed() {
    let (_server, address) = serve(&["--long", "60s"]);
    let mark = format!("BENCH_MARK=killed-{}", std::process::id());
    let args = ["bench", "idle", &address, "--null", "--connections", "10", "--for", "60s"];
    let mut bench = Program::start(with_mark(pulsegate(&args), &mark));
    wait_until("the null server runs", || marked(&mark) == 2);
    bench.signal("KILL");
    bench.wait();
    wait_until("the null server has ended", || marked(&mark) == 0);
}

#[test]
fn more_connections_than_a_descriptor_table_has_take_more_tables() {
    let (_server, address) = serve(&["--long", "60s"]);
    let args = ["bench", "idle", &address, "--json", "--connections", CLIENTS, "--for", "300ms"];
    let outcome = Outcome::of(pulsegate_with_descriptors(100, &args));
    if outcome.stderr.contains("unshare is not permitted") {
        println!("skipped: {}", outcome.stderr);
        return;
    }
    let json = outcome.json();
    check(&json, &[("connected", 200.0), ("failed", 0.0)]);
    assert_eq!(json["settings"]["threads"], "3", "each has room for 68 at most");
}

#[test]
fn the_null_server_parts_its_tables_too() {
    let args = ["bench", "null", "--threads", "4"];
    let server = Program::start(pulsegate_with_descriptors(100, &args));
    wait_until("the null server listens", || server.stdout().contains('\n'));
    let address = server.stdout().trim().strip_prefix("listening on ").unwrap().to_owned();
    let json = bench("idle", &address, &["--connections", "160", "--for", "300ms"]).json();
    check(&json, &[("connected", 160.0), ("failed", 0.0)]);
}

#[test]
fn what_is_not_valid_is_said() {
    let (_server, address) = null(&[]);
    let args = ["--connections", "20", "--timeout", "300ms", "--spread", "100ms", "--grace", "200ms"];
    let outcome = Outcome::of(pulsegate(&[&["bench", "reap", &address], &args[..]].concat()));
    assert_eq!(outcome.code, Some(3), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("not valid: nobody was ended"), "{}", outcome.stdout);
    let (_server, address) = serve(&["--long", "300ms"]);
    let outcome = bench("idle", &address, &["--connections", "20", "--for", "1s"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("are its limits and its timeout large enough"), "{}", outcome.stdout);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let outcome = bench("idle", "127.0.0.1:1", &[]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("no connection to 127.0.0.1:1"), "{}", outcome.stderr);
    for (mode, args, said) in [
        ("idle", &["--every", "0s"][..], "--every: must be above zero"),
        ("idle", &["--message", r"\q"][..], "--message: \\q is no escape"),
        ("idle", &["--size", "2MiB"][..], "--size: 2097152 is out of range"),
        ("idle", &["--connections", "1000", "--threads", "1", "--sources", "0"][..], "not a count"),
        ("reap", &["--beating", "1000"][..], "leave none to fall silent"),
        ("reap", &["--every", "9s"][..], "--every: must be shorter than --timeout"),
        ("storm", &["--null", "--answered"][..], "cannot be used with"),
        ("idle", &["--null", "--pulse"][..], "cannot be used with"),
        ("flood", &["--pulse"][..], "use `bench exchange`"),
        ("exchange", &["--message", "hello"][..], "--message: has no meaning in the pulse protocol"),
    ] {
        let outcome = bench(mode, "127.0.0.1:1", args);
        assert_eq!(outcome.code, Some(2), "{args:?}");
        assert!(outcome.stderr.contains(said), "{args:?}: {}", outcome.stderr);
    }
    let outcome = bench("idle", "nowhere", &[]);
    assert!(outcome.code == Some(2) && outcome.stderr.contains("write host:port"), "{}", outcome.stderr);
}

#[test]
fn the_page_loads_nothing_from_elsewhere() {
    let (_server, address) = serve(&["--long", "500ms"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reap.html");
    let args = [
        "bench",
        "reap",
        &address,
        "--connections",
        "50",
        "--timeout",
        "500ms",
        "--spread",
        "100ms",
        "--html",
        path.to_str().unwrap(),
    ];
    let outcome = Outcome::of(pulsegate(&args));
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
    let table = outcome.stdout;
    assert!(table.contains("ended by the server") && table.contains("late p99"), "{table}");
    let page = std::fs::read_to_string(path).unwrap();
    for part in ["<svg", "Late: histogram", "Connections", "prefers-color-scheme"] {
        assert!(page.contains(part), "{part}");
    }
    for foreign in ["http:", "https:", "<script", "src=", "@import", "url(", "<link", "NaN"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let opened = page.matches("<figure>").count();
    assert!(opened >= 4 && opened == page.matches("</svg></figure>").count());
}
