//! Where each listener's messages go, and what commits the messages of its sessions: resolves the names in the
//! settings.

use super::StartError;
use crate::clock::Clock;
use crate::config::{Config, Fault, Faults, ListenerConfig, Place, SINKS, STORE};
use crate::stores::{Destination, Replies};
use pulsegate_core::policy::{Framing, Protocol};
use pulsegate_sessions::Committer;
use pulsegate_shard::{Delivery, Opened, SinkQueue};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why an application's committer can't be made.
pub type CommitterError = Box<dyn std::error::Error + Send + Sync>;

/// Makes the committer of an application.
pub(super) type Make = Box<dyn FnOnce(Replies) -> Result<Arc<dyn Committer>, CommitterError> + Send>;

/// Where a listener's messages go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) delivery: Delivery,
    committer: Option<Kind>,
}

/// What keeps the sessions of a listener. Each sink that has a thread has a store in memory of its own, so that one
/// that takes nothing holds up nobody else's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The store on disk.
    Disk,
    /// The store in memory of this sink, or of those without a thread.
    Memory(Option<usize>),
    /// That of the application with this place.
    Given(usize),
}

/// Finds out where the messages of each listener go, in a gateway with these sinks and committers of the application.
pub(super) fn routes(config: &Config, sinks: &[String], committers: &[String]) -> Result<Vec<Route>, Faults> {
    let given = sinks.iter().chain(committers).map(String::as_str);
    config.check(&SINKS.into_iter().chain(given).collect::<Vec<_>>())?;
    let place = |names: &[String], name: &str| names.iter().position(|other| other == name);
    let route = |listener: &ListenerConfig| {
        let name = listener.sink.as_str();
        let (delivery, committer) = if let Some(lane) = place(sinks, name) {
            (Delivery::Lane(lane), Kind::Memory(Some(lane)))
        } else if let Some(place) = place(committers, name) {
            (Delivery::Commit, Kind::Given(place))
        } else {
            match (name, listener.policy.framing) {
                (STORE, _) => (Delivery::Commit, Kind::Disk),
                ("echo", Framing::Chunks) => (Delivery::Echo(b""), Kind::Memory(None)),
                ("echo", Framing::Lines) => (Delivery::Echo(b"\n"), Kind::Memory(None)),
                _ => (Delivery::Discard, Kind::Memory(None)),
            }
        };
        // Raw clients have no sessions.
        let is_wanted = delivery == Delivery::Commit || listener.policy.protocol != Protocol::Raw;
        Route { delivery, committer: Some(committer).filter(|_| is_wanted) }
    };
    Ok(config.listeners.iter().map(route).collect())
}

/// What commits, and for whom.
#[derive(Default)]
pub(super) struct Committing {
    pub(super) opened: Vec<Opened>,
    /// Which of them each listener's ledger is.
    pub(super) ledgers: Vec<Option<usize>>,
    /// The same for the names of their sinks.
    pub(super) by_sink: BTreeMap<String, usize>,
}

/// Opens what the listeners need.
pub(super) fn open(
    config: &Config,
    routes: &[Route],
    destination: &Destination,
    clock: Clock,
    queues: &[Arc<SinkQueue>],
    given: Vec<(String, Make)>,
) -> Result<Committing, StartError> {
    let mut wanted: Vec<Kind> = routes.iter().filter_map(|route| route.committer).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut given: Vec<_> = given.into_iter().map(Some).collect();
    let mut committing = Committing::default();
    for (place, kind) in wanted.iter().enumerate() {
        let settings = config.store_config();
        committing.opened.push(match *kind {
            #[cfg(feature = "sqlite")]
            Kind::Disk => destination.open(place, &config.data_dir, settings, clock)?,
            #[cfg(not(feature = "sqlite"))]
            Kind::Disk => return Err(no_database(routes).into()),
            Kind::Memory(lane) => {
                let queue = lane.map(|lane| Arc::clone(&queues[lane]));
                destination.open_in_memory(place, settings, clock, queue)?
            }
            Kind::Given(number) => {
                let Some((name, make)) = given[number].take() else { continue };
                let made = make(destination.replies(place));
                let opened = |committer| Opened { name: name.as_str().into(), committer, origins: None };
                made.map(opened).map_err(|error| StartError::Committer { name, error })?
            }
        });
    }
    for (number, (route, listener)) in routes.iter().zip(&config.listeners).enumerate() {
        let place = wanted.iter().position(|kind| Some(*kind) == route.committer);
        committing.ledgers.push(place);
        let Some(place) = place else { continue };
        check_message(&committing.opened[place], number, listener)?;
        committing.by_sink.insert(listener.sink.clone(), place);
    }
    Ok(committing)
}

/// A listener keeps its messages in a database, without which this program was built.
#[cfg_attr(
    feature = "sqlite",
    expect(dead_code, reason = "compiled all the same, so that it can't fall behind")
)]
fn no_database(routes: &[Route]) -> Faults {
    let listener = routes.iter().position(|route| route.committer == Some(Kind::Disk));
    let problem = format!("{STORE:?} keeps messages in SQLite, without which this program was built");
    let fix = "build it with pulsegate's feature sqlite, or choose another sink".to_owned();
    Fault::new(Place::Listener(listener.unwrap_or_default()), "sink", problem, fix).into()
}

/// What raw clients send is never refused, so that it must not be too long.
fn check_message(opened: &Opened, number: usize, listener: &ListenerConfig) -> Result<(), Faults> {
    let (has, needs) = (opened.committer.limits().message_bytes_max, listener.policy.message_bytes_max);
    // The store in memory takes none of these.
    if has >= needs || opened.origins.is_some() {
        return Ok(());
    }
    let problem = format!("{:?} takes at most {has} bytes in a message", listener.sink);
    let place = Place::Listener(number);
    Err(Fault::new(place, "message_bytes_max", problem, format!("lower it to {has}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(feature = "sqlite"))]
    #[test]
    fn who_wants_a_store_on_disk_is_told_what_it_takes() {
        let doors = ["discard", STORE].map(|sink| ListenerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            sink: sink.to_owned(),
            ..ListenerConfig::default()
        });
        let config = Config { listeners: doors.into(), ..Config::default() };
        let started = crate::gateway::Gateway::builder().config(config).start();
        let Err(StartError::Config(faults)) = started else { panic!("{started:?}") };
        let [fault] = faults.0.as_slice() else { panic!("{faults}") };
        assert_eq!((fault.place, fault.key), (Place::Listener(1), "sink"));
        assert!(fault.problem.contains("SQLite") && fault.fix.contains("feature sqlite"), "{faults}");
    }

    #[test]
    fn what_the_application_has_given_goes_before_what_there_is_anyway() {
        let route = |sink: &str, protocol| {
            let mut listener = ListenerConfig { sink: sink.to_owned(), ..ListenerConfig::default() };
            listener.policy.protocol = protocol;
            let config = Config { listeners: vec![listener], ..Config::default() };
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            let routes = routes(&config, &names(&["a", "echo"]), &names(&["b", "store"]));
            routes.map(|routes| (routes[0].delivery, routes[0].committer)).map_err(|faults| faults.0[0].key)
        };
        let (raw, pulse) = (Protocol::Raw, Protocol::Pulse);
        assert_eq!(route("a", raw), Ok((Delivery::Lane(0), None)));
        assert_eq!(route("a", pulse), Ok((Delivery::Lane(0), Some(Kind::Memory(Some(0))))));
        assert_eq!(route("echo", pulse), Ok((Delivery::Lane(1), Some(Kind::Memory(Some(1))))));
        assert_eq!(route("b", raw), Ok((Delivery::Commit, Some(Kind::Given(0)))));
        assert_eq!(route("store", pulse), Ok((Delivery::Commit, Some(Kind::Given(1)))));
        assert_eq!(route("discard", pulse), Ok((Delivery::Discard, Some(Kind::Memory(None)))));
        assert_eq!(route("c", raw), Err("sink"));
    }
}
