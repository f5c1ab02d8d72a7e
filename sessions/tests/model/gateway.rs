//! The gateway's steps: what a shard does around the real receiving half, and what a committer does around
//! the real verdict.

use crate::world::{
    Answer, Broken, Connection, Down, Forgetting, Gateway, Holding, MESSAGES_MAX, Outcome, Refusing, Request,
    Rules, Server, Session, Sights, Store, Tokens, Transaction, Up, WINDOW, World,
};
use pulsegate_core::exchange::{Cursor, Receiving, Verdict};

impl World {
    pub(crate) fn gateway_reads(&mut self, id: u8, rules: &Rules, sights: &mut Sights) -> Result<(), Broken> {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return Ok(());
        };
        let Some(frame) = connection.up.pop_front() else { return Ok(()) };
        sights.read_from_zombie += u64::from(!connection.has_client);
        if let Server::Attached { session, token, .. } = connection.server {
            self.store.prove(session, token);
        }
        match (frame, &mut connection.server) {
            (Up::Hello { session, token, acknowledged }, server @ Server::Opening) => {
                *server = Server::Attaching;
                let attach = Request::Attach { connection: id, session, token, acknowledged };
                self.gateway.queue.push_back(attach);
            }
            (Up::Message { number, payload }, Server::Attached { session, epoch, receiving, .. }) => {
                receiving.handle_message(number, WINDOW.messages)?;
                let (session, epoch) = (*session, *epoch);
                let message = Request::Message { connection: id, session, epoch, number, payload };
                self.gateway.queue.push_back(message);
            }
            (Up::Confirm(floor), Server::Attached { session, epoch, receiving, .. }) => {
                receiving.handle_confirm(floor)?;
                let is_over = receiving.is_settled() && rules.forgetting == Forgetting::CursorAtConfirm;
                self.store.handle_floor(*session, *epoch, floor, is_over);
                self.gateway.release(sights);
            }
            (Up::Goodbye, Server::Attached { session, epoch, receiving, .. }) => {
                if receiving.is_settled() {
                    let remove = Request::Remove { session: *session, epoch: *epoch, is_expiry: false };
                    self.gateway.queue.push_back(remove);
                }
                self.gateway_lets_go(id, rules);
            }
            _ => return Err(Broken::Accused),
        }
        Ok(())
    }

    /// The gateway learns that a connection is over.
    pub(crate) fn gateway_lets_go(&mut self, id: u8, rules: &Rules) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return;
        };
        if let Server::Attached { session, epoch, receiving, .. } = connection.server
            && rules.forgetting == Forgetting::SessionAtReceipt
            && receiving.received() == receiving.committed()
        {
            self.gateway.queue.push_back(Request::Remove { session, epoch, is_expiry: false });
        }
        connection.server = Server::Gone;
        connection.up.clear();
        if rules.holding != Holding::Outlives && rules.refusals_max < MESSAGES_MAX {
            self.gateway.queue.push_back(Request::Detach { connection: id });
        }
        self.sweep();
    }

    pub(crate) fn gateway_crashes(&mut self, sights: &mut Sights) {
        sights.crashed_with_queue += u64::from(!self.gateway.queue.is_empty());
        self.left.crashes -= 1;
        self.gateway = Gateway::default();
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
        let Some((session, payload)) = self.store.committed.pop() else { return };
        self.store.gone |= 1 << payload;
        if let Some(session) = self.store.session(session) {
            session.gone.push((session.cursor.committed, payload));
            session.cursor.committed -= 1;
        }
    }

    /// An answer of the committer reaches its connection, and is told to the client.
    pub(crate) fn gateway_answers(&mut self, rules: &Rules) {
        let Some(answer) = self.gateway.mailbox.pop_front() else { return };
        let (Answer::Attached { connection: id, .. }
        | Answer::Committed { connection: id, .. }
        | Answer::Refused { connection: id, .. }) = answer;
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return;
        };
        match (answer, &mut connection.server) {
            (
                Answer::Attached { session, token, epoch, committed, refused, lost, is_resumed, .. },
                server @ Server::Attaching,
            ) => {
                let mut receiving = Receiving::default();
                receiving.attach(committed);
                *server = Server::Attached { session, token, epoch, receiving };
                connection.write_down(Down::Welcome { session, token, committed, refused, lost, is_resumed });
            }
            (Answer::Committed { committed, .. }, Server::Attached { session, epoch, receiving, .. }) => {
                let is_due = receiving.handle_committed(committed);
                if rules.forgetting == Forgetting::CursorAtReceipt && receiving.received() == committed {
                    self.store.handle_floor(*session, *epoch, committed, true);
                }
                if is_due {
                    connection.write_down(Down::Receipt(committed));
                }
            }
            (Answer::Refused { number, .. }, Server::Attached { .. }) => {
                connection.write_down(Down::Refuse(number));
            }
            _ => {}
        }
    }

    /// The time to live of a session has passed, as its registry sees it; the committer has the last word.
    pub(crate) fn session_expires(&mut self, number: u8) {
        self.left.expiries -= 1;
        if let Some(session) = self.store.session(number) {
            let epoch = session.cursor.epoch;
            self.gateway.queue.push_back(Request::Remove { session: number, epoch, is_expiry: true });
        }
    }

    /// Whether a connection holds this session, as far as its registry knows.
    pub(crate) fn is_attached(&self, number: u8, cursor: Cursor) -> bool {
        let by_connection = self.connections.iter().any(|connection| match connection.server {
            Server::Attached { session, epoch, .. } => session == number && epoch == cursor.epoch,
            Server::Opening | Server::Attaching | Server::Gone => false,
        });
        by_connection
            || self
                .gateway
                .mailbox
                .iter()
                .any(|answer| matches!(answer, Answer::Attached { session, .. } if *session == number))
    }

    /// Whether a newer connection has attached to its session, which may be gone since. The gateway ends it then, with BYE "replaced".
    pub(crate) fn is_replaced(&self, connection: &Connection) -> bool {
        let Server::Attached { session, epoch, .. } = connection.server else { return false };
        !self.store.sessions.iter().any(|it| it.number == session && it.cursor.epoch == epoch)
    }

    /// The committer takes the next request, or finishes the one that it has half done.
    pub(crate) fn committer_proceeds(&mut self, rules: &Rules, sights: &mut Sights) -> Result<(), Broken> {
        match self.gateway.queue.pop_front() {
            None => Ok(()),
            Some(attach @ Request::Attach { connection, session, token, .. }) => {
                let is_bad = |session: &mut Session| {
                    rules.tokens != Tokens::Unchecked && !session.tokens.contains(&token)
                };
                if self.store.session(session).is_some_and(is_bad) {
                    sights.token_refused += 1;
                    self.gateway_lets_go(connection, rules);
                    let is_present = self.client.connection == Some(connection);
                    return if is_present { Err(Broken::LockedOut) } else { Ok(()) };
                }
                let answer = self.store.attach(attach, rules, sights)?;
                self.gateway.mailbox.push_back(answer);
                Ok(())
            }
            Some(Request::Detach { connection }) => {
                self.gateway.held.retain(|held| held.connection() != connection);
                Ok(())
            }
            Some(Request::Remove { session, epoch, is_expiry }) => {
                self.committer_removes(session, epoch, is_expiry, rules, sights)
            }
            Some(message @ Request::Message { .. }) => self.committer_takes(message, false, rules, sights),
        }
    }

    fn committer_removes(
        &mut self,
        number: u8,
        epoch: u64,
        is_expiry: bool,
        rules: &Rules,
        sights: &mut Sights,
    ) -> Result<(), Broken> {
        let Some(session) = self.store.session(number) else { return Ok(()) };
        let cursor = session.cursor;
        if session.cursor.epoch != epoch && !rules.is_removal_blind {
            sights.removal_refused += 1;
            return Ok(());
        }
        if self.is_attached(number, cursor) && !rules.is_forgetting_unwatched {
            return Err(Broken::ForgottenTooEarly);
        }
        self.store.sessions.retain(|session| session.number != number);
        let is_open = self.client.session == number
            && self.client.waiting.iter().any(|&kept| {
                self.client.sent >> kept & 1 == 1
                    && self.client.outcomes[usize::from(kept)] == Outcome::Undecided
            });
        if is_expiry {
            self.store.expired |= 1 << number;
            sights.expired_in_flight += u64::from(is_open);
        } else if is_open && !rules.is_forgetting_unwatched {
            return Err(Broken::ForgottenTooEarly);
        } else {
            sights.forgotten_at_goodbye += 1;
        }
        Ok(())
    }

    /// The committer judges a message, and commits or refuses it.
    pub(crate) fn committer_takes(
        &mut self,
        message: Request,
        refuses: bool,
        rules: &Rules,
        sights: &mut Sights,
    ) -> Result<(), Broken> {
        let Request::Message { connection, session: name, epoch, number, payload } = message else {
            return Ok(());
        };
        if rules.holding != Holding::Overtaken
            && self.gateway.held.iter().any(|held| held.connection() == connection)
        {
            sights.held_behind += 1;
            self.gateway.held.push(message);
            return Ok(());
        }
        let Some(session) = self.store.session(name) else {
            sights.stale += 1;
            return Ok(());
        };
        if session.is_forgotten && (rules.is_epoch_ignored || epoch == session.cursor.epoch) {
            // Nothing is known, so whatever comes next is new.
            session.is_forgotten = false;
            session.cursor.committed = number - 1;
        }
        let epoch = if rules.is_epoch_ignored { session.cursor.epoch } else { epoch };
        let is_half_done = std::mem::take(&mut self.gateway.is_half_done);
        let verdict = if is_half_done { Verdict::Commit } else { session.cursor.judge(epoch, number) };
        match verdict {
            Verdict::Stale => sights.stale += 1,
            Verdict::Gap => return Err(Broken::Accused),
            Verdict::Known => {
                sights.known += 1;
                let is_refused = session.refused.contains(&number);
                let committed = if rules.is_known_by_number { number } else { session.cursor.committed };
                if is_refused {
                    self.gateway.mailbox.push_back(Answer::Refused { connection, number });
                }
                self.gateway.mailbox.push_back(Answer::Committed { connection, committed });
            }
            Verdict::Commit if refuses && session.refused.len() >= rules.refusals_max => {
                sights.held += 1;
                // What an older connection has left there can't be judged any more.
                self.gateway.held.retain(|held| held.connection() == connection);
                self.gateway.held.push(message);
            }
            Verdict::Commit if refuses => {
                sights.refused += 1;
                self.left.refusals -= 1;
                session.cursor.committed = number;
                if rules.refusing == Refusing::KeptUntilConfirmed {
                    session.refused.push(number);
                }
                self.gateway.mailbox.push_back(Answer::Refused { connection, number });
                self.gateway.mailbox.push_back(Answer::Committed { connection, committed: number });
            }
            Verdict::Commit => {
                let (writes_message, writes_cursor) = match (rules.transaction, is_half_done) {
                    (Transaction::Whole, _) => (true, true),
                    (Transaction::MessageThenCursor, second) => (!second, second),
                    (Transaction::CursorThenMessage, second) => (second, !second),
                };
                if writes_cursor {
                    session.cursor.committed = number;
                }
                if writes_message {
                    self.store.committed.push((name, payload));
                }
                if rules.transaction == Transaction::Whole || is_half_done {
                    self.gateway.mailbox.push_back(Answer::Committed { connection, committed: number });
                } else {
                    self.gateway.is_half_done = true;
                    self.gateway.queue.push_front(message);
                }
            }
        }
        Ok(())
    }
}

impl Request {
    const fn connection(&self) -> u8 {
        match self {
            Self::Attach { connection, .. }
            | Self::Message { connection, .. }
            | Self::Detach { connection } => *connection,
            Self::Remove { .. } => 0,
        }
    }
}

impl Gateway {
    /// A client has confirmed: what waits for that is judged anew, before what has come since.
    fn release(&mut self, sights: &mut Sights) {
        sights.released += self.held.len() as u64;
        for request in std::mem::take(&mut self.held).into_iter().rev() {
            self.queue.push_front(request);
        }
    }
}

impl Store {
    /// The durable half of an attach: the next epoch of a session, or a new session.
    fn attach(&mut self, attach: Request, rules: &Rules, sights: &mut Sights) -> Result<Answer, Broken> {
        let Request::Attach { connection, session: number, token, acknowledged } = attach else {
            return Err(Broken::Accused);
        };
        if let Some(session) = self.session(number) {
            session.cursor.epoch += 1;
            if std::mem::take(&mut session.is_forgotten) {
                session.cursor.committed = acknowledged;
            }
            session.lose(token, acknowledged, sights)?;
            session.refused.retain(|&refused| refused > acknowledged);
            let committed = session.cursor.committed;
            let lost = if rules.is_loss_told_once { std::mem::take(&mut session.lost) } else { session.lost };
            let refused = session.refused.iter().fold(0, |all, number| all | 1 << number);
            let token = session.issue(token, rules.tokens);
            let epoch = session.cursor.epoch;
            return Ok(Answer::Attached {
                connection,
                session: number,
                token,
                epoch,
                committed,
                refused,
                lost,
                is_resumed: true,
            });
        }
        let number = if rules.is_number_reused {
            1 + self.sessions.iter().map(|session| session.number).max().unwrap_or(0)
        } else {
            1 + self.sessions_ever
        };
        self.sessions_ever = self.sessions_ever.max(number);
        let cursor = Cursor { epoch: 1, committed: 0 };
        self.sessions.push(Session {
            number,
            cursor,
            is_forgotten: false,
            refused: Vec::new(),
            gone: Vec::new(),
            lost: 0,
            tokens: vec![1],
            tokens_ever: 1,
        });
        Ok(Answer::Attached {
            connection,
            session: number,
            token: 1,
            epoch: 1,
            committed: 0,
            refused: 0,
            lost: 0,
            is_resumed: false,
        })
    }

    /// A frame has come on the connection that brought this token: those before it have served.
    fn prove(&mut self, number: u8, token: u8) {
        if let Some(session) = self.session(number)
            && session.tokens.contains(&token)
        {
            session.tokens.retain(|&valid| valid >= token);
            if session.tokens.last() == Some(&token) {
                session.lost = 0;
            }
        }
    }

    /// The sender is said to hold receipts up to `floor`: what was kept for it may go, and the cursor itself
    /// if `is_over`.
    fn handle_floor(&mut self, number: u8, epoch: u64, floor: u64, is_over: bool) {
        let Some(session) = self.session(number).filter(|session| session.cursor.epoch == epoch) else {
            return;
        };
        session.refused.retain(|&refused| refused > floor);
        if is_over {
            session.is_forgotten = true;
            session.cursor.committed = 0;
        }
    }
}

impl Session {
    /// What the client takes for committed and is not here is to be named, until the WELCOME that does so is proven.
    fn lose(&mut self, shown: u8, acknowledged: u64, sights: &mut Sights) -> Result<(), Broken> {
        if self.tokens.last() == Some(&shown) {
            self.lost = 0;
        }
        sights.lost_again += u64::from(self.lost > 0);
        while self.cursor.committed < acknowledged {
            self.cursor.committed += 1;
            let gone = self.gone.iter().find(|(number, _)| *number == self.cursor.committed);
            let (_, payload) = gone.ok_or(Broken::AcknowledgedIsLost)?;
            self.lost |= 1 << payload;
            sights.lost += 1;
        }
        self.gone.clear();
        Ok(())
    }

    /// The token for the next HELLO, after `shown` has opened the session.
    fn issue(&mut self, shown: u8, tokens: Tokens) -> u8 {
        let newest = self.tokens.last().copied().unwrap_or(0);
        if tokens == Tokens::Unchecked {
            return newest;
        }
        if tokens == Tokens::IssuedUntilProven && shown != newest {
            return newest;
        }
        self.tokens_ever += 1;
        let before = if tokens == Tokens::NewestAndBefore { newest } else { shown };
        self.tokens = vec![before, self.tokens_ever];
        self.tokens_ever
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
