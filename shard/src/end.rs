//! The record of an end. Must not know: who makes it, and who gets it.

use crate::id::ConnectionNumber;
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::Totals;
use pulsegate_core::timer::Timer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How a connection ended. There is one for each that was accepted, those refused at once included.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct End {
    /// The connection's number.
    pub number: ConnectionNumber,
    /// What its listener is called: its name, or its address as it was configured.
    pub listener: Arc<str>,
    /// The client's address.
    pub peer: SocketAddr,
    /// The session that it had until then.
    pub session: Option<u64>,
    /// Why.
    pub reason: CloseReason,
    /// The deadline that ended it, if one did.
    pub timer: Option<Timer>,
    /// From accept to the end.
    pub age: Duration,
    /// Since the client's last heartbeat, or since accept if no message was ever complete. Times in which the gateway
    /// itself could not run, or did not read, don't count.
    pub silent_for: Duration,
    /// Bytes and messages.
    pub totals: Totals,
    /// Bytes that were still waiting for the client to take them, the last word not counted.
    pub unsent: usize,
}

impl End {
    /// That of a connection that has ended as soon as it was accepted. For tests of sinks; fields may come.
    #[doc(hidden)]
    #[must_use]
    pub fn at_once(
        number: ConnectionNumber,
        listener: Arc<str>,
        peer: SocketAddr,
        reason: CloseReason,
    ) -> Self {
        let (age, silent_for, totals) = (Duration::ZERO, Duration::ZERO, Totals::default());
        Self {
            number,
            listener,
            peer,
            session: None,
            reason,
            timer: None,
            age,
            silent_for,
            totals,
            unsent: 0,
        }
    }

    /// One line for the log, with everything that helps to find out about one connection.
    pub(crate) fn log(&self) {
        tracing::debug!(
            connection = %self.number,
            listener = %self.listener,
            peer = %self.peer,
            session = self.session,
            reason = %self.reason,
            who = self.reason.who().as_str(),
            timer = self.timer.map(Timer::as_str),
            age_ms = self.age.as_millis() as u64,
            silent_ms = self.silent_for.as_millis() as u64,
            messages = self.totals.messages,
            bytes_in = self.totals.bytes_in,
            bytes_out = self.totals.bytes_out,
            unsent = self.unsent,
            "ended"
        );
    }
}
