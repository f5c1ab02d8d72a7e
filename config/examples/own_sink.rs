//! A gateway whose settings stand in a file, with a sink of its own: a listener with `sink = "counter"` gets it.
//!
//! `cargo run -p pulsegate-config --example own_sink -- pulsegate.toml`

use pulsegate::config::SINKS;
use pulsegate::{Gateway, Handle, Message, Sink};
use std::path::PathBuf;

#[derive(Default)]
struct Counter {
    bytes: u64,
}

impl Sink for Counter {
    fn handle_message(&mut self, connection: &Handle, message: &Message<'_>) {
        self.bytes += message.payload.len() as u64;
        // Refused only while very much waits, or by a gateway that has stopped.
        let _ = connection.send(format!("{} bytes so far\n", self.bytes).into_bytes());
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = PathBuf::from(std::env::args_os().nth(1).ok_or("give the path of a configuration file")?);
    let sinks: Vec<&str> = SINKS.into_iter().chain(["counter"]).collect();
    let config = pulsegate_config::read(&file, &sinks)?.config;
    let gateway = Gateway::builder().config(config).sink("counter", Counter::default()).start()?;
    gateway.warnings().iter().for_each(|warning| eprintln!("{warning}"));
    for address in gateway.addresses() {
        println!("listening on {address}");
    }
    gateway.wait()?;
    Ok(())
}
