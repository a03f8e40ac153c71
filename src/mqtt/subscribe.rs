//! SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK (3.8 to 3.11).

use super::QoS;

/// What a SUBSCRIBE may ask about retained messages (3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    /// 0: send retained messages at the time of the subscribe.
    #[default]
    Send = 0,
    /// 1: send them only if the subscription does not exist yet.
    SendIfNew = 1,
    /// 2: do not send them.
    DoNotSend = 2,
}

/// Subscription Options (3.8.3.1), kept as the byte on the wire: QoS in bits 0 and 1, No Local in bit 2, Retain As
/// Published in bit 3, Retain Handling in bits 4 and 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionOptions(u8);

impl SubscriptionOptions {
    /// Options with this maximum QoS and nothing else set, as a SUBSCRIBE of 3.1.1 means them.
    pub const fn new(qos: QoS) -> SubscriptionOptions {
        SubscriptionOptions(qos as u8)
    }

    /// The options in `byte`, or `None` where it uses reserved bits or values [MQTT-3.8.3-5].
    pub const fn from_byte(byte: u8) -> Option<SubscriptionOptions> {
        if byte & 0b1100_0000 != 0 || byte & 0b11 == 0b11 || byte & 0b11_0000 == 0b11_0000 {
            return None;
        }
        Some(SubscriptionOptions(byte))
    }

    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// Maximum QoS at which the server may send to this subscription.
    pub const fn qos(self) -> QoS {
        match self.0 & 0b11 {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// The same options with another maximum QoS: what the server granted.
    pub const fn with_qos(self, qos: QoS) -> SubscriptionOptions {
        SubscriptionOptions(self.0 & !0b11 | qos as u8)
    }

    /// No Local: the client does not want what it published itself.
    pub const fn no_local(self) -> bool {
        self.0 & 0b100 != 0
    }

    /// Retain As Published: forward the RETAIN flag as the publisher set it.
    pub const fn retain_as_published(self) -> bool {
        self.0 & 0b1000 != 0
    }

    /// When retained messages are sent.
    pub const fn retain_handling(self) -> RetainHandling {
        match self.0 >> 4 & 0b11 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            _ => RetainHandling::DoNotSend,
        }
    }
}
