//! Replies of committers: clients get their sessions, receipts and messages.

use crate::id::ConnectionId;
use crate::origins::Origin;
use crate::post::{connection_of, ticket};
use crate::shard::Shard;
use crate::shard::agenda::Errand;
use crate::shard::io::Io;
use crate::shard::outlets::Outlet;
use crate::shard::served::Served;
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::{Admission, Attachment};
use pulsegate_core::frame::{NOTICE_GOES_ON, NOTICE_STOPPED, Refusals};
use pulsegate_core::lifetime::Phase;
use pulsegate_core::time::Now;
use pulsegate_sessions::{
    Attach, AttachRefusal, Attached, EndReason, Outcome, PushRefusal, Recipient, Refusal, RefusalCode, Reply,
    Request, Seat,
};
use std::sync::Arc;

impl<I: Io> Shard<I> {
    /// The application has a message for this connection.
    pub(crate) fn send(&mut self, now: Now, id: ConnectionId, bytes: Box<[u8]>) {
        self.serve(id, |served| served.send(now, bytes));
    }

    /// A newer connection has taken over the session of this one.
    pub(crate) fn handle_replaced(&mut self, now: Now, id: ConnectionId) {
        self.outlets.release_end_everywhere(id);
        self.end(id, now, CloseReason::Replaced);
    }

    /// Does what the answers of this ledger's store ask for.
    pub(crate) fn handle_replies(&mut self, now: Now, ledger: usize, replies: Vec<Reply>) {
        if replies.iter().any(|reply| !matches!(reply, Reply::Stopped { .. } | Reply::GoesOn)) {
            self.outlets.ledgers[ledger].handle_answer(now.own());
        }
        for reply in replies {
            self.handle_reply(now, ledger, reply);
        }
    }

    fn handle_reply(&mut self, now: Now, ledger: usize, reply: Reply) {
        match reply {
            Reply::Attached(attached) => self.handle_attached(now, ledger, &attached),
            Reply::AttachRefused { ticket, why } => {
                self.end(connection_of(ticket).1, now, attach_reason(why));
            }
            Reply::Committed { seat, committed } => {
                self.serve_attached(seat, |served| {
                    served.change(now, |connection, policy, output| {
                        connection.commit(now, policy, committed, output);
                    });
                });
            }
            Reply::Refused { seat, refusal: Refusal { number, code } } => {
                self.serve_attached(seat, |served| {
                    served.entry.connection.refuse(number, code as u16, refusal_text(code));
                });
            }
            Reply::Ended { seat, number, why } => {
                let session = seat.session();
                self.serve_attached(seat, |served| {
                    tracing::debug!(session, number, ?why, "a message that its store can't take");
                    served.end(now, end_reason(why));
                });
            }
            Reply::Orphaned { seat } => {
                let Attachment { session, epoch } = seat.attachment;
                self.serve_attached(seat, |served| {
                    tracing::debug!(session, epoch, "the store has lost what it knew of this connection");
                    served.end(now, CloseReason::SinkFailed);
                });
            }
            Reply::Pushed { connection, attachment, number, payload, .. } => {
                let Some(ticket) = connection else { return };
                self.serve_attached(Seat { ticket, attachment }, |served| {
                    served.change(now, |connection, policy, output| {
                        // One that ends just now gets it when it comes back.
                        let _ = connection.push(now, policy, number, payload, output);
                    });
                });
            }
            Reply::Loaded { seat, messages, has_more } => {
                self.serve_attached(seat, |served| {
                    let messages = messages.into_iter().map(|message| (message.number, message.payload));
                    served.change(now, |connection, policy, output| {
                        connection.load(now, policy, messages, has_more, output);
                    });
                });
            }
            Reply::PushRefused { ticket, why } => match push_reason(why) {
                Some(reason) => self.end(connection_of(ticket).1, now, reason),
                None => tracing::debug!(?why, "not sent: a message to a client that could not be stored"),
            },
            Reply::Detached { seat, .. } => {
                if let Some(origins) = &self.outlets.ledgers[ledger].origins {
                    origins.remove(seat.attachment);
                }
                self.outlets.release_end(ledger, connection_of(seat.ticket).1);
            }
            Reply::Resting { sessions, sources } => self.handle_resting(now, ledger, sessions, sources),
            Reply::Stopped { .. } => self.handle_receipts(ledger, false),
            Reply::GoesOn => self.handle_receipts(ledger, true),
            // The turn ends with another attempt. No connection is left of a session that has expired.
            Reply::Ready | Reply::Expired { .. } => {}
        }
    }

    /// Receipts have stopped, or continue: the clients of this ledger are told.
    fn handle_receipts(&mut self, ledger: usize, go_on: bool) {
        let (code, text) = if go_on {
            (NOTICE_GOES_ON, "receipts continue")
        } else {
            self.outlets.ledgers[ledger].doubt();
            // Why is for the log: strangers have nothing to do with our files and disks.
            (NOTICE_STOPPED, "receipts have stopped: the store can't write")
        };
        self.agenda.sweep(Errand::Notice { ledger: Some(ledger), code, text: text.to_owned() });
    }

    /// A client has its session. If it has left meanwhile, the session is told so.
    fn handle_attached(&mut self, now: Now, ledger: usize, attached: &Attached) {
        let id = connection_of(attached.seat.ticket).1;
        let is_welcome = self.serve(id, |served| served.welcome(now, ledger, attached)).unwrap_or(false);
        if !is_welcome {
            let for_good = attached.outcome == Outcome::New;
            let now = self.time.moment(now);
            self.outlets.request(ledger, Request::Detach { seat: attached.seat, for_good, now });
        }
    }

    /// Serves the connection with this seat, if it still has it.
    fn serve_attached(&mut self, seat: Seat, call: impl FnOnce(&mut Served<'_, I>)) {
        self.serve(connection_of(seat.ticket).1, |served| {
            if served.entry.connection.attachment() == Some(seat.attachment) {
                call(served);
            }
        });
    }
}

impl<I: Io> Served<'_, I> {
    /// The client wants a session: the store decides.
    pub(crate) fn ask_for_session(&mut self, now: Now, mut attach: Box<Attach>) {
        let Some(ledger) = self.outlet().ledger() else { return };
        // When it was accepted nobody knew yet that it would want a session.
        let sink_stall = self.listener.policy.sink_stall;
        if let Some(reason) = self.outlets.ledgers[ledger].obstacle_of_newcomers(now.own(), sink_stall) {
            return self.end(now, reason);
        }
        match self.io.token() {
            Ok(token) => {
                attach.token = token;
                // What was committed before it asks must not count as a move later.
                self.outlets.ledgers[ledger].last_moved(now.own());
                self.outlets.request(ledger, Request::Attach(attach));
            }
            Err(error) => {
                tracing::error!(%error, "the kernel gives no random numbers: nobody gets a session");
                self.end(now, CloseReason::SessionLimit);
            }
        }
    }

    /// The application has a message for it.
    fn send(&mut self, now: Now, bytes: Box<[u8]>) {
        if !self.entry.connection.is_pulse() {
            return self.change(now, |connection, policy, output| {
                let sent = connection.send(now, policy, &bytes, output.waiting, output);
                // If nobody is left to send to, the sink has been told by the connection's end.
                if sent.is_err() && connection.lifetime().phase() == Phase::Open {
                    tracing::debug!("not sent: the client has not shown yet what it speaks");
                }
            });
        }
        let attachment = self.entry.connection.attachment();
        if let (Some(ledger), Some(Attachment { session, .. })) = (self.outlet().ledger(), attachment) {
            let (to, now_ms) = (Recipient::Session(session), self.time.wall_ms);
            let ticket = ticket(self.outlets.shard, self.id);
            self.outlets.request(ledger, Request::Push { ticket, to, now_ms, payload: bytes });
        } else {
            tracing::debug!("not sent: the client is not in a session yet");
        }
    }

    /// The client has its session. Returns whether it still waits for it.
    fn welcome(&mut self, now: Now, ledger: usize, attached: &Attached) -> bool {
        if self.obstacle() == Some(CloseReason::SinkFailed) {
            // The cursor that it would be told may cover messages that the sink never got.
            self.end(now, CloseReason::SinkFailed);
        }
        if !self.entry.connection.awaits_welcome() {
            return false;
        }
        let attachment = attached.seat.attachment;
        let session = attachment.session;
        if let Some((first, last)) = attached.lost {
            tracing::debug!(
                session,
                first,
                last,
                "messages that the client was told are committed are not in the store"
            );
        }
        self.note_origin(attachment, &attached.client);
        let refused = attached.refused.iter().map(|refusal| (refusal.number, refusal.code as u16));
        let refused = Refusals::write(refused);
        let admission = Admission {
            attachment,
            resumed: attached.outcome == Outcome::Resumed,
            durability: self.outlets.ledgers[ledger].durability,
            token: attached.token,
            committed: attached.committed,
            floor: attached.floor,
            acknowledged: attached.acknowledged,
            is_behind: attached.is_behind,
            message_bytes_max: attached.told_bytes_max,
            lost: attached.lost,
            // The store keeps at most as many as a frame holds, in their order, up to its cursor.
            refused: Refusals::read(&refused, attached.committed).unwrap_or_default(),
            server_time_ms: self.time.wall_ms,
        };
        self.change(now, |connection, policy, output| {
            connection.welcome(now, policy, &admission, output);
        });
        true
    }

    /// What a store in memory commits goes on to the sink under the name of this connection.
    fn note_origin(&mut self, Attachment { session, epoch }: Attachment, client: &Arc<str>) {
        let Outlet::Ledger { ledger, forwards: true, .. } = *self.outlet() else { return };
        if let Some(origins) = &self.outlets.ledgers[ledger].origins {
            let from = self.entry.from(self.id);
            let client = Arc::clone(client);
            origins.insert(session, Origin { epoch, shard: self.outlets.shard, from, client });
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
        _ => None,
    }
}

const fn refusal_text(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::TooLarge => "the message is longer than the gateway stores",
        RefusalCode::OverQuota => "the session has used up what it may store for now",
    }
}
