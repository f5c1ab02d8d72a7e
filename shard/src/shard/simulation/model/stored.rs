//! What must hold where a store on disk takes the messages. No sink hears of the clients there: what is known of their
//! ends is what they were told.

use super::truth::check_reason;
use super::{Client, Model};
use crate::end::End;
use crate::id::ConnectionNumber;
use crate::shard::simulation::devices::check_farewell;
use crate::shard::simulation::judge::Judge;
use crate::shard::simulation::listeners::{SINK_STALL, STORED};
use crate::shard::simulation::world::Link;
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::Totals;
use pulsegate_core::frame::{self, Frame, FrameReader};
use pulsegate_core::time::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// What may be the doing of a store.
const OF_STORES: [CloseReason; 2] = [CloseReason::SinkStalled, CloseReason::SinkFailed];

/// Who has used up its share, session or address, and since when it is these.
pub(in crate::shard::simulation) struct Rests(Vec<(Instant, Vec<u64>, Vec<u8>)>);

impl Default for Rests {
    fn default() -> Self {
        Self(vec![(Instant::ORIGIN, Vec::new(), Vec::new())])
    }
}

impl Rests {
    pub(in crate::shard::simulation) fn note(&mut self, now: Instant, sessions: &[u64], hosts: &[u8]) {
        self.0.push((now, sessions.to_vec(), hosts.to_vec()));
    }

    /// Whether somebody had used up its share for as long as it is kept then. What session it has may not be known to it.
    pub(super) fn names(&self, host: u8, session: Option<u64>, at: Instant) -> bool {
        let untils = self.0.iter().skip(1).map(|(since, ..)| *since).chain([at]);
        let mut sets = self
            .0
            .iter()
            .zip(untils)
            .filter(|((since, ..), until)| *since < at && *until > at.before(SINK_STALL));
        sets.all(|((_, sessions, hosts), _)| {
            let is_named = session.map_or(!sessions.is_empty(), |session| sessions.contains(&session));
            is_named || hosts.contains(&host)
        })
    }
}

/// What the store on disk has done, as far as its clients feel it.
#[derive(Default)]
pub(in crate::shard::simulation) struct Stored {
    /// When it has committed something, or had nothing to commit.
    pub(in crate::shard::simulation) moved: Vec<Instant>,
    /// When the shard has last looked whether it takes something.
    pub(in crate::shard::simulation) turned: Option<Instant>,
    /// When so much waited for it that no newcomer could be let in.
    pub(in crate::shard::simulation) overrun: Vec<Instant>,
    /// When it died.
    pub(in crate::shard::simulation) death: Option<Instant>,
    /// Since when it has forgotten sessions, if it has.
    pub(in crate::shard::simulation) forgotten: Option<Instant>,
    pub(in crate::shard::simulation) rests: Rests,
    /// How many messages of raw clients their shard has taken.
    taken: BTreeMap<usize, u64>,
}

impl Stored {
    /// Whether it has taken nothing for so long that nobody need wait any more. What it takes at the same instant may come
    /// too late.
    pub(in crate::shard::simulation) fn has_stalled(&self, at: Instant) -> bool {
        self.moved.iter().rfind(|moved| **moved < at).is_none_or(|moved| at.since(*moved) >= SINK_STALL)
    }

    /// Whether a newcomer may be kept out now: so much waits, or nothing was taken for long, as far as the shard could find
    /// out in its turns.
    pub(in crate::shard::simulation) fn keeps_out(&self, now: Instant) -> bool {
        let known = self.moved.iter().rfind(|moved| Some(**moved) < self.turned);
        self.overrun.last() == Some(&now) || known.is_none_or(|moved| now.since(*moved) >= SINK_STALL)
    }
}

impl Model {
    /// The shard has taken so much of a client.
    pub(in crate::shard::simulation) fn note_taken(&mut self, client: usize, totals: Totals) {
        self.clients[client].read = totals.bytes_in;
        if self.clients[client].listener == STORED && self.clients[client].device.is_none() {
            self.stored.taken.insert(client, totals.messages);
        }
    }

    /// How the store calls a client.
    pub(in crate::shard::simulation) fn address(&self, client: usize) -> String {
        format!("10.0.0.{}:{}", self.clients[client].host, client as u16)
    }

    /// Everything is over: what was taken is stored, but for what was given up and said to be lost.
    pub(in crate::shard::simulation) fn check_stored(
        &self,
        disk: &Judge,
        sessions: &BTreeMap<usize, u64>,
        lost: u64,
    ) {
        let mut missing = 0;
        for (client, state) in self.clients.iter().enumerate().filter(|(_, state)| state.listener == STORED) {
            let world = self.world.borrow();
            let link = &world.links[&client];
            if !state.accepted {
                assert!(link.history.is_empty(), "client {client} is told something before it is accepted");
            } else if let Some(reason) = state.refused {
                check_turned_away(client, state, link, reason);
            } else if state.device.is_some() {
                self.check_stored_device(client, state, link, sessions.get(&client).copied());
            } else {
                let stored = disk.appended(&self.address(client));
                let sent: Vec<&[u8]> = state.lines.iter().map(|(_, line)| line.as_slice()).collect();
                assert!(sent.iter().zip(&stored).all(|(sent, stored)| **sent == **stored));
                assert!(stored.len() <= sent.len(), "client {client} has not sent so much");
                let taken = self.stored.taken.get(&client).copied().unwrap_or_default();
                missing += taken.saturating_sub(stored.len() as u64);
                let reason = self.check_stored_raw(client, state, link, stored.len());
                if reason == Some(CloseReason::PeerClosed) && !disk.is_dead() && lost == 0 {
                    assert_eq!(stored.len(), sent.len(), "client {client} closed, and a message is lost");
                }
            }
        }
        assert!(
            missing <= lost || disk.is_dead(),
            "{missing} messages were taken and lost, {lost} are admitted"
        );
    }

    fn check_stored_raw(
        &self,
        client: usize,
        state: &Client,
        link: &Link,
        stored: usize,
    ) -> Option<CloseReason> {
        let told = link.told();
        let told = std::str::from_utf8(&told).ok()?;
        if told.is_empty() {
            return None;
        }
        let words = told.strip_prefix("bye ").and_then(|told| told.strip_suffix('\n'));
        let reason = words.and_then(|words| CloseReason::ALL.iter().find(|it| it.as_str() == words));
        let reason = *reason.unwrap_or_else(|| panic!("client {client} is told {told:?}"));
        let ended = ended(state, link, reason, stored);
        if !self.is_true_of_stored(state, &ended, Some(0)) {
            check_reason(client, state, &ended, self);
        }
        Some(reason)
    }

    fn check_stored_device(&self, client: usize, state: &Client, link: &Link, session: Option<u64>) {
        let Some(code) = bye_of(client, link) else { return };
        let reason = CloseReason::ALL.iter().find(|reason| reason.code() == code);
        let reason = *reason.unwrap_or_else(|| panic!("client {client} is told {code}"));
        let ended = ended(state, link, reason, 0);
        let is_true = self.is_true_of_stored(state, &ended, session)
            || if reason == CloseReason::HeartbeatTimeout {
                // When it ended is not known exactly: its last words may have waited to be taken.
                !state.diligent
            } else {
                !OF_STORES.contains(&reason) && self.is_true_for_device(client, state, &ended)
            };
        assert!(is_true, "client {client}, a device, can't have ended with {ended:?}");
    }

    /// Whether it's the store's doing, and a true reason.
    fn is_true_of_stored(&self, state: &Client, ended: &End, session: Option<u64>) -> bool {
        let at = state.opened.after(ended.age);
        let stored = &self.stored;
        if ended.reason == CloseReason::SinkStalled {
            let is_turned_away = session.is_none() && stored.overrun.contains(&at);
            return is_turned_away || stored.has_stalled(at) || stored.rests.names(state.host, session, at);
        }
        let forgotten = stored.forgotten.filter(|_| state.device.is_some());
        let failures = [stored.death, forgotten];
        ended.reason == CloseReason::SinkFailed && failures.into_iter().flatten().any(|since| since <= at)
    }
}

/// What is known of an end from outside.
fn ended(state: &Client, link: &Link, reason: CloseReason, messages: usize) -> End {
    let age = link.ended.map_or_else(Default::default, |ended| ended.since(state.opened));
    let totals = Totals {
        bytes_in: if link.side.is_some() { state.read } else { link.heard as u64 },
        bytes_out: link.history.len() as u64,
        messages: messages as u64,
    };
    End {
        number: ConnectionNumber::from_bits(0),
        listener: "".into(),
        peer: ([0, 0, 0, 0], 0).into(),
        session: None,
        reason,
        timer: None,
        age,
        silent_for: Duration::ZERO,
        totals,
        unsent: 0,
    }
}

/// What a device was told at its end, as the last of all frames.
fn bye_of(client: usize, link: &Link) -> Option<u16> {
    let mut told = None;
    let outcome = FrameReader::default().handle_input(&link.told(), frame::MESSAGE_BYTES_MAX, |frame| {
        assert!(told.is_none(), "client {client}: nothing comes after BYE");
        if let Frame::Bye(bye) = frame {
            told = Some(bye.code);
        }
        true
    });
    assert!(outcome.is_ok(), "client {client} is sent frames");
    told
}

/// Raw clients are told in a line, once they have shown that they are.
fn check_turned_away(client: usize, state: &Client, link: &Link, reason: CloseReason) {
    if state.device.is_some() {
        return check_farewell(client, true, link, reason);
    }
    let words = link.told();
    let told = |reason: CloseReason| words == format!("bye {reason}\n").into_bytes();
    let is_right = words.is_empty() || told(reason) || told(CloseReason::Drain);
    assert!(is_right, "client {client}, to whom {reason} applies, is told {words:?}");
}
