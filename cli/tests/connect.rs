//! `pulsegate connect`, the real program, against small servers that each behave in one way.

use socket2::{Domain, SockRef, Socket, Type};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Bounds every wait. Shorter than the pause of 60 s in the scenarios, so that who sits out a pause fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the program left behind.
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    fn assert(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "\n{}{}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stdout.contains(word), "no {word:?} in\n{}{}", self.stdout, self.stderr);
        }
    }
}

fn start(address: &str, more: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pulsegate"))
        .args(["connect", address])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).expect("output is text");
        text
    })
}

fn finish(mut child: Child) -> Outcome {
    let stdout = collect(child.stdout.take().expect("piped"));
    let stderr = collect(child.stderr.take().expect("piped"));
    let deadline = Instant::now() + PATIENCE;
    let code = loop {
        if let Some(status) = child.try_wait().expect("a child to wait for") {
            break status.code();
        }
        if Instant::now() > deadline {
            child.kill().expect("a child to kill");
            child.wait().expect("a child to wait for");
            panic!("still running after {PATIENCE:?}:\n{}", stdout.join().expect("output"));
        }
        thread::sleep(Duration::from_millis(5));
    };
    Outcome { code, stdout: stdout.join().expect("output"), stderr: stderr.join().expect("output") }
}

fn play(address: SocketAddr, more: &[&str]) -> Outcome {
    finish(start(&address.to_string(), &[&["--raw"], more].concat()))
}

/// A server for one connection, which does what it is told with it.
fn serve<T: Send + 'static>(
    behave: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    (address, thread::spawn(move || behave(accept(&listener))))
}

fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).expect("a socket");
    let deadline = Instant::now() + PATIENCE;
    let stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("nobody came: {error}"),
        }
    };
    stream.set_nonblocking(false).expect("a socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

fn read_lines(stream: &TcpStream, count: usize) -> Vec<String> {
    let lines = BufReader::new(stream).lines();
    lines.take(count).map(|line| line.expect("a line")).collect()
}

#[test]
fn everything_is_sent_in_order_and_then_closed() {
    let (address, served) = serve(|stream| read_lines(&stream, usize::MAX));
    let outcome = play(address, &["--count", "3", "--every", "5ms", "--pause", "20ms", "--repeat", "2"]);
    let expected: Vec<_> = (1..=6).map(|number| format!("message {number}")).collect();
    assert_eq!(served.join().unwrap(), expected);
    let said = [
        &format!("connected to {address} from 127.0.0.1:"),
        "sent #1 \"message 1\"",
        "silent for 20ms",
        "sent #6 \"message 6\"",
        "all 6 messages sent, closed by us after ",
        "the server closed the connection",
    ];
    outcome.assert(0, &said);
    assert_eq!(outcome.stdout.matches("silent for").count(), 1, "{}", outcome.stdout);
    assert_eq!(outcome.stderr, "");
}

#[test]
fn every_line_carries_its_moment_in_utc() {
    let (address, _served) = serve(|stream| read_lines(&stream, usize::MAX));
    let outcome = play(address, &["--count", "2", "--every", "5ms", "--message", "{n}/{n}"]);
    outcome.assert(0, &["sent #2 \"2/2\""]);
    for line in outcome.stdout.lines() {
        let (moment, _) = line.split_once(' ').unwrap();
        assert!(moment.len() == "2025-01-01T00:00:00.000Z".len(), "{line}");
        humantime::parse_rfc3339(moment).unwrap();
    }
}

#[test]
fn the_servers_end_is_noticed_in_the_middle_of_a_pause() {
    let (address, _served) = serve(|mut stream| {
        read_lines(&stream, 3);
        stream.write_all(b"heartbeat timeout; come back at once\n").expect("the client listens");
    });
    let outcome = play(address, &["--count", "3", "--every", "5ms", "--pause", "60s", "--repeat", "2"]);
    let said = [
        "silent for 1m",
        "received \"heartbeat timeout; come back at once\"\n",
        "the server closed the connection",
        " after the last send: 3 of 6 messages sent",
    ];
    outcome.assert(3, &said);
}

#[test]
fn a_reset_is_told_from_an_orderly_end() {
    let (address, _served) = serve(|stream| {
        read_lines(&stream, 3);
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    });
    let outcome = play(address, &["--count", "3", "--every", "5ms", "--pause", "60s", "--repeat", "2"]);
    outcome.assert(3, &["the server reset the connection", "3 of 6 messages sent"]);
}

#[test]
fn what_the_server_sends_cannot_drive_the_terminal() {
    let (address, _served) = serve(|mut stream| {
        stream.write_all(b"\x1b[2J\x07\xff\r\n").expect("the client listens");
        stream.write_all(&[b'x'; 5000]).expect("the client listens");
        stream.write_all(b"\nno end").expect("the client listens");
        read_lines(&stream, usize::MAX);
    });
    let outcome = play(address, &["--count", "2", "--every", "300ms"]);
    let said = [
        "received \"\\u{1b}[2J\\u{7}\\xff\\r\"\n",
        "xxx\"... (5000 bytes)\n",
        "received \"no end\" (no line end)\n",
    ];
    outcome.assert(0, &said);
    assert!(outcome.stdout.lines().all(|line| line.len() < 400), "{}", outcome.stdout);
}

#[test]
fn a_server_that_never_stops_sending_does_not_keep_messages_back() {
    let (address, served) = serve(|stream| {
        let mut sender = stream.try_clone().expect("a socket");
        let flood = thread::spawn(move || while sender.write_all(&[b'z'; 4096]).is_ok() {});
        let lines = read_lines(&stream, 5);
        drop(stream.shutdown(std::net::Shutdown::Both));
        flood.join().expect("the flood ends");
        lines.len()
    });
    play(address, &["--count", "5", "--every", "5ms"]).assert(0, &["all 5 messages sent"]);
    assert_eq!(served.join().unwrap(), 5);
}

#[test]
fn a_stuck_write_does_not_hide_the_end() {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Small, so that the client's writes get stuck early.
    listener.set_recv_buffer_size(4096).unwrap();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(1).unwrap();
    let listener = TcpListener::from(listener);
    let message = "m".repeat(100_000);
    let address = listener.local_addr().unwrap().to_string();
    let more = ["--raw", "--message", &message, "--count", "1000", "--every", "0s"];
    let child = start(&address, &more);
    let mut stream = accept(&listener);
    // Long enough for the client to fill the buffers; if it isn't, the test only asks for less.
    thread::sleep(Duration::from_millis(300));
    stream.write_all(b"you write too much\n").unwrap();
    // With unread input a close becomes a reset, which may overtake the line; so does the client hear it first.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let outcome = finish(child);
    let said =
        ["received \"you write too much\"", "the server closed the connection", "of 1000 messages sent"];
    outcome.assert(3, &said);
}

#[test]
fn a_reset_during_a_stuck_write_ends_it() {
    let (address, _served) = serve(|stream| {
        // With something unread its end is a reset.
        stream.peek(&mut [0]).expect("it sends");
        thread::sleep(Duration::from_millis(200));
        drop(stream);
    });
    let message = "m".repeat(100_000);
    let outcome = play(address, &["--message", &message, "--count", "1000", "--every", "0s"]);
    outcome.assert(3, &["the server reset the connection", "of 1000 messages sent"]);
}

#[test]
fn ctrl_c_says_how_far_it_got() {
    let (address, served) = serve(|stream| {
        let lines = read_lines(&stream, 2);
        (lines.len(), stream)
    });
    let more = ["--raw", "--count", "2", "--every", "5ms", "--pause", "60s", "--repeat", "2"];
    let child = start(&address.to_string(), &more);
    let (lines, _stream) = served.join().unwrap();
    assert_eq!(lines, 2);
    // The server may have the message before the client has counted it.
    thread::sleep(Duration::from_millis(200));
    let kill = format!("kill -INT {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    finish(child).assert(130, &["interrupted", "2 of 4 messages sent"]);
}

#[test]
fn refused_says_what_to_do() {
    // Bound, so that nobody else takes the port, but not listening.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let outcome = play(address, &[]);
    outcome.assert(1, &[]);
    let expected =
        format!("nothing listens on {address}: is the gateway running? start it with `pulsegate serve`");
    assert!(outcome.stderr.contains(&expected), "{}", outcome.stderr);
}

#[test]
fn an_address_without_a_port_is_explained() {
    let outcome = finish(start("localhost", &["--raw"]));
    outcome.assert(2, &[]);
    assert!(outcome.stderr.contains("`localhost` has no port: write host:port"), "{}", outcome.stderr);
}

#[test]
fn wrong_arguments_are_told_from_failures() {
    for (more, expected) in [
        (&[][..], "--id <ID>"),
        (&["--raw", "--count", "0"], "--count"),
        (&["--raw", "--every", "soon"], "--every"),
        (&["--raw", "--outbox", "file"], "--outbox"),
    ] {
        let outcome = finish(start("127.0.0.1:1", more));
        outcome.assert(2, &[]);
        assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
    }
}
