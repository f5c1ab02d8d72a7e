//! What may stand between a connection and its socket and turn the bytes of the one into those of the other: TLS, for
//! instance. Must not know: sockets, time, and what a connection says.

use pulsegate_core::close::CloseReason;
use std::fmt::Debug;

/// The most that a layer is given at once, in bytes.
///
/// A layer keeps no more than a few times as many, hands on no more than a few times as many at once, and answers with
/// no more than it was given: so what stands by for one connection has a bound.
pub const RECEIVED_BYTES_MAX: usize = 16 * 1024;

/// How the input of a layer ends: the peer has nothing more to say; or what came is against the rules, or was cut off, and
/// the connection ends for this reason.
pub type InputEnd = Result<(), CloseReason>;

/// The layer of one connection.
///
/// Bytes on its way to and from the socket are `wire`, those of the connection are `plain`. Whatever a layer has to say
/// for itself, in a handshake or later, it appends to `wire` when it is called: it is sent as soon as possible.
pub trait Layer: Debug + Send {
    /// Takes bytes that have come, and may change them where they are: appends to `plain` what they yield. With no bytes
    /// it goes on with those that it has kept back, see [`has_unread`](Self::has_unread). Says so if that was the last;
    /// what it has appended before counts nevertheless.
    fn receive(&mut self, received: &mut [u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> Option<InputEnd>;

    /// The socket has nothing more to give, which need not be the end that the peer meant.
    fn receive_end(&mut self) -> InputEnd;

    /// Appends to `wire` what these bytes become. Called only while the layer is open.
    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>);

    /// Appends its last bytes, open or not: all that the peer is told of the end before it is. Nothing is called after
    /// this.
    fn close(&mut self, wire: &mut Vec<u8>);

    /// Whether bytes of the connection can be sent. Once it is, it stays so.
    fn is_open(&self) -> bool;

    /// Whether it keeps bytes back that would yield something though none come. A piece of something that is not whole
    /// doesn't count.
    fn has_unread(&self) -> bool {
        false
    }
}

/// Makes the layers of a listener's connections.
pub trait MakeLayer: Debug + Send + Sync {
    /// The layer of a new connection.
    fn layer(&self) -> Box<dyn Layer>;
}
