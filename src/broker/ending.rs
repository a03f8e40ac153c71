//! How a connection ends, what its session does without it, and how that ends in turn.
//!
//! 1. A connection that ends is taken out of its slot at once; its last bytes go to `Output::closing`.
//! 2. A session without a connection has one timer, for its will or its end, whichever is due first.

use super::client::{ClientKey, Password};
use super::connect::CONNECT_TIMEOUT;
use super::deliver::Farewell;
use super::session::SessionExpiry;
use super::timers::Time;
use super::will::Will;
use super::{Broker, Fault, Timer};
use crate::buffer::ConnectionKey;
use crate::config::log_target::{INFORMATION, NOTICE};
use crate::mqtt::{Disconnect, Properties, Property, ProtocolVersion, ReasonCode};
use std::time::Duration;

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending<'a> {
    /// The client sent DISCONNECT.
    Disconnect,
    /// The client closed the socket without one.
    ClosedByClient,
    /// The system reported an error on the socket.
    SocketError(&'a str),
    /// Nothing came for one and a half times the Keep Alive [MQTT-3.1.2-22], or no CONNECT in time.
    TimedOut,
    /// The client did what it must not do.
    Fault(Fault),
    /// CONNECT was refused; the CONNACK said so.
    Refused(ReasonCode),
    /// Another connection uses the same Client Identifier.
    TakenOver,
    /// The client has lost the right to be here.
    Administrative,
    /// The broker has as much memory as it may have.
    OutOfMemory,
    /// The broker stops.
    ShuttingDown,
}

impl Ending<'_> {
    /// What a client of 5.0 is told; `None` where nobody listens any more, or was told already [MQTT-3.14.2-1].
    fn reason_code(self) -> Option<ReasonCode> {
        match self {
            Ending::Disconnect
            | Ending::ClosedByClient
            | Ending::SocketError(_)
            | Ending::Refused(_) => None,
            Ending::TimedOut => Some(ReasonCode::KeepAliveTimeout),
            Ending::Fault(fault) => Some(fault.reason_code),
            Ending::TakenOver => Some(ReasonCode::SessionTakenOver),
            Ending::Administrative => Some(ReasonCode::AdministrativeAction),
            Ending::OutOfMemory => Some(ReasonCode::QuotaExceeded),
            Ending::ShuttingDown => Some(ReasonCode::ServerShuttingDown),
        }
    }

    /// How the log goes on after "disconnected"; empty for a normal end.
    fn text(&self) -> &str {
        match self {
            Ending::Disconnect => "",
            Ending::ClosedByClient => "connection closed by client",
            Ending::SocketError(text) => text,
            Ending::TimedOut => "exceeded timeout",
            Ending::Fault(Fault { reason_code, .. }) | Ending::Refused(reason_code) => {
                log_text(*reason_code)
            }
            Ending::TakenOver => "session taken over",
            Ending::Administrative => "administrative action",
            Ending::OutOfMemory => "out of memory",
            Ending::ShuttingDown => "server shutting down",
        }
    }
}

/// The words that Mosquitto's log has for a reason; people search for them.
fn log_text(reason_code: ReasonCode) -> &'static str {
    match reason_code {
        ReasonCode::MalformedPacket => "malformed packet",
        ReasonCode::ProtocolError => "protocol error",
        ReasonCode::NotAuthorized => "not authorised",
        ReasonCode::PacketTooLarge => "oversize packet",
        ReasonCode::ReceiveMaximumExceeded => "receive maximum exceeded",
        ReasonCode::TopicAliasInvalid => "topic alias invalid",
        ReasonCode::ClientIdentifierNotValid => "client identifier not valid",
        ReasonCode::BadUserNameOrPassword => "bad username or password",
        ReasonCode::BadAuthenticationMethod => "bad authentication method",
        ReasonCode::ServerBusy => "server busy",
        ReasonCode::UnsupportedProtocolVersion => "unsupported protocol version",
        ReasonCode::RetainNotSupported => "used disallowed feature (retain not supported)",
        ReasonCode::QoSNotSupported => "used disallowed feature (QoS not supported)",
        ReasonCode::UnspecifiedError => "unspecified error",
        other => other.text(),
    }
}

/// How long a client that we do not read, since its answers wait, has to take some of them. Its pings wait unread, and
/// what it reads from the kernel's buffers, megabytes at times, is not seen here until the kernel takes more.
const CONGESTED_PATIENCE: Duration = Duration::from_secs(300);

impl Broker {
    /// The socket of `connection` is gone.
    pub fn detach(&mut self, connection: ConnectionKey, ending: Ending<'_>, now: Time) {
        if let Some(key) = self.clients.by_connection(connection) {
            self.end_link(key, ending, now);
        }
    }

    /// DISCONNECT (3.14): the normal end; the will is forgotten [MQTT-3.1.2-10] unless the client asks for it.
    pub(super) fn disconnect(
        &mut self,
        key: ClientKey,
        disconnect: Disconnect<'_>,
        now: Time,
    ) -> Result<(), Fault> {
        log::debug!(
            "Received DISCONNECT from {}",
            self.clients[key].session.client_id
        );
        let session = &mut self.clients[key].session;
        for property in disconnect.properties.iter() {
            let Property::SessionExpiryInterval(seconds) = property else {
                continue;
            };
            if seconds > 0 && session.expiry == SessionExpiry::WithConnection {
                // 3.14.2.2.2
                return Err(Fault::protocol(
                    "session expiry set on DISCONNECT but not on CONNECT",
                ));
            }
            session.expiry = SessionExpiry::from_seconds(seconds)
                .at_most(self.config.persistent_client_expiration);
        }
        if disconnect.reason_code == ReasonCode::Success {
            session.will = None; // [MQTT-3.14.4-3]
        }
        self.end_link(key, Ending::Disconnect, now);
        Ok(())
    }

    /// Ends the connection in `key`: last words, log, and what its session does without it.
    pub(super) fn end_link(&mut self, key: ClientKey, ending: Ending<'_>, now: Time) {
        let is_connected = self.clients[key].is_connected();
        let reason_code = ending.reason_code().filter(|_| is_connected); // [MQTT-3.14.0-1]
        if let Some(reason_code) = reason_code {
            self.send_disconnect(key, reason_code);
        }
        self.log_ending(key, ending);
        let Some(mut link) = self.clients.detach(key) else {
            // [MQTT-3.14.4-1]
            return;
        };
        if let Some(timer) = link.timer.take() {
            self.timers.cancel(timer);
        }
        if matches!(link.password, Password::Waits) {
            self.waiting.forget(link.connection);
        }
        let clients = &self.clients;
        self.output.gate.abandon(link.held, |connection| {
            clients.by_connection(connection).is_some()
        });
        let mut outbox = std::mem::take(&mut link.outbox);
        if link.is_held {
            // CONNACK would be the first packet of it, and what it confirms is not stored.
            outbox.clear(&mut self.output.buffers);
        }
        self.output.closing.push(Farewell {
            // [MQTT-3.14.4-2], [MQTT-4.13.2-1]
            connection: link.connection,
            outbox,
        });
        match is_connected {
            true => self.leave_session(key, now),
            false => {
                self.clients.remove(key);
            }
        }
    }

    fn send_disconnect(&mut self, key: ClientKey, reason_code: ReasonCode) {
        let client = &mut self.clients[key];
        let Some(link) = client.link.as_mut().filter(|link| link.is_v5()) else {
            return;
        };
        let (name, code) = (&client.session.client_id, reason_code as u8);
        log::debug!("Sending DISCONNECT to {name} (rc{code})");
        link.answer(&mut self.output, |out| {
            Disconnect {
                reason_code,
                properties: Properties::NONE, // [MQTT-3.14.2-2]
            }
            .encode(ProtocolVersion::V5, out);
        });
    }

    fn log_ending(&self, key: ClientKey, ending: Ending<'_>) {
        let client = &self.clients[key];
        let Some(link) = &client.link else {
            return;
        };
        if let Ending::Fault(fault) = ending
            && client.is_connected()
        {
            // The line below is Mosquitto's; this one says what it was.
            let what = fault.what;
            log::info!(target: INFORMATION, "Protocol error from {}: {what}.", link.peer);
        }
        if !self.config.connection_messages {
            return;
        }
        let (name, peer) = (client.name(), link.peer);
        match ending.text() {
            "" => log::info!(target: NOTICE, "Client {name} [{peer}] disconnected."),
            text => log::info!(target: NOTICE, "Client {name} [{peer}] disconnected: {text}."),
        }
    }

    /// The session in `key` has lost its connection: it ends, or waits.
    fn leave_session(&mut self, key: ClientKey, now: Time) {
        let session = &mut self.clients[key].session;
        let expiry = session.expiry;
        if expiry == SessionExpiry::WithConnection {
            // [MQTT-3.1.2-23]
            return self.end_session(key, now);
        }
        if let SessionExpiry::After(duration) = expiry {
            session.ends = Some(now + duration);
        }
        session.will_due = session.will.as_ref().map(|will| now + will.delay);
        session.shrink();
        if session.row.is_some() {
            self.output.journal.session_changed(key);
        }
        if session.will_due.is_some_and(|due| due <= now) {
            self.publish_will(key, now);
        }
        self.set_session_timer(key);
    }

    /// Ends the session in `key`, which has no connection [MQTT-4.1.0-1]. Its will, however long delayed, is due now
    /// [MQTT-3.1.3-9].
    pub(super) fn end_session(&mut self, key: ClientKey, now: Time) {
        self.cancel_session_timer(key);
        self.publish_will(key, now);
        if self.clients[key].session.subscriptions.len() > self.leave_piece {
            self.clients.leave(key);
            self.subscriptions.rights_changed();
            self.leaving.push(key);
            return;
        }
        let session = self.clients.remove(key);
        for &place in &session.subscriptions {
            self.subscriptions.remove(place, key.0);
        }
    }

    /// Removes a part of the subscriptions that are left of sessions which ended: with a hundred thousand of them it would
    /// take a tenth of a second at once.
    pub(super) fn remove_left(&mut self) {
        let Some(&key) = self.leaving.last() else {
            return;
        };
        for _ in 0..self.leave_piece {
            let Some(place) = self.clients[key].session.subscriptions.pop_last() else {
                break;
            };
            self.subscriptions.remove(place, key.0);
        }
        if self.clients[key].session.subscriptions.is_empty() {
            self.clients.left(key);
            self.leaving.pop();
        }
    }

    pub(super) fn set_session_timer(&mut self, key: ClientKey) {
        self.cancel_session_timer(key);
        let session = &mut self.clients[key].session;
        let due = [session.will_due, session.ends].into_iter().flatten().min();
        session.timer = due.map(|due| self.timers.insert(due, Timer::Session(key)));
    }

    pub(super) fn cancel_session_timer(&mut self, key: ClientKey) {
        if let Some(timer) = self.clients[key].session.timer.take() {
            self.timers.cancel(timer);
        }
    }

    /// The timer of a session without a connection: its will is due, or its end.
    pub(super) fn session_due(&mut self, key: ClientKey, now: Time) {
        let session = &mut self.clients[key].session;
        session.timer = None;
        if session.ends.is_some_and(|ends| ends <= now) {
            // [MQTT-4.1.0-2]
            self.output.statistics.clients_expired += 1;
            if self.config.connection_messages {
                let name = &session.client_id;
                log::info!(target: NOTICE, "Expiring client {name} due to timeout.");
            }
            return self.end_session(key, now);
        }
        if session.will_due.is_some_and(|due| due <= now) {
            self.publish_will(key, now);
        }
        self.set_session_timer(key);
    }

    /// The timer of a connection: no CONNECT came in time, or perhaps nothing for too long. Packets do not touch the
    /// timer, so it looks whether there was one and waits on.
    pub(super) fn link_due(&mut self, key: ClientKey, now: Time) {
        let Some(link) = &mut self.clients[key].link else {
            return;
        };
        link.timer = None;
        if matches!(link.password, Password::Waits) {
            // That it takes long is our doing.
            link.timer = Some(self.timers.insert(now + CONNECT_TIMEOUT, Timer::Link(key)));
            return;
        }
        if link.version.is_some() {
            let mut due = link.last_packet + patience(link.keep_alive);
            if link.is_congested() {
                due = due.max(link.last_packet + CONGESTED_PATIENCE);
            }
            if due > now {
                link.timer = Some(self.timers.insert(due, Timer::Link(key)));
                return;
            }
        }
        self.end_link(key, Ending::TimedOut, now);
    }

    /// The broker stops: wills are said while everybody can still hear them, those that were delayed too, and then
    /// everybody is told. Where sessions survive, a delayed will waits on with its session.
    pub fn shut_down(&mut self, now: Time) {
        let clients: Vec<ClientKey> = self.clients.iter().map(|(key, _)| key).collect();
        for &key in &clients {
            let session = &self.clients[key].session;
            let is_delayed = |will: &Will| !will.delay.is_zero();
            let survives = session.row.is_some() && session.expiry != SessionExpiry::WithConnection;
            if !survives || !session.will.as_deref().is_some_and(is_delayed) {
                // Nobody is there after the commit that could hear it.
                self.say_will(key, false, now);
            }
        }
        for key in clients {
            if self
                .clients
                .get(key)
                .is_some_and(|client| client.link.is_some())
            {
                self.end_link(key, Ending::ShuttingDown, now);
            }
        }
    }
}

/// So many subscriptions are removed in about a millisecond.
pub(super) const LEAVE_PIECE: usize = 1000;

/// One and a half times the Keep Alive [MQTT-3.1.2-22].
pub(super) fn patience(keep_alive: u16) -> Duration {
    Duration::from_millis(1500 * u64::from(keep_alive))
}
