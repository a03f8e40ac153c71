//! Bytes in transit, shared by `net` and `broker`; no sockets, no MQTT.
//!
//! | file | knows |
//! |---|---|
//! | `ring` | [`Ring`]: bytes received; a whole packet is always one contiguous slice |
//! | `outbox` | [`Outbox`]: bytes to send: copied small packets, counted references to large payloads |

pub mod outbox;
pub mod ring;

pub use outbox::{BufferPool, Outbox};
pub use ring::{Ring, RingPool};

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
