//! What a store answers: clients are let into their sessions, receipts go out, messages come for them.

use crate::id::ConnectionId;
use crate::origins::Origin;
use crate::shard::door::Delivery;
use crate::shard::entry::Entry;
use crate::shard::io::Io;
use crate::shard::sweep::Errand;
use crate::shard::{Shard, moment};
use crate::stores::{connection_of, ticket};
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::{Admission, Attachment};
use pulsegate_core::frame::{NOTICE_GOES_ON, NOTICE_STOPPED, Refusals};
use pulsegate_core::lifetime::Phase;
use pulsegate_core::time::Now;
use pulsegate_store::{
    Attach, AttachRefusal, Attached, EndReason, Outcome, PushRefusal, Recipient, Refusal, RefusalCode, Reply,
    Request, Ticket,
};

impl<I: Io> Shard<I> {
    /// A client wants a session: the store decides.
    pub(crate) fn ask_for_session(&mut self, key: u32, now: Now, mut attach: Box<Attach>) {
        let Some(ledger) = self.ledger_of(key) else { return };
        let Some(entry) = self.table.at(key) else { return };
        let sink_stall = self.shared.doors[usize::from(entry.listener)].policy.sink_stall;
        // At the door nobody knew yet that it would want a session.
        if let Some(reason) = self.ledgers[ledger].obstacle_of_newcomers(now.own(), sink_stall) {
            return self.end(key, now, reason);
        }
        match self.io.token() {
            Ok(token) => {
                attach.token = token;
                self.ledgers[ledger].request(Request::Attach(attach));
            }
            Err(error) => {
                tracing::error!(%error, "the kernel gives no random numbers: nobody gets a session");
                self.end(key, now, CloseReason::SessionLimit);
            }
        }
    }

    /// The application has a message for this connection.
    pub(crate) fn send(&mut self, now: Now, id: ConnectionId, bytes: Box<[u8]>) {
        let Some(key) = self.table.find(id) else { return };
        let Some(entry) = self.table.at(key) else { return };
        if !entry.connection.is_pulse() {
            return self.command(id, now, |connection, policy, courier| {
                let sent = connection.send(now, policy, &bytes, courier.waiting, courier);
                // If nobody is left to send to, the sink has been told by the connection's end.
                if sent.is_err() && connection.lifetime().phase() == Phase::Open {
                    tracing::debug!("not sent: the client has not shown yet what it speaks");
                }
            });
        }
        let attachment = entry.connection.attachment();
        if let (Some(ledger), Some(Attachment { session, .. })) = (self.ledger_of(key), attachment) {
            let (to, now_ms) = (Recipient::Session(session), self.wall_ms);
            let ticket = ticket(self.index, id);
            self.ledgers[ledger].request(Request::Push { ticket, to, now_ms, payload: bytes });
        } else {
            tracing::debug!("not sent: the client is not in a session yet");
        }
    }

    /// A newer connection has taken over the session of this one.
    pub(crate) fn handle_replaced(&mut self, now: Now, id: ConnectionId) {
        self.ledgers.iter_mut().for_each(|ledger| ledger.held.release(id, &mut self.lanes));
        if let Some(key) = self.table.find(id) {
            self.forget_origin(key);
            self.end(key, now, CloseReason::Replaced);
        }
    }

    /// Does what the answers of this ledger's store ask for.
    pub(crate) fn handle_replies(&mut self, now: Now, ledger: usize, replies: Vec<Reply>) {
        if replies.iter().any(|reply| !matches!(reply, Reply::Stopped { .. } | Reply::GoesOn)) {
            self.ledgers[ledger].handle_answer(now.own());
        }
        for reply in replies {
            self.handle_reply(now, ledger, reply);
        }
    }

    fn handle_reply(&mut self, now: Now, ledger: usize, reply: Reply) {
        match reply {
            Reply::Attached(attached) => self.handle_attached(now, ledger, *attached),
            Reply::AttachRefused { ticket, why } => self.end_of(now, ticket, attach_reason(why)),
            Reply::Committed { ticket, session, epoch, committed } => {
                if let Some(key) = self.attached(ticket, Attachment { session, epoch }) {
                    self.act(key, now, |connection, policy, courier| {
                        connection.commit(now, policy, committed, courier);
                    });
                    self.settle(key, now);
                }
            }
            Reply::Refused { ticket, session, epoch, refusal: Refusal { number, code } } => {
                if let Some(key) = self.attached(ticket, Attachment { session, epoch })
                    && let Some(entry) = self.table.at(key)
                {
                    entry.connection.refuse(number, code as u16, refusal_text(code));
                }
            }
            Reply::Ended { ticket, session, epoch, number, why } => {
                if self.attached(ticket, Attachment { session, epoch }).is_some() {
                    tracing::debug!(session, number, ?why, "a message that its store can't take");
                    self.end_of(now, ticket, end_reason(why));
                }
            }
            Reply::Orphaned { ticket, session, epoch } => {
                if self.attached(ticket, Attachment { session, epoch }).is_some() {
                    tracing::debug!(session, epoch, "the store has lost what it knew of this connection");
                    self.end_of(now, ticket, CloseReason::SinkFailed);
                }
            }
            Reply::Pushed { connection, session, epoch, number, payload, .. } => {
                let attachment = Attachment { session, epoch };
                if let Some(key) = connection.and_then(|ticket| self.attached(ticket, attachment)) {
                    self.act(key, now, |connection, policy, courier| {
                        // One that ends just now gets it when it comes back.
                        let _ = connection.push(now, policy, number, payload, courier);
                    });
                    self.settle(key, now);
                }
            }
            Reply::Loaded { ticket, session, epoch, messages, has_more } => {
                if let Some(key) = self.attached(ticket, Attachment { session, epoch }) {
                    let messages = messages.into_iter().map(|message| (message.number, message.payload));
                    self.act(key, now, |connection, policy, courier| {
                        connection.load(now, policy, messages, has_more, courier);
                    });
                    self.settle(key, now);
                }
            }
            Reply::PushRefused { ticket, why } => match push_reason(why) {
                Some(reason) => self.end_of(now, ticket, reason),
                None => tracing::debug!(?why, "not sent: a message to a client that could not be stored"),
            },
            Reply::Detached { ticket, session, epoch, .. } => {
                if let Some(origins) = &self.ledgers[ledger].origins {
                    origins.remove(Attachment { session, epoch });
                }
                self.ledgers[ledger].held.release(connection_of(ticket).1, &mut self.lanes);
            }
            Reply::Resting { sessions, sources } => self.handle_resting(now, ledger, sessions, sources),
            Reply::Stopped { .. } => self.handle_receipts(ledger, false),
            Reply::GoesOn => self.handle_receipts(ledger, true),
            // The turn ends with another attempt. No connection is left of a session that has expired.
            Reply::Ready | Reply::Expired { .. } => {}
        }
    }

    /// Receipts have stopped, or go on: the clients of this ledger are told.
    fn handle_receipts(&mut self, ledger: usize, go_on: bool) {
        let (code, text) = if go_on {
            (NOTICE_GOES_ON, "receipts go on")
        } else {
            self.ledgers[ledger].doubt();
            // Why is for the log: strangers have nothing to do with our files and disks.
            (NOTICE_STOPPED, "receipts have stopped: the store can't write")
        };
        self.sweep(Errand::Notice { ledger: Some(ledger), code, text: text.to_owned() });
    }

    /// A client has its session. If it has left meanwhile, the session is told so.
    fn handle_attached(&mut self, now: Now, ledger: usize, attached: Attached) {
        let Attached { ticket, session, epoch, .. } = attached;
        let attachment = Attachment { session, epoch };
        let (_, id) = connection_of(ticket);
        if let Some(key) = self.table.find(id)
            && self.obstacle_of(key) == Some(CloseReason::SinkFailed)
        {
            // The cursor that it would be told may count messages that the sink has never got.
            self.end(key, now, CloseReason::SinkFailed);
        }
        let found = self.table.find(id);
        let waits = |entry: &mut Entry<I::Stream>| entry.connection.awaits_welcome();
        let Some(key) = found.filter(|key| self.table.at(*key).is_some_and(waits)) else {
            let for_good = attached.outcome == Outcome::New;
            let now = moment(self.wall_ms, now);
            let detach = Request::Detach { ticket, session, epoch, for_good, now };
            return self.ledgers[ledger].request(detach);
        };
        if let Some((first, last)) = attached.lost {
            tracing::debug!(
                session,
                first,
                last,
                "messages that the client was told are committed are not in the store"
            );
        }
        self.note_origin(key, ledger, attachment);
        let refused = attached.refused.iter().map(|refusal| (refusal.number, refusal.code as u16));
        let refused = Refusals::write(refused);
        let admission = Admission {
            attachment,
            resumed: attached.outcome == Outcome::Resumed,
            durability: self.ledgers[ledger].durability,
            token: attached.token,
            committed: attached.committed,
            floor: attached.floor,
            acknowledged: attached.acknowledged,
            is_behind: attached.is_behind,
            message_bytes_max: attached.told_bytes_max,
            lost: attached.lost,
            // The store keeps at most as many as a frame holds, in their order, up to its cursor.
            refused: Refusals::read(&refused, attached.committed).unwrap_or_default(),
            server_time_ms: self.wall_ms,
        };
        self.act(key, now, |connection, policy, courier| {
            connection.welcome(now, policy, &admission, courier);
        });
        self.settle(key, now);
    }

    /// What a store in memory commits goes on to the sink under the name of this connection.
    fn note_origin(&mut self, key: u32, ledger: usize, attachment: Attachment) {
        let Some(origins) = &self.ledgers[ledger].origins else { return };
        let Some(entry) = self.table.at(key) else { return };
        match self.shared.doors[usize::from(entry.listener)].delivery {
            Delivery::Lane(_) | Delivery::Echo(_) => {}
            Delivery::Discard | Delivery::Store => return,
        }
        let origin = Origin { epoch: attachment.epoch, shard: self.index, from: entry.from(key) };
        origins.insert(attachment.session, origin);
    }

    /// All that came from a connection that was replaced has gone on, and its end is not answered by the store.
    fn forget_origin(&mut self, key: u32) {
        let attachment = self.table.at(key).and_then(|entry| entry.connection.attachment());
        let ledger = self.ledger_of(key).map(|ledger| &self.ledgers[ledger]);
        if let (Some(attachment), Some(origins)) = (attachment, ledger.and_then(|it| it.origins.as_ref())) {
            origins.remove(attachment);
        }
    }

    /// The ledger that a connection has to do with: a pulse connection's messages take the way by a store, wherever they
    /// go.
    pub(crate) fn ledger_of(&mut self, key: u32) -> Option<usize> {
        let entry = self.table.at(key)?;
        let door = &self.shared.doors[usize::from(entry.listener)];
        let concerns = entry.connection.is_pulse() || door.delivery == Delivery::Store;
        door.ledger.filter(|_| concerns)
    }

    /// The connection with this ticket, if it still has this session.
    fn attached(&mut self, ticket: Ticket, attachment: Attachment) -> Option<u32> {
        let key = self.table.find(connection_of(ticket).1)?;
        (self.table.at(key)?.connection.attachment() == Some(attachment)).then_some(key)
    }

    fn end_of(&mut self, now: Now, ticket: Ticket, reason: CloseReason) {
        if let Some(key) = self.table.find(connection_of(ticket).1) {
            self.end(key, now, reason);
        }
    }
}

const fn attach_reason(why: AttachRefusal) -> CloseReason {
    match why {
        // A stranger learns nothing of whose session it is.
        AttachRefusal::BadToken | AttachRefusal::OtherClient => CloseReason::BadToken,
        AttachRefusal::InUse => CloseReason::SessionInUse,
        AttachRefusal::SessionLimit => CloseReason::SessionLimit,
        AttachRefusal::Impossible => CloseReason::MalformedFrame,
    }
}

const fn end_reason(why: EndReason) -> CloseReason {
    match why {
        EndReason::Gap => CloseReason::SequenceGap,
        EndReason::Unconfirmed => CloseReason::UnconfirmedRefusals,
    }
}

/// Why a connection ends whose application's message can't be stored, if it does. One that is too long for the client
/// is not accepted, and the rest goes on; and that others take too little is no fault of this client's.
const fn push_reason(why: PushRefusal) -> Option<CloseReason> {
    match why {
        PushRefusal::NoSession | PushRefusal::Unknown => Some(CloseReason::SinkFailed),
        PushRefusal::Full => Some(CloseReason::OutputFull),
        PushRefusal::TooLarge | PushRefusal::StoreFull => None,
    }
}

const fn refusal_text(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::TooLarge => "the message is longer than the gateway stores",
        RefusalCode::OverQuota => "the session has used up what it may store for now",
    }
}
