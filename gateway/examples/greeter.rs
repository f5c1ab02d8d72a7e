//! A server of its own on top of the gateway: answers each line with its number, and says goodbye after the third.
//!
//! `cargo run --release --example greeter -- 127.0.0.1:7373`

use pulsegate::{Framing, Gateway, Handle, HandleError, ListenerConfig, Message, Sink, StartError};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

#[derive(Default)]
struct Greeter {
    lines: u64,
}

impl Greeter {
    fn answer(&mut self, connection: &Handle, number: u64) -> Result<(), HandleError> {
        self.lines += 1;
        connection.send(format!("welcome, line {number} of yours, {} of all\n", self.lines).into_bytes())?;
        connection.set_read_deadline(Some(Instant::now() + Duration::from_secs(2)))?;
        if number == 3 { connection.finish() } else { Ok(()) }
    }
}

impl Sink for Greeter {
    fn handle_message(&mut self, connection: &Handle, line: &Message<'_>) {
        if let Err(error) = self.answer(connection, line.number) {
            eprintln!("#{}: {error}", connection.number());
        }
    }
}

pub(crate) fn start(listen: SocketAddr) -> Result<Gateway, StartError> {
    let mut listener = ListenerConfig { listen, sink: "greeter".to_owned(), ..ListenerConfig::default() };
    listener.policy.framing = Framing::Lines;
    listener.policy.farewell = Some("goodbye: {reason}".into());
    Gateway::builder().listener(listener).sink("greeter", Greeter::default()).start()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7373".to_owned());
    let gateway = start(listen.parse()?)?;
    println!("listening on {}", gateway.addresses()[0]);
    gateway.wait()?;
    Ok(())
}
