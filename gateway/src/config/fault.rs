//! What is wrong with settings: which key, where, what to do. Whoever read them from a file or from flags shows it in
//! the words of those; here nothing is known of either.

use std::fmt;

/// A value that its key doesn't take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {fix}")]
pub struct Misfit {
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub fix: String,
}

impl Misfit {
    /// A misfit in these words.
    pub fn new(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { problem: problem.into(), fix: fix.into() }
    }
}

/// Where a key belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// To the gateway as a whole.
    Gateway,
    /// To the store.
    Store,
    /// To the listener with this number, from 0.
    Listener(usize),
}

/// A setting that can't be kept, or contradicts another. Keys stand in backticks in what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where the key belongs.
    pub place: Place,
    /// The key at fault, as files write it.
    pub key: &'static str,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub fix: String,
}

impl Fault {
    /// A fault in these words.
    pub fn new(place: Place, key: &'static str, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { place, key, problem: problem.into(), fix: fix.into() }
    }

    /// The same misfit, of a key.
    #[must_use]
    pub fn of(place: Place, key: &'static str, misfit: Misfit) -> Self {
        Self { place, key, problem: misfit.problem, fix: misfit.fix }
    }

    /// The other keys that it speaks of.
    pub fn mentioned(&self) -> impl Iterator<Item = &str> {
        [&self.problem, &self.fix].into_iter().flat_map(|text| text.split('`').skip(1).step_by(2))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.problem, self.fix)
    }
}

/// All that is wrong with settings; never empty where it is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Adds a fault, unless something is wrong with the same key already: what follows from that would only confuse.
    pub(crate) fn push(&mut self, fault: Fault) {
        if !self.0.iter().any(|known| (known.place, known.key) == (fault.place, fault.key)) {
            self.0.push(fault);
        }
    }

    /// Fails if there are any.
    pub(crate) fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
