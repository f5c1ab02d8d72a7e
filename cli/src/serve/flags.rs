//! The flags of `serve`, made from the tables of keys: each key that names a flag has one. What is wrong with them is said in
//! their words.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command};
use pulsegate::config::keys::{self, GATEWAY, Key, Kind, LISTENER, STORE, Scope, Value};
use pulsegate::config::{Config, Fault, ListenerConfig, Place, SINKS, defaults};
use pulsegate_config::{reference, units};

/// What one sort of flags states, by the names of their keys.
type Stated = Vec<(&'static str, Value)>;

/// What the flags state.
#[derive(Clone, Debug, Default)]
pub(super) struct Flags {
    gateway: Stated,
    store: Stated,
    listener: Stated,
}

/// Flags that can't be kept or contradict each other, each in a line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(super) struct Contradiction(Vec<String>);

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        let listener = LISTENER.iter().filter_map(argument).map(|argument| argument.conflicts_with("config"));
        let command = command.next_help_heading("Listener (not with --config)").args(listener);
        let gateway = GATEWAY.iter().filter_map(argument).chain(STORE.iter().filter_map(argument));
        command.next_help_heading("Gateway").args(gateway)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self {
            gateway: stated(GATEWAY, matches),
            store: stated(STORE, matches),
            listener: stated(LISTENER, matches),
        };
        if matches.contains_id("deadline") {
            flags.listener.push(("lifetime", Value::Text("short".to_owned())));
        }
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The flag of a key, if it has one.
fn argument<T: Default>(key: &'static Key<T>) -> Option<Arg> {
    let name = key.flag?.trim_start_matches("--");
    let (meaning, _) = key.says.split_once(". ").unwrap_or_else(|| (key.says.trim_end_matches('.'), ""));
    let default =
        reference::default_of(key).map(|default| format!(" [default: {}]", default.replace('"', "")));
    let help = in_flags(Place::Listener(0), &format!("{meaning}{}", default.unwrap_or_default()));
    let value_name = match &key.kind {
        Kind::Duration(_) => "DUR",
        Kind::Size(_) => "SIZE",
        Kind::Count(_) => "N",
        Kind::Address => "ADDR",
        Kind::Word(_) => "WORD",
        Kind::Line(_) => "LINE",
        Kind::Text(name, _) => name,
    };
    let parser: ValueParser = if let Kind::Word(words) = &key.kind {
        let words = words.iter().map(|(word, meaning)| PossibleValue::new(*word).help(*meaning));
        PossibleValuesParser::new(words).map(Value::Text).into()
    } else {
        ValueParser::new(|text: &str| units::parse(&key.kind, text))
    };
    let argument = Arg::new(key.name).long(name).value_name(value_name).help(help).value_parser(parser);
    let repeats = matches!(key.kind, Kind::Address);
    let argument = argument.action(if repeats { ArgAction::Append } else { ArgAction::Set });
    let others = LISTENER.iter().filter(|other| other.flag.is_some() && other.scope.contains(&Scope::Long));
    let is_short = key.scope.contains(&Scope::Short);
    Some(argument.conflicts_with_all(others.filter(|_| is_short).map(|other| other.name)))
}

fn stated<T>(table: &'static [Key<T>], matches: &ArgMatches) -> Stated {
    let keys = table.iter().filter(|key| key.flag.is_some());
    let values = |key: &'static Key<T>| {
        let values = matches.get_many::<Value>(key.name).into_iter().flatten();
        values.map(|value| (key.name, value.clone()))
    };
    keys.flat_map(values).collect()
}

impl Flags {
    /// The listeners that they amount to: one for each address.
    pub(super) fn listeners(&self) -> Vec<ListenerConfig> {
        let (addresses, rules): (Stated, Stated) =
            self.listener.iter().cloned().partition(|(name, _)| *name == "listen");
        let mut listener = ListenerConfig::default();
        // What can't be set is told when everything is checked.
        keys::apply(LISTENER, &rules, &mut listener, Place::Listener(0), &mut Vec::new());
        defaults::give_way(&mut listener.policy, |name| rules.iter().any(|(stated, _)| *stated == name));
        let at = |(_, address): &(&str, Value)| {
            let listen = if let Value::Address(address) = address { *address } else { listener.listen };
            ListenerConfig { listen, ..listener.clone() }
        };
        if addresses.is_empty() { vec![listener] } else { addresses.iter().map(at).collect() }
    }

    /// Overrides what they state of the gateway and its store, and checks the whole.
    ///
    /// # Errors
    /// Settings that can't be kept or contradict each other.
    pub(super) fn apply_to(&self, config: &mut Config) -> Result<(), Contradiction> {
        let mut faults = Vec::new();
        keys::apply(GATEWAY, &self.gateway, config, Place::Gateway, &mut faults);
        keys::apply(STORE, &self.store, config, Place::Store, &mut faults);
        for (place, stated) in [(Place::Store, &self.store), (Place::Listener(0), &self.listener)] {
            let names: Vec<&str> = stated.iter().map(|(name, _)| *name).collect();
            faults.extend(config.out_of_place(place, &names));
        }
        faults.extend(config.check(&SINKS).err().unwrap_or_default().0);
        let mut lines: Vec<String> = Vec::new();
        for line in faults.iter().map(said) {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        if lines.is_empty() { Ok(()) } else { Err(Contradiction(lines)) }
    }
}

/// A fault in the words of the command line: keys become the flags that set them.
pub(super) fn said(fault: &Fault) -> String {
    let text = format!("`{}`: {}; {}", fault.key, fault.problem, fault.fix);
    in_flags(fault.place, &text)
}

fn in_flags(place: Place, text: &str) -> String {
    let parts = text.split('`').enumerate();
    let part = |(index, part)| if index % 2 == 1 { flag(place, part).unwrap_or(part) } else { part };
    parts.map(part).collect()
}

/// The flag of a key, first of those that belong where the key is spoken of.
fn flag(place: Place, key: &str) -> Option<&'static str> {
    let of_listener = || keys::find(LISTENER, key).and_then(|key| key.flag);
    let of_gateway = || keys::find(GATEWAY, key).and_then(|key| key.flag);
    let of_store = || keys::find(STORE, key).and_then(|key| key.flag);
    match place {
        Place::Gateway | Place::Store => of_gateway().or_else(of_store).or_else(of_listener),
        Place::Listener(_) => of_listener().or_else(of_store).or_else(of_gateway),
    }
}
