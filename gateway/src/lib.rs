//! pulsegate as a library: a connection gateway inside your own program.
//!
//! It holds very many TCP connections, keeps each one open exactly as long as its listener's [`Policy`] allows, and
//! hands what clients send to a [`Sink`], which is your code. This is a complete program:
//!
//! ```no_run
//! use pulsegate::{Gateway, Handle, ListenerConfig, Message, Sink};
//!
//! struct Greeter;
//!
//! impl Sink for Greeter {
//!     fn handle_message(&mut self, connection: &Handle, message: &Message<'_>) {
//!         println!("#{} says {}", connection.number(), String::from_utf8_lossy(message.payload));
//!         let _ = connection.send(*b"welcome\n");
//!         if message.number == 10 {
//!             let _ = connection.finish();
//!         }
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let listener = ListenerConfig { sink: "greeter".to_owned(), ..ListenerConfig::default() };
//!     let gateway = Gateway::builder().listener(listener).sink("greeter", Greeter).start()?;
//!     println!("listening on {}", gateway.addresses()[0]);
//!     gateway.wait()?;
//!     Ok(())
//! }
//! ```
//!
//! # Starting
//!
//! [`Builder::start`] checks all settings, opens the listeners and starts the threads. It returns once every listener
//! accepts connections; if anything fails, it leaves nothing behind. [`Gateway::warnings`] lists what on this machine
//! is too small for the settings: log them. A listener names its sink: `print`, `echo`, `discard`, `store` (an SQLite
//! file in [`Config::data_dir`]), or the name of a sink or committer that the builder was given.
//!
//! By default a listener serves raw clients and clients of the pulse protocol at the same address. `policy.protocol`,
//! `policy.framing` and the other fields of [`Policy`] change that.
//!
//! # Sinks
//!
//! Each sink has one thread, which makes all calls, in the order in which things happened on each connection. A sink
//! may take its time: when too much waits, the gateway stops reading from the clients concerned, and that time does not
//! count as their silence. [`Sink::flush`] comes when all that waited has been handed over.
//!
//! A message of a raw client is what one read returned, or a line. A message of a client of the pulse protocol has a
//! [`Sender`], and is handed over before its receipt leaves. With a sink of your own, sessions are kept in memory: they
//! survive connections, not the process.
//!
//! A [`Handle`] answers, closes and sets deadlines, from any thread, as long as you like; it costs a reference count.
//! [`HandleError::Busy`] means that the shard has too much waiting: try again later.
//!
//! # Control
//!
//! [`Gateway::control`] gives a [`Control`], which is cheap to clone. [`Control::send`] sends a message to a client of
//! the pulse protocol, connected or not, and says what became of it. [`Control::counts`] has the counters.
//!
//! # Features
//!
//! `sqlite`, on by default, is the sink `store`. Without it the library is built on fewer crates and without any C; a
//! listener with that sink keeps the gateway from starting.
//!
//! # A commit point of your own
//!
//! A sink gets messages, but the gateway's store decides when they count as committed. Where your own database or log
//! is to decide, implement [`Committer`] and give it to [`Builder::committer`]. It keeps the sessions and answers each
//! [`Request`] with a [`Reply`] when it is durable. The example `journal` is a complete one.
//!
//! # Shutdown and signals
//!
//! The library installs no signal handlers: your program takes its signals and calls [`Control::drain`], which closes
//! connections evenly over a time, or [`Control::stop`], which closes all at once. [`Gateway::wait`] returns at most 5
//! s after that, with the counters or the first failure. Dropping the [`Gateway`] stops it.
//!
//! ```no_run
//! use pulsegate::{Gateway, ListenerConfig};
//! use std::time::Duration;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let gateway = Gateway::builder().listener(ListenerConfig::default()).start()?;
//!     let control = gateway.control();
//!     std::thread::spawn(move || {
//!         wait_for_a_signal();
//!         control.drain(Duration::from_secs(10));
//!     });
//!     gateway.wait()?;
//!     Ok(())
//! }
//!
//! /// With the crate that your program uses for signals; here the end of the standard input.
//! fn wait_for_a_signal() {
//!     let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
//! }
//! ```
//!
//! # Threads
//!
//! The gateway brings its own threads and needs no async runtime: one `shard-N` for each core, which hold the
//! connections; one `sink-NAME` for each sink; one `store` for the store on disk and for each one in memory; and
//! `store-clock`. `start` and `wait` block the calling thread, so in an async program call
//! them on a blocking one.
//!
//! [`Builder::start`] raises the process's soft limit of open files to the hard one.
//! [`DescriptorTables::PerShard`](config::DescriptorTables::PerShard) makes that limit count for each shard; read what
//! it asks of your program before you set it.
//!
//! # Settings from a file
//!
//! The crate `pulsegate-config` reads the configuration file of the program `pulsegate` into a [`Config`]; its example
//! `own_sink` starts a gateway from a file with a sink of its own. The library itself knows no file format.
//!
//! The log goes to `tracing`, and to no subscriber unless your program installs one.
//!
//! Modules, each using only those after it: `gateway`, `stores`, `print`, `event_loop`, `sockets`, `gathering`,
//! `machine`, `tables`, `waker`, `listening`, `config`, `clock`, `text`.

mod clock;
pub mod config;
mod event_loop;
mod gateway;
mod gathering;
mod listening;
mod machine;
mod print;
mod sockets;
mod stores;
mod tables;
pub mod text;
mod waker;

pub use config::{Config, ListenerConfig};
pub use gateway::{Builder, CommitterError, Control, Gateway, RunError, SendError, StartError};
pub use pulsegate_core::close::{CloseReason, Retry, Who};
pub use pulsegate_core::connection::Totals;
pub use pulsegate_core::exchange::{Cursor, Verdict};
pub use pulsegate_core::frame::Durability;
pub use pulsegate_core::policy::{
    Framing, Heartbeat, LifetimePolicy, MinimumRate, Policy, Protocol, PulsePolicy, SecondConnection,
};
pub use pulsegate_core::timer::Timer;
pub use pulsegate_sessions::{
    Attach, AttachRefusal, Attached, Attachment, Committer, EndReason, Figures, Limits, Moment, Outcome,
    Outgoing, PushRefusal, Recipient, Refusal, RefusalCode, Reply, Request, Resume, Seat, Source,
    SubmitError, Ticket, Token,
};
pub use pulsegate_shard::{
    ConnectionNumber, Counts, End, Handle, HandleError, Message, PushOutcome, Sender, Sink, SinkError,
};
pub use pulsegate_store::StoreConfig;
pub use stores::Replies;
