//! Everything that must survive, as one batch: for a database that has to be made anew, and for tests, which compare what a
//! store was told with what there is.
//!
//! 1. What a snapshot has is what all batches so far come to, the one that it takes included.

use super::Broker;
use super::client::ClientKey;
use super::inflight::Delivery;
use super::journal::{Batch, DeliveryRecord, ReceivedRecord, Scribe, Source, SubscriptionRecord};
use super::message::Message;
use super::restore::{Clocks, Now};
use super::session::Session;
use hashbrown::HashSet;
use std::rc::Rc;

/// Records as they are gathered; each message once.
struct Gatherer<'a> {
    now: Now<'a>,
    batch: Batch,
    written: HashSet<u64, foldhash::fast::RandomState>,
}

impl Broker {
    /// Takes the changes since the last batch, and everything else with them.
    /// It is all that the batches before had, too: [`all_committed`](Broker::all_committed) is to be told when it is on disk.
    pub fn take_snapshot(&mut self, clocks: Clocks) -> Batch {
        // By this, everything has its row.
        self.take_batch(clocks);
        self.records(clocks)
    }

    /// Everything that has its row.
    pub(super) fn records(&self, clocks: Clocks) -> Batch {
        let broker = self;
        let mut gatherer = Gatherer {
            now: Now { broker, clocks },
            batch: Batch {
                clock_ahead: Some(self.clock_ahead()).filter(|&ahead| ahead != 0),
                ..Batch::default()
            },
            written: HashSet::default(),
        };
        for retained in self.retained.iter() {
            gatherer.retained(&retained.message, retained.source.as_deref());
        }
        for (key, client) in self.clients.iter() {
            gatherer.session(key, &client.session);
        }
        gatherer.batch.deliveries.sort_unstable_by_key(|it| it.id);
        gatherer.batch
    }
}

impl Gatherer<'_> {
    fn message(&mut self, message: &Rc<Message>, retained: Option<Source>) -> Option<u64> {
        let row = message.row()?;
        if self.written.insert(row) {
            let expires = message.expires().map(|time| self.now.unix_millis(time));
            self.batch
                .messages
                .push(message.record(row, expires, retained));
        }
        Some(row)
    }

    fn retained(&mut self, message: &Rc<Message>, source: Option<&super::principal::Principal>) {
        if message.row().is_some() && !message.topic().starts_with("$SYS") {
            let source = self.now.source(source);
            self.message(message, Some(source));
        }
    }

    fn session(&mut self, key: ClientKey, session: &Session) {
        let Some(of_session) = session.row.as_ref().map(|row| row.id()) else {
            return;
        };
        if let Some(will) = &session.will {
            self.message(&will.message, None);
        }
        let mut row_of = |message: &Rc<Message>| message.row().expect("a batch was taken");
        self.batch
            .sessions
            .extend(self.now.session(key, &mut row_of));
        for &place in &session.subscriptions {
            let subscriptions = &self.now.broker.subscriptions;
            let Some(subscription) = subscriptions.get(place, key.0) else {
                continue;
            };
            self.batch.subscriptions.push(SubscriptionRecord {
                session: of_session,
                filter: subscriptions.filter_of(place),
                options: subscription.options.byte(),
                identifier: subscription.identifier,
            });
        }
        for (packet_id, exchange) in session.inflight.iter() {
            let Some(row) = &exchange.row else {
                continue;
            };
            match &exchange.delivery {
                Some(delivery) => self.delivery(row.id(), of_session, packet_id.get(), delivery),
                None => self.batch.deliveries.push(DeliveryRecord {
                    id: row.id(),
                    session: of_session,
                    message: None,
                    packet_id: packet_id.get(),
                    qos: exchange.qos(),
                    retain: false,
                    identifiers: Vec::new(),
                }),
            }
        }
        for (delivery, row) in session.queue.iter() {
            if let Some(row) = row {
                self.delivery(row.id(), of_session, 0, delivery);
            }
        }
        for (packet_id, received) in session.received.iter() {
            if let Some(row) = &received.row
                && let Some(message) = self.message(&received.message, None)
            {
                self.batch.received.push(ReceivedRecord {
                    id: row.id(),
                    session: of_session,
                    packet_id: packet_id.get(),
                    message,
                });
            }
        }
    }

    fn delivery(&mut self, id: u64, session: u64, packet_id: u16, delivery: &Delivery) {
        let message = self.message(&delivery.message, None);
        self.batch.deliveries.push(DeliveryRecord {
            id,
            session,
            message,
            packet_id,
            qos: delivery.qos,
            retain: delivery.retain,
            identifiers: delivery.identifiers.to_vec(),
        });
    }
}
