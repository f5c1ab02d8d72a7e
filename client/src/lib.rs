//! The client of pulsegate for tokio: it sends messages and learns what became of each, over as many connections as it
//! takes.
//!
//! A [`Client`] keeps one connection to a gateway, sends heartbeats by itself, and comes back when the connection ends.
//! Each message ends in exactly one of three ways (PROTOCOL.md section 7.5): it is *committed*, *not accepted*, or, if
//! the gateway has forgotten the session, *unknown*. Nothing is lost between one connection and the next, nothing is
//! sent twice as something new, and the order is kept.
//!
//! ```
//! use pulsegate_client::{Client, Options};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let gateway = pulsegate_client_peer::Peer::start().await;
//! # let address = gateway.address();
//! let client = Client::connect(address, Options::new("device 17")).await?;
//! let committed = client.send("21.5 degrees").await?;
//! println!("committed as number {} of session {}", committed.number, committed.session);
//! client.close().await;
//! # assert_eq!(gateway.committed(), ["21.5 degrees"]);
//! # Ok(())
//! # }
//! ```
//!
//! # Sending
//!
//! [`Client::send`] waits until a message is committed. [`Client::push`] only waits for room, and returns a
//! [`Delivery`], a future of the outcome, so that many messages can be on their way at once. [`Client::try_send`]
//! doesn't wait at all. [`Options::outbox_bytes_max`] bounds what may wait. [`Committed::durability`] says what the
//! gateway promises with a commit: with [`Durability::None`] the message is in its memory only.
//!
//! ```
//! # use pulsegate_client::{Client, Options, SendError};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let gateway = pulsegate_client_peer::Peer::start().await;
//! # gateway.script(|script| script.refused = Some("spam".into()));
//! # let client = Client::connect(gateway.address(), Options::new("device 17")).await?;
//! let mut deliveries = Vec::new();
//! for text in ["one", "spam", "two"] {
//!     deliveries.push(client.push(text).await?);
//! }
//! for delivery in deliveries {
//!     let id = delivery.id();
//!     match delivery.await {
//!         Ok(committed) => println!("message {id} is committed as number {}", committed.number),
//!         Err(SendError::Unknown) => println!("message {id} may or may not have arrived"),
//!         Err(error) => println!("message {id}: {error}"),
//!     }
//! }
//! # assert_eq!(gateway.committed(), ["one", "two"]);
//! # Ok(())
//! # }
//! ```
//!
//! # Receiving
//!
//! [`Client::recv`] has the gateway's messages. Each is receipted once the application
//! [accepts](Message::accept) it; one that it [refuses](Message::refuse) or drops is not accepted.
//!
//! ```
//! # use pulsegate_client::{Client, Options};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let gateway = pulsegate_client_peer::Peer::start().await;
//! # let client = Client::connect(gateway.address(), Options::new("device 17")).await?;
//! # gateway.push("switch on");
//! while let Some(message) = client.recv().await {
//!     if message.payload().is_empty() {
//!         message.refuse(3, "an empty message means nothing here");
//!         continue;
//!     }
//!     println!("{}", String::from_utf8_lossy(&message.accept()));
//! #   break;
//! }
//! # gateway.until("the receipt", |world| world.settled() == 1).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Connections that end
//!
//! A [`Closed`] says why a connection or the client has ended: [`Event::Disconnected`] has one for each connection,
//! [`Client::closed`] the one of the client. The client does what the gateway tells it: it doesn't come back if told
//! so; otherwise it comes back after the delay plus a random time, which grows while attempts fail ([`Backoff`]). It
//! also stops if the server doesn't speak the pulse protocol ([`Reason::NotPulse`]). [`Client::events`] reports
//! everything that happens, for logs and for people.
//!
//! # Sessions that outlive the process
//!
//! By default a session ends with its process. There are two ways to continue it: [`Client::leave`] returns it, for
//! [`Options::resume`]; or, with the feature `outbox`, `Options::outbox` names a file in which messages and cursors are
//! stored before they count, so that nothing that [`Client::push`] has taken is lost even if the process is killed.
//! [`Client::restored`] returns the messages that were found there.
//!
//! Modules, each using only those after it: `client`, `driver`, `session`, `link`, `ledger`, `inbound`, `message`,
//! `outbox`, `journal`, `command`, `delivery`, `event`, `ended`, `options`, `backoff`, `deadlined`.

mod backoff;
mod client;
mod command;
mod deadlined;
mod delivery;
mod driver;
mod ended;
mod event;
mod inbound;
mod journal;
mod ledger;
mod link;
mod message;
mod options;
#[cfg(feature = "outbox")]
mod outbox;
mod session;

pub use backoff::Backoff;
pub use bytes::Bytes;
pub use client::{Client, ConnectError};
pub use deadlined::{Deadlined, Deadlines};
pub use delivery::{Committed, Delivery, SendError, TrySendError};
pub use ended::{Closed, Reason};
pub use event::{Connected, Event, Events};
pub use message::Message;
pub use options::{Options, OptionsError, Reconnect, SavedSession};
#[cfg(feature = "outbox")]
pub use outbox::OutboxError;
pub use pulsegate_core::close::{CloseReason, Retry};
pub use pulsegate_core::exchange::Window;
pub use pulsegate_core::frame::{Durability, LifetimeKind};
