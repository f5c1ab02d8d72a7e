//! A read stops at the mark of urgent data, however much stands behind it. That is not the end of what is there.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Running, long, millis};
use pulsegate::{Framing, Heartbeat};
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::sleep;

/// Sends all three in one segment, the second as urgent data.
fn send(client: &TcpStream, before: &[u8], urgent: &[u8], behind: &[u8]) {
    let (mut writer, socket) = (client, SockRef::from(client));
    socket.set_tcp_cork(true).unwrap();
    writer.write_all(before).unwrap();
    socket.send_out_of_band(urgent).unwrap();
    writer.write_all(behind).unwrap();
    socket.set_tcp_cork(false).unwrap();
}

#[test]
fn what_stands_behind_urgent_data_is_echoed_at_once() {
    let gateway = Running::start(|listener| {
        "echo".clone_into(&mut listener.sink);
        listener.policy.framing = Framing::Chunks;
    });
    let mut client = gateway.connect();
    send(&client, b"text", b"!", b"PING");
    let mut heard = [0; 8];
    client.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"textPING", "the urgent byte itself is no part of the stream");
    gateway.stop().unwrap();
}

#[test]
fn a_heartbeat_behind_urgent_data_counts() {
    let timeout = millis(1_500);
    let gateway = Running::start(|listener| {
        listener.policy.heartbeat = Heartbeat::Line(b"PING"[..].into());
        listener.policy.lifetime = long(timeout);
    });
    let (mut client, number) = gateway.connect_known();
    send(&client, b"first\n", b"!", b"");
    sleep(millis(1_000));
    send(&client, b"text", b"!", b"\nPING\n");
    assert_eq!(client.read(&mut [0; 16]).unwrap(), 0);
    let ended = gateway.recorder.ended(number);
    assert!(ended.age >= millis(1_000) + timeout, "{ended:?}");
    gateway.stop().unwrap();
}
