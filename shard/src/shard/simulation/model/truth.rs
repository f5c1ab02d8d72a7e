//! Whether what the gateway says of a client's messages and of its end is true.

use super::{Client, Model};
use crate::end::End;
use crate::shard::listener::Delivery;
use crate::shard::simulation::framing_layer::ClientSide;
use crate::shard::simulation::listeners::{
    DEADLINE, DEMANDING, FIRST_MESSAGE, MAX_AGE, NARROW, RULES, SHORT, TIMEOUT, WRITE_STALL,
};
use crate::shard::simulation::recorder::Told;
use crate::shard::simulation::world::Link;
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::Totals;
use pulsegate_core::frame::{self, Frame, FrameReader};
use pulsegate_core::time::Instant;
use pulsegate_core::timer::Timer;
use std::time::Duration;

impl Model {
    /// For how long the shard could not run since then, at the most.
    pub(in crate::shard::simulation) fn stalls_since(&self, since: Instant) -> Duration {
        let after = self.stopped_for.iter().rev().take_while(|(at, _)| *at >= since);
        after.map(|(_, span)| *span).sum()
    }

    /// The sink fails.
    pub(in crate::shard::simulation) fn handle_sink_failure(&mut self) {
        self.failure = Some(self.now());
        let world = self.world.borrow();
        self.sent_before = world.links.iter().map(|(client, link)| (*client, link.told().len())).collect();
    }

    /// Nobody is left whose messages go to a sink that has failed, and nobody was given a session since.
    pub(in crate::shard::simulation) fn check_failed(&self) {
        let world = self.world.borrow();
        for (client, state) in self.clients.iter().enumerate() {
            let is_its = matches!(RULES[state.listener].delivery, Delivery::Lane(_));
            let is_let_in = state.accepted && state.refused.is_none();
            let is_kept = is_let_in && world.links[&client].ended.is_none() && !world.is_behind(client);
            assert!(!is_its || !is_kept, "client {client} is kept, and its sink has failed");
            let before = self.sent_before.get(&client).copied().unwrap_or(0);
            let is_welcomed = state.device.is_some() && is_welcomed(&world.links[&client].told(), before);
            assert!(!is_its || !is_welcomed, "client {client} has got a session, and its sink has failed");
        }
    }
}

/// Whether there is a WELCOME among what a device was sent after so many bytes.
fn is_welcomed(history: &[u8], before: usize) -> bool {
    let (mut reader, mut is_welcomed) = (FrameReader::default(), false);
    for part in [&history[..before], &history[before..]] {
        is_welcomed = false;
        let read = reader.handle_input(part, frame::MESSAGE_BYTES_MAX, |frame| {
            is_welcomed |= matches!(frame, Frame::Welcome(_));
            true
        });
        assert!(read.is_ok(), "it is sent frames");
    }
    is_welcomed
}

/// What the sink got is what the client sent, in order, without a gap; all of it if the client closed.
pub(super) fn check_messages(client: usize, state: &Client, told: &Told, ended: &End) {
    let sent: Vec<&[u8]> = state.lines.iter().map(|(_, line)| line.as_slice()).collect();
    let got: Vec<&[u8]> = told.messages.iter().map(Vec::as_slice).collect();
    assert!(sent.starts_with(&got), "client {client} sent something else");
    assert_eq!(ended.totals.messages, got.len() as u64);
    if ended.reason == CloseReason::PeerClosed {
        assert_eq!(got.len(), sent.len(), "client {client} closed, and a message is lost");
    }
    if let (SHORT, Some((last, _))) =
        (state.listener, got.len().checked_sub(1).and_then(|place| state.lines.get(place)))
    {
        assert!(*last < state.opened.after(DEADLINE), "client {client}: a message came after the deadline");
    }
}

/// What its record says agrees with itself, and with the session that the client was welcomed to, if it was.
pub(super) fn check_record(client: usize, state: &Client, end: &End, welcomed: Option<u64>) {
    let is_its = |timer: Timer| timer.reason() == Some(end.reason);
    let has_timer = matches!(end.reason, CloseReason::HeartbeatTimeout | CloseReason::MaxAge);
    assert!(end.timer.map_or(!has_timer, is_its), "client {client}: {end:?}");
    assert!(end.silent_for <= end.age, "client {client}: {end:?}");
    let is_heartbeat = end.timer == Some(Timer::Heartbeat);
    assert!(!is_heartbeat || end.silent_for >= TIMEOUT, "client {client}: {end:?}");
    let is_raw = state.device.is_none();
    assert!(
        if is_raw { end.session.is_none() } else { welcomed.is_none() || end.session == welcomed },
        "{end:?}"
    );
}

/// The reason is true, and no deadline was early.
pub(super) fn check_reason(client: usize, state: &Client, ended: &End, model: &Model) {
    let at = state.opened.after(ended.age);
    let stalls = |from: Instant, until: Instant| {
        let within = |(began, span): &&(Instant, Duration)| *began >= from && began.after(*span) <= until;
        model.credited.iter().filter(within).map(|(_, span)| *span).sum::<Duration>()
    };
    let world = model.world.borrow();
    let side = world.links[&client].side.as_ref();
    let true_reason = match ended.reason {
        CloseReason::HeartbeatTimeout => {
            let (from, until) = silence(state, &ended.totals, at);
            state.listener != SHORT && until.since(from) >= TIMEOUT + stalls(from, until)
        }
        CloseReason::FirstMessageTimeout => ended.age >= FIRST_MESSAGE && ended.totals.messages == 0,
        CloseReason::ShortDeadline => state.listener == SHORT && ended.age >= DEADLINE,
        CloseReason::MaxAge => ended.age >= MAX_AGE,
        CloseReason::MinimumRate => state.listener == DEMANDING && ended.age >= Duration::from_secs(4),
        CloseReason::MessageTooLarge => {
            matches!(state.listener, DEMANDING | NARROW) || state.unfinished.len() > 1000
        }
        CloseReason::PeerClosed | CloseReason::HalfCloseTimeout => state.hung_up,
        CloseReason::PeerReset => state.reset,
        CloseReason::SinkStalled => model.has_stalled(at),
        // What waits for a layer to be open is something that the client doesn't take, too.
        CloseReason::WriteStall => ended.age >= WRITE_STALL && (ended.totals.bytes_out > 0 || side.is_some()),
        CloseReason::MalformedFrame | CloseReason::TruncatedFrame => is_of_layer(side, ended.reason),
        CloseReason::ReadDeadline
        | CloseReason::WriteDeadline
        | CloseReason::Application
        | CloseReason::OutputFull
        | CloseReason::Drain => true,
        CloseReason::Stopped => model.stopped.is_some_and(|since| since <= at),
        // What a raw connection in a simulated world never meets.
        CloseReason::BadPreface
        | CloseReason::UnsupportedVersion
        | CloseReason::UnknownFrame
        | CloseReason::FrameTooLarge
        | CloseReason::FrameOutOfPlace
        | CloseReason::SecondHello
        | CloseReason::SequenceGap
        | CloseReason::WindowExceeded
        | CloseReason::UnconfirmedRefusals
        | CloseReason::RawListener
        | CloseReason::BadText
        | CloseReason::BadToken
        | CloseReason::Replaced
        | CloseReason::SessionInUse
        | CloseReason::SessionLimit
        | CloseReason::PeerVanished
        | CloseReason::SocketError
        | CloseReason::SinkFailed
        | CloseReason::AtCapacity
        | CloseReason::AddressLimit
        | CloseReason::NewcomerLimit
        | CloseReason::AcceptRate
        | CloseReason::OutOfDescriptors => false,
        reason => panic!("{reason} is new: say here when it is true"),
    };
    assert!(true_reason, "client {client} of listener {} can't have ended with {ended:?}", state.listener);
}

/// Whether the client's side of a layer has done what this reason says.
pub(super) fn is_of_layer(side: Option<&ClientSide>, reason: CloseReason) -> bool {
    side.is_some_and(|side| {
        let is_garbage = side.has_spoiled && reason == CloseReason::MalformedFrame;
        is_garbage || side.is_cut && reason == CloseReason::TruncatedFrame
    })
}

/// All that the gateway has sent is what its side of the layer may send; and that has said its last before the end, unless
/// the connection was cut off.
pub(super) fn check_layer(client: usize, state: &Client, link: &Link, stopped: Option<Instant>) {
    let Some(side) = link.side.as_ref().filter(|_| state.accepted) else { return };
    let history = side.history(&link.history);
    let is_cut = stopped.is_some_and(|stopped| link.ended.is_some_and(|ended| stopped <= ended));
    let is_whole = !link.aborted && !link.reset && !is_cut;
    assert!(history.is_closed || !is_whole, "client {client}: the layer has not said its last");
}

/// From when until when it was silent, by an end at `at`: from the last that was read until something came that was
/// not read any more, perhaps just after its deadline.
pub(super) fn silence(state: &Client, totals: &Totals, at: Instant) -> (Instant, Instant) {
    let is_read = |before: u64| before == 0 || before < totals.bytes_in;
    let came = state.bytes.iter().filter(|(instant, _)| *instant <= at);
    let read = came.clone().filter(|(_, before)| is_read(*before)).map(|(instant, _)| *instant).max();
    let unread = came.filter(|(_, before)| !is_read(*before)).map(|(instant, _)| *instant).min();
    (read.unwrap_or(state.opened), unread.unwrap_or(at))
}
