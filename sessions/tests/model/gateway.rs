//! The gateway's steps: what a shard does around the real receiving half, and how the committer's batches are put together
//! and come into force.

use crate::store::{Batch, NO_EPOCH};
use crate::wiring::{Forgetting, Holding, Transaction, Wiring};
use crate::world::{
    Answer, Asked, Broken, Connection, Down, Gateway, Outcome, Server, Sights, Take, Up, WINDOW, World,
};
use pulsegate_core::exchange::Receiving;
use pulsegate_sessions::{Attachment, Request};

impl World {
    pub(crate) fn gateway_reads(
        &mut self,
        id: u8,
        wiring: &Wiring,
        sights: &mut Sights,
    ) -> Result<(), Broken> {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return Ok(());
        };
        let Some(frame) = connection.up.pop_front() else { return Ok(()) };
        sights.read_from_zombie += u64::from(!connection.has_client);
        let queue = &mut self.gateway.queue;
        if let (Server::Attached { at, is_heard, .. }, false) = (&mut connection.server, frame == Up::Goodbye)
            && !std::mem::replace(is_heard, true)
        {
            queue.push_back(Asked::TokenUsed(*at));
        }
        match (frame, &mut connection.server) {
            (Up::Hello { session, token, acknowledged }, server @ Server::Opening) => {
                *server = Server::Attaching;
                queue.push_back(Asked::Attach { connection: id, session, token, acknowledged });
            }
            (Up::Beat, Server::Attached { .. }) => {}
            (Up::Message { number, payload }, Server::Attached { at, receiving, .. }) => {
                receiving.handle_message(number, WINDOW.messages)?;
                let at = wiring.named(*at);
                queue.push_back(Asked::Message { connection: id, at, number, payload });
            }
            (Up::Confirm(floor), Server::Attached { at, receiving, .. }) => {
                receiving.handle_confirm(floor)?;
                queue.push_back(Asked::Confirm { at: wiring.named(*at), floor });
            }
            (Up::Goodbye, Server::Attached { .. }) => self.gateway_lets_go(id, true, wiring),
            _ => return Err(Broken::Accused),
        }
        Ok(())
    }

    /// The gateway learns that a connection is over.
    pub(crate) fn gateway_lets_go(&mut self, id: u8, is_goodbye: bool, wiring: &Wiring) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return;
        };
        if let Server::Attached { at, receiving, is_resumed, is_heard } = connection.server {
            let is_unheard = !is_resumed && !is_heard;
            let mut for_good = is_goodbye || is_unheard;
            if is_unheard && !is_goodbye {
                self.store.unheard |= 1 << at.session;
            }
            if wiring.forgetting == Forgetting::SessionAtReceipt
                && receiving.received() == receiving.committed()
            {
                let floor = receiving.committed();
                self.gateway.queue.push_back(Asked::Confirm { at, floor });
                for_good = true;
            }
            self.gateway.queue.push_back(Asked::Detach { connection: id, at, for_good });
        }
        connection.server = Server::Gone;
        connection.up.clear();
        self.sweep();
    }

    pub(crate) fn gateway_crashes(&mut self, sights: &mut Sights) {
        sights.crashed_with_queue += u64::from(!self.gateway.queue.is_empty());
        self.left.crashes -= 1;
        self.gateway = Gateway::default();
        self.store.start();
        for connection in &mut self.connections {
            connection.server = Server::Gone;
            connection.up.clear();
        }
        self.sweep();
    }

    /// A crash takes the last message of a session with it, as if a disk had been restored.
    pub(crate) fn gateway_loses_last(&mut self, sights: &mut Sights) {
        self.left.crashes += 1;
        self.left.losses -= 1;
        self.gateway_crashes(sights);
        self.store.lose_last();
    }

    /// An answer of the committer reaches its connection, and is told to the client.
    pub(crate) fn gateway_answers(&mut self, wiring: &Wiring) {
        let Some(answer) = self.gateway.mailbox.pop_front() else { return };
        if let Answer::Attached { replaced: Some(id), .. } = answer
            && let Some(replaced) = self.connection(id)
        {
            replaced.has_to_end = true;
        }
        let id = answer.connection();
        let found = self.connections.iter_mut().find(|connection| connection.id == id);
        match (answer, found) {
            (
                Answer::Attached { at, token, committed, floor, refused, lost, is_resumed, .. },
                Some(connection),
            ) if connection.server == Server::Attaching => {
                let mut receiving = Receiving::restore(committed, floor);
                receiving.attach(committed);
                connection.server = Server::Attached { at, receiving, is_resumed, is_heard: false };
                let session = at.session;
                connection.write_down(Down::Welcome { session, token, committed, refused, lost, is_resumed });
            }
            (Answer::Attached { connection, at, is_resumed, .. }, _) => {
                // Nobody is there any more.
                if !is_resumed {
                    self.store.unheard |= 1 << at.session;
                }
                self.gateway.queue.push_back(Asked::Detach { connection, at, for_good: !is_resumed });
            }
            (Answer::AttachRefused { .. }, Some(_)) => self.gateway_lets_go(id, false, wiring),
            (Answer::Committed { committed, .. }, Some(connection)) => {
                let Server::Attached { at, receiving, .. } = &mut connection.server else { return };
                let is_due = receiving.handle_committed(committed);
                if wiring.forgetting == Forgetting::CursorAtReceipt && receiving.received() == committed {
                    self.store.forget_cursor(*at);
                }
                if is_due {
                    connection.write_down(Down::Receipt(committed));
                }
            }
            (Answer::Refused { number, .. }, Some(connection)) => {
                if matches!(connection.server, Server::Attached { .. }) {
                    connection.write_down(Down::Refuse(number));
                }
            }
            (Answer::Ended { .. }, Some(connection)) => connection.has_to_end = true,
            _ => {}
        }
    }

    /// The time to live of a session has passed that has no connection.
    pub(crate) fn session_expires(
        &mut self,
        number: u64,
        wiring: &Wiring,
        sights: &mut Sights,
    ) -> Result<(), Broken> {
        self.left.expiries -= 1;
        if wiring.is_removal_blind {
            self.gateway.queue.push_back(Asked::Expire(number));
            return Ok(());
        }
        let batch = self.store.expire(number, wiring);
        self.handle_batch(batch, true, wiring, sights)
    }

    /// Whether a connection holds this session, as far as the gateway knows.
    fn is_attached(&self, number: u64) -> bool {
        let Some(row) = self.store.rows.sessions.get(&number) else { return false };
        let this = Attachment { session: number, epoch: row.cursor.epoch };
        let is_here =
            |connection: &Connection| matches!(connection.server, Server::Attached { at, .. } if at == this);
        let is_told = |answer: &Answer| {
            let Answer::Attached { connection: id, at, .. } = *answer else { return false };
            let mut waiting = self.connections.iter().filter(|it| it.server == Server::Attaching);
            at == this && waiting.any(|connection| connection.id == id)
        };
        self.connections.iter().any(is_here) || self.gateway.mailbox.iter().any(is_told)
    }

    /// The committer takes what waits, or finishes what it has half done.
    pub(crate) fn committer_proceeds(
        &mut self,
        take: Take,
        wiring: &Wiring,
        sights: &mut Sights,
    ) -> Result<(), Broken> {
        if let Some(later) = self.gateway.later.take() {
            let (store, answers) = *later;
            self.store = store;
            self.gateway.mailbox.extend(answers);
            return Ok(());
        }
        if let Some(&Asked::Expire(number)) = self.gateway.queue.front() {
            self.gateway.queue.pop_front();
            let batch = self.store.expire(number, wiring);
            return self.handle_batch(batch, true, wiring, sights);
        }
        let batch = self.gateway.next_batch(take.all, wiring, sights);
        sights.batched += u64::from(batch.len() > 2);
        for request in &batch {
            if let Request::Detach { seat, .. } = request {
                let row = self.store.rows.sessions.get(&seat.session());
                sights.removal_refused += u64::from(row.is_some_and(|row| row.cursor.epoch != seat.epoch()));
            }
        }
        let done = self.store.commit(&batch, take.refused, wiring, sights)?;
        self.gateway.rests |= wiring.holding == Holding::StopsReading && !done.held.is_empty();
        self.gateway.unjudged.handle_commit(batch, &done.held);
        if !self.gateway.unjudged.take_ended().is_empty() {
            return Err(Broken::Unbounded);
        }
        self.handle_batch(done, false, wiring, sights)
    }

    /// What has to come to nothing, since it is for a connection that is gone, or on one that was replaced, is done at
    /// once: whenever it is done, the same states follow. If it comes to anything, that is seen.
    pub(crate) fn do_what_is_void(&mut self, wiring: &Wiring, sights: &mut Sights) -> Result<(), Broken> {
        loop {
            if self.gateway.mailbox.front().is_some_and(|answer| self.is_to_nobody(answer)) {
                self.gateway_answers(wiring);
            } else if self.gateway.later.is_none()
                && self.gateway.queue.front().is_some_and(|asked| self.is_stale(*asked))
            {
                self.committer_proceeds(Take::default(), wiring, sights)?;
            } else {
                return Ok(());
            }
        }
    }

    fn is_to_nobody(&self, answer: &Answer) -> bool {
        let id = answer.connection();
        let is_here = |it: &Connection| it.id == id && matches!(it.server, Server::Attached { .. });
        let is_welcome = matches!(answer, Answer::Attached { .. } | Answer::AttachRefused { .. });
        !is_welcome && !self.connections.iter().any(is_here)
    }

    fn is_stale(&self, asked: Asked) -> bool {
        let Some(at) = asked.at().filter(|at| at.epoch != NO_EPOCH) else { return false };
        self.store.rows.sessions.get(&at.session).is_some_and(|row| row.cursor.epoch > at.epoch)
    }

    /// What a batch has come to is in force.
    fn handle_batch(
        &mut self,
        batch: Batch,
        is_expiry: bool,
        wiring: &Wiring,
        sights: &mut Sights,
    ) -> Result<(), Broken> {
        for &number in &batch.forgotten {
            self.check_forgotten(number, is_expiry, wiring, sights)?;
        }
        self.left.refusals -= batch.refusals;
        for answer in &batch.answers {
            if let Answer::AttachRefused { connection, is_bad_token } = *answer {
                if !is_bad_token {
                    return Err(Broken::Accused);
                }
                sights.token_refused += 1;
                if self.client.connection == Some(connection) {
                    return Err(Broken::LockedOut);
                }
            }
            if matches!(answer, Answer::Ended { is_gap: true, .. }) {
                return Err(Broken::Accused);
            }
        }
        let mut first = match wiring.transaction {
            Transaction::Whole => {
                self.store = batch.after;
                self.gateway.mailbox.extend(batch.answers);
                return Ok(());
            }
            Transaction::MessageThenCursor => self.store.clone(),
            Transaction::CursorThenMessage => batch.after.clone(),
        };
        let has_message = batch.after.committed.len() > self.store.committed.len();
        let of =
            if wiring.transaction == Transaction::MessageThenCursor { &batch.after } else { &self.store };
        first.committed.clone_from(&of.committed);
        self.store = if has_message { first } else { batch.after.clone() };
        self.gateway.later = Some(Box::new((batch.after, batch.answers)));
        Ok(())
    }

    fn check_forgotten(
        &self,
        number: u64,
        is_expiry: bool,
        wiring: &Wiring,
        sights: &mut Sights,
    ) -> Result<(), Broken> {
        if self.is_attached(number) && !wiring.is_forgetting_unwatched {
            return Err(Broken::ForgottenTooEarly);
        }
        let is_open = self.client.session == number
            && self.client.waiting.iter().any(|&kept| {
                self.client.sent >> kept & 1 == 1
                    && self.client.outcomes[usize::from(kept)] == Outcome::Undecided
            });
        if is_expiry {
            sights.expired_in_flight += u64::from(is_open);
        } else if self.store.unheard >> number & 1 == 1 {
            sights.unheard += 1;
        } else if is_open && !wiring.is_forgetting_unwatched {
            return Err(Broken::ForgottenTooEarly);
        } else {
            sights.forgotten_at_goodbye += 1;
        }
        Ok(())
    }
}

impl Gateway {
    /// What the committer takes next: `all`, or up to the first request that somebody waits for.
    pub(crate) fn next_batch(&mut self, all: bool, wiring: &Wiring, sights: &mut Sights) -> Vec<Request> {
        let mut taken = Vec::new();
        // A hint takes part in the next commit, and a tick is one.
        while let Some(asked) = self.queue.front().copied()
            && let Some(request) = asked.request()
        {
            self.queue.pop_front();
            taken.push(request);
            if !asked.is_hint() && !all {
                break;
            }
        }
        let before = taken.len();
        let batch = if wiring.holding == Holding::Overtaken {
            [self.unjudged.sort(Vec::new()), taken].concat()
        } else {
            self.unjudged.sort(taken)
        };
        if batch.len() < before {
            sights.held_behind += 1;
        } else if batch.len() > before {
            sights.released += 1;
        }
        batch
    }
}

impl Wiring {
    /// What a message says of the connection on which it came.
    const fn named(&self, at: Attachment) -> Attachment {
        if self.is_epoch_ignored { Attachment { session: at.session, epoch: NO_EPOCH } } else { at }
    }
}

impl Answer {
    const fn connection(&self) -> u8 {
        match self {
            Self::Attached { connection, .. }
            | Self::AttachRefused { connection, .. }
            | Self::Committed { connection, .. }
            | Self::Refused { connection, .. }
            | Self::Ended { connection, .. } => *connection,
        }
    }
}

impl Connection {
    /// What has been received and not committed on it; `None` if more is committed than was received.
    pub(crate) const fn in_flight(&self) -> Option<u64> {
        match self.server {
            Server::Attached { receiving, .. } => receiving.received().checked_sub(receiving.committed()),
            Server::Opening | Server::Attaching | Server::Gone => Some(0),
        }
    }
}
