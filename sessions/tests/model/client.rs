//! The client's steps: what a library does around the real sending half, and what its user is told.

use crate::wiring::Wiring;
use crate::world::{Broken, Connection, Down, Outcome, Payload, Server, Sights, Up, WINDOW, World};
use pulsegate_core::exchange::{Sending, Violation};
use std::collections::VecDeque;

impl From<Violation> for Broken {
    fn from(_: Violation) -> Self {
        // Both sides keep the protocol here, so whoever sees a violation is wrong.
        Self::Accused
    }
}

impl World {
    pub(crate) fn client_pushes(&mut self) {
        let payload = self.client.pushed;
        self.client.sending.push(Payload([payload]));
        self.client.waiting.push_back(payload);
        self.client.outcomes[usize::from(payload)] = Outcome::Undecided;
        self.client.pushed += 1;
    }

    pub(crate) fn client_connects(&mut self) {
        let client = &mut self.client;
        client.connects += 1;
        client.connection = Some(client.connects);
        client.is_welcome = false;
        let acknowledged = if client.session == 0 { 0 } else { client.sending.settled() };
        let hello = Up::Hello { session: client.session, token: client.token, acknowledged };
        self.connections.push(Connection {
            id: client.connects,
            has_client: true,
            server: Server::Opening,
            has_to_end: false,
            up: VecDeque::from([hello]),
            down: VecDeque::new(),
        });
    }

    pub(crate) fn client_sends(&mut self, sights: &mut Sights) {
        let Some((number, payload)) = self.client.sending.poll_transmit() else { return };
        let [payload] = payload.0;
        sights.sent_again += u64::from(self.client.sent >> payload & 1);
        self.client.sent |= 1 << payload;
        self.client_writes(Up::Message { number, payload });
    }

    pub(crate) fn client_confirms(&mut self) {
        if let Some(floor) = self.client.sending.poll_confirm() {
            self.client_writes(Up::Confirm(floor));
        }
    }

    fn client_writes(&mut self, frame: Up) {
        if let Some(connection) = self.client.connection.and_then(|id| self.connection(id)) {
            connection.write_up(frame);
        }
    }

    pub(crate) fn client_hears(
        &mut self,
        withdraws: bool,
        wiring: &Wiring,
        sights: &mut Sights,
    ) -> Result<(), Broken> {
        let connection = self.client.connection.and_then(|id| self.connection(id));
        match connection.and_then(|connection| connection.down.pop_front()) {
            None => Ok(()),
            Some(Down::Welcome { session, token, committed, refused, lost, is_resumed }) => {
                self.client.told_lost |= lost;
                self.client_is_welcome(session, committed, refused, is_resumed, sights)?;
                self.client.token = token;
                if !is_resumed && wiring.beats_first {
                    // The session is forgotten with the connection if nothing comes.
                    self.client_writes(Up::Beat);
                }
                if withdraws { self.client_withdraws(sights) } else { Ok(()) }
            }
            Some(Down::Receipt(committed)) => {
                let settled = self.client.sending.handle_receipt(committed)?;
                self.client_settles(settled)
            }
            Some(Down::Refuse(number)) => {
                self.client.sending.handle_refusal(number)?;
                self.client_is_refused(number)
            }
        }
    }

    fn client_is_refused(&mut self, number: u64) -> Result<(), Broken> {
        let place = usize::try_from(number - self.client.sending.settled() - 1).expect("small");
        let payload = *self.client.waiting.get(place).ok_or(Broken::Accused)?;
        // It may have heard so before, on a connection that ended before the receipt came.
        if self.client.outcomes[usize::from(payload)] == Outcome::NotAccepted {
            return Ok(());
        }
        self.client_decides(payload, Outcome::NotAccepted)
    }

    fn client_is_welcome(
        &mut self,
        session: u64,
        committed: u64,
        refused: u8,
        is_resumed: bool,
        sights: &mut Sights,
    ) -> Result<(), Broken> {
        let old = self.client.session;
        if old != 0 && !is_resumed {
            // A session is only ever gone because its time to live has passed, or nothing had come from it: a goodbye
            // has no "resume" after it.
            let may_be_gone = (self.store.expired | self.store.unheard) >> old & 1 == 1;
            if !may_be_gone && !self.client.waiting.is_empty() {
                return Err(Broken::WrongOutcome);
            }
            self.client_gives_up(sights)?;
        }
        self.client.session = session;
        self.client.is_welcome = true;
        for number in
            (self.client.sending.settled() + 1..=committed).filter(|number| refused >> number & 1 == 1)
        {
            self.client_is_refused(number)?;
        }
        let settled = self.client.sending.attach(committed, WINDOW)?;
        sights.settled_by_welcome += u64::from(settled.is_some());
        self.client_settles(settled)
    }

    /// Told by WELCOME that the first message it holds has not arrived, the client tells its user "not
    /// accepted" and gives the number to the next one. It may, if nothing that an older connection has left
    /// behind can be committed any more.
    fn client_withdraws(&mut self, sights: &mut Sights) -> Result<(), Broken> {
        let Some(payload) = self.client.waiting.pop_front() else { return Ok(()) };
        sights.withdrawn += 1;
        self.left.withdrawals -= 1;
        let client = &mut self.client;
        let kept: Vec<_> = client.waiting.iter().map(|&payload| Payload([payload])).collect();
        client.sending = Sending::restore(client.sending.settled(), client.sending.ever_sent(), kept, WINDOW);
        self.client_decides(payload, Outcome::NotAccepted)
    }

    fn client_settles(&mut self, settled: Option<(u64, u64)>) -> Result<(), Broken> {
        let Some((first, last)) = settled else { return Ok(()) };
        for _ in first..=last {
            let payload = self.client.waiting.pop_front().ok_or(Broken::Accused)?;
            if self.client.outcomes[usize::from(payload)] != Outcome::NotAccepted {
                self.client_decides(payload, Outcome::Committed)?;
            }
        }
        if last == self.client.sending.settled() { Ok(()) } else { Err(Broken::Accused) }
    }

    fn client_decides(&mut self, payload: u8, outcome: Outcome) -> Result<(), Broken> {
        let place = &mut self.client.outcomes[usize::from(payload)];
        if *place != Outcome::Undecided {
            return Err(Broken::WrongOutcome);
        }
        *place = outcome;
        Ok(())
    }

    /// The session is gone: the outcomes of what was kept are unknown.
    fn client_gives_up(&mut self, sights: &mut Sights) -> Result<(), Broken> {
        let sending = std::mem::replace(&mut self.client.sending, Sending::new(WINDOW));
        self.client.waiting.clear();
        self.client.session = 0;
        self.client.token = 0;
        for (_, _, Payload([payload])) in sending.into_unsettled() {
            if self.client.outcomes[usize::from(payload)] == Outcome::NotAccepted {
                continue;
            }
            sights.unknown += 1;
            sights.unknown_never_sent += u64::from(self.client.sent >> payload & 1 == 0);
            self.client_decides(payload, Outcome::Unknown)?;
        }
        Ok(())
    }

    /// Everything is settled and confirmed, and there is no more to come: the client forgets the session.
    pub(crate) fn client_says_goodbye(&mut self) {
        self.client_writes(Up::Goodbye);
        self.client.session = 0;
        self.client.token = 0;
        self.client.sending = Sending::new(WINDOW);
        self.left.goodbyes -= 1;
        self.client_leaves();
    }

    /// The client learns that its connection is over, or ends it.
    pub(crate) fn client_leaves(&mut self) {
        if let Some(connection) = self.client.connection.take().and_then(|id| self.connection(id)) {
            connection.has_client = false;
            connection.down.clear();
        }
        self.client.is_welcome = false;
        self.sweep();
    }

    pub(crate) fn client_restarts(&mut self, has_outbox: bool, sights: &mut Sights) -> Result<(), Broken> {
        self.client_leaves();
        self.left.restarts -= 1;
        if !has_outbox {
            return self.client_gives_up(sights);
        }
        let client = &mut self.client;
        let kept: Vec<_> = client.waiting.iter().map(|&payload| Payload([payload])).collect();
        client.sending = Sending::restore(client.sending.settled(), client.sending.ever_sent(), kept, WINDOW);
        Ok(())
    }
}
