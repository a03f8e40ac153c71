//! RETAIN on a PUBLISH (3.3.1.3): the last message of a topic is kept, replaced, cleared by an empty payload, and expires.
//!
//! 1. A retained message with a Message Expiry Interval has a timer, which ends with it.

use super::client::ClientKey;
use super::message::{Message, Publication};
use super::principal::Principal;
use super::timers::TimerKey;
use super::{Broker, Timer};
use std::rc::Rc;

/// A retained message and the timer of its expiry.
#[derive(Debug)]
pub struct RetainedMessage {
    /// The message.
    pub message: Rc<Message>,
    /// Who published it; `None` is the broker itself.
    pub(super) source: Option<Rc<Principal>>,
    pub(super) expiry: Option<TimerKey>,
}

impl RetainedMessage {
    /// Whether its publisher still has the right to it: `check_retain_source`.
    pub fn source_may_write(&self) -> bool {
        let source = self.source.as_ref();
        source.is_none_or(|source| source.may_write(self.message.topic()))
    }
}

impl Broker {
    /// Keeps `publication` as the last message of its topic [MQTT-3.3.1-5], or clears the topic where it has no payload
    /// [MQTT-3.3.1-6], [MQTT-3.3.1-7].
    pub(super) fn retain(&mut self, source: Option<ClientKey>, publication: &mut Publication<'_>) {
        self.retained_changes += 1;
        let former = if publication.payload.is_empty() {
            self.retained.remove(publication.topic)
        } else {
            let message = Rc::clone(publication.stored(&self.output.tally));
            let expiry = message.expires().map(|expires| {
                let index = self.expiring.insert(Rc::clone(&message));
                self.timers.insert(expires, Timer::Retained(index as u32))
            });
            let source = source.and_then(|key| self.clients[key].session.principal.clone());
            // What the server says of itself is said anew after a restart.
            if !publication.topic.starts_with("$SYS") {
                self.output.journal.retained(&message, source.as_ref());
            }
            let retained = RetainedMessage {
                message,
                source,
                expiry,
            };
            self.retained.set(publication.topic, retained)
        };
        let Some(former) = former else {
            // Where it was cleared before, that may not be stored yet.
            self.output.journal.find_done();
            return;
        };
        self.output.journal.unretained(&former.message);
        if let Some(expiry) = former.expiry
            && let Some(Timer::Retained(index)) = self.timers.cancel(expiry)
        {
            self.expiring.remove(index as usize);
        }
    }

    /// The timer of a retained message: it has expired [MQTT-3.3.2-5].
    pub(super) fn retained_due(&mut self, index: u32) {
        let message = self.expiring.remove(index as usize);
        self.retained_changes += 1;
        let former = self.retained.remove(message.topic());
        self.output.journal.unretained(&message);
        debug_assert!(former.is_some_and(|former| Rc::ptr_eq(&former.message, &message)));
    }
}
