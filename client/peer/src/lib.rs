//! The other end of pulsegate-client in its tests: a small gateway over real sockets, on the gateway's side of
//! pulsegate-core, with sessions in memory by the rules that gateways have. It does what it is told, faults included: cuts
//! at any byte, lost WELCOMEs, receipts held back, sessions forgotten, silence. No gateway for anything else.

mod script;
mod store;
mod world;

pub use script::{Answer, Edit, Script};
pub use world::{Hailed, Handed, World};

use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bounds every wait; nothing is judged by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running peer. Dropping it ends all its connections.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    shared: Shared,
    listening: Option<JoinHandle<()>>,
}

#[derive(Clone, Debug)]
struct Shared {
    world: Arc<Mutex<World>>,
    /// Changes with the world.
    news: Arc<watch::Sender<()>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the world, and lets everybody know.
    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let outcome = change(&mut self.lock());
        self.news.send_replace(());
        outcome
    }
}

impl Peer {
    /// A well-behaved peer on a free loopback port.
    ///
    /// # Panics
    /// If there is no loopback, as in everything here that only serves tests.
    pub async fn start() -> Self {
        Self::with(Script::default()).await
    }

    /// A peer that behaves as its script says.
    ///
    /// # Panics
    /// If there is no loopback.
    pub async fn with(script: Script) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback address");
        let address = listener.local_addr().expect("a bound socket");
        let world = Arc::new(Mutex::new(World::new(script)));
        let shared = Shared { world, news: Arc::new(watch::Sender::new(())) };
        let listening = Some(tokio::spawn(listen(listener, shared.clone())));
        Self { address, shared, listening }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how it behaves from now on.
    pub fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        self.shared.change(|world| change(&mut world.script))
    }

    /// Looks at what has happened.
    pub fn look<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.shared.lock())
    }

    /// Waits until it is so.
    ///
    /// # Panics
    /// If it never is.
    pub async fn until(&self, what: &str, mut is_so: impl FnMut(&World) -> bool) {
        let mut news = self.shared.news.subscribe();
        let wait = async {
            while !is_so(&self.shared.lock()) {
                news.changed().await.expect("the peer has its own sender");
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("this never came: {what}; {:?}", self.shared.lock());
        }
    }

    /// Everything that was committed, in this order, over all sessions.
    #[must_use]
    pub fn committed(&self) -> Vec<Bytes> {
        self.look(|world| world.committed.clone())
    }

    /// Sends a message to the newest session.
    ///
    /// # Panics
    /// If there is none.
    pub fn push(&self, message: impl Into<Bytes>) {
        self.shared.change(|world| world.push(message.into()));
    }

    /// Cuts all connections without a word.
    pub fn cut(&self) {
        self.shared.change(World::cut);
    }

    /// Says goodbye on all connections.
    pub fn bye(&self, answer: &Answer) {
        self.shared.change(|world| world.bye(answer));
    }

    /// Sends a notice on all connections.
    pub fn notice(&self, code: u16, within: Duration, text: &str) {
        self.shared.change(|world| world.notice(code, within, text));
    }

    /// Asks on all connections whether the client lives.
    pub fn ask(&self) {
        self.shared.change(World::ask);
    }

    /// Forgets all sessions, as at a restart without a disk, and cuts all connections.
    pub fn forget(&self) {
        self.shared.change(World::forget);
    }

    /// Cuts all connections and stops listening; [`rise`](Self::rise) continues with what it remembers.
    pub async fn fall(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
            // It was aborted.
            let _ = listening.await;
        }
        self.cut();
    }

    /// Listens again.
    ///
    /// # Panics
    /// If somebody else has taken the port meanwhile.
    pub async fn rise(&mut self) {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("a socket");
        socket.bind(self.address).expect("the port is still free");
        let listener = socket.listen(64).expect("the port is still free");
        self.listening = Some(tokio::spawn(listen(listener, self.shared.clone())));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
        self.cut();
    }
}

async fn listen(listener: TcpListener, shared: Shared) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, shared.clone()));
    }
}

/// Carries bytes between the socket and the world.
async fn serve(mut stream: TcpStream, shared: Shared) {
    let id = shared.change(World::open);
    let mut news = shared.news.subscribe();
    let (mut reader, mut writer) = stream.split();
    let (mut input, mut output) = (vec![0; 16 * 1024], Vec::new());
    loop {
        // Marked first, so that nothing between this look and the wait is missed.
        news.mark_unchanged();
        let (is_deaf, is_over) = {
            let mut world = shared.lock();
            let is_over = world.take_output(id, &mut output);
            (world.script.is_deaf, is_over)
        };
        if is_over && output.is_empty() {
            break;
        }
        tokio::select! {
            read = reader.read(&mut input), if !is_deaf && !is_over => match read {
                Ok(bytes @ 1..) => shared.change(|world| world.handle_input(id, &input[..bytes])),
                Ok(0) | Err(_) => break,
            },
            written = writer.write(&output), if !output.is_empty() => match written {
                Ok(bytes) => drop(output.drain(..bytes)),
                Err(_) => break,
            },
            _ = news.changed() => {}
        }
    }
    if shared.change(|world| world.close(id)) {
        // Its last word is out: the client may end its side too.
        let farewell = async {
            writer.shutdown().await?;
            while reader.read(&mut input).await? > 0 {}
            std::io::Result::Ok(())
        };
        // Threads that don't end in time are left.
        let _ = tokio::time::timeout(Duration::from_secs(2), farewell).await;
    }
}
