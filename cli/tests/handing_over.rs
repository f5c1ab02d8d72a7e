//! The end of a gateway: what was taken is handed over to sinks and the store, within a bound, and what is not is said.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::program::{Program, pulsegate};
use common::pulse::{PulseClient, Seen};
use common::{connect, millis, wait_until};
use std::io::Write;
use std::thread::scope;
use std::time::{Duration, Instant};

/// Nothing is given up before, in a stop without a drain.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(2);

/// What the last line of the log counts.
#[track_caller]
fn messages_counted(log: &str) -> usize {
    let line = log.lines().rfind(|line| line.contains("stopped")).expect("the last line has the counts");
    let (_, rest) = line.split_once("messages=").unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

/// How many of them the program says it has lost.
fn messages_lost(log: &str) -> usize {
    let said = log.lines().find_map(|line| line.strip_prefix("pulsegate: ")?.split_once(" messages lost: "));
    said.map_or(0, |(lost, _)| lost.parse().unwrap())
}

/// A machine that is too busy to store all that waits within the bound of a stop may give up the rest, and says so.
#[test]
fn what_raw_clients_have_sent_is_stored_before_the_end_or_given_up_when_the_bound_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let (file, data) = (directory.path().join("pulsegate.toml"), directory.path().join("data"));
    let settings = format!(
        "drain_within = \"0s\"\n[store]\ndata_dir = {data:?}\nqueue_bytes_max = \"128KiB\"\ndurability = \"os\"\n\
         [[listener]]\nlisten = \"127.0.0.1:0\"\nprotocol = \"raw\"\nframing = \"lines\"\nsink = \"store\"\n\
         message_bytes_max = \"1KiB\"\n"
    );
    std::fs::write(&file, settings).unwrap();
    let mut program = Program::start(pulsegate(&["serve", "--config", file.to_str().unwrap()]));
    let address = program.address();
    // What waits at the end is bounded in bytes: of long lines it is few.
    let lines = [&[b'x'; 1000][..], b"\n"].concat().repeat(4);
    let (counted, lost) = scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = connect(address);
                while client.write_all(&lines).is_ok() {}
            });
        }
        std::thread::sleep(millis(300));
        let asked = Instant::now();
        program.signal("TERM");
        let code = program.wait();
        let log = program.stderr();
        let lost = messages_lost(&log);
        assert_eq!(code, Some(i32::from(lost > 0)), "{log}");
        assert!(lost == 0 || asked.elapsed() >= GIVEN_UP_AFTER, "{log}");
        (messages_counted(&log), lost)
    });
    let mut shown = Program::start(pulsegate(&["messages", "--data-dir", data.to_str().unwrap()]));
    assert_eq!(shown.wait(), Some(0));
    assert!(counted > 0);
    assert_eq!(shown.said().len(), counted - lost, "{counted} taken, {lost} lost");
}

#[test]
fn an_end_while_the_store_has_lost_its_files_is_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let store = ["--protocol", "pulse", "--sink", "store", "--data-dir", data.to_str().unwrap()];
    let (mut program, address) = Program::serve(&[&store[..], &["--drain-within", "0s"]].concat());
    let (mut client, _) = PulseClient::attached(address, "one");
    client.send(b"hello");
    client.wait_for(|seen| matches!(seen, Seen::Settled(1, 1)));
    std::fs::remove_dir_all(&data).unwrap();
    wait_until("it is seen", || program.stderr().contains("is gone from under the running gateway"));
    program.signal("TERM");
    assert_eq!(program.wait(), Some(1), "{}", program.stderr());
    let log = program.stderr();
    assert!(log.contains("the store ends while its files are not as they were"), "{log}");
    assert!(log.contains("the store could not write at the end"), "{log}");
}

#[test]
fn one_signal_ends_it_though_nobody_reads_its_output() {
    let args = ["serve", "--listen", "127.0.0.1:0", "--drain-within", "0s", "--framing", "lines"];
    let mut program = Program::start_unread(pulsegate(&args));
    let mut client = connect(program.address());
    client.set_write_timeout(Some(millis(500))).unwrap();
    while client.write_all(&b"line\n".repeat(10_000)).is_ok() {}
    program.signal("TERM");
    assert_eq!(program.wait(), Some(1));
    let log = program.stderr();
    assert!(messages_counted(&log) > 0, "{log}");
    assert!(log.contains("given up: sink print could not take them in time"), "{log}");
}

#[test]
fn with_nobody_left_to_read_its_output_it_ends_by_itself() {
    let args = ["serve", "--listen", "127.0.0.1:0", "--framing", "lines", "--protocol", "raw"];
    let mut program = Program::start_unread(pulsegate(&args));
    let mut client = connect(program.address());
    program.close_output();
    while client.write_all(b"line\n").is_ok() {
        std::thread::sleep(millis(1));
    }
    assert_eq!(program.wait(), Some(1));
    let log = program.stderr();
    assert!(log.contains("no listener is left"), "{log}");
    messages_counted(&log);
}
