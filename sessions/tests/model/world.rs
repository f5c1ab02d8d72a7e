//! A small world around one direction of the exchange, client to gateway: what exists in it, what can happen,
//! and which rules may be broken on purpose. The halves of the exchange and the committer's verdict are the
//! real ones; everything else here is a model. Knows nothing of how states are searched.
//!
//! What stands for what:
//! - A connection is two queues. What has been written is read in order, or never: each end may learn at any
//!   time that the connection is over, and what it has not read by then is lost. All places at which a
//!   connection can be cut are covered that way, because reading and learning interleave in every order.
//! - Between the client's learning and the gateway's, a connection is a zombie: it can still be read, and
//!   what was read from it may still wait for the committer.
//! - A connection that has been replaced is ended by the gateway sooner or later. Its client has mostly left
//!   it already; not always, because an older connection's HELLO can be read after a newer one's.

use pulsegate_core::exchange::{Cursor, Receiving, Sending, Window};
use std::collections::VecDeque;

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
    Hello { session: u8, token: u8, acknowledged: u64 },
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
        session: u8,
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
    Attached { session: u8, token: u8, epoch: u64, receiving: Receiving },
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Connection {
    pub(crate) id: u8,
    pub(crate) has_client: bool,
    pub(crate) server: Server,
    pub(crate) up: VecDeque<Up>,
    pub(crate) down: VecDeque<Down>,
}

/// The client, its library and its outbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    /// 0: none.
    pub(crate) session: u8,
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

/// What waits for the committer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    Attach {
        connection: u8,
        session: u8,
        token: u8,
        acknowledged: u64,
    },
    Message {
        connection: u8,
        session: u8,
        epoch: u64,
        number: u64,
        payload: u8,
    },
    Remove {
        session: u8,
        epoch: u64,
        is_expiry: bool,
    },
    /// A connection has ended; asked only where something may wait for it.
    Detach {
        connection: u8,
    },
}

/// What waits for the connection's shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Attached {
        connection: u8,
        session: u8,
        token: u8,
        epoch: u64,
        committed: u64,
        refused: u8,
        lost: u8,
        is_resumed: bool,
    },
    Committed {
        connection: u8,
        committed: u64,
    },
    Refused {
        connection: u8,
        number: u64,
    },
}

/// What a crash of the gateway takes, besides its ends of the connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Gateway {
    pub(crate) queue: VecDeque<Request>,
    pub(crate) mailbox: VecDeque<Answer>,
    /// Messages that can't be judged before their client confirms refusals, in order.
    pub(crate) held: Vec<Request>,
    /// The first of two durable steps is done, where a variant makes two of one.
    pub(crate) is_half_done: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    pub(crate) number: u8,
    pub(crate) cursor: Cursor,
    /// The cursor is not known any more; only variants forget it while the session lives.
    pub(crate) is_forgotten: bool,
    /// Refused and not confirmed, where a variant remembers them.
    pub(crate) refused: Vec<u64>,
    /// Number and payload of what was committed and is gone.
    pub(crate) gone: Vec<(u64, u8)>,
    /// One bit for each payload that is to be named as lost.
    pub(crate) lost: u8,
    /// The valid tokens, the newest last, where they are checked.
    pub(crate) tokens: Vec<u8>,
    pub(crate) tokens_ever: u8,
}

/// What a crash leaves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) sessions: Vec<Session>,
    /// Session and payload, in the order in which they were committed.
    pub(crate) committed: Vec<(u8, u8)>,
    pub(crate) sessions_ever: u8,
    /// One bit for each payload that was committed and is gone.
    pub(crate) gone: u8,
    /// One bit for each session that has expired.
    pub(crate) expired: u8,
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

/// When the receiver forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgetting {
    /// As specified: the session, at a goodbye for good, when floor = committed = received.
    AtGoodbye,
    /// Besides, the cursor of a living session when floor = committed = received: HELLO names it again.
    CursorAtConfirm,
    /// Broken: the same as soon as the receipt has been written.
    CursorAtReceipt,
    /// Broken: the session, at the end of its connection, if all receipts have been written.
    SessionAtReceipt,
}

/// How a message and the cursor become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transaction {
    Whole,
    /// Broken: two steps.
    MessageThenCursor,
    /// Broken: two steps, the other way round.
    CursorThenMessage,
}

/// What becomes of a refusal whose connection ends before the client has heard it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusing {
    /// The cursor has passed over the message, and that is all that is left of it.
    PassedOver,
    /// The refusal is kept until it is confirmed, and each WELCOME names it beside the cursor.
    KeptUntilConfirmed,
}

/// What becomes of a message that is to be refused while as many refusals as may stand unconfirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    /// It waits for a confirmation, and what follows it too; the gateway reads on.
    Waits,
    /// Broken: it waits, and nothing is read meanwhile.
    StopsReading,
    /// Broken: it waits alone.
    Overtaken,
    /// Broken: it waits, and survives its connection.
    Outlives,
}

/// Which tokens open a session. A WELCOME brings the next; a frame on its connection proves that it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tokens {
    /// Any: more can happen than with tokens.
    Unchecked,
    /// The newest and the one issued before it, until the newest is proven.
    NewestAndBefore,
    /// The newest and the one that was shown for it, until the newest is proven.
    NewestAndShown,
    /// The last that is proven and one more, which is issued again and again until it is proven.
    IssuedUntilProven,
}

/// The rules under which a world lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// The client's outbox is on disk.
    pub(crate) has_outbox: bool,
    pub(crate) forgetting: Forgetting,
    pub(crate) transaction: Transaction,
    pub(crate) refusing: Refusing,
    /// How many refusals may stand unconfirmed, and what happens then.
    pub(crate) refusals_max: usize,
    pub(crate) holding: Holding,
    pub(crate) tokens: Tokens,
    /// Broken: the committer takes a message whatever connection it came on.
    pub(crate) is_epoch_ignored: bool,
    /// A message that is known already is receipted with its own number instead of the cursor.
    pub(crate) is_known_by_number: bool,
    /// Broken: a session is removed even if it has been attached again meanwhile.
    pub(crate) is_removal_blind: bool,
    /// Broken: a new session takes the number of one that is gone, and its epochs begin again.
    pub(crate) is_number_reused: bool,
    /// Broken: what is lost is named in one WELCOME, whether or not that arrives.
    pub(crate) is_loss_told_once: bool,
    /// The client does not come back from BYE "replaced".
    pub(crate) is_replaced_final: bool,
    /// Lets a session that is forgotten too early pass, to see what the user gets to see of it.
    pub(crate) is_forgetting_unwatched: bool,
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

impl Rules {
    pub(crate) const SPECIFIED: Self = Self {
        has_outbox: true,
        forgetting: Forgetting::AtGoodbye,
        transaction: Transaction::Whole,
        refusing: Refusing::PassedOver,
        refusals_max: MESSAGES_MAX,
        holding: Holding::Waits,
        tokens: Tokens::Unchecked,
        is_epoch_ignored: false,
        is_known_by_number: false,
        is_removal_blind: false,
        is_number_reused: false,
        is_loss_told_once: false,
        is_replaced_final: false,
        is_forgetting_unwatched: false,
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
    SessionExpires(u8),
    CommitterProceeds,
    CommitterRefuses,
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
        let store =
            Store { sessions: Vec::new(), committed: Vec::new(), sessions_ever: 0, gone: 0, expired: 0 };
        Self { client, connections: Vec::new(), gateway: Gateway::default(), store, left }
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

impl Store {
    pub(crate) fn session(&mut self, number: u8) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.number == number)
    }
}
