//! Applications that wait to hear what has become of their messages to clients. Each hears it once, whatever happens to
//! the store, and what an application does then can't harm a store.

use crate::clock::wall_ms;
use parking_lot::Mutex;
use pulsegate_sessions::{Committer, PushRefusal, Recipient, Reply, Request, SubmitError, Ticket};
use pulsegate_shard::{APPLICATION, Post, PushOutcome};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

type Told = Box<dyn FnOnce(PushOutcome) + Send>;

/// A message that a store was asked to keep.
struct Asked {
    told: Told,
    /// Which store has it.
    store: usize,
    /// Set if another one may know its client.
    again: Option<Again>,
}

/// The committers of a gateway, in the order of the ledgers.
pub(crate) type Committers = Arc<[Weak<dyn Committer>]>;

/// What it takes to ask another store.
struct Again {
    stores: Committers,
    /// Those that have not been asked.
    places: RangeInclusive<usize>,
    to: Recipient,
    payload: Box<[u8]>,
}

/// Applications that wait for an answer.
#[derive(Default)]
pub(crate) struct Awaited {
    numbers: AtomicU64,
    asked: Mutex<HashMap<Ticket, Asked>>,
}

impl Awaited {
    /// Asks one store to keep a message, or the first, and the others in turn until one knows the client. `told` hears
    /// what has become of it, on a store's thread.
    ///
    /// # Errors
    /// If it was not taken; `told` is not called then.
    pub(crate) fn submit(
        &self,
        stores: &Committers,
        only: Option<usize>,
        to: Recipient,
        payload: Box<[u8]>,
        told: Told,
    ) -> Result<(), SubmitError> {
        let all = || 0..=stores.len().saturating_sub(1);
        let places = only.map_or_else(all, |only| only..=only);
        self.ask(stores, places, to, payload, told).map_err(|(error, _told)| error)
    }

    fn ask(
        &self,
        stores: &Committers,
        places: RangeInclusive<usize>,
        to: Recipient,
        payload: Box<[u8]>,
        told: Told,
    ) -> Result<(), (SubmitError, Told)> {
        let place = *places.start();
        let Some(store) = stores.get(place).and_then(Weak::upgrade) else {
            return Err((SubmitError::Closed, told));
        };
        let ticket = APPLICATION | Ticket::from(self.numbers.fetch_add(1, Relaxed));
        let next = place + 1..=*places.end();
        let again = (!next.is_empty()).then(|| Again {
            stores: Arc::clone(stores),
            places: next,
            to: to.clone(),
            payload: payload.clone(),
        });
        self.asked.lock().insert(ticket, Asked { told, store: place, again });
        let request = Request::Push { ticket, to, now_ms: wall_ms(), payload };
        self.withdraw(ticket, store.submit(request))
    }

    /// What a store has not taken is asked of it no more. If the store has ended since it was asked, its end has been
    /// told already: then it counts as taken, so that nobody hears it twice.
    fn withdraw(
        &self,
        ticket: Ticket,
        submitted: Result<(), SubmitError>,
    ) -> Result<(), (SubmitError, Told)> {
        let Err(error) = submitted else { return Ok(()) };
        self.take(ticket).map_or(Ok(()), |asked| Err((error, asked.told)))
    }

    fn take(&self, ticket: Ticket) -> Option<Asked> {
        self.asked.lock().remove(&ticket)
    }

    /// A store has answered.
    fn handle_outcome(&self, ticket: Ticket, outcome: PushOutcome) {
        let Some(Asked { told, again, .. }) = self.take(ticket) else { return };
        let again = again.filter(|_| outcome == Err(PushRefusal::NoSession));
        let Some(Again { stores, places, to, payload }) = again else { return tell(told, outcome) };
        match self.ask(&stores, places, to, payload, told) {
            Err((SubmitError::Busy, told)) => tell(told, Err(PushRefusal::Full)),
            Err((SubmitError::Closed, told)) => tell(told, outcome),
            Ok(()) => {}
        }
    }

    /// A store has ended: it answers nothing any more.
    fn handle_end(&self, store: usize) {
        let ended = |_: &Ticket, asked: &mut Asked| asked.store == store;
        let unanswered: Vec<_> = self.asked.lock().extract_if(ended).collect();
        for (_, asked) in unanswered {
            tell(asked.told, Err(PushRefusal::Unknown));
        }
    }
}

/// A panic of the application must not stop the store, nor others who wait for it.
fn tell(told: Told, outcome: PushOutcome) {
    if catch_unwind(AssertUnwindSafe(|| told(outcome))).is_err() {
        tracing::error!("the application panicked in the callback of a message to a client");
    }
}

impl std::fmt::Debug for Awaited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Awaited").field("waiting", &self.asked.lock().len()).finish_non_exhaustive()
    }
}

/// Goes with a committer's thread, and tells those who still wait when that has ended, by whatever cause.
#[derive(Debug)]
pub(super) struct LastWord {
    awaited: Arc<Awaited>,
    store: usize,
}

impl LastWord {
    pub(super) fn new(awaited: &Arc<Awaited>, store: usize) -> Self {
        Self { awaited: Arc::clone(awaited), store }
    }

    /// Brings shards and applications what comes before the last word.
    pub(super) fn deliver(&self, post: &Post, replies: Vec<Reply>) {
        post.deliver(replies, |ticket, outcome| self.awaited.handle_outcome(ticket, outcome));
    }
}

impl Drop for LastWord {
    fn drop(&mut self) {
        self.awaited.handle_end(self.store);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::stores::Destination;
    use pulsegate_store::StoreConfig;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn destination() -> Destination {
        Destination { mailboxes: [].into(), awaited: Arc::default() }
    }

    fn open(destination: &Destination, place: usize) -> Arc<dyn Committer> {
        let config = StoreConfig::default();
        destination.open_in_memory(place, config, Clock::start(), None).expect("there is memory").committer
    }

    fn send(destination: &Destination, stores: &Committers) -> Receiver<PushOutcome> {
        send_to(destination, stores, None)
    }

    fn send_to(destination: &Destination, stores: &Committers, only: Option<usize>) -> Receiver<PushOutcome> {
        let (sender, outcome) = channel();
        let told = move |outcome| sender.send(outcome).expect("the test waits");
        let to = Recipient::Client("nobody".to_owned());
        destination.awaited.submit(stores, only, to, [][..].into(), Box::new(told)).expect("it is taken");
        outcome
    }

    #[test]
    fn a_callback_that_panics_does_not_end_the_store() {
        let destination = destination();
        let store = open(&destination, 0);
        let stores: Committers = [Arc::downgrade(&store)].into();
        let to = Recipient::Client("nobody".to_owned());
        let panics = Box::new(|_| panic!("on purpose"));
        destination.awaited.submit(&stores, None, to, [][..].into(), panics).expect("it is taken");
        let outcome = send(&destination, &stores).recv_timeout(PATIENCE);
        assert_eq!(outcome, Ok(Err(PushRefusal::NoSession)));
    }

    #[test]
    fn who_waits_when_a_store_ends_hears_that_nobody_knows() {
        let destination = destination();
        let store = open(&destination, 0);
        let stores: Committers = [Arc::downgrade(&store)].into();
        let outcome = send(&destination, &stores);
        let ticket = APPLICATION | 7;
        let (sender, unanswered) = channel();
        let told = Box::new(move |outcome| sender.send(outcome).expect("the test waits"));
        destination.awaited.asked.lock().insert(ticket, Asked { told, store: 0, again: None });
        drop(store);
        assert_eq!(outcome.recv_timeout(PATIENCE), Ok(Err(PushRefusal::NoSession)), "it was answered");
        assert_eq!(unanswered.recv_timeout(PATIENCE), Ok(Err(PushRefusal::Unknown)));
        assert!(destination.awaited.asked.lock().is_empty());
    }

    #[test]
    fn who_was_told_of_the_end_of_a_store_hears_no_error_as_well() {
        let awaited = Awaited::default();
        let (sender, outcome) = channel();
        for ticket in [APPLICATION, APPLICATION | 1] {
            let sender = sender.clone();
            let told = Box::new(move |outcome| sender.send(outcome).expect("the test waits"));
            awaited.asked.lock().insert(ticket, Asked { told, store: 0, again: None });
        }
        let refused = awaited.withdraw(APPLICATION, Err(SubmitError::Closed));
        assert!(matches!(refused, Err((SubmitError::Closed, _))), "nobody has told it of anything");
        // The store ends between the two steps of asking it.
        awaited.handle_end(0);
        assert_eq!(outcome.try_recv(), Ok(Err(PushRefusal::Unknown)));
        assert!(awaited.withdraw(APPLICATION | 1, Err(SubmitError::Closed)).is_ok());
    }

    #[test]
    fn all_stores_are_asked_before_a_client_is_unknown() {
        let destination = destination();
        let [first, second] = [open(&destination, 0), open(&destination, 1)];
        let stores: Committers = [Arc::downgrade(&first), Arc::downgrade(&second)].into();
        let outcome = send(&destination, &stores);
        assert_eq!(outcome.recv_timeout(PATIENCE), Ok(Err(PushRefusal::NoSession)));
        assert_eq!(destination.awaited.numbers.load(Relaxed), 2);
        let outcome = send_to(&destination, &stores, Some(0));
        assert_eq!(outcome.recv_timeout(PATIENCE), Ok(Err(PushRefusal::NoSession)));
        assert_eq!(destination.awaited.numbers.load(Relaxed), 3, "or the one that is meant");
        drop(second);
        let outcome = send(&destination, &stores);
        assert_eq!(outcome.recv_timeout(PATIENCE), Ok(Err(PushRefusal::NoSession)), "once, whatever happens");
    }
}
