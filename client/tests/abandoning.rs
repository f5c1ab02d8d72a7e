//! Programs that end without a word to their client.

mod common;

use common::{PATIENCE, quick, within};
use pulsegate_client::{Client, Options};
use pulsegate_client_peer::{Peer, Script};
use std::net::SocketAddr;
use std::process::{Command, Output};

/// Tells a child where to connect to, and what to do.
const ADDRESS: &str = "PULSEGATE_ABANDON_ADDRESS";
const HOW: &str = "PULSEGATE_ABANDON_HOW";

/// What a child runs.
#[test]
#[ignore = "it is run by the other tests"]
fn child() {
    let (Ok(address), Ok(how)) = (std::env::var(ADDRESS), std::env::var(HOW)) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let act = async {
        let mut options = Options { close_timeout: common::ms(1), ..quick() };
        if let Some(path) = how.strip_prefix("outbox ") {
            keep(&mut options, path);
        }
        let client = within(Client::connect(address, options)).await.unwrap();
        for _ in 0..5 {
            drop(within(client.push("x")).await.unwrap());
        }
        match how.as_str() {
            // The client outlives its runtime.
            "end" => return Some(client),
            "drop" => {
                let mut events = client.events();
                drop(client);
                while within(events.recv()).await.is_some() {}
            }
            "send" => within(client.send("y")).await.map(drop).unwrap(),
            "leave" => drop(within(client.leave()).await.unwrap()),
            "close" => drop(within(client.close()).await),
            _ => {}
        }
        None
    };
    let client = runtime.block_on(act);
    drop(runtime);
    drop(client);
}

#[cfg(feature = "outbox")]
fn keep(options: &mut Options, path: &str) {
    options.outbox = Some(path.into());
}

#[cfg(not(feature = "outbox"))]
fn keep(_: &mut Options, _: &str) {}

async fn run(address: SocketAddr, how: String) -> Output {
    let run = move || {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.args(["--exact", "child", "--ignored", "--nocapture"]);
        command.env(ADDRESS, address.to_string()).env(HOW, how).output().expect("it can be run again")
    };
    let output = tokio::task::spawn_blocking(run);
    let output = tokio::time::timeout(PATIENCE, output).await.expect("it ends").expect("it is waited for");
    assert!(output.status.success(), "{output:?}");
    output
}

fn warning(output: &Output) -> Option<String> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.lines().find(|line| line.starts_with("pulsegate-client: ")).map(str::to_owned)
}

#[tokio::test]
async fn what_nobody_will_hear_of_is_said_at_the_end() {
    let peer = Peer::with(Script { holds_receipts: true, ..Script::default() }).await;
    for how in ["end", "drop"] {
        let warning = warning(&run(peer.address(), how.to_owned()).await).unwrap_or_default();
        assert!(
            warning.contains("\"a client\"") && warning.contains("whether 5 messages of it"),
            "{how}: {warning}"
        );
    }
}

#[tokio::test]
async fn who_asked_or_keeps_everything_is_not_warned() {
    let peer = Peer::start().await;
    assert_eq!(warning(&run(peer.address(), "send".to_owned()).await), None, "all are committed");
    peer.script(|script| script.holds_receipts = true);
    for how in ["leave", "close"] {
        assert_eq!(
            warning(&run(peer.address(), how.to_owned()).await),
            None,
            "{how} says what became of them"
        );
    }
}

#[cfg(feature = "outbox")]
#[tokio::test]
async fn what_is_on_disk_is_no_loss() {
    let peer = Peer::with(Script { holds_receipts: true, ..Script::default() }).await;
    let directory = tempfile::TempDir::new().unwrap();
    let how = format!("outbox {}", directory.path().join("outbox.db").display());
    assert_eq!(warning(&run(peer.address(), how).await), None);
}
