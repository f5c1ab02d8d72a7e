//! Takes the outputs of one connection: bytes for its peer, messages for its outlet, requests of its session for the
//! ledger.

use crate::counters::{Counter, Counts};
use crate::id::{ConnectionId, ConnectionNumber};
use crate::peer::Peer;
use crate::post::ticket;
use crate::shard::listener::Listener;
use crate::shard::outlets::{Outlet, Outlets};
use crate::sink::Message;
use crate::sink::queue::From;
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::{Attachment, Event, Output};
use pulsegate_core::frame::Hello;
use pulsegate_core::time::Instant;
use pulsegate_sessions::{Attach, Moment, Request, Resume, Seat, Ticket, Token};

/// Takes the outputs of one connection during one call.
pub(crate) struct ConnectionOutput<'a> {
    /// Bytes for the peer.
    pub(crate) transmit: &'a mut Vec<u8>,
    /// Output that waits already, in bytes.
    pub(crate) waiting: usize,
    /// There is a layer, which has bytes of its own to send after the last ones.
    pub(crate) has_last_bytes: bool,
    pub(crate) outlets: &'a mut Outlets,
    pub(crate) listener: &'a Listener,
    pub(crate) counts: &'a mut Counts,
    pub(crate) id: ConnectionId,
    pub(crate) number: ConnectionNumber,
    pub(crate) peer: &'a Peer,
    /// The session that it had when the call began.
    pub(crate) attachment: Option<Attachment>,
    /// The present, and what people's clocks show.
    pub(crate) instant: Instant,
    pub(crate) wall_ms: u64,
    pub(crate) undone: Undone,
}

/// What a call leaves to be done.
#[derive(Debug, Default)]
pub(crate) struct Undone {
    /// The peer's side has ended, and no sink decides what else is to be sent.
    pub(crate) finish: bool,
    /// A client asks for a session; a token is still missing.
    pub(crate) attach: Option<Box<Attach>>,
    /// The connection has ended.
    pub(crate) closed: Option<CloseReason>,
}

impl Undone {
    /// Whether anything is left.
    pub(crate) const fn is_any(&self) -> bool {
        self.finish || self.closed.is_some() || self.attach.is_some()
    }
}

impl Output for ConnectionOutput<'_> {
    fn transmit(&mut self) -> &mut Vec<u8> {
        self.transmit
    }

    fn waiting(&self) -> usize {
        self.waiting
    }

    fn has_last_bytes(&self) -> bool {
        self.has_last_bytes
    }

    fn handle_event(&mut self, event: Event<'_>) {
        match event {
            Event::Message { number, payload } => {
                self.counts.count(Counter::Messages, 1);
                self.deliver(number, payload);
            }
            Event::InputEnded => match self.listener.raw {
                Outlet::Discard | Outlet::Echo(_) | Outlet::Ledger { .. } => self.undone.finish = true,
                Outlet::Lane(lane) => {
                    let from = self.from();
                    self.outlets.lanes[lane].batch.push_input_end(from);
                }
            },
            Event::Closed(reason) => self.undone.closed = Some(reason),
            Event::Hello(hello) => {
                self.undone.attach = self.listener.pulse.ledger().map(|_| self.attach(&hello));
            }
            Event::TokenUsed => {
                self.request_of_session(|attachment| Request::TokenUsed { attachment });
            }
            Event::Settled(committed) => {
                self.request_of_session(|attachment| Request::OutReceipt { attachment, committed });
            }
            Event::Confirmed(floor) => {
                self.request_of_session(|attachment| Request::Confirm { attachment, floor });
            }
            Event::Room { attachment, above, bytes } => {
                let seat = Seat { ticket: self.ticket(), attachment };
                self.request(Request::Load { seat, above, bytes_max: bytes });
            }
            Event::Refused { number, code, text } => {
                let client = self.peer.address();
                tracing::debug!(peer = %client, number, code, text, "the client has not accepted a message");
                if let Some(ledger) = self.listener.pulse.ledger() {
                    self.outlets.ledgers[ledger].note_unaccepted();
                }
            }
            Event::Detached { attachment, for_good } => {
                let (seat, now) = (Seat { ticket: self.ticket(), attachment }, self.moment());
                self.request(Request::Detach { seat, for_good, now });
            }
        }
    }
}

impl ConnectionOutput<'_> {
    const fn from(&self) -> From {
        From { id: self.id, number: self.number, peer: *self.peer }
    }

    fn ticket(&self) -> Ticket {
        ticket(self.outlets.shard, self.id)
    }

    /// The present, as a store wants to know it.
    const fn moment(&self) -> Moment {
        Moment { wall_ms: self.wall_ms, uptime_ms: self.instant.as_nanos() / 1_000_000 }
    }

    fn deliver(&mut self, number: u64, payload: &[u8]) {
        if let Some(attachment) = self.attachment {
            return self.request(Request::Message {
                seat: Seat { ticket: self.ticket(), attachment },
                number,
                received_at_ms: self.wall_ms,
                payload: payload.into(),
            });
        }
        // Messages of the pulse protocol come only within a session.
        match self.listener.raw {
            Outlet::Discard => {}
            Outlet::Echo(line_end) => {
                self.transmit.extend_from_slice(payload);
                self.transmit.extend_from_slice(line_end);
            }
            Outlet::Lane(lane) => {
                let from = self.from();
                let message = Message { number, payload, sender: None };
                self.outlets.lanes[lane].batch.push_message(from, &message);
            }
            Outlet::Ledger { ledger, .. } => {
                let append = Request::Append {
                    client: self.peer.address().to_string().into(),
                    source: self.peer.source().network().number(),
                    number,
                    received_at_ms: self.wall_ms,
                    payload: payload.into(),
                };
                self.outlets.request(ledger, append);
            }
        }
    }

    /// Asks something of whoever keeps the sessions of this listener.
    fn request(&mut self, request: Request) {
        if let Some(ledger) = self.listener.pulse.ledger() {
            self.outlets.request(ledger, request);
        }
    }

    /// Asks something for the session that the connection is attached to.
    fn request_of_session(&mut self, request: impl FnOnce(Attachment) -> Request) {
        if let Some(attachment) = self.attachment {
            self.request(request(attachment));
        }
    }

    fn attach(&self, hello: &Hello<'_>) -> Box<Attach> {
        let policy = &self.listener.policy;
        let resume = (hello.session != 0).then_some(Resume {
            session: hello.session,
            token: hello.token,
            committed: hello.committed,
            acknowledged: hello.acknowledged,
        });
        Box::new(Attach {
            ticket: self.ticket(),
            client: hello.id.to_owned(),
            source: self.peer.source().network().number(),
            resume,
            token: Token::default(),
            second: policy.pulse.second_connection,
            message_bytes_max: hello.message_bytes_max,
            told_bytes_max: u32::try_from(policy.message_bytes_max).unwrap_or(u32::MAX),
            now: self.moment(),
            time_to_live: policy.pulse.session_ttl,
        })
    }
}
