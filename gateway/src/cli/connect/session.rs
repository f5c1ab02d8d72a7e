//! A client of the pulse protocol for people: lines from stdin become messages, and each step of each message is
//! told. Must not know: frames, numbers in flight, or when to come back; the client's library does.

use super::input::{Input, Line};
use super::journal::{say, seconds};
use super::play::{EXIT_ENDED, EXIT_INTERRUPTED};
use anyhow::Context;
use pulsegate::text::{counted, readable};
use pulsegate_client::{Client, Closed, Delivery, Event, Events, Message, Options, Reason, SendError};
use pulsegate_core::frame::{NOTICE_DRAIN, NOTICE_END, NOTICE_GOES_ON, NOTICE_RESTS, NOTICE_STOPPED};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{BufReader, Stdin};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

/// So many steps may wait to be written, before the oldest are left out: stdout may be slow.
const EVENTS_MAX: usize = 65_536;
/// Longer lines are not sent, in bytes: no gateway takes them.
const LINE_BYTES_MAX: usize = 16_000_000;
/// After so many connections that were ended without a byte it is told what is wrong: somebody waits for it.
const UNANSWERED_MAX: u32 = 3;

/// What became of the messages.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    committed: u64,
    others: u64,
}

/// Sends what stdin says until it ends, and then waits until everything is settled.
///
/// # Errors
/// When the options can't be, the outbox can't be used, or stdin or stdout fail.
pub(super) async fn run(address: &str, id: String, outbox: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let options =
        Options { outbox, events_max: EVENTS_MAX, unanswered_max: UNANSWERED_MAX, ..Options::new(id) };
    let client = Client::start(address, options).await?;
    let mut events = client.events();
    let input = Input::new(BufReader::new(tokio::io::stdin()), LINE_BYTES_MAX);
    let mut session = Conversation { client, input, outcomes: JoinSet::new(), unsent: 0, fault: None };
    for delivery in session.client.restored() {
        say(format_args!("message {} goes on from the outbox", delivery.id()))?;
        session.outcomes.spawn(delivery);
    }
    let is_interrupted = session.send_lines(&mut events, &mut interrupt, &mut terminate).await?;
    session.finish(events, is_interrupted).await
}

struct Conversation {
    client: Client,
    input: Input<BufReader<Stdin>>,
    outcomes: JoinSet<<Delivery as Future>::Output>,
    /// Lines that were never given to the client.
    unsent: u64,
    /// Why the input could not be read to its end.
    fault: Option<std::io::Error>,
}

impl Conversation {
    /// Until the input ends, the client does, or somebody interrupts, which it returns.
    async fn send_lines(
        &mut self,
        events: &mut Events,
        interrupt: &mut Signal,
        terminate: &mut Signal,
    ) -> anyhow::Result<bool> {
        loop {
            tokio::select! {
                biased;
                _ = interrupt.recv() => return Ok(true),
                _ = terminate.recv() => return Ok(true),
                event = events.recv() => match event {
                    Some(event) => tell(&event)?,
                    None => return Ok(false),
                },
                Some(message) = self.client.recv() => tell_message(message)?,
                line = self.input.next() => match line {
                    Ok(Some(Line::Whole(line))) => {
                        if !self.send(line, events).await? {
                            return Ok(false);
                        }
                    }
                    Ok(Some(Line::TooLong(bytes))) => {
                        self.unsent += 1;
                        say(format_args!(
                            "not sent: the line has {bytes} bytes and may have {LINE_BYTES_MAX}"
                        ))?;
                    }
                    Ok(None) => return Ok(false),
                    // What was read before is settled all the same.
                    Err(error) => {
                        self.fault = Some(error);
                        return Ok(false);
                    }
                },
            }
        }
    }

    /// Waits for room, and goes on telling meanwhile. Returns whether more may be sent.
    async fn send(&mut self, line: Vec<u8>, events: &mut Events) -> anyhow::Result<bool> {
        let client = self.client.clone();
        let mut push = std::pin::pin!(client.push(line));
        loop {
            tokio::select! {
                delivery = &mut push => return match delivery {
                    Ok(delivery) => {
                        self.outcomes.spawn(delivery);
                        Ok(true)
                    }
                    Err(SendError::Closed) => {
                        self.unsent += 1;
                        Ok(false)
                    }
                    Err(error) => {
                        say(format_args!("not sent: {error}"))?;
                        self.outcomes.spawn(async { Err(error) });
                        Ok(true)
                    }
                },
                Some(event) = events.recv() => tell(&event)?,
            }
        }
    }

    /// Settles everything, or with a file leaves it for the next time.
    async fn finish(mut self, mut events: Events, is_interrupted: bool) -> anyhow::Result<ExitCode> {
        let client = self.client.clone();
        let end = async move {
            if is_interrupted {
                client.leave().await;
                client.closed().await
            } else {
                client.close().await
            }
        };
        let mut end = std::pin::pin!(end);
        let closed: Closed = loop {
            tokio::select! {
                closed = &mut end => break closed,
                Some(event) = events.recv() => tell(&event)?,
                Some(message) = self.client.recv() => tell_message(message)?,
            }
        };
        while let Some(event) = events.recv().await {
            tell(&event)?;
        }
        let mut tally = Tally::default();
        while let Some(outcome) = self.outcomes.join_next().await {
            match outcome {
                Ok(Ok(_)) => tally.committed += 1,
                Ok(Err(_)) | Err(_) => tally.others += 1,
            }
        }
        tally.others += self.unsent;
        let Tally { committed, others } = tally;
        let closed_in_words = readable(closed.to_string().as_bytes());
        say(format_args!("{closed_in_words}: {} committed, {others} not", counted(committed, "message")))?;
        if let Some(fault) = self.fault {
            return Err(fault).context("standard input could not be read to its end");
        }
        Ok(match (is_interrupted, closed.reason) {
            (true, _) => EXIT_INTERRUPTED.into(),
            (false, Reason::NotPulse) => ExitCode::FAILURE,
            (false, Reason::Done) if others == 0 => ExitCode::SUCCESS,
            (false, _) => EXIT_ENDED.into(),
        })
    }
}

fn tell_message(message: Message) -> anyhow::Result<()> {
    let number = message.number();
    // It is ours once it stands on stdout.
    say(format_args!("message {number} from the gateway: {}", readable(message.payload())))?;
    message.accept();
    Ok(())
}

fn tell(event: &Event) -> anyhow::Result<()> {
    match event {
        Event::Connected(connected) => {
            let session = connected.session;
            let how = if connected.resumed { "goes on" } else { "begins" };
            let beat = seconds(connected.beat_interval);
            let timeout = seconds(connected.beat_timeout);
            say(format_args!(
                "connected: session {session} {how}, a heartbeat every {beat}, timeout {timeout}"
            ))
        }
        Event::Disconnected(closed) => {
            say(format_args!("disconnected: {}", readable(closed.to_string().as_bytes())))
        }
        Event::Reconnecting { after, .. } => say(format_args!("coming back in {}", seconds(*after))),
        Event::Notice { code, within, text } => say(format_args!("{}", notice(*code, *within, text))),
        Event::Sent { id, .. } => say(format_args!("{id} sent")),
        Event::Committed { id, durability, .. } => {
            say(format_args!("{id} received (committed, {durability})"))
        }
        Event::Confirmed { id, .. } => say(format_args!("{id} confirmed")),
        Event::Refused { id, code, text, .. } => {
            say(format_args!("{id} not accepted (code {code}): {}", readable(text.as_bytes())))
        }
        Event::TooLarge { id, bytes, bytes_max } => {
            say(format_args!("{id} not sent: it has {bytes} bytes and may have {bytes_max}"))
        }
        Event::Unknown { id } => say(format_args!("{id} unknown: its session is gone")),
        Event::Lost { first, last } => {
            say(format_args!("the gateway has lost what it had received: messages {first} to {last}"))
        }
        Event::Missed { first, last } => {
            say(format_args!("messages {first} to {last} from the gateway were lost here"))
        }
        Event::OutboxStuck(why) => say(format_args!(
            "the outbox can't be written ({why}): it waits until it can, and nothing is lost"
        )),
        Event::OutboxWritten => say(format_args!("the outbox can be written again: it goes on")),
        Event::Skipped(count) => say(format_args!("{count} steps were left out: stdout is too slow")),
        _ => Ok(()),
    }
}

/// What a NOTICE says, in a sentence, whatever its text is.
fn notice(code: u16, within: Duration, text: &str) -> String {
    let meaning = match code {
        NOTICE_END => format!("this connection will be ended in {}", seconds(within)),
        NOTICE_DRAIN => {
            format!("the gateway is draining, this connection will be ended in {}", seconds(within))
        }
        NOTICE_STOPPED => "receipts have stopped, what is sent now waits".to_owned(),
        NOTICE_GOES_ON => "receipts go on".to_owned(),
        NOTICE_RESTS => {
            "nothing more is read for now, a share of what the gateway keeps is used up".to_owned()
        }
        _ => "of a kind that is not known here".to_owned(),
    };
    format!("notice {code}: {meaning} ({})", readable(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_notice_is_a_sentence() {
        let said = |code| notice(code, Duration::from_secs(3), "\x1b");
        assert!(said(2).starts_with("notice 2: the gateway is draining, this connection will be ended in 3"));
        assert!(said(5).starts_with("notice 5: nothing more is read for now"));
        assert!((1..=7).all(|code| !said(code).contains('\x1b')));
    }
}
