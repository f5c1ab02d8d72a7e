//! Sends each line of its input as a message, and prints what becomes of it.
//!
//! `send_lines ADDR ID [--outbox FILE]`, with one line of output per step: `accepted N` when the message is taken in
//! (with an outbox: it is on disk), `sent N`, `committed N`, `confirmed N`, `refused N CODE TEXT`, `unknown N`; N
//! counts the messages of the client, or of the outbox. At the end of the input it settles everything and prints
//! `closed WORD`.

use pulsegate_client::{Client, Delivery, Event, Events, Options, Reason, SendError};
use std::error::Error;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinSet;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (address, id, outbox) = match &arguments[..] {
        [address, id] => (address, id, None),
        [address, id, flag, file] if flag == "--outbox" => (address, id, Some(file.into())),
        _ => return Err("usage: send_lines ADDR ID [--outbox FILE]".into()),
    };
    send_lines(address, Options { outbox, ..Options::new(id) }).await
}

pub(crate) async fn send_lines(address: &str, options: Options) -> Result<(), Box<dyn Error>> {
    let client = Client::start(address, options).await?;
    let events = tokio::spawn(print_events(client.events()));
    let mut outcomes = JoinSet::new();
    for delivery in client.restored() {
        outcomes.spawn(print_outcome(delivery));
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let delivery = client.push(line).await?;
        println!("accepted {}", delivery.id());
        outcomes.spawn(print_outcome(delivery));
        // Those that are known already need not be kept.
        while outcomes.try_join_next().is_some() {}
    }
    let closed = client.close().await;
    while outcomes.join_next().await.is_some() {}
    events.await?;
    println!("closed {closed}");
    if closed.reason == Reason::Done { Ok(()) } else { Err(closed.to_string().into()) }
}

async fn print_outcome(delivery: Delivery) {
    let id = delivery.id();
    match delivery.await {
        Ok(_) => println!("committed {id}"),
        Err(SendError::NotAccepted { code, text }) => println!("refused {id} {code} {text}"),
        Err(SendError::Unknown) => println!("unknown {id}"),
        Err(error) => println!("not sent {id}: {error}"),
    }
}

async fn print_events(mut events: Events) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Sent { id, .. } => println!("sent {id}"),
            Event::Confirmed { id, .. } => println!("confirmed {id}"),
            Event::Connected(connected) => eprintln!("connected, session {}", connected.session),
            Event::Disconnected(closed) => eprintln!("disconnected: {closed}"),
            Event::Reconnecting { after, .. } => eprintln!("coming back in {after:?}"),
            Event::Notice { code, text, .. } => eprintln!("notice {code}: {text}"),
            Event::Skipped(count) => eprintln!("{count} events were left out"),
            Event::Lost { first, last } => eprintln!("the gateway has lost {first} to {last}"),
            // Outcomes come with the deliveries, which nothing is left out of.
            Event::Committed { .. }
            | Event::Refused { .. }
            | Event::TooLarge { .. }
            | Event::Unknown { .. } => {}
            Event::Missed { .. } | _ => {}
        }
    }
}
