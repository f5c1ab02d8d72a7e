//! A scenario: wiring and bounds. Which steps are possible in a world, and what must hold in it.

use crate::explorer::{Exploration, Kind, Model, explore};
use crate::wiring::Wiring;
use crate::world::{
    Asked, Broken, Budget, Down, MESSAGES_MAX, Outcome, Server, Sights, Step, Take, WINDOW, World,
};
use pulsegate_sessions::Request;

/// Connections that exist at once: the present one and a zombie.
const CONNECTIONS_MAX: usize = 2;

/// More states than that is a mistake in the bounds.
const STATES_MAX: usize = 4_000_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) wiring: Wiring,
    pub(crate) budget: Budget,
    pub(crate) sights: Sights,
}

impl Scenario {
    /// As it ships, within these bounds.
    pub(crate) fn new(budget: Budget) -> Self {
        Self { wiring: Wiring::SHIPPING, budget, sights: Sights::default() }
    }

    pub(crate) const fn with(mut self, wiring: Wiring) -> Self {
        self.wiring = wiring;
        self
    }

    /// Explores all of it, and demands that everything holds.
    pub(crate) fn holds(mut self, name: &str) -> Sights {
        let exploration = explore(&mut self, STATES_MAX);
        println!(
            "{name}: {} states, {} transitions, {} steps deep\n  {:?}",
            exploration.states, exploration.transitions, exploration.depth, self.sights
        );
        if let Some((broken, trace)) = &exploration.violation {
            panic!("{name}: {broken:?} after\n{}", self.narrate(trace));
        }
        self.sights
    }

    /// Explores up to the first violation, and demands that there is one and what it is.
    pub(crate) fn fails(mut self, name: &str, expected: Broken) {
        let Exploration { states, violation, .. } = explore(&mut self, STATES_MAX);
        let Some((broken, trace)) = violation else { panic!("{name}: {states} states, and nothing fails") };
        println!(
            "{name}: {broken:?} after {} steps ({states} states)\n{}",
            trace.len(),
            self.narrate(&trace)
        );
        assert_eq!(broken, expected, "{name}");
    }

    /// The steps of a trace, each with what it moves.
    fn narrate(mut self, trace: &[Step]) -> String {
        use std::fmt::Write as _;
        let mut world = self.initial();
        let mut text = String::new();
        for (place, &step) in trace.iter().enumerate() {
            let subject = match step {
                Step::GatewayReads(id) => world
                    .connection(id)
                    .and_then(|connection| connection.up.front())
                    .map(|it| format!("{it:?}")),
                Step::GatewayAnswers => world.gateway.mailbox.front().map(|it| format!("{it:?}")),
                Step::CommitterProceeds(_) => Some(format!("{:?}", world.gateway.queue)),
                Step::ClientHears | Step::ClientHearsAndWithdraws => (world.client.connection)
                    .and_then(|id| world.connection(id))
                    .and_then(|connection| connection.down.front())
                    .map(|it| format!("{it:?}")),
                Step::ClientPushes => Some(format!("payload {}", world.client.pushed)),
                Step::ClientConnects
                | Step::ClientSends
                | Step::ClientConfirms
                | Step::ClientSaysGoodbye
                | Step::ClientLosesConnection
                | Step::ClientRestarts
                | Step::GatewayLosesConnection(_)
                | Step::GatewayCrashes
                | Step::GatewayLosesLast
                | Step::SessionExpires(_) => None,
            };
            let result = self.take(&mut world, step);
            let subject = subject.unwrap_or_default();
            let end = result.err().map_or(String::new(), |broken| format!("  <- {broken:?}"));
            writeln!(text, "  {:>2}. {step:?} {subject}{end}", place + 1).expect("a string takes it");
        }
        let outcomes = &world.client.outcomes[..usize::from(world.client.pushed)];
        let committed = &world.store.committed;
        writeln!(text, "  outcomes {outcomes:?}, committed (session, payload) {committed:?}")
            .expect("a string takes it");
        text
    }

    fn client_steps(&self, world: &World, steps: &mut Vec<(Kind, Step)>) {
        let (client, left) = (&world.client, &world.left);
        let is_undecided = client.outcomes.contains(&Outcome::Undecided);
        if client.pushed < left.messages {
            steps.push((Kind::Owed, Step::ClientPushes));
        }
        if left.restarts > 0 && client.connects > 0 {
            steps.push((Kind::Fault, Step::ClientRestarts));
        }
        let Some(id) = client.connection else {
            let has_reason = !client.is_sent_away && (is_undecided || client.pushed < left.messages);
            if has_reason && world.connections.len() < CONNECTIONS_MAX {
                steps.push((Kind::Owed, Step::ClientConnects));
            }
            return;
        };
        let Some(connection) = world.connections.iter().find(|connection| connection.id == id) else {
            return;
        };
        if let Some(frame) = connection.down.front() {
            steps.push((Kind::Owed, Step::ClientHears));
            let is_welcome = matches!(frame, Down::Welcome { .. });
            if is_welcome && left.withdrawals > 0 && !client.waiting.is_empty() {
                steps.push((Kind::Fault, Step::ClientHearsAndWithdraws));
            }
        }
        if connection.server == Server::Gone {
            steps.push((Kind::Owed, Step::ClientLosesConnection));
        } else if left.cuts > 0 {
            steps.push((Kind::Fault, Step::ClientLosesConnection));
        }
        if !client.is_welcome {
            return;
        }
        if client.sending.clone().poll_transmit().is_some() {
            steps.push((Kind::Owed, Step::ClientSends));
        }
        if client.sending.unconfirmed() > 0 {
            steps.push((Kind::Owed, Step::ClientConfirms));
        }
        if left.goodbyes > 0 && client.sending.is_settled() {
            steps.push((Kind::Owed, Step::ClientSaysGoodbye));
        }
    }

    fn gateway_steps(&self, world: &World, steps: &mut Vec<(Kind, Step)>) {
        for connection in &world.connections {
            if connection.server == Server::Gone {
                continue;
            }
            if !connection.up.is_empty() && !world.gateway.rests {
                steps.push((Kind::Owed, Step::GatewayReads(connection.id)));
            }
            if !connection.has_client || connection.has_to_end {
                steps.push((Kind::Owed, Step::GatewayLosesConnection(connection.id)));
            } else if world.left.cuts > 0 {
                steps.push((Kind::Fault, Step::GatewayLosesConnection(connection.id)));
            }
        }
        if !world.gateway.mailbox.is_empty() {
            steps.push((Kind::Owed, Step::GatewayAnswers));
        }
        if world.left.crashes > 0 && !world.store.rows.sessions.is_empty() {
            steps.push((Kind::Fault, Step::GatewayCrashes));
        }
        if world.left.losses > 0 && !world.store.committed.is_empty() {
            steps.push((Kind::Fault, Step::GatewayLosesLast));
        }
        if world.left.expiries > 0 {
            for (&number, row) in &world.store.rows.sessions {
                if row.expires_ms.is_some() {
                    steps.push((Kind::Fault, Step::SessionExpires(number)));
                }
            }
        }
        self.committer_steps(world, steps);
    }

    fn committer_steps(&self, world: &World, steps: &mut Vec<(Kind, Step)>) {
        let gateway = &world.gateway;
        let Some(asked) = gateway.queue.front().copied().or_else(|| {
            // Nothing else waits.
            (gateway.later.is_some() || gateway.unjudged.is_due()).then_some(Asked::Expire(0))
        }) else {
            return;
        };
        steps.push((Kind::Owed, Step::CommitterProceeds(Take::default())));
        let is_expiry = matches!(asked, Asked::Expire(_)) && !gateway.queue.is_empty();
        if gateway.later.is_some() || is_expiry {
            return;
        }
        let may_take_all = self.wiring.has_batches && gateway.queue.len() > 1;
        for all in [false, true].into_iter().filter(|all| !all || may_take_all) {
            if all {
                steps.push((Kind::Owed, Step::CommitterProceeds(Take { all, refused: 0 })));
            }
            if world.left.refusals == 0 {
                continue;
            }
            let batch = gateway.clone().next_batch(all, &self.wiring, &mut Sights::default());
            let is_message = |place: u8| matches!(batch[usize::from(place)], Request::Message { .. });
            let messages = (0..batch.len() as u8).filter(|&place| is_message(place));
            let messages = messages.fold(0_u8, |all, place| all | 1 << place);
            for refused in (1..=messages).filter(|refused| refused & !messages == 0) {
                if refused.count_ones() <= world.left.refusals.into() {
                    steps.push((Kind::Fault, Step::CommitterProceeds(Take { all, refused })));
                }
            }
        }
    }

    fn bounds_hold(&self, world: &World) -> bool {
        let client = &world.client;
        let kept = usize::try_from(client.sending.last() - client.sending.settled()).unwrap_or(usize::MAX);
        // Whatever else happens, a refusal that was heard may wait for the receipt that covers it.
        let undecided = client.outcomes.iter().filter(|outcome| **outcome == Outcome::Undecided).count();
        let heard = client.outcomes.iter().filter(|outcome| **outcome == Outcome::NotAccepted).count();
        let window = u64::from(WINDOW.messages);
        let in_flight = world.connections.iter().all(|it| it.in_flight().is_none_or(|it| it <= window));
        let refusals_max = if self.wiring.is_crowded { 1 } else { MESSAGES_MAX };
        let refused = world.store.rows.refusals.len() <= refusals_max;
        kept == client.waiting.len() && undecided <= kept && kept <= undecided + heard && in_flight && refused
    }
}

impl Model for Scenario {
    type State = World;
    type Step = Step;
    type Fault = Broken;

    fn initial(&self) -> World {
        World::new(self.budget)
    }

    fn steps(&self, world: &World, steps: &mut Vec<(Kind, Step)>) {
        self.client_steps(world, steps);
        self.gateway_steps(world, steps);
    }

    fn take(&mut self, world: &mut World, step: Step) -> Result<(), Broken> {
        let (wiring, sights) = (&self.wiring, &mut self.sights);
        match step {
            Step::ClientPushes => world.client_pushes(),
            Step::ClientConnects => world.client_connects(),
            Step::ClientSends => world.client_sends(sights),
            Step::ClientConfirms => world.client_confirms(),
            Step::ClientHears => world.client_hears(false, wiring, sights)?,
            Step::ClientHearsAndWithdraws => world.client_hears(true, wiring, sights)?,
            Step::ClientSaysGoodbye => world.client_says_goodbye(),
            Step::ClientLosesConnection => {
                let is_first = world
                    .client
                    .connection
                    .and_then(|id| world.connection(id))
                    .is_some_and(|connection| connection.server != Server::Gone);
                world.left.cuts -= u8::from(is_first);
                world.client_leaves();
            }
            Step::ClientRestarts => world.client_restarts(wiring.has_outbox, sights)?,
            Step::GatewayReads(id) => world.gateway_reads(id, wiring, sights)?,
            Step::GatewayAnswers => world.gateway_answers(wiring),
            Step::GatewayLosesConnection(id) => {
                let held = world.connections.iter().find(|it| it.id == id && it.has_client);
                let is_replaced = held.is_some_and(|it| it.has_to_end);
                world.left.cuts -= u8::from(held.is_some() && !is_replaced);
                world.client.is_sent_away |= is_replaced && wiring.is_replaced_final;
                sights.client_replaced += u64::from(is_replaced);
                world.gateway_lets_go(id, false, wiring);
            }
            Step::GatewayCrashes => world.gateway_crashes(sights),
            Step::GatewayLosesLast => world.gateway_loses_last(sights),
            Step::SessionExpires(number) => world.session_expires(number, wiring, sights)?,
            Step::CommitterProceeds(take) => world.committer_proceeds(take, wiring, sights)?,
        }
        world.do_what_is_void(wiring, sights)
    }

    fn check(&self, world: &World, is_still: bool) -> Result<(), Broken> {
        let committed = &world.store.committed;
        for (payload, outcome) in (0_u8..).zip(world.client.outcomes) {
            let times = committed.iter().filter(|(_, it)| *it == payload).count();
            match (outcome, times) {
                (_, 2..) => return Err(Broken::CommittedTwice),
                (Outcome::Committed, 0) if world.store.gone >> payload & 1 == 0 => {
                    return Err(Broken::AcknowledgedIsLost);
                }
                (Outcome::Committed, 0)
                    if is_still && world.client.is_welcome && world.client.told_lost >> payload & 1 == 0 =>
                {
                    return Err(Broken::LossUntold);
                }
                (Outcome::NotAccepted, 1) => return Err(Broken::RefusedIsCommitted),
                (Outcome::Undecided, _) if is_still => return Err(Broken::NoOutcome),
                _ => {}
            }
        }
        if world.connections.iter().any(|it| it.has_client && it.in_flight().is_none()) {
            // The receipt that is on its way names a message that has not come on its connection.
            return Err(Broken::Accused);
        }
        let is_ordered = (committed.iter().enumerate()).all(|(place, (session, payload))| {
            committed[place..].iter().all(|(later, it)| later != session || it >= payload)
        });
        if !is_ordered {
            return Err(Broken::Disordered);
        }
        if self.bounds_hold(world) { Ok(()) } else { Err(Broken::Unbounded) }
    }

    fn circle(&self) -> Broken {
        Broken::NoOutcome
    }
}
