//! Will Messages and the Will Delay Interval (3.1.2.5, 3.1.3.2): what a client wants said when it goes without a word.
//!
//! 1. A will is published at most once: whoever publishes it takes it out of its session.

use super::client::ClientKey;
use super::message::{Message, Publication};
use super::publish::mount_topic;
use super::timers::Time;
use super::{Broker, mqtt};
use crate::mqtt::{Property, PublishProperties};
use std::rc::Rc;
use std::time::Duration;

/// A Will Message and what CONNECT said about it.
#[derive(Debug)]
pub struct Will {
    pub(super) message: Rc<Message>,
    pub(super) message_expiry: Option<Duration>,
    /// Will Delay Interval (3.1.3.2.2).
    pub delay: Duration,
}

impl Broker {
    /// Keeps what CONNECT says about the will.
    pub(super) fn will_of(&self, key: ClientKey, will: &mqtt::Will<'_>) -> Will {
        let mounted = self.mounted_will_topic(key, will);
        let topic = mounted.as_deref().unwrap_or(will.topic);
        let mut scratch = Vec::new();
        let delay = will.properties.iter().find_map(|property| match property {
            Property::WillDelayInterval(seconds) => Some(Duration::from_secs(seconds.into())),
            _ => None,
        });
        let properties = PublishProperties::split(will.properties, &mut scratch);
        // [MQTT-3.1.2-14], [MQTT-3.1.2-15]
        let mut publication = Publication::new(topic, will.payload, will.qos, will.retain);
        publication.passed_on = properties.passed_on; // [MQTT-3.1.3-10]
        let seconds = properties.message_expiry_seconds;
        Will {
            message: Rc::clone(publication.stored(&self.tally)),
            message_expiry: seconds.map(|seconds| Duration::from_secs(seconds.into())),
            delay: delay.unwrap_or_default(),
        }
    }

    /// The will's topic below the mount point, where there is one; CONNECT was refused if that is no topic.
    fn mounted_will_topic(&self, key: ClientKey, will: &mqtt::Will<'_>) -> Option<String> {
        let mount = self.listener_of(key).mount_point.as_ref()?;
        mount_topic(mount, will.topic).ok()
    }

    /// Publishes the will of `key`, if it still has one [MQTT-3.1.2-8]; it is gone afterwards [MQTT-3.1.2-10].
    ///
    /// Copies of a stored will wait until it is stored that it was said, so that a crash does not say it again.
    pub(super) fn publish_will(&mut self, key: ClientKey, now: Time) {
        let is_stored = self.clients[key].session.row.is_some();
        self.say_will(key, is_stored, now);
    }

    /// The same; `waits` says that its copies wait for the commit.
    pub(super) fn say_will(&mut self, key: ClientKey, waits: bool, now: Time) {
        let session = &mut self.clients[key].session;
        session.will_due = None;
        let Some(will) = session.will.take() else {
            // [MQTT-3.1.2-12] of 3.1.1
            return;
        };
        if session.row.is_some() {
            self.output.journal.session_changed(key);
        }
        let message = &will.message;
        if !self.may_publish(key, message.topic()) {
            let (name, topic) = (&self.clients[key].session.client_id, message.topic());
            log::debug!("Denied will of {name} ('{topic}')");
            return;
        }
        let mut publication = Publication::of(message);
        if let Some(expiry) = will.message_expiry {
            publication = Publication::new(
                message.topic(),
                message.payload(),
                publication.qos,
                publication.retain,
            );
            publication.passed_on = message.passed_on();
            publication.expires = Some(now + expiry);
        }
        publication.is_released = waits;
        self.route(Some(key), &mut publication, now);
    }
}
