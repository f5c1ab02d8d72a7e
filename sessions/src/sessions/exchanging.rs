//! What clients send and what goes to them: judged, refused or taken; kept until their receipts. Knows no attach.

use super::{Sessions, find};
use crate::effect::{Effect, Loss, Need, Part};
use crate::refusal::{EndReason, PushRefusal, Refusal};
use crate::reply::{Outgoing, Reply};
use crate::request::{LOAD_BYTES_MAX, Recipient};
use crate::rules::{CLIENT_BYTES_MAX, MESSAGE_BYTES, NUMBER_MAX};
use crate::seat::{Seat, Source, Ticket};
use crate::session::Judged;
use pulsegate_core::connection::Attachment;

/// A message of a client, without what it says.
#[derive(Clone, Copy)]
pub(super) struct Message {
    pub(super) place: usize,
    pub(super) number: u64,
    pub(super) received_at_ms: u64,
    /// The length of its payload.
    pub(super) bytes: usize,
}

impl Sessions {
    pub(super) fn handle_message(
        &mut self,
        seat: Seat,
        message: Message,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Need<'static>> {
        let Message { place, number, received_at_ms, bytes } = message;
        let Attachment { session: id, epoch } = seat.attachment;
        let (rules, batch) = (&self.rules, &mut self.batch);
        let Some(row) = find(&mut self.rows, &self.answers, id)? else {
            batch.orphan(seat);
            return Ok(());
        };
        // One before it waits already.
        if !batch.held.is_empty() && batch.held.contains(&seat.attachment) {
            effects.push(Effect::Hold(place));
            return Ok(());
        }
        let (source, part) = (row.session.source, row.session.part_of_message());
        match row.session.judge(rules, self.age_ms, epoch, number, bytes) {
            Judged::Stale => return Ok(()),
            Judged::Unknown => {
                batch.orphan(seat);
                return Ok(());
            }
            Judged::Gap => {
                batch.end(seat, number, EndReason::Gap);
                return Ok(());
            }
            Judged::Waits => {
                batch.held.insert(seat.attachment);
                effects.push(Effect::Hold(place));
                return Ok(());
            }
            Judged::Known => {}
            Judged::Refused(code) => {
                let refusal = Refusal { number, code };
                row.session.refuse(refusal, received_at_ms);
                row.mark(id, part, &mut self.changed);
                effects.push(Effect::Refuse(id, refusal));
                effects.push(Effect::Reply(Reply::Refused { seat, refusal }));
            }
            Judged::Taken => {
                if rules.keeps_messages {
                    self.shares.of(source)?;
                }
                let client = row.session.client.clone();
                row.session.take(number, received_at_ms, bytes);
                if rules.keeps_messages {
                    let counted = (bytes + client.len()) as u64 + MESSAGE_BYTES;
                    if self.shares.handle_kept(rules, source, counted) {
                        row.session.message_bytes += counted;
                        self.shares.observe_session(rules, source, id, row.session.message_bytes);
                    }
                }
                row.mark(id, part, &mut self.changed);
                effects.push(Effect::Commit { place, client, source });
            }
        }
        if row.receipt.replace(seat.ticket).is_none() {
            batch.receipts.push(seat.attachment);
        }
        Ok(())
    }

    pub(super) fn handle_append(
        &mut self,
        client: &str,
        source: Source,
        message: Message,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Need<'static>> {
        // Promised by the caller; but a backend would fail again and again at what is too large for it.
        let is_sound = message.bytes <= self.rules.message_bytes_max
            && client.len() <= CLIENT_BYTES_MAX
            && message.number <= NUMBER_MAX
            && self.rules.keeps_messages;
        if !is_sound {
            effects.push(Effect::Loss(Loss::Append));
            return Ok(());
        }
        self.shares.of(source)?;
        self.shares.handle_kept(&self.rules, source, (message.bytes + client.len()) as u64 + MESSAGE_BYTES);
        effects.push(Effect::Append(message.place));
        Ok(())
    }

    /// Messages have been deleted that were kept: they count no longer for their source, nor for their session, if they
    /// were of one.
    ///
    /// # Errors
    /// If something has to be looked up before. Nothing has changed then.
    pub fn handle_deleted(
        &mut self,
        session: Option<u64>,
        source: Source,
        bytes: u64,
    ) -> Result<(), Need<'static>> {
        match session {
            None => {
                self.shares.of(source)?;
                self.shares.handle_deleted(&self.rules, source, bytes);
            }
            Some(id) => {
                if let Some(row) = find(&mut self.rows, &self.answers, id)? {
                    let kept = row.session.message_bytes.saturating_sub(bytes);
                    row.session.message_bytes = kept;
                    row.mark(id, Part::Cursor, &mut self.changed);
                    self.shares.resting.handle_session(id, kept, self.rules.kept_of_session);
                }
                self.answers.absent.clear();
            }
        }
        Ok(())
    }

    pub(super) fn handle_push<'r>(
        &mut self,
        place: usize,
        ticket: Ticket,
        to: &'r Recipient,
        payload: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), Need<'r>> {
        let id = match to {
            Recipient::Session(id) => Some(*id),
            Recipient::Client(client) => self.answers.newest.ok_or(Need::Newest(client))?,
        };
        let (rules, bytes) = (&self.rules, payload.len());
        let found = id.map(|id| Ok((id, find(&mut self.rows, &self.answers, id)?))).transpose()?;
        let mut refuse = |why| effects.push(Effect::Reply(Reply::PushRefused { ticket, why }));
        let Some((id, Some(row))) = found else {
            refuse(PushRefusal::NoSession);
            return Ok(());
        };
        if let Some(why) = row.session.push_refusal(rules, bytes) {
            refuse(why);
            return Ok(());
        }
        if self.shares.is_full(rules, row.session.source, bytes as u64)? {
            refuse(PushRefusal::StoreFull);
            effects.push(Effect::Loss(Loss::Push));
            return Ok(());
        }
        let number = row.session.push(bytes);
        row.mark(id, Part::Exchange, &mut self.changed);
        self.shares.handle_pushed(row.session.source, bytes as u64);
        effects.push(Effect::Push { place, session: id, number });
        effects.push(Effect::Reply(Reply::Pushed {
            ticket,
            attachment: Attachment { session: id, epoch: row.session.cursor.epoch },
            connection: row.session.connection,
            number,
            payload: payload.into(),
        }));
        Ok(())
    }

    /// Only the newest connection of a session is answered: whoever attaches many times gets its messages once.
    pub(super) fn handle_load(
        &mut self,
        seat: Seat,
        above: u64,
        bytes_max: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Need<'static>> {
        let row = find(&mut self.rows, &self.answers, seat.session())?;
        let known = row.map(|row| row.session.cursor.epoch);
        match known {
            Some(epoch) if epoch == seat.epoch() => {
                if above <= NUMBER_MAX {
                    let bytes_max = bytes_max.min(LOAD_BYTES_MAX);
                    effects.push(Effect::Load { seat, above, bytes_max });
                }
            }
            Some(epoch) if epoch > seat.epoch() => {}
            Some(_) | None => self.batch.orphan(seat),
        }
        Ok(())
    }

    pub(super) fn handle_out_receipt(
        &mut self,
        of: Attachment,
        committed: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Need<'static>> {
        let Some(row) = find(&mut self.rows, &self.answers, of.session)? else { return Ok(()) };
        let session = &mut row.session;
        if session.cursor.epoch != of.epoch || committed > session.out_last {
            return Ok(());
        }
        let look = Need::Outgoing { session: of.session, to: committed };
        let freed = session.freed_by(committed).or(self.answers.outgoing).ok_or(look)?;
        let (source, part) = (session.source, session.part_of_receipt());
        self.shares.of(source)?;
        self.shares.handle_settled(source, freed);
        if session.handle_settled(committed, freed) {
            effects.push(Effect::Settle(of.session, committed));
            row.mark(of.session, part, &mut self.changed);
        }
        Ok(())
    }
}

/// The answer to [`Effect::Load`], from the messages above the number that it names, in order: as many as go into the
/// bytes, but one at least; each counts 64 beside its payload.
///
/// # Errors
/// The first of the messages' own.
pub fn loaded<E>(
    seat: Seat,
    bytes_max: u32,
    outgoing: impl IntoIterator<Item = Result<Outgoing, E>>,
) -> Result<Reply, E> {
    let (mut messages, mut bytes, mut has_more) = (Vec::new(), 0, false);
    for message in outgoing {
        let message = message?;
        bytes += message.payload.len() as u64 + MESSAGE_BYTES;
        if bytes > u64::from(bytes_max) && !messages.is_empty() {
            has_more = true;
            break;
        }
        messages.push(message);
    }
    Ok(Reply::Loaded { seat, messages, has_more })
}
