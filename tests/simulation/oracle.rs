//! What clients may and must see: a naive model of a server, written from the standard, with lists where the broker has
//! indexes.
//!
//! It is told each packet before the broker is, and shown each packet that the broker puts out. Where the standard leaves
//! a choice, every choice is accepted: who of a shared group gets a message, when a retained message that was replaced
//! meanwhile is left out, whether what exceeds a queue is dropped. Everything else is exact. Times are milliseconds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;

use midge::mqtt::{Packet, Property, Publish, RetainHandling, SubscriptionOptions};

/// Who may what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Everybody everything.
    All,
    /// Nobody reads or writes what begins with `b`.
    NotB,
    /// Below `a` everybody; elsewhere nobody writes.
    OnlyA,
}

impl Rights {
    /// The lines of the ACL file that says so; `None` for no file.
    pub fn lines(self) -> Option<&'static str> {
        match self {
            Rights::All => None,
            Rights::NotB => Some("topic subscribe #\ntopic readwrite #\ntopic deny b/#\n"),
            Rights::OnlyA => Some("topic readwrite a/#\ntopic readwrite a\ntopic read #\n"),
        }
    }

    fn is_below(topic: &str, first: &str) -> bool {
        topic.split('/').next() == Some(first)
    }

    /// Whether a message with this topic may go to a client. `#` in a rule says nothing of topics that begin with `$`.
    pub fn may_read(self, topic: &str) -> bool {
        match self {
            Rights::All => true,
            Rights::NotB => !Rights::is_below(topic, "b") && !topic.starts_with('$'),
            Rights::OnlyA => !topic.starts_with('$'),
        }
    }

    /// Whether a client may subscribe to this filter.
    fn may_subscribe(self, filter: &str) -> bool {
        self != Rights::NotB || !Rights::is_below(filter, "b") && !filter.starts_with('$')
    }

    /// Whether a client may publish to this topic.
    pub fn may_write(self, topic: &str) -> bool {
        match self {
            Rights::All => true,
            Rights::NotB => self.may_read(topic),
            Rights::OnlyA => Rights::is_below(topic, "a"),
        }
    }
}

/// What an operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `max_queued_messages`.
    pub queued_max: Option<usize>,
    /// `allow_duplicate_messages`.
    pub duplicates: bool,
    /// `queue_qos0_messages`.
    pub queues_qos_0: bool,
    /// `persistent_client_expiration`, in milliseconds.
    pub expiration: Option<u64>,
    /// Whether large look-ups are made in pieces: what is retained meanwhile may be found then, or not.
    pub in_pieces: bool,
    /// Whether what is sent may have to wait for a commit.
    pub is_durable: bool,
    /// Rights.
    pub rights: Rights,
}

/// An Application Message.
pub struct Message {
    /// What the ledger knows it by; 0 for one without payload.
    pub number: u64,
    pub publisher: String,
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub expires: Option<u64>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, retain) = (self.number, if self.retain { " retain" } else { "" });
        write!(
            f,
            "{number} of {} on {} QoS {}{retain}",
            self.publisher, self.topic, self.qos
        )?;
        self.expires
            .map_or(Ok(()), |expires| write!(f, " until {expires}"))
    }
}

impl Message {
    fn is_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was not seen yet. `maybe_sent` where it may have been sent and lost with a connection.
    Waits { maybe_sent: bool },
    /// Its PUBLISH was seen on that connection.
    Sent { packet_id: u16, connection: u32 },
    /// PUBREC came.
    HandedOver { packet_id: u16 },
}

/// One message on its way to one session.
#[derive(Clone, Debug)]
struct Delivery {
    message: Rc<Message>,
    qos: u8,
    retain: bool,
    identifiers: Vec<u32>,
    state: State,
    /// Whether it must come; what need not may come all the same.
    must: bool,
    /// The filter of the subscription whose retained messages it is of.
    replay_of: Option<String>,
    /// Its place in the order of first sending; 0 before.
    first_sent: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Subscription {
    options: SubscriptionOptions,
    identifier: u32,
}

#[derive(Clone, Debug)]
struct Will {
    message: Rc<Message>,
    message_expiry: Option<u64>,
    delay: u64,
}

/// Retained messages that a SUBSCRIBE asked for and that were not all seen.
#[derive(Clone, Debug)]
struct Request {
    packet_id: u16,
    filter: String,
    subscription: Subscription,
    is_answered: bool,
}

/// What the server keeps for a client.
#[derive(Clone, Debug)]
pub struct Session {
    /// No other session has it, in no client.
    pub serial: u64,
    /// In milliseconds; `None` for ever.
    expiry: Option<u64>,
    connection: Option<u32>,
    /// Its client's Maximum Packet Size, which is always the same.
    packet_bytes_max: usize,
    subscriptions: BTreeMap<String, Subscription>,
    deliveries: Vec<Delivery>,
    received: BTreeMap<u16, Rc<Message>>,
    requests: Vec<Request>,
    will: Option<Will>,
    will_due: Option<u64>,
    ends: Option<u64>,
    /// When its connection ended. What came at the same moment may have been sent on it, and lost.
    left_at: Option<u64>,
}

impl Session {
    /// Whether it outlives its connection.
    pub fn lasts(&self) -> bool {
        self.expiry != Some(0)
    }
}

/// An answer that the broker owes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Connack(bool),
    Puback(u16, u8),
    Pubrec(u16, u8),
    Pubrel(u16, u8),
    Pubcomp(u16, u8),
    Suback(u16, Vec<u8>),
    Unsuback(u16, Vec<u8>),
    Pingresp,
}

const KINDS: usize = 8;

impl Answer {
    fn kind(&self) -> usize {
        match self {
            Answer::Connack(_) => 0,
            Answer::Puback(..) => 1,
            Answer::Pubrec(..) => 2,
            Answer::Pubrel(..) => 3,
            Answer::Pubcomp(..) => 4,
            Answer::Suback(..) => 5,
            Answer::Unsuback(..) => 6,
            Answer::Pingresp => 7,
        }
    }
}

/// A Network Connection whose CONNECT came.
#[derive(Clone, Debug)]
struct Connection {
    client: String,
    version: u8,
    /// Answers that are owed, in order for each kind.
    answers: [VecDeque<Answer>; KINDS],
    receive_maximum: usize,
    packet_bytes_max: usize,
    alias_maximum: u16,
    aliases: BTreeMap<u16, String>,
    /// Of the client's own.
    aliases_in: BTreeMap<u16, String>,
    keep_alive: u64,
    last_packet: u64,
    begun: u64,
    has_connack: bool,
}

/// A message for one member of a shared group, nobody knows which.
#[derive(Clone, Debug)]
struct Pot {
    message: Rc<Message>,
    /// Client, and what its subscription asks for.
    members: Vec<(String, Subscription)>,
    must: bool,
    /// What was put out, if something was: it may turn out to have been for another pot.
    taken: Option<Taken>,
}

/// A PUBLISH of a message out of a pot.
#[derive(Clone, Debug)]
struct Taken {
    client: String,
    qos: u8,
    retain: bool,
    /// `None` where the client's version has none.
    identifiers: Option<Vec<u32>>,
}

/// What one message led to, for the ledger.
#[derive(Debug, Default)]
pub struct Routed {
    /// Later ones have larger numbers.
    pub serial: u64,
    /// Clients, their sessions, the effective QoS, and whether it must arrive there.
    pub to: Vec<(String, u64, u8, bool)>,
    /// Members of groups, one of which gets it.
    pub to_groups: Vec<Vec<String>>,
    matched: bool,
}

/// The model.
#[derive(Clone, Debug)]
pub struct Oracle {
    pub settings: Settings,
    pub sessions: BTreeMap<String, Session>,
    retained: BTreeMap<String, Rc<Message>>,
    /// When the retained message of a topic was last set or cleared.
    pub retained_at: BTreeMap<String, u64>,
    connections: BTreeMap<u32, Connection>,
    pots: Vec<Pot>,
    /// Whether what is passed on came at the same moment as others, in an order that is not known: nobody can tell then
    /// which of them a full queue drops.
    is_blurred: bool,
    /// Grows with every message that is passed on, and every session.
    serial: u64,
    /// Grows with every PUBLISH that is seen.
    seen: u64,
}

/// What the world tells of a CONNECT beside the packet.
pub struct Connecting<'a> {
    pub connection: u32,
    pub client: &'a str,
    /// The number of the will's message.
    pub will_number: u64,
}

/// What the ledger is told.
pub type Tell<'a> = &'a mut dyn FnMut(&Message, &Routed);

impl Oracle {
    pub fn new(settings: Settings) -> Oracle {
        Oracle {
            settings,
            sessions: BTreeMap::new(),
            retained: BTreeMap::new(),
            retained_at: BTreeMap::new(),
            connections: BTreeMap::new(),
            pots: Vec::new(),
            is_blurred: false,
            serial: 0,
            seen: 0,
        }
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// The last serial that was given.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Later serials than any that a crash forgot.
    pub fn continue_from(&mut self, other: &Oracle) {
        self.serial = self.serial.max(other.serial);
    }

    /// The client of a connection whose CONNECT came and that is not over.
    pub fn client_of(&self, connection: u32) -> Option<&str> {
        let client = &self.connections.get(&connection)?.client;
        let session = self.sessions.get(client)?;
        (session.connection == Some(connection)).then_some(client)
    }

    /// The subscriptions of a client.
    pub fn filters_of(&self, client: &str) -> Vec<(String, u8)> {
        let session = self.sessions.get(client);
        let all = session.iter().flat_map(|it| &it.subscriptions);
        all.map(|(filter, it)| (filter.clone(), it.options.byte()))
            .collect()
    }

    /// CONNECT.
    pub fn connect(
        &mut self,
        about: &Connecting<'_>,
        packet: &Packet<'_>,
        now: u64,
        tell: Tell<'_>,
    ) {
        let Packet::Connect(connect) = packet else {
            panic!("the first packet of a client is CONNECT");
        };
        let client = about.client.to_owned();
        if let Some(old) = self.sessions.get_mut(&client) {
            if old.connection.is_some() {
                if connect.clean_start {
                    old.expiry = Some(0);
                }
                self.leave(&client, now, tell);
            } else if connect.clean_start {
                self.end_session(&client, now, tell);
            }
        }
        let present = self.sessions.contains_key(&client);
        let is_v5 = connect.version as u8 == 5;
        let mut link = Connection {
            client: client.clone(),
            version: connect.version as u8,
            answers: Default::default(),
            receive_maximum: usize::from(u16::MAX),
            packet_bytes_max: usize::MAX,
            alias_maximum: 0,
            aliases: BTreeMap::new(),
            aliases_in: BTreeMap::new(),
            keep_alive: u64::from(connect.keep_alive) * 1000,
            last_packet: now,
            begun: now,
            has_connack: false,
        };
        let mut expiry = Some(0);
        for property in connect.properties.iter() {
            match property {
                Property::SessionExpiryInterval(u32::MAX) => expiry = None,
                Property::SessionExpiryInterval(seconds) => {
                    expiry = Some(u64::from(seconds) * 1000)
                }
                Property::ReceiveMaximum(maximum) => link.receive_maximum = maximum.into(),
                Property::MaximumPacketSize(bytes) => link.packet_bytes_max = bytes as usize,
                Property::TopicAliasMaximum(maximum) => link.alias_maximum = maximum,
                _ => {}
            }
        }
        if !is_v5 && !connect.clean_start {
            expiry = None;
        }
        let expiry = self.at_most(expiry);
        let serial = self.next_serial();
        let session = self
            .sessions
            .entry(client.clone())
            .or_insert_with(|| Session {
                serial,
                expiry,
                connection: None,
                packet_bytes_max: link.packet_bytes_max,
                subscriptions: BTreeMap::new(),
                deliveries: Vec::new(),
                received: BTreeMap::new(),
                requests: Vec::new(),
                will: None,
                will_due: None,
                ends: None,
                left_at: None,
            });
        session.expiry = expiry;
        session.connection = Some(about.connection);
        (session.will_due, session.ends) = (None, None);
        session.will = connect.will.as_ref().map(|will| {
            let seconds = |wanted: fn(Property<'_>) -> Option<u32>| {
                let seconds = will.properties.iter().find_map(wanted);
                seconds.map(|seconds| u64::from(seconds) * 1000)
            };
            Will {
                message: Rc::new(Message {
                    number: about.will_number,
                    publisher: client.clone(),
                    topic: will.topic.to_owned(),
                    payload: will.payload.to_vec(),
                    qos: will.qos as u8,
                    retain: will.retain,
                    expires: None,
                }),
                message_expiry: seconds(|property| match property {
                    Property::MessageExpiryInterval(seconds) => Some(seconds),
                    _ => None,
                }),
                delay: seconds(|property| match property {
                    Property::WillDelayInterval(seconds) => Some(seconds),
                    _ => None,
                })
                .unwrap_or(0),
            }
        });
        link.owe(Answer::Connack(present && connect.version as u8 != 3));
        for delivery in &session.deliveries {
            if let State::HandedOver { packet_id } = delivery.state {
                link.owe(Answer::Pubrel(packet_id, 0));
            }
        }
        self.connections.insert(about.connection, link);
    }

    fn at_most(&self, expiry: Option<u64>) -> Option<u64> {
        match (expiry, self.settings.expiration) {
            (Some(own), Some(limit)) if own > 0 => Some(own.min(limit)),
            (None, limit) => limit,
            (own, _) => own,
        }
    }

    /// Any other packet that came on `connection`.
    pub fn packet(
        &mut self,
        connection: u32,
        packet: &Packet<'_>,
        number: u64,
        is_slow: &dyn Fn(u32) -> bool,
        now: u64,
        tell: Tell<'_>,
    ) {
        let link = self
            .connections
            .get_mut(&connection)
            .expect("its CONNECT came");
        link.last_packet = now;
        let (client, is_v5) = (link.client.clone(), link.version == 5);
        match packet {
            Packet::Publish(publish) => {
                self.publish(connection, &client, publish, number, is_slow, now, tell)
            }
            Packet::Puback(ack) => self.finish(&client, ack.packet_id.0.get(), 1),
            Packet::Pubcomp(ack) => self.finish(&client, ack.packet_id.0.get(), 2),
            Packet::Pubrec(ack) => {
                let packet_id = ack.packet_id.0.get();
                let session = self.sessions.get_mut(&client).expect("connected");
                let mut known = false;
                for delivery in &mut session.deliveries {
                    match delivery.state {
                        State::Sent { packet_id: id, .. } if id == packet_id => {
                            delivery.state = State::HandedOver { packet_id };
                            known = true;
                        }
                        State::HandedOver { packet_id: id } if id == packet_id => known = true,
                        _ => {}
                    }
                }
                let code = if known || !is_v5 { 0 } else { 0x92 };
                self.owe(connection, Answer::Pubrel(packet_id, code));
            }
            Packet::Pubrel(ack) => {
                let packet_id = ack.packet_id.0.get();
                let session = self.sessions.get_mut(&client).expect("connected");
                let received = session.received.remove(&packet_id);
                let code = if received.is_some() || !is_v5 {
                    0
                } else {
                    0x92
                };
                if let Some(message) = received
                    && !message.is_expired(now)
                    && self.settings.rights.may_write(&message.topic)
                {
                    self.route(&client, &message, is_slow, now, tell);
                }
                self.owe(connection, Answer::Pubcomp(packet_id, code));
            }
            Packet::Subscribe(subscribe) => {
                let identifier = subscribe
                    .properties
                    .iter()
                    .find_map(|property| match property {
                        Property::SubscriptionIdentifier(identifier) => Some(identifier.0),
                        _ => None,
                    });
                let packet_id = subscribe.packet_id.0.get();
                let mut codes = Vec::new();
                for (filter, options) in subscribe.filters() {
                    let subscription = Subscription {
                        options,
                        identifier: identifier.unwrap_or(0),
                    };
                    codes.push(self.subscribe(
                        &client,
                        filter,
                        subscription,
                        packet_id,
                        is_v5,
                        now,
                    ));
                }
                self.owe(connection, Answer::Suback(packet_id, codes));
            }
            Packet::Unsubscribe(unsubscribe) => {
                let session = self.sessions.get_mut(&client).expect("connected");
                let codes = unsubscribe.filters().map(|filter| {
                    for delivery in &mut session.deliveries {
                        if delivery.replay_of.as_deref() == Some(filter) {
                            delivery.must = false;
                        }
                    }
                    session.requests.retain(|it| it.filter != filter);
                    match session.subscriptions.remove(filter) {
                        Some(_) => 0,
                        None => 0x11,
                    }
                });
                let codes = codes.collect();
                let codes = if is_v5 { codes } else { Vec::new() };
                self.owe(
                    connection,
                    Answer::Unsuback(unsubscribe.packet_id.0.get(), codes),
                );
            }
            Packet::Pingreq => self.owe(connection, Answer::Pingresp),
            Packet::Disconnect(disconnect) => {
                let limit = |expiry| self.at_most(expiry);
                let mut expiry = None;
                for property in disconnect.properties.iter() {
                    if let Property::SessionExpiryInterval(seconds) = property {
                        expiry = Some(match seconds {
                            u32::MAX => limit(None),
                            _ => limit(Some(u64::from(seconds) * 1000)),
                        });
                    }
                }
                let session = self.sessions.get_mut(&client).expect("connected");
                if let Some(expiry) = expiry {
                    session.expiry = expiry;
                }
                if disconnect.reason_code as u8 == 0 {
                    session.will = None;
                }
                self.leave(&client, now, tell);
            }
            other => panic!("simulated clients do not send {other:?}"),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "it is a part of `packet`")]
    fn publish(
        &mut self,
        connection: u32,
        client: &str,
        publish: &Publish<'_>,
        number: u64,
        is_slow: &dyn Fn(u32) -> bool,
        now: u64,
        tell: Tell<'_>,
    ) {
        let link = self
            .connections
            .get_mut(&connection)
            .expect("its CONNECT came");
        let is_v5 = link.version == 5;
        let (mut topic, mut expires) = (publish.topic.to_owned(), None);
        for property in publish.properties.iter() {
            match property {
                Property::TopicAlias(alias) if topic.is_empty() => {
                    topic = link.aliases_in[&alias].clone()
                }
                Property::TopicAlias(alias) => _ = link.aliases_in.insert(alias, topic.clone()),
                Property::MessageExpiryInterval(seconds) => {
                    expires = Some(now + u64::from(seconds) * 1000)
                }
                _ => {}
            }
        }
        let message = Rc::new(Message {
            number,
            publisher: client.to_owned(),
            topic,
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
            expires,
        });
        let packet_id = publish.packet_id.map_or(0, |it| it.0.get());
        let may_write = self.settings.rights.may_write(&message.topic);
        let code = |matched| match (is_v5, may_write, matched) {
            (false, ..) => 0,
            (true, false, _) => 0x87,
            (true, true, true) => 0,
            (true, true, false) => 0x10,
        };
        match publish.qos as u8 {
            0 if may_write => _ = self.route(client, &message, is_slow, now, tell),
            0 => {}
            1 => {
                let matched = may_write && self.route(client, &message, is_slow, now, tell);
                self.owe(connection, Answer::Puback(packet_id, code(matched)));
            }
            _ => {
                let matched = self.has_receivers(&message.topic);
                let session = self.sessions.get_mut(client).expect("connected");
                if may_write {
                    let stored = session
                        .received
                        .entry(packet_id)
                        .or_insert_with(|| Rc::clone(&message));
                    assert!(
                        stored.payload == message.payload,
                        "simulated clients do not reuse identifiers in use"
                    );
                }
                self.owe(connection, Answer::Pubrec(packet_id, code(matched)));
            }
        }
    }

    fn has_receivers(&self, topic: &str) -> bool {
        self.settings.rights.may_read(topic)
            && self.sessions.values().any(|session| {
                let mut filters = session.subscriptions.keys();
                filters.any(|filter| matches(unshared(filter).1, topic))
            })
    }

    fn owe(&mut self, connection: u32, answer: Answer) {
        self.connections
            .get_mut(&connection)
            .expect("its CONNECT came")
            .owe(answer);
    }

    fn finish(&mut self, client: &str, packet_id: u16, qos: u8) {
        let session = self.sessions.get_mut(client).expect("connected");
        session.deliveries.retain(|delivery| {
            !(delivery.qos == qos
                && match delivery.state {
                    State::Waits { .. } => false,
                    State::Sent { packet_id: id, .. } | State::HandedOver { packet_id: id } => {
                        id == packet_id
                    }
                })
        });
    }

    fn subscribe(
        &mut self,
        client: &str,
        filter: &str,
        subscription: Subscription,
        packet_id: u16,
        is_v5: bool,
        now: u64,
    ) -> u8 {
        let (group, bare) = unshared(filter);
        if !self.settings.rights.may_subscribe(bare) {
            return if is_v5 { 0x87 } else { 0x80 };
        }
        let session = self.sessions.get_mut(client).expect("connected");
        let is_new = session
            .subscriptions
            .insert(filter.to_owned(), subscription)
            .is_none();
        let wants_retained = match subscription.options.retain_handling() {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        // A replay that is not over goes on with the new options, or the old ones, and may stand for both requests.
        let open = session.deliveries.iter_mut().filter(|it| {
            it.replay_of.as_deref() == Some(filter) && matches!(it.state, State::Waits { .. })
        });
        let again: Vec<Delivery> = open
            .map(|delivery| {
                delivery.must = false;
                replay(&delivery.message, filter, subscription, false)
            })
            .collect();
        session.deliveries.extend(again);
        if !wants_retained || group.is_some() {
            return subscription.options.qos() as u8;
        }
        session.requests.retain(|it| it.filter != filter);
        session.requests.push(Request {
            packet_id,
            filter: filter.to_owned(),
            subscription,
            is_answered: false,
        });
        for message in self.retained.values() {
            // `check_retain_source`: what its publisher may not write any more is not sent.
            let is_allowed = self.settings.rights.may_write(&message.topic);
            if matches(bare, &message.topic) && !message.is_expired(now) {
                let fits = message.payload.len() + 200 < session.packet_bytes_max;
                let delivery = replay(message, filter, subscription, is_allowed && fits);
                session.deliveries.push(delivery);
            }
        }
        subscription.options.qos() as u8
    }

    /// Passes a message on; whether a subscription matched.
    fn route(
        &mut self,
        source: &str,
        message: &Rc<Message>,
        is_slow: &dyn Fn(u32) -> bool,
        now: u64,
        tell: Tell<'_>,
    ) -> bool {
        let serial = self.next_serial();
        if message.retain {
            self.retain(message);
        }
        let mut routed = Routed {
            serial,
            ..Routed::default()
        };
        if !self.settings.rights.may_read(&message.topic) {
            tell(message, &routed);
            return false;
        }
        let (settings, is_blurred) = (self.settings, self.is_blurred);
        let mut groups: BTreeMap<(String, String), Vec<(String, Subscription)>> = BTreeMap::new();
        for (name, session) in &mut self.sessions {
            let mut wanted: Vec<Subscription> = Vec::new();
            for (filter, &subscription) in &session.subscriptions {
                let (group, bare) = unshared(filter);
                if !matches(bare, &message.topic) {
                    continue;
                }
                routed.matched = true;
                match group {
                    Some(group) => {
                        let members = groups
                            .entry((group.to_owned(), bare.to_owned()))
                            .or_default();
                        members.push((name.clone(), subscription));
                    }
                    None if subscription.options.no_local() && name == source => {}
                    None => wanted.push(subscription),
                }
            }
            let is_slow = session.connection.is_none_or(is_slow);
            let shared = self.pots.iter().filter(|pot| pot.waits_for(name)).count();
            let maybe_sent = session.left_at == Some(now);
            let mut deliver = |subscriptions: &[Subscription]| {
                let Some(options) = subscriptions
                    .iter()
                    .map(|it| it.options)
                    .max_by_key(|it| (it.qos(), it.retain_as_published()))
                else {
                    return;
                };
                let qos = message.qos.min(options.qos() as u8);
                if qos == 0 && session.connection.is_none() && !settings.queues_qos_0 {
                    if maybe_sent {
                        routed.to.push((name.clone(), session.serial, qos, false));
                    }
                    return;
                }
                let is_full = settings
                    .queued_max
                    .is_some_and(|max| session.deliveries.len() + shared >= max);
                let fits = message.payload.len() + 200 < session.packet_bytes_max;
                let must = fits
                    && !is_blurred
                    && (!is_full || (qos == 0 && !is_slow && !settings.queues_qos_0));
                let mut identifiers: Vec<u32> =
                    subscriptions.iter().map(|it| it.identifier).collect();
                identifiers.retain(|&it| it != 0);
                identifiers.sort_unstable();
                routed.to.push((
                    name.clone(),
                    session.serial,
                    qos,
                    must && session.expiry != Some(0),
                ));
                session.deliveries.push(Delivery {
                    message: Rc::clone(message),
                    qos,
                    retain: message.retain && options.retain_as_published(),
                    identifiers,
                    state: State::Waits { maybe_sent },
                    must: must && (qos > 0 || session.connection.is_some()),
                    replay_of: None,
                    first_sent: 0,
                });
            };
            match settings.duplicates {
                true => wanted
                    .iter()
                    .for_each(|it| deliver(std::slice::from_ref(it))),
                false => deliver(&wanted),
            }
        }
        for members in groups.into_values() {
            routed
                .to_groups
                .push(members.iter().map(|(name, _)| name.clone()).collect());
            let all_last = members.iter().all(|(name, it)| {
                let session = &self.sessions[name];
                let shared = self.pots.iter().filter(|pot| pot.waits_for(name)).count();
                let is_full = settings
                    .queued_max
                    .is_some_and(|max| session.deliveries.len() + shared >= max);
                let fits = message.payload.len() + 200 < session.packet_bytes_max;
                session.lasts() && it.options.qos() as u8 > 0 && !is_full && fits
            });
            self.pots.push(Pot {
                message: Rc::clone(message),
                members,
                must: all_last && !is_blurred && message.qos > 0,
                taken: None,
            });
        }
        tell(message, &routed);
        routed.matched
    }

    fn retain(&mut self, message: &Rc<Message>) {
        self.retained_at.insert(message.topic.clone(), self.serial);
        let former = match message.payload.is_empty() {
            true => self.retained.remove(&message.topic),
            false => self
                .retained
                .insert(message.topic.clone(), Rc::clone(message)),
        };
        for session in self.sessions.values_mut() {
            if let Some(former) = &former {
                session.forget_replays_of(former);
            }
            if message.payload.is_empty() {
                continue;
            }
            // What is retained while a request waits is found by it, too.
            for request in &session.requests {
                let current = session.subscriptions.get(&request.filter);
                let mut options = vec![request.subscription];
                options.extend(current.filter(|it| **it != request.subscription));
                if matches(&request.filter, &message.topic) {
                    let found = options
                        .into_iter()
                        .map(|it| replay(message, &request.filter, it, false));
                    session.deliveries.extend(found);
                }
            }
        }
    }

    /// The connection of a client is over, however.
    fn leave(&mut self, client: &str, now: u64, tell: Tell<'_>) {
        let queues_qos_0 = self.settings.queues_qos_0;
        let session = self.sessions.get_mut(client).expect("connected");
        (session.connection, session.left_at) = (None, Some(now));
        session
            .deliveries
            .retain(|it| it.qos > 0 || it.replay_of.is_some() || queues_qos_0);
        for delivery in &mut session.deliveries {
            delivery.must &= delivery.qos > 0;
            if let State::Waits { maybe_sent } = &mut delivery.state {
                *maybe_sent = true;
            }
        }
        if session.expiry == Some(0) {
            return self.end_session(client, now, tell);
        }
        session.ends = session.expiry.map(|expiry| now + expiry);
        session.will_due = session.will.as_ref().map(|will| now + will.delay);
        if session.will_due == Some(now) {
            self.publish_will(client, now, tell);
        }
    }

    fn end_session(&mut self, client: &str, now: u64, tell: Tell<'_>) {
        self.publish_will(client, now, tell);
        self.sessions.remove(client);
        for pot in &mut self.pots {
            // It may have been this one's.
            pot.must &= pot.members.iter().all(|(member, _)| member != client);
        }
    }

    fn publish_will(&mut self, client: &str, now: u64, tell: Tell<'_>) {
        let session = self.sessions.get_mut(client).expect("it is there");
        session.will_due = None;
        let Some(will) = session.will.take() else {
            return;
        };
        if !self.settings.rights.may_write(&will.message.topic) {
            return;
        }
        let message = Rc::new(Message {
            publisher: client.to_owned(),
            topic: will.message.topic.clone(),
            payload: will.message.payload.clone(),
            expires: will.message_expiry.map(|expiry| now + expiry),
            ..*will.message
        });
        self.is_blurred = self.settings.queued_max.is_some();
        self.route(client, &message, &|_| true, now, tell);
        self.is_blurred = false;
    }

    /// The broker closed `connection`, which is no news for a client that sent DISCONNECT or is elsewhere now.
    pub fn closed_by_broker(&mut self, connection: u32, now: u64, tell: Tell<'_>) {
        let Some(client) = self.client_of(connection).map(str::to_owned) else {
            return;
        };
        let link = &self.connections[&connection];
        let patience = link.keep_alive * 3 / 2;
        assert!(
            link.keep_alive > 0 && now >= link.last_packet + patience,
            "{client} was disconnected without a reason: {} ms after its last packet, Keep Alive {} ms",
            now - link.last_packet,
            link.keep_alive
        );
        self.leave(&client, now, tell);
    }

    /// The network took `connection`, and the broker knows.
    pub fn lost(&mut self, connection: u32, now: u64, tell: Tell<'_>) {
        if let Some(client) = self.client_of(connection).map(str::to_owned) {
            self.leave(&client, now, tell);
        }
    }

    /// Whether the broker must have noticed by now that nothing comes on `connection`.
    pub fn is_overdue(&self, connection: u32, now: u64) -> bool {
        let link = self.connections.get(&connection);
        self.client_of(connection).is_some()
            && link.is_some_and(|it| {
                it.keep_alive > 0 && now > it.last_packet + it.keep_alive * 3 / 2 + 1000
            })
    }

    /// Time has passed.
    pub fn tick(&mut self, now: u64, tell: Tell<'_>) {
        let names: Vec<String> = self.sessions.keys().cloned().collect();
        for name in names {
            let Some(session) = self.sessions.get(&name) else {
                continue;
            };
            if session.ends.is_some_and(|ends| ends <= now) {
                self.end_session(&name, now, tell);
            } else if session.will_due.is_some_and(|due| due <= now) {
                self.publish_will(&name, now, tell);
            }
        }
        let expired: Vec<Rc<Message>> = self
            .retained
            .values()
            .filter(|it| it.is_expired(now))
            .cloned()
            .collect();
        for message in expired {
            self.retained.remove(&message.topic);
            for session in self.sessions.values_mut() {
                session.forget_replays_of(&message);
            }
        }
        for session in self.sessions.values_mut() {
            for delivery in &mut session.deliveries {
                delivery.must &= !delivery.message.is_expired(now);
            }
        }
        for pot in &mut self.pots {
            pot.must &= !pot.message.is_expired(now);
        }
    }

    /// Other rights hold from now on.
    pub fn reconfigure(&mut self, rights: Rights) {
        self.settings.rights = rights;
        for session in self.sessions.values_mut() {
            let subscriptions = &mut session.subscriptions;
            subscriptions.retain(|filter, _| rights.may_subscribe(unshared(filter).1));
            session
                .requests
                .retain(|it| rights.may_subscribe(&it.filter));
            for delivery in &mut session.deliveries {
                let is_sent = matches!(delivery.state, State::HandedOver { .. });
                delivery.must &= is_sent || rights.may_read(&delivery.message.topic);
                delivery.must &=
                    delivery.replay_of.is_none() || rights.may_write(&delivery.message.topic);
            }
        }
        for pot in &mut self.pots {
            pot.must &= rights.may_read(&pot.message.topic);
        }
    }

    /// The broker ended without a word and begins again: what it is to know then.
    pub fn restart(&mut self, now: u64) {
        self.connections.clear();
        self.sessions.retain(|_, session| session.lasts());
        let queues_qos_0 = self.settings.queues_qos_0;
        for session in self.sessions.values_mut() {
            session.connection = None;
            session.requests.clear();
            let expiry = session.expiry;
            session.ends = session.ends.or(expiry.map(|expiry| now + expiry));
            let delay = session.will.as_ref().map(|will| now + will.delay);
            session.will_due = session.will_due.or(delay);
            session
                .deliveries
                .retain(|it| it.qos > 0 || (queues_qos_0 && it.replay_of.is_none()));
            for delivery in &mut session.deliveries {
                // A replay that was not over is not gone on with.
                delivery.must &= delivery.replay_of.is_none() && delivery.qos > 0;
                if let State::Waits { maybe_sent } = &mut delivery.state {
                    *maybe_sent = true;
                }
            }
        }
        for pot in &mut self.pots {
            let sessions = &self.sessions;
            pot.must &= pot
                .members
                .iter()
                .all(|(member, _)| sessions.contains_key(member));
        }
    }

    /// The broker put `packet` out on `connection`, encoded now.
    pub fn emitted(&mut self, connection: u32, packet: &Packet<'_>, bytes: usize, now: u64) {
        let Some(link) = self.connections.get_mut(&connection) else {
            panic!("{packet:?} before any CONNECT");
        };
        let client = link.client.clone();
        assert!(
            bytes <= link.packet_bytes_max,
            "{client} does not take {bytes} bytes"
        );
        let is_v5 = link.version == 5;
        let codes = |codes: &[u8]| codes.to_vec();
        let code = |code: u8| if is_v5 { code } else { 0 };
        let answer = match packet {
            Packet::Disconnect(_) => return,
            Packet::Publish(publish) => return self.emitted_publish(connection, publish, now),
            Packet::Connack(connack) => {
                assert_eq!(connack.code, 0, "simulated clients are never refused");
                link.has_connack = true;
                Answer::Connack(connack.session_present)
            }
            Packet::Puback(ack) => {
                Answer::Puback(ack.packet_id.0.get(), code(ack.reason_code as u8))
            }
            Packet::Pubrec(ack) => {
                Answer::Pubrec(ack.packet_id.0.get(), code(ack.reason_code as u8))
            }
            Packet::Pubrel(ack) => {
                Answer::Pubrel(ack.packet_id.0.get(), code(ack.reason_code as u8))
            }
            Packet::Pubcomp(ack) => {
                Answer::Pubcomp(ack.packet_id.0.get(), code(ack.reason_code as u8))
            }
            Packet::Suback(suback) => {
                let packet_id = suback.packet_id.0.get();
                if let Some(session) = self.sessions.get_mut(&client) {
                    let requests = session.requests.iter_mut();
                    requests
                        .filter(|it| it.packet_id == packet_id)
                        .for_each(|it| it.is_answered = true);
                }
                Answer::Suback(packet_id, codes(suback.codes))
            }
            Packet::Unsuback(unsuback) => {
                Answer::Unsuback(unsuback.packet_id.0.get(), codes(unsuback.codes))
            }
            Packet::Pingresp => Answer::Pingresp,
            other => panic!("{other:?} is nothing that a server sends"),
        };
        let owed = link.answers[answer.kind()].pop_front();
        assert_eq!(
            Some(&answer),
            owed.as_ref(),
            "to {client}: what it was sent, and what it was owed"
        );
        self.close_requests(&client);
    }

    /// Nothing flows any more: whoever is connected, by one of these, has all that it asked for.
    pub fn at_rest(&mut self, connections: &BTreeSet<u32>) {
        let connected = self
            .sessions
            .values_mut()
            .filter(|it| it.connection.is_some_and(|it| connections.contains(&it)));
        connected.for_each(|session| session.requests.clear());
    }

    fn close_requests(&mut self, client: &str) {
        if self.settings.in_pieces {
            return;
        }
        let Some(session) = self.sessions.get_mut(client) else {
            return;
        };
        let deliveries = &session.deliveries;
        // They are served in their order.
        let mut is_held_up = false;
        session.requests.retain(|request| {
            let is_open = |it: &Delivery| {
                it.replay_of.as_ref() == Some(&request.filter)
                    && matches!(it.state, State::Waits { .. })
            };
            is_held_up |= !request.is_answered || deliveries.iter().any(is_open);
            is_held_up
        });
    }

    fn emitted_publish(&mut self, connection: u32, publish: &Publish<'_>, now: u64) {
        let link = self.connections.get_mut(&connection).expect("looked up");
        let client = link.client.clone();
        assert!(link.has_connack, "CONNACK comes first");
        let (mut topic, mut left, mut identifiers) = (publish.topic.to_owned(), None, Vec::new());
        for property in publish.properties.iter() {
            match property {
                Property::TopicAlias(alias) => {
                    assert!(
                        alias <= link.alias_maximum,
                        "alias {alias} above {client}'s maximum"
                    );
                    match topic.is_empty() {
                        true => topic = link.aliases.get(&alias).expect("it was set").clone(),
                        false => _ = link.aliases.insert(alias, topic.clone()),
                    }
                }
                Property::MessageExpiryInterval(seconds) => left = Some(seconds),
                Property::SubscriptionIdentifier(identifier) => identifiers.push(identifier.0),
                _ => {}
            }
        }
        identifiers.sort_unstable();
        let (is_v5, begun) = (link.version == 5, link.begun);
        let (receive_maximum, was_held) = (link.receive_maximum, begun != now);
        let packet_id = publish.packet_id.map_or(0, |it| it.0.get());
        let qos = publish.qos as u8;
        let seen = format!(
            "{client} got {:?} on {topic}, QoS {qos}, dup {}, retain {}, identifier {packet_id}, subscriptions {identifiers:?}, {left:?} s left",
            text(publish.payload),
            publish.dup,
            publish.retain
        );
        let is_over = self.client_of(connection).is_none();
        assert!(
            self.settings.rights.may_read(&topic),
            "{seen}, which it may not read"
        );
        let Some(session) = self.sessions.get_mut(&client) else {
            assert!(is_over, "{seen} without a session");
            return;
        };
        let seconds = |expires: Option<u64>, at: u64| {
            expires.map(|it| it.saturating_sub(at).div_ceil(1000).max(1) as u32)
        };
        // What had to wait for its CONNACK was encoded at some time since its connection began.
        let is_left = |expires: Option<u64>| {
            let (least, most) = (seconds(expires, now), seconds(expires, begun));
            !is_v5 || left == least || (was_held && left.is_some() && left >= least && left <= most)
        };
        let is_content = |it: &Delivery| {
            it.message.topic == topic
                && it.message.payload == publish.payload
                && it.qos == qos
                && it.retain == publish.retain
                && (!is_v5 || it.identifiers == identifiers)
                && is_left(it.message.expires)
        };
        let window = session.deliveries.iter().filter(
            |it| matches!(it.state, State::Sent { connection: on, .. } if on == connection),
        );
        assert!(
            qos == 0 || window.count() < receive_maximum,
            "{seen} above its Receive Maximum"
        );
        let is_right = |it: &Delivery| {
            is_content(it)
                && match it.state {
                    State::Sent {
                        packet_id: id,
                        connection: on,
                    } => publish.dup && id == packet_id && on != connection,
                    State::Waits { maybe_sent } => !publish.dup || maybe_sent,
                    State::HandedOver { .. } => false,
                }
        };
        if is_over {
            // The last words of a connection that ended at the same moment: they do not arrive.
            let lost = session.deliveries.iter_mut().find(|it| is_right(it));
            if let Some(Delivery {
                state: State::Waits { maybe_sent },
                must,
                ..
            }) = lost
            {
                (*maybe_sent, *must) = (true, *must && qos > 0);
            }
            return;
        }
        let taken = Taken {
            client: client.clone(),
            qos,
            retain: publish.retain,
            identifiers: is_v5.then(|| identifiers.clone()),
        };
        let is_same =
            |it: &&mut Pot| it.message.topic == topic && it.message.payload == publish.payload;
        let mut pots: Vec<&mut Pot> = self.pots.iter_mut().filter(is_same).collect();
        let has_pot = could_take(&pots, &taken, &mut BTreeSet::new());
        let is_due = |pot: &&mut Pot| pot.must && pot.taken.is_none() && pot.gives(&taken);
        let has_due_pot = pots.iter().any(is_due);
        // What was sent before is known by its identifier; what must come is there before what may.
        let all = || session.deliveries.iter();
        let is_sent = |it: &Delivery| matches!(it.state, State::Sent { .. });
        self.seen += 1;
        let found = all()
            .position(|it| is_sent(it) && is_right(it))
            .or_else(|| {
                let is_next = |index: usize| !has_pot || session.overtaken_by(index).is_none();
                let mut candidates = all()
                    .enumerate()
                    .filter(|(index, it)| is_right(it) && is_next(*index));
                let must = candidates.clone().find(|(_, it)| it.must);
                let found = must
                    .or_else(|| candidates.find(|(_, it)| it.replay_of.is_none() && !has_due_pot));
                found.map(|(index, _)| index)
            })
            .or_else(|| all().position(is_right).filter(|_| !has_pot));
        match found {
            Some(index) => {
                let in_use = session.deliveries.iter().enumerate().any(|(other, it)| {
                    other != index
                        && match it.state {
                            State::Waits { .. } => false,
                            State::Sent { packet_id: id, .. }
                            | State::HandedOver { packet_id: id } => id == packet_id,
                        }
                });
                assert!(qos == 0 || !in_use, "{seen} under an identifier in use");
                let delivery = &session.deliveries[index];
                // What is sent again is sent in its old order [MQTT-4.6.0-1]; where some had to wait for a commit, in that
                // in which it began.
                let is_again = |it: &Delivery| matches!(it.state, State::Sent { connection: on, .. } if on != connection);
                let skipped = session.deliveries.iter().find(|it| {
                    is_again(it)
                        && is_again(delivery)
                        && it.must
                        && it.first_sent < delivery.first_sent
                });
                let is_in_order = skipped.is_none() || self.settings.is_durable;
                assert!(is_in_order, "{seen} again before {skipped:?}");
                if matches!(delivery.state, State::Waits { .. }) && !publish.dup {
                    let is_late = delivery.message.is_expired(now) && !self.settings.is_durable;
                    assert!(!is_late, "{seen}, which has expired");
                    let earlier = session.overtaken_by(index);
                    assert!(earlier.is_none(), "{seen} before {earlier:?}");
                }
                match qos {
                    0 => _ = session.deliveries.remove(index),
                    _ => {
                        let delivery = &mut session.deliveries[index];
                        delivery.state = State::Sent {
                            packet_id,
                            connection,
                        };
                        if delivery.first_sent == 0 {
                            delivery.first_sent = self.seen;
                        }
                    }
                }
            }
            None => {
                if !has_pot {
                    panic!(
                        "{seen}, which is not for it; it has {:?}\nand groups {pots:?}",
                        session.deliveries
                    );
                }
                let message = Rc::clone(&pots[0].message);

                take(&mut pots, taken, &mut BTreeSet::new());
                if qos > 0 {
                    session.deliveries.push(Delivery {
                        message,
                        qos,
                        retain: publish.retain,
                        identifiers,
                        state: State::Sent {
                            packet_id,
                            connection,
                        },
                        must: true,
                        replay_of: None,
                        first_sent: self.seen,
                    });
                }
            }
        }
        self.close_requests(&client);
    }

    /// Everybody has read everything and nothing is under way: whether anything is missing.
    pub fn check_all_is_there(&self) {
        for (client, session) in &self.sessions {
            let Some(link) = session.connection.and_then(|it| self.connections.get(&it)) else {
                continue;
            };
            let owed: Vec<_> = link.answers.iter().flatten().collect();
            assert!(owed.is_empty(), "{client} has no answers: {owed:?}");
            let fits = |it: &Delivery| it.message.payload.len() + 200 < session.packet_bytes_max;
            let missing = |it: &&Delivery| it.must && fits(it);
            let missing: Vec<_> = session.deliveries.iter().filter(missing).collect();
            assert!(missing.is_empty(), "{client} never got {missing:?}");
        }
        for pot in &self.pots {
            let connected = |(name, _): &(String, Subscription)| {
                self.sessions
                    .get(name)
                    .is_some_and(|it| it.connection.is_some())
            };
            let is_missing = pot.must && pot.taken.is_none() && pot.members.iter().all(connected);
            assert!(!is_missing, "nobody got {pot:?}");
        }
    }

    /// The retained messages, by topic.
    pub fn retained(&self) -> BTreeMap<String, Vec<u8>> {
        let rights = self.settings.rights;
        let is_seen = |topic: &str| {
            rights.may_read(topic) && rights.may_write(topic) && !topic.starts_with('$')
        };
        let all = self.retained.values().filter(|it| is_seen(&it.topic));
        all.map(|it| (it.topic.clone(), it.payload.clone()))
            .collect()
    }

    /// Clients with a session that lasts.
    pub fn lasting(&self) -> BTreeSet<String> {
        let lasting = self.sessions.iter().filter(|(_, session)| session.lasts());
        lasting.map(|(name, _)| name.clone()).collect()
    }
}

impl Pot {
    /// Whether it may be waiting for this client.
    fn waits_for(&self, client: &str) -> bool {
        self.taken.is_none() && self.members.iter().any(|(member, _)| member == client)
    }

    fn gives(&self, taken: &Taken) -> bool {
        self.members.iter().any(|(member, it)| {
            let identifiers: Vec<u32> = [it.identifier].into_iter().filter(|&it| it != 0).collect();
            *member == taken.client
                && taken.qos == self.message.qos.min(it.options.qos() as u8)
                && taken.retain == (self.message.retain && it.options.retain_as_published())
                && taken
                    .identifiers
                    .as_ref()
                    .is_none_or(|it| *it == identifiers)
        })
    }
}

/// Whether there is a pot for this among those of its message, if others have theirs from another one.
fn could_take(pots: &[&mut Pot], taken: &Taken, tried: &mut BTreeSet<usize>) -> bool {
    (0..pots.len()).any(|index| {
        pots[index].gives(taken)
            && tried.insert(index)
            && match &pots[index].taken {
                None => true,
                Some(other) => could_take(pots, other, tried),
            }
    })
}

/// Takes it.
fn take(pots: &mut [&mut Pot], taken: Taken, tried: &mut BTreeSet<usize>) -> bool {
    // First what must go to somebody.
    let mut indexes: Vec<usize> = (0..pots.len()).collect();
    indexes.sort_by_key(|&index| !pots[index].must);
    for index in indexes {
        if !pots[index].gives(&taken) || !tried.insert(index) {
            continue;
        }
        let is_free = match pots[index].taken.clone() {
            None => true,
            Some(other) => take(pots, other, tried),
        };
        if is_free {
            pots[index].taken = Some(taken);
            return true;
        }
    }
    false
}

impl Session {
    /// What must come before the delivery with this index and did not: of its topic, publisher and QoS [MQTT-4.6.0-6].
    fn overtaken_by(&self, index: usize) -> Option<&Delivery> {
        let delivery = &self.deliveries[index];
        // A retained message is older than what waits before it.
        let mut earlier = self.deliveries[..index]
            .iter()
            .filter(|_| delivery.replay_of.is_none());
        earlier.find(|it| {
            matches!(it.state, State::Waits { .. })
                && it.must
                && (it.qos, it.message.qos) == (delivery.qos, delivery.message.qos)
                && it.message.topic == delivery.message.topic
                && it.message.publisher == delivery.message.publisher
                && !Rc::ptr_eq(&it.message, &delivery.message)
        })
    }

    fn forget_replays_of(&mut self, former: &Rc<Message>) {
        for delivery in &mut self.deliveries {
            if delivery.replay_of.is_some() && Rc::ptr_eq(&delivery.message, former) {
                delivery.must = false;
            }
        }
    }
}

impl Connection {
    fn owe(&mut self, answer: Answer) {
        self.answers[answer.kind()].push_back(answer);
    }
}

fn replay(message: &Rc<Message>, filter: &str, subscription: Subscription, must: bool) -> Delivery {
    Delivery {
        message: Rc::clone(message),
        qos: message.qos.min(subscription.options.qos() as u8),
        retain: true,
        identifiers: [subscription.identifier]
            .into_iter()
            .filter(|&it| it != 0)
            .collect(),
        state: State::Waits { maybe_sent: false },
        must,
        replay_of: Some(filter.to_owned()),
        first_sent: 0,
    }
}

fn text(payload: &[u8]) -> String {
    String::from_utf8_lossy(&payload[..payload.len().min(12)]).into_owned()
}

/// The group of a shared subscription, and its filter.
fn unshared(filter: &str) -> (Option<&str>, &str) {
    let rest = filter.strip_prefix("$share/");
    match rest.and_then(|rest| rest.split_once('/')) {
        Some((group, filter)) => (Some(group), filter),
        None => (None, filter),
    }
}

/// Whether `filter` matches `topic`, level by level (4.7).
fn matches(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) => true,
            ([], []) => true,
            ([first, filter @ ..], [level, topic @ ..]) => {
                (*first == "+" || first == level) && levels(filter, topic)
            }
            _ => false,
        }
    }
    let (filter, levels_of_topic): (Vec<&str>, Vec<&str>) =
        (filter.split('/').collect(), topic.split('/').collect());
    let is_hidden = topic.starts_with('$') && matches!(filter[0], "#" | "+");
    !is_hidden && levels(&filter, &levels_of_topic)
}
