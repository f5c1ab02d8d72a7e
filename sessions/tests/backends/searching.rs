//! What is saved before a search.

use crate::RULES;
use pulsegate_core::policy::SecondConnection;
use pulsegate_sessions::{
    Attach, Effect, Holding, Moment, Need, Part, Request, Rules, Seat, Sessions, Source, Sums,
};
use std::time::Duration;

fn attach(ticket: u128, client: &str) -> Request {
    Request::Attach(Box::new(Attach {
        ticket,
        client: client.to_owned(),
        source: 1,
        resume: None,
        token: [7; 16],
        second: SecondConnection::Refuse,
        message_bytes_max: 8,
        told_bytes_max: 8,
        now: Moment::default(),
        time_to_live: Duration::from_secs(1),
    }))
}

/// Handles a request; nothing is stored. Returns what is saved before a search.
fn handle(sessions: &mut Sessions, request: &Request, effects: &mut Vec<Effect>) -> Vec<Effect> {
    let mut saved = Vec::new();
    while let Err(need) = sessions.handle(0, request, effects) {
        sessions.save_for(&need, &mut saved);
        match need {
            Need::Attached { .. } => sessions.put_attached(false),
            Need::Source(source) => sessions.put_source(source, Holding::default()),
            Need::Session(_)
            | Need::Newest(_)
            | Need::Unused(_)
            | Need::Outgoing { .. }
            | Need::Expired { .. } => panic!("not to be looked up: {need:?}"),
        }
    }
    saved
}

#[test]
fn an_attach_has_no_session_saved_in_which_only_messages_came() {
    let mut sessions =
        Sessions::new(Rules { sessions_of_source_max: 6, sessions_few: 6, ..RULES }, Sums::default());
    let mut effects = Vec::new();
    let saved = handle(&mut sessions, &attach(1, "a"), &mut effects);
    assert_eq!(saved, [], "nothing was there before");
    let saved = handle(&mut sessions, &attach(2, "b"), &mut effects);
    assert_eq!(saved, [Effect::Save(1, Part::New)]);
    let message = |number| Request::Message {
        seat: Seat::new(1, 1, 1),
        number,
        received_at_ms: 0,
        payload: [1].into(),
    };
    handle(&mut sessions, &message(1), &mut effects);
    let saved = handle(&mut sessions, &attach(3, "c"), &mut effects);
    assert_eq!(saved, [Effect::Save(2, Part::New), Effect::Save(1, Part::Connection)], "it is used now");
    handle(&mut sessions, &message(2), &mut effects);
    let saved = handle(&mut sessions, &attach(4, "d"), &mut effects);
    assert_eq!(saved, [Effect::Save(3, Part::New)]);
    effects.clear();
    sessions.save(&mut effects);
    let source: Source = 1;
    let counted = Holding { sessions: 4, message_bytes: 2 * (64 + 1 + 1), outgoing_bytes: 0 };
    let rest =
        [Effect::Save(1, Part::Cursor), Effect::Save(4, Part::New), Effect::SaveSource(source, counted)];
    assert_eq!(effects, rest);
}
