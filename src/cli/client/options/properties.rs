//! `-D COMMAND PROPERTY VALUE`: names, types, ranges, and which packet may carry which property.
//!
//! 1. A property that [`Lists::add`] took is one that its packet may carry, whole and of the right type. Some ranges and
//!    what is given twice are only looked at in the end, by [`check`], as in Mosquitto.

use super::number;
use crate::mqtt::property::VariableByteInteger;
use crate::mqtt::{Property, PropertyBuffer, primitive};

/// The largest Variable Byte Integer (1.5.5).
const VARIABLE_MAX: u32 = 268_435_455;

/// How the value of a property is read. The discriminants stand in a sentence.
enum Kind {
    Byte(fn(u8) -> Property<'static>),
    TwoBytes(fn(u16) -> Property<'static>),
    FourBytes(fn(u32) -> Property<'static>),
    Variable(fn(VariableByteInteger) -> Property<'static>),
    Binary(for<'a> fn(&'a [u8]) -> Property<'a>),
    Text(for<'a> fn(&'a str) -> Property<'a>),
    Pair,
}

impl Kind {
    /// Mosquitto's number of the type, which it puts in a sentence.
    const fn number(&self) -> u8 {
        match self {
            Kind::Byte(_) => 1,
            Kind::TwoBytes(_) => 2,
            Kind::FourBytes(_) => 3,
            Kind::Variable(_) => 4,
            Kind::Binary(_) => 5,
            Kind::Text(_) => 6,
            Kind::Pair => 7,
        }
    }
}

/// What `-D` names: a packet, or the Will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Connect,
    Connack,
    Publish,
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
    Subscribe,
    Suback,
    Unsubscribe,
    Unsuback,
    Disconnect,
    Auth,
    Will,
}

const COMMANDS: &[(&str, Command)] = &[
    ("connect", Command::Connect),
    ("connack", Command::Connack),
    ("publish", Command::Publish),
    ("puback", Command::Puback),
    ("pubrec", Command::Pubrec),
    ("pubrel", Command::Pubrel),
    ("pubcomp", Command::Pubcomp),
    ("subscribe", Command::Subscribe),
    ("unsubscribe", Command::Unsubscribe),
    ("disconnect", Command::Disconnect),
    ("auth", Command::Auth),
    ("will", Command::Will),
];

use Command::*;

const MESSAGES: &[Command] = &[Publish, Will];
const LOGIN: &[Command] = &[Connect, Connack];
const ACCEPTED: &[Command] = &[Connack];
const EXCHANGE: &[Command] = &[Connect, Connack, Auth];
const REASONS: &[Command] = &[
    Connack, Puback, Pubrec, Pubrel, Pubcomp, Suback, Unsuback, Disconnect, Auth,
];
const ALL: &[Command] = &[
    Connect,
    Connack,
    Publish,
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
    Subscribe,
    Suback,
    Unsubscribe,
    Unsuback,
    Disconnect,
    Auth,
    Will,
];

/// Name, type, and the packets that may carry it (2.2.2.2).
const PROPERTIES: &[(&str, Kind, &[Command])] = &[
    (
        "payload-format-indicator",
        Kind::Byte(Property::PayloadFormatIndicator),
        MESSAGES,
    ),
    (
        "message-expiry-interval",
        Kind::FourBytes(Property::MessageExpiryInterval),
        MESSAGES,
    ),
    (
        "content-type",
        Kind::Text(|text| Property::ContentType(text)),
        MESSAGES,
    ),
    (
        "response-topic",
        Kind::Text(|text| Property::ResponseTopic(text)),
        MESSAGES,
    ),
    (
        "correlation-data",
        Kind::Binary(|data| Property::CorrelationData(data)),
        MESSAGES,
    ),
    (
        "subscription-identifier",
        Kind::Variable(Property::SubscriptionIdentifier),
        &[Publish, Subscribe],
    ),
    (
        "session-expiry-interval",
        Kind::FourBytes(Property::SessionExpiryInterval),
        &[Connect, Connack, Disconnect],
    ),
    (
        "assigned-client-identifier",
        Kind::Text(|text| Property::AssignedClientIdentifier(text)),
        ACCEPTED,
    ),
    (
        "server-keep-alive",
        Kind::TwoBytes(Property::ServerKeepAlive),
        ACCEPTED,
    ),
    (
        "authentication-method",
        Kind::Text(|text| Property::AuthenticationMethod(text)),
        EXCHANGE,
    ),
    (
        "authentication-data",
        Kind::Binary(|data| Property::AuthenticationData(data)),
        EXCHANGE,
    ),
    (
        "request-problem-information",
        Kind::Byte(Property::RequestProblemInformation),
        &[Connect],
    ),
    (
        "will-delay-interval",
        Kind::FourBytes(Property::WillDelayInterval),
        &[Will],
    ),
    (
        "request-response-information",
        Kind::Byte(Property::RequestResponseInformation),
        &[Connect],
    ),
    (
        "response-information",
        Kind::Text(|text| Property::ResponseInformation(text)),
        ACCEPTED,
    ),
    (
        "server-reference",
        Kind::Text(|text| Property::ServerReference(text)),
        &[Connack, Disconnect],
    ),
    (
        "reason-string",
        Kind::Text(|text| Property::ReasonString(text)),
        REASONS,
    ),
    (
        "receive-maximum",
        Kind::TwoBytes(Property::ReceiveMaximum),
        LOGIN,
    ),
    (
        "topic-alias-maximum",
        Kind::TwoBytes(Property::TopicAliasMaximum),
        LOGIN,
    ),
    (
        "topic-alias",
        Kind::TwoBytes(Property::TopicAlias),
        &[Publish],
    ),
    ("maximum-qos", Kind::Byte(Property::MaximumQoS), ACCEPTED),
    (
        "retain-available",
        Kind::Byte(Property::RetainAvailable),
        ACCEPTED,
    ),
    ("user-property", Kind::Pair, ALL),
    (
        "maximum-packet-size",
        Kind::FourBytes(Property::MaximumPacketSize),
        LOGIN,
    ),
    (
        "wildcard-subscription-available",
        Kind::Byte(Property::WildcardSubscriptionAvailable),
        ACCEPTED,
    ),
    (
        "subscription-identifier-available",
        Kind::Byte(Property::SubscriptionIdentifierAvailable),
        ACCEPTED,
    ),
    (
        "shared-subscription-available",
        Kind::Byte(Property::SharedSubscriptionAvailable),
        ACCEPTED,
    ),
];

/// The properties of each packet that the tools send.
#[derive(Default)]
pub(super) struct Lists {
    pub connect: PropertyBuffer,
    pub publish: PropertyBuffer,
    pub subscribe: PropertyBuffer,
    pub unsubscribe: PropertyBuffer,
    pub disconnect: PropertyBuffer,
    pub will: PropertyBuffer,
}

impl Lists {
    /// Adds what the arguments behind a `-D` say, and tells how many of them that took. The error is for standard error;
    /// it is empty where Mosquitto has no sentence.
    pub(super) fn add(&mut self, arguments: &[&[u8]]) -> Result<usize, String> {
        const SHORT: &str =
            "Error: --property argument given but not enough arguments specified.\n\n";
        let &[command_name, name, first, ..] = arguments else {
            return Err(SHORT.to_owned());
        };
        let (command_text, name_text) = (
            String::from_utf8_lossy(command_name),
            String::from_utf8_lossy(name),
        );
        let Some((_, command)) = COMMANDS
            .iter()
            .find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(command_name))
        else {
            return Err(format!(
                "Error: Invalid command {command_text} given in --property argument.\n\n"
            ));
        };
        let Some((_, kind, carriers)) = PROPERTIES
            .iter()
            .find(|(known, ..)| known.as_bytes().eq_ignore_ascii_case(name))
        else {
            return Err(format!(
                "Error: Invalid property name {name_text} given in --property argument.\n\n"
            ));
        };
        if !carriers.contains(command) {
            return Err(format!(
                "Error: {name_text} property not allowed for {command_text} in --property argument.\n\n"
            ));
        }
        let (pair, taken) = match (kind, arguments.get(3)) {
            (Kind::Pair, Some(second)) => (Some((first, *second)), 4),
            (Kind::Pair, None) => return Err(SHORT.to_owned()),
            _ => (None, 3),
        };
        let unsupported = || {
            format!(
                "Error: {name_text} property not supported for {command_text} in --property argument.\n\n"
            )
        };
        let list = match command {
            Connect => &mut self.connect,
            // The server's, to say which of its subscriptions a message comes from.
            Publish if matches!(kind, Kind::Variable(_)) => return Err(unsupported()),
            Publish => &mut self.publish,
            Subscribe => &mut self.subscribe,
            Unsubscribe => &mut self.unsubscribe,
            Disconnect => &mut self.disconnect,
            Will => &mut self.will,
            Connack => return Err(String::new()),
            Auth | Puback | Pubrec | Pubrel | Pubcomp | Suback | Unsuback => {
                return Err(unsupported());
            }
        };
        push(list, kind, &name_text, first, pair)?;
        Ok(taken)
    }

    /// The lists that nobody else looks at before they are sent, with their names.
    pub(super) fn sent_later(&self) -> [(&'static str, &PropertyBuffer); 4] {
        [
            ("PUBLISH", &self.publish),
            ("SUBSCRIBE", &self.subscribe),
            ("UNSUBSCRIBE", &self.unsubscribe),
            ("DISCONNECT", &self.disconnect),
        ]
    }
}

fn push(
    list: &mut PropertyBuffer,
    kind: &Kind,
    name: &str,
    value: &[u8],
    pair: Option<(&[u8], &[u8])>,
) -> Result<(), String> {
    let text = String::from_utf8_lossy(value);
    let range = |value: i64| {
        format!("Error: Property value ({value}) out of range for property {name}.\n\n")
    };
    let whole = || {
        number::whole(&text)
            .ok_or_else(|| format!("Error: Property value '{text}' not a number.\n\n"))
    };
    let refused = || format!("Error adding property {name} {}\n", kind.number());
    let string = |bytes| short(bytes).ok_or_else(refused);
    match kind {
        Kind::Byte(make) => {
            let value = number::long(&text);
            list.push(make(u8::try_from(value).map_err(|_| range(value))?));
        }
        Kind::TwoBytes(make) => {
            let value = number::long(&text);
            list.push(make(u16::try_from(value).map_err(|_| range(value))?));
        }
        Kind::FourBytes(make) => {
            let value = whole()?;
            list.push(make(u32::try_from(value).map_err(|_| range(value))?));
        }
        Kind::Variable(make) => {
            let value = whole()?;
            let value = u32::try_from(value).map_err(|_| range(value))?;
            if value > VARIABLE_MAX {
                return Err(refused());
            }
            list.push(make(VariableByteInteger(value)));
        }
        Kind::Binary(make) => {
            if value.len() > usize::from(u16::MAX) {
                return Err(format!(
                    "Error: Property value too long for property {name}.\n\n"
                ));
            }
            list.push(make(value));
        }
        Kind::Text(make) => list.push(make(string(value)?)),
        Kind::Pair => {
            let (key, value) = pair.expect("counted with the arguments");
            list.push(Property::UserProperty((string(key)?, string(value)?)));
        }
    }
    Ok(())
}

/// A UTF-8 Encoded String (1.5.4), if it is one.
fn short(bytes: &[u8]) -> Option<&str> {
    (bytes.len() <= usize::from(u16::MAX))
        .then(|| primitive::utf8(bytes).ok())
        .flatten()
}

/// What is wrong with a whole list, in Mosquitto's words.
pub(super) fn check(list: &PropertyBuffer) -> Result<(), &'static str> {
    let properties: Vec<Property<'_>> = list.as_properties().iter().collect();
    for (index, property) in properties.iter().enumerate() {
        use Property::*;
        let allowed = match *property {
            RequestProblemInformation(value) | RequestResponseInformation(value) => value <= 1,
            ReceiveMaximum(value) | TopicAlias(value) => value != 0,
            MaximumPacketSize(value) => value != 0,
            _ => true,
        };
        if !allowed {
            return Err("A network protocol error occurred when communicating with the broker.");
        }
        let again = properties[index + 1..]
            .iter()
            .any(|other| other.name() == property.name());
        if again && !matches!(property, UserProperty(_)) {
            return Err("Duplicate property in property list");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(arguments: &str) -> (Lists, Result<usize, String>) {
        let mut lists = Lists::default();
        let arguments: Vec<&[u8]> = arguments.split(' ').map(str::as_bytes).collect();
        let result = lists.add(&arguments);
        (lists, result)
    }

    #[test]
    fn the_table_says_what_the_codec_says() {
        use crate::mqtt::property::{Place, Properties};
        use crate::mqtt::{PacketType, Reader};
        let places = [
            (Connect, Place::Packet(PacketType::Connect)),
            (Connack, Place::Packet(PacketType::Connack)),
            (Publish, Place::Packet(PacketType::Publish)),
            (Puback, Place::Packet(PacketType::Puback)),
            (Pubrec, Place::Packet(PacketType::Pubrec)),
            (Pubrel, Place::Packet(PacketType::Pubrel)),
            (Pubcomp, Place::Packet(PacketType::Pubcomp)),
            (Subscribe, Place::Packet(PacketType::Subscribe)),
            (Suback, Place::Packet(PacketType::Suback)),
            (Unsubscribe, Place::Packet(PacketType::Unsubscribe)),
            (Unsuback, Place::Packet(PacketType::Unsuback)),
            (Disconnect, Place::Packet(PacketType::Disconnect)),
            (Auth, Place::Packet(PacketType::Auth)),
            (Will, Place::Will),
        ];
        for (name, kind, carriers) in PROPERTIES {
            let mut list = PropertyBuffer::new();
            push(&mut list, kind, name, b"1", Some((b"k", b"v"))).unwrap();
            let made: Vec<_> = list.as_properties().iter().collect();
            assert_eq!(made[0].name(), *name);
            let mut bytes = Vec::new();
            list.as_properties().encode(&mut bytes);
            for (command, place) in places {
                let carried = match Properties::read(&mut Reader::new(&bytes), place) {
                    Ok(_) => true,
                    // Allowed there, but not alone.
                    Err(error) => format!("{error:?}").contains("without a method"),
                };
                assert_eq!(
                    carriers.contains(&command),
                    carried,
                    "{name} in {command:?}"
                );
            }
        }
    }

    #[test]
    fn values_are_of_their_type() {
        for (arguments, taken) in [
            ("connect receive-maximum 65535", 3),
            ("Connect Receive-Maximum 5", 3),
            ("publish user-property k v", 4),
            ("will will-delay-interval 0x10", 3),
            ("subscribe subscription-identifier 268435455", 3),
            ("subscribe subscription-identifier 0", 3),
            ("unsubscribe user-property k v more", 4),
            ("disconnect session-expiry-interval 4294967295", 3),
            ("publish payload-format-indicator 1x", 3),
        ] {
            assert_eq!(add(arguments).1, Ok(taken), "{arguments}");
        }
        let (lists, _) = add("will will-delay-interval 0x10");
        let properties: Vec<_> = lists.will.as_properties().iter().collect();
        assert_eq!(properties, [Property::WillDelayInterval(16)]);
    }

    #[test]
    fn what_is_wrong_has_a_sentence() {
        let short = "Error: --property argument given but not enough arguments specified.\n\n";
        for (arguments, sentence) in [
            ("connect", short),
            ("foo a", short),
            ("publish user-property a", short),
            (
                "foo a b",
                "Error: Invalid command foo given in --property argument.\n\n",
            ),
            (
                "suback a b",
                "Error: Invalid command suback given in --property argument.\n\n",
            ),
            (
                "connect foo b",
                "Error: Invalid property name foo given in --property argument.\n\n",
            ),
            (
                "subscribe topic-alias 1",
                "Error: topic-alias property not allowed for subscribe in --property argument.\n\n",
            ),
            (
                "auth user-property a b",
                "Error: user-property property not supported for auth in --property argument.\n\n",
            ),
            (
                "puback reason-string a",
                "Error: reason-string property not supported for puback in --property argument.\n\n",
            ),
            (
                "publish subscription-identifier 1",
                "Error: subscription-identifier property not supported for publish in --property argument.\n\n",
            ),
            ("connack reason-string a", ""),
            (
                "connect request-problem-information 256",
                "Error: Property value (256) out of range for property request-problem-information.\n\n",
            ),
            (
                "connect receive-maximum -1",
                "Error: Property value (-1) out of range for property receive-maximum.\n\n",
            ),
            (
                "connect session-expiry-interval 4294967296",
                "Error: Property value (4294967296) out of range for property session-expiry-interval.\n\n",
            ),
            (
                "connect session-expiry-interval 1h",
                "Error: Property value '1h' not a number.\n\n",
            ),
            (
                "subscribe subscription-identifier x",
                "Error: Property value 'x' not a number.\n\n",
            ),
            (
                "subscribe subscription-identifier -1",
                "Error: Property value (-1) out of range for property subscription-identifier.\n\n",
            ),
            (
                "subscribe subscription-identifier 268435456",
                "Error adding property subscription-identifier 4\n",
            ),
            (
                "publish content-type \u{1}",
                "Error adding property content-type 6\n",
            ),
            (
                "publish user-property a \u{1}",
                "Error adding property user-property 7\n",
            ),
        ] {
            assert_eq!(add(arguments).1, Err(sentence.to_owned()), "{arguments}");
        }
        let long = "x".repeat(65_536);
        assert_eq!(
            add(&format!("publish correlation-data {long}")).1,
            Err("Error: Property value too long for property correlation-data.\n\n".to_owned())
        );
    }

    #[test]
    fn a_list_is_checked_as_a_whole() {
        let protocol = Err("A network protocol error occurred when communicating with the broker.");
        let twice = Err("Duplicate property in property list");
        for (properties, result) in [
            (&[][..], Ok(())),
            (
                &[
                    Property::UserProperty(("a", "b")),
                    Property::UserProperty(("a", "b")),
                ],
                Ok(()),
            ),
            (&[Property::ReceiveMaximum(0)], protocol),
            (&[Property::MaximumPacketSize(0)], protocol),
            (&[Property::RequestProblemInformation(2)], protocol),
            (&[Property::TopicAlias(1), Property::TopicAlias(2)], twice),
        ] {
            let mut list = PropertyBuffer::new();
            properties.iter().for_each(|&property| list.push(property));
            assert_eq!(check(&list), result, "{properties:?}");
        }
    }
}
