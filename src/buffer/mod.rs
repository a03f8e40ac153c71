//! Bytes in transit, shared by `net` and `broker`; no sockets, no MQTT.

/// Names one Network Connection in both rooms: a slot and the generation that lives in it.
///
/// A slot is used again after its connection is gone; the generation tells the new tenant from the old, so that an
/// event or an answer for a connection that is gone cannot reach the one that took its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    /// The slot in the slab of connections.
    pub index: u32,
    /// How many connections lived in this slot before.
    pub generation: u32,
}
