//! `bench null`: the floor that servers are compared with. An event loop that accepts, reads and discards, without
//! rules or timers. Must not know: who connects.

use crate::room::Machine;
use crate::tables;
use anyhow::{Context, anyhow, bail};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use pulsegate_config::units::{parse_address, parse_count};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::sync::mpsc::channel;

const LISTENER: Token = Token(usize::MAX);
/// As long a queue as the kernel allows.
const BACKLOG: i32 = 65_535;
const EVENTS_PER_TURN: usize = 1024;
/// Connections accepted in one turn.
const ACCEPTS_MAX: usize = 128;
const BUFFER: usize = 16 * 1024;

/// Where and how to listen.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Address to listen on; port 0 takes a free one, which is printed
    #[arg(long, value_name = "ADDR", value_parser = parse_address, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Threads, each with a listening socket and, where that is permitted, a descriptor table of its own
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "1")]
    threads: NonZeroUsize,
    /// Run on this core only, counted from 0 [default: any core]
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// Exit when the program that started it exits
    #[arg(long, hide = true)]
    with_parent: bool,
}

impl Args {
    /// Runs until it is ended by a signal.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if self.with_parent {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        }
        if let Some(core) = self.core {
            pin(core)?;
        }
        let machine = Machine::look();
        // Bound but not listening: it holds the address for the threads and gets no connections.
        let holder = socket(self.listen).with_context(|| format!("can't take {}", self.listen))?;
        let address = holder.local_addr()?.as_socket().unwrap_or(self.listen);
        let (sender, listening) = channel();
        let count = self.threads.get();
        let threads = tables::start(count, count > 1 && machine.tables, move |_| {
            let mut server = Server::new(address)?;
            sender.send(()).context("nobody waits for the listener any more")?;
            server.run()?;
            Ok(())
        })?;
        if (0..count).all(|_| listening.recv().is_ok()) {
            writeln!(io::stdout(), "listening on {address}")?;
        }
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a thread of the null server has died"))??;
        }
        Ok(())
    }
}

fn pin(core: usize) -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    let pinned = cores.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &cores));
    if pinned.is_err() {
        bail!(
            "there is no core {core} for this process; `nproc` says how many there are, counted from 0 here"
        );
    }
    Ok(())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// One thread's connections, by descriptor.
struct Server {
    poll: Poll,
    listener: TcpListener,
    streams: Vec<Option<TcpStream>>,
    buffer: Box<[u8]>,
}

impl Server {
    fn new(address: SocketAddr) -> io::Result<Self> {
        let poll = Poll::new()?;
        let socket = socket(address)?;
        socket.listen(BACKLOG)?;
        let mut listener = TcpListener::from_std(socket.into());
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self { poll, listener, streams: Vec::new(), buffer: vec![0; BUFFER].into_boxed_slice() })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut more = false;
        loop {
            let timeout = more.then_some(std::time::Duration::ZERO);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            let mut has_newcomers = more;
            for event in &events {
                match event.token() {
                    LISTENER => has_newcomers = true,
                    Token(descriptor) => self.read(descriptor, event.is_read_closed()),
                }
            }
            more = has_newcomers && self.accept();
        }
    }

    /// Accepts a bounded number; true if there may be more.
    fn accept(&mut self) -> bool {
        for _ in 0..ACCEPTS_MAX {
            // When descriptors run out the rest waits in the queue until somebody else comes.
            let Ok((mut stream, _)) = self.listener.accept() else { return false };
            let descriptor = stream.as_raw_fd();
            let Ok(place) = usize::try_from(descriptor) else { return false };
            if self.poll.registry().register(&mut stream, Token(place), Interest::READABLE).is_err() {
                continue;
            }
            if self.streams.len() <= place {
                self.streams.resize_with(place + 1, || None);
            }
            self.streams[place] = Some(stream);
        }
        true
    }

    fn read(&mut self, descriptor: usize, hangup: bool) {
        let Some(place) = self.streams.get_mut(descriptor) else { return };
        let Some(stream) = place else { return };
        loop {
            match stream.read(&mut self.buffer) {
                // A short read has taken all there was, unless the end came with it.
                Ok(count) if count > 0 && (count == self.buffer.len() || hangup) => {}
                Ok(count) if count > 0 => return,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => {
                    *place = None;
                    return;
                }
            }
        }
    }
}
