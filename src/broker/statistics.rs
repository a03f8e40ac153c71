//! What is counted, for $SYS.

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// MQTT packets of all kinds received.
    pub messages_received: u64,
    /// MQTT packets of all kinds put into outboxes.
    pub messages_sent: u64,
    /// PUBLISH packets received.
    pub publish_received: u64,
    /// PUBLISH packets put into outboxes.
    pub publish_sent: u64,
    /// Messages that a receiver did not get, or that were refused.
    pub publish_dropped: u64,
    /// Payload bytes of PUBLISH packets received.
    pub publish_bytes_received: u64,
    /// Payload bytes of PUBLISH packets put into outboxes.
    pub publish_bytes_sent: u64,
    /// Bytes read from sockets; the server tells.
    pub bytes_received: u64,
    /// Bytes written to sockets; the server tells.
    pub bytes_sent: u64,
    /// Connections accepted on sockets; the server tells.
    pub sockets: u64,
    /// CONNECT packets received.
    pub connections: u64,
    /// Sessions that ended because nobody came back.
    pub clients_expired: u64,
    /// The most sessions there ever were at a time.
    pub clients_maximum: u64,
}
