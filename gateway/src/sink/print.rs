//! The print sink: every message, and every connection's end, as one line on the standard output. What a
//! stranger sent can't drive the terminal: control characters are escaped.

use crate::config::PrintFormat;
use crate::handle::Handle;
use crate::sink::{Ended, Sink, SinkError};
use crate::text::{counted, hex, json_line, readable, utc};
use std::io::{BufWriter, Write};
use std::time::SystemTime;

/// Prints to a writer.
#[derive(Debug)]
pub(crate) struct Print<W: Write> {
    out: BufWriter<W>,
    format: PrintFormat,
    failure: Option<std::io::Error>,
}

impl<W: Write> Print<W> {
    /// A sink that prints to `out`.
    pub(crate) fn new(out: W, format: PrintFormat) -> Self {
        Self { out: BufWriter::with_capacity(64 * 1024, out), format, failure: None }
    }

    fn line(&mut self, line: &str) {
        if self.failure.is_none() {
            self.failure = writeln!(self.out, "{line}").err();
        }
    }
}

impl<W: Write + Send + 'static> Sink for Print<W> {
    fn handle_message(&mut self, connection: &Handle, number: u64, payload: &[u8]) {
        let line = message_line(self.format, SystemTime::now(), connection, number, payload);
        self.line(&line);
    }

    fn handle_closed(&mut self, connection: &Handle, ended: &Ended) {
        let line = closed_line(self.format, SystemTime::now(), connection, ended);
        self.line(&line);
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        if let Some(error) = self.failure.take() {
            return Err(error.into());
        }
        Ok(self.out.flush()?)
    }
}

fn message_line(
    format: PrintFormat,
    time: SystemTime,
    connection: &Handle,
    number: u64,
    payload: &[u8],
) -> String {
    let time = utc(time);
    let (peer, connection) = (connection.peer(), connection.number());
    match (format, std::str::from_utf8(payload)) {
        (PrintFormat::Human, _) => format!("{time}  {peer}  #{connection}  {}", readable(payload)),
        (PrintFormat::Json, Ok(text)) => json_line(&serde_json::json!({
            "time": time.to_string(), "event": "message", "connection": connection,
            "peer": peer.to_string(), "message": number, "text": text,
        })),
        (PrintFormat::Json, Err(_)) => json_line(&serde_json::json!({
            "time": time.to_string(), "event": "message", "connection": connection,
            "peer": peer.to_string(), "message": number, "hex": hex(payload),
        })),
    }
}

fn closed_line(format: PrintFormat, time: SystemTime, connection: &Handle, ended: &Ended) -> String {
    let time = utc(time);
    let (peer, connection) = (connection.peer(), connection.number());
    let Ended { reason, age, totals } = ended;
    match format {
        PrintFormat::Human => format!(
            "{time}  {peer}  #{connection}  ended: {reason}, after {:.3} s and {}",
            age.as_secs_f64(),
            counted(totals.messages, "message")
        ),
        PrintFormat::Json => serde_json::json!({
            "time": time.to_string(), "event": "ended", "connection": connection, "peer": peer.to_string(),
            "reason": reason.as_str(), "who": reason.who().as_str(), "age_ms": age.as_millis() as u64,
            "messages": totals.messages, "bytes_in": totals.bytes_in, "bytes_out": totals.bytes_out,
        })
        .to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::id::ConnectionId;
    use crate::mailbox::Mailbox;
    use crate::peer::Peer;
    use pulsegate_core::close::CloseReason;
    use pulsegate_core::connection::Totals;
    use std::sync::Arc;
    use std::time::Duration;

    fn handle() -> Handle {
        Handle {
            mailbox: Arc::new(Mailbox::new(|| {})),
            clock: Clock::start(),
            id: ConnectionId::new(0, 7),
            number: 7,
            peer: Peer::new(([127, 0, 0, 1], 50_000).into()),
        }
    }

    #[test]
    fn people_see_time_peer_connection_and_text() {
        let line = message_line(PrintFormat::Human, SystemTime::UNIX_EPOCH, &handle(), 1, b"hello\r\n");
        assert_eq!(line, "1970-01-01T00:00:00.000Z  127.0.0.1:50000  #7  hello");
    }

    #[test]
    fn json_keeps_bytes_that_are_not_text() {
        let line = message_line(PrintFormat::Json, SystemTime::UNIX_EPOCH, &handle(), 2, b"\xff\x00");
        let value: serde_json::Value = serde_json::from_str(&line).expect("an object");
        assert_eq!((&value["hex"], &value["message"]), (&"ff00".into(), &2.into()));
    }

    #[test]
    fn json_drives_no_terminal_either() {
        let text = "\u{9b}1m\u{7f}\u{202e}";
        let line = message_line(PrintFormat::Json, SystemTime::UNIX_EPOCH, &handle(), 2, text.as_bytes());
        assert!(line.is_ascii(), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).expect("an object");
        assert_eq!(value["text"], text);
    }

    #[test]
    fn a_clock_that_is_wrong_by_ages_fails_nothing() {
        let ages = [
            SystemTime::UNIX_EPOCH - Duration::from_secs(1),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40),
        ];
        for (time, year) in ages.into_iter().zip(["1970-", "9999-"]) {
            assert!(message_line(PrintFormat::Human, time, &handle(), 1, b"x").starts_with(year));
        }
    }

    #[test]
    fn an_end_is_printed_with_its_reason() {
        let ended = Ended {
            reason: CloseReason::HeartbeatTimeout,
            age: Duration::from_millis(23_001),
            totals: Totals { messages: 10, ..Totals::default() },
        };
        let line = closed_line(PrintFormat::Human, SystemTime::UNIX_EPOCH, &handle(), &ended);
        assert!(line.ends_with("#7  ended: heartbeat timeout, after 23.001 s and 10 messages"), "{line}");
    }

    #[test]
    fn a_failing_output_fails_the_sink() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut print = Print::new(Broken, PrintFormat::Human);
        print.handle_message(&handle(), 1, b"x");
        assert!(print.flush().is_err());
    }
}
