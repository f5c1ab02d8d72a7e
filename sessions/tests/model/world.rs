//! A small world around one direction of the exchange, client to gateway: what exists in it, what can happen,
//! and what may be wrong in it on purpose. The halves of the exchange, the rules of sessions and what holds messages that
//! can't be judged yet are those that ship; connections, the shard around them and the client's library are a model.
//! Knows nothing of how states are searched.
//!
//! What stands for what:
//! - A connection is two queues. What has been written is read in order, or never: each end may learn at any
//!   time that the connection is over, and what it has not read by then is lost. All places at which a
//!   connection can be cut are covered that way, because reading and learning interleave in every order.
//! - Between the client's learning and the gateway's, a connection is a zombie: it can still be read, and
//!   what was read from it may still wait for the committer.
//! - A connection that has been replaced is ended by the gateway sooner or later. Its client has mostly left
//!   it already; not always, because an older connection's HELLO can be read after a newer one's.

use crate::store::Store;
use pulsegate_core::exchange::{Receiving, Sending, Window};
use pulsegate_core::policy::SecondConnection;
use pulsegate_sessions::{Attach, Attachment, Moment, Request, Resume, Seat, Unjudged};
use std::collections::VecDeque;
use std::time::Duration;

/// The most messages that a scenario has.
pub(crate) const MESSAGES_MAX: usize = 3;

/// The window of every connection. Payloads have one byte.
pub(crate) const WINDOW: Window = Window { messages: 2, bytes: 2 };

/// A payload is its own identity: a loss or a duplicate shows whatever the number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Payload(pub(crate) [u8; 1]);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// What the user of the client knows about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    NotPushed,
    Undecided,
    Committed,
    NotAccepted,
    Unknown,
}

/// What goes from the client to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Up {
    Hello { session: u64, token: u8, acknowledged: u64 },
    Beat,
    Message { number: u64, payload: u8 },
    Confirm(u64),
    Goodbye,
}

/// What goes from the gateway to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Down {
    /// `refused` has a bit for each number that is named as refused, `lost` one for each payload that was acknowledged and
    /// is lost.
    Welcome {
        session: u64,
        token: u8,
        committed: u64,
        refused: u8,
        lost: u8,
        is_resumed: bool,
    },
    Receipt(u64),
    Refuse(u64),
}

/// The gateway's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Server {
    Opening,
    Attaching,
    Attached {
        at: Attachment,
        receiving: Receiving,
        is_resumed: bool,
        /// A frame has come after WELCOME.
        is_heard: bool,
    },
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Connection {
    pub(crate) id: u8,
    pub(crate) has_client: bool,
    pub(crate) server: Server,
    /// The gateway has to end it: it was replaced, or the store doesn't know it.
    pub(crate) has_to_end: bool,
    pub(crate) up: VecDeque<Up>,
    pub(crate) down: VecDeque<Down>,
}

/// The client, its library and its outbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    /// 0: none.
    pub(crate) session: u64,
    pub(crate) token: u8,
    pub(crate) sending: Sending<Payload>,
    /// Which payloads `sending` keeps, as the library has to remember them to tell their outcomes.
    pub(crate) waiting: VecDeque<u8>,
    pub(crate) outcomes: [Outcome; MESSAGES_MAX],
    pub(crate) pushed: u8,
    /// One bit for each payload that was ever put on a wire.
    pub(crate) sent: u8,
    pub(crate) connection: Option<u8>,
    pub(crate) is_welcome: bool,
    /// One bit for each payload of which it was told that it is lost.
    pub(crate) told_lost: u8,
    /// It was told not to come back.
    pub(crate) is_sent_away: bool,
    pub(crate) connects: u8,
}

/// What waits for the committer. Small: there are millions of worlds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Asked {
    Attach {
        connection: u8,
        session: u64,
        token: u8,
        acknowledged: u64,
    },
    TokenUsed(Attachment),
    Message {
        connection: u8,
        at: Attachment,
        number: u64,
        payload: u8,
    },
    Confirm {
        at: Attachment,
        floor: u64,
    },
    Detach {
        connection: u8,
        at: Attachment,
        for_good: bool,
    },
    /// Only a variant asks for it, after it has looked.
    Expire(u64),
}

impl Asked {
    /// What a message counts in the queue.
    const MESSAGE_BYTES: usize = 128 + 1;

    /// As the committer gets it.
    pub(crate) fn request(self) -> Option<Request> {
        Some(match self {
            Self::Attach { connection, session, token, acknowledged } => Request::Attach(Box::new(Attach {
                ticket: connection.into(),
                client: "a".to_owned(),
                source: 0,
                resume: (session != 0).then_some(Resume {
                    session,
                    token: [token; 16],
                    committed: 0,
                    acknowledged,
                }),
                token: [connection; 16],
                second: SecondConnection::Allow,
                message_bytes_max: 1,
                told_bytes_max: 1,
                now: Moment::default(),
                time_to_live: Duration::ZERO,
            })),
            Self::TokenUsed(attachment) => Request::TokenUsed { attachment },
            Self::Message { connection, at, number, payload } => Request::Message {
                seat: Seat { ticket: connection.into(), attachment: at },
                number,
                received_at_ms: 0,
                payload: [payload].into(),
            },
            Self::Confirm { at: attachment, floor } => Request::Confirm { attachment, floor },
            Self::Detach { connection, at, for_good } => {
                let seat = Seat { ticket: connection.into(), attachment: at };
                Request::Detach { seat, for_good, now: Moment::default() }
            }
            Self::Expire(_) => return None,
        })
    }

    /// On which connection it was asked, unless that is what asks for a session.
    pub(crate) const fn at(self) -> Option<Attachment> {
        match self {
            Self::TokenUsed(at)
            | Self::Message { at, .. }
            | Self::Confirm { at, .. }
            | Self::Detach { at, .. } => Some(at),
            Self::Attach { .. } | Self::Expire(_) => None,
        }
    }

    /// Whether nobody waits for it: it takes part in the next commit.
    pub(crate) const fn is_hint(&self) -> bool {
        matches!(self, Self::TokenUsed(_) | Self::Confirm { .. })
    }
}

/// What waits for the connection's shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Attached {
        connection: u8,
        at: Attachment,
        token: u8,
        committed: u64,
        floor: u64,
        refused: u8,
        lost: u8,
        is_resumed: bool,
        /// The connection that has to end.
        replaced: Option<u8>,
    },
    AttachRefused {
        connection: u8,
        is_bad_token: bool,
    },
    Committed {
        connection: u8,
        committed: u64,
    },
    Refused {
        connection: u8,
        number: u64,
    },
    /// The connection has to end, since a message is missing or its session is not known.
    Ended {
        connection: u8,
        is_gap: bool,
    },
}

/// What a crash of the gateway takes, besides its ends of the connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Gateway {
    pub(crate) queue: VecDeque<Asked>,
    pub(crate) mailbox: VecDeque<Answer>,
    pub(crate) unjudged: Unjudged,
    /// The second of two durable steps, where a variant makes two of one.
    pub(crate) later: Option<Box<(Store, Vec<Answer>)>>,
    /// A variant reads nothing any more.
    pub(crate) rests: bool,
}

impl Default for Gateway {
    fn default() -> Self {
        // A window of messages.
        let bytes_max = WINDOW.messages as usize * Asked::MESSAGE_BYTES;
        Self {
            queue: VecDeque::new(),
            mailbox: VecDeque::new(),
            unjudged: Unjudged::new(bytes_max),
            later: None,
            rests: false,
        }
    }
}

/// How much may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    pub(crate) messages: u8,
    /// Connections that end by themselves, whoever learns of it first.
    pub(crate) cuts: u8,
    pub(crate) crashes: u8,
    pub(crate) restarts: u8,
    pub(crate) expiries: u8,
    pub(crate) goodbyes: u8,
    pub(crate) refusals: u8,
    /// Messages that the client takes back when it learns that they did not arrive.
    pub(crate) withdrawals: u8,
    /// Crashes after which the last message that was committed is gone.
    pub(crate) losses: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) connections: Vec<Connection>,
    pub(crate) gateway: Gateway,
    pub(crate) store: Store,
    pub(crate) left: Budget,
}

impl Budget {
    /// Two messages, and nothing goes wrong.
    pub(crate) const QUIET: Self = Self {
        messages: 2,
        cuts: 0,
        crashes: 0,
        restarts: 0,
        expiries: 0,
        goodbyes: 0,
        refusals: 0,
        withdrawals: 0,
        losses: 0,
    };
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    ClientPushes,
    ClientConnects,
    ClientSends,
    ClientConfirms,
    ClientHears,
    /// It hears WELCOME, and takes back the first message that has not arrived.
    ClientHearsAndWithdraws,
    ClientSaysGoodbye,
    ClientLosesConnection,
    ClientRestarts,
    GatewayReads(u8),
    GatewayAnswers,
    GatewayLosesConnection(u8),
    GatewayCrashes,
    GatewayLosesLast,
    SessionExpires(u64),
    CommitterProceeds(Take),
}

/// What the committer takes of what waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Take {
    /// All of it, instead of the first request that somebody waits for.
    pub(crate) all: bool,
    /// One bit for each place of a message that is not accepted.
    pub(crate) refused: u8,
}

/// What can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A message is said to be committed, and is not.
    AcknowledgedIsLost,
    /// A client that is connected was not told that a message that it took for committed is lost.
    LossUntold,
    /// A message is committed twice.
    CommittedTwice,
    /// Messages of a session are committed in another order than they were pushed.
    Disordered,
    /// A message is said to be not accepted, and is committed.
    RefusedIsCommitted,
    /// A message has two outcomes, or is unknown although its session lives.
    WrongOutcome,
    /// A message will never have an outcome.
    NoOutcome,
    /// A side that keeps the protocol is accused of a violation.
    Accused,
    /// Something is larger than its bound.
    Unbounded,
    /// The client holds a token that the gateway has given it, and is not let in.
    LockedOut,
    /// The receiver has forgotten a session in which something can come again.
    ForgottenTooEarly,
}

/// How often the interesting things happened, over all transitions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sights {
    pub(crate) sent_again: u64,
    pub(crate) settled_by_welcome: u64,
    pub(crate) stale: u64,
    pub(crate) known: u64,
    pub(crate) refused: u64,
    pub(crate) held: u64,
    pub(crate) held_behind: u64,
    pub(crate) released: u64,
    pub(crate) withdrawn: u64,
    pub(crate) read_from_zombie: u64,
    pub(crate) crashed_with_queue: u64,
    pub(crate) expired_in_flight: u64,
    pub(crate) removal_refused: u64,
    pub(crate) client_replaced: u64,
    pub(crate) forgotten_at_goodbye: u64,
    pub(crate) lost: u64,
    pub(crate) lost_again: u64,
    pub(crate) token_refused: u64,
    pub(crate) token_before: u64,
    pub(crate) unheard: u64,
    pub(crate) batched: u64,
    pub(crate) unknown: u64,
    pub(crate) unknown_never_sent: u64,
}

impl World {
    pub(crate) fn new(left: Budget) -> Self {
        let client = Client {
            session: 0,
            token: 0,
            sending: Sending::new(WINDOW),
            waiting: VecDeque::new(),
            outcomes: [Outcome::NotPushed; MESSAGES_MAX],
            pushed: 0,
            sent: 0,
            connection: None,
            is_welcome: false,
            told_lost: 0,
            is_sent_away: false,
            connects: 0,
        };
        let (gateway, store) = (Gateway::default(), Store::default());
        Self { client, connections: Vec::new(), gateway, store, left }
    }

    pub(crate) fn connection(&mut self, id: u8) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id == id)
    }

    /// Drops the connections that both ends have let go.
    pub(crate) fn sweep(&mut self) {
        self.connections.retain(|connection| connection.has_client || connection.server != Server::Gone);
    }
}

impl Connection {
    /// The client writes; nobody reads it if the gateway's end is gone.
    pub(crate) fn write_up(&mut self, frame: Up) {
        if self.server != Server::Gone {
            self.up.push_back(frame);
        }
    }

    /// The gateway writes; nobody reads it if the client's end is gone.
    pub(crate) fn write_down(&mut self, frame: Down) {
        if self.has_client {
            self.down.push_back(frame);
        }
    }
}
