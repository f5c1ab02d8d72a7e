//! One connection: connecting, when heartbeats and questions are due, bytes in and out. Must not know what the bytes
//! mean, nor what happens when it ends.

use crate::deadlined::{Deadlined, Deadlines, later};
use crate::ended::{Closed, Reason};
use crate::options::Options;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

/// How much is read at once, in bytes.
const READ_BYTES: usize = 16 * 1024;
/// How much is gathered to be written at once, in bytes; a single message may be longer.
pub(crate) const OUTPUT_BYTES: usize = 64 * 1024;
/// How much the kernel holds of what has not left yet, in bytes: what is urgent goes before messages, but only before
/// those that the kernel doesn't have (PROTOCOL.md section 6).
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 16 * 1024;
/// How long the last word may take, and then the gateway's end of the stream (PROTOCOL.md section 8.2).
const FAREWELL: Duration = Duration::from_secs(1);
/// Heartbeats are never sent more often than this.
const BEAT_MIN: Duration = Duration::from_millis(5);
/// How much earlier than needed a heartbeat leaves, at most.
const BEAT_EARLIER_MAX: Duration = Duration::from_secs(1);

/// An open connection.
#[derive(Debug)]
pub(crate) struct Link {
    reader: ReadHalf<Deadlined<TcpStream>>,
    writer: WriteHalf<Deadlined<TcpStream>>,
    deadlines: Deadlines,
    input: Vec<u8>,
    /// Whole frames, and how much of them has been written.
    pub(crate) output: Vec<u8>,
    written: usize,
    write_stall: Duration,
}

/// What became of waiting for the socket.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moved {
    /// This many bytes have arrived.
    Read(usize),
    /// Something was written.
    Written,
    /// Nothing came before the deadline for reading.
    Nothing,
}

/// Connects to the first of the name's addresses that takes us.
pub(crate) async fn dial(address: &str, options: &Options) -> Result<Link, Closed> {
    let unreachable = |error: io::Error| Closed::now(Reason::Unreachable, format!("{address}: {error}"));
    let until = later(Instant::now(), options.connect_timeout);
    let attempt = async {
        let fits = |address: &SocketAddr| options.bind.is_none_or(|bind| bind.is_ipv4() == address.is_ipv4());
        let addresses = tokio::net::lookup_host(address).await?.filter(fits).collect();
        first_of(addresses, until, |address| connect(address, options.bind)).await
    };
    match tokio::time::timeout_at(until, attempt).await {
        Ok(Ok(stream)) => Ok(Link::new(stream, options)),
        Ok(Err(error)) => Err(unreachable(error)),
        Err(_) => Err(unreachable(io::Error::new(io::ErrorKind::TimedOut, "nobody answered in time"))),
    }
}

/// The first of the addresses that takes us. Each has its share of the time that is left, so that one that never
/// answers doesn't hide those after it.
async fn first_of<T, F: Future<Output = io::Result<T>>>(
    addresses: Vec<SocketAddr>,
    until: Instant,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let mut fault = io::Error::new(io::ErrorKind::NotFound, "the name has no address that fits");
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        let share = until.saturating_duration_since(Instant::now()) / left.max(1);
        left = left.saturating_sub(1);
        match tokio::time::timeout(share, connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => fault = error,
            Err(_) => fault = io::Error::new(io::ErrorKind::TimedOut, "nobody answered in time"),
        }
    }
    Err(fault)
}

async fn connect(address: SocketAddr, bind: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(bind) = bind {
        socket.bind((bind, 0).into())?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    // Without it everything works all the same, but for what is urgent behind megabytes on a slow link.
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES);
    Ok(stream)
}

impl Link {
    fn new(stream: TcpStream, options: &Options) -> Self {
        let stream = Deadlined::new(stream);
        let deadlines = stream.deadlines();
        let (reader, writer) = tokio::io::split(stream);
        Self {
            reader,
            writer,
            deadlines,
            input: vec![0; READ_BYTES],
            output: Vec::new(),
            written: 0,
            write_stall: options.write_stall,
        }
    }

    pub(crate) fn set_read_deadline(&self, deadline: Instant) {
        self.deadlines.set_read_deadline(Some(deadline));
    }

    /// Whether everything has been written, so that there is room for more.
    pub(crate) fn is_written(&self) -> bool {
        self.output.is_empty()
    }

    /// What has come.
    pub(crate) fn input(&self, bytes: usize) -> &[u8] {
        self.input.get(..bytes).unwrap_or_default()
    }

    /// Reads, and writes what there is, whichever is possible first. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// How the connection has ended.
    pub(crate) async fn turn(&mut self) -> Result<Moved, Closed> {
        let rest = self.output.get(self.written..).unwrap_or_default();
        tokio::select! {
            read = self.reader.read(&mut self.input) => match read {
                Ok(bytes) => Ok(Moved::Read(bytes)),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(Moved::Nothing),
                Err(error) => Err(Closed::now(Reason::Lost, error)),
            },
            written = self.writer.write(rest), if !rest.is_empty() => match written {
                Ok(bytes) => {
                    self.handle_written(bytes);
                    Ok(Moved::Written)
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    Err(Closed::now(Reason::Stalled, "the gateway takes nothing of what is sent to it"))
                }
                Err(error) => Err(Closed::now(Reason::Lost, error)),
            },
        }
    }

    /// There is something new to be written.
    pub(crate) fn handle_output(&self) {
        if !self.output.is_empty() {
            self.deadlines.set_write_deadline(Some(later(Instant::now(), self.write_stall)));
        }
    }

    fn handle_written(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written < self.output.len() {
            return self.handle_output();
        }
        self.written = 0;
        self.output.clear();
        // What one large message needed is not kept for the next heartbeat.
        self.output.shrink_to(OUTPUT_BYTES);
        self.deadlines.set_write_deadline(None);
    }

    /// Reads once more what is there already. Somebody who could not look for a while must not take that for the
    /// other's silence.
    ///
    /// # Errors
    /// How the connection has ended.
    pub(crate) async fn read_again(&mut self) -> Result<Moved, Closed> {
        self.deadlines.set_read_deadline(None);
        // Lets the runtime look at the socket first.
        tokio::task::yield_now().await;
        tokio::select! {
            biased;
            read = self.reader.read(&mut self.input) => {
                read.map(Moved::Read).map_err(|error| Closed::now(Reason::Lost, error))
            }
            () = std::future::ready(()) => Ok(Moved::Nothing),
        }
    }

    /// Writes what there is, ends this side of the stream and waits for the other's end. What does not work in
    /// time is given up.
    pub(crate) async fn farewell(mut self) {
        self.deadlines.set_deadline(Some(Instant::now() + FAREWELL));
        let rest = self.output.get(self.written..).unwrap_or_default();
        let (reader, writer, input) = (&mut self.reader, &mut self.writer, &mut self.input);
        let write = async {
            writer.write_all(rest).await?;
            writer.shutdown().await
        };
        // A close with unread input becomes a reset, which can destroy the last word on its way.
        let discard = async { while matches!(reader.read(input).await, Ok(1..)) {} };
        let (_, ()) = tokio::join!(write, discard);
    }
}

/// When to send something, and when the gateway has been silent for too long (PROTOCOL.md section 6).
#[derive(Debug)]
pub(crate) struct Rhythm {
    every: Duration,
    patience: Duration,
    said: Instant,
    heard: Instant,
    asked: Option<Instant>,
}

/// What silence means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It is not long enough.
    Bearable,
    /// The gateway is to be asked.
    Ask,
    /// It was asked, and has not answered.
    TooLong,
}

impl Rhythm {
    pub(crate) fn new(now: Instant, beat_interval: Duration, beat_timeout: Duration) -> Self {
        let earlier = (beat_interval / 5).min(BEAT_EARLIER_MAX);
        Self {
            every: beat_interval.saturating_sub(earlier).max(BEAT_MIN),
            patience: beat_timeout.max(beat_interval).max(BEAT_MIN),
            said: now,
            heard: now,
            asked: None,
        }
    }

    /// Something was written.
    pub(crate) const fn handle_said(&mut self, now: Instant) {
        self.said = now;
    }

    /// Something has come.
    pub(crate) const fn handle_heard(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
    }

    /// The gateway is being asked.
    pub(crate) const fn handle_asked(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    /// How much silence is allowed.
    pub(crate) const fn patience(&self) -> Duration {
        self.patience
    }

    /// When the next heartbeat is due.
    pub(crate) fn beat_at(&self) -> Instant {
        self.said + self.every
    }

    /// When silence means something.
    pub(crate) fn silence_at(&self) -> Instant {
        self.asked.unwrap_or(self.heard) + self.patience
    }

    /// What the silence up to now means.
    pub(crate) fn judge(&self, now: Instant) -> Silence {
        match self.asked {
            _ if now < self.silence_at() => Silence::Bearable,
            None => Silence::Ask,
            Some(_) => Silence::TooLong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_never_answers_hides_no_other() {
        let addresses: Vec<SocketAddr> = ["[::1]:1", "[::1]:2", "127.0.0.1:3", "127.0.0.1:4"]
            .map(|address| address.parse().unwrap())
            .into();
        let start = Instant::now();
        let answers = |port: u16| async move {
            match port {
                3 => Err(io::ErrorKind::ConnectionRefused.into()),
                4 => Ok(port),
                _ => std::future::pending().await,
            }
        };
        let until = start + ms(8_000);
        let reached = first_of(addresses.clone(), until, |address| answers(address.port())).await.unwrap();
        assert_eq!(reached, 4);
        let took = start.elapsed();
        assert!((ms(4_000)..ms(4_010)).contains(&took), "each of the mute ones has a quarter: {took:?}");
        let outcome = first_of(addresses[..2].to_vec(), Instant::now() + ms(8_000), |_| answers(1)).await;
        assert_eq!(outcome.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        assert!(start.elapsed() < ms(12_010), "and all of them together have no more than was given");
    }

    #[test]
    fn a_beat_is_early_and_every_word_puts_it_off() {
        let start = Instant::now();
        let mut rhythm = Rhythm::new(start, ms(1_000), ms(3_000));
        assert_eq!(rhythm.beat_at(), start + ms(800));
        rhythm.handle_said(start + ms(500));
        assert_eq!(rhythm.beat_at(), start + ms(1_300));
        assert_eq!(Rhythm::new(start, ms(60_000), ms(0)).beat_at(), start + ms(59_000));
        assert_eq!(Rhythm::new(start, ms(0), ms(0)).beat_at(), start + BEAT_MIN);
    }

    #[test]
    fn a_gateway_is_asked_before_it_is_given_up() {
        let start = Instant::now();
        let mut rhythm = Rhythm::new(start, ms(1_000), ms(3_000));
        assert_eq!(rhythm.judge(start + ms(2_999)), Silence::Bearable);
        assert_eq!(rhythm.judge(start + ms(3_000)), Silence::Ask);
        rhythm.handle_asked(start + ms(9_000));
        assert_eq!(rhythm.judge(start + ms(11_999)), Silence::Bearable, "from the question on, in full");
        assert_eq!(rhythm.judge(start + ms(12_000)), Silence::TooLong);
        rhythm.handle_heard(start + ms(12_000));
        assert_eq!(rhythm.judge(start + ms(14_999)), Silence::Bearable);
    }
}
