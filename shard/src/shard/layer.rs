//! What may be between a connection and its socket and transform the bytes: TLS, for instance. Must not know: sockets,
//! time, and what a connection says.

use pulsegate_core::close::CloseReason;
use std::fmt::Debug;

/// The most that a layer is given at once, in bytes.
///
/// A layer keeps at most a few times as many, and passes on at most a few times as many at once, so that the memory of
/// one connection is bounded. What it sends by itself is bounded as well: beyond 16 KiB that the peer has not taken the
/// connection ends with "output full".
pub const RECEIVED_BYTES_MAX: usize = 16 * 1024;

/// How the input of a layer ends: in order; or what arrived is against the rules, or was cut off, and the connection
/// ends for this reason.
pub type InputEnd = Result<(), CloseReason>;

/// The layer of one connection.
///
/// The bytes of the socket are `wire`, those of the connection are `plain`. What a layer has to send itself, in a
/// handshake or later, it appends to `wire` when it is called; that is sent as soon as possible.
pub trait Layer: Debug + Send {
    /// Takes bytes that have arrived, which it may change in place, and appends to `plain` what they decode to. Without
    /// bytes it continues with those that it has kept back, see [`has_unread`](Self::has_unread). Returns the end of
    /// input if that was the last; what it has appended before counts nevertheless.
    fn receive(&mut self, received: &mut [u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> Option<InputEnd>;

    /// The socket has ended, which need not be the end that the peer meant.
    fn receive_end(&mut self) -> InputEnd;

    /// Appends to `wire` what these bytes become. Called only while the layer is open.
    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>);

    /// Appends its last bytes, open or not. No method is called after this.
    fn close(&mut self, wire: &mut Vec<u8>);

    /// Whether bytes of the connection can be sent. Once open, it stays open.
    fn is_open(&self) -> bool;

    /// Whether it keeps bytes back that would decode to something although no more arrive. An incomplete piece doesn't
    /// count.
    fn has_unread(&self) -> bool {
        false
    }
}

/// Makes the layers of a listener's connections.
pub trait MakeLayer: Debug + Send + Sync {
    /// The layer of a new connection.
    fn layer(&self) -> Box<dyn Layer>;
}
