//! What stands around the shipping rules, and what of it is wrong on purpose. Knows no world.

/// When the receiver forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgetting {
    /// As the rules say: the session, at a goodbye for good, when floor = committed.
    AtGoodbye,
    /// Besides, the cursor of a living session when floor = committed = received: HELLO names it again.
    CursorAtConfirm,
    /// Broken: the same as soon as the receipt has been written.
    CursorAtReceipt,
    /// Broken: the session, at the end of its connection, if all receipts have been written. The shard takes them for
    /// confirmed.
    SessionAtReceipt,
}

/// How a batch becomes durable.
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
    /// It is kept until it is confirmed, and each WELCOME names it beside the cursor.
    KeptUntilConfirmed,
    /// Broken: the cursor has passed over the message, and that is all that is left of it.
    PassedOver,
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
}

/// Which tokens open a session. A WELCOME brings the next; a frame on its connection proves that it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tokens {
    /// As the rules say: the last that is proven and one more, which is issued again and again until it is proven.
    Checked,
    /// Any: more can happen than with tokens.
    Unchecked,
    /// Broken: the newest and the one issued before it, until the newest is proven.
    NewestAndBefore,
    /// Broken: the newest and the one that was shown for it, until the newest is proven.
    NewestAndShown,
}

/// What stands around the rules, and what of it is wrong on purpose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wiring {
    /// The client's outbox is on disk.
    pub(crate) has_outbox: bool,
    /// The client says something as soon as it is in a new session.
    pub(crate) beats_first: bool,
    /// The committer takes one request that waits, or all of them; else one.
    pub(crate) has_batches: bool,
    /// All places for refusals but one are taken: refusals of which nothing more is heard.
    pub(crate) is_crowded: bool,
    pub(crate) forgetting: Forgetting,
    pub(crate) transaction: Transaction,
    pub(crate) refusing: Refusing,
    pub(crate) holding: Holding,
    pub(crate) tokens: Tokens,
    /// Broken: messages and confirmations don't say on which connection they came.
    pub(crate) is_epoch_ignored: bool,
    /// A message that is known already is receipted with its own number instead of the cursor.
    pub(crate) is_known_by_number: bool,
    /// Broken: whose time is over is looked up, and goes later, even if it has been attached again meanwhile.
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

impl Wiring {
    pub(crate) const SHIPPING: Self = Self {
        has_outbox: true,
        beats_first: false,
        has_batches: false,
        is_crowded: false,
        forgetting: Forgetting::AtGoodbye,
        transaction: Transaction::Whole,
        refusing: Refusing::KeptUntilConfirmed,
        holding: Holding::Waits,
        tokens: Tokens::Checked,
        is_epoch_ignored: false,
        is_known_by_number: false,
        is_removal_blind: false,
        is_number_reused: false,
        is_loss_told_once: false,
        is_replaced_final: false,
        is_forgetting_unwatched: false,
    };
}
