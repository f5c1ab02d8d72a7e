//! The same random requests to three backends: one with everything in memory, one that looks up what it is asked for and
//! writes at once what is to be done, and one that does so batches later. They say the same, and what they hold at the end
//! is the same. Judges no rule.

#[path = "../common/mod.rs"]
mod common;

mod backend;
mod requests;
mod searching;

use backend::Backend;
use pulsegate_sessions::{Committed, Memory, Rules, Unjudged};
use requests::Requests;
use std::collections::BTreeSet;

/// So little that all limits are met.
const RULES: Rules = Rules {
    keeps_messages: true,
    sessions_max: 6,
    sessions_of_source_max: 4,
    sessions_open: 5,
    sessions_few: 2,
    message_bytes_max: 8,
    quota_bytes: 2_000,
    quota_every_ms: 400,
    outgoing_messages_max: 6,
    outgoing_bytes_max: 24,
    outgoing_bytes_of_source: 40,
    outgoing_bytes_of_all: 60,
    kept_of_session: Some(3_000),
    kept_of_source: Some(5_000),
};

/// What the runs have come to, by the names of replies, effects and losses.
fn run(seed: u64, seen: &mut BTreeSet<String>) {
    let mut requests = Requests::new(seed);
    let mut unjudged = Unjudged::new(4_000);
    let mut memory = Memory::new(RULES, 0, 0);
    let mut eager = Vec::new();
    let mut backends = [Backend::new(RULES, 0, 0), Backend::new(RULES, 0, 2), Backend::new(RULES, 3, 5)];
    for _ in 0..120 {
        if let Some(uptime_ms) = requests.pass_time() {
            memory.handle_tick(uptime_ms);
            backends.iter_mut().for_each(|backend| backend.handle_tick(uptime_ms));
        }
        let batch = unjudged.sort(requests.next_batch());
        backends.iter_mut().for_each(|backend| backend.commit(&batch));
        let committed = memory.commit(&batch);
        requests.handle_replies(&committed.replies);
        unjudged.handle_commit(batch, &committed.held);
        unjudged.take_ended();
        eager.push(committed);
    }
    let count = memory.count();
    for mut backend in backends {
        let rows = backend.finish();
        for (number, (eager, lazy)) in eager.iter().zip(&backend.done).enumerate() {
            let place = format!("seed {seed}, batch {number}");
            let Committed { replies, messages, held, losses } = eager;
            assert_eq!(*replies, lazy.replies, "{place}");
            assert_eq!((messages, held), (&lazy.messages, &lazy.held), "{place}");
            assert_eq!(*losses, lazy.losses, "{place}");
        }
        assert_eq!(rows.sums().sessions, count, "seed {seed}");
        assert_eq!(rows.sums().outgoing_bytes, memory.outgoing_bytes(), "seed {seed}");
        for number in 1..=rows.newest {
            assert_eq!(rows.session(number), memory.session(number), "seed {seed}, session {number}");
        }
    }
    let name = |text: String| text.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
    for Committed { replies, losses, held, .. } in &eager {
        seen.extend(replies.iter().map(|reply| name(format!("{reply:?}"))));
        seen.extend(losses.iter().map(|loss| format!("loss: {}", name(format!("{loss:?}")))));
        seen.extend((!held.is_empty()).then(|| "held".to_owned()));
    }
}

#[test]
fn backends_say_and_keep_the_same() {
    let mut seen = BTreeSet::new();
    (0..300).for_each(|seed| run(seed, &mut seen));
    let all = [
        "AttachRefused",
        "Attached",
        "Committed",
        "Detached",
        "Ended",
        "Expired",
        "Loaded",
        "Orphaned",
        "PushRefused",
        "Pushed",
        "Refused",
        "Resting",
        "held",
        "loss: Acknowledged",
        "loss: Append",
        "loss: Expired",
        "loss: Push",
    ];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), all, "all of it has happened");
}
