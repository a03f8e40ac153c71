//! Messages of one session that wait for a place in the window, or for the client to come back.
//!
//! 1. `payload_bytes` is the sum of the payloads that wait.
//! 2. Nothing that waits expires before `earliest_expiry`.
//! 3. A message that is stored has its row beside it, and both leave together.
//! 4. Of what a stored session released, `released_in` is the last batch that it waits for.
//! 5. A queue that never held anything is a pointer: most sessions never need one.

use super::inflight::Delivery;
use super::journal::{OfDelivery, Row};
use super::timers::Time;
use std::collections::VecDeque;

/// What waits, the oldest first.
#[derive(Debug, Default)]
pub struct Queue(Option<Box<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    deliveries: VecDeque<(Delivery, Option<Row<OfDelivery>>)>,
    payload_bytes: usize,
    earliest_expiry: Option<Time>,
    released_in: u64,
}

impl Queue {
    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.0
            .as_ref()
            .map_or(0, |waiting| waiting.deliveries.len())
    }

    /// Their bytes of payload.
    pub fn payload_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.payload_bytes)
    }

    /// When the first of them expires, or earlier.
    pub fn earliest_expiry(&self) -> Option<Time> {
        self.0.as_ref()?.earliest_expiry
    }

    /// What waits, and where it is stored, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &(Delivery, Option<Row<OfDelivery>>)> {
        self.0.iter().flat_map(|waiting| &waiting.deliveries)
    }

    /// The message that waits longest.
    pub fn front(&self) -> Option<&Delivery> {
        let (delivery, _) = self.0.as_ref()?.deliveries.front()?;
        Some(delivery)
    }

    /// Puts a message at the end, which is stored in `row`.
    pub fn push(&mut self, delivery: Delivery, row: Option<Row<OfDelivery>>) {
        let waiting = self.0.get_or_insert_default();
        waiting.payload_bytes += delivery.message.payload().len();
        let expiries = [waiting.earliest_expiry, delivery.message.expires()];
        waiting.earliest_expiry = expiries.into_iter().flatten().min();
        waiting.deliveries.push_back((delivery, row));
    }

    /// What was pushed last was released by a stored session, with this batch.
    pub fn set_released_in(&mut self, batch: u64) {
        if let Some(waiting) = &mut self.0 {
            waiting.released_in = batch;
        }
    }

    /// The batch until which nothing that a stored session released may leave; 0 if there was none.
    #[inline]
    pub fn released_in(&self) -> u64 {
        self.0.as_ref().map_or(0, |waiting| waiting.released_in)
    }

    /// Takes the message that waits longest.
    pub fn pop(&mut self) -> Option<(Delivery, Option<Row<OfDelivery>>)> {
        let waiting = self.0.as_mut()?;
        let (delivery, row) = waiting.deliveries.pop_front()?;
        waiting.payload_bytes -= delivery.message.payload().len();
        Some((delivery, row))
    }

    /// Drops what expired while it waited [MQTT-3.3.2-5].
    pub fn drop_expired(&mut self, now: Time) {
        let Some(waiting) = &mut self.0 else {
            return;
        };
        let (mut bytes, mut earliest) = (0, None);
        waiting.deliveries.retain(|(delivery, _)| {
            let message = &delivery.message;
            if message.is_expired(now) {
                return false;
            }
            bytes += message.payload().len();
            earliest = [earliest, message.expires()].into_iter().flatten().min();
            true
        });
        (waiting.payload_bytes, waiting.earliest_expiry) = (bytes, earliest);
    }

    /// Gives memory back that nothing in it needs.
    pub fn shrink(&mut self) {
        if let Some(waiting) = &mut self.0 {
            waiting.deliveries.shrink_to_fit();
        }
        if self.is_empty() {
            self.0 = None;
        }
    }

    /// Walks the invariants.
    /// # Panics
    /// If one does not hold.
    pub fn check_invariants(&self) {
        let deliveries = self.0.iter().flat_map(|waiting| &waiting.deliveries);
        let (mut bytes, earliest) = (0, self.earliest_expiry());
        for (delivery, _) in deliveries {
            bytes += delivery.message.payload().len();
            let expires = delivery.message.expires();
            assert!(expires.is_none_or(|expires| earliest.is_some_and(|it| it <= expires)));
        }
        assert_eq!(self.payload_bytes(), bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::inflight::SubscriptionIdentifiers;
    use crate::broker::message::{Publication, Tally};
    use crate::mqtt::QoS;
    use proptest::prelude::*;
    use std::rc::Rc;

    /// A message of that many bytes, which expires then.
    fn delivery(bytes: usize, expires: Option<u64>) -> Delivery {
        let payload = vec![b'x'; bytes];
        let mut publication = Publication::new("t", &payload, QoS::AtLeastOnce, false);
        publication.expires = expires.map(Time::from_millis);
        Delivery {
            message: Rc::clone(publication.stored(&Rc::new(Tally::default()))),
            qos: QoS::AtLeastOnce,
            retain: false,
            identifiers: SubscriptionIdentifiers::new(),
        }
    }

    #[test]
    fn an_empty_queue_is_a_pointer() {
        assert_eq!(size_of::<Queue>(), size_of::<usize>());
        let mut queue = Queue::default();
        queue.drop_expired(Time::ZERO);
        assert!(queue.is_empty() && queue.pop().is_none() && queue.0.is_none());
        queue.push(delivery(3, None), None);
        assert!(queue.pop().is_some());
        queue.shrink();
        assert!(queue.0.is_none(), "memory that nothing needs is given back");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize, Option<u64>),
        Pop,
        DropExpired(u64),
        Shrink,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..50usize, prop::option::of(0..100u64)).prop_map(|(n, at)| Step::Push(n, at)),
            2 => Just(Step::Pop),
            1 => (0..100u64).prop_map(Step::DropExpired),
            1 => Just(Step::Shrink),
        ]
    }

    proptest! {
        /// The naive model: a list of lengths and expiries.
        #[test]
        fn a_queue_is_a_list(steps in prop::collection::vec(step(), 0..100)) {
            let mut queue = Queue::default();
            let mut model: Vec<(usize, Option<u64>)> = Vec::new();
            for step in steps {
                match step {
                    Step::Push(bytes, expires) => {
                        queue.push(delivery(bytes, expires), None);
                        model.push((bytes, expires));
                    }
                    Step::Pop => {
                        let expected = (!model.is_empty()).then(|| model.remove(0).0);
                        let popped = queue.pop();
                        prop_assert_eq!(popped.map(|(it, _)| it.message.payload().len()), expected);
                    }
                    Step::DropExpired(now) => {
                        queue.drop_expired(Time::from_millis(now));
                        model.retain(|(_, expires)| expires.is_none_or(|at| at > now));
                    }
                    Step::Shrink => queue.shrink(),
                }
                let front = queue.front().map(|it| it.message.payload().len());
                prop_assert_eq!(front, model.first().map(|first| first.0));
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.payload_bytes(), model.iter().map(|it| it.0).sum::<usize>());
                queue.check_invariants();
            }
        }
    }
}
