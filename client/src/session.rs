//! What outlives connections: the session's name and token, both halves, and what is on disk of them. Says what a
//! HELLO has to say and what a WELCOME means (PROTOCOL.md section 5). Must not know sockets or time.

use crate::delivery::{Delivery, Keeping, Ticket, Untold};
use crate::ended::{Closed, Reason};
use crate::event::{Connected, Event, EventSender};
use crate::inbound::Inbound;
use crate::journal::{Entry, Found, Journal};
use crate::ledger::{Ledger, Restored};
use crate::message::Inbox;
use crate::options::{Options, SavedSession};
use bytes::Bytes;
use pulsegate_core::close::CloseReason;
use pulsegate_core::exchange::{Sending, Window};
use pulsegate_core::frame::{Hello, Refusals, Welcome};
use pulsegate_core::pulse::{Pulse, PulseEvent};
use pulsegate_core::time::Instant;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// What a gateway takes before it has said so.
const NOTHING: Window = Window { messages: 0, bytes: 0 };

/// Code and text of a goodbye.
pub(crate) type LastWord = (u16, &'static str);

/// A client's session, and what it has of the gateway's words that is not dealt with yet.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) journal: Journal,
    pub(crate) ledger: Ledger,
    pub(crate) inbound: Inbound,
    events: EventSender,
    untold: Arc<Untold>,
    /// 0: there is none to resume.
    number: u64,
    token: [u8; 16],
    /// The longest message that the gateway was told of in this session, in bytes: it may send one again.
    told_max: u32,
    /// The sending half between two connections.
    sending: Option<Sending<Bytes>>,
    /// Nothing is sent before the disk has this place of the journal.
    hold: u64,
    /// What this connection's WELCOME said.
    connected: Option<Connected>,
    /// The session is new and nothing has left in it: until then the gateway forgets it with the connection, and what
    /// has a number by then is unknown to a client that comes back.
    is_unheard: bool,
    /// What is left of a session that is gone has to be dealt with.
    has_begun: bool,
    /// The WELCOME contradicts what this side knows: the session is to be given up, with this last word.
    contradiction: Option<LastWord>,
    /// Something was settled on this connection.
    has_settled: bool,
    /// The end of this connection was announced by a notice.
    is_announced: bool,
    bye: Option<Closed>,
}

impl Session {
    /// Goes on with what was found.
    pub(crate) fn restore(
        mut found: Found,
        journal: Journal,
        inbox: Inbox,
        events: EventSender,
        untold: Arc<Untold>,
        room: impl FnMut(&Bytes) -> Option<OwnedSemaphorePermit>,
    ) -> (Self, Vec<Delivery>) {
        let keeping = if journal.is_on_disk() { Keeping::OnDisk } else { Keeping::InMemory };
        let Restored { ledger, sending, deliveries } = Ledger::restore(&mut found, keeping, &untold, room);
        let session = Self {
            journal,
            ledger,
            inbound: Inbound::new(inbox, &found),
            events,
            untold,
            number: found.session,
            token: found.token,
            told_max: found.told_max,
            sending: Some(sending),
            hold: 0,
            connected: None,
            is_unheard: false,
            has_begun: false,
            contradiction: None,
            has_settled: false,
            is_announced: false,
            bye: None,
        };
        (session, deliveries)
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// What WELCOME has said on this connection.
    pub(crate) const fn connected(&self) -> Option<&Connected> {
        self.connected.as_ref()
    }

    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        self.events.tell(event);
    }

    /// A new connection's machine, with its HELLO to be sent.
    pub(crate) fn open(&mut self, options: &Options) -> Pulse<Bytes> {
        (self.connected, self.bye, self.is_unheard) = (None, None, false);
        (self.has_settled, self.is_announced) = (false, false);
        let sending = self.sending.take().unwrap_or_else(|| Sending::new(NOTHING));
        let refused = Refusals::write(self.inbound.refused());
        let committed = self.inbound.committed();
        let ms = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        let message_bytes_max = self.tell_max(options.message_bytes_max);
        let window = Window { bytes: options.window.bytes.max(message_bytes_max), ..options.window };
        let hello = Hello {
            lifetime: options.lifetime,
            beat_min_ms: ms(options.beat_min),
            beat_max_ms: ms(options.beat_max),
            window,
            message_bytes_max,
            session: self.number,
            token: self.token,
            committed,
            acknowledged: if self.number == 0 { 0 } else { sending.settled() },
            id: &options.id,
            refused: Refusals::read(&refused, committed).unwrap_or_default(),
        };
        Pulse::client(&hello, sending, self.inbound.receiving())
    }

    /// What the next HELLO says is the longest message. Within a session it never becomes less, and what is more than
    /// before has to be on disk before the gateway hears of it (PROTOCOL.md section 5.8).
    fn tell_max(&mut self, message_bytes_max: u32) -> u32 {
        if message_bytes_max > self.told_max {
            self.told_max = message_bytes_max;
            // One that begins now is stored with what it was told.
            if self.number != 0 {
                self.hold = self.journal.write(Entry::Tell(message_bytes_max));
            }
        }
        self.told_max
    }

    /// The connection is gone.
    pub(crate) fn close(&mut self, pulse: Pulse<Bytes>) {
        self.sending = Some(pulse.into_halves().0);
        if self.contradiction.take().is_some() {
            self.give_up();
        }
        self.connected = None;
    }

    /// The session can't be resumed: what was sent is unknown, what was not waits for a new one.
    pub(crate) fn give_up(&mut self) {
        let sending = self.sending.take().unwrap_or_else(|| Sending::new(NOTHING));
        (self.number, self.token, self.told_max) = (0, [0; 16], 0);
        self.inbound.begin(0);
        let forget = self.ledger.give_up(sending, 0, &self.events);
        self.hold = self.journal.write(Entry::Begin { session: 0, token: [0; 16], forget, told_max: 0 });
    }

    /// Takes what came over the connection.
    ///
    /// # Errors
    /// How the connection has ended by it.
    pub(crate) fn handle_input(
        &mut self,
        pulse: &mut Pulse<Bytes>,
        now: Instant,
        input: &[u8],
    ) -> Result<(), Closed> {
        let outcome = pulse.handle_input(now, input, |event| self.handle_event(&event));
        if std::mem::take(&mut self.has_begun) {
            let left_over = pulse.take_left_over().unwrap_or_else(|| Sending::new(NOTHING));
            let forget = self.ledger.give_up(left_over, self.number, &self.events);
            let Self { number: session, token, told_max, .. } = *self;
            self.hold = self.journal.write(Entry::Begin { session, token, forget, told_max });
        }
        match (outcome, self.bye.take()) {
            (_, Some(bye)) => Err(bye),
            _ if self.contradiction.is_some() => {
                let reason = Reason::BrokenRule(CloseReason::FrameOutOfPlace);
                Err(Closed::now(reason, "the gateway knows another past of this session"))
            }
            (Err(reason), None) if self.connected.is_none() && is_no_frame(reason) => {
                Err(Closed::not_pulse())
            }
            (Err(reason), None) => Err(Closed::broken(reason)),
            (Ok(()), None) => Ok(()),
        }
    }

    /// The last word to a gateway that knows another past of the session than this side: 35 where it has resumed
    /// another one, else that the client comes back (PROTOCOL.md section 5.5).
    pub(crate) const fn contradiction(&self) -> Option<LastWord> {
        self.contradiction
    }

    /// Whether something was settled on this connection.
    pub(crate) const fn has_settled(&self) -> bool {
        self.has_settled
    }

    /// Whether the end of this connection was announced by a notice.
    pub(crate) const fn is_announced(&self) -> bool {
        self.is_announced
    }

    fn handle_event(&mut self, event: &PulseEvent<'_>) {
        if self.contradiction.is_some() {
            return;
        }
        match *event {
            PulseEvent::Welcome(welcome) => self.handle_welcome(&welcome),
            PulseEvent::Message { number, payload } => self.inbound.handle_message(number, payload),
            PulseEvent::Settled { last, .. } => {
                self.has_settled = true;
                let hold = self.ledger.handle_settled(last, &mut self.journal, &self.events);
                self.hold = self.hold.max(hold);
            }
            PulseEvent::Refused { number, code, text } => self.ledger.handle_refused(number, code, text),
            PulseEvent::Confirmed { floor } => self.inbound.handle_confirmed(floor, &mut self.journal),
            PulseEvent::Notice { code, in_ms, text } => {
                self.is_announced |= matches!(code, 1 | 2);
                let within = Duration::from_millis(in_ms.into());
                self.events.tell(|| Event::Notice { code, within, text: text.to_owned() });
            }
            PulseEvent::Bye(bye) => self.bye = Some(Closed::by_gateway(&bye)),
            PulseEvent::Hello(_) | PulseEvent::Alive => {}
        }
    }

    fn handle_welcome(&mut self, welcome: &Welcome<'_>) {
        let connected = Connected::from(welcome);
        if welcome.resumed {
            if welcome.session != self.number {
                let code = CloseReason::FrameOutOfPlace.code();
                self.contradiction = Some((code, "this is not the session that was asked for"));
                return;
            }
            if welcome.committed < self.ledger.settled() {
                let code = CloseReason::MalformedFrame.code();
                self.contradiction = Some((code, "what was acknowledged is not to be taken back"));
                return;
            }
            if welcome.committed > self.ledger.sent_max() {
                self.contradiction = Some((1, "this client was restored and begins a new session"));
                return;
            }
            self.events.tell(|| Event::Connected(connected));
            if let (first @ 1.., last) = welcome.lost {
                self.events.tell(|| Event::Lost { first, last });
            }
            self.inbound.handle_confirmed(welcome.acknowledged, &mut self.journal);
            if let Some((first, last)) = self.inbound.skip(welcome.acknowledged, &mut self.journal) {
                self.events.tell(|| Event::Missed { first, last });
            }
            self.token = welcome.token;
            self.hold = self.journal.write(Entry::Resume(welcome.token));
        } else {
            self.events.tell(|| Event::Connected(connected));
            (self.number, self.token) = (welcome.session, welcome.token);
            self.inbound.begin(welcome.session);
            (self.has_begun, self.is_unheard) = (true, true);
        }
        self.ledger.handle_welcome(welcome);
        self.connected = Some(connected);
    }

    /// Takes a message in.
    pub(crate) fn push(&mut self, ticket: Ticket, payload: Bytes) {
        let is_attached = self.connected.is_some() && !self.is_unheard;
        self.ledger.push(ticket, payload, &mut self.journal, is_attached);
    }

    /// Everything that was to be sent has left.
    pub(crate) const fn handle_written(&mut self) {
        self.is_unheard = false;
    }

    /// The disk has caught up to this place.
    pub(crate) fn handle_stored(&mut self, place: u64) {
        self.journal.handle_stored(place);
        self.ledger.handle_stored(&self.journal);
        self.inbound.handle_stored(&self.journal);
    }

    /// Whether nothing may be sent before the disk reports.
    pub(crate) const fn is_held(&self) -> bool {
        !self.journal.is_stored(self.hold)
    }

    /// Appends what is to be sent now, unless the disk has to know something first.
    pub(crate) fn transmit(
        &mut self,
        pulse: &mut Pulse<Bytes>,
        now: Instant,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) {
        if pulse.is_attached() {
            self.inbound.answer(pulse);
            if !self.is_unheard {
                self.ledger.hand_over(pulse, &mut self.journal, &self.events);
            }
        }
        if !self.is_held() {
            pulse.poll_transmit(now, bytes_max, out);
            self.ledger.handle_transmitted(pulse.sending(), &self.events);
        }
    }

    /// Whether everything is settled, and known to be on both sides.
    pub(crate) fn is_done(&self, pulse: &Pulse<Bytes>) -> bool {
        self.is_idle()
            && pulse.sending().is_settled()
            && pulse.receiving().committed() == self.inbound.committed()
    }

    /// Whether nothing waits for an outcome, or for the disk.
    pub(crate) fn is_idle(&self) -> bool {
        self.ledger.is_empty() && self.inbound.is_stored() && self.journal.is_all_stored()
    }

    /// The client is done for good with a session that is settled: nobody is to resume it.
    pub(crate) fn forget(&mut self) {
        self.give_up();
    }

    /// The session as its owner may keep it.
    pub(crate) fn save(&self) -> SavedSession {
        let sending = self.sending.clone().unwrap_or_else(|| Sending::new(NOTHING));
        let (acknowledged, ever_sent) = (sending.settled(), sending.ever_sent());
        let kept = sending.into_unsettled().map(|(_, _, payload)| payload);
        SavedSession {
            session: self.number,
            token: self.token,
            committed: self.inbound.committed(),
            refused: self.inbound.refused().collect(),
            acknowledged,
            sent: usize::try_from(ever_sent.saturating_sub(acknowledged)).unwrap_or(usize::MAX),
            unsettled: kept.chain(self.ledger.waiting().cloned()).collect(),
            message_bytes_max: if self.number == 0 { 0 } else { self.told_max },
        }
    }

    /// Nobody holds the client any more: what nobody hears of is to be said in the end.
    pub(crate) fn abandon(&self) {
        self.untold.abandon();
    }

    /// The client has ended: everything that waits gets its outcome.
    pub(crate) fn end(mut self, keeps: bool) {
        let sending = self.sending.take().unwrap_or_else(|| Sending::new(NOTHING));
        self.ledger.end(sending, keeps, &self.journal, &self.events);
    }
}

/// Whether this can be said only of bytes that are no frames at all, or none of this protocol.
const fn is_no_frame(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::UnknownFrame
            | CloseReason::FrameTooLarge
            | CloseReason::MalformedFrame
            | CloseReason::BadText
    )
}

impl From<SavedSession> for Found {
    fn from(saved: SavedSession) -> Self {
        let last_id = saved.unsettled.len() as u64;
        Self {
            session: saved.session,
            token: saved.token,
            told_max: saved.message_bytes_max,
            settled: saved.acknowledged,
            last_id,
            messages: (1..).zip(saved.unsettled).collect(),
            marked: saved.sent as u64,
            committed: saved.committed,
            refused: saved.refused,
        }
    }
}
