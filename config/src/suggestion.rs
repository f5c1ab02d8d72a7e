//! What was probably meant by a key that there is not.

use pulsegate::config::keys::{GATEWAY, LISTENER, STORE};
use pulsegate::config::{Misfit, Place};

/// A key that is no longer than this is compared with the known ones.
const KEY_LENGTH_MAX: usize = 64;
/// The most keys that are proposed.
const PROPOSED_MAX: usize = 3;
/// Parts of a key that are shorter say nothing.
const PART_LENGTH_MIN: usize = 3;

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
        let shared = key.split('_').filter(|part| parts.contains(part)).count();
        if distance <= 1.max(key.len() / 4) {
            near.push((0, distance, key));
        } else if shared > 0 {
            near.push((usize::MAX - shared, distance, key));
        }
    }
    near.sort_unstable();
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
    fn the_nearest_few_are_proposed() {
        let listener = known(Place::Listener(0));
        assert_eq!(nearest("heartbeat_timout", &listener), ["heartbeat_timeout"]);
        assert_eq!(nearest("max-age", &listener), ["max_age"]);
        assert_eq!(nearest("Max_Age", &listener), ["max_age"]);
        let timeouts = ["user_timeout", "heartbeat_timeout", "heartbeat_timeout_max"];
        assert_eq!(nearest("timeout", &listener), timeouts);
        assert_eq!(nearest("colour", &listener), [""; 0]);
        assert_eq!(nearest(&"x".repeat(100_000), &listener), [""; 0]);
    }
}
