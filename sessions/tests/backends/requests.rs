//! Random requests of careful and careless connections, by what they were told. Knows no rule.

use pulsegate_core::policy::SecondConnection;
use pulsegate_sessions::{
    Attach, Attached, Attachment, Moment, Recipient, Reply, Request, Resume, Seat, Source, Ticket, Token,
};
use std::time::Duration;

const CLIENTS: [&str; 3] = ["a", "b", "c"];

/// A session as its client knows it.
#[derive(Clone, Debug)]
struct Known {
    seat: Seat,
    client: String,
    token: Token,
    before: Token,
    /// The number of its last message.
    sent: u64,
    received: u64,
}

/// Where requests come from.
#[derive(Debug)]
pub(crate) struct Requests {
    random: u64,
    known: Vec<Known>,
    tickets: Ticket,
    now: Moment,
}

impl Requests {
    pub(crate) fn new(seed: u64) -> Self {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bf0_3635;
        Self { random, known: Vec::new(), tickets: 0, now: Moment::default() }
    }

    /// A number below `below`, by `SplitMix64`.
    fn below(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % below
    }

    fn is(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    /// The time, if it goes on.
    pub(crate) fn pass_time(&mut self) -> Option<u64> {
        if !self.is(4) {
            return None;
        }
        let ms = self.below(120);
        self.now = Moment { wall_ms: self.now.wall_ms + ms, uptime_ms: self.now.uptime_ms + ms };
        Some(self.now.uptime_ms)
    }

    /// What is asked for next.
    pub(crate) fn next_batch(&mut self) -> Vec<Request> {
        let mut batch = Vec::new();
        for _ in 0..=self.below(12) {
            self.ask(&mut batch);
        }
        batch
    }

    /// What clients learn.
    pub(crate) fn handle_replies(&mut self, replies: &[Reply]) {
        for reply in replies {
            if let Reply::Attached(attached) = reply {
                self.learn(attached);
            } else if let Reply::Pushed { attachment, number, .. } = reply {
                for known in self.known.iter_mut().filter(|it| it.seat.session() == attachment.session) {
                    known.received = known.received.max(*number);
                }
            } else if let Reply::Expired { session, .. } = reply
                // Some clients don't know so.
                && session % 2 == 0
            {
                self.known.retain(|known| known.seat.session() != *session);
            }
        }
    }

    fn learn(&mut self, attached: &Attached) {
        let old = self.known.iter().find(|known| known.seat.session() == attached.session());
        let (token, sent) = (attached.token, attached.committed);
        let before = old.map_or(token, |old| old.token);
        let received = old.map_or(0, |old| old.received);
        let client = attached.client.to_string();
        self.known.push(Known { seat: attached.seat, client, token, before, sent, received });
        if self.known.len() > 12 {
            self.known.remove(0);
        }
    }

    fn ask(&mut self, batch: &mut Vec<Request>) {
        if self.known.is_empty() || self.is(8) {
            return batch.push(self.attach(None));
        }
        let place = self.below(self.known.len() as u64) as usize;
        let Known { seat, received, sent, .. } = self.known[place];
        let (off, now_ms) = (self.below(3), self.now.wall_ms);
        match self.below(20) {
            0..2 => {
                let known = self.known[place].clone();
                batch.push(self.attach(Some(&known)));
            }
            2..8 => self.send(place, batch),
            8..10 => {
                let floor = if self.is(2) { sent } else { sent.saturating_sub(off) };
                batch.push(Request::Confirm { attachment: seat.attachment, floor });
            }
            10 => batch.push(Request::TokenUsed { attachment: seat.attachment }),
            11..14 => {
                let client = CLIENTS[self.below(3) as usize].to_owned();
                let to =
                    if self.is(3) { Recipient::Client(client) } else { Recipient::Session(seat.session()) };
                let payload = vec![7; self.below(10) as usize].into();
                batch.push(Request::Push { ticket: 1 << 100, to, now_ms, payload });
            }
            14..16 => {
                let committed = received.saturating_sub(off);
                batch.push(Request::OutReceipt { attachment: seat.attachment, committed });
            }
            16 => {
                let above = received.saturating_sub(off);
                batch.push(Request::Load { seat, above, bytes_max: 150 });
            }
            17 => {
                let client = CLIENTS[self.below(3) as usize].into();
                let (source, payload) = (self.source(), vec![9; self.below(10) as usize].into());
                batch.push(Request::Append { client, source, number: 1, received_at_ms: now_ms, payload });
            }
            _ => batch.push(Request::Detach { seat, for_good: self.is(2), now: self.now }),
        }
    }

    fn source(&mut self) -> Source {
        self.below(3).cast_signed()
    }

    /// Some messages of one connection, in order but for a few.
    fn send(&mut self, place: usize, batch: &mut Vec<Request>) {
        let count = if self.is(12) { 100 } else { 1 + self.below(4) };
        for _ in 0..count {
            let skipped = if self.is(200) { 1 } else { 0 };
            let (again, bytes) = (u64::from(self.is(20)), self.below(9) + u64::from(self.is(12)));
            let is_lost = self.is(300);
            let received_at_ms = self.now.wall_ms;
            let Known { seat, sent, .. } = &mut self.known[place];
            *sent += skipped + 1 - again.min(*sent);
            let Attachment { session, epoch } = seat.attachment;
            let session = if is_lost { session + 1_000 } else { session };
            let seat = Seat::new(seat.ticket, session, epoch);
            let payload = vec![1; bytes as usize].into();
            batch.push(Request::Message { seat, number: *sent, received_at_ms, payload });
        }
    }

    fn attach(&mut self, known: Option<&Known>) -> Request {
        self.tickets += 1;
        let mut token = [0; 16];
        token[..8].copy_from_slice(&self.below(u64::MAX).to_le_bytes());
        let resume = known.map(|known| Resume {
            session: known.seat.session(),
            token: [known.token, known.token, known.before, [5; 16]][self.below(4) as usize],
            committed: known.received.saturating_sub(self.below(4)),
            acknowledged: (known.sent + u64::from(self.is(12))).saturating_sub(self.below(3)),
        });
        let client = CLIENTS[self.below(3) as usize].to_owned();
        let client = known.filter(|_| !self.is(12)).map_or(client, |known| known.client.clone());
        let second = [SecondConnection::Allow, SecondConnection::Replace, SecondConnection::Refuse]
            [self.below(3) as usize];
        Request::Attach(Box::new(Attach {
            ticket: self.tickets,
            client,
            source: self.source(),
            resume,
            token,
            second,
            message_bytes_max: 4 + self.below(8) as u32,
            told_bytes_max: 4 + self.below(8) as u32,
            now: self.now,
            time_to_live: Duration::from_millis(50 + self.below(300)),
        }))
    }
}
