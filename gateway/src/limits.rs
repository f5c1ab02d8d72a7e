//! Who may enter: the limits that all shards share. Touched when a connection is accepted, has spoken for
//! the first time, and ends; never for a message.

use crate::config::ListenerConfig;
use crate::peer::Source;
use parking_lot::Mutex;
use pulsegate_core::close::CloseReason;
use pulsegate_core::time::Instant;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Stripes of the count per source address; a power of two.
const STRIPES: usize = 64;

/// The limits of one listener, and those of the whole gateway with them.
#[derive(Debug)]
pub(crate) struct Limits {
    total: Arc<Gauge>,
    listener: Gauge,
    newcomers: Gauge,
    per_address: PerAddress,
    rate: AcceptRate,
}

impl Limits {
    /// The limits of a listener; `total` is shared by all listeners of a gateway.
    pub(crate) fn new(total: Arc<Gauge>, config: &ListenerConfig) -> Self {
        let of_all = total.max;
        Self {
            listener: Gauge::new(config.max_connections.unwrap_or(of_all)),
            newcomers: Gauge::new(config.max_newcomers.unwrap_or(of_all)),
            per_address: PerAddress::new(config.max_per_address.unwrap_or(of_all)),
            rate: AcceptRate::new(config.accept_rate),
            total,
        }
    }

    /// Lets a connection in, as a newcomer, or says why not.
    pub(crate) fn enter(&self, now: Instant, source: Source) -> Result<(), CloseReason> {
        if !self.rate.take(now) {
            return Err(CloseReason::AcceptRate);
        }
        let gauges = [
            (&*self.total, CloseReason::AtCapacity),
            (&self.listener, CloseReason::AtCapacity),
            (&self.newcomers, CloseReason::NewcomerLimit),
        ];
        let taken = gauges.iter().take_while(|(gauge, _)| gauge.take()).count();
        let refusal = match gauges.get(taken) {
            Some((_, reason)) => Some(*reason),
            None => (!self.per_address.take(source)).then_some(CloseReason::AddressLimit),
        };
        let Some(reason) = refusal else { return Ok(()) };
        gauges[..taken].iter().for_each(|(gauge, _)| gauge.give_back());
        Err(reason)
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
    pub(crate) fn speak(&self) {
        self.newcomers.give_back();
    }

    /// A connection is gone.
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
pub(crate) struct Gauge {
    max: usize,
    count: AtomicUsize,
}

impl Gauge {
    /// Nothing counted yet, at most `max`.
    pub(crate) const fn new(max: usize) -> Self {
        Self { max, count: AtomicUsize::new(0) }
    }

    fn take(&self) -> bool {
        self.count.fetch_update(Relaxed, Relaxed, |count| (count < self.max).then_some(count + 1)).is_ok()
    }

    fn give_back(&self) {
        self.count.fetch_sub(1, Relaxed);
    }
}

/// Counts per source address, striped so that shards seldom meet. An address with no connection costs nothing.
#[derive(Debug)]
struct PerAddress {
    max: usize,
    hasher: RandomState,
    stripes: Box<[Mutex<HashMap<Source, u32>>]>,
}

impl PerAddress {
    fn new(max: usize) -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { max, hasher: RandomState::new(), stripes }
    }

    fn stripe(&self, source: Source) -> &Mutex<HashMap<Source, u32>> {
        &self.stripes[self.hasher.hash_one(source) as usize % STRIPES]
    }

    fn take(&self, source: Source) -> bool {
        let mut counts = self.stripe(source).lock();
        let count = counts.entry(source).or_insert(0);
        if *count as usize >= self.max {
            return false;
        }
        *count += 1;
        true
    }

    fn give_back(&self, source: Source) {
        let mut counts = self.stripe(source).lock();
        let Some(count) = counts.get_mut(&source) else { return };
        *count -= 1;
        if *count == 0 {
            counts.remove(&source);
            // Memory follows the number of addresses down as well as up.
            if counts.capacity() > 64 && counts.len() < counts.capacity() / 8 {
                counts.shrink_to_fit();
            }
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

    fn limits(change: impl FnOnce(&mut ListenerConfig)) -> Limits {
        let mut config = ListenerConfig::default();
        change(&mut config);
        Limits::new(Arc::new(Gauge::new(3)), &config)
    }

    #[test]
    fn a_refused_connection_leaves_every_count_as_it_was() {
        let limits = limits(|config| {
            config.max_per_address = Some(1);
            config.max_newcomers = Some(2);
        });
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
