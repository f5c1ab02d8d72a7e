//! What an idle client costs the gateway in memory, from outside: so many of them at once that pages and what is made
//! once don't matter. Time plays no part in it.

use crate::crowd::raise_descriptor_limit;
use crate::server::Server;
use pulsegate_core::exchange::Window;
use pulsegate_core::frame::{Frame, Hello, LifetimeKind, PREFACE, Refusals};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::time::Duration;

/// Here before the others, so that what is made once, or for the first, is not counted.
const EARLIER: usize = 200;
const COUNTED: usize = 4_000;

/// What an idle client costs at most, in bytes.
const RAW_BYTES_MAX: usize = 128 + MIO_DEBUG_BYTES;
const SESSION_BYTES_MAX: usize = 624 + MIO_DEBUG_BYTES;
/// mio's debug builds keep an extra word beside each descriptor, and the entry grows by two.
const MIO_DEBUG_BYTES: usize = if cfg!(debug_assertions) { 16 } else { 0 };
/// What may be left of each raw client when all have gone.
const LEFT_BYTES_MAX: usize = 16;
/// So many crowds come after those with which the allocator settles. It goes on keeping more room now and then, which
/// is little of each client of all of them, while a leak is the same of each.
const LATER_CROWDS: usize = 3;
/// A whole crowd that goes at once has its ends in queues to sink and store for a moment, and the allocator keeps that
/// room too: so much of each client.
const ENDED_BYTES_MAX: usize = 96;
/// What those crowds of sessions may leave, of each client.
const LEFT_AGAIN_BYTES_MAX: usize = 96;

/// So many come at once.
const GROUP: usize = 100;

/// What a client of this number says when it comes, and how many bytes it is told.
type Greeting = fn(usize) -> (Vec<u8>, usize);

fn raw(_: usize) -> (Vec<u8>, usize) {
    (b"here".to_vec(), 0)
}

fn session(number: usize) -> (Vec<u8>, usize) {
    let hello = Hello {
        lifetime: LifetimeKind::Any,
        beat_min_ms: 0,
        beat_max_ms: 0,
        window: Window { messages: 64, bytes: 64 * 1024 },
        message_bytes_max: 64 * 1024,
        session: 0,
        token: [0; 16],
        committed: 0,
        acknowledged: 0,
        id: &format!("client {number:09}"),
        refused: Refusals::default(),
    };
    let mut bytes = PREFACE.to_vec();
    Frame::Hello(hello).encode(&mut bytes);
    // A WELCOME without refusals is so long.
    (bytes, 4 + 96)
}

/// Clients of these numbers, who are there and idle.
fn come(server: &Server, greeting: Greeting, numbers: Range<usize>) -> Vec<TcpStream> {
    let last = numbers.end;
    let mut clients = Vec::with_capacity(numbers.len());
    for group in numbers.clone().step_by(GROUP) {
        for number in group..last.min(group + GROUP) {
            let mut stream = TcpStream::connect(server.address()).expect("the server accepts");
            stream.set_read_timeout(Some(Duration::from_secs(30))).expect("an option");
            stream.write_all(&greeting(number).0).expect("it is connected");
            clients.push(stream);
        }
        for (stream, number) in clients[group - numbers.start..].iter_mut().zip(group..) {
            stream.read_exact(&mut vec![0; greeting(number).1]).expect("it is answered");
        }
    }
    server.wait_until_read(last);
    clients
}

/// What one client cost, and what it left.
struct Figures {
    each: usize,
    left: usize,
    /// What one client of the later crowds left.
    left_again: usize,
}

/// Crowds come and go, one after the other.
fn measure(name: &str, flags: &[&str], greeting: Greeting) -> Figures {
    raise_descriptor_limit();
    // A usual page has room for some sessions, a huge one for thousands. Whoever is started inherits this.
    nix::sys::prctl::set_thp_disable(true).expect("any process may do without huge pages");
    let patient = ["--shards", "1", "--long", "1h", "--first-message", "1h"];
    let server = Server::start(&[&patient, flags].concat());
    let crowd = || {
        let earlier = come(&server, greeting, 0..EARLIER);
        let base = server.own_memory();
        let counted = come(&server, greeting, EARLIER..EARLIER + COUNTED);
        let held = server.own_memory();
        drop((earlier, counted));
        server.wait_for_open(0);
        let left = server.own_memory();
        println!("{name}: {base} -> {held} -> {left} bytes");
        (base, held, left)
    };
    let (base, held, left) = crowd();
    // The allocator has settled only after a second one.
    let (_, _, left_settled) = crowd();
    let mut left_again = left_settled;
    for _ in 0..LATER_CROWDS {
        (_, _, left_again) = crowd();
    }
    server.stop();
    let each = |more: usize, base: usize| more.saturating_sub(base) / COUNTED;
    let figures = Figures {
        each: each(held, base),
        left: each(left, base),
        left_again: each(left_again, left_settled) / LATER_CROWDS,
    };
    println!("{name}: {} bytes each; left {}, again {}", figures.each, figures.left, figures.left_again);
    figures
}

#[track_caller]
fn assert_session_is_cheap(figures: &Figures) {
    assert!(figures.each <= SESSION_BYTES_MAX, "{} bytes each", figures.each);
    // The session itself stays, and the allocator keeps what the connection had for the next one.
    assert!(figures.left <= SESSION_BYTES_MAX + ENDED_BYTES_MAX, "{} bytes are left of each", figures.left);
    assert!(
        figures.left_again <= LEFT_AGAIN_BYTES_MAX,
        "the later crowds leave {} more of each",
        figures.left_again
    );
}

#[test]
fn an_idle_raw_connection_costs_little() {
    let figures = measure("raw connections", &["--sink", "discard"], raw);
    assert!(figures.each <= RAW_BYTES_MAX, "{} bytes each", figures.each);
    assert!(figures.left <= LEFT_BYTES_MAX, "{} bytes are left of each", figures.left);
}

#[test]
fn an_idle_session_costs_little() {
    let flags = ["--protocol", "pulse", "--sink", "discard"];
    assert_session_is_cheap(&measure("sessions in memory", &flags, session));
}

#[test]
fn an_idle_session_on_disk_costs_little() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().to_str().expect("its name is text");
    let flags = ["--protocol", "pulse", "--sink", "store", "--durability", "os", "--data-dir", folder];
    assert_session_is_cheap(&measure("sessions on disk", &flags, session));
}
