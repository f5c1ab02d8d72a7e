//! Clients of the pulse protocol against a whole gateway: sessions, receipts, and the store behind them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::pulse::{PulseClient, Seen, WINDOW, hello};
use common::{PATIENCE, listener, millis, wait_until};
use pulsegate::{Config, Control, Gateway, ListenerConfig, Protocol, Recipient};
use pulsegate_core::exchange::{Receiving, Sending};
use pulsegate_core::frame::Hello;
use pulsegate_store::{Reader, StoredMessage};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use tempfile::TempDir;

/// A gateway that stores what comes, raw or pulse.
struct Storing {
    gateway: Gateway,
    control: Control,
    address: SocketAddr,
    directory: TempDir,
}

impl Storing {
    fn start(change: impl FnOnce(&mut ListenerConfig)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), change)
    }

    fn start_in(directory: TempDir, change: impl FnOnce(&mut ListenerConfig)) -> Self {
        let listener = listener(|listener| {
            listener.sink = "store".to_owned();
            listener.policy.protocol = Protocol::Auto;
            change(listener);
        });
        let data_dir = directory.path().to_owned();
        let config = Config { listeners: vec![listener], data_dir, ..Config::default() };
        let gateway = Gateway::builder().config(config).start().unwrap();
        let (control, address) = (gateway.control(), gateway.addresses()[0]);
        Self { gateway, control, address, directory }
    }

    fn stop(self) -> TempDir {
        self.control.stop();
        self.gateway.wait().unwrap();
        self.directory
    }
}

fn stored(directory: &Path) -> Vec<StoredMessage> {
    Reader::open(directory).unwrap().messages_after(0, 10_000).unwrap()
}

fn texts(messages: &[StoredMessage]) -> Vec<(u64, String)> {
    let text =
        |message: &StoredMessage| (message.number, String::from_utf8_lossy(&message.payload).into_owned());
    messages.iter().map(text).collect()
}

#[test]
fn a_receipt_means_that_the_message_is_in_the_store() {
    let storing = Storing::start(|_| ());
    let (mut client, welcomed) = PulseClient::attached(storing.address, "sensor-7");
    assert!(!welcomed.resumed);
    assert_eq!((welcomed.durability, welcomed.committed), (2, 0));
    for text in ["one", "two", "three"] {
        client.send(text.as_bytes());
    }
    client.settled(3);
    let messages = stored(storing.directory.path());
    assert_eq!(texts(&messages), [(1, "one".into()), (2, "two".into()), (3, "three".into())]);
    assert!(
        messages.iter().all(|message| message.client == "sensor-7" && message.session == welcomed.session)
    );
    storing.stop();
}

#[test]
fn a_session_goes_on_over_connections_and_gateways() {
    let mut storing = Storing::start(|_| ());
    let (mut client, first) = PulseClient::attached(storing.address, "sensor-7");
    client.send(b"one");
    client.settled(1);
    let mut client = client.resume(storing.address, "sensor-7", first.session, first.token);
    let second = client.welcomed();
    assert_eq!((second.resumed, second.session, second.committed), (true, first.session, 1));
    assert_ne!(second.token, first.token);
    client.send(b"two");
    client.settled(2);
    storing = Storing::start_in(storing.stop(), |_| ());
    client.wait_for_end();
    client.seen.clear();
    client.pulse.push(b"three".to_vec());
    let mut client = client.resume(storing.address, "sensor-7", second.session, second.token);
    let third = client.welcomed();
    assert_eq!((third.resumed, third.committed), (true, 2));
    client.settled(3);
    assert_eq!(texts(&stored(storing.directory.path())).len(), 3);
    storing.stop();
}

#[test]
fn a_newer_connection_replaces_the_older_one_and_that_is_told() {
    let storing = Storing::start(|_| ());
    let (mut older, welcomed) = PulseClient::attached(storing.address, "sensor-7");
    older.beat();
    let newer = PulseClient::connect(storing.address, "another");
    let mut newer = newer.resume(storing.address, "sensor-7", welcomed.session, welcomed.token);
    assert!(newer.welcomed().resumed);
    assert_eq!(older.bye(), 51);
    older.wait_for_end();
    newer.send(b"mine");
    newer.settled(1);
    storing.stop();
}

#[test]
fn raw_clients_use_the_same_port_and_are_stored_too() {
    let storing = Storing::start(|_| ());
    let mut raw = TcpStream::connect(storing.address).unwrap();
    raw.write_all(b"PULSE of a raw client\nsecond\n").unwrap();
    let (mut client, _) = PulseClient::attached(storing.address, "sensor-7");
    client.send(b"pulse");
    client.settled(1);
    wait_until("three messages are stored", || stored(storing.directory.path()).len() == 3);
    let messages = stored(storing.directory.path());
    let (raws, pulses): (Vec<_>, Vec<_>) = messages.into_iter().partition(|message| message.session == 0);
    assert_eq!(texts(&raws), [(1, "PULSE of a raw client".into()), (2, "second".into())]);
    assert_eq!(raws[0].client, raw.local_addr().unwrap().to_string());
    assert_eq!(texts(&pulses), [(1, "pulse".into())]);
    storing.stop();
}

#[test]
fn a_message_waits_for_a_client_that_is_away() {
    let storing = Storing::start(|_| ());
    let (mut client, welcomed) = PulseClient::attached(storing.address, "sensor-7");
    client.beat();
    let (sender, outcomes) = std::sync::mpsc::channel();
    let send = |text: &str| {
        let sender = sender.clone();
        let to = Recipient::Client("sensor-7".to_owned());
        storing.control.send(to, text.as_bytes(), move |outcome| sender.send(outcome).unwrap()).unwrap();
        outcomes.recv_timeout(PATIENCE).unwrap()
    };
    assert_eq!(send("at once"), Ok((welcomed.session, 1)));
    client.wait_for(|seen| *seen == Seen::Message(1, b"at once".to_vec()));
    client.pump(millis(50));
    client.leave(1);
    client.wait_for_end();
    assert_eq!(send("later"), Ok((welcomed.session, 2)));
    let mut client = client.resume(storing.address, "sensor-7", welcomed.session, welcomed.token);
    client.wait_for(|seen| *seen == Seen::Message(2, b"later".to_vec()));
    let nobody = Recipient::Client("nobody".to_owned());
    let (sender, outcomes) = std::sync::mpsc::channel();
    storing.control.send(nobody, *b"x", move |outcome| sender.send(outcome).unwrap()).unwrap();
    assert!(outcomes.recv_timeout(PATIENCE).unwrap().is_err());
    storing.stop();
}

#[test]
fn an_echo_longer_than_the_client_takes_is_left_out_and_the_rest_goes_on() {
    let echo = listener(|listener| {
        listener.sink = "echo".to_owned();
        listener.policy.protocol = Protocol::Auto;
    });
    let config = Config { listeners: vec![echo], ..Config::default() };
    let gateway = Gateway::builder().config(config).start().unwrap();
    let hello = Hello { message_bytes_max: 10, ..hello("sensor-7") };
    let sending = Sending::new(WINDOW);
    let mut client = PulseClient::connect_with(gateway.addresses()[0], &hello, sending, Receiving::default());
    client.welcomed();
    client.send(b"more than ten bytes");
    client.send(b"ten bytes.");
    client.settled(2);
    client.wait_for(|seen| *seen == Seen::Message(1, b"ten bytes.".to_vec()));
    client.send(b"again");
    client.wait_for(|seen| *seen == Seen::Message(2, b"again".to_vec()));
    gateway.control().stop();
    gateway.wait().unwrap();
}

#[test]
fn what_was_sent_once_can_be_sent_again_at_a_listener_that_takes_less() {
    let directory = tempfile::tempdir().unwrap();
    let limited = |message_bytes_max| {
        listener(|listener| {
            listener.sink = "store".to_owned();
            listener.policy.protocol = Protocol::Auto;
            listener.policy.message_bytes_max = message_bytes_max;
        })
    };
    let listeners = vec![limited(64 * 1024), limited(1_000)];
    let data_dir = directory.path().to_owned();
    let gateway =
        Gateway::builder().config(Config { listeners, data_dir, ..Config::default() }).start().unwrap();
    let [large, small] = gateway.addresses()[..] else { panic!("two listeners") };
    let (mut client, first) = PulseClient::attached(large, "sensor-7");
    client.beat();
    // In flight when the connection is lost.
    client.pulse.push(vec![7; 60_000]);
    let mut client = client.resume(small, "sensor-7", first.session, first.token);
    assert!(client.welcomed().resumed);
    client.settled(1);
    client.send(b"and another");
    client.settled(2);
    let lengths: Vec<_> = stored(directory.path()).iter().map(|message| message.payload.len()).collect();
    assert_eq!(lengths, [60_000, 11]);
    gateway.control().stop();
    gateway.wait().unwrap();
}
