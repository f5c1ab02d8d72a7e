//! What clients send: judged, refused or taken, and what they know of it. Knows no attach.

use super::{Batch, MESSAGE_BYTES, Message, NO_SESSION, NUMBER_MAX};
use crate::config::{CLIENT_BYTES_MAX, StoreConfig, millis};
use crate::sessions::Session;
use pulsegate_core::exchange::Verdict;
use pulsegate_core::frame::Durability;
use pulsegate_sessions::{Attachment, EndReason, Refusal, RefusalCode, Reply, Seat, Source};

/// How many refusals of a session may stand unconfirmed. What would have to be refused beyond them waits.
const REFUSALS_MAX: u64 = 64;

impl Batch<'_> {
    pub(super) fn handle_message(
        &mut self,
        place: usize,
        seat: Seat,
        message: &Message<'_>,
    ) -> rusqlite::Result<()> {
        let (Attachment { session: id, epoch }, number) = (seat.attachment, message.number);
        let Some(mut held) = self.state.sessions.load(self.connection, id)? else {
            self.orphan(seat);
            return Ok(());
        };
        // One before it waits already.
        if !self.held.is_empty() && self.held.contains(&seat.attachment) {
            self.done.unjudged.push(place);
            return Ok(());
        }
        match held.session.cursor.judge(epoch, number) {
            Verdict::Stale => {
                // One that was replaced has been told. One that has never been is of a database that is lost.
                if epoch > held.session.cursor.epoch {
                    self.orphan(seat);
                }
                return Ok(());
            }
            Verdict::Gap => {
                self.end(seat, number, EndReason::Gap);
                return Ok(());
            }
            Verdict::Known => {}
            // There is no next number any more.
            Verdict::Commit if number > NUMBER_MAX => {
                self.end(seat, number, EndReason::Gap);
                return Ok(());
            }
            Verdict::Commit => {
                let session = &mut *held.session;
                if let Some(code) = refuse(self.config, session, message, self.state.age_ms) {
                    if session.refusals >= REFUSALS_MAX {
                        session.forget_confirmed(self.connection, id)?;
                    }
                    if session.refusals >= REFUSALS_MAX {
                        self.held.insert(seat.attachment);
                        self.done.unjudged.push(place);
                        return Ok(());
                    }
                    session.refusals += 1;
                    let row = (id, number, code as u16);
                    self.connection
                        .prepare_cached("INSERT INTO refusals VALUES (?1, ?2, ?3)")?
                        .execute(row)?;
                    let refusal = Refusal { number, code };
                    self.done.replies.push(Reply::Refused { seat, refusal });
                } else {
                    if self.config.durability == Durability::None {
                        self.done.forwarded.push(place);
                    } else {
                        let (totals, source) = (&mut self.state.totals, session.source);
                        let insert = &mut self.insert_message;
                        let bytes = totals.append(insert, id, &session.client, source, message)?;
                        self.inserted += 1;
                        let of = Some((id, &mut *session));
                        self.state.shares.handle_stored(self.connection, self.config, source, of, bytes)?;
                    }
                    session.quota_bytes += bytes(message);
                }
                session.cursor.committed = number;
                session.last_seen_ms = message.received_at_ms;
                held.mark();
            }
        }
        if held.session.receipt.replace(seat.ticket).is_none() {
            self.receipts.push(seat.attachment);
        }
        Ok(())
    }

    pub(super) fn handle_append(
        &mut self,
        client: &str,
        source: Source,
        message: &Message<'_>,
    ) -> rusqlite::Result<()> {
        // Promised by the caller; but the database would fail again and again at what is too large for it.
        let is_sound = message.payload.len() <= self.config.message_bytes_max
            && client.len() <= CLIENT_BYTES_MAX
            && message.number <= NUMBER_MAX
            && self.config.durability != Durability::None;
        if !is_sound {
            self.done.appends_refused += 1;
            return Ok(());
        }
        self.inserted += 1;
        let bytes =
            self.state.totals.append(&mut self.insert_message, NO_SESSION, client, source, message)?;
        self.state.shares.handle_stored(self.connection, self.config, source, None, bytes)
    }

    /// Nobody knows where this belongs.
    pub(super) fn orphan(&mut self, seat: Seat) {
        if self.orphans.insert(seat.attachment) {
            self.ended.push(Reply::Orphaned { seat });
        }
    }

    fn end(&mut self, seat: Seat, number: u64, why: EndReason) {
        self.ended.push(Reply::Ended { seat, number, why });
    }

    pub(super) fn handle_confirm(&mut self, of: Attachment, floor: u64) -> rusqlite::Result<()> {
        let Attachment { session: id, epoch } = of;
        if let Some(mut held) = self.state.sessions.load(self.connection, id)?
            && held.session.cursor.epoch == epoch
            && (held.session.floor + 1..=held.session.cursor.committed).contains(&floor)
        {
            held.session.floor = floor;
            held.mark();
        }
        Ok(())
    }
}

/// What a message counts of its session's quota.
const fn bytes(message: &Message<'_>) -> u64 {
    message.payload.len() as u64 + MESSAGE_BYTES
}

/// Whether a message that is next is not accepted, and why.
fn refuse(
    config: &StoreConfig,
    session: &mut Session,
    message: &Message<'_>,
    now_ms: u64,
) -> Option<RefusalCode> {
    if message.payload.len() > config.message_bytes_max {
        return Some(RefusalCode::TooLarge);
    }
    let since = session.quota_from_ms;
    if now_ms < since || now_ms - since >= millis(config.quota.every) {
        (session.quota_from_ms, session.quota_bytes) = (now_ms, 0);
    }
    (session.quota_bytes + bytes(message) > config.quota.bytes).then_some(RefusalCode::OverQuota)
}
