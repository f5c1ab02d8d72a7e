//! A stream with deadlines: absolute instants that pending reads and writes obey, and that can be moved from
//! elsewhere while they are pending. Must not know what goes through the stream.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A stream whose reads and writes have deadlines, with the semantics of Go's `SetDeadline`.
///
/// A deadline is an absolute instant. It holds for what is pending and for everything after it. Once it has
/// passed, every read (or write, flush and shutdown) fails with [`io::ErrorKind::TimedOut`], even if there are
/// bytes to be read, until the deadline is moved into the future or cleared; then the stream works as if
/// nothing had happened. No deadline is ever early; it is late by tokio's timer, which has milliseconds.
///
/// A read that fails has taken nothing from the stream, and a write that fails has given it nothing. But `read_exact`,
/// `read_line` and `write_all` are many reads or writes: when the deadline strikes between two of them, they don't say
/// how far they had come. To continue after a deadline, count the bytes yourself:
///
/// ```
/// use pulsegate_client::Deadlined;
/// use std::io::ErrorKind;
/// use std::time::Duration;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tokio::time::Instant;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (here, mut there) = tokio::io::duplex(64);
/// let mut stream = Deadlined::new(here);
/// stream.set_read_deadline(Some(Instant::now() + Duration::from_millis(20)));
/// there.write_all(b"la").await?;
///
/// let (mut bytes, mut have) = ([0; 5], 0);
/// while have < bytes.len() {
///     match stream.read(&mut bytes[have..]).await {
///         Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
///         Ok(count) => have += count,
///         Err(error) if error.kind() == ErrorKind::TimedOut => {
///             // Here one may give up, or wait for longer: the first bytes are not lost.
///             stream.set_read_deadline(None);
///             there.write_all(b"ter").await?;
///         }
///         Err(error) => return Err(error),
///     }
/// }
/// assert_eq!(&bytes, b"later");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Deadlined<S> {
    stream: S,
    deadlines: Deadlines,
    reading: Alarm,
    writing: Alarm,
}

/// Moves the deadlines of a [`Deadlined`] stream from wherever it is, another task or thread included. Cloning
/// it costs one reference count; it may outlive the stream.
#[derive(Clone, Debug, Default)]
pub struct Deadlines {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    reading: Mutex<Deadline>,
    writing: Mutex<Deadline>,
}

/// One direction's deadline, and who waits in that direction.
#[derive(Debug, Default)]
struct Deadline {
    at: Option<Instant>,
    waiting: Option<Waker>,
}

/// One direction's timer. It exists from the first wait that has a deadline.
#[derive(Debug, Default)]
struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<S> Deadlined<S> {
    /// Wraps a stream; there are no deadlines yet.
    pub fn new(stream: S) -> Self {
        Self { stream, deadlines: Deadlines::default(), reading: Alarm::default(), writing: Alarm::default() }
    }

    /// What moves the deadlines from elsewhere.
    #[must_use]
    pub fn deadlines(&self) -> Deadlines {
        self.deadlines.clone()
    }

    /// Sets, moves or, with `None`, clears the deadlines for reading and writing.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.deadlines.set_deadline(deadline);
    }

    /// Sets, moves or clears the deadline for reading.
    pub fn set_read_deadline(&self, deadline: Option<Instant>) {
        self.deadlines.set_read_deadline(deadline);
    }

    /// Sets, moves or clears the deadline for writing, flushing and shutting down.
    pub fn set_write_deadline(&self, deadline: Option<Instant>) {
        self.deadlines.set_write_deadline(deadline);
    }

    /// The stream inside, for what is no reading or writing.
    pub const fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream without its deadlines.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl Deadlines {
    /// Sets, moves or, with `None`, clears the deadlines for reading and writing.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.set_read_deadline(deadline);
        self.set_write_deadline(deadline);
    }

    /// Sets, moves or clears the deadline for reading.
    pub fn set_read_deadline(&self, deadline: Option<Instant>) {
        set(&self.shared.reading, deadline);
    }

    /// Sets, moves or clears the deadline for writing, flushing and shutting down.
    pub fn set_write_deadline(&self, deadline: Option<Instant>) {
        set(&self.shared.writing, deadline);
    }
}

/// Longer than anybody waits, and short enough for every clock and timer to count.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The instant that is so much later; where that is further than anybody waits, one that nobody lives to see.
pub(crate) fn later(from: Instant, span: Duration) -> Instant {
    from + span.min(FAR)
}

fn lock(deadline: &Mutex<Deadline>) -> MutexGuard<'_, Deadline> {
    deadline.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set(deadline: &Mutex<Deadline>, at: Option<Instant>) {
    let mut deadline = lock(deadline);
    // A timer that is set too early finds out by itself when it comes up: moving a deadline later wakes nobody.
    let is_sooner = at.is_some_and(|at| deadline.at.is_none_or(|before| at < before));
    deadline.at = at;
    let waiting = if is_sooner { deadline.waiting.take() } else { None };
    drop(deadline);
    if let Some(waker) = waiting {
        waker.wake();
    }
}

impl Alarm {
    /// Ready if the deadline has passed. Otherwise the task is woken when it does, or when it is moved.
    fn poll_passed(&mut self, deadline: &Mutex<Deadline>, context: &mut Context<'_>) -> Poll<()> {
        let at = {
            let mut deadline = lock(deadline);
            if !deadline.waiting.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                deadline.waiting = Some(context.waker().clone());
            }
            deadline.at
        };
        let Some(at) = at else { return Poll::Pending };
        let now = Instant::now();
        if at <= now {
            return Poll::Ready(());
        }
        let at = at.min(later(now, FAR));
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        while sleep.deadline() < at {
            ready!(sleep.as_mut().poll(context));
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(context)
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the deadline has passed; move it to continue")
}

impl<S: AsyncRead + Unpin> AsyncRead for Deadlined<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.reading.poll_passed(&this.deadlines.shared.reading, context).is_ready() {
            return Poll::Ready(Err(timed_out()));
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> Deadlined<S> {
    fn poll_writing<T>(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let this = self.get_mut();
        if this.writing.poll_passed(&this.deadlines.shared.writing, context).is_ready() {
            return Poll::Ready(Err(timed_out()));
        }
        poll(Pin::new(&mut this.stream), context)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Deadlined<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_writing(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_writing(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_writing(context, |stream, context| stream.poll_shutdown(context))
    }
}
