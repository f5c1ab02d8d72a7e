//! How clients come to the simulated gateway: through the backlog of a listener, also when descriptors or memory run out.

use super::Simulation;
use super::devices::host_of;
use super::framing_layer::ClientSide;
use super::listeners::{AUTO, NARROW, RULES, STORED};
use super::world::Link;
use crate::mailbox::Command;
use crate::place::Place;
use crate::shard::io::Ready;
use nix::errno::Errno;
use pulsegate_core::close::CloseReason;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

/// What may be missing beside the gateway's own descriptors.
const LACKS: [Errno; 4] = [Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS, Errno::ENOSPC];

/// Where a listener is.
fn place(number: u16) -> Place {
    Place {
        address: SocketAddr::from(([10, 0, 0, 0], 1000 + number)),
        shared: false,
        only_v6: false,
        keepalive: Duration::ZERO,
        user_timeout: Duration::ZERO,
    }
}

impl Simulation {
    /// Opens all listeners.
    pub(super) fn open_all(&mut self) {
        for number in 0..RULES.len() as u16 {
            let address = self.shard.listen(number, &place(number)).expect("a simulated port is free");
            assert_eq!(address, place(number).address);
        }
        self.shard.acceptor.begin();
    }

    /// Opens one listener or another that isn't open yet, from another thread.
    pub(super) fn open_some(&mut self) {
        let number = self.random.u16(..4 * RULES.len() as u16);
        if usize::from(number) >= RULES.len() || self.world.borrow().kernel.is_open(usize::from(number)) {
            return;
        }
        let (answer, answers) = mpsc::channel();
        self.mailbox.post(Command::Listen(number, place(number), answer)).expect("the shard runs");
        self.turn();
        let address = answers.try_recv().expect("the shard has opened it").expect("a simulated port is free");
        assert_eq!(address, place(number).address);
        let early = self.come(usize::from(number), 1).expect("the listener is open");
        self.turn();
        assert!(self.model.is_waiting(early), "not all shards listen yet");
        self.mailbox.post(Command::Accept).expect("the shard runs");
        self.turn();
    }

    /// Somebody comes to a listener, from one of few addresses.
    pub(super) fn come_somewhere(&mut self) {
        let (listener, host) = (self.random.usize(..RULES.len()), self.random.u8(1..5));
        self.come(listener, host);
    }

    /// Somebody comes to a listener, and waits there to be accepted. Nobody does if the listener is closed, or too many wait.
    pub(super) fn come(&mut self, listener: usize, host: u8) -> Option<usize> {
        let client = self.clients;
        let address = SocketAddr::from(([10, 0, 0, host], client as u16));
        let mut world = self.world.borrow_mut();
        if !world.kernel.come(listener, client, address) {
            return None;
        }
        let has_layer = self.shard.shared.listeners[listener].layers.is_some();
        world.links.insert(client, Link::new(has_layer.then(|| ClientSide::new(client))));
        world.ready.push_back(Ready::Listener(listener as u16));
        drop(world);
        self.clients += 1;
        self.model.handle_connect((listener, host));
        Some(client)
    }

    /// Somebody comes to a listener and is accepted at once.
    pub(super) fn connect_from(&mut self, listener: usize, host: u8) -> usize {
        self.try_connect_from(listener, host).expect("the listener is open")
    }

    /// The same, unless the listener is closed, or too many wait. If descriptors run short it waits, too.
    pub(super) fn try_connect_from(&mut self, listener: usize, host: u8) -> Option<usize> {
        let client = self.come(listener, host)?;
        let number = listener as u16;
        self.world.borrow_mut().ready.retain(|ready| *ready != Ready::Listener(number));
        self.shard.acceptor.handle_ready(number);
        self.shard.accept();
        self.note_fates();
        Some(client)
    }

    /// A device comes, or comes back; from an address of its own.
    pub(super) fn call(&mut self, device: usize) {
        let listener = if self.random.u32(..4) == 0 { NARROW } else { AUTO };
        let Some(client) = self.come(listener, host_of(device)) else { return };
        self.model.handle_device(client, device, self.devices.is_diligent(device));
        self.devices.handle_connect(device, client, &mut self.model);
    }

    /// The model gets to know what has become of those who have come.
    pub(super) fn note_fates(&mut self) {
        let now = self.now();
        for (address, fate) in std::mem::take(&mut self.shard.acceptor.fates) {
            let client = usize::from(address.port());
            let is_true = match fate.err() {
                Some(CloseReason::SinkStalled) => self.has_stalled(self.model.listener(client)),
                Some(CloseReason::OutOfDescriptors) => self.world.borrow().kernel.missed == Some(now),
                Some(CloseReason::Drain) => self.shard.is_draining(),
                Some(_) | None => true,
            };
            assert!(is_true, "{fate:?} is no reason to refuse anybody");
            self.model.handle_accepted(client, fate.err());
        }
    }

    /// Whether what takes the messages of a listener has taken nothing for long, or is overrun.
    fn has_stalled(&self, listener: usize) -> bool {
        let now = self.now();
        if listener == STORED {
            return self.is_disk_overrun() || self.model.stored.keeps_out(now);
        }
        self.queue.is_overrun(self.shard.outlets.lanes[0].batch.bytes()) || self.model.has_stalled(now)
    }

    /// Now and then something runs out, or there is enough again.
    pub(super) fn run_short(&mut self) {
        if self.shortages.is_none_or(|rarely| self.random.u32(..rarely) > 0) {
            return;
        }
        let (roll, more) = (self.random.usize(..8), self.random.usize(..4));
        let kernel = &mut self.world.borrow_mut().kernel;
        match LACKS.get(roll) {
            Some(lack) => kernel.lack = Some(*lack),
            None if roll < 6 => kernel.bound(more),
            None => kernel.relieve(),
        }
    }
}

#[test]
fn what_a_newcomer_has_sent_is_read_in_the_turn_that_accepts_it() {
    let mut simulation = Simulation::new(0);
    let client = simulation.come(0, 1).expect("the listener is open");
    simulation.model.say(client, b"early\n");
    simulation.turn();
    assert_eq!(simulation.world.borrow().links[&client].read, b"early\n".len());
    simulation.serve_sink(usize::MAX);
    assert_eq!(simulation.model.lines_at_sink(client), 1);
}
