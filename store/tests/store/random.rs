//! Random requests from careful and careless connections, restarts in between, against a model that knows what
//! must hold.

use crate::driver::{Driver, TTL, detach, message, newcomer, returner, token};
use proptest::prelude::*;
use pulsegate_store::{Outcome, Reply, Request, StoreConfig};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Step {
    Begin,
    /// Which session, with which token: 0 the newest, 1 the one before, 2 another.
    Resume(usize, u8),
    /// Which session, how many epochs back, how far from the next number.
    Message(usize, u64, i8, bool),
    Confirm(usize),
    TokenUsed(usize),
    Detach(usize, bool),
    Pass(u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0..4_usize;
    let step = prop_oneof![
        2 => Just(Step::Begin),
        4 => (which.clone(), 0..3_u8).prop_map(|(which, token)| Step::Resume(which, token)),
        20 => (which.clone(), prop_oneof![8 => Just(0), 1 => 1..3_u64], prop_oneof![8 => Just(0), 2 => -2..3_i8], any::<bool>())
            .prop_map(|(which, back, off, large)| Step::Message(which, back, off, large)),
        4 => which.clone().prop_map(Step::Confirm),
        3 => which.clone().prop_map(Step::TokenUsed),
        3 => (which, any::<bool>()).prop_map(|(which, good)| Step::Detach(which, good)),
        2 => (1..70_u64).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..80)
}

#[derive(Debug)]
struct Model {
    epoch: u64,
    committed: u64,
    floor: u64,
    stored: Vec<u64>,
    token: u8,
    previous: Option<u8>,
    /// When it goes, if it has no connection.
    expires_ms: Option<u64>,
}

struct World {
    driver: Driver,
    directory: tempfile::TempDir,
    sessions: BTreeMap<u64, Model>,
    /// In order of their beginning, the forgotten ones as well.
    all: Vec<u64>,
    gone: BTreeMap<u64, Vec<u64>>,
    next_token: u8,
}

fn config() -> StoreConfig {
    StoreConfig { message_bytes_max: 8, ..StoreConfig::default() }
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let driver = Driver::open_with(directory.path(), config());
        Self {
            driver,
            directory,
            sessions: BTreeMap::new(),
            all: Vec::new(),
            gone: BTreeMap::new(),
            next_token: 1,
        }
    }

    fn pick(&self, which: usize) -> Option<u64> {
        self.all.iter().rev().nth(which).copied()
    }

    fn step(mut self, step: &Step) -> Self {
        match *step {
            Step::Begin => {
                self.next_token = self.next_token.wrapping_add(1);
                let attach = newcomer("a", self.next_token, self.driver.now);
                let attached = self.driver.attach(attach).unwrap();
                self.add(attached.session);
            }
            Step::Resume(which, kind) => self.resume(which, kind),
            Step::Message(which, back, off, large) => self.message(which, back, off, large),
            Step::Confirm(which) => {
                let Some(id) = self.pick(which) else { return self };
                let Some(model) = self.sessions.get_mut(&id) else { return self };
                model.floor = model.committed;
                let (epoch, floor) = (model.epoch, model.floor);
                assert_eq!(self.driver.ask([Request::Confirm { session: id, epoch, floor }]), []);
            }
            Step::TokenUsed(which) => {
                let Some(id) = self.pick(which) else { return self };
                let Some(model) = self.sessions.get_mut(&id) else { return self };
                model.previous = None;
                let epoch = model.epoch;
                assert_eq!(self.driver.ask([Request::TokenUsed { session: id, epoch }]), []);
            }
            Step::Detach(which, for_good) => self.detach(which, for_good),
            Step::Pass(seconds) => {
                let replies = self.driver.pass(Duration::from_secs(seconds));
                let now = self.driver.now.uptime_ms;
                let due = |model: &Model| model.expires_ms.is_some_and(|at| at <= now);
                let mut expired: Vec<_> =
                    self.sessions.iter().filter(|(_, model)| due(model)).map(|(id, _)| *id).collect();
                expired.sort_unstable();
                let mut told: Vec<_> = replies
                    .iter()
                    .map(|reply| match reply {
                        Reply::Expired { session, unknown: None } => *session,
                        other => panic!("{other:?}"),
                    })
                    .collect();
                told.sort_unstable();
                assert_eq!(told, expired);
                expired.iter().for_each(|id| self.forget(*id));
            }
            Step::Restart => {
                let now = self.driver.now;
                drop(self.driver);
                self.driver = Driver::open_with(self.directory.path(), config());
                let start = self.driver.now.uptime_ms;
                let ttl = u64::try_from(TTL.as_millis()).unwrap();
                self.sessions.values_mut().for_each(|model| model.expires_ms = Some(start + ttl));
                self.driver.now.wall_ms = now.wall_ms;
            }
        }
        self
    }

    fn add(&mut self, id: u64) {
        assert!(!self.all.contains(&id), "a session's number is never used again");
        self.all.push(id);
        let model = Model {
            epoch: 1,
            committed: 0,
            floor: 0,
            stored: Vec::new(),
            token: self.next_token,
            previous: None,
            expires_ms: None,
        };
        self.sessions.insert(id, model);
    }

    fn forget(&mut self, id: u64) {
        let model = self.sessions.remove(&id).unwrap();
        self.gone.insert(id, model.stored);
    }

    fn resume(&mut self, which: usize, kind: u8) {
        let Some(id) = self.pick(which) else { return };
        self.next_token = self.next_token.wrapping_add(1);
        let next = self.next_token;
        let shown = match (self.sessions.get(&id), kind) {
            (Some(model), 0) => model.token,
            (Some(model), 1) => model.previous.unwrap_or(0),
            _ => 0,
        };
        let answer = self.driver.attach(returner("a", id, shown, next, self.driver.now));
        let Some(model) = self.sessions.get_mut(&id) else {
            let attached = answer.unwrap();
            assert_eq!(attached.outcome, Outcome::New);
            return self.add(attached.session);
        };
        if shown != model.token && Some(shown) != model.previous {
            return assert!(matches!(answer, Err(Reply::AttachRefused { .. })), "{answer:?}");
        }
        let attached = answer.unwrap();
        model.epoch += 1;
        if shown == model.token {
            (model.previous, model.token) = (Some(shown), next);
        }
        model.expires_ms = None;
        assert_eq!(attached.token, token(model.token));
        assert_eq!((attached.session, attached.epoch, attached.lost), (id, model.epoch, None));
        assert_eq!((attached.committed, attached.floor), (model.committed, model.floor));
        let refused = (model.floor + 1..=model.committed).filter(|number| !model.stored.contains(number));
        assert!(attached.refused.iter().map(|refusal| refusal.number).eq(refused));
    }

    fn message(&mut self, which: usize, back: u64, off: i8, large: bool) {
        let Some(id) = self.pick(which) else { return };
        let Some(model) = self.sessions.get_mut(&id) else { return };
        let epoch = model.epoch.saturating_sub(back);
        let number = (model.committed + 1).saturating_add_signed(i64::from(off)).max(1);
        let replies =
            self.driver.ask([message(id, epoch, number, if large { b"far too large" } else { b"x" })]);
        if epoch != model.epoch {
            assert_eq!(replies, []);
        } else if number > model.committed + 1 {
            assert!(matches!(replies[..], [Reply::Ended { .. }]), "{replies:?}");
        } else {
            let is_new = number == model.committed + 1;
            model.committed = model.committed.max(number);
            let receipt = Reply::Committed {
                ticket: 100 + u128::from(number),
                session: id,
                epoch,
                committed: model.committed,
            };
            assert_eq!(replies.last(), Some(&receipt));
            assert_eq!(replies.len(), if is_new && large { 2 } else { 1 });
            if is_new && !large {
                model.stored.push(number);
            }
        }
    }

    fn detach(&mut self, which: usize, for_good: bool) {
        let Some(id) = self.pick(which) else { return };
        let Some(model) = self.sessions.get_mut(&id) else { return };
        let replies = self.driver.ask([detach(id, model.epoch, for_good, self.driver.now)]);
        if model.expires_ms.is_some() {
            return assert_eq!(replies, []);
        }
        let forgotten = for_good && model.floor == model.committed;
        assert_eq!(replies, [Reply::Detached { ticket: 9, session: id, epoch: model.epoch, forgotten }]);
        if forgotten {
            self.forget(id);
        } else {
            model.expires_ms = Some(self.driver.now.uptime_ms + u64::try_from(TTL.as_millis()).unwrap());
        }
    }

    fn check(&self) {
        let mut stored: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for message in self.driver.stored() {
            stored.entry(message.session).or_default().push(message.number);
        }
        let living = self.sessions.iter().map(|(id, model)| (*id, model.stored.clone()));
        let mut wanted: BTreeMap<_, _> = self.gone.clone().into_iter().chain(living).collect();
        wanted.retain(|_, numbers| !numbers.is_empty());
        assert_eq!(stored, wanted);
        assert_eq!(self.driver.store.figures().sessions, self.sessions.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_asked_each_number_is_stored_once(steps in steps()) {
        let world = steps.iter().fold(World::new(), World::step);
        world.check();
    }
}
