//! Both halves of the QoS 1 and QoS 2 exchanges (4.3): what PUBACK, PUBREC, PUBREL and PUBCOMP change.
//!
//! 1. As receiver: a QoS 2 message is passed on once, when its PUBREL comes [MQTT-4.3.3-10]; a PUBREL for an identifier
//!    that is not in use is answered all the same, so that the other side can finish.
//! 2. As sender: PUBREC without error releases the message and keeps the identifier; a PUBREC with an error, PUBACK and
//!    PUBCOMP finish the exchange.

use super::client::{Client, ClientKey, Link};
use super::deliver::Output;
use super::message::Publication;
use super::timers::Time;
use super::{Broker, Fault};
use crate::mqtt::{Ack, PacketId, PacketType, QoS, ReasonCode};

impl Broker {
    /// PUBACK: the end of a QoS 1 exchange, whatever its reason code.
    pub(super) fn puback(&mut self, key: ClientKey, ack: Ack<'_>, now: Time) -> Result<(), Fault> {
        let client = &mut self.clients[key];
        let (packet_id, code) = (ack.packet_id, ack.reason_code as u8);
        log::debug!(
            "Received PUBACK from {} (Mid: {packet_id}, RC:{code})",
            client.name()
        );
        match client.session.inflight.get_mut(packet_id) {
            Some(exchange) if exchange.qos() != QoS::AtLeastOnce => {
                return Err(Fault::protocol("PUBACK for a QoS 2 message"));
            }
            Some(_) => {
                self.finish(key, packet_id, now);
            }
            None => warn_unknown("PUBACK", client, packet_id),
        }
        Ok(())
    }

    /// PUBREC: the receiver owns the QoS 2 message, or refuses it.
    pub(super) fn pubrec(&mut self, key: ClientKey, ack: Ack<'_>, now: Time) -> Result<(), Fault> {
        let packet_id = ack.packet_id;
        let client = &mut self.clients[key];
        log::debug!("Received PUBREC from {} (Mid: {packet_id})", client.name());
        let known = match client.session.inflight.get_mut(packet_id) {
            Some(exchange) if exchange.qos() != QoS::ExactlyOnce => {
                return Err(Fault::protocol("PUBREC for a QoS 1 message"));
            }
            Some(_) if ack.reason_code.is_error() => {
                // [MQTT-4.4.0-2], [MQTT-4.8.2-6]
                self.finish(key, packet_id, now);
                return Ok(());
            }
            Some(exchange) => {
                exchange.delivery = None; // [MQTT-4.3.3-6]
                if let Some(row) = &exchange.row {
                    self.output.journal.handed_over(row, packet_id);
                }
                true
            }
            None => {
                warn_unknown("PUBREC", client, packet_id);
                // Nothing to release where the receiver did not take the message either.
                if ack.reason_code.is_error() {
                    return Ok(());
                }
                false
            }
        };
        let Some(link) = &mut client.link else {
            return Ok(());
        };
        let reason_code = match known || !link.is_v5() {
            true => ReasonCode::Success,                   // [MQTT-4.3.3-4]
            false => ReasonCode::PacketIdentifierNotFound, // [MQTT-3.6.2-1]
        };
        log::debug!(
            "Sending PUBREL to {} (m{packet_id})",
            client.session.client_id
        );
        let kind = PacketType::Pubrel;
        link.acknowledge(
            &client.session,
            kind,
            packet_id,
            reason_code,
            &mut self.output,
        );
        Ok(())
    }

    /// PUBCOMP: the end of a QoS 2 exchange.
    pub(super) fn pubcomp(&mut self, key: ClientKey, ack: Ack<'_>, now: Time) -> Result<(), Fault> {
        let client = &mut self.clients[key];
        let (packet_id, code) = (ack.packet_id, ack.reason_code as u8);
        log::debug!(
            "Received PUBCOMP from {} (Mid: {packet_id}, RC:{code})",
            client.name()
        );
        match client.session.inflight.get_mut(packet_id) {
            Some(exchange) if exchange.qos() != QoS::ExactlyOnce => {
                return Err(Fault::protocol("PUBCOMP for a QoS 1 message"));
            }
            Some(_) => {
                self.finish(key, packet_id, now);
            }
            None => warn_unknown("PUBCOMP", client, packet_id),
        }
        Ok(())
    }

    /// An exchange is finished, which makes room for what waits.
    fn finish(&mut self, key: ClientKey, packet_id: PacketId, now: Time) {
        let client = &mut self.clients[key];
        let exchange = client.session.inflight.finish(packet_id);
        if let Some(link) = &mut client.link
            && exchange.is_some_and(|exchange| exchange.takes_place())
        {
            link.window_used -= 1;
        }
        self.pump(key, now);
    }

    /// PUBREL: the sender released a QoS 2 message; now it is passed on [MQTT-4.3.3-10].
    pub(super) fn pubrel(&mut self, key: ClientKey, ack: Ack<'_>, now: Time) -> Result<(), Fault> {
        let packet_id = ack.packet_id;
        let client = &mut self.clients[key];
        log::debug!("Received PUBREL from {} (Mid: {packet_id})", client.name());
        let received = client.session.received.remove(packet_id); // [MQTT-4.3.3-12]
        if let (Some(link), true) = (&mut client.link, received.is_some()) {
            // Below 0 it would go where an earlier connection brought the message (4.9).
            link.unreleased = link.unreleased.saturating_sub(1);
        }
        let reason_code = match received.is_some() {
            // [MQTT-3.7.2-1]
            true => ReasonCode::Success,
            false => ReasonCode::PacketIdentifierNotFound,
        };
        if let Some(received) = received {
            let message = received.message;
            // Before it is routed: the batch that removes it holds what it leads to, and what is sent waits for it.
            let is_stored = received.row.is_some();
            drop(received.row);
            // [MQTT-4.3.3-13]
            let is_late = message.is_expired(now);
            if !is_late && self.may_control(key, message.topic()) {
                self.control(key, message.payload(), now);
            } else if !is_late && self.may_publish(key, message.topic()) {
                let mut publication = Publication::of(&message);
                publication.is_released = is_stored;
                self.route(Some(key), &mut publication, now);
                if is_stored {
                    self.note_released(key);
                }
            }
        }
        self.acknowledge(key, PacketType::Pubcomp, packet_id, reason_code); // [MQTT-4.3.3-11]
        Ok(())
    }

    /// Sends PUBACK, PUBREC or PUBCOMP to `key`, which may have lost its link meanwhile.
    pub(super) fn acknowledge(
        &mut self,
        key: ClientKey,
        kind: PacketType,
        packet_id: PacketId,
        reason_code: ReasonCode,
    ) {
        let client = &mut self.clients[key];
        let (name, code) = (&client.session.client_id, reason_code as u8);
        match kind {
            PacketType::Puback => log::debug!("Sending PUBACK to {name} (m{packet_id}, rc{code})"),
            PacketType::Pubrec => log::debug!("Sending PUBREC to {name} (m{packet_id}, rc{code})"),
            _ => log::debug!("Sending PUBCOMP to {name} (m{packet_id})"),
        }
        if let Some(link) = &mut client.link {
            link.acknowledge(
                &client.session,
                kind,
                packet_id,
                reason_code,
                &mut self.output,
            );
        }
    }
}

/// Sends PUBREL again: we have known for long that the receiver owns the message.
pub(super) fn resend_pubrel(name: &str, link: &mut Link, output: &mut Output, packet_id: PacketId) {
    log::debug!("Sending PUBREL to {name} (m{packet_id})");
    link.send_ack(PacketType::Pubrel, packet_id, ReasonCode::Success, output);
}

/// Says so once for each connection: a client that is out of step may well be so for every message.
#[cold]
fn warn_unknown(packet: &str, client: &mut Client, packet_id: PacketId) {
    let name = &client.session.client_id;
    if let Some(link) = &mut client.link
        && !std::mem::replace(&mut link.warned_of_unknown, true)
    {
        log::warn!(
            "Warning: Received {packet} from {name} for an unknown packet identifier {packet_id}."
        );
    }
}
