//! What must hold, each time with other things that go wrong. Each test also demands that what it is about
//! has happened: a check of a world in which nothing happens proves nothing.

use crate::scenario::Scenario;
use crate::wiring::{Forgetting, Tokens, Wiring};
use crate::world::Budget;

const QUIET: Budget = Budget::QUIET;
const SHIPPING: Wiring = Wiring::SHIPPING;

#[test]
fn when_connections_are_cut() {
    let sights = Scenario::new(Budget { messages: 3, cuts: 2, ..QUIET }).holds("two cuts");
    assert!(sights.sent_again > 0, "a message is sent again because its receipt, or itself, was lost");
    assert!(sights.settled_by_welcome > 0, "a receipt is lost, and WELCOME makes up for it");
    assert!(sights.read_from_zombie > 0 && sights.stale > 0, "a zombie's message comes too late");
    assert!(sights.client_replaced > 0, "an older connection attaches after a newer one");
    assert_eq!(
        sights.known, 0,
        "with the epoch in force, no message comes a second time as far as a verdict"
    );
}

#[test]
fn when_the_gateway_crashes() {
    let sights = Scenario::new(Budget { cuts: 2, crashes: 1, ..QUIET }).holds("two cuts, a crash");
    assert!(sights.crashed_with_queue > 0 && sights.sent_again > 0 && sights.stale > 0);
    let sights = Scenario::new(Budget { cuts: 1, crashes: 2, ..QUIET }).holds("a cut, two crashes");
    assert!(sights.crashed_with_queue > 0 && sights.settled_by_welcome > 0);
}

#[test]
fn when_the_client_restarts_from_its_outbox() {
    let budget = Budget { cuts: 1, crashes: 1, restarts: 1, ..QUIET };
    let sights = Scenario::new(budget).holds("a cut, a crash, a restart");
    assert!(sights.sent_again > 0 && sights.settled_by_welcome > 0);
    assert!(
        sights.unknown == 0 || sights.unheard > 0,
        "an outbox knows every outcome while the session lives"
    );
}

#[test]
fn when_the_client_restarts_without_an_outbox() {
    let budget = Budget { cuts: 1, crashes: 1, restarts: 1, ..QUIET };
    let wiring = Wiring { has_outbox: false, ..SHIPPING };
    let sights = Scenario::new(budget).with(wiring).holds("a cut, a crash, a restart without outbox");
    assert!(sights.unknown > 0 && sights.stale > 0);
}

#[test]
fn when_the_session_expires() {
    let budget = Budget { cuts: 2, crashes: 1, expiries: 1, ..QUIET };
    let sights = Scenario::new(budget).holds("two cuts, a crash, an expiry");
    assert!(sights.expired_in_flight > 0 && sights.unknown > 0, "something was in flight when it expired");
    assert!(sights.removal_refused > 0, "it was attached again before it could be removed");
}

#[test]
fn when_the_client_says_goodbye() {
    let budget = Budget { cuts: 2, expiries: 1, goodbyes: 1, ..QUIET };
    let sights = Scenario::new(budget).holds("two cuts, an expiry, a goodbye");
    assert!(sights.forgotten_at_goodbye > 0 && sights.removal_refused > 0);
}

#[test]
fn when_all_of_it_happens_once() {
    let budget = Budget { messages: 1, cuts: 1, crashes: 1, restarts: 1, expiries: 1, goodbyes: 1, ..QUIET };
    let sights = Scenario::new(budget).holds("one of everything");
    assert!(sights.forgotten_at_goodbye > 0 && sights.expired_in_flight > 0 && sights.stale > 0);
}

/// What WELCOME doesn't cover is not committed, and will not be unless it is sent again. So the client may
/// take it back then.
#[test]
fn when_the_client_takes_a_message_back_at_welcome() {
    let budget = Budget { cuts: 2, withdrawals: 1, ..QUIET };
    let sights = Scenario::new(budget).holds("two cuts, a message taken back");
    assert!(sights.withdrawn > 0 && sights.stale > 0);
}

/// A WELCOME that is lost leaves a client with the token before the newest.
#[test]
fn when_welcomes_are_lost() {
    let wiring = Wiring { beats_first: true, ..SHIPPING };
    let budget = Budget { messages: 1, cuts: 3, ..QUIET };
    let sights = Scenario::new(budget).with(wiring).holds("three cuts, one message");
    assert!(sights.token_before > 0, "the token before the newest opens the session");
    assert!(sights.token_refused > 0, "an old connection's HELLO comes too late");
    assert!(sights.unheard > 0 && sights.unknown > 0, "nothing has come in a session before it is cut");
}

/// What keeps the exchange sound is no token: more can happen without them, and all of it holds.
#[test]
fn when_any_token_opens_a_session() {
    let wiring = Wiring { tokens: Tokens::Unchecked, ..SHIPPING };
    let sights = Scenario::new(Budget { cuts: 2, crashes: 1, ..QUIET })
        .with(wiring)
        .holds("two cuts, a crash, no tokens");
    assert!(sights.sent_again > 0 && sights.stale > 0 && sights.token_refused == 0);
}

/// What waits is committed one by one, or together.
#[test]
fn when_the_committer_takes_all_that_waits() {
    let wiring = Wiring { has_batches: true, ..SHIPPING };
    let budget = Budget { cuts: 1, crashes: 1, expiries: 1, goodbyes: 1, ..QUIET };
    let sights = Scenario::new(budget).with(wiring).holds("batches: a cut, a crash, an expiry, a goodbye");
    assert!(sights.batched > 0 && sights.stale > 0 && sights.removal_refused > 0);
    let wiring = Wiring { is_crowded: true, ..wiring };
    let sights = Scenario::new(Budget { messages: 3, cuts: 1, refusals: 2, ..QUIET })
        .with(wiring)
        .holds("batches: a cut, more refusals than may stand");
    assert!(sights.batched > 0 && sights.held > 0 && sights.held_behind > 0 && sights.released > 0);
}

#[test]
fn when_a_message_is_refused() {
    let sights = Scenario::new(Budget { cuts: 2, refusals: 1, ..QUIET }).holds("two cuts, a refusal");
    assert!(sights.refused > 0 && sights.settled_by_welcome > 0);
    assert_eq!(sights.known, 0, "nothing is sent again only to learn its fate");
    let budget = Budget { crashes: 1, expiries: 1, refusals: 1, ..QUIET };
    let sights = Scenario::new(budget).holds("a crash, an expiry, a refusal");
    assert!(sights.refused > 0 && sights.expired_in_flight > 0);
}

/// More refusals in flight than may stand unconfirmed: what is behind them waits for the confirmation, which stands
/// behind further messages.
#[test]
fn when_there_are_more_refusals_than_may_stand_unconfirmed() {
    let wiring = Wiring { is_crowded: true, ..SHIPPING };
    let sights = Scenario::new(Budget { messages: 3, cuts: 1, refusals: 2, ..QUIET })
        .with(wiring)
        .holds("a cut, more refusals than may stand");
    assert!(sights.held > 0 && sights.held_behind > 0 && sights.released > 0);
    let sights = Scenario::new(Budget { messages: 2, crashes: 1, refusals: 2, ..QUIET })
        .with(wiring)
        .holds("a crash, more refusals than may stand");
    assert!(sights.held > 0 && sights.released > 0);
}

/// A disk that was restored: what was acknowledged and is gone is named until the client is known to have heard so,
/// however many WELCOMEs are lost.
#[test]
fn when_what_was_acknowledged_is_lost_and_so_is_the_welcome_that_says_it() {
    let sights = Scenario::new(Budget { messages: 2, cuts: 2, losses: 1, ..QUIET }).holds("two cuts, a loss");
    assert!(sights.lost > 0 && sights.lost_again > 0 && sights.sent_again > 0);
    let sights =
        Scenario::new(Budget { messages: 3, cuts: 1, losses: 2, ..QUIET }).holds("a cut, two losses");
    assert!(sights.lost > 0 && sights.lost_again > 0);
}

/// The third leg alone lets the receiver forget, even the cursor of a session that lives on: HELLO names it
/// again. Tokens keep an old connection's HELLO from naming an old one.
#[test]
fn when_the_cursor_is_forgotten_at_the_confirmation() {
    let wiring = Wiring { forgetting: Forgetting::CursorAtConfirm, ..SHIPPING };
    let sights = Scenario::new(Budget { cuts: 2, crashes: 1, ..QUIET })
        .with(wiring)
        .holds("two cuts, a crash, the cursor forgotten at the confirmation");
    assert!(sights.settled_by_welcome > 0 && sights.token_refused > 0);
}

/// As long as the client sends the same payload under the same number, the demand that a number is the next
/// one does the epoch's work, if a known message is receipted with its own number. The epoch is for clients
/// that don't (`broken::a_commit_that_ignores_the_epoch`).
#[test]
fn when_the_epoch_is_ignored_and_payloads_stay_the_same() {
    let wiring = Wiring { is_epoch_ignored: true, is_known_by_number: true, ..SHIPPING };
    let sights = Scenario::new(Budget { cuts: 2, crashes: 1, ..QUIET })
        .with(wiring)
        .holds("two cuts, a crash, no epoch");
    assert!(sights.known > 0);
}
