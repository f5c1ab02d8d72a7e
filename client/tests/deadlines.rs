//! The stream with deadlines: in virtual time over a pipe, and over a real socket.

use pulsegate_client::Deadlined;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn pipe() -> (Deadlined<DuplexStream>, DuplexStream) {
    let (here, there) = duplex(16);
    (Deadlined::new(here), there)
}

async fn read(stream: &mut Deadlined<DuplexStream>) -> Result<u8, ErrorKind> {
    stream.read_u8().await.map_err(|error| error.kind())
}

#[tokio::test(start_paused = true)]
async fn a_pending_read_ends_at_its_deadline_and_not_before() {
    let (mut stream, _there) = pipe();
    let start = Instant::now();
    stream.set_read_deadline(Some(start + ms(100)));
    assert_eq!(read(&mut stream).await, Err(ErrorKind::TimedOut));
    assert!((ms(100)..ms(102)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_passed_deadline_holds_even_for_what_is_there_until_it_is_moved() {
    let (mut stream, mut there) = pipe();
    there.write_all(b"ab").await.unwrap();
    stream.set_read_deadline(Some(Instant::now()));
    assert_eq!(read(&mut stream).await, Err(ErrorKind::TimedOut));
    assert_eq!(read(&mut stream).await, Err(ErrorKind::TimedOut));
    stream.set_read_deadline(Some(Instant::now() + ms(1)));
    assert_eq!(read(&mut stream).await, Ok(b'a'));
    stream.set_read_deadline(None);
    sleep(ms(10)).await;
    assert_eq!(read(&mut stream).await, Ok(b'b'));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_moved_from_elsewhere_while_a_read_is_pending() {
    let (mut stream, mut there) = pipe();
    let deadlines = stream.deadlines();
    let start = Instant::now();
    let reading = tokio::spawn(async move { (read(&mut stream).await, start.elapsed(), stream) });
    sleep(ms(10)).await;
    // From none to one, later, sooner, and away.
    deadlines.set_read_deadline(Some(start + ms(100)));
    sleep(ms(10)).await;
    deadlines.set_deadline(Some(start + ms(500)));
    sleep(ms(130)).await;
    assert!(!reading.is_finished(), "the earlier deadline does not count any more");
    deadlines.set_read_deadline(Some(start + ms(200)));
    let (outcome, elapsed, mut stream) = reading.await.unwrap();
    assert_eq!(outcome, Err(ErrorKind::TimedOut));
    assert!((ms(200)..ms(202)).contains(&elapsed), "{elapsed:?}");
    deadlines.set_deadline(None);
    let reading = tokio::spawn(async move { read(&mut stream).await });
    sleep(ms(10_000)).await;
    assert!(!reading.is_finished());
    there.write_all(b"x").await.unwrap();
    assert_eq!(reading.await.unwrap(), Ok(b'x'));
}

#[tokio::test(start_paused = true)]
async fn an_instant_in_the_past_ends_a_pending_read_at_once() {
    let (mut stream, _there) = pipe();
    let deadlines = stream.deadlines();
    let start = Instant::now();
    let reading = tokio::spawn(async move { (read(&mut stream).await, start.elapsed()) });
    sleep(ms(5)).await;
    deadlines.set_read_deadline(Some(start));
    let (outcome, elapsed) = reading.await.unwrap();
    assert_eq!((outcome, elapsed), (Err(ErrorKind::TimedOut), ms(5)));
}

#[tokio::test(start_paused = true)]
async fn each_direction_has_its_own() {
    let (mut stream, mut there) = pipe();
    let start = Instant::now();
    stream.set_write_deadline(Some(start + ms(50)));
    stream.write_all(&[1; 16]).await.unwrap();
    let stuck = stream.write_all(&[2; 1]).await.map_err(|error| error.kind());
    assert_eq!((stuck, start.elapsed() >= ms(50)), (Err(ErrorKind::TimedOut), true));
    assert_eq!(stream.flush().await.map_err(|error| error.kind()), Err(ErrorKind::TimedOut));
    assert_eq!(stream.shutdown().await.map_err(|error| error.kind()), Err(ErrorKind::TimedOut));
    there.write_all(b"x").await.unwrap();
    assert_eq!(read(&mut stream).await, Ok(b'x'), "reading goes on");
    stream.set_write_deadline(None);
    let mut bytes = [0; 16];
    there.read_exact(&mut bytes).await.unwrap();
    stream.write_all(&[3; 1]).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(there.read_u8().await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_keeps_moving_away_never_passes() {
    let (mut stream, mut there) = pipe();
    let deadlines = stream.deadlines();
    let reading = tokio::spawn(async move { read(&mut stream).await });
    for _ in 0..100 {
        deadlines.set_read_deadline(Some(Instant::now() + ms(30)));
        sleep(ms(20)).await;
    }
    assert!(!reading.is_finished());
    there.write_all(b"x").await.unwrap();
    assert_eq!(reading.await.unwrap(), Ok(b'x'));
}

#[tokio::test]
async fn a_real_socket_obeys_too_and_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut there, _) = listener.accept().await.unwrap();
    let mut stream = Deadlined::new(stream);
    let start = Instant::now();
    stream.set_deadline(Some(start + ms(30)));
    let outcome = stream.read_u8().await.map_err(|error| error.kind());
    assert_eq!((outcome, start.elapsed() >= ms(30)), (Err(ErrorKind::TimedOut), true));
    // A write that nobody takes.
    let stuck = loop {
        stream.set_write_deadline(Some(Instant::now() + ms(30)));
        if let Err(error) = stream.write_all(&[7; 64 * 1024]).await {
            break error.kind();
        }
    };
    assert_eq!(stuck, ErrorKind::TimedOut);
    stream.set_deadline(None);
    there.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    let (mut reader, mut writer) = tokio::io::split(stream);
    let discard = tokio::spawn(async move {
        let mut bytes = vec![0; 64 * 1024];
        while there.read(&mut bytes).await.unwrap() > 0 {}
        there.shutdown().await.unwrap();
    });
    writer.write_all(b"goes on").await.unwrap();
    writer.shutdown().await.unwrap();
    discard.await.unwrap();
    assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
}

/// The last instant that the clock can say, to the second.
fn last_instant() -> Instant {
    let (now, mut span) = (Instant::now(), 0);
    for bit in (0..64).rev() {
        let more = span | 1 << bit;
        if now.checked_add(Duration::from_secs(more)).is_some() {
            span = more;
        }
    }
    now + Duration::from_secs(span)
}

#[tokio::test(start_paused = true)]
async fn the_last_instant_is_a_deadline_like_any_other() {
    let (mut stream, mut there) = pipe();
    let deadlines = stream.deadlines();
    deadlines.set_deadline(Some(last_instant()));
    let reading = tokio::spawn(async move { (read(&mut stream).await, stream) });
    sleep(Duration::from_secs(3600 * 24 * 365)).await;
    there.write_all(b"a").await.unwrap();
    let (outcome, mut stream) = reading.await.unwrap();
    assert_eq!(outcome, Ok(b'a'));
    stream.write_all(b"b").await.unwrap();
    let start = Instant::now();
    stream.set_read_deadline(Some(start + ms(100)));
    assert_eq!(read(&mut stream).await, Err(ErrorKind::TimedOut), "and it can be moved");
    assert!((ms(100)..ms(102)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_keeps_count_loses_nothing_at_a_deadline() {
    let (mut stream, mut there) = pipe();
    let start = Instant::now();
    let writing = tokio::spawn(async move {
        for piece in ["on", "e ", "th", "in", "g"] {
            there.write_all(piece.as_bytes()).await.unwrap();
            sleep(ms(70)).await;
        }
    });
    let (mut bytes, mut have, mut strikes) = ([0; 9], 0, 0);
    stream.set_read_deadline(Some(start + ms(50)));
    while have < bytes.len() {
        match stream.read(&mut bytes[have..]).await {
            Ok(count @ 1..) => have += count,
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                strikes += 1;
                stream.set_read_deadline(Some(Instant::now() + ms(50)));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(&bytes, b"one thing");
    assert!(strikes >= 5, "the deadline struck between the pieces: {strikes}");
    writing.await.unwrap();
}
