//! Thousands of clients on one thread: they beat at an even pace and note when they are ended.

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Each client beats once in this time, each at its own phase.
const PERIOD: Duration = Duration::from_secs(1);
const BEAT: &[u8] = b"beat 0123456789 0123456789 01234";

/// Many clients.
pub(crate) struct Crowd {
    poll: Poll,
    clients: Vec<Client>,
    ends: Vec<End>,
}

struct Client {
    stream: TcpStream,
    last_beat: Instant,
}

/// The server has ended a client's connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) client: usize,
    /// From just before its last beat to the end.
    pub(crate) silence: Duration,
}

impl Crowd {
    /// Connects `count` clients, spread over source addresses so that no port is needed twice.
    pub(crate) fn connect(server: SocketAddr, count: usize) -> Self {
        raise_descriptor_limit();
        let poll = Poll::new().expect("a poller");
        let mut clients = Vec::with_capacity(count);
        for index in 0..count {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor");
            let source = Ipv4Addr::new(127, 0, 1, (index % 8) as u8 + 1);
            socket.bind(&SocketAddr::from((source, 0)).into()).expect("a loopback address");
            socket.connect(&server.into()).expect("the server accepts");
            socket.set_nonblocking(true).expect("an option");
            let mut stream = TcpStream::from_std(socket.into());
            poll.registry().register(&mut stream, Token(index), Interest::READABLE).expect("room");
            clients.push(Client { stream, last_beat: Instant::now() });
        }
        Self { poll, clients, ends: Vec::new() }
    }

    /// Everybody says its first message.
    pub(crate) fn greet(&mut self) {
        for index in 0..self.clients.len() {
            self.beat(index);
        }
        self.rest_for(Duration::from_millis(500));
    }

    /// These clients beat for a time, the others are silent.
    pub(crate) fn beat_for(&mut self, span: Duration, beating: Range<usize>) {
        let began = Instant::now();
        let count = beating.len().max(1);
        let mut beats = 0;
        while began.elapsed() < span {
            let due = (began.elapsed().as_secs_f64() / PERIOD.as_secs_f64() * count as f64) as usize;
            while beats < due {
                self.beat(beating.start + beats % count);
                beats += 1;
            }
            self.watch(Duration::from_millis(1));
        }
    }

    /// Nobody beats for a time.
    pub(crate) fn rest_for(&mut self, span: Duration) {
        let began = Instant::now();
        while began.elapsed() < span {
            self.watch(Duration::from_millis(10));
        }
    }

    /// Those that the server has ended.
    pub(crate) fn ended(&self) -> impl Iterator<Item = End> + '_ {
        self.ends.iter().copied()
    }

    fn beat(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.last_beat = Instant::now();
        // A connection that was ended shows as an end, not here.
        let _ = client.stream.write(BEAT);
    }

    fn watch(&mut self, at_most: Duration) {
        let mut events = Events::with_capacity(1024);
        self.poll.poll(&mut events, Some(at_most)).expect("the poller works");
        for event in &events {
            let index = event.token().0;
            let client = &mut self.clients[index];
            let ended = match client.stream.read(&mut [0; 64]) {
                Ok(0) => true,
                Ok(_) => false,
                Err(error) => error.kind() != ErrorKind::WouldBlock,
            };
            if ended && self.ends.iter().all(|end| end.client != index) {
                self.ends.push(End { client: index, silence: client.last_beat.elapsed() });
                self.poll.registry().deregister(&mut client.stream).expect("it was registered");
            }
        }
    }
}

/// Minimum, median, 99th percentile and maximum.
pub(crate) struct Figures {
    sorted: Vec<Duration>,
}

impl Figures {
    pub(crate) fn of(values: impl Iterator<Item = Duration>) -> Self {
        let mut sorted: Vec<Duration> = values.collect();
        sorted.sort_unstable();
        Self { sorted }
    }

    fn at(&self, share: f64) -> Duration {
        let last = self.sorted.len().saturating_sub(1);
        self.sorted.get((last as f64 * share) as usize).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "min {:?} p50 {:?} p99 {:?} max {:?}",
            self.at(0.0),
            self.at(0.5),
            self.at(0.99),
            self.at(1.0)
        )
    }
}

/// As far as the hard limit.
pub(crate) fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the soft limit may be raised");
    }
}
