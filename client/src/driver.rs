//! The task behind a client: connects, serves the connection, reconnects, and at the end gives every message its
//! outcome. Must not know handles.

mod serving;

use crate::backoff::Course;
use crate::command::Command;
use crate::deadlined::later;
use crate::ended::{Closed, Reason};
use crate::event::Event;
use crate::journal::Report;
use crate::link::dial;
use crate::message::Inbox;
use crate::options::{Options, SavedSession};
use crate::session::Session;
use pulsegate_core::close::{CloseReason, Retry};
use pulsegate_core::time::Instant as CoreInstant;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

/// How many inputs are handled before the output that they cause is sent.
const INPUTS_MAX: usize = 256;

/// What a client is doing, for its handles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It was never attached.
    Opening,
    /// It was attached to this session.
    Attached {
        /// The session's number.
        session: u64,
        /// The longest message that the gateway takes.
        message_bytes_max: u32,
    },
    /// It has ended.
    Closed(Closed),
}

/// Everything that reaches the driver but the socket.
pub(crate) struct Inputs {
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    /// Of the disk, if there is one.
    pub(crate) reports: Option<mpsc::UnboundedReceiver<Report>>,
}

enum Input {
    Command(Command),
    /// All handles are gone.
    Abandoned,
    Report(Report),
}

impl Inputs {
    /// Nothing is lost when the future is dropped.
    async fn next(&mut self) -> Input {
        let reports = &mut self.reports;
        let report = async {
            match reports {
                Some(reports) => reports.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            command = self.commands.recv() => command.map_or(Input::Abandoned, Input::Command),
            report = report => Input::Report(report.unwrap_or_else(|| Report::Failed("its thread is gone".to_owned()))),
        }
    }

    /// What waits already.
    fn try_next(&mut self) -> Option<Input> {
        let report = self.reports.as_mut().and_then(|reports| reports.try_recv().ok());
        report.map(Input::Report).or_else(|| self.commands.try_recv().ok().map(Input::Command))
    }
}

/// What the application wants the client to end with.
enum Intent {
    /// Everything settled, or this instant.
    Close(Instant),
    /// A goodbye now.
    Leave(Option<oneshot::Sender<SavedSession>>),
}

/// The task.
pub(crate) struct Driver {
    address: String,
    options: Options,
    session: Session,
    inputs: Inputs,
    inbox: Inbox,
    status: watch::Sender<Status>,
    room: Arc<Semaphore>,
    is_impatient: bool,
    /// Where the clock of the pure parts begins.
    origin: Instant,
    intent: Option<Intent>,
    /// Attempts in a row that failed.
    failures: u32,
    /// Attempts in a row that connected and were ended without a byte.
    unanswered: u32,
    /// The outbox can't be written for now.
    is_stuck: bool,
    /// A session whose token was not valid has been given up since the client was last let in.
    has_renewed: bool,
}

/// What a driver is made of.
pub(crate) struct Parts {
    pub(crate) address: String,
    pub(crate) options: Options,
    pub(crate) session: Session,
    pub(crate) inputs: Inputs,
    pub(crate) inbox: Inbox,
    pub(crate) status: watch::Sender<Status>,
    /// The room in the outbox, which is closed to newcomers at the end.
    pub(crate) room: Arc<Semaphore>,
    /// The first attempt has to succeed.
    pub(crate) is_impatient: bool,
}

/// How an attempt has ended.
struct End {
    closed: Closed,
    course: Course,
    /// The session was given up.
    has_renewed: bool,
    /// It connected, and the other side ended the stream in order without a byte.
    is_unanswered: bool,
}

impl End {
    /// An attempt that did not connect.
    fn unreached(closed: Closed) -> Self {
        Self { closed, course: Course::default(), has_renewed: false, is_unanswered: false }
    }
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { address, options, session, inputs, inbox, status, room, is_impatient } = parts;
        Self {
            address,
            options,
            session,
            inputs,
            inbox,
            status,
            room,
            is_impatient,
            origin: Instant::now(),
            intent: None,
            failures: 0,
            unanswered: 0,
            is_stuck: false,
            has_renewed: false,
        }
    }

    /// Runs until the client is closed, dropped, or told never to come back.
    pub(crate) async fn run(mut self) {
        let closed = self.live().await;
        self.end(closed).await;
    }

    async fn live(&mut self) -> Closed {
        loop {
            let began = Instant::now();
            let mut end = self.attempt().await;
            self.count_unanswered(&mut end);
            let closed = &end.closed;
            if closed.reason == Reason::Dropped {
                return end.closed;
            }
            self.session.tell(|| Event::Disconnected(closed.clone()));
            self.failures = self.options.backoff.failures(self.failures, &end.course);
            if let Some(last) = self.judge(&end) {
                return last;
            }
            let delay = match closed.retry {
                Retry::After(delay) => delay,
                Retry::Now | Retry::Never => Duration::ZERO,
            };
            let (backoff, failures) = (self.options.backoff, self.failures);
            let after = backoff.pause(delay, failures, began.elapsed(), fastrand::f64());
            self.session.tell(|| Event::Reconnecting { after, failures });
            if let Some(last) = self.rest(after).await {
                return last;
            }
        }
    }

    /// A listener for raw clients takes a connection and ends it without a word. So does a proxy without a gateway
    /// behind it, for a while: therefore it is counted, and only for a client that no gateway knows.
    fn count_unanswered(&mut self, end: &mut End) {
        let counts = end.is_unanswered && self.session.number() == 0;
        self.unanswered = if counts { self.unanswered + 1 } else { 0 };
        if self.unanswered >= self.options.unanswered_max {
            let text = format!(
                "{} connections in a row were ended without a byte: nobody there speaks the pulse protocol; give the \
                 address of a listener with protocol auto or pulse",
                self.unanswered
            );
            end.closed = Closed::last(Reason::NotPulse, text);
        }
    }

    /// Whether this was the last connection. A session whose token is not valid is given up, once.
    fn judge(&mut self, end: &End) -> Option<Closed> {
        let closed = &end.closed;
        if let Some(last) = self.ends_detached() {
            return Some(last);
        }
        if end.has_renewed && !std::mem::replace(&mut self.has_renewed, true) {
            return None;
        }
        let is_bad_token = closed.reason == Reason::Gateway(CloseReason::BadToken.code());
        if is_bad_token && self.session.number() != 0 && !self.has_renewed {
            self.has_renewed = true;
            self.session.give_up();
            return None;
        }
        // Ends of the client itself are never to be retried either.
        if closed.retry == Retry::Never {
            return Some(closed.clone());
        }
        let is_first = self.is_impatient && *self.status.borrow() == Status::Opening;
        (is_first || !self.options.reconnect.allows(self.failures)).then(|| closed.clone())
    }

    /// One connection, from the first attempt to reach somebody to its end.
    async fn attempt(&mut self) -> End {
        let dialed = {
            let (address, options) = (self.address.clone(), self.options.clone());
            let dialing = dial(&address, &options);
            tokio::pin!(dialing);
            loop {
                let deadline = self.close_deadline();
                tokio::select! {
                    dialed = &mut dialing => break dialed,
                    input = self.inputs.next() => if let Some(closed) = self.handle(input) { break Err(closed) },
                    () = wait_until(deadline) => break Err(close_timeout()),
                }
                if let Some(closed) = self.ends_detached() {
                    break Err(closed);
                }
            }
        };
        match dialed {
            Ok(link) => self.serve(link).await,
            Err(closed) => End::unreached(closed),
        }
    }

    /// Waits before the next attempt, and does meanwhile what needs no connection. A client that could not keep its
    /// next token has nothing to say to a gateway (PROTOCOL.md section 5.8), and waits for its disk as well.
    async fn rest(&mut self, span: Duration) -> Option<Closed> {
        let over = tokio::time::sleep(span);
        tokio::pin!(over);
        let mut is_over = false;
        loop {
            if is_over && !self.is_stuck {
                return None;
            }
            let deadline = self.close_deadline();
            tokio::select! {
                () = &mut over, if !is_over => is_over = true,
                input = self.inputs.next() => if let Some(closed) = self.handle(input) { return Some(closed) },
                () = wait_until(deadline) => return Some(close_timeout()),
            }
            if let Some(closed) = self.ends_detached() {
                return Some(closed);
            }
        }
    }

    /// Does what is asked, and what else waits, up to a limit, so that many messages are sent together.
    fn handle_all(&mut self, first: Input) -> Option<Closed> {
        let mut closed = self.handle(first);
        for _ in 1..INPUTS_MAX {
            let Some(next) = self.inputs.try_next().filter(|_| closed.is_none()) else { break };
            closed = self.handle(next);
        }
        closed
    }

    /// Does what is asked. Returns how the client has ended, if that ends it at once.
    fn handle(&mut self, input: Input) -> Option<Closed> {
        match input {
            Input::Command(Command::Push(ticket, payload)) => self.session.push(ticket, payload),
            Input::Command(Command::Judge { epoch, number, verdict }) => {
                let Session { inbound, journal, .. } = &mut self.session;
                inbound.handle_verdict(epoch, number, verdict, journal);
            }
            Input::Command(Command::Close) => {
                let deadline = later(Instant::now(), self.options.close_timeout);
                self.intent.get_or_insert(Intent::Close(deadline));
            }
            Input::Command(Command::Leave(saved)) => self.intent = Some(Intent::Leave(Some(saved))),
            Input::Abandoned => return Some(Closed::last(Reason::Dropped, "")),
            Input::Report(Report::Stored(place)) => {
                self.session.handle_stored(place);
                if std::mem::take(&mut self.is_stuck) {
                    self.session.tell(|| Event::OutboxWritten);
                }
            }
            Input::Report(Report::Stuck(why)) => {
                self.is_stuck = true;
                self.session.tell(|| Event::OutboxStuck(why));
            }
            Input::Report(Report::Failed(why)) => return Some(Closed::last(Reason::Outbox, why)),
        }
        None
    }

    /// What the application wants, where there is no connection to say goodbye on.
    fn ends_detached(&self) -> Option<Closed> {
        match &self.intent {
            Some(Intent::Leave(_)) => Some(Closed::last(Reason::BackSoon, "")),
            Some(Intent::Close(_)) if self.session.is_idle() => Some(Closed::last(Reason::Done, "")),
            Some(Intent::Close(_)) | None => None,
        }
    }

    fn close_deadline(&self) -> Option<Instant> {
        match &self.intent {
            Some(Intent::Close(deadline)) => Some(*deadline),
            Some(Intent::Leave(_)) | None => None,
        }
    }

    /// The present, for the pure parts.
    fn now(&self) -> CoreInstant {
        let nanos = self.origin.elapsed().as_nanos();
        CoreInstant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Gives everything its outcome.
    async fn end(mut self, closed: Closed) {
        self.room.close();
        self.inputs.commands.close();
        if closed.reason == Reason::Dropped {
            self.session.abandon();
        }
        while let Ok(command) = self.inputs.commands.try_recv() {
            let _ = self.handle(Input::Command(command));
        }
        if closed.reason == Reason::Done {
            self.session.forget();
        }
        let mut keeps = self.session.journal.is_on_disk();
        self.session.journal.end();
        // The file is free for another client when nothing more is reported.
        while let Some(reports) = &mut self.inputs.reports
            && let Some(report) = reports.recv().await
        {
            if let Report::Stored(place) = report {
                self.session.handle_stored(place);
            }
        }
        if let Some(Intent::Leave(saved)) = &mut self.intent
            && let Some(saved) = saved.take()
        {
            // An application that doesn't wait for it has no use for it.
            keeps |= saved.send(self.session.save()).is_ok();
        }
        self.inbox.end();
        self.session.end(keeps);
        self.status.send_replace(Status::Closed(closed));
    }
}

fn close_timeout() -> Closed {
    Closed::last(Reason::CloseTimeout, "not everything was settled in time")
}

/// Waits for an instant; for ever if there is none.
async fn wait_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
