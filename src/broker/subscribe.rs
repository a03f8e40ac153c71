//! SUBSCRIBE and UNSUBSCRIBE: the answer to each filter, and what it changes in the tree.
//!
//! 1. A packet with an invalid filter changes nothing.
//! 2. The SUBACK stands in the outbox before the retained messages it leads to.

use super::client::ClientKey;
use super::subscriptions::{Subscription, SubscriptionKey};
use super::timers::Time;
use super::{Broker, Fault};
use crate::config::log_target::{SUBSCRIBE, UNSUBSCRIBE};
use crate::mqtt::property::VariableByteInteger;
use crate::mqtt::{
    Properties, Property, QoS, ReasonCode, RetainHandling, Suback, Subscribe, SubscriptionOptions,
    Unsuback, Unsubscribe, topic,
};

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
        // [MQTT-3.8.4-5]
        for (filter, options) in subscribe.filters() {
            let options = self.granted(key, options);
            let code = match self.subscribe_one(key, filter, options, identifier.unwrap_or(0))? {
                true => options.qos() as u8,
                false => self.denial(key),
            };
            codes.push(code); // [MQTT-3.9.3-2]
        }
        log::debug!("Sending SUBACK to {}", self.clients[key].session.client_id);
        self.confirm(key, |version, out| {
            // [MQTT-3.8.4-1]
            let packet_id = subscribe.packet_id; // [MQTT-3.8.4-2]
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
        options.with_qos(options.qos().min(max_qos)) // [MQTT-3.2.2-10]
    }

    /// How SUBACK says in the client's version that a filter is not for it.
    fn denial(&self, key: ClientKey) -> u8 {
        let link = self.clients[key].link.as_ref();
        match link.is_some_and(|link| link.is_v5()) {
            true => ReasonCode::NotAuthorized as u8,
            false => ReasonCode::UnspecifiedError as u8,
        }
    }

    /// Subscribes to `filter`; `false` means that the client may not.
    fn subscribe_one(
        &mut self,
        key: ClientKey,
        filter: &str,
        options: SubscriptionOptions,
        identifier: u32,
    ) -> Result<bool, Fault> {
        let mut shared = topic::shared(filter)?;
        let mounted = self.mounted_filter(key, shared.filter)?;
        shared.filter = mounted.as_deref().unwrap_or(shared.filter);
        let principal = self.clients[key].session.principal.as_ref();
        if !principal.is_some_and(|principal| principal.may_subscribe(shared.filter)) {
            log::debug!("\t{filter} (denied)");
            return Ok(false);
        }
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
        if let Some(row) = &session.row {
            let filter = self.subscriptions.filter_of(place);
            let journal = &self.output.journal;
            journal.subscribed(row, filter, options.byte(), identifier, is_new);
        }
        let (name, qos) = (&session.client_id, options.qos() as u8);
        log::debug!("\t{filter} (QoS {qos})");
        log::info!(target: SUBSCRIBE, "{name} {qos} {filter}");
        let wants_retained = match options.retain_handling() {
            RetainHandling::Send => true,        // [MQTT-3.3.1-9], [MQTT-3.8.4-4]
            RetainHandling::SendIfNew => is_new, // [MQTT-3.3.1-10]
            RetainHandling::DoNotSend => false,  // [MQTT-3.3.1-11]
        };
        // A shared subscription gets no retained messages at its beginning (4.8.2).
        if wants_retained && shared.group.is_none() && !self.retained.is_empty() {
            let filter = self.subscriptions.filter_of(place);
            let replay = session.replay.get_or_insert_default();
            replay.request(place, filter, subscription);
        }
        Ok(true)
    }

    /// `filter` below the client's mount point, where it has one.
    fn mounted_filter(&self, key: ClientKey, filter: &str) -> Result<Option<String>, Fault> {
        let Some(mount) = self.mount_of(key) else {
            return Ok(None);
        };
        let mounted = format!("{mount}{filter}");
        topic::check_filter(&mounted)?;
        Ok(Some(mounted))
    }

    /// UNSUBSCRIBE (3.10) [MQTT-3.10.4-4].
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
        // [MQTT-3.10.4-6]
        for filter in unsubscribe.filters() {
            let code = self.unsubscribe_one(key, filter)?;
            codes.push(code as u8); // [MQTT-3.11.3-2]
        }
        log::debug!(
            "Sending UNSUBACK to {}",
            self.clients[key].session.client_id
        );
        self.confirm(key, |version, out| {
            let codes = if version.is_v5() { &codes[..] } else { &[] };
            let packet_id = unsubscribe.packet_id; // [MQTT-3.10.4-5]
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

    fn unsubscribe_one(&mut self, key: ClientKey, filter: &str) -> Result<ReasonCode, Fault> {
        let mut shared = topic::shared(filter)?;
        let mounted = self.mounted_filter(key, shared.filter)?;
        shared.filter = mounted.as_deref().unwrap_or(shared.filter);
        let session = &mut self.clients[key].session;
        let principal = session.principal.as_ref();
        if !principal.is_some_and(|principal| principal.may_unsubscribe(shared.filter)) {
            log::debug!("\t{filter} (denied)");
            return Ok(ReasonCode::NotAuthorized);
        }
        let name = &session.client_id;
        log::debug!("\t{filter}");
        log::info!(target: UNSUBSCRIBE, "{name} {filter}");
        // [MQTT-3.10.4-1]
        let Some(place) = self.subscriptions.find(shared.filter, shared.group) else {
            return Ok(ReasonCode::NoSubscriptionExisted);
        };
        if !session.subscriptions.remove(&place) {
            return Ok(ReasonCode::NoSubscriptionExisted);
        }
        self.end_subscription(key, place); // what is under way stays [MQTT-3.10.4-3]
        Ok(ReasonCode::Success)
    }

    /// The session in `key`, which has let go of the subscription at `place`, is subscribed no more.
    pub(super) fn end_subscription(&mut self, key: ClientKey, place: SubscriptionKey) {
        let session = &mut self.clients[key].session;
        if let Some(replay) = &mut session.replay {
            replay.forget(place);
        }
        if let Some(row) = &session.row {
            let filter = self.subscriptions.filter_of(place);
            self.output.journal.unsubscribed(row, filter);
        }
        self.subscriptions.remove(place, key.0);
    }
}
