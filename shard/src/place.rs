//! Where a listener listens, for the code that opens sockets. Opens none itself.

use std::net::SocketAddr;
use std::time::Duration;

/// Where to listen, and how.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// Another of our sockets listens there already, and shares it.
    pub shared: bool,
    /// Another listener takes IPv4 on this port, so this one takes only IPv6.
    pub only_v6: bool,
    /// After how long an idle connection gets keepalive probes from the kernel.
    pub keepalive: Duration,
    /// How long sent data may stay unacknowledged.
    pub user_timeout: Duration,
}
