//! Every setting, declared once: what it is called, where it is kept, what it may be and what it means. Files, flags,
//! checks and documents are made from these tables. Knows no file and no command line.

mod gateway;
mod kind;
mod listener;
mod scope;
mod setting;
mod store;

pub use gateway::GATEWAY;
pub(crate) use gateway::SHARDS_MAX;
pub use kind::Kind;
pub use listener::LISTENER;
pub use scope::Scope;
pub use setting::{Setting, Value};
pub(crate) use store::QUEUE_BYTES;
pub use store::STORE;

use super::fault::{Fault, Faults, Misfit, Place};

/// What a reload may do with a new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It applies at once.
    AtOnce,
    /// It applies to connections that are accepted from then on.
    Newcomers,
    /// It takes a restart.
    Restart,
}

/// A setting of a `T`.
#[derive(Debug)]
pub struct Key<T: 'static> {
    /// What files call it.
    pub name: &'static str,
    /// What the command line calls it, if it has a flag: `--listen`.
    pub flag: Option<&'static str>,
    /// What it may be.
    pub kind: Kind,
    /// Where it is kept; `None`: in a `T` of this sort there is no such thing.
    pub at: fn(&mut T) -> Option<&mut dyn Setting>,
    /// Where alone it means something.
    pub scope: &'static [Scope],
    /// What it means, in sentences.
    pub says: &'static str,
    /// What holds where it is left out, if that is no fixed value.
    pub left_out: Option<&'static str>,
    /// What an example shows in place of the default.
    pub example: Option<&'static str>,
    /// When a new value applies.
    pub reload: Reload,
}

impl<T: Default> Key<T> {
    /// Its default; `None`: it is off, or there is none.
    #[must_use]
    pub fn default(&self) -> Option<Value> {
        (self.at)(&mut T::default()).and_then(|setting| setting.value())
    }
}

impl<T> Key<T> {
    /// Sets it.
    ///
    /// # Errors
    /// The value is out of its range, or there is no such thing in this `T`.
    pub fn set(&self, to: &mut T, value: &Value) -> Result<(), Misfit> {
        self.kind.check(value)?;
        match (self.at)(to) {
            Some(setting) => setting.set(value),
            None => return Err(self.scope.first().map_or_else(unknown, |scope| scope.misfit())),
        }
        Ok(())
    }
}

fn unknown() -> Misfit {
    Misfit::new("it means nothing here", "take it out")
}

/// The key with this name.
#[must_use]
pub fn find<T>(table: &'static [Key<T>], name: &str) -> Option<&'static Key<T>> {
    table.iter().find(|key| key.name == name)
}

/// Sets what was stated by name, in the order of the table, in which a key stands after those that it needs. Tells what
/// can't be set, and leaves that as it was.
pub fn apply<T>(
    table: &'static [Key<T>],
    stated: &[(&'static str, Value)],
    to: &mut T,
    place: Place,
    faults: &mut Vec<Fault>,
) {
    for key in table {
        let values = stated.iter().filter(|(name, _)| *name == key.name);
        for (_, value) in values {
            if let Err(misfit) = key.set(to, value) {
                faults.push(Fault::of(place, key.name, misfit));
            }
        }
    }
}

/// Checks the range of each setting of the table.
pub(super) fn check<T>(table: &'static [Key<T>], of: &mut T, place: Place, faults: &mut Faults) {
    for key in table {
        let value = (key.at)(of).and_then(|setting| setting.value());
        if let Some(Err(misfit)) = value.map(|value| key.kind.check(&value)) {
            faults.push(Fault::of(place, key.name, misfit));
        }
    }
}
