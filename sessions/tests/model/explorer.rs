//! An exhaustive breadth-first search over the states of a model: every interleaving of its steps, and the
//! shortest way to a state that must not be. Knows nothing of what the model is about.
//!
//! Visited states are kept as fingerprints of 128 bits, the frontier in full. Two different states with one
//! fingerprint would hide each other; among ten million states that has a chance below 1 in 10^24.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// Whether a step is one that the surroundings owe us, or one that they may spare us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Happens sooner or later if nothing else does.
    Owed,
    /// May happen: a fault, an expiry.
    Fault,
}

/// What the explorer asks of a model.
pub(crate) trait Model {
    /// A whole state of the world.
    type State: Clone + Hash;
    /// One thing that can happen.
    type Step: Copy + Debug;
    /// What is broken when something is.
    type Fault: Copy + Debug + PartialEq;

    /// Where everything begins.
    fn initial(&self) -> Self::State;
    /// What can happen next.
    fn steps(&self, state: &Self::State, steps: &mut Vec<(Kind, Self::Step)>);
    /// Makes it happen.
    fn take(&mut self, state: &mut Self::State, step: Self::Step) -> Result<(), Self::Fault>;
    /// What must hold; `is_still` if no owed step is left.
    fn check(&self, state: &Self::State, is_still: bool) -> Result<(), Self::Fault>;
    /// What is broken when owed steps go round in a circle.
    fn circle(&self) -> Self::Fault;
}

/// What an exploration has found.
#[derive(Debug)]
pub(crate) struct Exploration<M: Model> {
    /// Different states.
    pub(crate) states: usize,
    /// Steps taken between them.
    pub(crate) transitions: usize,
    /// Steps on the longest of all shortest ways.
    pub(crate) depth: usize,
    /// The first violation, and a shortest way to it.
    pub(crate) violation: Option<(M::Fault, Vec<M::Step>)>,
}

/// Explores everything, or up to the first violation.
///
/// # Panics
/// If there are more than `states_max` states: the bounds of the model are too wide.
pub(crate) fn explore<M: Model>(model: &mut M, states_max: usize) -> Exploration<M> {
    let mut search = Search::<M>::new(model.initial());
    let mut steps = Vec::new();
    let mut violation = None;
    while let Some((from, state)) = search.frontier.pop_front() {
        steps.clear();
        model.steps(&state, &mut steps);
        let is_still = steps.iter().all(|(kind, _)| *kind == Kind::Fault);
        if let Err(fault) = model.check(&state, is_still) {
            violation = Some((fault, search.trace(from)));
            break;
        }
        for &(kind, step) in &steps {
            let mut next = state.clone();
            if let Err(fault) = model.take(&mut next, step) {
                let mut trace = search.trace(from);
                trace.push(step);
                violation = Some((fault, trace));
                break;
            }
            search.reach(from, kind, step, next);
        }
        if violation.is_some() {
            break;
        }
        assert!(search.parents.len() <= states_max, "more than {states_max} states");
    }
    if violation.is_none() {
        violation = search.circle().map(|state| (model.circle(), search.trace(state)));
    }
    let deepest = search.parents.len() - 1;
    Exploration {
        states: search.parents.len(),
        transitions: search.transitions,
        depth: search.trace(deepest).len(),
        violation,
    }
}

/// What is known so far. States are numbered in the order in which they were found.
struct Search<M: Model> {
    seen: HashMap<u128, u32, BuildHasherDefault<Folded>>,
    /// Whence each state was first reached; the first state has none.
    parents: Vec<Option<(u32, M::Step)>>,
    frontier: VecDeque<(usize, M::State)>,
    /// Owed steps, from and to.
    owed: Vec<(u32, u32)>,
    transitions: usize,
}

impl<M: Model> Search<M> {
    fn new(initial: M::State) -> Self {
        let mut seen = HashMap::default();
        seen.insert(fingerprint(&initial), 0);
        let frontier = VecDeque::from([(0, initial)]);
        Self { seen, parents: vec![None], frontier, owed: Vec::new(), transitions: 0 }
    }

    fn reach(&mut self, from: usize, kind: Kind, step: M::Step, next: M::State) {
        let number = u32::try_from(self.parents.len()).expect("fewer states than that");
        let from = u32::try_from(from).expect("fewer states than that");
        let to = *self.seen.entry(fingerprint(&next)).or_insert(number);
        self.transitions += 1;
        if kind == Kind::Owed {
            self.owed.push((from, to));
        }
        if to == number {
            self.parents.push(Some((from, step)));
            self.frontier.push_back((number as usize, next));
        }
    }

    fn trace(&self, mut state: usize) -> Vec<M::Step> {
        let mut steps = Vec::new();
        while let Some((parent, step)) = self.parents[state] {
            steps.push(step);
            state = parent as usize;
        }
        steps.reverse();
        steps
    }

    /// A state from which owed steps alone lead back to it, or into a circle. If there is none, each run of
    /// owed steps ends, and it is enough to have looked at the states in which none is left.
    fn circle(&self) -> Option<usize> {
        let mut ways_out = vec![0_u32; self.parents.len()];
        let mut ways_in: Vec<Vec<u32>> = vec![Vec::new(); self.parents.len()];
        for &(from, to) in &self.owed {
            ways_out[from as usize] += 1;
            ways_in[to as usize].push(from);
        }
        let mut ended: Vec<usize> = (0..ways_out.len()).filter(|&state| ways_out[state] == 0).collect();
        while let Some(state) = ended.pop() {
            for &before in &ways_in[state] {
                ways_out[before as usize] -= 1;
                if ways_out[before as usize] == 0 {
                    ended.push(before as usize);
                }
            }
        }
        ways_out.iter().position(|&ways| ways > 0)
    }
}

fn fingerprint(state: &impl Hash) -> u128 {
    let mut lanes = Lanes { low: 0x243f_6a88_85a3_08d3, high: 0x1319_8a2e_0370_7344 };
    state.hash(&mut lanes);
    (u128::from(mixed(lanes.high)) << 64) | u128::from(mixed(lanes.low))
}

/// Two independent hashes side by side. The standard hasher gives 64 bits only, and costs more.
struct Lanes {
    low: u64,
    high: u64,
}

impl Lanes {
    const fn take(&mut self, word: u64) {
        self.low = mixed(self.low ^ word);
        self.high = (self.high.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.high ^= self.high >> 29;
    }
}

impl Hasher for Lanes {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.take(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.take(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.take(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.take(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.take(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.take(word.cast_unsigned() as u64);
    }

    fn finish(&self) -> u64 {
        self.low
    }
}

/// The finalizer of `SplitMix64`.
const fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A fingerprint is hashed already: half of it is as good as all of it for finding a place in a table.
#[derive(Default)]
struct Folded(u64);

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |folded, byte| mixed(folded ^ u64::from(*byte)));
    }

    fn write_u128(&mut self, word: u128) {
        self.0 = (word >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Searches of a model that counts to three and, where it may, back.
#[cfg(test)]
mod tests {
    use super::*;

    struct Counting {
        goes_back: bool,
        forbidden: Option<u8>,
    }

    impl Model for Counting {
        type State = u8;
        type Step = u8;
        type Fault = &'static str;

        fn initial(&self) -> u8 {
            0
        }

        fn steps(&self, state: &u8, steps: &mut Vec<(Kind, u8)>) {
            steps.extend((*state < 3).then_some((Kind::Owed, state + 1)));
            steps.extend((self.goes_back && *state == 2).then_some((Kind::Owed, 1)));
            steps.push((Kind::Fault, 0));
        }

        fn take(&mut self, state: &mut u8, step: u8) -> Result<(), &'static str> {
            *state = step;
            Ok(())
        }

        fn check(&self, state: &u8, is_still: bool) -> Result<(), &'static str> {
            if self.forbidden == Some(*state) {
                return Err("forbidden");
            }
            if is_still == (*state == 3) { Ok(()) } else { Err("still") }
        }

        fn circle(&self) -> &'static str {
            "circle"
        }
    }

    #[test]
    fn every_state_is_found_and_faults_are_no_circle() {
        let found = explore(&mut Counting { goes_back: false, forbidden: None }, 9);
        assert_eq!((found.states, found.transitions, found.depth), (4, 7, 3));
        assert_eq!(found.violation, None);
    }

    #[test]
    fn the_shortest_way_to_a_violation_is_told() {
        let found = explore(&mut Counting { goes_back: true, forbidden: Some(2) }, 9);
        assert_eq!(found.violation, Some(("forbidden", vec![1, 2])));
    }

    #[test]
    fn a_circle_of_owed_steps_is_a_violation() {
        let found = explore(&mut Counting { goes_back: true, forbidden: None }, 9);
        assert_eq!(found.violation.map(|(fault, _)| fault), Some("circle"));
    }
}
