//! What the options have said so far, and what it comes to when all of them are read.
//!
//! 1. [`Draft`] remembers what was said, not what it means: a later option may change the meaning of an earlier one.
//! 2. [`Draft::finish`] looks at everything in the order that Mosquitto does, so the first complaint is the same.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::properties::{self, Lists};
use super::{
    Environment, Login, Options, Payload, Proxy, PublishOptions, Route, SubscribeOptions, Target,
    Tool, Will,
};
use crate::config::{ClientTls, TlsVersion};
use crate::mqtt::{Property, PropertyBuffer, ProtocolVersion, QoS, RetainHandling, primitive};

/// The port of MQTT.
pub(super) const PORT: i32 = 1883;
/// The port of MQTT in TLS.
pub(super) const PORT_TLS: i32 = 8883;
/// Mosquitto's Receive Maximum, and its limit of messages on their way.
const INFLIGHT: u16 = 20;
/// What `-x` says for a session that does not end, and the default with `-c` (3.1.2.11.2).
const FOREVER: u32 = u32::MAX;
/// As many digits of a process id as Mosquitto has room for.
const PROCESS_ID_DIGITS: usize = 9;

/// Why the options cannot be followed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// What standard error gets.
    pub text: String,
    /// Whether the line that points to `--help` follows.
    pub hints: bool,
    /// Whether `--quiet` silences the text; never that line.
    pub quiet: bool,
    /// Whether standard output gets the usage.
    pub shows_usage: bool,
}

impl Failure {
    /// One that the line about `--help` follows.
    pub(super) fn new(text: impl Into<String>) -> Failure {
        Failure {
            text: text.into(),
            hints: true,
            quiet: false,
            shows_usage: false,
        }
    }

    /// One that stands alone and that `--quiet` silences.
    fn alone(text: impl Into<String>) -> Failure {
        Failure {
            hints: false,
            quiet: true,
            ..Failure::new(text)
        }
    }

    /// The same, silenced by `--quiet`.
    pub(super) fn silenced(self) -> Failure {
        Failure {
            quiet: true,
            ..self
        }
    }
}

/// What was said.
pub(super) struct Draft<'a> {
    pub tool: Tool,
    pub environment: &'a Environment<'a>,
    pub bind_address: Option<String>,
    pub cafile: Option<PathBuf>,
    pub capath: Option<PathBuf>,
    pub certfile: Option<PathBuf>,
    pub keyfile: Option<PathBuf>,
    pub keyform: Option<String>,
    pub engine: Option<String>,
    pub engine_password: bool,
    pub ciphers: Option<String>,
    pub tls_version: Option<String>,
    pub alpn: Option<String>,
    pub keylog: Option<PathBuf>,
    pub trusts_system: bool,
    pub insecure: bool,
    pub no_tls: bool,
    pub psk: bool,
    pub psk_identity: bool,
    pub clean_start: bool,
    pub debug: bool,
    pub quiet: bool,
    pub host: Option<OsString>,
    pub port: Option<i32>,
    pub service: bool,
    pub id: Option<Vec<u8>>,
    pub id_prefix: Option<String>,
    pub keep_alive: u16,
    pub max_inflight: u16,
    pub nodelay: bool,
    pub user_name: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
    pub proxy: Option<Proxy>,
    pub websocket: bool,
    pub qos: QoS,
    pub version: ProtocolVersion,
    pub session_expiry: Option<u32>,
    pub will_topic: Option<String>,
    pub will_payload: Option<Vec<u8>>,
    pub will_qos: QoS,
    pub will_retain: bool,
    pub lists: Lists,
    pub publish: PublishOptions,
    pub subscribe: SubscribeOptions,
}

impl<'a> Draft<'a> {
    /// Nothing said yet.
    pub(super) fn new(tool: Tool, environment: &'a Environment<'a>) -> Draft<'a> {
        let version = match tool {
            Tool::Publish | Tool::Subscribe => ProtocolVersion::V311,
            Tool::Request => ProtocolVersion::V5,
        };
        Draft {
            tool,
            environment,
            bind_address: None,
            cafile: None,
            capath: None,
            certfile: None,
            keyfile: None,
            keyform: None,
            engine: None,
            engine_password: false,
            ciphers: None,
            tls_version: None,
            alpn: None,
            keylog: None,
            trusts_system: false,
            insecure: false,
            no_tls: false,
            psk: false,
            psk_identity: false,
            clean_start: true,
            debug: false,
            quiet: false,
            host: None,
            port: None,
            service: false,
            id: None,
            id_prefix: None,
            keep_alive: 60,
            max_inflight: INFLIGHT,
            nodelay: false,
            user_name: None,
            password: None,
            proxy: None,
            websocket: false,
            qos: QoS::AtMostOnce,
            version,
            session_expiry: None,
            will_topic: None,
            will_payload: None,
            will_qos: QoS::AtMostOnce,
            will_retain: false,
            lists: Lists::default(),
            publish: PublishOptions {
                topic: None,
                payload: None,
                retain: false,
                repeat: 1,
                repeat_delay: Duration::ZERO,
                properties: PropertyBuffer::new(),
            },
            subscribe: SubscribeOptions {
                filters: Vec::new(),
                unsubscribes: Vec::new(),
                filter_outs: Vec::new(),
                response_topic: None,
                count: matches!(tool, Tool::Request).then_some(1),
                timeout: None,
                exits_after_suback: false,
                newline: true,
                ignores_retained: false,
                retained_only: false,
                removes_retained: false,
                retain_as_published: false,
                retain_handling: RetainHandling::Send,
                verbose: false,
                pretty: false,
                format: None,
                random_filter: 10_000,
                message_rate: false,
                latency: false,
                watch: false,
                subscribe_properties: PropertyBuffer::new(),
                unsubscribe_properties: PropertyBuffer::new(),
            },
        }
    }

    /// Takes the payload from here; only one place may be named.
    pub(super) fn set_payload(&mut self, payload: Payload) {
        self.publish.payload = Some(payload);
    }

    /// Everything together.
    pub(super) fn finish(mut self) -> Result<Options, Failure> {
        self.check_will()?;
        self.check_keys()?;
        self.add_session_expiry()?;
        self.check_topics()?;
        self.check_later_properties()?;
        self.check_message()?;
        let client_id = self.client_id()?;
        let will = self.will()?;
        let (user_name, password) = self.user()?;
        // Of --cafile and --capath, even if --no-tls makes nothing else of them.
        let default_port = match self.cafile.is_some() || self.capath.is_some() || self.psk {
            true => PORT_TLS,
            false => PORT,
        };
        let tls = self.tls()?;
        let target = self.target(default_port)?;
        let properties = self.connect_properties()?;
        let v5 = self.version == ProtocolVersion::V5;
        let sent = |list: PropertyBuffer| if v5 { list } else { PropertyBuffer::new() };
        Ok(Options {
            route: Route {
                target,
                bind_address: self.bind_address,
                proxy: self.proxy,
                nodelay: self.nodelay,
                tls,
                websocket: self.websocket,
            },
            login: Login {
                version: self.version,
                client_id,
                clean_start: self.clean_start,
                keep_alive: self.keep_alive,
                user_name,
                password,
                will,
                properties,
            },
            debug: self.debug,
            quiet: self.quiet,
            qos: self.qos,
            max_inflight: self.max_inflight,
            disconnect_properties: sent(self.lists.disconnect),
            publish: PublishOptions {
                properties: sent(self.lists.publish),
                ..self.publish
            },
            subscribe: SubscribeOptions {
                subscribe_properties: sent(self.lists.subscribe),
                unsubscribe_properties: sent(self.lists.unsubscribe),
                ..self.subscribe
            },
        })
    }

    fn check_will(&self) -> Result<(), Failure> {
        match (&self.will_topic, &self.will_payload, self.will_retain) {
            (None, Some(_), _) => Err(Failure::new(
                "Error: Will payload given, but no will topic given.\n",
            )),
            (None, None, true) => Err(Failure::new(
                "Error: Will retain given, but no will topic given.\n",
            )),
            _ => Ok(()),
        }
    }

    fn check_keys(&self) -> Result<(), Failure> {
        let text = if self.certfile.is_some() != self.keyfile.is_some() {
            "Error: Both certfile and keyfile must be provided if one of them is set.\n"
        } else if self.keyform.is_some() && self.keyfile.is_none() {
            "Error: If keyform is set, keyfile must be also specified.\n"
        } else if self.engine_password && (self.keyform.is_none() || self.engine.is_none()) {
            "Error: when using tls-engine-kpass-sha1, both tls-engine and keyform must also be provided.\n"
        } else if (self.cafile.is_some() || self.capath.is_some()) && self.psk {
            "Error: Only one of --psk or --cafile/--capath may be used at once.\n"
        } else if self.psk && !self.psk_identity {
            "Error: --psk-identity required if --psk used.\n"
        } else {
            return Ok(());
        };
        Err(Failure::new(text))
    }

    fn add_session_expiry(&mut self) -> Result<(), Failure> {
        let no_id = self.id.is_none();
        if self.version != ProtocolVersion::V5 {
            if !self.clean_start && no_id {
                return Err(Failure::new(
                    "Error: You must provide a client id if you are using the -c option.\n",
                ));
            }
            return Ok(());
        }
        let interval = match self.session_expiry {
            None if !self.clean_start => FOREVER,
            // 0 is what the server takes for granted (3.1.2.11.2).
            interval => interval.unwrap_or(0),
        };
        if interval == FOREVER && no_id {
            return Err(Failure::new(
                "Error: You must provide a client id if you are using an infinite session expiry interval.\n",
            ));
        }
        if interval > 0 {
            let property = Property::SessionExpiryInterval(interval);
            self.lists.connect.push(property);
        }
        Ok(())
    }

    fn check_topics(&self) -> Result<(), Failure> {
        let SubscribeOptions {
            filters,
            unsubscribes,
            ..
        } = &self.subscribe;
        if self.tool == Tool::Subscribe && filters.is_empty() && unsubscribes.is_empty() {
            return Err(Failure::new(
                "Error: You must specify a topic to subscribe to (-t) or unsubscribe from (-U).\n",
            ));
        }
        Ok(())
    }

    /// Mosquitto 2.1 finds these faults only when it sends such a packet; 2.0 complains here, as we do.
    fn check_later_properties(&self) -> Result<(), Failure> {
        for (packet, list) in self.lists.sent_later() {
            if let Err(fault) = properties::check(list) {
                let text = format!("Error in {packet} properties: {fault}\n");
                return Err(Failure::new(text).silenced());
            }
        }
        Ok(())
    }

    fn check_message(&mut self) -> Result<(), Failure> {
        let complete = self.publish.topic.is_some() && self.publish.payload.is_some();
        match self.tool {
            Tool::Publish if !complete => Err(Failure {
                hints: false,
                shows_usage: true,
                ..Failure::new("Error: Both topic and message must be supplied.\n")
            }),
            Tool::Publish => Ok(()),
            Tool::Subscribe if self.subscribe.ignores_retained && self.subscribe.retained_only => {
                Err(Failure {
                    hints: false,
                    ..Failure::new(
                        "\nError: Combining '-R' and '--retained-only' makes no sense.\n",
                    )
                })
            }
            Tool::Subscribe => Ok(()),
            Tool::Request => match &self.subscribe.response_topic {
                Some(topic) if complete => {
                    self.lists.publish.push(Property::ResponseTopic(topic));
                    properties::check(&self.lists.publish).map_err(|_| {
                        Failure::alone("Error in PUBLISH properties: Duplicate response topic.\n")
                    })
                }
                _ => Err(Failure::new(
                    "Error: All of topic, message, and response topic must be supplied.\n",
                )),
            },
        }
    }

    fn client_id(&mut self) -> Result<String, Failure> {
        if let Some(prefix) = &self.id_prefix {
            let mut digits = self.environment.process_id.to_string();
            digits.truncate(PROCESS_ID_DIGITS);
            self.id = Some(format!("{prefix}{digits}").into_bytes());
        }
        let invalid = || {
            Failure::alone(match self.tool {
                Tool::Publish => "Error: Invalid id.\n",
                Tool::Subscribe | Tool::Request => "Error: Invalid id and/or clean_session.\n",
            })
        };
        match &self.id {
            Some(id) if id.is_empty() || id.len() > usize::from(u16::MAX) => Err(invalid()),
            Some(id) => Ok(primitive::utf8(id).map_err(|_| invalid())?.to_owned()),
            None if !self.clean_start => Err(invalid()),
            // Only 3.1 has no identifier that the server assigns.
            None if self.version == ProtocolVersion::V31 => Ok(random_id(self.environment.random)),
            None => Ok(String::new()),
        }
    }

    fn will(&mut self) -> Result<Option<Will>, Failure> {
        let Some(topic) = self.will_topic.take() else {
            return Ok(None);
        };
        let properties = std::mem::take(&mut self.lists.will);
        let none = properties.as_properties().is_empty();
        let too_old = self.version != ProtocolVersion::V5 && !none;
        if too_old || properties::check(&properties).is_err() {
            return Err(Failure::alone("Error: Problem setting will.\n"));
        }
        let payload = self.will_payload.take().unwrap_or_default();
        if payload.len() > usize::from(u16::MAX) {
            return Err(Failure::alone("Error: Problem setting will.\n"));
        }
        Ok(Some(Will {
            topic,
            payload,
            qos: self.will_qos,
            retain: self.will_retain,
            properties,
        }))
    }

    fn user(&mut self) -> Result<(Option<String>, Option<Vec<u8>>), Failure> {
        let problem = || Failure::alone("Error: Problem setting username and/or password.\n");
        let long = |bytes: &[u8]| bytes.len() > usize::from(u16::MAX);
        let password = self.password.take();
        let user_name = match &self.user_name {
            None => None,
            Some(name) if long(name) => return Err(problem()),
            Some(name) => Some(primitive::utf8(name).map_err(|_| problem())?.to_owned()),
        };
        let alone = user_name.is_none() && password.is_some();
        // MQTT 3.1.1, 3.1.2.9; MQTT 5.0 allows it.
        if alone && self.version != ProtocolVersion::V5 || password.as_deref().is_some_and(long) {
            return Err(problem());
        }
        Ok((user_name, password))
    }

    fn tls(&mut self) -> Result<Option<ClientTls>, Failure> {
        if self.no_tls {
            return Ok(None);
        }
        let authorities = self.cafile.is_some() || self.capath.is_some();
        if authorities {
            let files = [&self.cafile, &self.certfile, &self.keyfile];
            if !files.into_iter().flatten().all(|path| opens(path)) {
                return Err(Failure::alone(
                    "Error: Problem setting TLS options: File not found.\n",
                ));
            }
        }
        if self.psk {
            return Err(Failure::alone(
                "Error: TLS with a pre-shared key is not supported; use certificates (--cafile, --cert, --key) \
                 instead of --psk.\n",
            ));
        }
        if let Some(engine) = &self.engine {
            return Err(Failure::alone(format!(
                "Error: Problem setting TLS engine, is {engine} a valid engine?\n\
                 Engines of OpenSSL are not supported; give the private key as a file with --key.\n"
            )));
        }
        match self.keyform.as_deref() {
            None | Some("pem") => {}
            Some("engine") => {
                return Err(Failure::alone(
                    "Error: --keyform engine is not supported; give the private key as a PEM file with --key.\n",
                ));
            }
            Some(_) => {
                return Err(Failure::alone(
                    "Error: Problem setting key form, it must be one of 'pem' or 'engine'.\n",
                ));
            }
        }
        let version = match self.tls_version.as_deref() {
            None => None,
            Some("tlsv1.2") => Some(TlsVersion::V12),
            Some("tlsv1.3") => Some(TlsVersion::V13),
            Some(_) => {
                return Err(Failure::alone(
                    "Error: Problem setting TLS options, check the options are valid.\n",
                ));
            }
        };
        let trusts_system = self.trusts_system || !authorities && self.port == Some(PORT_TLS);
        if !authorities && !trusts_system {
            return Ok(None);
        }
        Ok(Some(ClientTls {
            cafile: self.cafile.take(),
            capath: self.capath.take(),
            trusts_system,
            certfile: self.certfile.take(),
            keyfile: self.keyfile.take(),
            ciphers: self.ciphers.take(),
            version,
            alpn: self.alpn.take(),
            ignores_name: self.insecure,
            keylog: self.keylog.take(),
        }))
    }

    /// Port 0 makes a path of the host, since `--unix` is no more than those two in Mosquitto.
    fn target(&mut self, default_port: i32) -> Result<Target, Failure> {
        let host = self.host.take().unwrap_or_else(|| "localhost".into());
        let text = |host: &OsStr| String::from_utf8_lossy(host.as_bytes()).into_owned();
        if self.service {
            let domain = text(&host);
            return Ok(Target::Service { domain });
        }
        let port = self.port.unwrap_or(default_port);
        match u16::try_from(port) {
            Ok(0) => Ok(Target::Unix(host.into())),
            Ok(port) => Ok(Target::Tcp {
                host: text(&host),
                port,
            }),
            Err(_) => Err(Failure::alone(
                "Unable to connect (Invalid function arguments provided.).\n",
            )),
        }
    }

    fn connect_properties(&mut self) -> Result<PropertyBuffer, Failure> {
        let mut properties = std::mem::take(&mut self.lists.connect);
        let unable = |reason| Failure::alone(format!("Unable to connect ({reason}).\n"));
        if self.version != ProtocolVersion::V5 {
            return match properties.as_properties().is_empty() {
                true => Ok(properties),
                false => Err(unable("This feature is not supported.")),
            };
        }
        properties::check(&properties).map_err(unable)?;
        let limited = |property| matches!(property, Property::ReceiveMaximum(_));
        if !properties.as_properties().iter().any(limited) {
            // More than are counted must not arrive before the tool is gone.
            let count = self.subscribe.count.unwrap_or(u64::from(INFLIGHT));
            let maximum = u16::try_from(count).unwrap_or(INFLIGHT).min(INFLIGHT);
            properties.push(Property::ReceiveMaximum(maximum));
        }
        Ok(properties)
    }
}

fn opens(path: &Path) -> bool {
    File::open(path).is_ok()
}

/// `mosq-` and letters and digits; a server knows by it that a Mosquitto tool, or one like it, named itself.
fn random_id(random: [u8; 18]) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let letters = random.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
    "mosq-".chars().chain(letters).collect()
}
