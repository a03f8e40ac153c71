//! SUBSCRIBE, UNSUBSCRIBE, and the replay of retained messages that a new subscription asks for.
//!
//! 1. The SUBACK stands in the outbox before the retained messages it leads to.
//! 2. A replay is fed into the outbox as the client reads, so that 100,000 retained messages cost a list of references,
//!    not their bytes; a subscription waits in it at most once.
//! 3. A replay belongs to the session: it goes on after a reconnect.
//! 4. What was replaced or cleared while it waited is not replayed: the client got the newer message as it came.

use super::client::{Client, ClientKey};
use super::deliver::{accepts_now, send_delivery};
use super::inflight::{Delivery, SubscriptionIdentifiers};
use super::message::Message;
use super::retain::RetainedMessage;
use super::retained::Retained;
use super::subscriptions::{Subscription, SubscriptionKey, Subscriptions};
use super::timers::Time;
use super::{Broker, Fault};
use crate::config::log_target::{SUBSCRIBE, UNSUBSCRIBE};
use crate::mqtt::property::VariableByteInteger;
use crate::mqtt::{
    Properties, Property, QoS, ReasonCode, RetainHandling, Suback, Subscribe, SubscriptionOptions,
    Unsuback, Unsubscribe, topic,
};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// How many bytes of replayed messages an outbox may hold at a time.
const REPLAY_OUTBOX_BYTES: usize = 64 * 1024;

/// Retained messages on their way to a client.
#[derive(Debug, Default)]
pub struct Replay {
    /// Subscriptions whose retained messages were not looked up yet, in the order of subscribing.
    requests: VecDeque<SubscriptionKey>,
    requested: BTreeSet<SubscriptionKey>,
    /// What the last look-up found and was not sent yet, the next one last.
    found: Vec<Rc<Message>>,
    subscription: Option<(SubscriptionKey, Subscription)>,
    /// The state of the retained messages when `found` was looked up.
    changes: u64,
}

impl Broker {
    /// SUBSCRIBE (3.8): as a whole malformed, or each filter with an answer of its own [MQTT-3.8.4-6].
    pub(super) fn subscribe(
        &mut self,
        key: ClientKey,
        subscribe: Subscribe<'_>,
        now: Time,
    ) -> Result<(), Fault> {
        log::debug!(
            "Received SUBSCRIBE from {}",
            self.clients[key].session.client_id
        );
        let identifier = subscribe
            .properties
            .iter()
            .find_map(|property| match property {
                Property::SubscriptionIdentifier(VariableByteInteger(identifier)) => {
                    Some(identifier)
                }
                _ => None,
            });
        // A fault in the last filter must not leave the first ones subscribed.
        for (filter, options) in subscribe.filters() {
            let shared = topic::shared(filter)?;
            if shared.group.is_some() && options.no_local() {
                // [MQTT-3.8.3-4]
                return Err(Fault::protocol("no local on a shared subscription"));
            }
        }
        let mut codes = std::mem::take(&mut self.scratch);
        codes.clear();
        for (filter, options) in subscribe.filters() {
            let options = self.granted(key, options);
            self.subscribe_one(key, filter, options, identifier.unwrap_or(0))?;
            codes.push(options.qos() as u8);
        }
        log::debug!("Sending SUBACK to {}", self.clients[key].session.client_id);
        self.answer(key, |version, out| {
            let packet_id = subscribe.packet_id;
            Suback {
                packet_id,
                properties: Properties::NONE,
                codes: &codes,
            }
            .encode(version, out);
        });
        self.scratch = codes;
        self.replay(key, now);
        Ok(())
    }

    /// The options in force: a listener's `max_qos` bounds what is granted [MQTT-3.8.4-7].
    fn granted(&self, key: ClientKey, options: SubscriptionOptions) -> SubscriptionOptions {
        let max_qos = QoS::from_bits(self.listener_of(key).max_qos).unwrap_or(QoS::ExactlyOnce);
        options.with_qos(options.qos().min(max_qos))
    }

    fn subscribe_one(
        &mut self,
        key: ClientKey,
        filter: &str,
        options: SubscriptionOptions,
        identifier: u32,
    ) -> Result<(), Fault> {
        let shared = topic::shared(filter)?;
        let subscription = Subscription {
            client: key.0,
            identifier,
            options,
        };
        let (place, is_new) =
            self.subscriptions
                .subscribe(shared.filter, shared.group, subscription);
        let session = &mut self.clients[key].session;
        session.subscriptions.insert(place);
        let (name, qos) = (&session.client_id, options.qos() as u8);
        log::debug!("\t{filter} (QoS {qos})");
        log::info!(target: SUBSCRIBE, "{name} {qos} {filter}");
        let wants_retained = match options.retain_handling() {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        // A shared subscription gets no retained messages at its beginning (4.8.2).
        if wants_retained && shared.group.is_none() && !self.retained.is_empty() {
            let replay = session.replay.get_or_insert_default();
            if replay.requested.insert(place) {
                replay.requests.push_back(place);
            }
        }
        Ok(())
    }

    /// UNSUBSCRIBE (3.10).
    pub(super) fn unsubscribe(
        &mut self,
        key: ClientKey,
        unsubscribe: Unsubscribe<'_>,
    ) -> Result<(), Fault> {
        log::debug!(
            "Received UNSUBSCRIBE from {}",
            self.clients[key].session.client_id
        );
        for filter in unsubscribe.filters() {
            topic::shared(filter)?;
        }
        let mut codes = std::mem::take(&mut self.scratch);
        codes.clear();
        for filter in unsubscribe.filters() {
            let code = match self.unsubscribe_one(key, filter)? {
                true => ReasonCode::Success,
                false => ReasonCode::NoSubscriptionExisted,
            };
            codes.push(code as u8);
        }
        log::debug!(
            "Sending UNSUBACK to {}",
            self.clients[key].session.client_id
        );
        self.answer(key, |version, out| {
            let codes = if version.is_v5() { &codes[..] } else { &[] };
            let packet_id = unsubscribe.packet_id;
            Unsuback {
                packet_id,
                properties: Properties::NONE,
                codes,
            }
            .encode(version, out);
        });
        self.scratch = codes;
        Ok(())
    }

    fn unsubscribe_one(&mut self, key: ClientKey, filter: &str) -> Result<bool, Fault> {
        let shared = topic::shared(filter)?;
        let session = &mut self.clients[key].session;
        let name = &session.client_id;
        log::debug!("\t{filter}");
        log::info!(target: UNSUBSCRIBE, "{name} {filter}");
        let Some(place) = self.subscriptions.find(shared.filter, shared.group) else {
            return Ok(false);
        };
        if !session.subscriptions.remove(&place) {
            return Ok(false);
        }
        if let Some(replay) = &mut session.replay {
            replay.forget(place);
        }
        self.subscriptions.remove(place, key.0);
        Ok(true)
    }

    /// Feeds retained messages into the outbox of `key` until it holds enough, or the window is full, or all are there.
    pub(super) fn replay(&mut self, key: ClientKey, now: Time) {
        let Client { session, link } = &mut self.clients[key];
        let (Some(link), Some(mut replay)) = (link, session.replay.take()) else {
            return;
        };
        while link.outbox.len() < REPLAY_OUTBOX_BYTES {
            let Some((message, subscription)) = replay.next() else {
                match replay.look_up(
                    key,
                    &self.subscriptions,
                    &self.retained,
                    self.retained_changes,
                ) {
                    true => continue,
                    false => return,
                }
            };
            let is_current = replay.changes == self.retained_changes
                || self
                    .retained
                    .get(message.topic())
                    .is_some_and(|retained| Rc::ptr_eq(&retained.message, message));
            let delivery = Delivery {
                message: Rc::clone(message),
                qos: match self.config.upgrade_outgoing_qos {
                    true => subscription.options.qos(),
                    false => message.qos().min(subscription.options.qos()),
                },
                retain: true, // [MQTT-3.3.1-8]
                identifiers: identifier_of(subscription),
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
}

impl Replay {
    /// The next message, and the subscription it is for.
    fn next(&self) -> Option<(&Rc<Message>, &Subscription)> {
        let (_, subscription) = self.subscription.as_ref()?;
        Some((self.found.last()?, subscription))
    }

    /// Looks up the retained messages of the next subscription in line. `false` means that there is none.
    fn look_up(
        &mut self,
        key: ClientKey,
        subscriptions: &Subscriptions,
        retained: &Retained<RetainedMessage>,
        changes: u64,
    ) -> bool {
        let Some(place) = self.requests.pop_front() else {
            return false;
        };
        if !self.requested.remove(&place) {
            return true;
        }
        let subscription = subscriptions.get(place, key.0);
        self.subscription = subscription.map(|&subscription| (place, subscription));
        if self.subscription.is_some() {
            self.changes = changes;
            let filter = subscriptions.filter_of(place);
            retained.for_each_match(&filter, |retained| {
                self.found.push(Rc::clone(&retained.message));
            });
            self.found.reverse();
        }
        true
    }

    /// The client has unsubscribed: nothing more is to be sent for this [MQTT-3.10.4-2].
    fn forget(&mut self, place: SubscriptionKey) {
        self.requested.remove(&place);
        if self
            .subscription
            .as_ref()
            .is_some_and(|(current, _)| *current == place)
        {
            self.found.clear();
        }
    }
}

fn identifier_of(subscription: &Subscription) -> SubscriptionIdentifiers {
    match subscription.identifier {
        0 => SubscriptionIdentifiers::new(),
        identifier => SubscriptionIdentifiers::from_slice(&[identifier]),
    }
}
