//! A connection gets its session, if there is room and it is its client's.

use super::{Row, Sessions, find};
use crate::attach::{Attach, Attached, Outcome, Resume};
use crate::effect::{Effect, Loss, Need, Part};
use crate::refusal::AttachRefusal;
use crate::reply::Reply;
use crate::rules::{CLIENT_BYTES_MAX, NUMBER_MAX};
use crate::session::Session;
use pulsegate_core::policy::SecondConnection;

type Answer<'r> = Result<Result<Attached, AttachRefusal>, Need<'r>>;

impl Sessions {
    pub(super) fn handle_attach<'r>(
        &mut self,
        attach: &'r Attach,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Need<'r>> {
        let answer = if attach.client.len() > CLIENT_BYTES_MAX {
            Err(AttachRefusal::Impossible)
        } else {
            match attach.resume {
                Some(resume) => self.resume(attach, resume, effects)?,
                None => self.begin(attach, effects)?,
            }
        };
        effects.push(Effect::Reply(match answer {
            Ok(attached) => Reply::Attached(attached.into()),
            Err(why) => Reply::AttachRefused { ticket: attach.ticket, why },
        }));
        Ok(())
    }

    fn begin<'r>(&mut self, attach: &'r Attach, effects: &mut Vec<Effect>) -> Answer<'r> {
        if attach.second != SecondConnection::Allow && self.is_attached(&attach.client, 0)? {
            return Ok(Err(AttachRefusal::InUse));
        }
        let (rules, source) = (&self.rules, attach.source);
        // If there is no room, the oldest goes that has no connection and in which nothing was ever committed or
        // receipted: of this source if it has its share, else of all.
        let has_share = self.shares.has_sessions(rules, source, self.count)?;
        if has_share || self.count >= rules.sessions_max {
            let of = has_share.then_some(source);
            let Some(unused) = self.answers.unused.ok_or(Need::Unused(of))? else {
                return Ok(Err(AttachRefusal::SessionLimit));
            };
            self.shares.of(source)?;
            self.expire_session(unused, effects)?;
            if self.count >= self.rules.sessions_max {
                return Ok(Err(AttachRefusal::SessionLimit));
            }
        }
        self.shares.of(source)?;
        self.newest += 1;
        self.count += 1;
        self.shares.handle_begin(source);
        self.shares.observe(&self.rules, source);
        let (number, session) = (self.newest, Session::begin(attach, self.age_ms));
        let attached = session.welcome(number, attach.ticket, None, Outcome::New);
        let mut row = Row::new(session);
        row.mark(number, Part::New, &mut self.changed);
        self.rows.insert(number, row);
        Ok(Ok(attached))
    }

    fn resume<'r>(&mut self, attach: &'r Attach, resume: Resume, effects: &mut Vec<Effect>) -> Answer<'r> {
        let id = resume.session;
        let Some(row) = find(&mut self.rows, &self.answers, id)? else { return self.begin(attach, effects) };
        if let Err(why) = row.session.admit(&attach.client, &resume.token) {
            return Ok(Err(why));
        }
        let before = row.session.source;
        let freed = row.session.freed_by(resume.committed);
        let is_in_use = match attach.second {
            SecondConnection::Allow => false,
            SecondConnection::Replace => self.is_attached(&attach.client, id)?,
            SecondConnection::Refuse => self.is_attached(&attach.client, 0)?,
        };
        if is_in_use {
            return Ok(Err(AttachRefusal::InUse));
        }
        if resume.committed > NUMBER_MAX || resume.acknowledged > NUMBER_MAX {
            return Ok(Err(AttachRefusal::Impossible));
        }
        let look = Need::Outgoing { session: id, to: resume.committed };
        let freed = freed.or(self.answers.outgoing).ok_or(look)?;
        self.shares.of(before)?;
        self.shares.of(attach.source)?;
        let Some(row) = self.rows.get_mut(&id) else { return self.begin(attach, effects) };
        self.shares.handle_settled(before, freed);
        if row.session.handle_settled(resume.committed, freed) {
            effects.push(Effect::Settle(id, resume.committed));
        }
        self.shares.handle_move(before, attach.source, row.session.out_bytes);
        let lost = row.session.resume(attach, &resume);
        if lost > 0 {
            effects.push(Effect::Loss(Loss::Acknowledged(lost)));
        }
        self.shares.observe(&self.rules, attach.source);
        self.shares.observe_session(&self.rules, attach.source, id, row.session.message_bytes);
        row.receipt = None;
        let replaced = row.session.connection.replace(attach.ticket);
        row.mark(id, Part::Connection, &mut self.changed);
        Ok(Ok(row.session.welcome(id, attach.ticket, replaced, Outcome::Resumed)))
    }

    /// Whether the client has a connection in any session but one.
    fn is_attached<'r>(&self, client: &'r str, but: u64) -> Result<bool, Need<'r>> {
        self.answers.attached.ok_or(Need::Attached { client, but })
    }
}
