//! What was probably meant by a key that there is not.

use pulsegate::config::keys::{GATEWAY, LISTENER, STORE};
use pulsegate::config::{Misfit, Place};

/// A key that is no longer than this is compared with the known ones.
const KEY_LENGTH_MAX: usize = 64;
/// The most keys that are proposed.
const PROPOSED_MAX: usize = 3;
/// Parts of a key that are shorter say nothing.
const PART_LENGTH_MIN: usize = 3;

/// Keys that had another name, and the one that they have.
const RENAMED: [(&str, &str); 23] = [
    ("max_age", "age_max"),
    ("max_connections", "connections_max"),
    ("max_newcomers", "newcomers_max"),
    ("max_per_address", "connections_per_address_max"),
    ("max_sessions", "sessions_max"),
    ("max_sessions_per_address", "sessions_per_address_max"),
    ("accept_rate", "accept_rate_max"),
    ("outgoing_bytes_in_all", "outgoing_bytes_in_all_max"),
    ("outgoing_bytes_per_address", "outgoing_bytes_per_address_max"),
    ("quota_bytes", "quota_bytes_max"),
    ("retention_age", "retention_age_max"),
    ("retention_bytes", "retention_bytes_max"),
    ("retention_bytes_per_address", "retention_bytes_per_address_max"),
    ("retention_bytes_per_session", "retention_bytes_per_session_max"),
    ("window_bytes", "window_bytes_max"),
    ("window_messages", "window_messages_max"),
    ("first_message", "first_message_timeout"),
    ("flush", "flush_timeout"),
    ("half_close", "half_close_timeout"),
    ("linger", "linger_timeout"),
    ("session_ttl", "session_timeout"),
    ("sink_stall", "sink_timeout"),
    ("write_stall", "write_timeout"),
];

/// The names of the keys that belong to a place.
fn known(place: Place) -> Vec<&'static str> {
    match place {
        Place::Gateway => GATEWAY.iter().map(|key| key.name).chain(["store", "listener"]).collect(),
        Place::Store => STORE.iter().map(|key| key.name).collect(),
        Place::Listener(_) => LISTENER.iter().map(|key| key.name).collect(),
    }
}

/// Where else a key could belong, and what is said of one that does.
const ELSEWHERE: [(Place, &str); 3] = [
    (Place::Gateway, "it is a key of the whole gateway: put it above the first [store] or [[listener]]"),
    (Place::Store, "it is a key of the store: put it below [store]"),
    (Place::Listener(0), "it is a key of a listener: put it below a [[listener]]"),
];

/// What is said of a key that this place has not.
pub(crate) fn unknown(place: Place, name: &str) -> Misfit {
    let problem = format!("unknown key `{name}`");
    if let Some((_, fix)) = ELSEWHERE.iter().find(|(other, _)| known(*other).contains(&name)) {
        return Misfit::new(problem, *fix);
    }
    if let Some((_, new)) = RENAMED.iter().find(|(old, _)| *old == name) {
        return Misfit::new(format!("`{name}` has another name now"), format!("write `{new}`"));
    }
    let near = nearest(name, &known(place));
    let fix = match near.as_slice() {
        [] => "docs/reference.md has all keys".to_owned(),
        [key] => format!("did you mean `{key}`?"),
        [keys @ .., last] => format!("did you mean `{}` or `{last}`?", keys.join("`, `")),
    };
    Misfit::new(problem, fix)
}

/// The keys that were probably meant, the nearest first.
fn nearest(name: &str, known: &[&'static str]) -> Vec<&'static str> {
    if name.len() > KEY_LENGTH_MAX {
        return Vec::new();
    }
    let name = name.to_lowercase().replace('-', "_");
    let parts: Vec<&str> = name.split('_').filter(|part| part.len() >= PART_LENGTH_MIN).collect();
    let mut near: Vec<(usize, usize, &str)> = Vec::new();
    for key in known {
        let distance = edits(&name, key);
        // A plural is the same word.
        let is_shared =
            |part: &&str| parts.iter().any(|other| part.trim_end_matches('s') == other.trim_end_matches('s'));
        let (shared, own) = (key.split('_').filter(is_shared).count(), key.split('_').count());
        if distance <= 1.max(key.len() / 4) {
            near.push((0, distance, key));
        } else if shared > 0 {
            near.push((usize::MAX - shared, own - shared, key));
        }
    }
    // Of those that are as near, the first of the table.
    near.sort_by_key(|(rank, distance, _)| (*rank, *distance));
    // A slip of the pen leaves no doubt about what was meant.
    if let Some((0, least, _)) = near.first().copied() {
        near.retain(|(rank, distance, _)| *rank == 0 && *distance <= least + 1);
    }
    near.into_iter().take(PROPOSED_MAX).map(|(_, _, key)| key).collect()
}

/// How many characters have to be put in, taken out or changed to make one text of the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, letter) in from.chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (column, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulsegate::config::keys::Kind;

    #[test]
    fn edits_are_counted() {
        for (from, to, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("max-age", "max_age", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edits(from, to), count, "{from} {to}");
            assert_eq!(edits(to, from), count, "{to} {from}");
        }
    }

    #[test]
    fn a_key_that_was_renamed_is_refused_with_its_new_name() {
        for (old, new) in RENAMED {
            let is_known = |name| ELSEWHERE.iter().any(|(place, _)| known(*place).contains(&name));
            assert!(is_known(new) && !is_known(old), "{old}");
            let said = unknown(Place::Listener(0), old);
            assert_eq!(said.problem, format!("`{old}` has another name now"));
        }
        let limits = GATEWAY.iter().map(|key| (key.name, &key.kind));
        let limits = limits.chain(STORE.iter().map(|key| (key.name, &key.kind)));
        let limits = limits.chain(LISTENER.iter().map(|key| (key.name, &key.kind)));
        for (name, _) in limits.filter(|(_, kind)| matches!(kind, Kind::Size(_) | Kind::Count(_))) {
            let is_no_limit = ["shards", "minimum_rate", "wal_bytes"].contains(&name);
            assert!(name.ends_with("_max") || is_no_limit, "{name}");
        }
    }

    #[test]
    fn the_nearest_few_are_proposed() {
        let listener = known(Place::Listener(0));
        assert_eq!(nearest("heartbeat_timout", &listener), ["heartbeat_timeout"]);
        assert_eq!(nearest("age-max", &listener), ["age_max"]);
        assert_eq!(nearest("Age_Max", &listener), ["age_max"]);
        let timeouts = ["heartbeat_timeout", "write_timeout", "sink_timeout"];
        assert_eq!(nearest("timeout", &listener), timeouts);
        assert_eq!(nearest("colour", &listener), [""; 0]);
        assert_eq!(nearest(&"x".repeat(100_000), &listener), [""; 0]);
    }
}
