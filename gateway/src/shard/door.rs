//! What a shard knows of a listener: its rules, its limits, and the way to its sink and to its sessions.

use crate::id::ConnectionId;
use crate::limits::Limits;
use crate::peer::{Peer, Source};
use crate::shard::held::HeldEnd;
use crate::shard::ledger::Ledger;
use crate::shard::standstill::Standstill;
use crate::sink::Ended;
use crate::sink::queue::{Batch, From, SinkQueue};
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::{Attachment, Event, Output};
use pulsegate_core::frame::Hello;
use pulsegate_core::policy::Policy;
use pulsegate_core::time::Instant;
use pulsegate_store::{Attach, Moment, Request, Resume, Ticket, Token};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// One listener, as all shards share it.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) policy: Policy,
    pub(crate) limits: Limits,
    pub(crate) delivery: Delivery,
    /// The ledger of its clients' sessions, and of the messages that are to be stored.
    pub(crate) ledger: Option<usize>,
    /// It was said that a client of the pulse protocol has come here, though only raw ones are served.
    pub(crate) met_pulse: AtomicBool,
}

impl Door {
    /// A client of the pulse protocol has come, though only raw ones are served. Said once: they come back.
    pub(crate) fn handle_lost_client(&self, peer: Peer) {
        if !self.met_pulse.swap(true, Relaxed) {
            tracing::warn!(
                listener = %self.limits.listen(),
                peer = %peer.address(),
                "a client of the pulse protocol is ended at a listener for raw clients; set the listener's protocol to auto \
                 if it is to serve both"
            );
        }
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It is counted and forgotten.
    Discard,
    /// It goes back to its sender, with this line end.
    Echo(&'static [u8]),
    /// It goes to the sink with this place in the shard's lanes.
    Lane(usize),
    /// It goes to the store.
    Store,
}

/// A shard's side of one sink: what this turn has gathered, and who waits until the sink has room.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) queue: Arc<SinkQueue>,
    pub(crate) batch: Batch,
    pub(crate) paused: Vec<ConnectionId>,
    standstill: Standstill,
    /// The sink has failed, and those whose messages go there are being ended.
    purged: bool,
}

impl Lane {
    /// An empty lane to this queue.
    pub(crate) fn new(queue: Arc<SinkQueue>) -> Self {
        Self {
            queue,
            batch: Batch::default(),
            paused: Vec::new(),
            standstill: Standstill::default(),
            purged: false,
        }
    }

    /// Whether the sink has failed and this is the first time that it's asked.
    pub(crate) fn fails_now(&mut self) -> bool {
        self.queue.has_failed() && !std::mem::replace(&mut self.purged, true)
    }

    /// Why nothing may be read for this sink now, if nothing may.
    pub(crate) fn obstacle(&self) -> Option<CloseReason> {
        if self.queue.has_failed() {
            return Some(CloseReason::SinkFailed);
        }
        self.queue.is_full(self.batch.bytes()).then_some(CloseReason::SinkStalled)
    }

    /// Since when the sink has no room and takes nothing.
    pub(crate) fn rests_since(&mut self, own: Instant) -> Option<Instant> {
        let is_full = self.queue.is_full(self.batch.bytes()) || !self.paused.is_empty();
        self.standstill.observe(is_full, self.queue.taken(), own)
    }

    /// Why it has no room for newcomers, who may overrun it, if it has none.
    pub(crate) fn obstacle_of_newcomers(
        &mut self,
        own: Instant,
        sink_stall: Duration,
    ) -> Option<CloseReason> {
        if self.queue.has_failed() {
            return Some(CloseReason::SinkFailed);
        }
        let has_stalled = self.rests_since(own).is_some_and(|since| own.since(since) >= sink_stall);
        (has_stalled || self.queue.is_overrun(self.batch.bytes())).then_some(CloseReason::SinkStalled)
    }
}

/// Carries one connection's outputs to where they belong, during one call.
pub(crate) struct Courier<'a> {
    pub(crate) transmit: &'a mut Vec<u8>,
    pub(crate) delivery: Delivery,
    pub(crate) lanes: &'a mut [Lane],
    pub(crate) from: From,
    /// Output that waits already, in bytes.
    pub(crate) waiting: usize,
    pub(crate) sessions: Option<Desk<'a>>,
    pub(crate) after: After,
}

/// Where one connection's session is kept, during one call.
pub(crate) struct Desk<'a> {
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) policy: &'a Policy,
    pub(crate) ticket: Ticket,
    /// Where the connection comes from, as its shares are counted.
    pub(crate) source: Source,
    pub(crate) attachment: Option<Attachment>,
    pub(crate) moment: Moment,
}

/// What a call has left for the shard to do.
#[derive(Debug, Default)]
pub(crate) struct After {
    /// Messages delivered.
    pub(crate) messages: u64,
    /// The peer's side ended, and nobody but the shard can say that nothing more is to be sent.
    pub(crate) finish: bool,
    /// A client wants a session; a token is missing yet.
    pub(crate) attach: Option<Box<Attach>>,
    /// The connection ended.
    pub(crate) closed: Option<CloseReason>,
}

impl Courier<'_> {
    /// Tells the sink, if it is one that listens, that a connection was accepted.
    pub(crate) fn announce(&mut self) {
        if let Delivery::Lane(lane) = self.delivery {
            self.lanes[lane].batch.push_opened(self.from);
        }
    }

    /// Tells the sink that the connection has ended: later, if a store in memory has yet to forward messages of it.
    pub(crate) fn report(&mut self, ended: Ended) {
        let Delivery::Lane(lane) = self.delivery else { return };
        let end = HeldEnd { lane, from: self.from, ended };
        let forwards = |desk: &&mut Desk<'_>| desk.attachment.is_some() && !desk.ledger.has_failed();
        match self.sessions.as_mut().filter(forwards) {
            Some(desk) if ended.reason != CloseReason::Replaced => desk.ledger.held.insert(end),
            Some(_) | None => end.report(self.lanes),
        }
    }
}

impl Output for Courier<'_> {
    fn transmit(&mut self) -> &mut Vec<u8> {
        self.transmit
    }

    fn waiting(&self) -> usize {
        self.waiting
    }

    fn handle_event(&mut self, event: Event<'_>) {
        match event {
            Event::Message { number, payload } => {
                self.after.messages += 1;
                self.deliver(number, payload);
            }
            Event::InputEnded => match self.delivery {
                Delivery::Discard | Delivery::Echo(_) | Delivery::Store => self.after.finish = true,
                Delivery::Lane(lane) => self.lanes[lane].batch.push_input_end(self.from),
            },
            Event::Closed(reason) => self.after.closed = Some(reason),
            Event::Hello(hello) => self.after.attach = self.sessions.as_ref().map(|desk| desk.attach(&hello)),
            Event::TokenUsed => self.request(|session, epoch| Request::TokenUsed { session, epoch }),
            Event::Settled(committed) => {
                self.request(|session, epoch| Request::OutReceipt { session, epoch, committed });
            }
            Event::Confirmed(floor) => {
                self.request(|session, epoch| Request::Confirm { session, epoch, floor });
            }
            Event::Room { attachment: Attachment { session, epoch }, above, bytes } => {
                if let Some(desk) = &mut self.sessions {
                    let (ticket, bytes_max) = (desk.ticket, bytes);
                    desk.ledger.request(Request::Load { ticket, session, epoch, above, bytes_max });
                }
            }
            Event::Refused { number, code, text } => {
                let client = self.from.peer.address();
                tracing::debug!(peer = %client, number, code, text, "the client has not accepted a message");
                if let Some(desk) = &self.sessions {
                    desk.ledger.note_unaccepted();
                }
            }
            Event::Detached { attachment: Attachment { session, epoch }, for_good } => {
                if let Some(desk) = &mut self.sessions {
                    let (ticket, now) = (desk.ticket, desk.moment);
                    desk.ledger.request(Request::Detach { ticket, session, epoch, for_good, now });
                }
            }
        }
    }
}

impl Courier<'_> {
    fn deliver(&mut self, number: u64, payload: &[u8]) {
        if let Some(desk) = self.sessions.as_mut().filter(|desk| desk.attachment.is_some()) {
            return desk.commit(number, payload);
        }
        match self.delivery {
            Delivery::Discard => {}
            Delivery::Echo(line_end) => {
                self.transmit.extend_from_slice(payload);
                self.transmit.extend_from_slice(line_end);
            }
            Delivery::Lane(lane) => self.lanes[lane].batch.push_message(self.from, number, payload),
            Delivery::Store => {
                if let Some(desk) = &mut self.sessions {
                    desk.append(self.from, number, payload);
                }
            }
        }
    }

    /// Asks something for the session that the connection is attached to.
    fn request(&mut self, request: impl FnOnce(u64, u64) -> Request) {
        if let Some(desk) = &mut self.sessions
            && let Some(Attachment { session, epoch }) = desk.attachment
        {
            desk.ledger.request(request(session, epoch));
        }
    }
}

impl Desk<'_> {
    fn attach(&self, hello: &Hello<'_>) -> Box<Attach> {
        let resume = (hello.session != 0).then_some(Resume {
            session: hello.session,
            token: hello.token,
            committed: hello.committed,
            acknowledged: hello.acknowledged,
        });
        Box::new(Attach {
            ticket: self.ticket,
            client: hello.id.to_owned(),
            source: self.source.number(),
            resume,
            token: Token::default(),
            second: self.policy.pulse.second_connection,
            message_bytes_max: hello.message_bytes_max,
            told_bytes_max: u32::try_from(self.policy.message_bytes_max).unwrap_or(u32::MAX),
            now: self.moment,
            time_to_live: self.policy.pulse.session_ttl,
        })
    }

    /// Hands a message of the session to the committer.
    fn commit(&mut self, number: u64, payload: &[u8]) {
        let Some(Attachment { session, epoch }) = self.attachment else { return };
        self.ledger.request(Request::Message {
            ticket: self.ticket,
            session,
            epoch,
            number,
            received_at_ms: self.moment.wall_ms,
            payload: payload.into(),
        });
    }

    /// Hands a message of a raw connection to the committer.
    fn append(&mut self, from: From, number: u64, payload: &[u8]) {
        self.ledger.request(Request::Append {
            client: from.peer.address().to_string().into(),
            source: self.source.number(),
            number,
            received_at_ms: self.moment.wall_ms,
            payload: payload.into(),
        });
    }
}
