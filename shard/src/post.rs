//! The way of the stores' answers to the shards that asked, by the tickets that connections are known by there.

use crate::id::ConnectionId;
use crate::mailbox::{Command, Mailbox};
use crate::origins::Origins;
use pulsegate_sessions::{Committer, PushRefusal, Reply, Ticket};
use std::sync::Arc;

/// The bit that tells an application's ticket from a connection's.
pub const APPLICATION: Ticket = 1 << 127;

/// What has become of an application's message to a client: its session and its number there, once it is stored.
pub type PushOutcome = Result<(u64, u64), PushRefusal>;

/// The ticket of a connection of this shard.
pub(crate) fn ticket(shard: usize, id: ConnectionId) -> Ticket {
    (shard as Ticket) << 64 | Ticket::from(id.to_bits())
}

/// The shard and the connection of a ticket.
pub(crate) const fn connection_of(ticket: Ticket) -> (usize, ConnectionId) {
    ((ticket >> 64) as usize, ConnectionId::from_bits(ticket as u64))
}

/// Brings a store's answers to the shards.
#[derive(Clone, Debug)]
pub struct Post {
    /// The store's place among the ledgers of each shard.
    ledger: usize,
    mailboxes: Arc<[Arc<Mailbox>]>,
}

impl Post {
    /// The way of the answers of the `ledger`-th store to the shards with these mailboxes.
    pub const fn new(ledger: usize, mailboxes: Arc<[Arc<Mailbox>]>) -> Self {
        Self { ledger, mailboxes }
    }

    /// Brings each shard its own. `on_outcome` hears what has become of the messages with these tickets: those of
    /// applications, and others that nobody asks about.
    pub fn deliver(&self, replies: Vec<Reply>, on_outcome: impl Fn(Ticket, PushOutcome)) {
        let mut of_shards: Vec<Vec<Reply>> = self.mailboxes.iter().map(|_| Vec::new()).collect();
        for reply in replies {
            self.sort(reply, &mut of_shards, &on_outcome);
        }
        for (mailbox, replies) in self.mailboxes.iter().zip(of_shards) {
            if !replies.is_empty() {
                mailbox.post_replies(self.ledger, replies);
            }
        }
    }

    fn sort(&self, reply: Reply, of_shards: &mut [Vec<Reply>], on_outcome: impl Fn(Ticket, PushOutcome)) {
        let to = match &reply {
            Reply::Attached(attached) => {
                if let Some(replaced) = attached.replaced {
                    let (shard, id) = connection_of(replaced);
                    if let Some(mailbox) = self.mailboxes.get(shard) {
                        let _ = mailbox.post(Command::Replaced(id));
                    }
                }
                Some(attached.seat.ticket)
            }
            Reply::Committed { seat, .. }
            | Reply::Refused { seat, .. }
            | Reply::Ended { seat, .. }
            | Reply::Loaded { seat, .. }
            | Reply::Orphaned { seat }
            | Reply::Detached { seat, .. } => Some(seat.ticket),
            Reply::AttachRefused { ticket, .. } => Some(*ticket),
            Reply::Pushed { ticket, connection, attachment, number, .. } => {
                on_outcome(*ticket, Ok((attachment.session, *number)));
                *connection
            }
            Reply::PushRefused { ticket, why } => {
                on_outcome(*ticket, Err(*why));
                Some(*ticket)
            }
            Reply::Expired { session, unknown } => {
                tracing::debug!(session, ?unknown, "a session has expired");
                None
            }
            Reply::Ready | Reply::Resting { .. } | Reply::Stopped { .. } | Reply::GoesOn => {
                of_shards.iter_mut().for_each(|replies| replies.push(reply.clone()));
                None
            }
        };
        if let Some(ticket) = to.filter(|ticket| ticket & APPLICATION == 0)
            && let Some(replies) = of_shards.get_mut(connection_of(ticket).0)
        {
            replies.push(reply);
        }
    }
}

/// A committer with what belongs to it.
#[derive(Clone, Debug)]
pub struct Opened {
    /// What people call it.
    pub name: Box<str>,
    /// What commits.
    pub committer: Arc<dyn Committer>,
    /// Whose messages it forwards, if it is one in memory.
    pub origins: Option<Arc<Origins>>,
}
