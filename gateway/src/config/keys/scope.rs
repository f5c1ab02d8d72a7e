//! Where alone a key means something: which other setting it belongs to.

use super::{GATEWAY, Key, LISTENER, STORE};
use crate::config::fault::{Fault, Misfit, Place};
use crate::config::{Config, ListenerConfig};
use pulsegate_core::policy::{LifetimePolicy, Protocol};
use std::time::Duration;

/// How long a peer may send nothing at all, where a minimum rate is set and nothing else is said.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// What a key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Connections that end at a fixed deadline.
    Short,
    /// Connections that are kept while heartbeats arrive.
    Long,
    /// Clients that speak no pulse protocol.
    Raw,
    /// Clients that speak the pulse protocol.
    Pulse,
    /// A minimum rate that is set.
    MinimumRate,
    /// A store on disk.
    Disk,
}

impl Scope {
    /// As documents say it.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Short => "Only for short connections.",
            Self::Long => "Only for long connections.",
            Self::Raw => "Not at a pulse listener.",
            Self::Pulse => "Not at a raw listener.",
            Self::MinimumRate => "Only with `minimum_rate`.",
            Self::Disk => "Only where the sink of a listener is the store.",
        }
    }

    /// What is said of a key that stands where it means nothing.
    #[must_use]
    pub fn misfit(self) -> Misfit {
        let (problem, fix) = match self {
            Self::Short => (
                "it belongs to short connections, but these are long",
                "take it out, or set `lifetime` to short",
            ),
            Self::Long => (
                "it belongs to long connections, but these are short",
                "take it out, or set `lifetime` to long",
            ),
            Self::Raw => (
                "it is for raw clients, but a pulse listener has none",
                "take it out, or set `protocol` to auto",
            ),
            Self::Pulse => (
                "it belongs to the pulse protocol, but this listener is raw",
                "take it out, or set `protocol` to pulse or auto",
            ),
            Self::MinimumRate => {
                ("it says nothing without `minimum_rate`", "add `minimum_rate`, or take it out")
            }
            Self::Disk => (
                "no listener has the sink store, so that nothing is kept on disk",
                "set the `sink` of a listener to store, or take it out",
            ),
        };
        Misfit::new(problem, fix)
    }

    fn holds_at(self, listener: &ListenerConfig) -> bool {
        let policy = &listener.policy;
        match self {
            Self::Short => matches!(policy.lifetime, LifetimePolicy::Short { .. }),
            Self::Long => matches!(policy.lifetime, LifetimePolicy::Long { .. }),
            Self::Raw => policy.protocol != Protocol::Pulse,
            Self::Pulse => policy.protocol != Protocol::Raw,
            Self::MinimumRate => policy.minimum_rate.is_some(),
            Self::Disk => true,
        }
    }
}

impl Config {
    /// Which of the keys that were stated at this place mean nothing there, whatever their values.
    #[must_use]
    pub fn out_of_place(&self, place: Place, stated: &[&str]) -> Vec<Fault> {
        let holds = |scope: Scope| match place {
            Place::Gateway | Place::Store => scope != Scope::Disk || self.has_store(),
            Place::Listener(index) => {
                self.listeners.get(index).is_none_or(|listener| scope.holds_at(listener))
            }
        };
        match place {
            Place::Gateway => faults(GATEWAY, place, stated, holds),
            Place::Store => faults(STORE, place, stated, holds),
            Place::Listener(_) => faults(LISTENER, place, stated, holds),
        }
    }
}

fn faults<T>(
    table: &'static [Key<T>],
    place: Place,
    stated: &[&str],
    holds: impl Fn(Scope) -> bool,
) -> Vec<Fault> {
    let fault = |key: &'static Key<T>| {
        let scope = key.scope.iter().find(|scope| !holds(**scope))?;
        Some(Fault::of(place, key.name, scope.misfit()))
    };
    table.iter().filter(|key| stated.contains(&key.name)).filter_map(fault).collect()
}
