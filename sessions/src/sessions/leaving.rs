//! Connections leave their sessions, and sessions end: for good, when their time is over, or to make room.

use super::{Answers, Sessions, find};
use crate::effect::{Effect, Loss, Need, Part};
use crate::reply::Reply;
use crate::rules::{EXPIRED_MAX, EXPIRED_OUTGOING_MAX};
use crate::seat::{Moment, Seat};

/// Sessions whose time is over.
#[derive(Debug)]
pub(super) struct Expired {
    sessions: Vec<u64>,
    /// How many of them have gone.
    gone: usize,
    /// How many messages waited for their clients.
    outgoing: u64,
}

impl Expired {
    pub(super) const fn new(sessions: Vec<u64>) -> Self {
        Self { sessions, gone: 0, outgoing: 0 }
    }
}

impl Sessions {
    pub(super) fn handle_detach(
        &mut self,
        seat: Seat,
        for_good: bool,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Need<'static>> {
        let id = seat.session();
        let mut reply = |forgotten| effects.push(Effect::Reply(Reply::Detached { seat, forgotten }));
        // What isn't known here is over as well: whoever waits to hear so must not wait for ever.
        let row =
            find(&mut self.rows, &self.answers, id)?.filter(|row| row.session.cursor.epoch >= seat.epoch());
        let Some(row) = row else {
            reply(true);
            return Ok(());
        };
        let session = &mut row.session;
        if session.cursor.epoch != seat.epoch() {
            return Ok(());
        }
        if session.connection.is_none() {
            reply(false);
            return Ok(());
        }
        if for_good && session.is_settled() {
            let source = session.source;
            self.shares.of(source)?;
            self.forget(id, effects);
            effects.push(Effect::Reply(Reply::Detached { seat, forgotten: true }));
        } else {
            session.detach(now);
            row.mark(id, Part::Connection, &mut self.changed);
            reply(false);
        }
        Ok(())
    }

    /// Ends sessions whose time is over at this moment of the gateway's uptime, in a piece that no commit waits long for.
    /// Whether there are more.
    ///
    /// # Errors
    /// If something has to be looked up before; what has changed until then has its effects.
    pub fn expire(&mut self, now_ms: u64, effects: &mut Vec<Effect>) -> Result<bool, Need<'static>> {
        while let Some(Expired { sessions, gone, outgoing }) = &self.expired {
            let next = sessions.get(*gone).copied().filter(|_| *outgoing < EXPIRED_OUTGOING_MAX);
            let Some(session) = next else {
                let has_more = *gone == EXPIRED_MAX || *gone < sessions.len();
                self.expired = None;
                return Ok(has_more);
            };
            let waited = self.expire_session(session, effects)?;
            self.answers = Answers::default();
            if let Some(expired) = &mut self.expired {
                expired.gone += 1;
                expired.outgoing += waited;
            }
        }
        Err(Need::Expired { now_ms, count: EXPIRED_MAX })
    }

    /// Ends a session whose time is over. Returns how many messages waited for its client.
    pub(super) fn expire_session(
        &mut self,
        id: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<u64, Need<'static>> {
        let Some(row) = find(&mut self.rows, &self.answers, id)? else { return Ok(0) };
        let (source, committed, last) = (row.session.source, row.session.out_committed, row.session.out_last);
        self.shares.of(source)?;
        self.forget(id, effects);
        let unknown = (committed < last).then_some((committed + 1, last));
        if unknown.is_some() {
            effects.push(Effect::Loss(Loss::Expired(last - committed)));
        }
        effects.push(Effect::Reply(Reply::Expired { session: id, unknown }));
        Ok(last - committed)
    }

    /// A session is lost.
    #[cfg(feature = "damage")]
    pub(crate) fn lose(&mut self, id: u64, session: &crate::session::Session, effects: &mut Vec<Effect>) {
        self.put_session(id, Some(session.clone()));
        self.forget(id, effects);
        self.save(effects);
    }

    /// Ends a session; what its source has is known.
    fn forget(&mut self, id: u64, effects: &mut Vec<Effect>) {
        if let Some(row) = self.rows.remove(&id) {
            self.shares.handle_end(id, row.session.source, row.session.out_bytes);
        }
        self.count = self.count.saturating_sub(1);
        effects.push(Effect::Forget(id));
    }
}
