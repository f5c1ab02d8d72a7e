//! Which newcomers are accepted: the limits that all shards share. Touched when a connection is accepted, has spoken
//! for the first time, and ends; never for a message.
//!
//! The last quarter of the places is kept for addresses that hold few, so that one address alone keeps nobody out.
//! There, IPv6 addresses count together by their /48, which is what one site is given.

use crate::kept_places::KeptPlaces;
use crate::peer::Source;
use parking_lot::Mutex;
use pulsegate_core::close::CloseReason;
use pulsegate_core::time::Instant;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Stripes of the count per source address; a power of two.
const STRIPES: usize = 64;
/// At most one line about it in this time.
const SILENCE_BETWEEN_LINES: Duration = Duration::from_secs(10);

/// What one listener lets in at most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections; `None`: no fewer than the gateway holds in all.
    pub max_connections: Option<usize>,
    /// Connections that have not completed a first message; `None`: as many as in all.
    pub max_newcomers: Option<usize>,
    /// Connections from one source; `None`: no limit of its own.
    pub max_per_address: Option<usize>,
    /// Connections a second, in bursts of up to one second's worth.
    pub accept_rate: u32,
}

/// The limits of one listener, and those of the whole gateway with them.
#[derive(Debug)]
pub struct Limits {
    /// What the listener is called.
    name: Arc<str>,
    total: Arc<Gauge>,
    listener: Gauge,
    newcomers: Gauge,
    keeps_places: bool,
    per_address: PerAddress,
    rate: AcceptRate,
    /// When somebody was last told that the places left are kept for others; 0: never yet.
    told: AtomicU64,
}

impl Limits {
    /// The limits of the listener that is called so; `total` is shared by all listeners of a gateway.
    pub fn new(name: Arc<str>, total: Arc<Gauge>, bounds: Bounds) -> Self {
        let Bounds { max_connections, max_newcomers, max_per_address, accept_rate } = bounds;
        let of_all = total.max;
        let places = max_connections.map_or(of_all, |own| own.min(of_all));
        Self {
            name,
            listener: Gauge::new(max_connections.unwrap_or(of_all)),
            newcomers: Gauge::new(max_newcomers.unwrap_or(of_all)),
            keeps_places: KeptPlaces::among(places, max_per_address).is_some(),
            per_address: PerAddress::new(max_per_address),
            rate: AcceptRate::new(accept_rate),
            told: AtomicU64::new(0),
            total,
        }
    }

    /// What the listener is called.
    pub(crate) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Lets a connection in, as a newcomer, or says why not. The rate is asked last, so that who is refused anyway
    /// doesn't use it up.
    pub(crate) fn enter(&self, now: Instant, source: Source) -> Result<(), CloseReason> {
        let gauges = [
            (&*self.total, CloseReason::AtCapacity),
            (&self.listener, CloseReason::AtCapacity),
            (&self.newcomers, CloseReason::NewcomerLimit),
        ];
        let mut few = usize::MAX;
        for (taken, (gauge, reason)) in gauges.iter().enumerate() {
            let Some(count) = gauge.take() else {
                gauges[..taken].iter().for_each(|(gauge, _)| gauge.give_back());
                return Err(*reason);
            };
            let kept = KeptPlaces::of(gauge.max);
            if self.keeps_places && count > gauge.max - kept.count {
                few = few.min(kept.few);
            }
        }
        let refusal = match self.per_address.take(source, few) {
            Ok(()) if self.rate.take(now) => return Ok(()),
            Ok(()) => {
                self.per_address.give_back(source);
                CloseReason::AcceptRate
            }
            Err(Crowded::Source) => CloseReason::AddressLimit,
            Err(Crowded::Network(held)) => {
                self.tell(now, source, held);
                CloseReason::AddressLimit
            }
        };
        gauges.iter().for_each(|(gauge, _)| gauge.give_back());
        Err(refusal)
    }

    /// Says, once in a while, that an address meets the places that are kept for others.
    fn tell(&self, now: Instant, source: Source, held: usize) {
        let silence = SILENCE_BETWEEN_LINES.as_nanos() as u64;
        let now = now.as_nanos().max(1);
        let is_due = |told: u64| (told == 0 || now.saturating_sub(told) >= silence).then_some(now);
        if self.told.fetch_update(Relaxed, Relaxed, is_due).is_ok() {
            tracing::warn!(
                listener = %self.name,
                address = %source.network(),
                held,
                "an address is refused: the places that are left are kept for addresses that hold few; if a proxy or \
                 many clients behind one router stand there, set connections_per_address_max of the listener to {}",
                self.total.max
            );
        }
    }

    /// How long it takes until all that are connected have come back, at the rate at which they are accepted.
    pub(crate) fn return_time(&self) -> Duration {
        Duration::from_nanos(self.rate.nanos_each.saturating_mul(self.listener.count.load(Relaxed) as u64))
    }

    /// Nobody is counted any more.
    #[cfg(test)]
    pub(crate) fn assert_empty(&self) {
        for gauge in [&*self.total, &self.listener, &self.newcomers] {
            assert_eq!(gauge.count.load(Relaxed), 0);
        }
        assert!(self.per_address.stripes.iter().all(|stripe| stripe.lock().is_empty()));
    }

    /// A newcomer has completed its first message.
    #[inline]
    pub(crate) fn speak(&self) {
        self.newcomers.give_back();
    }

    /// A connection is gone.
    #[inline]
    pub(crate) fn leave(&self, source: Source, newcomer: bool) {
        if newcomer {
            self.newcomers.give_back();
        }
        self.per_address.give_back(source);
        self.listener.give_back();
        self.total.give_back();
    }
}

/// A count with an upper bound.
#[derive(Debug)]
pub struct Gauge {
    max: usize,
    count: AtomicUsize,
}

impl Gauge {
    /// Nothing counted yet, at most `max`.
    pub const fn new(max: usize) -> Self {
        Self { max, count: AtomicUsize::new(0) }
    }

    /// Counts one more, if there is room, and returns the count.
    fn take(&self) -> Option<usize> {
        let more = |count: usize| (count < self.max).then_some(count + 1);
        Some(self.count.fetch_update(Relaxed, Relaxed, more).ok()? + 1)
    }

    fn give_back(&self) {
        self.count.fetch_sub(1, Relaxed);
    }
}

/// Why an address gets no further connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crowded {
    /// The source has as many as an address may have.
    Source,
    /// Its network has so many, and the places that are left are kept for others.
    Network(usize),
}

/// Counts per source address, striped so that shards seldom meet. An address with no connection costs nothing.
#[derive(Debug)]
struct PerAddress {
    /// The most for a source, if there is a limit.
    max: Option<usize>,
    hasher: RandomState,
    stripes: Box<[Mutex<Stripe>]>,
}

/// Counts of some networks, and of the sources in them.
#[derive(Debug, Default)]
struct Stripe {
    networks: HashMap<Source, u32>,
    /// Empty where there is no limit for a source.
    sources: HashMap<Source, u32>,
}

impl PerAddress {
    fn new(max: Option<usize>) -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { max, hasher: RandomState::new(), stripes }
    }

    fn stripe(&self, network: Source) -> &Mutex<Stripe> {
        &self.stripes[self.hasher.hash_one(network) as usize % STRIPES]
    }

    /// Counts one more, if its source has fewer than it may have, and its network fewer than `few`.
    fn take(&self, source: Source, few: usize) -> Result<(), Crowded> {
        let network = source.network();
        let mut stripe = self.stripe(network).lock();
        let Stripe { networks, sources } = &mut *stripe;
        if let Some(max) = self.max
            && sources.get(&source).is_some_and(|count| *count as usize >= max)
        {
            return Err(Crowded::Source);
        }
        let count = networks.entry(network);
        let held = if let Entry::Occupied(count) = &count { *count.get() as usize } else { 0 };
        if held >= few {
            return Err(Crowded::Network(held));
        }
        *count.or_insert(0) += 1;
        if self.max.is_some() {
            *sources.entry(source).or_insert(0) += 1;
        }
        Ok(())
    }

    fn give_back(&self, source: Source) {
        let network = source.network();
        let mut stripe = self.stripe(network).lock();
        count_down(&mut stripe.networks, network);
        if self.max.is_some() {
            count_down(&mut stripe.sources, source);
        }
    }
}

impl Stripe {
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.sources.is_empty()
    }
}

fn count_down(counts: &mut HashMap<Source, u32>, source: Source) {
    let Entry::Occupied(mut count) = counts.entry(source) else { return };
    *count.get_mut() -= 1;
    if *count.get() == 0 {
        count.remove();
        // Memory follows the number of addresses down as well as up.
        if counts.capacity() > 64 && counts.len() < counts.capacity() / 8 {
            counts.shrink_to_fit();
        }
    }
}

/// The generic cell rate algorithm (ITU-T I.371): one instant says how far ahead of its pace the listener is.
#[derive(Debug)]
struct AcceptRate {
    nanos_each: u64,
    paid_until: AtomicU64,
}

/// How far ahead of the pace a burst may run.
const BURST: Duration = Duration::from_secs(1);

impl AcceptRate {
    const fn new(per_second: u32) -> Self {
        let per_second = if per_second == 0 { 1 } else { per_second as u64 };
        Self { nanos_each: 1_000_000_000 / per_second, paid_until: AtomicU64::new(0) }
    }

    fn take(&self, now: Instant) -> bool {
        let now = now.as_nanos();
        let burst = BURST.as_nanos() as u64;
        self.paid_until
            .fetch_update(Relaxed, Relaxed, |paid_until| {
                let next = paid_until.max(now) + self.nanos_each;
                (next <= now + burst).then_some(next)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Peer;

    fn source(address: &str) -> Source {
        Peer::new(address.parse().expect("an address")).source()
    }

    /// Nothing but the accept rate that there is without a setting.
    const BOUNDS: Bounds =
        Bounds { max_connections: None, max_newcomers: None, max_per_address: None, accept_rate: 50_000 };

    fn limits(places: usize, bounds: Bounds) -> Limits {
        Limits::new("door".into(), Arc::new(Gauge::new(places)), bounds)
    }

    #[test]
    fn a_refused_connection_leaves_every_count_as_it_was() {
        let limits = limits(3, Bounds { max_per_address: Some(1), max_newcomers: Some(2), ..BOUNDS });
        let (a, b, c) = (source("10.0.0.1:1"), source("10.0.0.2:1"), source("10.0.0.3:1"));
        let now = Instant::ORIGIN;
        assert_eq!(limits.enter(now, a), Ok(()));
        assert_eq!(limits.enter(now, a), Err(CloseReason::AddressLimit));
        assert_eq!(limits.enter(now, b), Ok(()));
        assert_eq!(limits.enter(now, c), Err(CloseReason::NewcomerLimit));
        limits.speak();
        assert_eq!(limits.enter(now, c), Ok(()));
        assert_eq!(limits.enter(now, source("10.0.0.4:1")), Err(CloseReason::AtCapacity));
        limits.leave(a, false);
        limits.leave(b, true);
        limits.leave(c, true);
        limits.assert_empty();
    }

    #[test]
    fn who_is_refused_leaves_the_accept_rate_to_others() {
        let limits = limits(3, Bounds { max_per_address: Some(1), accept_rate: 3, ..BOUNDS });
        let (loud, quiet) = (source("10.0.0.1:1"), source("10.0.0.2:1"));
        assert_eq!(limits.enter(Instant::ORIGIN, loud), Ok(()));
        for _ in 0..100 {
            assert_eq!(limits.enter(Instant::ORIGIN, loud), Err(CloseReason::AddressLimit));
        }
        assert_eq!(limits.enter(Instant::ORIGIN, quiet), Ok(()));
        assert_eq!(limits.enter(Instant::ORIGIN, source("10.0.0.3:1")), Ok(()));
        for _ in 0..100 {
            assert_eq!(limits.enter(Instant::ORIGIN, source("10.0.0.4:1")), Err(CloseReason::AtCapacity));
        }
        limits.leave(quiet, true);
        assert_eq!(limits.enter(Instant::ORIGIN, source("10.0.0.4:1")), Err(CloseReason::AcceptRate));
        let next = Instant::ORIGIN.after(Duration::from_secs(1));
        assert_eq!(limits.enter(next, source("10.0.0.4:1")), Ok(()));
    }

    /// Fills the gateway from these addresses, in turn; then others come, one connection each.
    fn get_in(places: usize, attackers: &[Source], bounds: Bounds) -> usize {
        let limits = limits(places, bounds);
        for round in 0..2 * places {
            let attacker = attackers[round % attackers.len()];
            if limits.enter(Instant::ORIGIN, attacker).is_ok() && round % 2 == 0 {
                limits.speak();
            }
        }
        let others = (0..places).map(|n| source(&format!("10.{}.{}.{}:1", n >> 16, (n >> 8) & 255, n & 255)));
        others.filter(|other| limits.enter(Instant::ORIGIN, *other).is_ok()).count()
    }

    #[test]
    fn one_address_or_a_hundred_of_one_48_never_keep_others_out() {
        let one = [source("192.0.2.1:1")];
        let hundred: Vec<Source> = (0..100).map(|n| source(&format!("[2001:db8:7:{n:x}::1]:1"))).collect();
        let bounds = Bounds { accept_rate: u32::MAX, ..BOUNDS };
        for places in [4, 5, 8, 17, 100, 940, 2_000] {
            for attackers in [&one[..], &hundred] {
                let own = Bounds { max_connections: Some(places), ..bounds };
                let newcomers = Bounds { max_newcomers: Some(places), ..bounds };
                assert_eq!(get_in(places, attackers, bounds), places / 4, "of {places}");
                assert_eq!(get_in(10_000, attackers, own), places / 4, "of {places}");
                assert!(get_in(10_000, attackers, newcomers) >= places / 4, "of {places}");
            }
        }
    }

    #[test]
    fn a_proxy_may_be_allowed_all_places_and_a_limit_per_address_keeps_them_for_others_too() {
        let proxy = [source("192.0.2.1:1")];
        let bounds = |most| Bounds { max_per_address: Some(most), accept_rate: u32::MAX, ..BOUNDS };
        assert_eq!(KeptPlaces::among(1_000, Some(1_000)), None);
        assert_eq!(get_in(1_000, &proxy, bounds(1_000)), 0);
        let site: Vec<Source> = (0..100).map(|n| source(&format!("[2001:db8:7:{n:x}::1]:1"))).collect();
        assert_eq!(KeptPlaces::among(1_000, Some(20)), Some(KeptPlaces { count: 250, few: 4 }));
        assert_eq!(get_in(1_000, &site, bounds(20)), 250);
    }

    #[test]
    fn in_the_kept_places_few_is_few_and_none_is_left_when_all_have_gone() {
        let limits = limits(100, BOUNDS);
        let (crowd, house) = (source("192.0.2.1:1"), source("[2001:db8::1]:1"));
        let enter = |source| limits.enter(Instant::ORIGIN, source);
        assert_eq!((0..100).filter(|_| enter(crowd).is_ok()).count(), 75);
        assert_eq!((0..100).filter(|_| enter(house).is_ok()).count(), 4);
        // With room again, it is open to all.
        (0..10).for_each(|_| limits.leave(crowd, true));
        assert_eq!((0..100).filter(|_| enter(house).is_ok()).count(), 10 - 4);
        (0..65).for_each(|_| limits.leave(crowd, true));
        (0..10).for_each(|_| limits.leave(house, true));
        limits.assert_empty();
    }

    #[test]
    fn the_accept_rate_allows_a_burst_of_a_second_and_then_the_pace() {
        let rate = AcceptRate::new(10);
        let at = |millis| Instant::ORIGIN.after(Duration::from_millis(millis));
        assert_eq!((0..20).filter(|_| rate.take(at(0))).count(), 10);
        assert!(!rate.take(at(99)));
        assert!(rate.take(at(100)));
        assert!(!rate.take(at(100)));
        assert_eq!((0..20).filter(|_| rate.take(at(10_000))).count(), 10);
    }
}
