//! What clients send, and when it counts as sent.

use super::{Client, Model};
use fastrand::Rng;

impl Model {
    /// The client sends something: a line, a heartbeat, a piece of a line, or a lot.
    pub(in crate::shard::simulation) fn send(&mut self, client: usize, random: &mut Rng) {
        let silent = |state: &&Client| state.hung_up || state.reset || state.device.is_some();
        let Some(state) = self.clients.get(client).filter(|state| !silent(state)) else { return };
        let number = state.lines.len();
        let bytes = match random.u32(..20) {
            0..8 => format!("{client} says {number}\n"),
            8..14 => "PING\n".to_owned(),
            14..18 => "drip".to_owned(),
            18 if random.bool() => "\n".repeat(random.usize(1..3000)),
            18 => format!("{client} says {number}\n").repeat(random.usize(1..300)),
            _ => "x".repeat(random.usize(1..3000)),
        };
        if random.u32(..10) == 0
            && let Some(link) = self.world.borrow_mut().links.get_mut(&client)
        {
            link.urgent = Some(link.inbound.len() + random.usize(..=bytes.len()));
        }
        self.say(client, bytes.as_bytes());
    }

    /// The client says these bytes. What a device says is whole frames, which a layer doesn't let come in parts.
    pub(in crate::shard::simulation) fn say(&mut self, client: usize, bytes: &[u8]) {
        let is_device = self.clients[client].device.is_some();
        let whole = self.world.borrow_mut().say(client, bytes, is_device);
        self.note_sent(client, &whole);
    }

    /// What a layer has kept back of what its clients say is sent, or a part of it.
    pub(in crate::shard::simulation) fn pump(&mut self, all: bool) {
        for client in 0..self.clients.len() {
            let whole = self.world.borrow_mut().pump(client, all || self.clients[client].device.is_some());
            self.note_sent(client, &whole);
        }
    }

    /// The client has sent these bytes, which are lines unless it is a device. They count if the gateway has not ended the
    /// connection.
    pub(super) fn note_sent(&mut self, client: usize, bytes: &[u8]) {
        let world = self.world.borrow();
        if bytes.is_empty() || world.links.get(&client).is_none_or(|link| link.ended.is_some()) {
            return;
        }
        let state = &mut self.clients[client];
        state.bytes.push((world.now, state.sent));
        state.sent += bytes.len() as u64;
        for &byte in bytes.iter().filter(|_| state.device.is_none()) {
            if byte == b'\n' {
                let line = std::mem::take(&mut state.unfinished);
                state.beats |= line == b"PING" || state.lines.is_empty();
                state.lines.push((world.now, line));
            } else {
                state.unfinished.push(byte);
            }
        }
    }
}
