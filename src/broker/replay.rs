//! The replay of retained messages that a new subscription asks for (3.3.1.3, 3.8.3.1).
//!
//! 1. Messages are fed into the outbox as the client reads, so that 100,000 of them cost a list of references, not their
//!    bytes; a subscription waits in it at most once.
//! 2. A replay belongs to the session: it goes on after a reconnect, and ends with its subscription [MQTT-3.10.4-2].
//! 3. What was replaced or cleared while it waited is not replayed: the client got the newer message as it came.
//! 4. Looking up what a filter matches has a budget for all clients of a turn together, since one SUBSCRIBE may ask for
//!    thousands of look-ups that each walk all retained messages. Who finds it used up goes on next turn.

use super::Broker;
use super::client::{Client, ClientKey};
use super::deliver::{accepts_now, effective_qos, identifiers_of, send_delivery};
use super::inflight::Delivery;
use super::message::Message;
use super::retain::RetainedMessage;
use super::retained::Retained;
use super::subscriptions::{Subscription, SubscriptionKey, Subscriptions};
use super::timers::Time;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// How many bytes of replayed messages an outbox may hold at a time.
const OUTBOX_BYTES: usize = 64 * 1024;

/// How many nodes of the retained messages the look-ups of a turn may look at, before the last look-up is begun: about
/// a millisecond.
pub(super) const NODES_PER_TURN: usize = 20_000;

/// Retained messages on their way to a client.
#[derive(Debug, Default)]
pub struct Replay {
    /// Subscriptions whose retained messages were not looked up yet, in the order of subscribing.
    requests: VecDeque<SubscriptionKey>,
    /// Those of them that still want it.
    requested: BTreeSet<SubscriptionKey>,
    /// What the last look-up found and was not sent yet, the next one last.
    found: Vec<Rc<Message>>,
    /// What that look-up was for.
    subscription: Option<(SubscriptionKey, Subscription)>,
    /// The state of the retained messages when it was made.
    changes: u64,
    /// Whether it stands on the broker's list for the next turn.
    waits_for_turn: bool,
}

impl Replay {
    /// Asks for the retained messages of a subscription.
    pub fn request(&mut self, place: SubscriptionKey) {
        if self.requested.insert(place) {
            self.requests.push_back(place);
        }
    }

    /// The client has unsubscribed: nothing more is to be sent for this.
    pub fn forget(&mut self, place: SubscriptionKey) {
        self.requested.remove(&place);
        if self
            .subscription
            .as_ref()
            .is_some_and(|(current, _)| *current == place)
        {
            self.found.clear();
        }
    }

    /// The next message, and the subscription it is for.
    fn next(&self) -> Option<(&Rc<Message>, &Subscription)> {
        let (_, subscription) = self.subscription.as_ref()?;
        Some((self.found.last()?, subscription))
    }

    /// Looks up the retained messages of the next subscription in line; how many nodes that cost.
    fn look_up(
        &mut self,
        key: ClientKey,
        subscriptions: &Subscriptions,
        retained: &Retained<RetainedMessage>,
    ) -> usize {
        let Some(place) = self.requests.pop_front() else {
            return 0;
        };
        if !self.requested.remove(&place) {
            return 0;
        }
        let Some(&subscription) = subscriptions.get(place, key.0) else {
            return 0;
        };
        self.subscription = Some((place, subscription));
        let filter = subscriptions.filter_of(place);
        let cost = retained.for_each_match(&filter, |retained| {
            self.found.push(Rc::clone(&retained.message));
        });
        self.found.reverse();
        cost
    }
}

impl Broker {
    /// Feeds retained messages into the outbox of `key` until it holds enough, or the window is full, or all are there.
    pub(super) fn replay(&mut self, key: ClientKey, now: Time) {
        let Client { session, link } = &mut self.clients[key];
        let Some(link) = link else {
            return;
        };
        let Some(mut replay) = session.replay.take() else {
            return;
        };
        while link.outbox.len() < OUTBOX_BYTES {
            let Some((message, subscription)) = replay.next() else {
                if replay.requests.is_empty() {
                    return;
                }
                if self.look_up_budget == 0 {
                    if !std::mem::replace(&mut replay.waits_for_turn, true) {
                        self.replaying.push(key);
                    }
                    break;
                }
                let cost = replay.look_up(key, &self.subscriptions, &self.retained);
                replay.changes = self.retained_changes;
                self.look_up_budget = self.look_up_budget.saturating_sub(cost);
                continue;
            };
            let is_current = replay.changes == self.retained_changes
                || self
                    .retained
                    .get(message.topic())
                    .is_some_and(|retained| Rc::ptr_eq(&retained.message, message));
            let delivery = Delivery {
                message: Rc::clone(message),
                qos: effective_qos(message.qos(), subscription.options, &self.config),
                retain: true, // [MQTT-3.3.1-8]
                identifiers: identifiers_of([subscription]),
            };
            if is_current {
                if !accepts_now(session, link, &delivery, &self.config) {
                    break;
                }
                send_delivery(session, link, delivery, &mut self.output, now);
            }
            replay.found.pop();
        }
        session.replay = Some(replay);
    }

    /// Begins the look-ups of a new turn with those that found no more time in the last one. Once a turn.
    pub fn resume_replays(&mut self, now: Time) {
        self.look_up_budget = NODES_PER_TURN;
        for key in std::mem::take(&mut self.replaying) {
            // Whoever lives in the slot now: if it waits, it goes on.
            let Some(client) = self.clients.get_mut(key) else {
                continue;
            };
            let replay = client.session.replay.as_mut();
            if replay.is_some_and(|replay| std::mem::take(&mut replay.waits_for_turn)) {
                self.replay(key, now);
            }
        }
    }
}
