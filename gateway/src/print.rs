//! The print sink: every message, and every connection's end, as one line on the standard output. What a
//! stranger sent can't drive the terminal: control characters are escaped.

use crate::config::PrintFormat;
use crate::text::{counted, hex, json_line, readable, utc};
use pulsegate_core::timer::Timer;
use pulsegate_shard::{End, Handle, Message, Sink, SinkError, TryAgain};
use std::io::{self, ErrorKind, Write};
use std::time::SystemTime;

/// From this many bytes on, lines are written without waiting for a flush.
const BUFFER_BYTES: usize = 64 * 1024;
/// An input or output error, for which there is no [`ErrorKind`].
const EIO: i32 = 5;

/// Prints to a writer. While that has no room, what isn't written is kept, and written by a later flush.
#[derive(Debug)]
pub(crate) struct Print<W: Write> {
    out: W,
    format: PrintFormat,
    /// Whole lines, but for the beginning of the first, which is written.
    buffer: Vec<u8>,
    /// How many messages have come since the buffer was last empty.
    messages: u64,
    /// Something has been written since the last flush.
    moved: bool,
    failure: Option<io::Error>,
    /// It has been logged that the writer has no room.
    is_late: bool,
    /// A terminal that is gone never comes back.
    is_terminal: bool,
}

impl<W: Write> Print<W> {
    /// A sink that prints to `out`.
    pub(crate) const fn new(out: W, format: PrintFormat, is_terminal: bool) -> Self {
        let buffer = Vec::new();
        Self { out, format, buffer, messages: 0, moved: false, failure: None, is_late: false, is_terminal }
    }

    fn line(&mut self, line: &str) {
        self.buffer.extend_from_slice(line.as_bytes());
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER_BYTES && self.failure.is_none() {
            self.failure = self.write_out().err();
        }
    }

    /// Writes what it can, and keeps the rest.
    fn write_out(&mut self) -> io::Result<()> {
        let mut written = 0;
        let outcome = loop {
            match self.buffer.get(written..) {
                None | Some([]) => break Ok(()),
                Some(rest) => match self.out.write(rest) {
                    Ok(0) => break Err(ErrorKind::WriteZero.into()),
                    Ok(more) => written += more,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                },
            }
        };
        self.moved |= written > 0;
        self.buffer.drain(..written);
        self.buffer.shrink_to(2 * BUFFER_BYTES);
        outcome
    }

    /// What a flush says of an error.
    fn judge(&mut self, error: io::Error) -> SinkError {
        if !may_pass(&error, self.is_terminal) {
            return error.into();
        }
        if !std::mem::replace(&mut self.is_late, true) {
            tracing::error!(%error, "the standard output can't be written: trying again; free some space if it is full");
        }
        let lines = self.buffer.iter().filter(|&&byte| byte == b'\n').count() as u64;
        // The writer may have a buffer of its own.
        let messages = self.messages.min(lines.max(1));
        TryAgain { error, moved: std::mem::take(&mut self.moved), messages }.into()
    }
}

/// Whether a write that failed so may succeed later.
fn may_pass(error: &io::Error, is_terminal: bool) -> bool {
    use ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull, WouldBlock};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge | WouldBlock)
        || error.raw_os_error() == Some(EIO) && !is_terminal
}

impl<W: Write + Send + 'static> Sink for Print<W> {
    fn handle_message(&mut self, connection: &Handle, message: &Message<'_>) {
        let Message { number, payload, .. } = *message;
        let line = message_line(self.format, SystemTime::now(), connection, number, payload);
        self.messages += 1;
        self.line(&line);
    }

    fn handle_closed(&mut self, connection: &Handle, end: &End) {
        let line = closed_line(self.format, SystemTime::now(), connection, end);
        self.line(&line);
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        let written = self.failure.take().map_or_else(|| self.write_out(), Err);
        if let Err(error) = written.and_then(|()| self.out.flush()) {
            return Err(self.judge(error));
        }
        (self.messages, self.moved) = (0, false);
        if std::mem::take(&mut self.is_late) {
            tracing::info!("the standard output can be written again");
        }
        Ok(())
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
            "time": time.to_string(), "event": "message", "connection": connection.to_string(),
            "peer": peer.to_string(), "message": number, "text": text,
        })),
        (PrintFormat::Json, Err(_)) => json_line(&serde_json::json!({
            "time": time.to_string(), "event": "message", "connection": connection.to_string(),
            "peer": peer.to_string(), "message": number, "hex": hex(payload),
        })),
    }
}

fn closed_line(format: PrintFormat, time: SystemTime, connection: &Handle, end: &End) -> String {
    let time = utc(time);
    let (peer, connection) = (connection.peer(), connection.number());
    let End { reason, age, totals, .. } = end;
    match format {
        PrintFormat::Human => format!(
            "{time}  {peer}  #{connection}  ended: {reason}, after {:.3} s and {}",
            age.as_secs_f64(),
            counted(totals.messages, "message")
        ),
        PrintFormat::Json => serde_json::json!({
            "time": time.to_string(), "event": "ended", "connection": connection.to_string(),
            "peer": peer.to_string(), "listener": &*end.listener, "session": end.session,
            "reason": reason.as_str(), "who": reason.who().as_str(), "timer": end.timer.map(Timer::as_str),
            "age_ms": age.as_millis() as u64, "silent_ms": end.silent_for.as_millis() as u64,
            "messages": totals.messages, "bytes_in": totals.bytes_in, "bytes_out": totals.bytes_out,
            "unsent": end.unsent,
        })
        .to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use pulsegate_core::close::CloseReason;
    use pulsegate_core::connection::Totals;
    use pulsegate_shard::{Batch, ConnectionId, From, Mailbox, Numbers, Peer, SinkQueue, TimeOrigin};
    use std::sync::Arc;
    use std::thread::JoinHandle;
    use std::time::{Duration, Instant};

    /// The first connection of a shard that began with the numbers.
    fn from() -> From {
        let number = Numbers::new(0, 0).next();
        From { id: ConnectionId::new(0, number), number, peer: Peer::new(([127, 0, 0, 1], 50_000).into()) }
    }

    fn origin() -> TimeOrigin {
        TimeOrigin::new(Instant::now())
    }

    fn handle() -> Handle {
        from().handle(Arc::new(Mailbox::new(|| {})), origin())
    }

    #[test]
    fn people_see_time_peer_connection_and_text() {
        let line = message_line(PrintFormat::Human, SystemTime::UNIX_EPOCH, &handle(), 1, b"hello\r\n");
        assert_eq!(line, "1970-01-01T00:00:00.000Z  127.0.0.1:50000  #0-0-1  hello");
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
        let (number, reason) = (handle().number(), CloseReason::HeartbeatTimeout);
        let mut end = End::at_once(number, "doorbells".into(), handle().peer(), reason);
        end.timer = Some(Timer::Heartbeat);
        (end.age, end.silent_for) = (Duration::from_millis(23_001), Duration::from_secs(5));
        end.totals = Totals { messages: 10, ..Totals::default() };
        let line = closed_line(PrintFormat::Json, SystemTime::UNIX_EPOCH, &handle(), &end);
        let value: serde_json::Value = serde_json::from_str(&line).expect("an object");
        assert_eq!((&value["connection"], &value["listener"]), (&"0-0-1".into(), &"doorbells".into()));
        assert_eq!((&value["timer"], &value["silent_ms"]), (&"heartbeat".into(), &5_000.into()));
        let line = closed_line(PrintFormat::Human, SystemTime::UNIX_EPOCH, &handle(), &end);
        assert!(line.ends_with("#0-0-1  ended: heartbeat timeout, after 23.001 s and 10 messages"), "{line}");
    }

    /// Has this many bytes of room, and then fails like this.
    #[derive(Clone)]
    struct Disk(Arc<Mutex<(usize, ErrorKind, Vec<u8>)>>);

    impl Disk {
        fn new(room: usize, without: ErrorKind) -> Self {
            Self(Arc::new(Mutex::new((room, without, Vec::new()))))
        }

        fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().2).into_owned()
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (room, without, written) = &mut *self.0.lock();
            let taken = bytes.len().min(*room);
            if taken == 0 {
                return Err((*without).into());
            }
            *room -= taken;
            written.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_failing_output_fails_the_sink() {
        let mut print = Print::new(Disk::new(0, ErrorKind::BrokenPipe), PrintFormat::Human, false);
        print.handle_message(&handle(), &Message::raw(1, b"x"));
        assert!(!print.flush().expect_err("broken").is::<TryAgain>());
    }

    #[test]
    fn a_terminal_that_is_gone_does_not_come_back() {
        let gone = io::Error::from_raw_os_error(EIO);
        assert!(may_pass(&gone, false) && !may_pass(&gone, true));
    }

    /// A queue with a thread that prints to `disk`.
    fn printing(disk: &Disk) -> (Arc<SinkQueue>, JoinHandle<Result<(), SinkError>>) {
        let queue = Arc::new(SinkQueue::new(64 * 1024, &[Arc::new(Mailbox::new(|| {}))]));
        let print = Print::new(disk.clone(), PrintFormat::Human, false);
        let served = Arc::clone(&queue);
        let serving = move || served.serve(Box::new(print), origin());
        (queue, std::thread::spawn(serving))
    }

    fn push(queue: &SinkQueue, numbers: std::ops::Range<u64>) {
        let mut batch = Batch::default();
        numbers.for_each(|n| {
            let payload = format!("m{n}");
            batch.push_message(from(), &Message::raw(n, payload.as_bytes()));
        });
        queue.push(0, batch);
    }

    fn wait_until(what: &str, is_so: impl Fn() -> bool) {
        let limit = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < limit, "this never came: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_full_disk_is_tried_again_and_every_line_written_once() {
        let disk = Disk::new(1_000, ErrorKind::StorageFull);
        let (queue, thread) = printing(&disk);
        (0..100).for_each(|batch| push(&queue, 50 * batch..50 * (batch + 1)));
        wait_until("it is full", || disk.text().len() == 1_000);
        // The second runs out within a line, and within what was kept.
        for room in [777, 100_000, usize::MAX >> 1] {
            disk.0.lock().0 = room;
            wait_until("it has taken that", || disk.0.lock().0 == 0 || queue.messages() == 0);
        }
        queue.close();
        thread.join().expect("no panic").expect("it goes on");
        let text = disk.text();
        let said: Vec<_> =
            text.lines().filter_map(|line| line.rsplit_once("  ")).map(|(_, m)| m.to_owned()).collect();
        assert_eq!(said, (0..5_000).map(|n| format!("m{n}")).collect::<Vec<_>>());
        assert_eq!(queue.messages(), 0);
    }

    #[test]
    fn while_the_disk_is_full_the_queue_fills_and_takes_nothing() {
        let disk = Disk::new(0, ErrorKind::QuotaExceeded);
        let (queue, thread) = printing(&disk);
        wait_until("it is full", || {
            push(&queue, 0..50);
            queue.is_full(0)
        });
        let before = (queue.taken(), queue.bytes());
        std::thread::sleep(Duration::from_millis(600));
        assert_eq!((queue.taken(), queue.bytes()), before);
        assert!(!queue.has_failed());
        queue.close();
        queue.give_up();
        assert!(thread.join().expect("no panic").is_err());
    }

    #[test]
    fn who_is_given_up_ends_within_a_pause_and_counts_what_is_not_written() {
        let disk = Disk::new(100, ErrorKind::StorageFull);
        let (queue, thread) = printing(&disk);
        push(&queue, 0..10);
        wait_until("it is full", || disk.text().len() == 100);
        queue.close();
        queue.give_up();
        assert!(thread.join().expect("no panic").is_err());
        assert!((8..=10).contains(&queue.messages()), "{}", queue.messages());
        assert_eq!(disk.text().len(), 100);
    }
}
