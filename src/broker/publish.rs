//! PUBLISH in: topic alias, rights, limits, QoS 2 once only, retain, route.
//!
//! 1. A message is acknowledged after it was routed (QoS 1) or stored (QoS 2), in the same turn.
//! 2. Routing visits each matching subscription once and allocates nothing unless somebody has to keep the message.

use super::client::{Client, ClientKey, Clients, Link};
use super::deliver::{Wanted, deliver, identifiers_of};
use super::message::Publication;
use super::replay::catch_up;
use super::subscriptions::{Groups, Subscription, SubscriptionKey};
use super::timers::Time;
use super::{Broker, Fault};
use crate::mqtt::{PacketId, PacketType, Publish, PublishProperties, QoS, ReasonCode, topic};
use std::rc::Rc;
use std::time::Duration;

/// How often one QoS 2 PUBLISH may come again on one connection. Mosquitto's bound, since a client that repeats for ever
/// and never releases held memory for ever (CVE-2023-28366).
const REPEATS_MAX: u8 = 1;

impl Broker {
    /// PUBLISH from `key`.
    pub(super) fn publish(
        &mut self,
        key: ClientKey,
        publish: Publish<'_>,
        now: Time,
    ) -> Result<(), Fault> {
        self.output.statistics.publish_received += 1;
        self.output.statistics.publish_bytes_received += publish.payload.len() as u64;
        if publish.properties.is_empty() && self.mount_of(key).is_none() {
            let publication =
                Publication::new(publish.topic, publish.payload, publish.qos, publish.retain);
            return self.receive(key, &publish, publication, now);
        }
        self.publish_with_properties(key, publish, now)
    }

    fn publish_with_properties(
        &mut self,
        key: ClientKey,
        publish: Publish<'_>,
        now: Time,
    ) -> Result<(), Fault> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let properties = PublishProperties::split(publish.properties, &mut scratch);
        let result = self.publish_split(key, publish, properties, now);
        self.scratch = scratch;
        result
    }

    fn publish_split(
        &mut self,
        key: ClientKey,
        publish: Publish<'_>,
        properties: PublishProperties<'_>,
        now: Time,
    ) -> Result<(), Fault> {
        if properties.has_subscription_identifier {
            // [MQTT-3.3.4-6]
            return Err(Fault::protocol("subscription identifier from a client"));
        }
        let alias_topic;
        let topic = match properties.topic_alias {
            Some(alias) => {
                alias_topic = self.topic_of_alias(key, alias, publish.topic)?;
                &alias_topic
            }
            None => publish.topic,
        };
        let mounted;
        let topic = match self.mount_of(key) {
            Some(mount) => {
                mounted = mount_topic(mount, topic)?;
                &mounted
            }
            None => topic,
        };
        let mut publication = Publication::new(topic, publish.payload, publish.qos, publish.retain);
        publication.passed_on = properties.passed_on;
        // 0 leaves no time for anything; Mosquitto takes it for no expiry, and so do we.
        let expiry = properties
            .message_expiry_seconds
            .filter(|&seconds| seconds > 0);
        publication.expires = expiry.map(|seconds| now + Duration::from_secs(seconds.into()));
        self.receive(key, &publish, publication, now)
    }

    /// What stands before every topic of `key`.
    pub(super) fn mount_of(&self, key: ClientKey) -> Option<&str> {
        self.clients[key].link.as_ref()?.mount.as_deref()
    }

    /// The topic that `alias` stands for, after it was set to `topic` where that is not empty (3.3.2.3.4).
    fn topic_of_alias(
        &mut self,
        key: ClientKey,
        alias: u16,
        topic: &str,
    ) -> Result<Rc<str>, Fault> {
        if alias > self.listener_of(key).max_topic_alias {
            // [MQTT-3.3.2-9], [MQTT-3.3.2-12]
            let what = "topic alias above the maximum";
            return Err(Fault::new(ReasonCode::TopicAliasInvalid, what));
        }
        let link = self.clients[key]
            .link
            .as_mut()
            .expect("PUBLISH came on a link");
        let received = &mut link.aliases.get_or_insert_default().received;
        let index = usize::from(alias) - 1;
        if received.len() <= index {
            received.resize(index + 1, None);
        }
        let known = &mut received[index];
        if !topic.is_empty() && known.as_deref() != Some(topic) {
            *known = Some(topic.into());
        }
        known
            .clone()
            .ok_or(Fault::protocol("topic alias that was not set"))
    }

    /// A message whose topic and properties are known: the rules that may refuse it, then the rules of its QoS.
    fn receive(
        &mut self,
        key: ClientKey,
        publish: &Publish<'_>,
        mut publication: Publication<'_>,
        now: Time,
    ) -> Result<(), Fault> {
        if publish.retain && !self.config.retain_available {
            return Err(Fault::new(
                ReasonCode::RetainNotSupported,
                "retain is not available",
            ));
        }
        if publish.qos as u8 > self.listener_of(key).max_qos {
            // [MQTT-3.2.2-11]
            return Err(Fault::new(
                ReasonCode::QoSNotSupported,
                "QoS above the maximum QoS",
            ));
        }
        let is_command =
            publication.topic.starts_with("$CONTROL/") && self.may_control(key, publication.topic);
        if !is_command && !self.may_publish(key, publication.topic) {
            self.log_publish("Denied", key, publish, publication.topic);
            return self.refuse(key, publish, ReasonCode::NotAuthorized);
        }
        let limit = self.config.message_size_limit;
        if limit.is_some_and(|limit| publish.payload.len() > limit.get() as usize) {
            self.log_publish("Dropped too large", key, publish, publication.topic);
            return self.refuse(key, publish, ReasonCode::PacketTooLarge);
        }
        self.log_publish("Received", key, publish, publication.topic);
        match publish.packet_id {
            // At QoS 2 it is obeyed when it is released.
            packet_id if is_command && publish.qos != QoS::ExactlyOnce => {
                let reason_code = self.control(key, publish.payload, now);
                if let Some(packet_id) = packet_id {
                    self.acknowledge(key, PacketType::Puback, packet_id, reason_code);
                }
                Ok(())
            }
            // [MQTT-3.3.4-1]
            Some(packet_id) if publish.qos == QoS::AtLeastOnce => {
                // [MQTT-4.3.2-5]
                let matched = self.route_behind_released(key, &mut publication, now);
                // [MQTT-4.3.2-4]
                self.acknowledge(key, PacketType::Puback, packet_id, matched_code(matched));
                Ok(())
            }
            Some(packet_id) => self.receive_exactly_once(key, publication, packet_id),
            None => {
                self.route_behind_released(key, &mut publication, now);
                Ok(())
            }
        }
    }

    /// Passes a message on, behind what the same client released before it [MQTT-4.6.0-6].
    #[inline]
    fn route_behind_released(
        &mut self,
        key: ClientKey,
        publication: &mut Publication<'_>,
        now: Time,
    ) -> bool {
        let link = self.clients[key].link.as_ref();
        publication.is_released =
            link.is_some_and(|link| !self.output.journal.is_committed(link.released_in));
        let matched = self.route(Some(key), publication, now);
        if publication.is_released {
            self.note_released(key);
        }
        matched
    }

    /// What `key` just released waits for the batch that there is now.
    pub(super) fn note_released(&mut self, key: ClientKey) {
        if let (Some(link), Some(batch)) =
            (&mut self.clients[key].link, self.output.journal.pending())
        {
            link.released_in = batch;
        }
    }

    /// QoS 2: the message is stored until PUBREL; the same identifier does not store it twice [MQTT-4.3.3-10].
    fn receive_exactly_once(
        &mut self,
        key: ClientKey,
        mut publication: Publication<'_>,
        packet_id: PacketId,
    ) -> Result<(), Fault> {
        let matched = self.has_receivers(publication.topic);
        let may_hold_one_more = self.may_hold_one_more(key);
        let client = &mut self.clients[key];
        let session = &mut client.session;
        match session.received.get_mut(packet_id) {
            Some(received) => {
                if received.repeats == REPEATS_MAX {
                    return Err(Fault::protocol("PUBLISH repeated without end"));
                }
                received.repeats += 1;
                let message = &received.message;
                if message.topic() != publication.topic || message.payload() != publication.payload
                {
                    let link = client.link.as_mut().expect("PUBLISH came on a link");
                    // Once for each connection: a client that does so may well do so without end.
                    if !std::mem::replace(&mut link.warned_of_reuse, true) {
                        log::warn!(
                            "Warning: Client {} reuses message ID {packet_id}, which is still in use, \
                             for another message; the former is replaced.",
                            session.client_id
                        );
                    }
                    received.message = Rc::clone(publication.stored(&self.output.tally));
                    received.row = self.output.journal.received(
                        session.row.as_ref(),
                        packet_id,
                        &received.message,
                    );
                }
            }
            None if !may_hold_one_more => {
                // Mosquitto only warns a client that overruns Receive Maximum, since some libraries do; so do we,
                // although 3.3.4 answers with DISCONNECT 0x93. Before 5.0 nothing can be said but good-bye.
                let name = &session.client_id;
                let link = client.link.as_mut().expect("PUBLISH came on a link");
                if !std::mem::replace(&mut link.warned_of_quota, true) {
                    log::warn!(
                        "Warning: Client {name} sends more messages than its receive maximum."
                    );
                }
                log::debug!("Rejected PUBLISH from {name}, quota exceeded.");
                if !link.is_v5() {
                    return Err(Fault::new(
                        ReasonCode::ReceiveMaximumExceeded,
                        "too many messages",
                    ));
                }
                self.acknowledge(
                    key,
                    PacketType::Pubrec,
                    packet_id,
                    ReasonCode::QuotaExceeded,
                );
                return Ok(());
            }
            None => {
                let message = Rc::clone(publication.stored(&self.output.tally));
                let row = self
                    .output
                    .journal
                    .received(session.row.as_ref(), packet_id, &message);
                session.received.insert(packet_id, message, row);
                if let Some(link) = &mut client.link {
                    link.unreleased += 1;
                }
            }
        }
        // [MQTT-4.3.3-8]
        self.acknowledge(key, PacketType::Pubrec, packet_id, matched_code(matched));
        Ok(())
    }

    /// Whether a message with this topic would go to anybody.
    fn has_receivers(&mut self, topic: &str) -> bool {
        let may_read = self.clients.readers_of(topic, self.restricts);
        let (matches, _) = self.subscriptions.resolve_with_groups(topic, may_read);
        !matches.is_empty()
    }

    /// Whether `key` may send one more QoS 2 message before it releases another.
    ///
    /// On each connection a client of 5.0 has the Receive Maximum it was told, as if nothing were left from earlier
    /// ones (4.9). A client of 3.x was told no number. For both, what a session holds altogether is bounded by that
    /// number and by what the queue of a client may hold besides, in messages and in bytes.
    fn may_hold_one_more(&self, key: ClientKey) -> bool {
        let announced = self
            .config
            .max_inflight_messages
            .map_or(u16::MAX, |max| max.get());
        let client = &self.clients[key];
        let exceeds = |link: &Link| link.is_v5() && link.unreleased >= announced;
        let held_max = self
            .config
            .max_queued_messages
            .map_or(usize::from(u16::MAX), |max| {
                max.get().saturating_add(announced.into())
            });
        client.session.received.len() < held_max
            && !client.link.as_ref().is_some_and(exceeds)
            && !self.holds_too_many_bytes(client, announced)
    }

    /// Whether what `client` has not released takes up `max_queued_bytes`. It is counted beyond `announced` messages only,
    /// where nobody comes who keeps to a Receive Maximum.
    fn holds_too_many_bytes(&self, client: &Client, announced: u16) -> bool {
        let received = &client.session.received;
        let Some(bytes_max) = self.config.max_queued_bytes else {
            return false;
        };
        if received.len() < usize::from(announced) {
            return false;
        }
        let payloads = received
            .iter()
            .map(|(_, received)| received.message.payload().len());
        payloads.sum::<usize>() >= bytes_max.get()
    }

    /// Answers a PUBLISH that goes no further but is no reason to disconnect: 5.0 hears why, 3.x hears success, since it
    /// has no other word: [MQTT-3.3.5-2] of 3.1.1.
    fn refuse(
        &mut self,
        key: ClientKey,
        publish: &Publish<'_>,
        reason_code: ReasonCode,
    ) -> Result<(), Fault> {
        self.output.statistics.publish_dropped += 1;
        let Some(packet_id) = publish.packet_id else {
            return Ok(());
        };
        let kind = match publish.qos {
            QoS::ExactlyOnce => PacketType::Pubrec, // [MQTT-4.3.3-9]
            _ => PacketType::Puback,
        };
        self.acknowledge(key, kind, packet_id, reason_code);
        Ok(())
    }

    fn log_publish(&self, what: &str, key: ClientKey, publish: &Publish<'_>, topic: &str) {
        log::debug!(
            "{what} PUBLISH from {} (d{}, q{}, r{}, m{}, '{topic}', ... ({} bytes))",
            self.clients[key].session.client_id,
            u8::from(publish.dup),
            publish.qos as u8,
            u8::from(publish.retain),
            publish.packet_id.map_or(0, PacketId::get),
            publish.payload.len(),
        );
    }

    /// Passes a message on to everybody who wants it [MQTT-4.5.0-1], and keeps it if it is to be retained. Whether
    /// anybody's subscription matched.
    #[inline]
    pub(super) fn route(
        &mut self,
        source: Option<ClientKey>,
        publication: &mut Publication<'_>,
        now: Time,
    ) -> bool {
        if publication.retain {
            self.retain(source, publication);
        }
        let may_read = self.clients.readers_of(publication.topic, self.restricts);
        let (matches, groups) = self
            .subscriptions
            .resolve_with_groups(publication.topic, may_read);
        if matches.is_empty() {
            return false;
        }
        let receivers = matches.subscriptions.len() + matches.groups.len();
        self.output.begin_publication(publication, receivers);
        let mut rest = matches.subscriptions.as_slice();
        while let Some((first, others)) = rest.split_first() {
            // Subscriptions of one client are neighbours.
            let count = match self.config.allow_duplicate_messages {
                true => 0, // [MQTT-3.3.4-5]
                false => others
                    .iter()
                    .take_while(|other| other.client == first.client)
                    .count(),
            };
            let key = ClientKey(first.client);
            let client = &mut self.clients[key];
            let is_own = source == Some(key);
            if client.session.replay.is_some() && !publication.retain {
                let topic = publication.topic;
                catch_up(
                    client,
                    topic,
                    &self.retained,
                    &mut self.output,
                    &self.config,
                    now,
                );
            }
            if let Some(wanted) = merge(first, &others[..count], is_own, client.is_bridge()) {
                deliver(
                    client,
                    publication,
                    wanted,
                    &mut self.output,
                    &self.config,
                    now,
                );
            }
            rest = &others[count..];
        }
        // One member of each shared group gets the message (4.8.2).
        for &group in &matches.groups {
            let chosen = choose(groups, group, &self.clients, |clients, client| {
                clients.readers_of(publication.topic, self.restricts)(client)
            });
            if let Some(member) = chosen {
                let client = &mut self.clients[ClientKey(member.client)];
                let identifiers = identifiers_of([&member]);
                let wanted = Wanted {
                    options: member.options, // [MQTT-4.8.2-3]
                    identifiers,
                };
                deliver(
                    client,
                    publication,
                    wanted,
                    &mut self.output,
                    &self.config,
                    now,
                );
            }
        }
        true
    }
}

/// The member of `group` that gets the next message: the next in turn that is connected, or, where none is, the next whose
/// session waits for it; never one that may not read it.
fn choose(
    groups: &mut Groups,
    group: SubscriptionKey,
    clients: &Clients,
    may_read: impl Fn(&Clients, u32) -> bool,
) -> Option<Subscription> {
    let readers = |member: &Subscription| may_read(clients, member.client);
    let connected =
        |member: &Subscription| clients[ClientKey(member.client)].is_connected() && readers(member);
    groups
        .choose(group, connected)
        .or_else(|| groups.choose(group, readers))
}

/// The Topic Name `topic` below `mount`.
pub(super) fn mount_topic(mount: &str, topic: &str) -> Result<String, Fault> {
    let mounted = format!("{mount}{topic}");
    let is_too_long = mounted.len() > usize::from(u16::MAX);
    if is_too_long || topic::name(mounted.as_bytes()).is_err() {
        let what = "topic too long or of too many levels with its mount point";
        return Err(Fault::new(ReasonCode::TopicNameInvalid, what));
    }
    Ok(mounted)
}

/// How a PUBLISH went that was accepted, for PUBACK [MQTT-3.4.2-1] and PUBREC [MQTT-3.5.2-1].
fn matched_code(matched: bool) -> ReasonCode {
    match matched {
        true => ReasonCode::Success,
        false => ReasonCode::NoMatchingSubscribers,
    }
}

/// What the subscriptions of one client ask for together: the highest QoS [MQTT-3.3.4-2] ([MQTT-3.3.5-1] of
/// 3.1.1) and all identifiers [MQTT-3.3.4-4]; `None` where No Local forbids them all [MQTT-3.8.3-3]. A bridge never gets
/// its own messages back.
#[inline]
fn merge(
    first: &Subscription,
    others: &[Subscription],
    is_own: bool,
    is_bridge: bool,
) -> Option<Wanted> {
    let wants =
        |subscription: &&Subscription| !is_own || !(is_bridge || subscription.options.no_local());
    if others.is_empty() {
        return wants(&first).then(|| Wanted {
            options: first.options,
            identifiers: identifiers_of([first]),
        });
    }
    let all = || std::iter::once(first).chain(others).filter(wants);
    let options = all()
        .map(|subscription| subscription.options)
        .max_by_key(|options| (options.qos(), options.retain_as_published()))?;
    Some(Wanted {
        options,
        identifiers: identifiers_of(all()),
    })
}
