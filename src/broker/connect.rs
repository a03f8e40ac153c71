//! CONNECT, AUTH and DISCONNECT: how a session begins, is resumed, taken over, and ends.
//!
//! 1. A connection has one CONNECT [MQTT-3.1.0-2], and before it nothing [MQTT-3.1.0-1].
//! 2. One connection per Client Identifier: the older one is told 0x8E and closed [MQTT-3.1.4-3].
//! 3. A connection that ends is taken out of its slot at once; its last bytes go to [`Output::closing`].
//!
//! [`Output::closing`]: super::deliver::Output

use super::client::{ClientKey, Link, Peer};
use super::deliver::{Farewell, begin_resending};
use super::session::SessionExpiry;
use super::timers::Time;
use super::{Broker, Fault, Timer};
use crate::buffer::ConnectionKey;
use crate::config::log_target::{INFORMATION, NOTICE};
use crate::mqtt::connect::UnsupportedVersion;
use crate::mqtt::{
    Connack, Connect, DecodeError, Disconnect, Properties, Property, PropertyBuffer,
    ProtocolVersion, QoS, ReasonCode, TLS_HANDSHAKE,
};
use std::num::NonZeroU32;
use std::time::Duration;

/// How long a connection may take until its CONNECT is there. Mosquitto grants 90 seconds; slow links need far less, and
/// who connects only to hold a slot should not get more.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

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
    /// The broker stops.
    ShuttingDown,
}

impl Ending<'_> {
    /// What a client of 5.0 is told; `None` where nobody listens any more, or was told already.
    fn reason_code(self) -> Option<ReasonCode> {
        match self {
            Ending::Disconnect
            | Ending::ClosedByClient
            | Ending::SocketError(_)
            | Ending::Refused(_) => None,
            Ending::TimedOut => Some(ReasonCode::KeepAliveTimeout),
            Ending::Fault(fault) => Some(fault.reason_code),
            Ending::TakenOver => Some(ReasonCode::SessionTakenOver),
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

/// What the properties of a CONNECT ask for (3.1.2.11), with the values that stand for what is not there.
struct Requested {
    session_expiry_seconds: u32,
    receive_maximum: u16,
    packet_bytes_max: Option<NonZeroU32>,
    topic_alias_maximum: u16,
    has_method: bool,
    has_data: bool,
}

impl Requested {
    fn read(properties: Properties<'_>) -> Requested {
        let mut requested = Requested {
            session_expiry_seconds: 0,
            receive_maximum: u16::MAX,
            packet_bytes_max: None,
            topic_alias_maximum: 0,
            has_method: false,
            has_data: false,
        };
        for property in properties.iter() {
            match property {
                Property::SessionExpiryInterval(seconds) => {
                    requested.session_expiry_seconds = seconds;
                }
                Property::ReceiveMaximum(maximum) => requested.receive_maximum = maximum,
                Property::MaximumPacketSize(bytes) => {
                    requested.packet_bytes_max = NonZeroU32::new(bytes);
                }
                Property::TopicAliasMaximum(maximum) => requested.topic_alias_maximum = maximum,
                Property::AuthenticationMethod(_) => requested.has_method = true,
                Property::AuthenticationData(_) => requested.has_data = true,
                // We never send Response Information, nor Reason Strings: both requests are met by that.
                _ => {}
            }
        }
        requested
    }
}

impl Broker {
    /// A connection was accepted.
    pub fn attach(&mut self, connection: ConnectionKey, peer: Peer, now: Time) {
        let key = self.clients.attach(Link::new(connection, peer, now));
        let timer = self.timers.insert(now + CONNECT_TIMEOUT, Timer::Link(key));
        if let Some(link) = &mut self.clients[key].link {
            link.timer = Some(timer);
        }
        if self.config.connection_messages {
            let port = self.listener_of(key).port;
            log::info!(target: NOTICE, "New connection from {peer} on port {port}.");
        }
    }

    /// The socket of `connection` is gone.
    pub fn detach(&mut self, connection: ConnectionKey, ending: Ending<'_>, now: Time) {
        if let Some(key) = self.clients.by_connection(connection) {
            self.end_link(key, ending, now);
        }
    }

    /// What came on `connection` is not a packet.
    pub fn reject(&mut self, connection: ConnectionKey, error: DecodeError, now: Time) {
        let Some(key) = self.clients.by_connection(connection) else {
            return;
        };
        if let Some(link) = &self.clients[key].link {
            log_reject(&link.peer, error);
        }
        if self.clients[key].is_connected() {
            return self.end_link(key, Ending::Fault(Fault::from(error)), now);
        }
        match error {
            DecodeError::UnsupportedVersion(UnsupportedVersion::Level) => {
                let version = ProtocolVersion::V5;
                self.refuse_connect(key, version, ReasonCode::UnsupportedProtocolVersion, now);
            }
            DecodeError::UnsupportedVersion(UnsupportedVersion::Mixed) => {
                let version = ProtocolVersion::V311;
                self.refuse_connect(key, version, ReasonCode::UnsupportedProtocolVersion, now);
            }
            DecodeError::Connect(reason_code, _) => {
                self.refuse_connect(key, ProtocolVersion::V5, reason_code, now);
            }
            _ => self.end_link(key, Ending::Fault(Fault::from(error)), now),
        }
    }

    /// CONNECT (3.1).
    pub(super) fn connect(
        &mut self,
        key: ClientKey,
        connect: Connect<'_>,
        now: Time,
    ) -> Result<(), Fault> {
        if self.clients[key].is_connected() {
            return Err(Fault::protocol("second CONNECT")); // [MQTT-3.1.0-2]
        }
        self.output.statistics.connections += 1;
        let requested = Requested::read(connect.properties);
        if let Err(reason_code) = self.check_connect(key, &connect, &requested) {
            self.refuse_connect(key, connect.version, reason_code, now);
            return Ok(());
        }
        let assigned = connect
            .client_id
            .is_empty()
            .then(|| self.assign_client_id(key));
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let (key, session_present) = self.begin_session(key, client_id, connect.clean_start, now);
        self.accept(
            key,
            &connect,
            &requested,
            assigned.as_deref(),
            session_present,
            now,
        );
        Ok(())
    }

    /// Everything that may refuse a CONNECT, before anything is changed.
    fn check_connect(
        &self,
        key: ClientKey,
        connect: &Connect<'_>,
        requested: &Requested,
    ) -> Result<(), ReasonCode> {
        let listener = self.listener_of(key);
        if requested.has_method {
            return Err(ReasonCode::BadAuthenticationMethod);
        }
        if requested.has_data {
            return Err(ReasonCode::ProtocolError); // 3.1.2.11.10
        }
        if connect.client_id.is_empty() {
            match connect.version {
                ProtocolVersion::V31 => return Err(ReasonCode::ClientIdentifierNotValid),
                // [MQTT-3.1.3-8] of 3.1.1
                ProtocolVersion::V311
                    if !connect.clean_start || !listener.allow_zero_length_client_id =>
                {
                    return Err(ReasonCode::ClientIdentifierNotValid);
                }
                ProtocolVersion::V5 if !listener.allow_zero_length_client_id => {
                    return Err(ReasonCode::UnspecifiedError);
                }
                ProtocolVersion::V311 | ProtocolVersion::V5 => {}
            }
        }
        // Passwords cannot be verified yet: only an open door lets anybody in, and nobody under a name that a password
        // file is there to protect.
        let claims_name = listener.password_file.is_some() && connect.user_name.is_some();
        if !listener.allow_anonymous || claims_name {
            return Err(ReasonCode::NotAuthorized);
        }
        if !connect.version.is_v5() && self.exceeds_keep_alive(connect.keep_alive) {
            return Err(ReasonCode::ClientIdentifierNotValid); // Mosquitto's word for it
        }
        if let Some(will) = &connect.will {
            self.check_will(key, connect, will)?;
        }
        let is_known = self.clients.find(connect.client_id).is_some();
        let limit = self.config.global_max_clients;
        if !is_known && limit.is_some_and(|max| self.clients.named() >= max.get()) {
            return Err(ReasonCode::ServerBusy);
        }
        Ok(())
    }

    fn check_will(
        &self,
        key: ClientKey,
        connect: &Connect<'_>,
        will: &crate::mqtt::Will<'_>,
    ) -> Result<(), ReasonCode> {
        if will.qos as u8 > self.listener_of(key).max_qos {
            return Err(ReasonCode::QoSNotSupported); // [MQTT-3.2.2-12]
        }
        if will.retain && !self.config.retain_available {
            return Err(ReasonCode::RetainNotSupported); // [MQTT-3.2.2-13]
        }
        if will.topic.starts_with("$CONTROL/") {
            return Err(ReasonCode::NotAuthorized);
        }
        let limit = self.config.message_size_limit;
        if limit.is_some_and(|limit| will.payload.len() > limit.get() as usize) {
            return Err(match connect.version.is_v5() {
                true => ReasonCode::PacketTooLarge,
                false => ReasonCode::NotAuthorized,
            });
        }
        Ok(())
    }

    fn exceeds_keep_alive(&self, keep_alive: u16) -> bool {
        self.config
            .max_keep_alive
            .is_some_and(|max| keep_alive == 0 || keep_alive > max.get())
    }

    fn assign_client_id(&mut self, key: ClientKey) -> String {
        loop {
            let (high, low) = ((self.random)(), (self.random)());
            let client_id = format!(
                "{}{:08X}-{:04X}-{:04X}-{:04X}-{:012X}",
                self.listener_of(key).auto_id_prefix,
                high >> 32,
                high >> 16 & 0xFFFF,
                // The version and variant bits of a random UUID (RFC 9562, 5.4).
                high & 0x0FFF | 0x4000,
                low >> 48 & 0x3FFF | 0x8000,
                low & 0xFFFF_FFFF_FFFF,
            );
            if self.clients.find(&client_id).is_none() {
                return client_id;
            }
        }
    }

    /// Finds or makes the session of `client_id` for the connection in `key`: the slot where both are now, and whether the
    /// session was there before.
    fn begin_session(
        &mut self,
        key: ClientKey,
        client_id: &str,
        clean_start: bool,
        now: Time,
    ) -> (ClientKey, bool) {
        let Some(old) = self.clients.find(client_id) else {
            self.clients.name(key, client_id);
            return (key, false);
        };
        if clean_start {
            // [MQTT-3.1.2-4]: the session ends, and with it whatever still waited for its end.
            if self.clients[old].link.is_some() {
                self.clients[old].session.expiry = SessionExpiry::WithConnection;
                self.end_link(old, Ending::TakenOver, now);
            } else {
                self.end_session(old, now);
            }
            self.clients.name(key, client_id);
            return (key, false);
        }
        if self.clients[old].link.is_some() {
            self.end_link(old, Ending::TakenOver, now);
        }
        // The session may have ended with its connection.
        match self.clients.find(client_id) {
            Some(old) => {
                self.cancel_session_timer(old);
                let session = &mut self.clients[old].session;
                // [MQTT-3.1.3-9]: a new connection before the delay is over keeps the will from being sent.
                (session.will, session.will_due, session.ends) = (None, None, None);
                self.clients.move_link(key, old);
                // The timer of the link knows the slot it fires for.
                if let Some(timer) = self.clients[old].link.as_mut().and_then(|l| l.timer.take()) {
                    self.timers.cancel(timer);
                }
                (old, true)
            }
            None => {
                self.clients.name(key, client_id);
                (key, false)
            }
        }
    }

    /// Puts what CONNECT says in force, answers it [MQTT-3.2.0-1], and goes on where the session was.
    fn accept(
        &mut self,
        key: ClientKey,
        connect: &Connect<'_>,
        requested: &Requested,
        assigned: Option<&str>,
        session_present: bool,
        now: Time,
    ) {
        let listener = self.listener_of(key);
        let (alias_maximum, max_qos) = (listener.max_topic_alias_broker, listener.max_qos);
        let max_topic_alias = listener.max_topic_alias;
        let will = connect
            .will
            .as_ref()
            .map(|will| Box::new(self.will_of(will)));
        let expiry = match (connect.version.is_v5(), connect.clean_start) {
            (true, _) => SessionExpiry::from_seconds(requested.session_expiry_seconds),
            (false, true) => SessionExpiry::WithConnection,
            (false, false) => SessionExpiry::Never,
        };
        let server_keep_alive = match connect.version.is_v5() {
            true => self
                .config
                .max_keep_alive
                .filter(|_| self.exceeds_keep_alive(connect.keep_alive)),
            false => None,
        };
        let keep_alive = server_keep_alive.map_or(connect.keep_alive, |max| max.get());
        let in_force = expiry.at_most(self.config.persistent_client_expiration);
        let client = &mut self.clients[key];
        client.session.expiry = in_force;
        client.session.will = will;
        for received in client.session.received.values_mut() {
            received.repeats = 0;
        }
        let link = client.link.as_mut().expect("CONNECT came on a link");
        link.version = Some(connect.version);
        link.is_bridge = connect.is_bridge;
        link.keep_alive = keep_alive;
        link.packet_bytes_max = requested.packet_bytes_max;
        link.window = requested.receive_maximum;
        link.alias_maximum = match connect.version.is_v5() {
            true => requested.topic_alias_maximum.min(alias_maximum),
            false => 0,
        };
        if let Some(timer) = link.timer.take() {
            self.timers.cancel(timer);
        }
        if keep_alive > 0 {
            link.timer = Some(
                self.timers
                    .insert(now + patience(keep_alive), Timer::Link(key)),
            );
        }

        let mut properties = PropertyBuffer::new();
        if connect.version.is_v5() {
            if in_force != expiry {
                let seconds = in_force.as_seconds();
                properties.push(Property::SessionExpiryInterval(seconds)); // 3.2.2.3.2
            }
            if let Some(max) = server_keep_alive {
                properties.push(Property::ServerKeepAlive(max.get())); // [MQTT-3.2.2-21]
            }
            if max_topic_alias > 0 {
                properties.push(Property::TopicAliasMaximum(max_topic_alias));
            }
            if let Some(client_id) = assigned {
                properties.push(Property::AssignedClientIdentifier(client_id)); // [MQTT-3.2.2-16]
            }
            if !self.config.retain_available {
                properties.push(Property::RetainAvailable(0));
            }
            properties.push(Property::MaximumPacketSize(self.config.max_packet_size));
            if let Some(max) = self.config.max_inflight_messages {
                properties.push(Property::ReceiveMaximum(max.get()));
            }
            if max_qos < QoS::ExactlyOnce as u8 {
                properties.push(Property::MaximumQoS(max_qos));
            }
        }
        self.log_connected(key, connect);
        // 3.1 has no Session Present.
        let session_present = session_present && connect.version != ProtocolVersion::V31;
        self.send_connack(
            key,
            connect.version,
            session_present,
            0,
            properties.as_properties(),
        );
        let clients_now = self.clients.named() as u64;
        let maximum = &mut self.output.statistics.clients_maximum;
        *maximum = clients_now.max(*maximum);

        let client = &mut self.clients[key];
        if let Some(link) = &mut client.link {
            begin_resending(&mut client.session, link, &mut self.output, now);
        }
        self.pump(key, now);
    }

    fn log_connected(&self, key: ClientKey, connect: &Connect<'_>) {
        let client = &self.clients[key];
        let Some(link) = &client.link else {
            return;
        };
        if self.config.connection_messages {
            let kind = if link.is_bridge { "bridge" } else { "client" };
            let (peer, name) = (link.peer, &client.session.client_id);
            let (version, clean) = (connect.version as u8, u8::from(connect.clean_start));
            let keep_alive = link.keep_alive;
            let user_name = connect
                .user_name
                .map(|name| format!(", u'{name}'"))
                .unwrap_or_default();
            log::info!(
                target: NOTICE,
                "New {kind} connected from {peer} as {name} \
                 (p{version}, c{clean}, k{keep_alive}{user_name})."
            );
        }
        match &connect.will {
            Some(will) => {
                let (bytes, retain, qos) =
                    (will.payload.len(), u8::from(will.retain), will.qos as u8);
                log::debug!("Will message specified ({bytes} bytes) (r{retain}, q{qos}).");
                log::debug!("\t{}", will.topic);
            }
            None => log::debug!("No will message specified."),
        }
    }

    fn send_connack(
        &mut self,
        key: ClientKey,
        version: ProtocolVersion,
        session_present: bool,
        code: u8,
        properties: Properties<'_>,
    ) {
        let client = &mut self.clients[key];
        log::debug!(
            "Sending CONNACK to {} ({}, {code})",
            client.name(),
            u8::from(session_present)
        );
        if let Some(link) = &mut client.link {
            link.answer(&mut self.output, |out| {
                Connack {
                    session_present,
                    code,
                    properties,
                }
                .encode(version, out);
            });
        }
    }

    /// Answers a CONNECT that is not accepted, in the words of its version, and closes [MQTT-3.1.4-2].
    fn refuse_connect(
        &mut self,
        key: ClientKey,
        version: ProtocolVersion,
        reason_code: ReasonCode,
        now: Time,
    ) {
        let code = match version {
            ProtocolVersion::V5 => Some(reason_code as u8),
            ProtocolVersion::V31 | ProtocolVersion::V311 => reason_code.connect_return_code(),
        };
        if let Some(code) = code {
            // [MQTT-3.2.2-6]
            self.send_connack(key, version, false, code, Properties::NONE);
        }
        self.end_link(key, Ending::Refused(reason_code), now);
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
        let reason_code = ending.reason_code().filter(|_| is_connected);
        if let Some(reason_code) = reason_code {
            self.send_disconnect(key, reason_code);
        }
        self.log_ending(key, ending);
        let Some(mut link) = self.clients.detach(key) else {
            return;
        };
        if let Some(timer) = link.timer.take() {
            self.timers.cancel(timer);
        }
        let outbox = std::mem::take(&mut link.outbox);
        self.output.closing.push(Farewell {
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
                properties: Properties::NONE,
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
            return self.end_session(key, now);
        }
        if let SessionExpiry::After(duration) = expiry {
            session.ends = Some(now + duration);
        }
        session.will_due = session.will.as_ref().map(|will| now + will.delay);
        session.shrink();
        if session.will_due.is_some_and(|due| due <= now) {
            self.publish_will(key, now);
        }
        self.set_session_timer(key);
    }

    /// Ends the session in `key`, which has no connection. Its will, however long delayed, is due now [MQTT-3.1.3-9].
    pub(super) fn end_session(&mut self, key: ClientKey, now: Time) {
        self.cancel_session_timer(key);
        self.publish_will(key, now);
        let session = self.clients.remove(key);
        for &place in &session.subscriptions {
            self.subscriptions.remove(place, key.0);
        }
    }

    fn set_session_timer(&mut self, key: ClientKey) {
        self.cancel_session_timer(key);
        let session = &mut self.clients[key].session;
        let due = [session.will_due, session.ends].into_iter().flatten().min();
        session.timer = due.map(|due| self.timers.insert(due, Timer::Session(key)));
    }

    fn cancel_session_timer(&mut self, key: ClientKey) {
        if let Some(timer) = self.clients[key].session.timer.take() {
            self.timers.cancel(timer);
        }
    }

    /// The timer of a session without a connection: its will is due, or its end.
    pub(super) fn session_due(&mut self, key: ClientKey, now: Time) {
        let session = &mut self.clients[key].session;
        session.timer = None;
        if session.ends.is_some_and(|ends| ends <= now) {
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
        if link.version.is_some() {
            let due = link.last_packet + patience(link.keep_alive);
            if due > now {
                link.timer = Some(self.timers.insert(due, Timer::Link(key)));
                return;
            }
        }
        self.end_link(key, Ending::TimedOut, now);
    }

    /// The broker stops: wills are said while everybody can still hear them, those that were delayed too, and then
    /// everybody is told.
    pub fn shut_down(&mut self, now: Time) {
        let clients: Vec<ClientKey> = self.clients.iter().map(|(key, _)| key).collect();
        for &key in &clients {
            self.publish_will(key, now);
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

/// One and a half times the Keep Alive [MQTT-3.1.2-22].
fn patience(keep_alive: u16) -> Duration {
    Duration::from_millis(1500 * u64::from(keep_alive))
}

fn log_reject(peer: &Peer, error: DecodeError) {
    match error {
        DecodeError::NotConnect(TLS_HANDSHAKE) => log::info!(
            target: NOTICE,
            "Client from {peer} appears to be using TLS to connect to a non-TLS listener."
        ),
        DecodeError::NotConnect(byte) => log::info!(
            target: INFORMATION,
            "Protocol error from {peer}: First packet not CONNECT ({byte:02X})."
        ),
        DecodeError::UnsupportedVersion(_) => log::info!(
            target: INFORMATION,
            "Invalid protocol version in CONNECT from {peer}."
        ),
        // Said when the connection is ended.
        _ => {}
    }
}
