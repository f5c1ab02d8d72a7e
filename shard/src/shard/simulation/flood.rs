//! Floods: a client, or all clients of one address, send as fast as they can for a while. Everybody else is heard all the
//! same, as soon as the sinks and stores move.

use super::listeners::STORED;
use super::{CONNECTIONS_MAX, STEPS, Simulation};
use fastrand::Rng;
use std::ops::Range;
use std::time::Duration;

/// The address that floods, and one of somebody who has little to say.
const HOST_LOUD: u8 = 5;
const HOST_QUIET: u8 = 6;
/// How many connections of one address flood at once.
const CROWD: usize = 4;
/// How much of what it has sent a loud client lets wait.
const INBOUND_BYTES: usize = 16 * 1024;
/// How often sinks and stores may be served until a line has gone its way: those who are held back come one after the
/// other, and each of them may fill the queue.
const ROUNDS_MAX: u32 = CONNECTIONS_MAX as u32 + 5;
/// How long a flood is.
const STEPS_LOUD: u32 = 100;

/// A flood, and somebody who is to be heard during it.
pub(super) struct Flood {
    /// During which steps.
    steps: Range<u32>,
    listener: usize,
    loud: Vec<usize>,
    /// How many come at once.
    crowd: usize,
    quiet: Option<Quiet>,
}

struct Quiet {
    client: usize,
    lines: usize,
    /// How often everything was served since the last line.
    rounds: u32,
}

impl Flood {
    /// There is one in some of the runs.
    pub(super) fn choose(random: &mut Rng) -> Option<Self> {
        if random.u32(..12) > 0 {
            return None;
        }
        let first = random.u32(..STEPS - STEPS_LOUD);
        let listener = if random.bool() { STORED } else { 0 };
        let crowd = if random.bool() { 1 } else { CROWD };
        Some(Self { steps: first..first + STEPS_LOUD, listener, loud: Vec::new(), crowd, quiet: None })
    }
}

impl Simulation {
    /// One step of the flood, if there is one now.
    pub(super) fn flood(&mut self) {
        let Some(mut flood) = self.flood.take() else { return };
        if flood.steps.contains(&self.step) {
            self.send_loudly(&mut flood);
            self.listen_to_quiet(&mut flood);
        }
        self.flood = Some(flood);
    }

    fn send_loudly(&mut self, flood: &mut Flood) {
        flood.loud.retain(|client| self.model.is_waiting(*client) || self.is_heard(*client));
        while flood.loud.len() < flood.crowd {
            let Some(client) = self.try_connect_from(flood.listener, HOST_LOUD) else { break };
            flood.loud.push(client);
            if !self.is_heard(client) {
                break;
            }
        }
        for client in &flood.loud {
            let waits = self.world.borrow().links[client].backlog();
            let line = format!("{client} is loud {}\n", "!".repeat(self.random.usize(100..300)));
            let bytes = line.repeat(INBOUND_BYTES.saturating_sub(waits) / line.len());
            if !bytes.is_empty() {
                self.model.say(*client, bytes.as_bytes());
            }
        }
    }

    /// Whether this client was let in, and neither side has ended the connection.
    fn is_heard(&mut self, client: usize) -> bool {
        self.model.is_whole(client) && self.model.is_let_in(client)
    }

    /// Somebody says a line, and waits until it has gone its way.
    fn listen_to_quiet(&mut self, flood: &mut Flood) {
        let quiet = flood.quiet.take();
        let quiet = quiet.filter(|it| self.model.is_waiting(it.client) || self.is_heard(it.client));
        let newcomer = |client| Quiet { client, lines: 0, rounds: 0 };
        let Some(mut quiet) =
            quiet.or_else(|| self.try_connect_from(flood.listener, HOST_QUIET).map(newcomer))
        else {
            return;
        };
        if self.model.is_waiting(quiet.client) {
            flood.quiet = Some(quiet);
            return;
        }
        if self.arrived(flood.listener, quiet.client) >= quiet.lines {
            self.model.say(quiet.client, b"a word\n");
            (quiet.lines, quiet.rounds) = (quiet.lines + 1, 0);
        }
        if self.serve_listener(flood.listener) {
            quiet.rounds += 1;
        }
        let is_lost = self.arrived(flood.listener, quiet.client) < quiet.lines && self.is_heard(quiet.client);
        assert!(
            !is_lost || quiet.rounds < ROUNDS_MAX,
            "a flood at listener {} keeps client {} from being heard",
            flood.listener,
            quiet.client
        );
        flood.quiet = Some(quiet);
    }

    /// How many lines have gone their way.
    fn arrived(&self, listener: usize, client: usize) -> usize {
        if listener == STORED {
            return self.disk.judge.appended(&self.model.address(client)).len();
        }
        self.model.lines_at_sink(client)
    }

    /// Serves what takes the messages of this listener until it is empty, with a turn of the shard before and after. Returns
    /// whether it works.
    fn serve_listener(&mut self, listener: usize) -> bool {
        self.model.pump(true);
        self.advance(Duration::ZERO);
        let works = if listener == STORED {
            self.serve_disk(usize::MAX);
            for _ in 0..8 {
                if self.shard.outlets.ledgers[1].is_handed_over() {
                    break;
                }
                self.advance(Duration::ZERO);
                self.serve_disk(usize::MAX);
            }
            self.disk.judge.works()
        } else {
            self.serve_sink(usize::MAX);
            !self.rest.contains(&self.step) && !self.queue.has_failed()
        };
        self.advance(Duration::ZERO);
        works
    }
}
