//! Rules broken on purpose, one at a time: the check has to find each, and says how it comes about.

use crate::scenario::Scenario;
use crate::wiring::{Forgetting, Holding, Refusing, Tokens, Transaction, Wiring};
use crate::world::{Broken, Budget};

const QUIET: Budget = Budget::QUIET;
const SHIPPING: Wiring = Wiring::SHIPPING;

#[test]
fn a_cursor_forgotten_at_the_receipt() {
    let wiring = Wiring { forgetting: Forgetting::CursorAtReceipt, ..SHIPPING };
    Scenario::new(Budget { cuts: 1, ..QUIET })
        .with(wiring)
        .fails("cursor forgotten at the receipt", Broken::CommittedTwice);
}

#[test]
fn a_session_forgotten_at_the_receipt() {
    let wiring = Wiring { forgetting: Forgetting::SessionAtReceipt, ..SHIPPING };
    let scenario = Scenario::new(Budget { cuts: 1, ..QUIET });
    scenario.with(wiring).fails("session forgotten at the receipt", Broken::ForgottenTooEarly);
    let wiring = Wiring { is_forgetting_unwatched: true, ..wiring };
    scenario.with(wiring).fails("session forgotten at the receipt, as users see it", Broken::WrongOutcome);
}

#[test]
fn a_message_written_before_its_cursor() {
    let wiring = Wiring { transaction: Transaction::MessageThenCursor, ..SHIPPING };
    Scenario::new(Budget { crashes: 1, ..QUIET })
        .with(wiring)
        .fails("message, then cursor", Broken::CommittedTwice);
}

#[test]
fn a_cursor_written_before_its_message() {
    let wiring = Wiring { transaction: Transaction::CursorThenMessage, ..SHIPPING };
    Scenario::new(Budget { crashes: 1, ..QUIET })
        .with(wiring)
        .fails("cursor, then message", Broken::AcknowledgedIsLost);
}

/// A message that WELCOME has not covered is taken back, and the zombie that still carries it commits it.
#[test]
fn a_commit_that_ignores_the_epoch() {
    let wiring = Wiring { is_epoch_ignored: true, is_known_by_number: true, ..SHIPPING };
    Scenario::new(Budget { cuts: 1, withdrawals: 1, ..QUIET })
        .with(wiring)
        .fails("no epoch, a message taken back", Broken::RefusedIsCommitted);
}

/// Even with payloads that stay the same: the zombie moves the cursor past what the new connection has sent,
/// so that a receipt with the cursor names a number that was never sent on it.
#[test]
fn a_commit_that_ignores_the_epoch_with_receipts_by_the_cursor() {
    let wiring = Wiring { is_epoch_ignored: true, ..SHIPPING };
    Scenario::new(Budget { cuts: 1, ..QUIET }).with(wiring).fails("no epoch", Broken::Accused);
}

#[test]
fn a_removal_that_does_not_compare() {
    let wiring = Wiring { is_removal_blind: true, ..SHIPPING };
    Scenario::new(Budget { cuts: 1, expiries: 1, ..QUIET })
        .with(wiring)
        .fails("removal without comparing", Broken::ForgottenTooEarly);
}

#[test]
fn a_session_number_used_again() {
    let wiring = Wiring { is_number_reused: true, ..SHIPPING };
    Scenario::new(Budget { cuts: 2, expiries: 1, ..QUIET })
        .with(wiring)
        .fails("a session's number used again", Broken::LockedOut);
    let wiring = Wiring { tokens: Tokens::Unchecked, is_forgetting_unwatched: true, ..wiring };
    Scenario::new(Budget { cuts: 2, expiries: 1, ..QUIET })
        .with(wiring)
        .fails("a session's number used again, without tokens", Broken::AcknowledgedIsLost);
}

/// The cursor covers a refused message like a committed one. If nothing else is left of the refusal when
/// its connection ends, WELCOME says "committed".
#[test]
fn a_refusal_that_is_not_kept() {
    let wiring = Wiring { refusing: Refusing::PassedOver, ..SHIPPING };
    Scenario::new(Budget { cuts: 1, refusals: 1, ..QUIET })
        .with(wiring)
        .fails("a refusal that is not kept", Broken::AcknowledgedIsLost);
}

const CROWDED: Wiring = Wiring { is_crowded: true, ..SHIPPING };

/// The confirmation that would make room stands behind a message that is not read.
#[test]
fn a_gateway_that_stops_reading_until_refusals_are_confirmed() {
    let wiring = Wiring { holding: Holding::StopsReading, ..CROWDED };
    Scenario::new(Budget { messages: 3, refusals: 2, ..QUIET })
        .with(wiring)
        .fails("no reading while refusals are unconfirmed", Broken::NoOutcome);
}

#[test]
fn a_message_that_overtakes_one_that_waits() {
    let wiring = Wiring { holding: Holding::Overtaken, ..CROWDED };
    Scenario::new(Budget { messages: 3, refusals: 2, ..QUIET })
        .with(wiring)
        .fails("a message that overtakes one that waits", Broken::Accused);
}

/// What waits is judged after a new connection has attached, and the client has taken the message back by then.
#[test]
fn a_message_that_waits_longer_than_its_connection() {
    let wiring = Wiring { is_epoch_ignored: true, is_known_by_number: true, ..CROWDED };
    Scenario::new(Budget { messages: 3, cuts: 1, refusals: 2, withdrawals: 1, ..QUIET })
        .with(wiring)
        .fails("a message that waits longer than its connection", Broken::RefusedIsCommitted);
}

#[test]
fn a_loss_that_is_told_once() {
    let wiring = Wiring { is_loss_told_once: true, ..SHIPPING };
    Scenario::new(Budget { messages: 2, cuts: 1, losses: 1, ..QUIET })
        .with(wiring)
        .fails("a loss that is told once", Broken::LossUntold);
}

/// Two WELCOMEs lost in a row: the token that the client holds is the one before the one before.
#[test]
fn a_token_before_the_newest_that_the_client_never_got() {
    let wiring = Wiring { tokens: Tokens::NewestAndBefore, ..SHIPPING };
    Scenario::new(Budget { messages: 1, cuts: 3, ..QUIET })
        .with(wiring)
        .fails("newest token and the one before", Broken::LockedOut);
}

/// An older connection's HELLO is read after the newer one's, and what it is given takes the place of the
/// token that the client holds.
#[test]
fn a_token_that_takes_the_place_of_one_unproven() {
    let wiring = Wiring { tokens: Tokens::NewestAndShown, ..SHIPPING };
    Scenario::new(Budget { messages: 1, cuts: 3, ..QUIET })
        .with(wiring)
        .fails("newest token and the one shown for it", Broken::LockedOut);
}

/// An older connection's HELLO is read after the newer one's, and replaces it. A client that doesn't come
/// back from BYE "replaced" waits for ever.
#[test]
fn a_client_that_stays_away_when_replaced() {
    let wiring = Wiring { is_replaced_final: true, ..SHIPPING };
    Scenario::new(Budget { messages: 1, cuts: 2, ..QUIET })
        .with(wiring)
        .fails("replaced for good", Broken::NoOutcome);
}
