//! The pulse protocol on one connection (PROTOCOL.md sections 2 to 8): frames in, events out; commands in,
//! frames out. The same for both sides. Knows no deadline but that of a confirmation: how long a connection
//! may live is decided elsewhere.
//!
//! What the peer must not do comes back as a close reason; whoever holds the connection then ends it.
//!
//! Modules, each using only those after it: `frames`, `opening`, `event`.

mod event;
mod frames;
mod opening;

pub use event::PulseEvent;
pub use opening::{Opening, judge_opening};

use crate::close::CloseReason;
use crate::exchange::{Receiving, Sending, Window};
use crate::frame::{Beat, Bye, Frame, FrameReader, Hello, NUMBER_BYTES, PREFACE, Welcome};
use crate::sparse::SparseQueue;
use crate::time::Instant;
use std::time::Duration;

/// How long after a receipt its confirmation is sent at the latest (PROTOCOL.md section 7.4).
pub const CONFIRM_WITHIN: Duration = Duration::from_millis(20);
/// After how many messages it is sent at the latest.
pub const CONFIRM_MESSAGES: u64 = 8;
/// The limit of a message before WELCOME, so that no body is longer than 1,024 bytes (PROTOCOL.md section 3.3).
const MESSAGE_BYTES_BEFORE_WELCOME: u32 = 1024 - NUMBER_BYTES as u32;

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It answers HELLO.
    Gateway,
    /// It says HELLO.
    Client,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// HELLO, or on the client's side WELCOME, has not come yet.
    Opening,
    /// HELLO has come, and the gateway has not answered yet.
    Attaching,
    /// Messages may go both ways.
    Attached,
    /// The peer's BYE has come, or it has broken the rules: nothing more that it sends counts.
    Over,
}

/// One connection of the pulse protocol.
#[derive(Debug)]
pub struct Pulse<P> {
    side: Side,
    stage: Stage,
    reader: FrameReader,
    /// Between HELLO and WELCOME: the cursor and the window that the client named, and nothing to send.
    sending: Sending<P>,
    receiving: Receiving,
    /// The window and sizes that we take.
    window: Window,
    message_bytes_max: u32,
    /// The longest payload that the peer takes.
    peer_message_bytes_max: u32,
    /// The sizes of messages that have come and are not committed, oldest first. Not that of one that has come alone: most
    /// do, and nothing is allocated for them.
    uncommitted: SparseQueue<u32>,
    /// Their sum: within the window, or that of a single one.
    uncommitted_bytes: u32,
    /// Frames that go before all messages, in order.
    #[expect(clippy::box_collection, reason = "mostly there are none, and then two words of it are spared")]
    urgent: Option<Box<Vec<u8>>>,
    is_receipt_due: bool,
    confirm_by: Option<Instant>,
    left_over: Option<Box<Sending<P>>>,
}

impl<P: AsRef<[u8]>> Pulse<P> {
    /// The gateway's side, once the preface has been judged.
    #[must_use]
    pub fn gateway(window: Window, message_bytes_max: u32) -> Self {
        Self::new(Side::Gateway, Sending::new(window), Receiving::default(), window, message_bytes_max)
    }

    /// The client's side: preface and HELLO are the first to be transmitted. `sending` and `receiving` are
    /// those of the session to be resumed, or new ones.
    #[must_use]
    pub fn client(hello: &Hello<'_>, sending: Sending<P>, receiving: Receiving) -> Self {
        let mut pulse = Self::new(Side::Client, sending, receiving, hello.window, hello.message_bytes_max);
        pulse.urgent().extend_from_slice(&PREFACE);
        Frame::Hello(*hello).encode(pulse.urgent());
        pulse
    }

    fn new(
        side: Side,
        sending: Sending<P>,
        receiving: Receiving,
        window: Window,
        message_bytes_max: u32,
    ) -> Self {
        Self {
            side,
            stage: Stage::Opening,
            reader: FrameReader::default(),
            sending,
            receiving,
            window,
            message_bytes_max,
            peer_message_bytes_max: 0,
            uncommitted: SparseQueue::new(),
            uncommitted_bytes: 0,
            urgent: None,
            is_receipt_due: false,
            confirm_by: None,
            left_over: None,
        }
    }

    /// Whether messages may go both ways.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.stage == Stage::Attached
    }

    /// The sending half.
    #[must_use]
    pub const fn sending(&self) -> &Sending<P> {
        &self.sending
    }

    /// The receiving half.
    #[must_use]
    pub const fn receiving(&self) -> &Receiving {
        &self.receiving
    }

    /// Whether the gateway has yet to answer HELLO.
    #[must_use]
    pub fn is_attaching(&self) -> bool {
        self.stage == Stage::Attaching
    }

    /// Whether messages have come whose receipts are still owed.
    #[must_use]
    pub fn owes_receipts(&self) -> bool {
        self.has_uncommitted() || self.is_receipt_due
    }

    const fn has_uncommitted(&self) -> bool {
        self.receiving.committed() < self.receiving.received()
    }

    /// Whether a frame has begun to come that is not whole yet.
    #[must_use]
    pub const fn is_inside_frame(&self) -> bool {
        !self.reader.is_between_frames()
    }

    /// Bytes of frames that go out before all messages.
    #[must_use]
    pub fn urgent_bytes(&self) -> usize {
        self.urgent.as_ref().map_or(0, |frames| frames.len())
    }

    fn urgent(&mut self) -> &mut Vec<u8> {
        self.urgent.get_or_insert_default()
    }

    /// The longest payload that the peer takes, in bytes; 0 until it has said so.
    #[must_use]
    pub const fn peer_message_bytes_max(&self) -> u32 {
        self.peer_message_bytes_max
    }

    /// Takes received bytes, without the preface, and hands over the events that they cause. The owner must not change
    /// this connection from within `on_event`; it notes what it wants to do.
    ///
    /// # Errors
    /// The reason to end the connection for. What came before the fault is handed over, nothing after it.
    pub fn handle_input(
        &mut self,
        now: Instant,
        input: &[u8],
        mut on_event: impl FnMut(PulseEvent<'_>),
    ) -> Result<(), CloseReason> {
        // After a BYE nothing is read any more, so that what arrives can't break the protocol either.
        if self.stage == Stage::Over {
            return Ok(());
        }
        let mut reader = std::mem::take(&mut self.reader);
        let mut fault = None;
        let outcome = reader.handle_input(input, self.message_limit(), |frame| {
            fault = self.handle_frame(now, frame, &mut on_event).err();
            fault.is_none() && self.stage != Stage::Over
        });
        self.reader = reader;
        if outcome == Ok(true) && fault.is_none() && self.stage != Stage::Over {
            on_event(PulseEvent::Alive);
        }
        let fault = fault.or_else(|| outcome.err().map(CloseReason::from));
        if let Some(reason) = fault {
            self.stage = Stage::Over;
            return Err(reason);
        }
        Ok(())
    }

    /// The peer's stream has ended.
    ///
    /// # Errors
    /// [`CloseReason::TruncatedFrame`] if that is inside a frame, before a BYE of either side.
    pub const fn handle_input_end(&self) -> Result<(), CloseReason> {
        let is_whole = self.reader.is_between_frames() || matches!(self.stage, Stage::Over);
        if is_whole { Ok(()) } else { Err(CloseReason::TruncatedFrame) }
    }

    /// Attaches the client: WELCOME is sent, and then what `sending` holds above its cursor. The halves are those of
    /// the session.
    ///
    /// # Errors
    /// [`CloseReason::FrameOutOfPlace`] if the session is resumed and the cursor that HELLO named is ahead of
    /// everything we sent, or there was no HELLO.
    pub fn welcome(
        &mut self,
        welcome: &Welcome<'_>,
        sending: Sending<P>,
        receiving: Receiving,
    ) -> Result<(), CloseReason> {
        if self.stage != Stage::Attaching {
            return Err(CloseReason::FrameOutOfPlace);
        }
        let named = std::mem::replace(&mut self.sending, sending);
        self.receiving = receiving;
        // What HELLO named belongs to its session: a new one begins at 0, whatever became of the other.
        let peer_committed = if welcome.resumed { named.settled() } else { 0 };
        self.sending.attach(peer_committed, named.window())?;
        self.receiving.attach(welcome.committed);
        (self.window, self.message_bytes_max) = (welcome.window, welcome.message_bytes_max);
        Frame::Welcome(*welcome).encode(self.urgent());
        self.stage = Stage::Attached;
        Ok(())
    }

    /// Gives a payload its number; it is sent when the window allows. It must not be longer than the peer takes.
    pub fn push(&mut self, payload: P) -> u64 {
        self.sending.push(payload)
    }

    /// Everything up to `committed` is committed, or was refused: the receipt is due.
    pub fn commit(&mut self, committed: u64) {
        let before = self.receiving.committed();
        if self.receiving.handle_committed(committed) {
            self.is_receipt_due = true;
            for _ in before..self.receiving.committed() {
                let bytes = self.uncommitted.pop_front().unwrap_or(self.uncommitted_bytes);
                self.uncommitted_bytes -= bytes;
            }
        }
    }

    /// A message is not accepted; [`commit`](Self::commit) of its number has to follow.
    pub fn refuse(&mut self, number: u64, code: u16, text: &str) {
        Frame::Refuse { number, code, text }.encode(self.urgent());
    }

    /// Sends a beat, or asks whether the peer is alive.
    pub fn beat(&mut self, beat: Beat) {
        Frame::Beat(beat).encode(self.urgent());
    }

    /// Sends the client a notice.
    pub fn notice(&mut self, code: u16, in_ms: u32, text: &str) {
        Frame::Notice { code, in_ms, text }.encode(self.urgent());
    }

    /// Our BYE. Nothing is transmitted after it.
    pub fn bye(&mut self, code: u16, retry: u8, delay_ms: u32, text: &str, out: &mut Vec<u8>) {
        let committed = self.receiving.committed();
        Frame::Bye(Bye { code, retry, delay_ms, committed, text }).encode(out);
        self.stage = Stage::Over;
    }

    /// When a confirmation is due, if one is.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.confirm_by
    }

    /// Whether there is nothing to send, now or later.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let has_outcomes = self.urgent.is_some() || self.is_receipt_due;
        !has_outcomes && self.sending.unconfirmed() == 0 && !self.sending.is_waiting()
    }

    /// Appends to `out` what is to be sent now: what is urgent first, then messages, as far as the window
    /// allows and until `out` holds `bytes_max`. Whole frames only.
    pub fn poll_transmit(&mut self, now: Instant, bytes_max: usize, out: &mut Vec<u8>) {
        if self.stage == Stage::Over {
            return;
        }
        self.poll_outcomes(out);
        if self.stage != Stage::Attached {
            return;
        }
        // What HELLO has settled is confirmed at once: no receipt has set a time for it.
        let is_due = self.confirm_by.is_none_or(|due| due <= now);
        if (is_due || self.sending.unconfirmed() >= CONFIRM_MESSAGES)
            && let Some(floor) = self.sending.poll_confirm()
        {
            self.confirm_by = None;
            Frame::Confirm { floor }.encode(out);
        }
        while out.len() < bytes_max
            && let Some((number, payload)) = self.sending.poll_transmit()
        {
            Frame::Message { number, payload: payload.as_ref() }.encode(out);
        }
    }

    /// Appends what is urgent and the receipt that is due, and nothing else: what may still be sent before our BYE.
    pub fn poll_outcomes(&mut self, out: &mut Vec<u8>) {
        if let Some(frames) = self.urgent.take() {
            out.extend_from_slice(&frames);
        }
        if std::mem::take(&mut self.is_receipt_due) {
            Frame::Receipt { committed: self.receiving.committed() }.encode(out);
        }
    }

    /// What was left of a session that is gone.
    pub fn take_left_over(&mut self) -> Option<Sending<P>> {
        self.left_over.take().map(|sending| *sending)
    }

    /// The connection is gone: returns the halves, for the next one.
    #[must_use]
    pub fn into_halves(self) -> (Sending<P>, Receiving) {
        (self.sending, self.receiving)
    }

    /// A stranger can't make a gateway keep more than a small frame. A client knows whom it has called, and messages
    /// may follow WELCOME in the same input.
    fn message_limit(&self) -> u32 {
        let is_stranger = self.side == Side::Gateway && !self.is_attached();
        if is_stranger { MESSAGE_BYTES_BEFORE_WELCOME } else { self.message_bytes_max }
    }
}
