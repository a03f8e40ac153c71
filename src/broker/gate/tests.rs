//! The line against disks that take their time: what waits costs a bounded amount of memory, and goes on afterwards.

use crate::broker::Clocks;
use crate::broker::tests::{World, properties, v5};
use crate::buffer::ConnectionKey;
use crate::mqtt::{Ack, Connect, Packet, PacketId, Properties, Property, Publish, QoS, ReasonCode};
use std::num::NonZeroU16;

impl World {
    /// One whose broker journals.
    fn durable(lines: &str) -> World {
        let mut world = World::new(lines);
        let clocks = world.clocks();
        world.broker.begin_restoring(0, clocks).finish();
        world
    }

    fn clocks(&self) -> Clocks {
        Clocks {
            now: self.now,
            unix_millis: 1_700_000_000_000,
        }
    }

    /// Everything that changed gets to the disk.
    fn commit(&mut self) {
        while self.broker.take_batch(self.clocks()).is_some() {
            self.broker.committed(self.now);
            self.broker.check_invariants();
        }
    }

    /// A client whose session outlives its connection, with these properties besides.
    fn lasting(&mut self, client_id: &str, others: &[Property<'_>]) -> ConnectionKey {
        let mut list = vec![Property::SessionExpiryInterval(100)];
        list.extend_from_slice(others);
        let list = properties(&list);
        let connection = self.attach();
        let connect = Connect {
            properties: list.as_properties(),
            ..v5(client_id)
        };
        self.handle(connection, Packet::Connect(connect));
        self.commit();
        assert_eq!(self.sent(connection)[0], 0x20, "CONNACK comes first");
        connection
    }

    fn subscribe_durably(&mut self, connection: ConnectionKey, filter: &str, qos: QoS) {
        self.send_subscribe(connection, filter, qos);
        self.commit();
        assert_eq!(self.sent(connection)[0], 0x90, "SUBACK comes first");
    }

    fn publish_exactly_once(&mut self, connection: ConnectionKey, id: u16, payload: &[u8]) {
        let packet_id = PacketId(NonZeroU16::new(id).expect("not 0"));
        let publish = Publish {
            dup: false,
            qos: QoS::ExactlyOnce,
            retain: false,
            topic: "t",
            packet_id: Some(packet_id),
            properties: Properties::NONE,
            payload,
        };
        self.handle(connection, Packet::Publish(publish));
        let release = Ack::new(packet_id, ReasonCode::Success);
        self.handle(connection, Packet::Pubrel(release));
    }
}

/// What waited for a commit and is too large for its receiver gives its place in the window to the next.
#[test]
fn what_cannot_be_sent_after_its_commit_makes_room() {
    let mut world = World::durable("");
    let small = [
        Property::ReceiveMaximum(1),
        Property::MaximumPacketSize(100),
    ];
    let receiver = world.lasting("receiver", &small);
    world.subscribe_durably(receiver, "t", QoS::ExactlyOnce);
    let sender = world.lasting("sender", &[]);
    world.publish_exactly_once(sender, 1, &[b'x'; 200]);
    world.publish_exactly_once(sender, 2, b"small");
    world.commit();
    let sent = world.sent(receiver);
    assert!(sent.ends_with(b"small"), "{sent:?}");
}
