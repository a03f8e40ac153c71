//! The replay of retained messages that a new subscription asks for (3.3.1.3, 3.8.3.1).
//!
//! 1. Messages are fed into the outbox as the client reads, so that 100,000 of them cost a list of references, not their
//!    bytes; a subscription waits in it at most once.
//! 2. A replay belongs to the session: it goes on after a reconnect, and ends with its subscription [MQTT-3.10.4-2].
//! 3. What was replaced or cleared while it waited is not replayed: the client got the newer message as it came.
//! 4. A new message does not overtake an older one of its topic that waits in a replay [MQTT-4.6.0-5].
//! 5. Looking up what a filter matches has a budget for all clients of a turn together, since one SUBSCRIBE may ask for
//!    thousands of look-ups that each walk all retained messages. Who finds it used up goes on next turn. A look-up that is
//!    too large for a turn is made in pieces, each place of the arena for itself; a subscription is in line until its last.

use super::Broker;
use super::client::{Client, ClientKey};
use super::deliver::{Output, effective_qos, enqueue, identifiers_of, queue_accepts};
use super::inflight::Delivery;
use super::message::Message;
use super::pump::{accepts_now, send_delivery};
use super::retain::RetainedMessage;
use super::retained::{Place, Retained};
use super::subscriptions::{Subscription, SubscriptionKey, Subscriptions};
use super::timers::Time;
use crate::config::Config;
use crate::mqtt::{QoS, topic};
use hashbrown::{HashMap, HashSet};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// How many bytes of replayed messages an outbox may hold at a time.
const OUTBOX_BYTES: usize = 64 * 1024;

/// How many nodes of the retained messages the look-ups of a turn may look at, before the last look-up is begun: about
/// a millisecond.
pub(super) const NODES_PER_TURN: usize = 20_000;

/// How large look-ups may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct LookUps {
    /// How many nodes of the retained messages are looked at for a filter at once.
    pub(super) nodes_max: usize,
    /// How many places a piece has.
    pub(super) piece: usize,
}

impl LookUps {
    /// Up to half a millisecond and more in pieces of a millisecond, about.
    pub(super) const USUAL: LookUps = LookUps {
        nodes_max: NODES_PER_TURN,
        piece: 8_000,
    };
}

/// Retained messages on their way to a client.
#[derive(Debug, Default)]
pub struct Replay {
    /// Subscriptions whose retained messages were not looked up yet, in the order of subscribing.
    requests: VecDeque<SubscriptionKey>,
    /// Those of them that still want it.
    requested: BTreeMap<SubscriptionKey, Request>,
    /// What the last look-up found and was not sent yet, the next one last.
    found: Vec<Rc<Message>>,
    /// What that look-up was for.
    subscription: Option<(SubscriptionKey, Subscription)>,
    /// The state of the retained messages when it was made.
    changes: u64,
    /// The messages in `found`, once one was about to be overtaken: one that is missing here was sent before its turn.
    waiting: Option<HashSet<*const Message, foldhash::fast::RandomState>>,
    /// Whether it stands on the broker's list for the next turn.
    waits_for_turn: bool,
}

/// A subscription whose retained messages were not looked up yet.
#[derive(Debug)]
struct Request {
    filter: String,
    subscription: Subscription,
    /// Where its look-up goes on, if it is made in pieces.
    at: Option<Place>,
    /// What went before its turn.
    early: HashMap<*const Message, Rc<Message>, foldhash::fast::RandomState>,
}

/// With more requests than this in line, a new message is not held against each of them: it may overtake what they will
/// find. Who asks for so much at once should not make everybody else's messages slow.
const REQUESTS_CAUGHT_UP_MAX: usize = 256;

impl Replay {
    /// Asks for the retained messages of a subscription.
    pub fn request(&mut self, place: SubscriptionKey, filter: String, subscription: Subscription) {
        let request = Request {
            filter,
            subscription,
            at: None,
            early: HashMap::default(),
        };
        if self.requested.insert(place, request).is_none() {
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

    /// Sends `message`, which is retained, out of its turn, for each subscription for which it waits here or will be found.
    /// `send` tells whether it could; what could not keeps its turn.
    fn send_early(
        &mut self,
        message: &Rc<Message>,
        place: Place,
        mut send: impl FnMut(&Subscription) -> bool,
    ) {
        if let Some((_, subscription)) = &self.subscription {
            let found = &self.found;
            let waiting = self
                .waiting
                .get_or_insert_with(|| found.iter().map(Rc::as_ptr).collect());
            if waiting.contains(&Rc::as_ptr(message)) && send(subscription) {
                waiting.remove(&Rc::as_ptr(message));
            }
        }
        if self.requested.len() <= REQUESTS_CAUGHT_UP_MAX {
            for request in self.requested.values_mut() {
                // What was looked at is sent, or in `found`.
                let was_found = request.at.is_some_and(|next| place < next);
                if !was_found
                    && !request.early.contains_key(&Rc::as_ptr(message))
                    && topic::matches(&request.filter, message.topic())
                    && send(&request.subscription)
                {
                    request
                        .early
                        .insert(Rc::as_ptr(message), Rc::clone(message));
                }
            }
        }
    }

    /// The next message has had its turn.
    fn pop(&mut self) {
        if let (Some(message), Some(waiting)) = (self.found.pop(), &mut self.waiting) {
            waiting.remove(&Rc::as_ptr(&message));
        }
    }

    /// Whether `message`, the next one, was not sent before its turn.
    fn is_waiting(&self, message: &Rc<Message>) -> bool {
        self.waiting
            .as_ref()
            .is_none_or(|waiting| waiting.contains(&Rc::as_ptr(message)))
    }

    /// What is sent for a retained message.
    fn delivery(message: &Rc<Message>, subscription: &Subscription, config: &Config) -> Delivery {
        Delivery {
            message: Rc::clone(message),
            qos: effective_qos(message.qos(), subscription.options, config),
            retain: true, // [MQTT-3.3.1-8]
            identifiers: identifiers_of([subscription]),
        }
    }

    /// Looks up the retained messages of the next subscription in line; how many nodes that cost.
    fn look_up(
        &mut self,
        key: ClientKey,
        subscriptions: &Subscriptions,
        retained: &Retained<RetainedMessage>,
        look_ups: LookUps,
    ) -> usize {
        let Some(&place) = self.requests.front() else {
            return 0;
        };
        let request = self.requested.get_mut(&place);
        let known = request.zip(subscriptions.get(place, key.0));
        let Some((request, &subscription)) = known else {
            self.requests.pop_front();
            self.requested.remove(&place);
            return 0;
        };
        self.subscription = Some((place, subscription));
        self.waiting = None;
        let (found, early) = (&mut self.found, &request.early);
        let mut visit = |retained: &RetainedMessage| {
            if !early.contains_key(&Rc::as_ptr(&retained.message)) {
                found.push(Rc::clone(&retained.message));
            }
        };
        let filter = &request.filter;
        let (cost, next) = match request.at {
            None => match retained.for_each_match(filter, look_ups.nodes_max, &mut visit) {
                Some(cost) => (cost, None),
                None => (look_ups.nodes_max, Some(Place::FIRST)),
            },
            Some(at) => {
                let next = retained.for_each_match_from(filter, at, look_ups.piece, &mut visit);
                (look_ups.piece, next)
            }
        };
        if next == Some(Place::FIRST) {
            // What was found of it is found again.
            self.found.clear();
        }
        request.at = next;
        if next.is_none() {
            self.requests.pop_front();
            self.requested.remove(&place);
        }
        self.found.reverse();
        cost
    }
}

/// A message that is not retained is about to go to `client`, whose replay is not over: what is retained of its topic goes
/// first, if it waits there.
pub fn catch_up(
    client: &mut Client,
    topic: &str,
    retained: &Retained<RetainedMessage>,
    output: &mut Output,
    config: &Config,
    now: Time,
) {
    let Client { session, link } = client;
    let Some((place, retained)) = retained.get_with_place(topic) else {
        return;
    };
    if config.check_retain_source && !retained.source_may_write() {
        return;
    }
    let Some(mut replay) = session.replay.take() else {
        return;
    };
    let message = &retained.message;
    replay.send_early(message, place, |subscription| {
        let delivery = Replay::delivery(message, subscription, config);
        match link {
            Some(link) if accepts_now(session, link, &delivery, config) => {
                let batch = link.batch_of_publish(session, delivery.qos, false, output);
                send_delivery(session, link, delivery, None, batch, output, now);
                true
            }
            // Without a connection there is nothing to be overtaken at QoS 0.
            _ if delivery.qos > QoS::AtMostOnce && queue_accepts(session, &delivery, config) => {
                enqueue(session, delivery, output, config, now);
                true
            }
            _ => false,
        }
    });
    session.replay = Some(replay);
}

impl Broker {
    /// Feeds retained messages into the outbox of `key` until it holds enough, or the window is full, or all are there.
    pub(super) fn replay(&mut self, key: ClientKey, now: Time) {
        let Client { session, link } = &mut self.clients[key];
        // SUBACK comes first, also where it waits.
        let Some(link) = link.as_mut().filter(|link| link.held.answers == 0) else {
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
                let (subscriptions, retained) = (&self.subscriptions, &self.retained);
                let cost = replay.look_up(key, subscriptions, retained, self.look_ups);
                replay.changes = self.retained_changes;
                self.look_up_budget = self.look_up_budget.saturating_sub(cost);
                continue;
            };
            let checks_source = self.restricts && self.config.check_retain_source;
            let is_current = (replay.changes == self.retained_changes && !checks_source)
                || self.retained.get(message.topic()).is_some_and(|retained| {
                    Rc::ptr_eq(&retained.message, message)
                        && (!checks_source || retained.source_may_write())
                });
            let delivery = Replay::delivery(message, subscription, &self.config);
            if is_current && replay.is_waiting(message) {
                if !accepts_now(session, link, &delivery, &self.config) {
                    break;
                }
                let output = &mut self.output;
                let batch = link.batch_of_publish(session, delivery.qos, false, output);
                send_delivery(session, link, delivery, None, batch, output, now);
            }
            replay.pop();
        }
        session.replay = Some(replay);
    }

    /// Begins the look-ups of a new turn with those that found no more time in the last one.
    pub(super) fn resume_replays(&mut self, now: Time) {
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
