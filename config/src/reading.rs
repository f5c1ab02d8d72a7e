//! From the text of a file to settings: each table is read by its keys, then what was stated is applied and checked, and
//! all faults are told, sorted by their place.

use crate::document::{self, Broken, Entry};
use crate::error::{FileError, Found};
use crate::source::{Settings, Source};
use crate::{suggestion, units};
use pulsegate::config::keys::{self, GATEWAY, Key, LISTENER, STORE, Value};
use pulsegate::config::{Config, Fault, ListenerConfig, Place, defaults};
use pulsegate_core::policy::{DURATION_MAX, LifetimePolicy};
use std::net::Ipv4Addr;
use toml::de::{DeTable, DeValue};

/// The most that is looked for in one file: more would be of no use to anybody.
const FOUND_MAX: usize = 1000;

/// What one table states, by the names of its keys.
type Stated = Vec<(&'static str, Value)>;

pub(crate) fn read(text: &str, name: &str, sinks: &[&str]) -> Result<Settings, FileError> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let broken = Broken::of(text, errors.iter().take(FOUND_MAX));
    if broken.has_header {
        return Err(FileError::new(name, text, broken.found));
    }
    let mut reader = Reader::new(text, name);
    let (config, mut faults) = reader.root(root.get_ref());
    faults.extend(config.check(sinks).err().unwrap_or_default().0);
    let mut found = std::mem::take(&mut reader.found);
    found.retain(|(span, ..)| !broken.covers(span.start));
    let broken_keys = broken.keys.into_iter().map(|(at, key)| (reader.source.place_at(at), key));
    reader.misread.extend(broken_keys);
    // What follows from something that was not understood, or stands at one place with another fault, would only confuse.
    for fault in faults.iter().take(FOUND_MAX).filter(|fault| !reader.is_unclear(fault)) {
        let told = reader.source.find(fault);
        if found.iter().all(|(span, ..)| *span != told.0) {
            found.push(told);
        }
    }
    found.extend(broken.found);
    if found.is_empty() {
        Ok(Settings { config, source: reader.source })
    } else {
        Err(FileError::new(name, text, found))
    }
}

struct Reader {
    source: Source,
    /// What is wrong at places that no setting has.
    found: Vec<Found>,
    /// Keys whose values were not understood.
    misread: Vec<(Place, String)>,
}

impl Reader {
    fn new(text: &str, name: &str) -> Self {
        let source = Source { name: name.to_owned(), text: text.to_owned(), ..Source::default() };
        Self { source, found: Vec::new(), misread: Vec::new() }
    }

    /// The settings of a file, as far as they can be set, and what of them can't.
    fn root(&mut self, root: &DeTable<'_>) -> (Config, Vec<Fault>) {
        let entries = document::entries(root);
        self.source.gateway = document::spans(0..0, &entries);
        let mut config = Config { listeners: Vec::new(), ..Config::default() };
        let mut faults = Vec::new();
        let is_table = |entry: &&Entry<'_>| ["store", "listener"].contains(&entry.name);
        let (tables, own): (Vec<&Entry<'_>>, Vec<&Entry<'_>>) = entries.iter().partition(is_table);
        let stated = self.table(Place::Gateway, GATEWAY, &own);
        keys::apply(GATEWAY, &stated, &mut config, Place::Gateway, &mut faults);
        for entry in &tables {
            match entry.name {
                "listener" => self.listeners(entry, &mut config, &mut faults),
                _ => self.store(entry, &mut config, &mut faults),
            }
        }
        for place in [Place::Gateway, Place::Store] {
            let spans =
                if place == Place::Store { self.source.store.as_ref() } else { Some(&self.source.gateway) };
            let names: Vec<&str> = spans
                .into_iter()
                .flat_map(|spans| spans.values.iter().map(|(name, _)| name.as_str()))
                .collect();
            faults.extend(config.out_of_place(place, &names));
        }
        (config, faults)
    }

    fn store(&mut self, entry: &Entry<'_>, config: &mut Config, faults: &mut Vec<Fault>) {
        let DeValue::Table(table) = entry.value else {
            let (problem, fix) = if entry.value.is_array() {
                ("this makes a list of stores", "write [store], with one bracket")
            } else {
                ("the store is a table", "write [store], and its keys below it")
            };
            return self.refuse(Place::Gateway, entry, problem, fix);
        };
        let entries = document::entries(table);
        self.source.store = Some(document::spans(entry.value_at.clone(), &entries));
        let stated = self.table(Place::Store, STORE, &entries.iter().collect::<Vec<_>>());
        keys::apply(STORE, &stated, config, Place::Store, faults);
    }

    fn listeners(&mut self, entry: &Entry<'_>, config: &mut Config, faults: &mut Vec<Fault>) {
        let DeValue::Array(tables) = entry.value else {
            let (problem, fix) = if entry.value.is_table() {
                ("this makes one table of the listeners", "write [[listener]], with two brackets")
            } else {
                ("a listener is a table", "write [[listener]], and its keys below it")
            };
            return self.refuse(Place::Gateway, entry, problem, fix);
        };
        for value in tables.iter() {
            let DeValue::Table(table) = value.get_ref() else {
                let (problem, fix) = ("a listener is a table", "write [[listener]], and its keys below it");
                self.misread.push((Place::Gateway, "listener".to_owned()));
                self.found.push((value.span(), problem.to_owned(), fix.to_owned()));
                continue;
            };
            let place = Place::Listener(config.listeners.len());
            let entries = document::entries(table);
            self.source.listeners.push(document::spans(value.span(), &entries));
            let stated = self.table(place, LISTENER, &entries.iter().collect::<Vec<_>>());
            let (listener, own) = listener(place, &stated, &entries);
            config.listeners.push(listener);
            faults.extend(own);
            let names: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
            faults.extend(config.out_of_place(place, &names));
        }
    }

    /// Reads the values of a table by its keys.
    fn table<T>(&mut self, place: Place, table: &'static [Key<T>], entries: &[&Entry<'_>]) -> Stated {
        let mut stated = Stated::new();
        for entry in entries {
            if self.found.len() == FOUND_MAX {
                break;
            }
            let Some(key) = keys::find(table, entry.name) else {
                let misfit = suggestion::unknown(place, entry.name);
                self.found.push((entry.name_at.clone(), misfit.problem, misfit.fix));
                continue;
            };
            match units::read(&key.kind, entry.value) {
                Ok(value) => stated.push((key.name, value)),
                Err(misfit) => {
                    self.refuse(place, entry, &format!("{}: {}", key.name, misfit.problem), &misfit.fix);
                }
            }
        }
        stated
    }

    /// Whether a fault speaks of a key that is set there without being understood.
    fn is_unclear(&self, fault: &Fault) -> bool {
        let is_misread = |key: &str| {
            let mut known = self.misread.iter().filter(|(_, misread)| misread == key);
            // What a listener has against the store, it may have from any of its kind.
            known.any(|(place, _)| *place == fault.place || !matches!(fault.place, Place::Listener(_)))
        };
        is_misread(fault.key) || fault.mentioned().any(is_misread)
    }

    fn refuse(&mut self, place: Place, entry: &Entry<'_>, problem: &str, fix: &str) {
        self.misread.push((place, entry.name.to_owned()));
        self.found.push((entry.value_at.clone(), problem.to_owned(), fix.to_owned()));
    }
}

/// A listener of which this is stated, and what of it can't be set.
fn listener(place: Place, stated: &Stated, entries: &[Entry<'_>]) -> (ListenerConfig, Vec<Fault>) {
    // Port 0 is in nobody's way, whatever address is missing.
    let mut listener =
        ListenerConfig { listen: (Ipv4Addr::LOCALHOST, 0).into(), ..ListenerConfig::default() };
    let mut faults = Vec::new();
    let is_stated = |name: &str| entries.iter().any(|entry| entry.name == name);
    if !is_stated("listen") {
        let fix = "add `listen` = \"127.0.0.1:7373\"";
        faults.push(Fault::new(place, "listen", "this listener has no address", fix));
    }
    keys::apply(LISTENER, stated, &mut listener, place, &mut faults);
    if let LifetimePolicy::Short { deadline } = &mut listener.policy.lifetime
        && deadline.is_zero()
    {
        // Nothing else is to be at odds with what is missing.
        *deadline = DURATION_MAX;
        if !is_stated("deadline") {
            let fix = "add `deadline` = \"30s\"";
            faults.push(Fault::new(place, "deadline", "with `lifetime` = \"short\" it is required", fix));
        }
    }
    defaults::give_way(&mut listener.policy, is_stated);
    (listener, faults)
}
