//! The sending half of QoS 1 and 2: which Packet Identifiers are in use, for what, and in which order they were sent
//! (4.3, 4.4, 4.6, 4.9).
//!
//! 1. A Packet Identifier names at most one unfinished exchange [MQTT-2.2.1-4].
//! 2. Sequence numbers grow in the order of first sending; that is the order of resending [MQTT-4.6.0-1].
//! 3. A message stays until its receiver owns it: PUBACK [MQTT-4.3.2-3], or PUBREC at QoS 2 [MQTT-4.3.3-3], after which
//!    only the identifier stays.

use super::journal::{OfDelivery, Row};
use super::message::Message;
use crate::mqtt::{PacketId, QoS};
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::rc::Rc;

/// The Subscription Identifiers that one delivery carries; nearly always none or one.
pub type SubscriptionIdentifiers = SmallVec<[u32; 2]>;

/// One message for one session: what is the same whether it waits or is in flight.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message.
    pub message: Rc<Message>,
    /// The QoS of this delivery.
    pub qos: QoS,
    /// RETAIN of this delivery.
    pub retain: bool,
    /// The Subscription Identifiers of the subscriptions it is for.
    pub identifiers: SubscriptionIdentifiers,
}

/// An exchange that is not finished.
#[derive(Debug)]
pub struct Exchange {
    sequence: u64,
    qos: QoS,
    payload_bytes: usize,
    /// Whether its PUBLISH waits for a commit and was never sent.
    is_held: bool,
    /// Whether its PUBLISH was sent on this connection and so takes a place in the client's window.
    takes_place: bool,
    /// Where it is stored.
    pub row: Option<Row<OfDelivery>>,
    /// What was sent, until PUBREC hands it over; `None` is the wait for PUBCOMP.
    pub delivery: Option<Delivery>,
}

impl Exchange {
    /// The QoS of the PUBLISH.
    pub fn qos(&self) -> QoS {
        self.qos
    }

    /// Whether its PUBLISH waits for a commit, or did when the connection ended, and was never sent.
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    /// Whether it takes a place in the window of this connection [MQTT-3.3.4-9].
    pub fn takes_place(&self) -> bool {
        self.takes_place
    }
}

/// The unfinished exchanges of one session; little more than a pointer until there is one.
#[derive(Debug)]
pub struct Inflight {
    exchanges: Option<Box<Exchanges>>,
    next: PacketId,
}

#[derive(Debug, Default)]
struct Exchanges {
    by_id: HashMap<PacketId, Exchange, foldhash::fast::RandomState>,
    sequence: u64,
    payload_bytes: usize,
    /// Those of an earlier connection that were not sent again yet, since they exceed the window; the next one last.
    unsent: Vec<PacketId>,
}

impl Default for Inflight {
    fn default() -> Inflight {
        Inflight {
            exchanges: None,
            next: PacketId::FIRST,
        }
    }
}

impl Inflight {
    /// How many exchanges are unfinished.
    pub fn len(&self) -> usize {
        self.exchanges.as_ref().map_or(0, |it| it.by_id.len())
    }

    /// Whether all are finished.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Payload bytes in flight, counted until the exchange is finished.
    pub fn payload_bytes(&self) -> usize {
        self.exchanges.as_ref().map_or(0, |it| it.payload_bytes)
    }

    /// How many exchanges there may be: one fewer than Packet Identifiers, so that a free one is always found.
    pub const MAX: usize = u16::MAX as usize - 1;

    /// Begins an exchange for `delivery` under a Packet Identifier that is not in use [MQTT-4.3.2-1], [MQTT-4.3.3-1].
    /// `store` tells where it is stored under that.
    ///
    /// # Panics
    /// When there are [`Inflight::MAX`] already: the caller looks first.
    pub fn begin(
        &mut self,
        delivery: Delivery,
        store: impl FnOnce(&Delivery, PacketId) -> Option<Row<OfDelivery>>,
    ) -> PacketId {
        assert!(self.len() < Inflight::MAX, "the caller keeps to the bound");
        let exchanges = self.exchanges.get_or_insert_default();
        while exchanges.by_id.contains_key(&self.next) {
            self.next = self.next.next();
        }
        let packet_id = self.next;
        self.next = packet_id.next();
        exchanges.sequence += 1;
        let payload_bytes = delivery.message.payload().len();
        exchanges.payload_bytes += payload_bytes;
        let exchange = Exchange {
            sequence: exchanges.sequence,
            qos: delivery.qos,
            payload_bytes,
            is_held: false,
            takes_place: true,
            row: store(&delivery, packet_id),
            delivery: Some(delivery),
        };
        exchanges.by_id.insert(packet_id, exchange);
        packet_id
    }

    /// Puts an exchange back that an earlier process began: behind the others, without a place in a window. `delivery` is
    /// `None` where PUBREC came. `false` means that the identifier is in use, or that there is no room.
    pub fn restore(
        &mut self,
        packet_id: PacketId,
        qos: QoS,
        delivery: Option<Delivery>,
        row: Option<Row<OfDelivery>>,
    ) -> bool {
        let exchanges = self.exchanges.get_or_insert_default();
        if exchanges.by_id.len() >= Inflight::MAX || exchanges.by_id.contains_key(&packet_id) {
            return false;
        }
        exchanges.sequence += 1;
        let payload_bytes = delivery
            .as_ref()
            .map_or(0, |delivery| delivery.message.payload().len());
        exchanges.payload_bytes += payload_bytes;
        let exchange = Exchange {
            sequence: exchanges.sequence,
            qos,
            payload_bytes,
            is_held: false,
            takes_place: false,
            row,
            delivery,
        };
        exchanges.by_id.insert(packet_id, exchange);
        true
    }

    /// The Packet Identifier to be used next.
    pub fn next(&self) -> PacketId {
        self.next
    }

    /// Goes on with this Packet Identifier.
    pub fn set_next(&mut self, next: PacketId) {
        self.next = next;
    }

    /// A new connection: none of the exchanges takes a place in its window yet.
    pub fn begin_connection(&mut self) {
        let Some(exchanges) = &mut self.exchanges else {
            return;
        };
        exchanges.unsent.clear();
        let all = exchanges.by_id.values_mut();
        all.for_each(|exchange| exchange.takes_place = false);
    }

    /// Whether exchanges of an earlier connection wait to be sent again.
    #[inline]
    pub fn has_unsent(&self) -> bool {
        self.exchanges
            .as_ref()
            .is_some_and(|it| !it.unsent.is_empty())
    }

    /// These are to be sent again, in this order, as the window allows.
    pub fn set_unsent(&mut self, mut packet_ids: Vec<PacketId>) {
        if let Some(exchanges) = &mut self.exchanges {
            packet_ids.reverse();
            exchanges.unsent = packet_ids;
        }
    }

    /// The next one to be sent again, which waits no longer.
    pub fn take_unsent(&mut self) -> Option<PacketId> {
        self.exchanges.as_mut()?.unsent.pop()
    }

    /// The PUBLISH under `packet_id` is sent on a new connection; whether again.
    pub fn take_place(&mut self, packet_id: PacketId) -> bool {
        let was_held = self.get_mut(packet_id).is_some_and(|exchange| {
            exchange.takes_place = true;
            exchange.is_held
        });
        if was_held {
            self.set_sent_last(packet_id);
        }
        !was_held
    }

    /// The PUBLISH under `packet_id`, an exchange that just began, waits for a commit.
    pub fn hold(&mut self, packet_id: PacketId) {
        if let Some(exchange) = self.get_mut(packet_id) {
            exchange.is_held = true;
        }
    }

    /// The PUBLISH under `packet_id` waits no longer and is sent, for the first time.
    pub fn set_sent_last(&mut self, packet_id: PacketId) {
        if let Some(exchanges) = &mut self.exchanges
            && let Some(exchange) = exchanges.by_id.get_mut(&packet_id)
        {
            exchanges.sequence += 1;
            (exchange.sequence, exchange.is_held) = (exchanges.sequence, false);
        }
    }

    /// Uses up an identifier for a message that will not be sent after all, as Mosquitto does.
    pub fn skip(&mut self) {
        self.next = self.next.next();
    }

    /// The unfinished exchanges, in any order.
    pub fn iter(&self) -> impl Iterator<Item = (PacketId, &Exchange)> {
        let all = self.exchanges.iter().flat_map(|it| &it.by_id);
        all.map(|(&packet_id, exchange)| (packet_id, exchange))
    }

    /// The unfinished exchange under `packet_id`.
    pub fn get_mut(&mut self, packet_id: PacketId) -> Option<&mut Exchange> {
        self.exchanges.as_mut()?.by_id.get_mut(&packet_id)
    }

    /// Finishes the exchange under `packet_id`.
    pub fn finish(&mut self, packet_id: PacketId) -> Option<Exchange> {
        let exchanges = self.exchanges.as_mut()?;
        let exchange = exchanges.by_id.remove(&packet_id)?;
        exchanges.payload_bytes -= exchange.payload_bytes;
        if !exchanges.unsent.is_empty() {
            exchanges.unsent.retain(|&unsent| unsent != packet_id);
        }
        Some(exchange)
    }

    /// The unfinished exchanges in the order of first sending [MQTT-4.6.0-1], and then those that were never sent.
    pub fn in_order(&self) -> Vec<PacketId> {
        let all = self.exchanges.iter().flat_map(|it| &it.by_id);
        let mut ordered: Vec<_> = all.collect();
        ordered.sort_unstable_by_key(|(_, exchange)| (exchange.is_held, exchange.sequence));
        ordered
            .into_iter()
            .map(|(&packet_id, _)| packet_id)
            .collect()
    }

    /// Gives memory back that a session without a connection does not need. Without an exchange there is no order to keep.
    pub fn shrink(&mut self) {
        match &mut self.exchanges {
            Some(exchanges) if !exchanges.by_id.is_empty() => exchanges.by_id.shrink_to_fit(),
            _ => self.exchanges = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::message::{Publication, Tally};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn delivery() -> Delivery {
        let tally = Rc::new(Tally::default());
        let mut publication = Publication::new("t", b"12345", QoS::AtLeastOnce, false);
        Delivery {
            message: Rc::clone(publication.stored(&tally)),
            qos: QoS::AtLeastOnce,
            retain: false,
            identifiers: SubscriptionIdentifiers::new(),
        }
    }

    #[test]
    fn mqtt_2_2_1_3_identifiers_in_use_are_passed_over_when_the_count_starts_again() {
        let delivery = delivery();
        let mut inflight = Inflight::default();
        let pinned = inflight.begin(delivery.clone(), |_, _| None);
        assert_eq!(pinned, PacketId::FIRST);
        for expected in 2..=u16::MAX {
            let packet_id = inflight.begin(delivery.clone(), |_, _| None);
            assert_eq!(packet_id.get(), expected);
            inflight.finish(packet_id);
        }
        assert_eq!(inflight.begin(delivery, |_, _| None).get(), 2);
        assert_eq!(inflight.payload_bytes(), 10);
    }

    proptest! {
        /// The naive model: a set of identifiers, and a list in the order of sending.
        #[test]
        fn identifiers_are_unique_and_order_is_kept(acks in prop::collection::vec(any::<(bool, u8)>(), 1..400)) {
            let delivery = delivery();
            let mut inflight = Inflight::default();
            let mut model: Vec<PacketId> = Vec::new();
            for (send, pick) in acks {
                if send || model.is_empty() {
                    let packet_id = inflight.begin(delivery.clone(), |_, _| None);
                    prop_assert!(!model.contains(&packet_id));
                    model.push(packet_id);
                } else {
                    let packet_id = model.remove(usize::from(pick) % model.len());
                    prop_assert!(inflight.finish(packet_id).is_some());
                    prop_assert!(inflight.finish(packet_id).is_none());
                }
                prop_assert_eq!(&inflight.in_order(), &model);
                let distinct: BTreeSet<_> = model.iter().collect();
                prop_assert_eq!(distinct.len(), inflight.len());
            }
        }
    }
}
