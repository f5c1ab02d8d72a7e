//! Where each setting stands in a file. Knows nothing of values.

use crate::error::{FileError, Found};
use pulsegate::config::{Config, Fault, Place};
use std::ops::Range;

/// What a file says, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The settings.
    pub config: Config,
    /// Where each of them stands, for faults that come to light later.
    pub source: Source,
}

/// Where the keys of one table stand, in bytes from the start of the text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans {
    /// Its header.
    pub(crate) header: Range<usize>,
    /// The values of its keys.
    pub(crate) values: Vec<(String, Range<usize>)>,
}

impl Spans {
    pub(crate) fn of(&self, key: &str) -> Option<Range<usize>> {
        self.values.iter().find(|(name, _)| name == key).map(|(_, span)| span.clone())
    }
}

/// A file that was read, and the places in it.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) gateway: Spans,
    pub(crate) store: Option<Spans>,
    pub(crate) listeners: Vec<Spans>,
}

impl Source {
    /// These faults, each shown in its place.
    #[must_use]
    pub fn show(&self, faults: &[Fault]) -> FileError {
        let found = faults.iter().map(|fault| self.find(fault)).collect();
        FileError::new(&self.name, &self.text, found)
    }

    pub(crate) fn find(&self, fault: &Fault) -> Found {
        (self.span(fault), format!("{}: {}", fault.key, fault.problem), fault.fix.clone())
    }

    /// Whether the file sets this key there.
    #[must_use]
    pub fn sets(&self, place: Place, key: &str) -> bool {
        self.table(place).is_some_and(|table| table.of(key).is_some())
    }

    /// In which table something stands: the last one that begins before it.
    pub(crate) fn place_at(&self, at: usize) -> Place {
        let store = self.store.iter().map(|table| (table.header.start, Place::Store));
        let listeners = self.listeners.iter().enumerate();
        let listeners = listeners.map(|(index, table)| (table.header.start, Place::Listener(index)));
        let before = store.chain(listeners).filter(|(start, _)| *start < at);
        before.max_by_key(|(start, _)| *start).map_or(Place::Gateway, |(_, place)| place)
    }

    fn table(&self, place: Place) -> Option<&Spans> {
        match place {
            Place::Gateway => Some(&self.gateway),
            Place::Store => self.store.as_ref(),
            Place::Listener(index) => self.listeners.get(index),
        }
    }

    /// Where its key stands; if it is a default that is at odds with what is stated, where that stands; else its table.
    fn span(&self, fault: &Fault) -> Range<usize> {
        let own = self.table(fault.place);
        if let Some(span) = own.and_then(|table| table.of(fault.key)) {
            return span;
        }
        let tables = own.into_iter().chain(&self.store).chain(&self.listeners).chain([&self.gateway]);
        let others = fault.mentioned().filter(|key| *key != fault.key);
        let mentioned = others.into_iter().find_map(|key| tables.clone().find_map(|table| table.of(key)));
        mentioned.or_else(|| own.map(|table| table.header.clone())).unwrap_or_default()
    }
}
