//! What a worker does in the measured part, by mode. A load is called once a turn, says when it wants to be called again,
//! and takes in what happened to its connections. Must not know: threads, the poller, or the other workers.

mod churn;
mod exchange;
mod flood;
mod hold;
mod once;
mod opener;
mod reap;
mod short;
mod storm;

pub(crate) use opener::Opener;

use crate::crowd::{Crowd, Happening};
use crate::dialect::filler;
use crate::plan::{Kind, Plan, share};
use crate::schedule::Rounds;
use crate::stage::{Nanos, nanos};

/// What a turn asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing is due before this instant.
    Until(Nanos),
    /// There is more to do at once.
    Busy,
    /// It is over.
    Done,
}

impl Turn {
    /// What both ask for, if neither is over.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Until(one), Self::Until(two)) => Self::Until(one.min(two)),
            (Self::Done, other) | (other, Self::Done) => other,
            (Self::Busy, _) | (_, Self::Busy) => Self::Busy,
        }
    }
}

/// The measured part of a mode, for one worker's connections.
pub(crate) trait Load {
    /// The measured part begins.
    fn begin(&mut self, crowd: &mut Crowd, at: Nanos);
    /// Does a bounded part of what is due.
    fn turn(&mut self, crowd: &mut Crowd, now: Nanos) -> Turn;
    /// Takes in what happened to a connection.
    fn handle(&mut self, crowd: &mut Crowd, happening: Happening);
    /// Whether this connection takes part in the rounds of heartbeats.
    fn beats(&self, _index: usize) -> bool {
        true
    }
}

/// The load of worker `number` of `workers`.
pub(crate) fn load(plan: &Plan, workers: usize, number: usize) -> Box<dyn Load> {
    let size = share(plan.connections, workers, number).len();
    match plan.kind {
        Kind::Idle { hold, .. } => Box::new(hold::Hold::new(nanos(hold))),
        Kind::Beat { span, .. } => Box::new(hold::Hold::new(nanos(span))),
        Kind::Flood { span, batch } => {
            let payload = plan.dialect.message.repeat(batch.max(1));
            Box::new(flood::Flood::new(nanos(span + plan.kind.warm()), payload))
        }
        Kind::Exchange { span, size: bytes, window, rate, .. } => {
            let pace = rate.map(|rate| {
                let period = (plan.connections as f64 * 1e9 / rate.max(1) as f64) as Nanos;
                // Workers take their steps between each other's.
                let phase = period / plan.connections.max(1) as u64 * number as u64 / workers as u64;
                Rounds::new(period, size as u64, phase)
            });
            let warm = nanos(plan.kind.warm());
            Box::new(exchange::Exchange::new(warm, nanos(span), filler(bytes), window as u64, pace))
        }
        Kind::Reap { timeout, spread, grace, beating, .. } => {
            let silent = size - share(beating, workers, number).len().min(size);
            Box::new(reap::Reap::new(silent, nanos(timeout), nanos(spread), nanos(grace)))
        }
        Kind::Once { timeout, spread, grace } => {
            Box::new(once::Once::new(nanos(timeout), nanos(spread), nanos(grace)))
        }
        Kind::Short { deadline, spread, grace, .. } => {
            Box::new(short::Short::new(nanos(deadline), nanos(spread), nanos(grace)))
        }
        Kind::Churn { span, rate } => {
            let span = span + plan.kind.warm();
            let of_rate = rate.map(|rate| (rate as f64 * span.as_secs_f64()) as usize);
            let count = of_rate.map(|count| share(count, workers, number).len() as u64);
            Box::new(churn::Churn::new(nanos(span), count))
        }
        Kind::Storm { within } => Box::new(storm::Storm::new(nanos(within))),
    }
}

#[cfg(test)]
mod tests {
    use super::Turn;

    #[test]
    fn two_turns_ask_for_what_comes_first() {
        let (soon, later) = (Turn::Until(1), Turn::Until(2));
        assert_eq!((later.and(soon), soon.and(Turn::Busy)), (soon, Turn::Busy));
        assert_eq!((Turn::Done.and(later), Turn::Busy.and(Turn::Done)), (later, Turn::Busy));
        assert_eq!(Turn::Done.and(Turn::Done), Turn::Done);
    }
}
