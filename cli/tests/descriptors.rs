//! The real program when descriptors are few: it says so, answers everybody, doesn't spin, and recovers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::program::{Program, pulsegate_with_descriptors};
use common::{connect, hear_text, is_quiet, millis, wait_until};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What a busy loop would exceed by far, over [`WATCHED`].
const CPU_MAX: Duration = millis(700);
const WATCHED: Duration = millis(2_000);

fn serve(descriptors: u32) -> (Program, SocketAddr) {
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--long",
        "60s",
        "--first-message",
        "60s",
        "--shards",
        "1",
        "--sink",
        "discard",
        "--max-connections",
        "1000",
        // All come from one address.
        "--max-per-address",
        "1000",
    ];
    let program = Program::start(pulsegate_with_descriptors(descriptors, &args));
    let address = program.address();
    (program, address)
}

/// Limits the descriptors of the running program, soft and hard separately, so that they can be raised again.
fn limit(program: &Program, soft: usize) {
    let status = Command::new("prlimit")
        .args(["--pid", &program.id().to_string(), &format!("--nofile={soft}:")])
        .status()
        .unwrap();
    assert!(status.success());
}

/// The descriptors of the program's only shard, each with what it stands for.
fn descriptors(program: &Program) -> BTreeMap<usize, String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", program.id())).unwrap();
    let is_shard = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "shard-0\n")
    };
    let shard = tasks.map(|entry| entry.unwrap().path()).find(is_shard).unwrap();
    let folder = std::fs::read_dir(shard.join("fd")).unwrap();
    let paths = folder.map(|entry| entry.unwrap().path());
    // One may be closed between the look into the folder and the look at it.
    let links = paths.filter_map(|path| Some((path.clone(), std::fs::read_link(path).ok()?)));
    links
        .map(|(path, link)| {
            let number = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            (number, link.to_string_lossy().into_owned())
        })
        .collect()
}

fn sockets(program: &Program) -> usize {
    descriptors(program).values().filter(|link| link.starts_with("socket:")).count()
}

/// Leaves the program no free descriptor. What it inherited may stand far above its own.
fn exhaust(program: &Program) {
    let used = descriptors(program);
    limit(program, (0..).find(|number| !used.contains_key(number)).unwrap());
}

/// Those that stay and those that are ended, when the gateway has dealt with all.
fn sort(clients: Vec<TcpStream>, stay: usize) -> (Vec<TcpStream>, Vec<TcpStream>) {
    wait_until("as many stay as there is room for", || {
        clients.iter().filter(|client| is_quiet(client)).count() == stay
    });
    clients.into_iter().partition(is_quiet)
}

/// It either runs, or says why not before it says that it listens; it never panics.
#[test]
fn with_almost_no_descriptors_it_runs_or_says_what_is_missing() {
    let mut outcomes = Vec::new();
    for descriptors in 6..16 {
        let args = ["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--sink", "discard"];
        let mut program = Program::start(pulsegate_with_descriptors(descriptors, &args));
        wait_until("it listens or ends", || {
            !program.is_running() || program.stderr().contains("listening on")
        });
        let runs = program.is_running();
        if runs {
            drop(connect(program.address()));
            program.signal("TERM");
            assert_eq!(program.wait(), Some(0), "{descriptors}: {}", program.stderr());
        } else {
            assert_eq!(program.wait(), Some(1), "{descriptors}: {}", program.stderr());
            let said = program.stderr();
            assert!(!said.contains("listening on") && said.contains("open files"), "{descriptors}: {said}");
        }
        outcomes.push(runs);
    }
    assert!(outcomes.contains(&true) && outcomes.contains(&false), "{outcomes:?}");
}

#[test]
fn without_proc_the_shards_share_one_table() {
    let script =
        "umount -l /proc || exit 77; exec \"$0\" serve --listen 127.0.0.1:0 --shards 2 --sink discard";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_pulsegate")]);
    let mut program = Program::start(command);
    wait_until("it listens or may not", || {
        !program.is_running() || program.stderr().contains("listening on")
    });
    if !program.is_running() {
        assert!(matches!(program.wait(), Some(77 | 1)), "{}", program.stderr());
        println!("SKIPPED: unshare is forbidden here");
        return;
    }
    assert!(program.stderr().contains("/proc is not there"), "{}", program.stderr());
    assert!(is_quiet(&connect(program.address())));
}

#[test]
fn the_lowered_limit_is_said_and_those_over_it_are_answered() {
    let (program, address) = serve(120);
    let log = program.stderr();
    assert!(log.contains("connections_max is lowered from 1000 to 93"), "{log}");
    assert!(log.contains("ulimit -Hn") && log.contains("LimitNOFILE="), "{log}");
    assert!(log.contains("at most 93 connections in all"), "{log}");
    let (mut kept, refused) = sort((0..150).map(|_| connect(address)).collect(), 93);
    assert_eq!(refused.len(), 57);
    for mut client in refused {
        assert_eq!(hear_text(&mut client), "");
    }
    kept.truncate(27);
    let mut newer = Vec::new();
    wait_until("the freed places are taken", || {
        newer.push(connect(address));
        sleep(millis(5));
        newer.iter().filter(|client| is_quiet(client)).count() == 20
    });
    assert!(kept.iter().all(is_quiet), "who was there stays");
    program.signal("TERM");
}

/// Newcomers, one every 20 ms, for as long as the processor time is watched; returns it and them.
fn watch_cpu(program: &Program, address: SocketAddr) -> (Duration, Vec<TcpStream>) {
    let (start, before, mut newcomers) = (Instant::now(), program.cpu_time(), Vec::new());
    while start.elapsed() < WATCHED {
        newcomers.push(connect(address));
        sleep(millis(20));
    }
    (program.cpu_time() - before, newcomers)
}

fn shortage_lines(program: &Program) -> usize {
    program.stderr().matches("can't accept").count()
}

#[test]
fn when_descriptors_run_out_newcomers_see_the_end_and_room_is_used_again() {
    let (program, address) = serve(300);
    let before = sockets(&program);
    let mut clients: Vec<_> = (0..20).map(|_| connect(address)).collect();
    wait_until("they are accepted", || sockets(&program) == before + 20);
    exhaust(&program);
    let (cpu, newcomers) = watch_cpu(&program, address);
    assert!(cpu < CPU_MAX, "{cpu:?} of processor time in {WATCHED:?}");
    for mut newcomer in newcomers {
        assert_eq!(hear_text(&mut newcomer), "");
    }
    assert!(clients.iter().all(is_quiet));
    assert_eq!(shortage_lines(&program), 1, "{}", program.stderr());
    clients.truncate(10);
    wait_until("newcomers are let in again", || {
        let newcomer = connect(address);
        sleep(millis(50));
        let stays = is_quiet(&newcomer);
        clients.push(newcomer);
        stays
    });
}

#[test]
fn with_the_spare_descriptor_lost_it_neither_spins_nor_dies() {
    let (program, address) = serve(300);
    let before = sockets(&program);
    limit(&program, 3);
    let (cpu, waiting) = watch_cpu(&program, address);
    assert!(cpu < CPU_MAX, "{cpu:?} of processor time in {WATCHED:?}");
    assert!(waiting.iter().all(is_quiet));
    assert!(shortage_lines(&program) >= 1);
    limit(&program, 300);
    wait_until("all that waited are accepted", || sockets(&program) == before + waiting.len());
    assert!(waiting.iter().all(is_quiet));
}

#[test]
fn a_spare_descriptor_that_was_lost_is_found_again() {
    let (program, address) = serve(300);
    let before = sockets(&program);
    limit(&program, 3);
    let first = connect(address);
    wait_until("the shortage is felt", || shortage_lines(&program) == 1);
    limit(&program, 300);
    let second = connect(address);
    wait_until("both are accepted", || sockets(&program) == before + 2);
    sleep(millis(300));
    exhaust(&program);
    let mut third = connect(address);
    assert_eq!(hear_text(&mut third), "", "a newcomer is answered by means of the spare descriptor");
    assert!(is_quiet(&first) && is_quiet(&second));
}

#[test]
fn newcomers_that_cannot_be_answered_do_not_hold_up_the_stop() {
    let (mut program, address) = serve(300);
    limit(&program, 3);
    let _waiting = connect(address);
    wait_until("the shortage is felt", || shortage_lines(&program) == 1);
    program.signal("TERM");
    assert_eq!(program.wait(), Some(0));
}
