//! A client of the pulse protocol for people: lines from stdin become messages, and each step of each message is
//! told. Must not know: frames, numbers in flight, or when to come back; the client's library does.

use super::dial::nothing_listens;
use super::input::{Input, Line};
use super::journal::{say, seconds};
use super::play::{EXIT_ENDED, EXIT_INTERRUPTED};
use anyhow::Context;
use pulsegate::text::{counted, readable};
use pulsegate_client::{Client, Delivery, Event, Events, Message, Options, Reason, SendError};
use pulsegate_core::close::CloseReason;
use pulsegate_core::frame::{
    ID_BYTES_MAX, NOTICE_DRAIN, NOTICE_END, NOTICE_GOES_ON, NOTICE_RESTS, NOTICE_STOPPED,
};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{BufReader, Stdin};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinError, JoinSet};

/// How many steps may wait to be written before the oldest are left out: stdout may be slow.
const EVENTS_MAX: usize = 65_536;
/// Longer lines are not sent, in bytes: no gateway takes them.
const LINE_BYTES_MAX: usize = 16_000_000;
/// After so many connections that were ended without a byte it is told what is wrong: somebody waits for it.
const UNANSWERED_MAX: u32 = 3;

/// How long an interrupted client that is attached may take for its goodbye.
const LEAVE_WAIT: Duration = Duration::from_secs(1);

/// An id that a client may have.
///
/// # Errors
/// What it has to be.
pub(super) fn parse_id(id: &str) -> Result<String, &'static str> {
    let fits = (1..=ID_BYTES_MAX).contains(&id.len());
    fits.then(|| id.to_owned()).ok_or("an id has 1 to 128 bytes of text")
}

/// What became of the messages.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    committed: u64,
    others: u64,
}

/// What ends the program from outside. Its default action is gone, so that every wait has to listen to it.
struct Interruptions {
    interrupt: Signal,
    terminate: Signal,
}

impl Interruptions {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The next one. Nothing is lost when the future is dropped.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Why nothing more is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Halt {
    /// The input has ended, or the client.
    Ended,
    Interrupted,
}

/// Sends what stdin says until it ends, and then waits until everything is settled.
///
/// # Errors
/// When the options can't be, the outbox can't be used, or stdin or stdout fail.
pub(super) async fn run(address: &str, id: String, outbox: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let mut interruptions = Interruptions::new()?;
    let keeps = outbox.is_some();
    let options =
        Options { outbox, events_max: EVENTS_MAX, unanswered_max: UNANSWERED_MAX, ..Options::new(id) };
    let client = tokio::select! {
        client = Client::start(address, options) => client?,
        () = interruptions.next() => {
            say(format_args!("interrupted before the outbox was open"))?;
            return Ok(EXIT_INTERRUPTED.into());
        }
    };
    let mut events = client.events();
    let mut session = Conversation {
        client,
        input: Input::new(BufReader::new(tokio::io::stdin()), LINE_BYTES_MAX),
        outcomes: JoinSet::new(),
        tally: Tally::default(),
        fault: None,
        keeps,
        refused: Some(address.to_owned()),
    };
    for delivery in session.client.restored() {
        say(format_args!("message {} continues from the outbox", delivery.id()))?;
        session.outcomes.spawn(delivery);
    }
    match session.send_lines(&mut events, &mut interruptions).await? {
        Halt::Ended => session.finish(events, interruptions).await,
        Halt::Interrupted => session.leave(events, interruptions).await,
    }
}

struct Conversation {
    client: Client,
    input: Input<BufReader<Stdin>>,
    outcomes: JoinSet<<Delivery as Future>::Output>,
    /// Of what is no longer among the outcomes, or never was.
    tally: Tally,
    /// Why the input could not be read to its end.
    fault: Option<std::io::Error>,
    /// There is a file that keeps what is not settled.
    keeps: bool,
    /// The address, until there was a connection or it was told that nothing listens there.
    refused: Option<String>,
}

impl Conversation {
    /// Until the input ends, the client does, or somebody interrupts.
    async fn send_lines(
        &mut self,
        events: &mut Events,
        interruptions: &mut Interruptions,
    ) -> anyhow::Result<Halt> {
        loop {
            tokio::select! {
                biased;
                () = interruptions.next() => return Ok(Halt::Interrupted),
                event = events.recv() => match event {
                    Some(event) => self.handle_event(&event)?,
                    None => return Ok(Halt::Ended),
                },
                Some(message) = self.client.recv() => tell_message(message)?,
                Some(outcome) = self.outcomes.join_next() => self.handle_outcome(&outcome),
                line = self.input.next() => match line {
                    Ok(Some(Line::Whole(line))) => {
                        if let Some(halt) = self.send(line, events, interruptions).await? {
                            return Ok(halt);
                        }
                    }
                    Ok(Some(Line::TooLong(bytes))) => {
                        self.tally.others += 1;
                        say(format_args!(
                            "not sent: the line has {bytes} bytes and may have {LINE_BYTES_MAX}"
                        ))?;
                    }
                    Ok(None) => return Ok(Halt::Ended),
                    // What was read before is settled all the same.
                    Err(error) => {
                        self.fault = Some(error);
                        return Ok(Halt::Ended);
                    }
                },
            }
        }
    }

    /// Waits for room, and keeps reporting meanwhile. Returns why no more may be sent.
    async fn send(
        &mut self,
        line: Vec<u8>,
        events: &mut Events,
        interruptions: &mut Interruptions,
    ) -> anyhow::Result<Option<Halt>> {
        let client = self.client.clone();
        let mut push = std::pin::pin!(client.push(line));
        loop {
            tokio::select! {
                delivery = &mut push => return match delivery {
                    Ok(delivery) => {
                        self.outcomes.spawn(delivery);
                        Ok(None)
                    }
                    Err(SendError::Closed) => {
                        self.tally.others += 1;
                        Ok(Some(Halt::Ended))
                    }
                    Err(error) => {
                        say(format_args!("not sent: {error}"))?;
                        self.tally.others += 1;
                        Ok(None)
                    }
                },
                () = interruptions.next() => {
                    self.tally.others += 1;
                    return Ok(Some(Halt::Interrupted));
                }
                Some(event) = events.recv() => self.handle_event(&event)?,
            }
        }
    }

    /// Settles everything.
    async fn finish(
        mut self,
        mut events: Events,
        mut interruptions: Interruptions,
    ) -> anyhow::Result<ExitCode> {
        let client = self.client.clone();
        let mut end = std::pin::pin!(client.close());
        let closed = loop {
            tokio::select! {
                closed = &mut end => break closed,
                () = interruptions.next() => return self.leave(events, interruptions).await,
                Some(event) = events.recv() => self.handle_event(&event)?,
                Some(message) = self.client.recv() => tell_message(message)?,
            }
        };
        self.count_all(&mut events).await?;
        self.sum_up(&closed.to_string())?;
        if let Some(fault) = self.fault {
            return Err(fault).context("standard input could not be read to its end");
        }
        let says_raw = closed.reason.close_reason() == Some(CloseReason::RawListener);
        Ok(if says_raw || matches!(closed.reason, Reason::NotPulse | Reason::Outbox) {
            ExitCode::FAILURE
        } else if closed.reason == Reason::Done && self.tally.others == 0 {
            ExitCode::SUCCESS
        } else {
            EXIT_ENDED.into()
        })
    }

    /// Somebody interrupts: says goodbye, where there is a connection, and leaves the rest. A second interruption
    /// doesn't wait for that.
    async fn leave(
        mut self,
        mut events: Events,
        mut interruptions: Interruptions,
    ) -> anyhow::Result<ExitCode> {
        while let Some(outcome) = self.outcomes.try_join_next() {
            self.handle_outcome(&outcome);
        }
        let open = counted(self.outcomes.len() as u64, "message");
        let kept = if self.keeps { ", and stay in the outbox" } else { "" };
        say(format_args!("interrupted: {open} not settled{kept}"))?;
        let client = self.client.clone();
        let goodbye = async move {
            client.leave().await;
            client.closed().await
        };
        let mut goodbye = std::pin::pin!(tokio::time::timeout(LEAVE_WAIT, goodbye));
        let closed = loop {
            tokio::select! {
                biased;
                () = interruptions.next() => break None,
                closed = &mut goodbye => break closed.ok(),
                Some(event) = events.recv() => self.handle_event(&event)?,
            }
        };
        match closed {
            Some(closed) => {
                self.count_all(&mut events).await?;
                self.sum_up(&closed.to_string())?;
            }
            None => {
                self.tally.others += self.outcomes.len() as u64;
                self.sum_up("ended without a BYE")?;
            }
        }
        Ok(EXIT_INTERRUPTED.into())
    }

    /// The client has ended, and with it everything has an outcome.
    async fn count_all(&mut self, events: &mut Events) -> anyhow::Result<()> {
        while let Some(event) = events.recv().await {
            self.handle_event(&event)?;
        }
        while let Some(outcome) = self.outcomes.join_next().await {
            self.handle_outcome(&outcome);
        }
        Ok(())
    }

    fn handle_outcome(&mut self, outcome: &Result<<Delivery as Future>::Output, JoinError>) {
        match outcome {
            Ok(Ok(_)) => self.tally.committed += 1,
            Ok(Err(_)) | Err(_) => self.tally.others += 1,
        }
    }

    fn sum_up(&self, closed: &str) -> anyhow::Result<()> {
        let Tally { committed, others } = self.tally;
        let (closed, messages) = (readable(closed.as_bytes()), counted(committed, "message"));
        say(format_args!("{closed}: {messages} committed, {others} not"))
    }

    /// Where nobody has ever answered, it is told once what to do about it.
    fn handle_event(&mut self, event: &Event) -> anyhow::Result<()> {
        if matches!(event, Event::Connected(_)) {
            self.refused = None;
        }
        if let Event::Disconnected(closed) = event
            && closed.reason == Reason::Unreachable
        {
            let refusal = std::io::Error::from(nix::errno::Errno::ECONNREFUSED);
            let is_refused = |address: &mut String| closed.text == format!("{address}: {refusal}");
            if let Some(address) = self.refused.take_if(is_refused) {
                return say(format_args!("disconnected: {}", nothing_listens(&address)));
            }
        }
        tell(event)
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
        Event::OutboxStuck(why) => {
            say(format_args!("the outbox can't be written ({why}): waiting until it can; nothing is lost"))
        }
        Event::OutboxWritten => say(format_args!("the outbox can be written again")),
        Event::Skipped(count) => say(format_args!("{count} steps are not shown: stdout is too slow")),
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
        NOTICE_STOPPED => "receipts have stopped; messages wait until they continue".to_owned(),
        NOTICE_GOES_ON => "receipts continue".to_owned(),
        NOTICE_RESTS => {
            "nothing more is read for now: this client's share of what the gateway keeps is used up"
                .to_owned()
        }
        _ => "of an unknown kind".to_owned(),
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
