//! Random requests from careful and careless connections, restarts in between, against a model that knows what
//! must hold. In a directory and in memory alike.

use crate::driver::{Driver, TTL, append, detach, message, newcomer, push, returner, token};
use proptest::prelude::*;
use pulsegate_store::SecondConnection::{Allow, Refuse, Replace};
use pulsegate_store::{
    Attach, AttachRefusal, Attachment, Durability, Outcome, Recipient, Reply, Request, Seat,
    SecondConnection, StoreConfig, Ticket,
};
use std::collections::BTreeMap;
use std::time::Duration;

const CLIENTS: [&str; 2] = ["a", "b"];

#[derive(Clone, Debug)]
enum Step {
    /// Which client.
    Begin(usize, SecondConnection),
    /// Which session, with which token: 0 the newest, 1 the one before, 2 another.
    Resume(usize, u8, SecondConnection),
    /// Which session, how many epochs back, how far from the next number.
    Message(usize, u64, i8, bool),
    Append,
    Push(usize),
    /// Which session, how far from the next number.
    OutReceipt(usize, u64),
    Confirm(usize),
    TokenUsed(usize),
    Detach(usize, bool),
    Pass(u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0..4_usize;
    let second = prop_oneof![4 => Just(Allow), 2 => Just(Replace), 1 => Just(Refuse)];
    let step = prop_oneof![
        2 => (0..CLIENTS.len(), second.clone()).prop_map(|(client, second)| Step::Begin(client, second)),
        4 => (which.clone(), 0..3_u8, second)
            .prop_map(|(which, token, second)| Step::Resume(which, token, second)),
        2 => Just(Step::Append),
        4 => which.clone().prop_map(Step::Push),
        3 => (which.clone(), 0..3_u64).prop_map(|(which, of)| Step::OutReceipt(which, of)),
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
    client: usize,
    /// The ticket of its connection.
    connection: Option<Ticket>,
    epoch: u64,
    committed: u64,
    floor: u64,
    stored: Vec<u64>,
    out_last: u64,
    out_committed: u64,
    token: u8,
    previous: Option<u8>,
    /// When it goes, if it has no connection.
    expires_ms: Option<u64>,
}

impl Model {
    /// The first and the last of our messages without a receipt.
    fn unknown(&self) -> Option<(u64, u64)> {
        (self.out_committed < self.out_last).then_some((self.out_committed + 1, self.out_last))
    }
}

struct World {
    driver: Driver,
    /// Where it is, unless it is in memory.
    directory: Option<tempfile::TempDir>,
    sessions: BTreeMap<u64, Model>,
    /// In order of their beginning, the forgotten ones as well.
    all: Vec<u64>,
    gone: BTreeMap<u64, Vec<u64>>,
    next_token: u8,
    next_ticket: Ticket,
    appended: Vec<u64>,
}

fn config(durability: Durability) -> StoreConfig {
    StoreConfig { durability, message_bytes_max: 8, ..StoreConfig::default() }
}

impl World {
    fn new(in_memory: bool) -> Self {
        let directory = (!in_memory).then(|| tempfile::tempdir().unwrap());
        let driver = match &directory {
            Some(directory) => Driver::open_with(directory.path(), config(Durability::Synced)),
            None => Driver::open_in_memory(config(Durability::None)),
        };
        Self {
            driver,
            directory,
            sessions: BTreeMap::new(),
            all: Vec::new(),
            gone: BTreeMap::new(),
            next_token: 1,
            next_ticket: 1 << 64,
            appended: Vec::new(),
        }
    }

    fn pick(&self, which: usize) -> Option<u64> {
        self.all.iter().rev().nth(which).copied()
    }

    fn step(mut self, step: &Step) -> Self {
        match *step {
            Step::Begin(client, second) => {
                let next = self.next_token();
                let attach = newcomer(CLIENTS[client], next, self.driver.now);
                self.begin(client, second, attach);
            }
            Step::Resume(which, kind, second) => self.resume(which, kind, second),
            Step::Message(which, back, off, large) => self.message(which, back, off, large),
            Step::Append => {
                let number = self.next_ticket as u64;
                self.next_ticket += 1;
                assert_eq!(self.driver.ask([append("raw", number, b"x")]), []);
                self.appended.push(number);
            }
            Step::Push(which) => self.push(which),
            Step::OutReceipt(which, of) => self.out_receipt(which, of),
            Step::Confirm(which) => {
                let Some(id) = self.pick(which) else { return self };
                let Some(model) = self.sessions.get_mut(&id) else { return self };
                model.floor = model.committed;
                let floor = model.floor;
                let attachment = Attachment { session: id, epoch: model.epoch };
                assert_eq!(self.driver.ask([Request::Confirm { attachment, floor }]), []);
            }
            Step::TokenUsed(which) => {
                let Some(id) = self.pick(which) else { return self };
                let Some(model) = self.sessions.get_mut(&id) else { return self };
                model.previous = None;
                let attachment = Attachment { session: id, epoch: model.epoch };
                assert_eq!(self.driver.ask([Request::TokenUsed { attachment }]), []);
            }
            Step::Detach(which, for_good) => self.detach(which, for_good),
            Step::Pass(seconds) => {
                let replies = self.driver.pass(Duration::from_secs(seconds));
                let now = self.driver.now.uptime_ms;
                let due = |model: &Model| model.expires_ms.is_some_and(|at| at <= now);
                let expired: Vec<_> = self
                    .sessions
                    .iter()
                    .filter(|(_, model)| due(model))
                    .map(|(id, model)| (*id, model.unknown()))
                    .collect();
                let mut told: Vec<_> = replies
                    .iter()
                    .map(|reply| match reply {
                        Reply::Expired { session, unknown } => (*session, *unknown),
                        other => panic!("{other:?}"),
                    })
                    .collect();
                told.sort_unstable();
                assert_eq!(told, expired);
                expired.iter().for_each(|(id, _)| self.forget(*id));
            }
            Step::Restart => {
                // What was in memory only would be gone.
                let Some(directory) = &self.directory else { return self };
                let now = self.driver.now;
                drop(self.driver);
                self.driver = Driver::open_with(directory.path(), config(Durability::Synced));
                let start = self.driver.now.uptime_ms;
                let ttl = u64::try_from(TTL.as_millis()).unwrap();
                for model in self.sessions.values_mut() {
                    (model.expires_ms, model.connection) = (Some(start + ttl), None);
                }
                self.driver.now.wall_ms = now.wall_ms;
            }
        }
        self
    }

    fn next_token(&mut self) -> u8 {
        self.next_token = self.next_token.wrapping_add(1);
        self.next_token
    }

    /// Attaches with a ticket of its own.
    fn attach(
        &mut self,
        second: SecondConnection,
        attach: Attach,
    ) -> Result<pulsegate_store::Attached, Reply> {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let answer = self.driver.attach(Attach { ticket, second, ..attach });
        if let Ok(attached) = &answer {
            assert_eq!(attached.seat.ticket, ticket);
        }
        answer
    }

    /// Whether another session of the client has a connection.
    fn has_other(&self, client: usize, but: Option<u64>) -> bool {
        self.sessions
            .iter()
            .any(|(id, model)| Some(*id) != but && model.client == client && model.connection.is_some())
    }

    fn begin(&mut self, client: usize, second: SecondConnection, attach: Attach) {
        let is_refused = second != Allow && self.has_other(client, None);
        let answer = self.attach(second, attach);
        if is_refused {
            let ticket = self.next_ticket;
            return assert_eq!(answer, Err(Reply::AttachRefused { ticket, why: AttachRefusal::InUse }));
        }
        let attached = answer.unwrap();
        assert_eq!((attached.outcome, attached.replaced), (Outcome::New, None));
        self.add(client, attached.session());
    }

    fn add(&mut self, client: usize, id: u64) {
        assert!(!self.all.contains(&id), "a session's number is never used again");
        self.all.push(id);
        let model = Model {
            client,
            connection: Some(self.next_ticket),
            epoch: 1,
            committed: 0,
            floor: 0,
            stored: Vec::new(),
            out_last: 0,
            out_committed: 0,
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

    fn resume(&mut self, which: usize, kind: u8, second: SecondConnection) {
        let Some(id) = self.pick(which) else { return };
        let next = self.next_token();
        let Some(model) = self.sessions.get(&id) else {
            let attach = returner(CLIENTS[0], id, 0, next, self.driver.now);
            return self.begin(0, second, attach);
        };
        let shown = match kind {
            0 => model.token,
            1 => model.previous.unwrap_or(0),
            _ => 0,
        };
        let (client, is_valid) = (model.client, shown == model.token || Some(shown) == model.previous);
        let in_use = match second {
            Allow => false,
            Replace => self.has_other(client, Some(id)),
            Refuse => self.has_other(client, None),
        };
        let answer = self.attach(second, returner(CLIENTS[client], id, shown, next, self.driver.now));
        let ticket = self.next_ticket;
        if !is_valid || in_use {
            let why = if is_valid { AttachRefusal::InUse } else { AttachRefusal::BadToken };
            return assert_eq!(answer, Err(Reply::AttachRefused { ticket, why }));
        }
        let attached = answer.unwrap();
        let model = self.sessions.get_mut(&id).unwrap();
        model.epoch += 1;
        if shown == model.token {
            (model.previous, model.token) = (Some(shown), next);
        }
        model.expires_ms = None;
        assert_eq!(attached.replaced, model.connection.replace(ticket));
        assert_eq!(attached.token, token(model.token));
        assert_eq!((attached.session(), attached.epoch(), attached.lost), (id, model.epoch, None));
        assert_eq!((attached.committed, attached.floor), (model.committed, model.floor));
        let refused = (model.floor + 1..=model.committed).filter(|number| !model.stored.contains(number));
        assert!(attached.refused.iter().map(|refusal| refusal.number).eq(refused));
        assert_eq!(attached.acknowledged, model.out_committed);
        let (epoch, above, last) = (model.epoch, model.out_committed, model.out_last);
        assert_eq!(attached.is_behind, above < last);
        let outgoing = self.driver.load(id, epoch, above);
        assert!(outgoing.iter().map(|message| message.number).eq(above + 1..=last));
    }

    fn push(&mut self, which: usize) {
        let Some(id) = self.pick(which) else { return };
        let Some(model) = self.sessions.get_mut(&id) else { return };
        model.out_last += 1;
        let pushed = Reply::Pushed {
            ticket: 1,
            attachment: Attachment { session: id, epoch: model.epoch },
            connection: model.connection,
            number: model.out_last,
            payload: b"x"[..].into(),
        };
        assert_eq!(self.driver.ask([push(1, Recipient::Session(id), b"x")]), [pushed]);
    }

    fn out_receipt(&mut self, which: usize, of: u64) {
        let Some(id) = self.pick(which) else { return };
        let Some(model) = self.sessions.get_mut(&id) else { return };
        let (epoch, committed) = (model.epoch, model.out_committed + of);
        if committed <= model.out_last {
            model.out_committed = committed;
        }
        assert_eq!(
            self.driver
                .ask([Request::OutReceipt { attachment: Attachment { session: id, epoch }, committed }]),
            []
        );
    }

    fn message(&mut self, which: usize, back: u64, off: i8, large: bool) {
        let Some(id) = self.pick(which) else { return };
        let Some(model) = self.sessions.get_mut(&id) else { return };
        let epoch = model.epoch.saturating_sub(back);
        let number = (model.committed + 1).saturating_add_signed(i64::from(off)).max(1);
        let replies =
            self.driver.ask([message(id, epoch, number, if large { b"far too large" } else { b"x" })]);
        if epoch != model.epoch {
            assert_eq!(replies, [], "it has been replaced, and told so");
        } else if number > model.committed + 1 {
            assert!(matches!(replies[..], [Reply::Ended { .. }]), "{replies:?}");
        } else {
            let is_new = number == model.committed + 1;
            model.committed = model.committed.max(number);
            let receipt = Reply::Committed {
                seat: Seat::new(100 + u128::from(number), id, epoch),
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
            let known = Reply::Detached { seat: Seat::new(9, id, model.epoch), forgotten: false };
            return assert_eq!(replies, [known]);
        }
        let forgotten = for_good && model.floor == model.committed && model.unknown().is_none();
        assert_eq!(replies, [Reply::Detached { seat: Seat::new(9, id, model.epoch), forgotten }]);
        if forgotten {
            self.forget(id);
        } else {
            model.connection = None;
            model.expires_ms = Some(self.driver.now.uptime_ms + u64::try_from(TTL.as_millis()).unwrap());
        }
    }

    /// What was committed: session and number, in order.
    fn committed(&self) -> Vec<(u64, u64)> {
        if self.directory.is_some() {
            self.driver.stored().iter().map(|message| (message.session, message.number)).collect()
        } else {
            self.driver.forwarded().iter().map(|message| (message.seat.session(), message.number)).collect()
        }
    }

    fn check(&self) {
        let mut committed: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (session, number) in self.committed() {
            committed.entry(session).or_default().push(number);
        }
        let living = self.sessions.iter().map(|(id, model)| (*id, model.stored.clone()));
        let mut wanted: BTreeMap<_, _> = self.gone.clone().into_iter().chain(living).collect();
        let figures = self.driver.store.figures();
        if self.directory.is_some() {
            wanted.insert(0, self.appended.clone());
        } else {
            assert_eq!(figures.appends_refused, self.appended.len() as u64);
        }
        wanted.retain(|_, numbers| !numbers.is_empty());
        assert_eq!(committed, wanted);
        let attached = self.sessions.values().filter(|model| model.connection.is_some()).count();
        assert_eq!((figures.sessions, figures.attached), (self.sessions.len() as u64, attached as u64));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_asked_each_number_is_stored_once(steps in steps(), in_memory in prop::bool::weighted(0.3)) {
        let world = steps.iter().fold(World::new(in_memory), World::step);
        world.check();
    }
}
