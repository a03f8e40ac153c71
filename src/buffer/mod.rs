//! Bytes in transit, shared by `net` and `broker`; no sockets, no MQTT.
//!
//! | file | knows |
//! |---|---|
//! | `ring` | [`Ring`]: bytes received; a whole packet is always one contiguous slice |
//! | `outbox` | [`Outbox`]: bytes to send: copied small packets, counted references to large payloads |

pub mod outbox;
pub mod ring;

use std::fmt;
use std::net::SocketAddr;

pub use outbox::{BufferPool, Outbox};
pub use ring::{Ring, RingPool};

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// An address and a port.
    Ip(SocketAddr),
    /// A program on this machine, through the Unix socket at this path. It is that of a listener, and those live as long as
    /// the process.
    Unix(&'static str),
}

impl PeerAddress {
    /// The address without the port.
    pub fn host(self) -> Host {
        Host(self)
    }

    /// The port; 0 where there is none.
    pub fn port(self) -> u16 {
        match self {
            PeerAddress::Ip(address) => address.port(),
            PeerAddress::Unix(_) => 0,
        }
    }
}

/// A [`PeerAddress`] without its port.
#[derive(Clone, Copy, Debug)]
pub struct Host(PeerAddress);

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            PeerAddress::Ip(address) => address.ip().to_canonical().fmt(f),
            PeerAddress::Unix(path) => f.write_str(path),
        }
    }
}

/// As Mosquitto's log has it: address and port with a colon between, also for IPv6.
impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host(), self.port())
    }
}

/// Names one Network Connection in both rooms: a slot and the generation that lives in it.
///
/// A slot is used again after its connection is gone; the generation tells the new tenant from the old, so that an
/// event or an answer for a connection that is gone cannot reach the one that took its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    /// The slot in the slab of connections.
    pub index: u32,
    /// Tells this tenant of the slot from every earlier one: the number of connections made before it.
    pub generation: u32,
}
