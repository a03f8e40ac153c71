//! What waited leaves: the queue as the window allows, what an earlier connection left, and what a commit let go.
//!
//! 1. What may not be read any more, or has expired, is not sent, whatever held when the message came; but what was sent once is
//!    sent again however late [MQTT-4.4.0-1].
//! 2. What an earlier connection left goes before the queue, in the order of first sending [MQTT-4.6.0-1].

use super::client::Link;
use super::deliver::{Copy, Output, has_room, hold_copy};
use super::inflight::Delivery;
use super::journal::{OfDelivery, Row};
use super::message::Publication;
use super::session::Session;
use super::timers::Time;
use crate::config::Config;
use crate::mqtt::{PacketId, QoS};
use std::rc::Rc;

/// Sends what waits, as far as the window allows: first what an earlier connection left, then the queue.
pub fn pump_queue(
    session: &mut Session,
    link: &mut Link,
    output: &mut Output,
    config: &Config,
    now: Time,
) {
    while link.window_used < link.window
        && let Some(packet_id) = session.inflight.take_unsent()
    {
        resend(session, link, packet_id, output, now);
    }
    while let Some(next) = session.queue.front() {
        if next.qos != QoS::AtMostOnce && !has_room(session, link, next, config) {
            return;
        }
        let batch = link.batch_of_queued(session, next.qos, output);
        let Some((delivery, row)) = session.queue.pop() else {
            return;
        };
        match batch {
            Some(batch) if delivery.qos == QoS::AtMostOnce => {
                hold_copy(session, link, batch, delivery, output, config);
            }
            _ => send_delivery(session, link, delivery, row, batch, output, now),
        }
    }
}

/// Whether a retained message could be sent now: it waits behind the queue, and for a place in the window.
pub fn accepts_now(session: &Session, link: &Link, delivery: &Delivery, config: &Config) -> bool {
    delivery.qos == QoS::AtMostOnce
        || session.queue.is_empty() && has_room(session, link, delivery, config)
}

/// Sends `delivery`, for which there is room, unless it expired, is too large for this client, or is no longer for it to
/// read: what it may not read now it does not get, whatever it might have read when the message came. `row` is where it was
/// stored while it waited; `batch` is the one that it waits for.
pub fn send_delivery(
    session: &mut Session,
    link: &mut Link,
    delivery: Delivery,
    row: Option<Row<OfDelivery>>,
    batch: Option<u64>,
    output: &mut Output,
    now: Time,
) {
    let has_id = delivery.qos != QoS::AtMostOnce;
    if delivery.message.is_expired(now) || !session.may_read(delivery.message.topic()) {
        // Mosquitto gave the message its identifier when it was queued; clients see the gap.
        if has_id {
            session.inflight.skip();
        }
        output.statistics.publish_dropped += 1;
        return;
    }
    let message = Rc::clone(&delivery.message);
    let identifiers = delivery.identifiers.clone();
    let (qos, retain) = (delivery.qos, delivery.retain);
    let (journal, of_session) = (&output.journal, session.row.as_ref());
    let packet_id = has_id.then(|| {
        session.inflight.begin(delivery, |delivery, packet_id| {
            match &row {
                Some(row) => journal.sent(row, packet_id),
                None => return journal.delivery(of_session, delivery, Some(packet_id)),
            }
            row
        })
    });
    if let Some(packet_id) = packet_id
        && let Some(batch) = batch
    {
        session.inflight.hold(packet_id);
        return link.hold_publish(batch, packet_id, output);
    }
    let copy = Copy {
        qos,
        retain,
        packet_id,
        identifiers: &identifiers,
    };
    let mut publication = Publication::of(&message);
    if !copy.encode_alone(
        &mut publication,
        &session.client_id,
        false, // [MQTT-4.3.2-2], [MQTT-4.3.3-2]
        link,
        output,
        now,
    ) {
        if let Some(packet_id) = packet_id {
            session.inflight.finish(packet_id);
        }
        output.statistics.publish_dropped += 1;
    }
}

/// Sends the PUBLISH of an exchange that has waited for a commit, unless it was finished meanwhile. `false` means that the
/// client does not get it, and its place in the window is free for what waits.
pub fn send_held(
    session: &mut Session,
    link: &mut Link,
    packet_id: PacketId,
    output: &mut Output,
    now: Time,
) -> bool {
    let exchange = session.inflight.get_mut(packet_id);
    let Some(delivery) = exchange.and_then(|exchange| exchange.delivery.clone()) else {
        return true;
    };
    link.window_used -= 1; // until it is sent
    let is_sent = may_still_have(session, &delivery, output, now)
        && send_copy_of(&delivery, Some(packet_id), session, link, output, now);
    match is_sent {
        true => session.inflight.set_sent_last(packet_id),
        false => {
            session.inflight.finish(packet_id);
        }
    }
    is_sent
}

/// Sends a PUBLISH without an exchange that has waited for a commit.
pub fn send_copy(
    session: &Session,
    link: &mut Link,
    delivery: &Delivery,
    output: &mut Output,
    now: Time,
) {
    if may_still_have(session, delivery, output, now) {
        send_copy_of(delivery, None, session, link, output, now);
    }
}

/// Whether the client may have what waited for a commit. Its rights may have changed meanwhile, or the message may have
/// expired [MQTT-3.3.2-5]; then it is counted as dropped.
fn may_still_have(session: &Session, delivery: &Delivery, output: &mut Output, now: Time) -> bool {
    let message = &delivery.message;
    let may_have = !message.is_expired(now) && session.may_read(message.topic());
    output.statistics.publish_dropped += u64::from(!may_have);
    may_have
}

fn send_copy_of(
    delivery: &Delivery,
    packet_id: Option<PacketId>,
    session: &Session,
    link: &mut Link,
    output: &mut Output,
    now: Time,
) -> bool {
    let copy = Copy {
        qos: delivery.qos,
        retain: delivery.retain,
        packet_id,
        identifiers: &delivery.identifiers,
    };
    let mut publication = Publication::of(&delivery.message);
    let dup = false; // [MQTT-4.3.3-2]
    let is_sent = copy.encode_alone(&mut publication, &session.client_id, dup, link, output, now);
    if !is_sent {
        output.statistics.publish_dropped += 1;
    }
    is_sent
}

/// Sends everything again that the client has not acknowledged: PUBLISH with DUP as far as the window allows, and PUBREL,
/// which no window holds back [MQTT-3.3.4-10], in the order of first sending [MQTT-4.4.0-1], [MQTT-4.6.0-1].
pub fn begin_resending(session: &mut Session, link: &mut Link, output: &mut Output, now: Time) {
    session.inflight.begin_connection();
    let mut unsent = Vec::new();
    for packet_id in session.inflight.in_order() {
        match session.inflight.get_mut(packet_id) {
            Some(exchange) if exchange.delivery.is_none() => {
                // [MQTT-4.3.3-5]
                super::ack::resend_pubrel(&session.client_id, link, output, packet_id);
            }
            _ if link.window_used < link.window => {
                resend(session, link, packet_id, output, now);
            }
            _ => unsent.push(packet_id),
        }
    }
    session.inflight.set_unsent(unsent);
}

/// Sends again what was not acknowledged on an earlier connection, expired or not [MQTT-4.3.3-7], and for the first time what
/// waited for a commit then, unless it expired [MQTT-3.3.2-5]. What is too large for the client now is finished.
fn resend(
    session: &mut Session,
    link: &mut Link,
    packet_id: PacketId,
    output: &mut Output,
    now: Time,
) {
    let Some(exchange) = session.inflight.get_mut(packet_id) else {
        return;
    };
    let was_held = exchange.is_held();
    let Some(delivery) = exchange.delivery.clone() else {
        return;
    };
    let copy = Copy {
        qos: delivery.qos,
        retain: delivery.retain,
        packet_id: Some(packet_id),
        identifiers: &delivery.identifiers,
    };
    let is_late = was_held && delivery.message.is_expired(now);
    if is_late || !session.may_read(delivery.message.topic()) {
        session.inflight.finish(packet_id);
        output.statistics.publish_dropped += 1;
        return;
    }
    let dup = session.inflight.take_place(packet_id); // [MQTT-3.3.1-1]
    let mut publication = Publication::of(&delivery.message);
    if !copy.encode_alone(&mut publication, &session.client_id, dup, link, output, now) {
        session.inflight.finish(packet_id);
        output.statistics.publish_dropped += 1;
    }
}
