//! Reason Codes (MQTT 5.0, 2.4) and the return codes that 3.1 and 3.1.1 have in their place (3.2.2.3).

use super::PacketType::{
    self, Auth, Connack, Disconnect, Puback, Pubcomp, Pubrec, Pubrel, Suback, Unsuback,
};

macro_rules! reason_codes {
    ($($value:literal $name:ident $text:literal $($packet:ident)|+;)*) => {
        /// A Reason Code: the outcome of an operation; 0x80 and above are failures (2.4).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $(#[doc = $text] $name = $value,)*
        }

        impl ReasonCode {
            /// The code on the wire as `kind` may carry it, or `None` where the specification has no such code.
            pub const fn from_byte(byte: u8, kind: PacketType) -> Option<ReasonCode> {
                match byte {
                    $($value if kind.bit() & ($($packet.bit())|+) != 0 => Some(ReasonCode::$name),)*
                    _ => None,
                }
            }

            /// What it means, in the specification's words.
            pub const fn text(self) -> &'static str {
                match self {
                    $(ReasonCode::$name => $text,)*
                }
            }
        }
    };
}

reason_codes! {
    0x00 Success "Success" Connack | Puback | Pubrec | Pubrel | Pubcomp | Suback | Unsuback | Auth | Disconnect;
    0x01 GrantedQoS1 "Granted QoS 1" Suback;
    0x02 GrantedQoS2 "Granted QoS 2" Suback;
    0x04 DisconnectWithWillMessage "Disconnect with Will Message" Disconnect;
    0x10 NoMatchingSubscribers "No matching subscribers" Puback | Pubrec;
    0x11 NoSubscriptionExisted "No subscription existed" Unsuback;
    0x18 ContinueAuthentication "Continue authentication" Auth;
    0x19 ReAuthenticate "Re-authenticate" Auth;
    0x80 UnspecifiedError "Unspecified error" Connack | Puback | Pubrec | Suback | Unsuback | Disconnect;
    0x81 MalformedPacket "Malformed Packet" Connack | Disconnect;
    0x82 ProtocolError "Protocol Error" Connack | Disconnect;
    0x83 ImplementationSpecificError "Implementation specific error" Connack | Puback | Pubrec | Suback | Unsuback | Disconnect;
    0x84 UnsupportedProtocolVersion "Unsupported Protocol Version" Connack;
    0x85 ClientIdentifierNotValid "Client Identifier not valid" Connack;
    0x86 BadUserNameOrPassword "Bad User Name or Password" Connack;
    0x87 NotAuthorized "Not authorized" Connack | Puback | Pubrec | Suback | Unsuback | Disconnect;
    0x88 ServerUnavailable "Server unavailable" Connack;
    0x89 ServerBusy "Server busy" Connack | Disconnect;
    0x8A Banned "Banned" Connack;
    0x8B ServerShuttingDown "Server shutting down" Disconnect;
    0x8C BadAuthenticationMethod "Bad authentication method" Connack | Disconnect;
    0x8D KeepAliveTimeout "Keep Alive timeout" Disconnect;
    0x8E SessionTakenOver "Session taken over" Disconnect;
    0x8F TopicFilterInvalid "Topic Filter invalid" Suback | Unsuback | Disconnect;
    0x90 TopicNameInvalid "Topic Name invalid" Connack | Puback | Pubrec | Disconnect;
    0x91 PacketIdentifierInUse "Packet Identifier in use" Puback | Pubrec | Suback | Unsuback;
    0x92 PacketIdentifierNotFound "Packet Identifier not found" Pubrel | Pubcomp;
    0x93 ReceiveMaximumExceeded "Receive Maximum exceeded" Disconnect;
    0x94 TopicAliasInvalid "Topic Alias invalid" Disconnect;
    0x95 PacketTooLarge "Packet too large" Connack | Puback | Pubrec | Disconnect;
    0x96 MessageRateTooHigh "Message rate too high" Disconnect;
    0x97 QuotaExceeded "Quota exceeded" Connack | Puback | Pubrec | Suback | Disconnect;
    0x98 AdministrativeAction "Administrative action" Disconnect;
    0x99 PayloadFormatInvalid "Payload format invalid" Connack | Puback | Pubrec | Disconnect;
    0x9A RetainNotSupported "Retain not supported" Connack | Disconnect;
    0x9B QoSNotSupported "QoS not supported" Connack | Disconnect;
    0x9C UseAnotherServer "Use another server" Connack | Disconnect;
    0x9D ServerMoved "Server moved" Connack | Disconnect;
    0x9E SharedSubscriptionsNotSupported "Shared Subscriptions not supported" Suback | Disconnect;
    0x9F ConnectionRateExceeded "Connection rate exceeded" Connack | Disconnect;
    0xA0 MaximumConnectTime "Maximum connect time" Disconnect;
    0xA1 SubscriptionIdentifiersNotSupported "Subscription Identifiers not supported" Suback | Disconnect;
    0xA2 WildcardSubscriptionsNotSupported "Wildcard Subscriptions not supported" Suback | Disconnect;
}

impl ReasonCode {
    /// Whether the operation failed (2.4).
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// The Connect Return code of 3.1 and 3.1.1 that says the same (3.1.1, 3.2.2.3), or `None` where those versions
    /// have no word for it and the connection is closed without one.
    pub const fn connect_return_code(self) -> Option<u8> {
        match self {
            ReasonCode::Success => Some(0),
            ReasonCode::UnsupportedProtocolVersion => Some(1),
            ReasonCode::ClientIdentifierNotValid => Some(2),
            ReasonCode::ServerUnavailable | ReasonCode::ServerBusy => Some(3),
            ReasonCode::BadUserNameOrPassword => Some(4),
            ReasonCode::NotAuthorized | ReasonCode::Banned | ReasonCode::PacketTooLarge => Some(5),
            _ => None,
        }
    }
}
