//! The journal against a store of maps: whatever clients do, what the batches come to is what there is; and what comes back
//! after a crash is what the last batch had.

use super::*;
use crate::broker::tests::World;
use crate::broker::timers::Time;
use crate::broker::{Clocks, Ending};
use crate::buffer::ConnectionKey;
use crate::mqtt::{
    self, Connect, Packet, Properties, Property, PropertyBuffer, ProtocolVersion, Publish,
    Subscribe, SubscriptionOptions, Unsubscribe, Will,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::time::Duration;

/// A store of maps.
#[derive(Clone, Debug, Default)]
struct Disk {
    sessions: BTreeMap<u64, SessionRecord>,
    messages: BTreeMap<u64, MessageRecord>,
    deliveries: BTreeMap<u64, DeliveryRecord>,
    received: BTreeMap<u64, ReceivedRecord>,
    subscriptions: BTreeMap<(u64, String), SubscriptionRecord>,
}

impl Disk {
    fn apply(&mut self, batch: Batch) {
        let removed = batch.removed;
        self.sessions.retain(|id, _| !removed.sessions.contains(id));
        self.subscriptions
            .retain(|(session, _), _| !removed.sessions.contains(session));
        self.messages.retain(|id, _| !removed.messages.contains(id));
        self.deliveries
            .retain(|id, _| !removed.deliveries.contains(id));
        self.received.retain(|id, _| !removed.received.contains(id));
        self.subscriptions
            .retain(|key, _| !removed.subscriptions.contains(key));
        for message in batch.messages {
            assert!(
                self.messages.insert(message.id, message).is_none(),
                "a row is written once"
            );
        }
        for (id, source) in batch.retained {
            self.messages.get_mut(&id).expect("stored").retained = Some(source);
        }
        for id in batch.unretained {
            if let Some(message) = self.messages.get_mut(&id) {
                message.retained = None;
            }
        }
        for session in batch.sessions {
            self.sessions.insert(session.id, session);
        }
        for it in batch.subscriptions {
            assert!(
                self.sessions.contains_key(&it.session),
                "subscriptions have a session"
            );
            self.subscriptions
                .insert((it.session, it.filter.clone()), it);
        }
        for delivery in batch.deliveries {
            assert!(
                self.deliveries.insert(delivery.id, delivery).is_none(),
                "a row is written once"
            );
        }
        for (id, packet_id, is_handed_over) in batch.progress {
            let delivery = self.deliveries.get_mut(&id).expect("stored");
            delivery.packet_id = packet_id;
            if is_handed_over {
                delivery.message = None;
            }
        }
        for received in batch.received {
            assert!(
                self.received.insert(received.id, received).is_none(),
                "a row is written once"
            );
        }
    }

    /// What is in it, without what may be left of messages that nothing refers to, and without what says nothing of a
    /// session: the Packet Identifier it would use next. What was due in the past is due now.
    fn contents(&self, unix_millis: u64) -> Contents {
        let due = |time: Option<u64>| time.map(|time| time.max(unix_millis));
        let wills = self
            .sessions
            .values()
            .filter_map(|it| Some(it.will.as_ref()?.message));
        let used: BTreeSet<u64> = wills
            .chain(self.deliveries.values().filter_map(|it| it.message))
            .chain(self.received.values().map(|it| it.message))
            .collect();
        let messages = self.messages.values();
        let sessions = self.sessions.values().cloned();
        Contents {
            sessions: sessions
                .map(|it| {
                    (
                        it.id,
                        SessionRecord {
                            next_packet_id: 0,
                            ends: due(it.ends),
                            will_due: due(it.will_due),
                            ..it
                        },
                    )
                })
                .collect(),
            messages: messages
                .filter(|it| it.retained.is_some() || used.contains(&it.id))
                .map(|it| {
                    (
                        it.id,
                        MessageRecord {
                            expires: due(it.expires),
                            ..it.clone()
                        },
                    )
                })
                .collect(),
            // What PUBREC came for has nothing left of its message.
            deliveries: self
                .deliveries
                .values()
                .cloned()
                .map(|mut it| {
                    if it.message.is_none() {
                        (it.retain, it.identifiers) = (false, Vec::new());
                    }
                    (it.id, it)
                })
                .collect(),
            received: self.received.clone(),
            subscriptions: self.subscriptions.clone(),
        }
    }
}

#[derive(Debug, PartialEq)]
struct Contents {
    sessions: BTreeMap<u64, SessionRecord>,
    messages: BTreeMap<u64, MessageRecord>,
    deliveries: BTreeMap<u64, DeliveryRecord>,
    received: BTreeMap<u64, ReceivedRecord>,
    subscriptions: BTreeMap<(u64, String), SubscriptionRecord>,
}

const UNIX_MILLIS_AT_ZERO: u64 = 1_700_000_000_000;

/// A world whose broker journals to a disk.
struct Durable {
    world: World,
    disk: Disk,
    /// The connection of each client.
    clients: [Option<ConnectionKey>; 4],
    /// How many batches are taken and not committed.
    uncommitted: usize,
    /// When the first broker began, as the clock of this one has it: that far back.
    past: Duration,
}

impl Durable {
    fn new() -> Durable {
        let mut durable = Durable {
            world: World::new("max_inflight_messages 3\nmax_queued_messages 5\n"),
            disk: Disk::default(),
            clients: [None; 4],
            uncommitted: 0,
            past: Duration::ZERO,
        };
        let clocks = durable.clocks();
        durable.world.broker.begin_restoring(0, clocks).finish();
        durable
    }

    fn clocks(&self) -> Clocks {
        let now = self.world.now;
        let since = self.past + now.saturating_sub(Time::ZERO);
        Clocks {
            now,
            unix_millis: UNIX_MILLIS_AT_ZERO + since.as_millis() as u64,
        }
    }

    /// Takes a batch, if there is one, and compares.
    fn take(&mut self) {
        let clocks = self.clocks();
        if let Some(batch) = self.world.broker.take_batch(clocks) {
            self.disk.apply(batch);
            self.uncommitted += 1;
        }
        let mut there = Disk::default();
        there.apply(self.world.broker.records(clocks));
        let unix_millis = clocks.unix_millis;
        assert_eq!(there.contents(unix_millis), self.disk.contents(unix_millis));
    }

    fn commit(&mut self) {
        for _ in 0..std::mem::take(&mut self.uncommitted) {
            self.world.broker.committed(self.world.now);
            self.world.broker.check_invariants();
        }
    }

    /// Another broker goes on with what is on disk.
    fn crash(&mut self) {
        self.past += self.world.now.saturating_sub(Time::ZERO);
        let former = std::mem::replace(self, Durable::new());
        (self.disk, self.past) = (former.disk, former.past);
        let clocks = self.clocks();
        let last_id = [
            self.disk.sessions.keys().last(),
            self.disk.messages.keys().last(),
            self.disk.deliveries.keys().last(),
            self.disk.received.keys().last(),
        ];
        let last_id = last_id.into_iter().flatten().max().copied().unwrap_or(0);
        self.world = World::new("max_inflight_messages 3\nmax_queued_messages 5\n");
        let mut restoring = self.world.broker.begin_restoring(last_id, clocks);
        let disk = self.disk.clone();
        disk.messages
            .into_values()
            .for_each(|it| restoring.message(it));
        disk.sessions
            .into_values()
            .for_each(|it| restoring.session(it));
        disk.subscriptions
            .values()
            .for_each(|it| restoring.subscription(it));
        disk.deliveries
            .values()
            .for_each(|it| restoring.delivery(it));
        disk.received.values().for_each(|it| restoring.received(it));
        let counts = restoring.finish();
        assert_eq!(counts.misfits, 0);
        self.world.broker.check_invariants();
        let ended = self
            .disk
            .sessions
            .values()
            .filter(|it| it.expiry_seconds == 0)
            .count();
        assert_eq!(counts.sessions as usize, self.disk.sessions.len() - ended);
        self.take();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Connect {
        client: usize,
        clean: bool,
        v5: bool,
        expiry: u32,
        will: Option<u32>,
    },
    Subscribe {
        client: usize,
        filter: usize,
        qos: u8,
        identifier: u32,
    },
    Unsubscribe {
        client: usize,
        filter: usize,
    },
    Publish {
        client: usize,
        topic: usize,
        qos: u8,
        retain: bool,
        bytes: usize,
        expiry: u32,
        id: u16,
    },
    Pubrel {
        client: usize,
        id: u16,
    },
    Ack {
        client: usize,
        kind: u8,
        id: u16,
    },
    Disconnect {
        client: usize,
        expiry: Option<u32>,
    },
    Close {
        client: usize,
    },
    Pass {
        seconds: u64,
    },
    Take,
    Commit,
    Crash,
}

const FILTERS: [&str; 5] = ["a", "+", "a/#", "$share/g/a", "b"];
const TOPICS: [&str; 3] = ["a", "b", "a/b"];

fn step() -> impl Strategy<Value = Step> {
    let client = 0..4usize;
    prop_oneof![
        4 => (client.clone(), any::<bool>(), any::<bool>(), 0..4u32, prop::option::of(0..4u32)).prop_map(
            |(client, clean, v5, expiry, will)| Step::Connect { client, clean, v5, expiry: expiry * 10, will: will.map(|it| it * 5) }
        ),
        3 => (client.clone(), 0..FILTERS.len(), 0..3u8, 0..3u32).prop_map(
            |(client, filter, qos, identifier)| Step::Subscribe { client, filter, qos, identifier }
        ),
        1 => (client.clone(), 0..FILTERS.len()).prop_map(|(client, filter)| Step::Unsubscribe { client, filter }),
        8 => (client.clone(), 0..TOPICS.len(), 0..3u8, any::<bool>(), 0..3usize, 0..3u32, 1..4u16).prop_map(
            |(client, topic, qos, retain, bytes, expiry, id)| {
                Step::Publish { client, topic, qos, retain, bytes, expiry: expiry * 20, id }
            }
        ),
        3 => (client.clone(), 1..4u16).prop_map(|(client, id)| Step::Pubrel { client, id }),
        6 => (client.clone(), 0..3u8, 1..6u16).prop_map(|(client, kind, id)| Step::Ack { client, kind, id }),
        1 => (client.clone(), prop::option::of(0..2u32)).prop_map(|(client, expiry)| Step::Disconnect { client, expiry: expiry.map(|it| it * 15) }),
        1 => client.prop_map(|client| Step::Close { client }),
        1 => (0..15u64).prop_map(|seconds| Step::Pass { seconds }),
        4 => Just(Step::Take),
        3 => Just(Step::Commit),
        1 => Just(Step::Crash),
    ]
}

fn id_of(number: u16) -> PacketId {
    PacketId(NonZeroU16::new(number).expect("ids begin with 1"))
}

impl Durable {
    fn handle(&mut self, client: usize, encode: impl FnOnce(ProtocolVersion, &mut Vec<u8>)) {
        let Some(connection) = self.clients[client] else {
            return;
        };
        let Some(limits) = self.world.broker.limits(connection) else {
            self.clients[client] = None; // it was thrown out
            return;
        };
        let mut bytes = Vec::new();
        encode(limits.version.unwrap_or(ProtocolVersion::V5), &mut bytes);
        let (packet, _) = mqtt::decode(&bytes, limits).expect("valid").expect("whole");
        self.world.handle(connection, packet);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Connect {
                client,
                clean,
                v5,
                expiry,
                will,
            } => {
                let connection = self.world.attach();
                let mut properties = PropertyBuffer::new();
                properties.push(Property::SessionExpiryInterval(expiry));
                let mut of_will = PropertyBuffer::new();
                of_will.push(Property::WillDelayInterval(will.unwrap_or(0)));
                let connect = Connect {
                    version: if v5 {
                        ProtocolVersion::V5
                    } else {
                        ProtocolVersion::V311
                    },
                    is_bridge: false,
                    clean_start: clean,
                    keep_alive: 0,
                    properties: if v5 {
                        properties.as_properties()
                    } else {
                        Properties::NONE
                    },
                    client_id: ["c0", "c1", "c2", "c3"][client],
                    will: will.map(|_| Will {
                        qos: QoS::AtLeastOnce,
                        retain: true,
                        topic: "a",
                        payload: b"will",
                        properties: if v5 {
                            of_will.as_properties()
                        } else {
                            Properties::NONE
                        },
                    }),
                    user_name: None,
                    password: None,
                };
                self.world.handle(connection, Packet::Connect(connect));
                self.clients[client] = Some(connection);
            }
            Step::Subscribe {
                client,
                filter,
                qos,
                identifier,
            } => self.handle(client, |version, out| {
                let mut properties = PropertyBuffer::new();
                if identifier > 0 && version.is_v5() {
                    let identifier = mqtt::property::VariableByteInteger(identifier);
                    properties.push(Property::SubscriptionIdentifier(identifier));
                }
                let qos = QoS::from_bits(qos).expect("0 to 2");
                let filters = [(FILTERS[filter], SubscriptionOptions::new(qos))];
                Subscribe::encode(
                    PacketId::FIRST,
                    properties.as_properties(),
                    &filters,
                    version,
                    out,
                );
            }),
            Step::Unsubscribe { client, filter } => self.handle(client, |version, out| {
                Unsubscribe::encode(
                    PacketId::FIRST,
                    Properties::NONE,
                    &[FILTERS[filter]],
                    version,
                    out,
                );
            }),
            Step::Publish {
                client,
                topic,
                qos,
                retain,
                bytes,
                expiry,
                id,
            } => {
                let Some(connection) = self.clients[client] else {
                    return;
                };
                let Some(limits) = self.world.broker.limits(connection) else {
                    return;
                };
                let mut properties = PropertyBuffer::new();
                if expiry > 0 && limits.version == Some(ProtocolVersion::V5) {
                    properties.push(Property::MessageExpiryInterval(expiry));
                }
                let qos = QoS::from_bits(qos).expect("0 to 2");
                let publish = Publish {
                    dup: false,
                    qos,
                    retain,
                    topic: TOPICS[topic],
                    packet_id: (qos != QoS::AtMostOnce).then(|| id_of(id)),
                    properties: properties.as_properties(),
                    payload: &b"xy"[..bytes],
                };
                self.world.handle(connection, Packet::Publish(publish));
            }
            Step::Pubrel { client, id } => self.handle(client, |version, out| {
                let ack = mqtt::Ack::new(id_of(id), mqtt::ReasonCode::Success);
                ack.encode(mqtt::PacketType::Pubrel, version, out);
            }),
            Step::Ack { client, kind, id } => self.handle(client, |version, out| {
                use mqtt::PacketType::{Puback, Pubcomp, Pubrec};
                let kind = [Puback, Pubrec, Pubcomp][usize::from(kind)];
                mqtt::Ack::new(id_of(id), mqtt::ReasonCode::Success).encode(kind, version, out);
            }),
            Step::Disconnect { client, expiry } => {
                self.handle(client, |version, out| {
                    let mut properties = PropertyBuffer::new();
                    if let (Some(expiry), true) = (expiry, version.is_v5()) {
                        properties.push(Property::SessionExpiryInterval(expiry));
                    }
                    let disconnect = mqtt::Disconnect {
                        reason_code: mqtt::ReasonCode::Success,
                        properties: properties.as_properties(),
                    };
                    disconnect.encode(version, out);
                });
                self.clients[client] = None;
            }
            Step::Close { client } => {
                if let Some(connection) = self.clients[client].take() {
                    self.world
                        .broker
                        .detach(connection, Ending::ClosedByClient, self.world.now);
                }
            }
            Step::Pass { seconds } => self.world.pass(Duration::from_secs(seconds)),
            Step::Take => self.take(),
            Step::Commit => self.commit(),
            Step::Crash => self.crash(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_stored_is_what_there_is(steps in prop::collection::vec(step(), 1..80)) {
        let mut durable = Durable::new();
        for step in steps {
            durable.step(step);
            durable.world.broker.check_invariants();
        }
        durable.take();
        durable.crash();
    }
}

impl Durable {
    fn connect(&mut self, client: usize, clean: bool, expiry: u32) {
        self.step(Step::Connect {
            client,
            clean,
            v5: true,
            expiry,
            will: None,
        });
    }

    fn publish_retained(&mut self, client: usize, bytes: usize) {
        self.step(Step::Publish {
            client,
            topic: 0,
            qos: 1,
            retain: true,
            bytes,
            expiry: 0,
            id: 1,
        });
    }

    fn sent(&mut self, client: usize) -> Vec<u8> {
        let connection = self.clients[client].expect("it connected");
        self.world.sent(connection)
    }

    fn save(&mut self) {
        self.take();
        self.commit();
    }
}

#[test]
fn clearing_what_somebody_else_has_cleared_is_confirmed_when_that_is_stored() {
    let mut durable = Durable::new();
    for client in [0, 1] {
        durable.connect(client, true, 0);
        durable.sent(client);
    }
    durable.publish_retained(0, 2);
    durable.save();
    assert_eq!(durable.sent(0)[0], 0x40, "PUBACK");
    durable.publish_retained(0, 0);
    durable.publish_retained(1, 0);
    assert_eq!(durable.sent(0), [0u8; 0]);
    assert_eq!(
        durable.sent(1),
        [0u8; 0],
        "it would be there again after a crash"
    );
    durable.take();
    assert_eq!(durable.sent(1), [0u8; 0]);
    durable.commit();
    assert_eq!(durable.sent(0)[0], 0x40, "PUBACK");
    assert_eq!(durable.sent(1)[0], 0x40, "PUBACK");
    // Nothing to wait for.
    durable.publish_retained(1, 0);
    assert_eq!(durable.sent(1)[0], 0x40, "PUBACK");
}

#[test]
fn that_there_is_no_session_is_said_when_its_end_is_stored() {
    let mut durable = Durable::new();
    durable.connect(0, true, 100);
    durable.save();
    durable.step(Step::Disconnect {
        client: 0,
        expiry: Some(0),
    });
    durable.connect(0, false, 0);
    assert_eq!(
        durable.sent(0),
        [0u8; 0],
        "it would be there again after a crash"
    );
    durable.take();
    assert_eq!(durable.sent(0), [0u8; 0]);
    // Others, who change nothing, do not wait for what comes after it.
    durable.commit();
    assert_eq!(durable.sent(0)[0], 0x20, "CONNACK");
    durable.connect(1, true, 100);
    durable.connect(2, false, 0);
    assert_eq!(durable.sent(1), [0u8; 0]);
    assert_eq!(
        durable.sent(2)[0],
        0x20,
        "CONNACK of one that nothing is stored of"
    );
}
