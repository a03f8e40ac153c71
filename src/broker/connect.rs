//! CONNECT: how a session begins, is resumed, or is refused.
//!
//! 1. A connection has one CONNECT [MQTT-3.1.0-2], and before it nothing [MQTT-3.1.0-1].
//! 2. One connection per Client Identifier: the older one is told 0x8E and closed [MQTT-3.1.4-3].
//! 3. A CONNECT that is refused changes nothing.

use super::authenticate::Authenticated;
use super::client::{Client, ClientKey, Link, Password, Peer};
use super::ending::{Ending, patience};
use super::principal::{Claim, Principal};
use super::publish::mount_topic;
use super::pump::begin_resending;
use super::session::SessionExpiry;
use super::timers::Time;
use super::{Broker, Fault, Timer};
use crate::buffer::ConnectionKey;
use crate::config::AcceptVersions;
use crate::config::log_target::{INFORMATION, NOTICE};
use crate::mqtt::connect::UnsupportedVersion;
use crate::mqtt::{
    Connack, Connect, DecodeError, Properties, Property, PropertyBuffer, ProtocolVersion, QoS,
    ReasonCode, TLS_HANDSHAKE,
};
use std::num::{NonZeroU16, NonZeroU32};
use std::rc::Rc;
use std::time::Duration;

/// How long a connection may take until its CONNECT is there. Mosquitto grants 90 seconds; slow links need far less, and
/// who connects only to hold a slot should not get more.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// What the properties of a CONNECT ask for (3.1.2.11), with the values that stand for what is not there.
struct Requested {
    session_expiry_seconds: u32,
    receive_maximum: u16,
    packet_bytes_max: Option<NonZeroU32>,
    topic_alias_maximum: u16,
    has_method: bool,
    has_data: bool,
}

/// What came of that, where the server has a say.
#[derive(Clone, Copy)]
struct Agreed {
    expiry: SessionExpiry,
    /// In seconds; 0 for none.
    keep_alive: u16,
    /// Where it is not what the client asked for.
    server_keep_alive: Option<NonZeroU16>,
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
                // We never send Response Information, nor Reason Strings: both requests are met by that
                // [MQTT-3.1.2-28], [MQTT-3.1.2-29].
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
        if self.listener_of(key).proxy_protocol.is_none() {
            // Behind a proxy it is said when the proxy has told where the connection comes from.
            self.log_attached(key);
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
                // [MQTT-3.1.4-1]
                self.refuse_connect(key, ProtocolVersion::V5, reason_code, now);
            }
            // [MQTT-3.1.4-1] of 3.1.1
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
            return Err(Fault::protocol("second CONNECT")); // [MQTT-3.1.0-2], [MQTT-3.2.0-2]
        }
        let requested = Requested::read(connect.properties);
        let checked = self.check_connect(key, &connect, &requested);
        let admitted = match checked.and_then(|()| self.authenticate(key, &connect)) {
            Ok(None) => {
                // Until its password is compared; then it is handled again, and counted.
                self.output.statistics.messages_received -= 1;
                return Ok(());
            }
            Ok(Some(authenticated)) => self.admit(key, &connect, authenticated),
            Err(reason_code) => Err(reason_code),
        };
        self.output.statistics.connections += 1;
        let (principal, assigned) = match admitted {
            Ok(admitted) => admitted,
            Err(reason_code) => {
                let link = self.clients[key].link.as_mut();
                let client_id = Some(connect.client_id).filter(|id| !id.is_empty());
                if let (Some(link), Some(client_id)) = (link, client_id) {
                    link.refused_id = Some(client_id.into());
                }
                self.refuse_connect(key, connect.version, reason_code, now);
                return Ok(());
            }
        };
        let (key, session_present) = self.begin_session(key, principal, connect.clean_start, now);
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
            return Err(ReasonCode::BadAuthenticationMethod); // [MQTT-4.12.0-1]
        }
        if requested.has_data {
            return Err(ReasonCode::ProtocolError); // 3.1.2.11.10
        }
        if !accepts(listener.accept_protocol_versions, connect.version) {
            return Err(ReasonCode::UnsupportedProtocolVersion);
        }
        if connect.client_id.is_empty() && !listener.use_username_as_client_id {
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
        if !connect.version.is_v5() && self.exceeds_keep_alive(connect.keep_alive) {
            return Err(ReasonCode::ClientIdentifierNotValid); // Mosquitto's word for it
        }
        if let Some(will) = &connect.will {
            self.check_will(key, connect, will)?;
        }
        Ok(())
    }

    /// What may refuse a CONNECT once it is known who it comes from: their principal, and the Client Identifier if it
    /// was made for them.
    fn admit(
        &mut self,
        key: ClientKey,
        connect: &Connect<'_>,
        authenticated: Authenticated,
    ) -> Result<(Principal, Option<String>), ReasonCode> {
        let Authenticated { user_name, proof } = authenticated;
        let listener = self.listener_of(key);
        let assigned = match (listener.use_username_as_client_id, &user_name) {
            (true, Some(name)) if connect.client_id.is_empty() => Some(name.to_string()),
            (true, Some(_)) => None,
            (true, None) => return Err(ReasonCode::NotAuthorized),
            // [MQTT-3.1.3-6]
            (false, _) if connect.client_id.is_empty() => Some(self.assign_client_id(key)),
            (false, _) => None,
        };
        let client_id = match (self.listener_of(key).use_username_as_client_id, &user_name) {
            (true, Some(name)) => name,
            _ => assigned.as_deref().unwrap_or(connect.client_id), // [MQTT-3.1.3-7]
        };
        let prefix = self.config.client_id_prefix.as_deref().unwrap_or("");
        if !client_id.starts_with(prefix) {
            return Err(ReasonCode::NotAuthorized);
        }
        let index = self.clients[key]
            .link
            .as_ref()
            .map(|link| link.peer.listener);
        let index = index.expect("CONNECT came on a link");
        if let Some(name) = &user_name
            && !self.authority.auth().admits(index, name, client_id)
        {
            return Err(ReasonCode::NotAuthorized);
        }
        let (authority, client_id) = (&self.authority, Rc::from(client_id));
        let principal = Principal::new(authority, &client_id, user_name, proof, index);
        match self.clients.find(&client_id) {
            Some(old) => {
                if self.claim_to(old, &principal) == Claim::Refused {
                    self.log_foreign_session(key, old, &principal);
                    return Err(ReasonCode::ClientIdentifierNotValid);
                }
            }
            None if self.is_out_of_memory => return Err(ReasonCode::ServerBusy),
            None => {
                let limit = self.config.global_max_clients;
                if limit.is_some_and(|max| self.clients.named() >= max.get()) {
                    return Err(ReasonCode::ServerBusy);
                }
            }
        }
        Ok((principal, assigned))
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
        if let Some(mount) = &self.listener_of(key).mount_point {
            mount_topic(mount, will.topic).map_err(|fault| fault.reason_code)?;
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

    /// Finds or makes the session of `principal` for the connection in `key`: the slot where both are now, and whether the
    /// session was there before [MQTT-3.2.2-2], [MQTT-3.2.2-3].
    fn begin_session(
        &mut self,
        key: ClientKey,
        principal: Principal,
        clean_start: bool,
        now: Time,
    ) -> (ClientKey, bool) {
        let old = self.clients.find(&principal.client_id);
        let is_discarded =
            old.is_some_and(|old| self.claim_to(old, &principal) == Claim::Discarded);
        let (key, session_present) =
            self.find_session(key, &principal.client_id, clean_start || is_discarded, now);
        let session = &mut self.clients[key].session;
        session.principal = Some(Rc::new(principal));
        if session_present && self.restricts {
            self.rights_of_session_changed(key);
        }
        (key, session_present)
    }

    /// What becomes of the session in `old` when `principal` comes under its Client Identifier. One that ends with its
    /// connection has nothing to protect: there whoever comes takes over, as in Mosquitto.
    fn claim_to(&self, old: ClientKey, principal: &Principal) -> Claim {
        let session = &self.clients[old].session;
        match &session.principal {
            Some(owner) if session.expiry != SessionExpiry::WithConnection => {
                owner.session_for(principal)
            }
            _ => Claim::Resumed,
        }
    }

    fn log_foreign_session(&self, key: ClientKey, old: ClientKey, principal: &Principal) {
        let owner = self.clients[old].session.principal.as_ref();
        let owner = owner.and_then(|owner| owner.user_name.as_deref());
        let (name, owner) = (&principal.client_id, owner.unwrap_or_default());
        let who = match &principal.user_name {
            Some(user_name) => format!("the user '{user_name}'"),
            None => "an anonymous client".to_owned(),
        };
        if let Some(link) = &self.clients[key].link {
            log::info!(
                target: NOTICE,
                "Client {name} from {} is refused: it is {who}, and the session of that name belongs to the user \
                 '{owner}', until it expires or that user is removed from the password file.",
                link.peer
            );
        }
    }

    fn find_session(
        &mut self,
        key: ClientKey,
        client_id: &Rc<str>,
        clean_start: bool,
        now: Time,
    ) -> (ClientKey, bool) {
        let Some(old) = self.clients.find(client_id) else {
            // [MQTT-3.1.2-6]
            self.clients.name(key, client_id);
            if self.output.journal.ends_sessions() {
                // It may have been this one, and would be there again after a crash.
                self.output.journal.find_done();
            }
            return (key, false);
        };
        if clean_start {
            // [MQTT-3.1.2-4]: the session ends, and with it whatever still waited for its end.
            if self.clients[old].link.is_some() {
                self.clients[old].session.expiry = SessionExpiry::WithConnection; // [MQTT-3.1.4-4]
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
                (old, true) // [MQTT-3.1.2-5]
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
        let agreed = self.agree(connect, requested);
        self.put_in_force(key, connect, requested, agreed, now);
        self.log_connected(key, connect);
        let properties = match connect.version.is_v5() {
            true => self.connack_properties(key, agreed, requested, assigned),
            false => PropertyBuffer::new(),
        };
        // 3.1 has no Session Present.
        let session_present = session_present && connect.version != ProtocolVersion::V31;
        let properties = properties.as_properties();
        self.send_connack(key, connect.version, session_present, 0, properties); // [MQTT-3.1.4-5]
        let maximum = &mut self.output.statistics.clients_maximum;
        *maximum = (*maximum).max(self.clients.named() as u64);
        let client = &mut self.clients[key];
        if let Some(link) = &mut client.link {
            link.hold_connack(&client.session, &mut self.output);
            begin_resending(&mut client.session, link, &mut self.output, now);
        }
        self.pump(key, now);
    }

    /// What the server makes of what the client asked for.
    fn agree(&self, connect: &Connect<'_>, requested: &Requested) -> Agreed {
        let expiry = match (connect.version.is_v5(), connect.clean_start) {
            (true, _) => SessionExpiry::from_seconds(requested.session_expiry_seconds),
            (false, true) => SessionExpiry::WithConnection,
            (false, false) => SessionExpiry::Never,
        };
        let exceeds = connect.version.is_v5() && self.exceeds_keep_alive(connect.keep_alive);
        let server_keep_alive = self.config.max_keep_alive.filter(|_| exceeds);
        Agreed {
            expiry: expiry.at_most(self.config.persistent_client_expiration),
            // [MQTT-3.2.2-22]
            keep_alive: server_keep_alive.map_or(connect.keep_alive, NonZeroU16::get),
            server_keep_alive,
        }
    }

    fn put_in_force(
        &mut self,
        key: ClientKey,
        connect: &Connect<'_>,
        requested: &Requested,
        agreed: Agreed,
        now: Time,
    ) {
        let will = connect
            .will
            .as_ref()
            .map(|will| Box::new(self.will_of(key, will)));
        let alias_maximum = self.listener_of(key).max_topic_alias_broker;
        let mount = self.listener_of(key).mount_point.as_deref().map(Into::into);
        let Client { session, link } = &mut self.clients[key];
        session.expiry = agreed.expiry;
        session.will = will; // [MQTT-3.1.2-7]
        session.received.begin_connection();
        if session.row.is_none() && agreed.expiry != SessionExpiry::WithConnection {
            session.row = self.output.journal.session_row();
        }
        if session.row.is_some() {
            self.output.journal.session_changed(key);
        }
        let link = link.as_mut().expect("CONNECT came on a link");
        link.version = Some(connect.version);
        link.password = Password::NotAsked;
        link.mount = mount;
        link.is_bridge = connect.is_bridge;
        link.keep_alive = agreed.keep_alive;
        link.packet_bytes_max = requested.packet_bytes_max;
        link.window = requested.receive_maximum; // [MQTT-4.9.0-1]
        link.alias_maximum = requested.topic_alias_maximum.min(alias_maximum);
        // From the connect timeout to Keep Alive.
        if let Some(timer) = link.timer.take() {
            self.timers.cancel(timer);
        }
        if agreed.keep_alive > 0 {
            let due = now + patience(agreed.keep_alive);
            link.timer = Some(self.timers.insert(due, Timer::Link(key)));
        }
    }

    /// What a client of 5.0 is told, in Mosquitto's order; never an Authentication Method [MQTT-4.12.0-6].
    fn connack_properties(
        &self,
        key: ClientKey,
        agreed: Agreed,
        requested: &Requested,
        assigned: Option<&str>,
    ) -> PropertyBuffer {
        let (listener, config) = (self.listener_of(key), &self.config);
        let mut properties = PropertyBuffer::new();
        let expiry_seconds = agreed.expiry.as_seconds();
        if expiry_seconds != requested.session_expiry_seconds {
            properties.push(Property::SessionExpiryInterval(expiry_seconds)); // 3.2.2.3.2
        }
        if let Some(seconds) = agreed.server_keep_alive {
            properties.push(Property::ServerKeepAlive(seconds.get())); // [MQTT-3.2.2-21]
        }
        if listener.max_topic_alias > 0 {
            properties.push(Property::TopicAliasMaximum(listener.max_topic_alias));
        }
        if let Some(client_id) = assigned {
            properties.push(Property::AssignedClientIdentifier(client_id)); // [MQTT-3.2.2-16]
        }
        if !config.retain_available {
            properties.push(Property::RetainAvailable(0));
        }
        properties.push(Property::MaximumPacketSize(config.max_packet_size));
        if let Some(max) = config.max_inflight_messages {
            properties.push(Property::ReceiveMaximum(max.get()));
        }
        if listener.max_qos < QoS::ExactlyOnce as u8 {
            properties.push(Property::MaximumQoS(listener.max_qos)); // [MQTT-3.2.2-9]
        }
        properties
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
            let principal = client.session.principal.as_ref();
            let user_name = principal
                .and_then(|principal| principal.user_name.as_ref())
                .map(|name| format!(", u'{name}'"))
                .unwrap_or_default();
            log::info!(
                target: NOTICE,
                "New {kind} connected from {peer} as {name} \
                 (p{version}, c{clean}, k{keep_alive}{user_name})."
            );
            let identity = link.identity.as_ref();
            if let Some(tls) = identity.and_then(|identity| identity.tls.as_ref()) {
                log::info!(target: NOTICE, "Client {name} negotiated {tls}");
            }
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
            ProtocolVersion::V5 => Some(reason_code as u8), // [MQTT-3.2.2-8]
            ProtocolVersion::V31 | ProtocolVersion::V311 => reason_code.connect_return_code(),
        };
        if let Some(code) = code {
            // [MQTT-3.2.2-6]
            self.send_connack(key, version, false, code, Properties::NONE);
        }
        self.end_link(key, Ending::Refused(reason_code), now); // [MQTT-3.1.4-6], [MQTT-3.2.2-7]
    }
}

fn accepts(accepted: AcceptVersions, version: ProtocolVersion) -> bool {
    match version {
        ProtocolVersion::V31 => accepted.v31,
        ProtocolVersion::V311 => accepted.v311,
        ProtocolVersion::V5 => accepted.v5,
    }
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
