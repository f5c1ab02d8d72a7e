//! What the tests over real sockets share: a gateway in this process, clients, and waiting. Must not know what
//! is tested.
#![allow(dead_code, reason = "each test program uses its own part of this")]

pub(crate) mod pulse;
pub(crate) mod recorder;

use pulsegate::config::DescriptorTables;
use pulsegate::{
    CloseReason, Config, Control, Counts, Framing, Gateway, LifetimePolicy, ListenerConfig, Policy, RunError,
};
use recorder::Recorder;
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, Read};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bounds every wait; nothing is judged by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The name of the recording sink.
pub(crate) const RECORDER: &str = "recorder";

pub(crate) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// An address for a test that looks at ports which nobody listens on any more: another test, or this one in
/// another process, may have been given such a port anywhere else. `which` is below 4.
pub(crate) fn own_loopback(which: u8) -> SocketAddr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    (Ipv4Addr::new(127, which << 6 | high & 63, middle, low), 0).into()
}

/// Waits until it is so; fails with `what` if it never is.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < limit, "this never came: {what}");
        std::thread::sleep(millis(2));
    }
}

/// A long lifetime.
pub(crate) fn long(heartbeat_timeout: Duration) -> LifetimePolicy {
    LifetimePolicy::Long { heartbeat_timeout, max_age: Duration::from_secs(3600) }
}

/// A patient listener on a free port, with lines, that records.
pub(crate) fn listener(change: impl FnOnce(&mut ListenerConfig)) -> ListenerConfig {
    let mut config = ListenerConfig {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        sink: RECORDER.to_owned(),
        policy: Policy { lifetime: long(PATIENCE * 2), framing: Framing::Lines, ..Policy::default() },
        ..ListenerConfig::default()
    };
    config.policy.first_message = PATIENCE * 2;
    change(&mut config);
    config
}

/// A gateway in this process, and what its recording sink saw.
pub(crate) struct Running {
    pub(crate) gateway: Gateway,
    pub(crate) control: Control,
    pub(crate) recorder: Recorder,
}

impl Running {
    /// One listener, as many shards as usual.
    pub(crate) fn start(change: impl FnOnce(&mut ListenerConfig)) -> Self {
        Self::start_with(Config { listeners: vec![listener(change)], ..Config::default() })
    }

    /// Everything as it is said.
    pub(crate) fn start_with(config: Config) -> Self {
        let recorder = Recorder::default();
        // As in the program.
        let tables = config.descriptor_tables.or(Some(DescriptorTables::PerShard));
        let config = Config { descriptor_tables: tables, ..config };
        let gateway = Gateway::builder().config(config).sink(RECORDER, recorder.clone()).start().unwrap();
        Self { control: gateway.control(), gateway, recorder }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.gateway.addresses()[0]
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address())
    }

    /// A client, and its number as the sink knows it.
    pub(crate) fn connect_known(&self) -> (TcpStream, u64) {
        let stream = self.connect();
        let own = stream.local_addr().unwrap();
        wait_until("the sink hears of the connection", || self.recorder.number_of(own).is_some());
        (stream, self.recorder.number_of(own).unwrap())
    }

    pub(crate) fn counts(&self) -> Counts {
        self.control.counts()
    }

    /// Waits until so many connections were accepted and all have ended.
    #[track_caller]
    pub(crate) fn wait_all_ended(&self, accepted: u64) {
        wait_until("all connections end", || {
            let counts = self.counts();
            counts.accepted() == accepted && counts.open() == 0
        });
    }

    /// Stops it and checks the books: what was accepted has ended, the sink heard of each end once and of
    /// nothing after it, and the ends are `expected`, in any order.
    #[track_caller]
    pub(crate) fn finish(self, expected: &[(CloseReason, u64)]) {
        let counts = self.stop().unwrap();
        let mut expected = expected.to_vec();
        let mut reasons = counts.reasons();
        expected.sort_by_key(|(reason, _)| reason.index());
        reasons.sort_by_key(|(reason, _)| reason.index());
        assert_eq!(reasons, expected);
    }

    /// Stops it, checks the books, and returns the counts.
    #[track_caller]
    pub(crate) fn stop(self) -> Result<Counts, RunError> {
        self.control.stop();
        let counts = self.gateway.wait()?;
        assert_eq!(counts.open(), 0, "{counts:?}");
        assert_eq!(counts.accepted(), counts.ended_in_all(), "{counts:?}");
        self.recorder.assert_sound();
        Ok(counts)
    }
}

/// One shard, which makes the order of things certain.
pub(crate) fn one_shard(listeners: Vec<ListenerConfig>) -> Config {
    Config { listeners, shards: NonZeroUsize::new(1), ..Config::default() }
}

/// A client whose reads are bounded.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A client that comes from this address.
pub(crate) fn connect_from(source: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Everything up to the end, and the error if it wasn't an orderly one.
pub(crate) fn hear_out(stream: &mut TcpStream) -> (Vec<u8>, Option<io::ErrorKind>) {
    let mut heard = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (heard, None),
            Ok(count) => heard.extend_from_slice(&buffer[..count]),
            Err(error) => return (heard, Some(error.kind())),
        }
    }
}

/// Everything up to the end, as text; fails if the end wasn't an orderly one.
#[track_caller]
pub(crate) fn hear_text(stream: &mut TcpStream) -> String {
    let (heard, error) = hear_out(stream);
    let text = String::from_utf8(heard).unwrap();
    assert_eq!(error, None, "after {text:?}");
    text
}

/// Whether the connection has neither ended nor brought anything.
pub(crate) fn is_quiet(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let outcome = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    outcome.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// Ends it with a reset.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Ends our side.
pub(crate) fn shut(stream: &TcpStream) {
    // An error says that there is no connection any more, and then the test looks for why by itself.
    let _ = stream.shutdown(Shutdown::Write);
}

/// The signals that each thread of a process blocks, as a mask, with the thread's name.
pub(crate) fn blocked_signals(process: u32) -> Vec<(String, u64)> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let task = |folder: &Path| {
        let name = std::fs::read_to_string(folder.join("comm")).ok()?;
        let status = std::fs::read_to_string(folder.join("status")).ok()?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
        Some((name.trim().to_owned(), u64::from_str_radix(mask.trim(), 16).unwrap()))
    };
    tasks.filter_map(|entry| task(&entry.unwrap().path())).collect()
}

/// A signal in such a mask, by its number.
pub(crate) const fn signal_bit(signal: i32) -> u64 {
    1 << (signal - 1)
}
