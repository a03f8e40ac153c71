//! Settings as written -> [`Config`]: whose setting each one is, what it replaces, and what is not in force.
//!
//! It knows what every option means to the broker's settings, but not how a value is written.
//! 1. Every row in force has an arm in one of the `set_*` functions; a test sets each of them to its default.
//! 2. Which listener, bridge or plugin a line belongs to is known within one file only: each file starts afresh.

use std::collections::HashMap;
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::options::{Kind, Repeat, Row, Scope, Standing};
use super::parse::{File, Setting, Value};
use super::{
    AcceptVersions, Config, ConfigError, Listener, Log, LogTypes, Overrides, PORT_DEFAULT, Place,
    Problem, SocketDomain, Warning,
};

/// The configuration that `main` and the command line ask for together.
pub fn config(
    main: Option<File>,
    source: Option<PathBuf>,
    overrides: Overrides,
    warnings: Vec<Warning>,
) -> Result<Config, ConfigError> {
    let mut builder = Builder::new(source, overrides, warnings);
    if let Some(main) = main {
        builder.file(main)?;
    }
    builder.finish()
}

struct Builder {
    config: Config,
    security: Security,
    security_was_set: bool,
    per_listener_settings: bool,
    listeners: Vec<Draft>,
    default_listener: Option<Draft>,
    bridges: usize,
    plugins: usize,
    /// Where an option that may be given once was given.
    once: HashMap<(&'static str, Owner), Place>,
    log_dest_given: bool,
    log_dest_in_force: bool,
    log_types: Option<LogTypes>,
    not_in_force: Vec<(String, Place)>,
}

/// Whose setting a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Owner {
    Broker,
    DefaultListener,
    Listener(usize),
    Bridge(usize),
    Plugin(usize),
    LogFile,
}

/// The lines of a file that the next line may belong to.
#[derive(Debug, Default)]
struct Cursor {
    listener: Option<Owner>,
    bridge: Option<Owner>,
    plugin: Option<Owner>,
}

/// Security options, as far as they were given.
#[derive(Debug, Clone, Default)]
struct Security {
    allow_anonymous: Option<bool>,
    allow_zero_length_client_id: Option<bool>,
    auto_id_prefix: Option<String>,
    password_file: Option<PathBuf>,
}

/// A listener, as far as it was given.
#[derive(Debug)]
struct Draft {
    port: u16,
    host: Option<String>,
    socket_domain: Option<SocketDomain>,
    max_connections: Option<NonZeroUsize>,
    max_qos: u8,
    max_topic_alias: u16,
    max_topic_alias_broker: u16,
    allow_anonymous: Option<bool>,
    auto_id_prefix: Option<String>,
    security: Security,
}

impl Draft {
    fn new(port: u16, host: Option<String>) -> Draft {
        Draft {
            port,
            host,
            socket_domain: None,
            max_connections: None,
            max_qos: 2,
            max_topic_alias: 10,
            max_topic_alias_broker: 10,
            allow_anonymous: None,
            auto_id_prefix: None,
            security: Security::default(),
        }
    }
}

impl Builder {
    fn new(source: Option<PathBuf>, overrides: Overrides, warnings: Vec<Warning>) -> Builder {
        let config = Config {
            source,
            warnings,
            overrides,
            listeners: Vec::new(),
            local_only: true,
            allow_anonymous: false,
            allow_zero_length_client_id: true,
            auto_id_prefix: String::new(),
            client_id_prefix: None,
            max_inflight_messages: NonZeroU16::new(20),
            max_inflight_bytes: None,
            max_queued_messages: NonZeroUsize::new(1000),
            max_queued_bytes: None,
            queue_qos0_messages: false,
            max_packet_size: 2_000_000,
            message_size_limit: None,
            max_keep_alive: None,
            global_max_clients: None,
            global_max_connections: None,
            persistent_client_expiration: None,
            allow_duplicate_messages: true,
            upgrade_outgoing_qos: false,
            retain_available: true,
            check_retain_source: true,
            memory_limit: None,
            retain_expiry_interval: None,
            set_tcp_nodelay: None,
            sys_interval: Some(Duration::from_secs(10)),
            connection_messages: true,
            log: Log::default(),
            pid_file: None,
            user: None,
        };
        Builder {
            config,
            security: Security::default(),
            security_was_set: false,
            per_listener_settings: false,
            listeners: Vec::new(),
            default_listener: None,
            bridges: 0,
            plugins: 0,
            once: HashMap::new(),
            log_dest_given: false,
            log_dest_in_force: false,
            log_types: None,
            not_in_force: Vec::new(),
        }
    }

    fn file(&mut self, file: File) -> Result<(), ConfigError> {
        let mut cursor = Cursor::default();
        for setting in file.settings {
            match setting.value {
                Value::Files(files) => {
                    for file in files {
                        self.file(file)?;
                    }
                }
                _ => self.setting(setting, &mut cursor)?,
            }
        }
        file.error.map_or(Ok(()), Err)
    }

    fn setting(&mut self, setting: Setting, cursor: &mut Cursor) -> Result<(), ConfigError> {
        let place = setting.place.clone();
        let row = setting.row;
        let owner = self
            .owner(&setting, cursor)
            .and_then(|owner| self.check_once(&setting, owner).map(|()| owner))
            .map_err(|problem| ConfigError::At {
                place: place.clone(),
                problem,
            })?;
        if let Some(instead) = row.instead {
            let text = format!(
                "The '{}' option is now deprecated. Please use '{instead}' instead.",
                row.name
            );
            self.config.warnings.push(Warning::notice_at(&place, text));
        }
        match row.standing {
            Standing::InForce => self.set(row, setting.value, owner, &place),
            Standing::NoEffect => self.no_effect(&setting),
            Standing::Restricts => {
                if !is_default(row, &setting.value) {
                    self.not_in_force.push((setting.name, place));
                }
            }
            Standing::Obsolete => {
                let text = format!(
                    "Warning: The '{}' option is no longer available.",
                    setting.name
                );
                self.config.warnings.push(Warning::at(&place, text));
            }
        }
        Ok(())
    }

    /// Whose setting this is, moving the cursor if it starts something.
    fn owner(&mut self, setting: &Setting, cursor: &mut Cursor) -> Result<Owner, Problem> {
        let row = setting.row;
        let needs = |what| Problem::Needs {
            option: setting.name.clone(),
            what,
        };
        let owner = match row.scope {
            Scope::Bridge if row.name == "connection" => {
                self.bridges += 1;
                *cursor.bridge.insert(Owner::Bridge(self.bridges))
            }
            Scope::Bridge => cursor.bridge.ok_or_else(|| needs("a bridge"))?,
            Scope::Plugin => cursor
                .plugin
                .ok_or_else(|| needs("plugin/global_plugin/plugin_load"))?,
            Scope::Global => Owner::Broker,
            Scope::Security => {
                self.security_was_set = true;
                match cursor.listener {
                    _ if !self.per_listener_settings => Owner::Broker,
                    Some(listener) => listener,
                    None => return Err(needs("a listener")),
                }
            }
            Scope::Listener => match (row.name, cursor.listener) {
                ("listener", _) => *cursor
                    .listener
                    .insert(Owner::Listener(self.listeners.len())),
                ("port" | "bind_address", _) => {
                    self.default_listener
                        .get_or_insert_with(|| Draft::new(PORT_DEFAULT, None));
                    *cursor.listener.insert(Owner::DefaultListener)
                }
                (_, Some(listener)) => listener,
                (_, None) if row.listener_first => return Err(needs("a listener")),
                (_, None) => {
                    self.make_default_listener(setting);
                    *cursor.listener.insert(Owner::DefaultListener)
                }
            },
        };
        if matches!(
            row.name,
            "plugin" | "global_plugin" | "plugin_load" | "plugin_use"
        ) {
            self.plugins += 1;
            cursor.plugin = Some(Owner::Plugin(self.plugins));
        }
        if row.name == "per_listener_settings" && self.security_was_set {
            return Err(Problem::Late {
                option: setting.name.clone(),
            });
        }
        Ok(owner)
    }

    fn make_default_listener(&mut self, setting: &Setting) {
        if self.default_listener.is_none() {
            self.default_listener = Some(Draft::new(PORT_DEFAULT, None));
            let text = format!(
                "Warning: The '{}' option stands before any listener, so there is a default listener on port \
                 {PORT_DEFAULT}. Define a 'listener' first.",
                setting.name
            );
            self.config.warnings.push(Warning::at(&setting.place, text));
        }
    }

    fn check_once(&mut self, setting: &Setting, owner: Owner) -> Result<(), Problem> {
        // Among destinations, only the file may be given once.
        let (option, owner) = match (setting.row.repeat, &setting.value) {
            (Repeat::Once, _) => (setting.name.clone(), owner),
            (_, Value::LogDest("file")) => ("log_dest file".to_owned(), Owner::LogFile),
            (Repeat::Last | Repeat::Each, _) => return Ok(()),
        };
        match self
            .once
            .insert((setting.row.name, owner), setting.place.clone())
        {
            None => Ok(()),
            Some(first) => Err(Problem::Duplicate { option, first }),
        }
    }

    fn no_effect(&mut self, setting: &Setting) {
        let text = match setting.row.scope {
            Scope::Bridge if setting.row.name == "connection" => {
                let Value::Text(name) = &setting.value else {
                    unreachable!("the name of a connection is a text");
                };
                format!("Warning: Bridges have no effect yet: '{name}' does not connect.")
            }
            // The bridge's one warning is for all of its lines.
            Scope::Bridge => return,
            _ if is_default(setting.row, &setting.value) => return,
            _ => format!("Warning: The '{}' option has no effect yet.", setting.name),
        };
        self.config.warnings.push(Warning::at(&setting.place, text));
    }

    fn set(&mut self, row: &'static Row, value: Value, owner: Owner, place: &Place) {
        match row.scope {
            Scope::Security => self.set_security(row, value, owner, place),
            Scope::Listener => self.set_listener(row, value, owner, place),
            Scope::Global => match value {
                Value::Flag(flag) => self.set_flag(row, flag),
                Value::Integer(number) => self.set_number(row, number),
                Value::Duration(duration) => {
                    self.config.persistent_client_expiration = Some(duration)
                }
                Value::LogDest(word) => self.set_log_dest(word, place),
                Value::Text(text) => self.set_text(row, text),
                Value::Listener { .. } | Value::Files(_) => {
                    unreachable!("no global option is of this kind")
                }
            },
            Scope::Bridge | Scope::Plugin => {
                unreachable!("no option of bridges or plugins is in force")
            }
        }
    }

    fn set_security(&mut self, row: &'static Row, value: Value, owner: Owner, place: &Place) {
        if row.name == "password_file" {
            let text = "Warning: The 'password_file' option has no effect yet: no password can be verified, so \
                        clients that give a user name are refused.";
            self.config
                .warnings
                .push(Warning::at(place, text.to_owned()));
        }
        let security = match owner {
            Owner::Broker => &mut self.security,
            _ => &mut self.draft(owner).security,
        };
        match (row.name, value) {
            ("allow_anonymous", Value::Flag(flag)) => security.allow_anonymous = Some(flag),
            ("allow_zero_length_clientid", Value::Flag(flag)) => {
                security.allow_zero_length_client_id = Some(flag);
            }
            ("auto_id_prefix", Value::Text(text)) => security.auto_id_prefix = Some(text),
            ("password_file", Value::Text(text)) => security.password_file = Some(text.into()),
            (name, value) => {
                unreachable!("security option in force without an arm: {name} {value:?}")
            }
        }
    }

    fn set_listener(&mut self, row: &'static Row, value: Value, owner: Owner, place: &Place) {
        if let Value::Listener { port, address } = value {
            if port == 0 {
                self.not_in_force
                    .push(("listener 0".to_owned(), place.clone()));
            }
            self.listeners.push(Draft::new(port, address));
            return;
        }
        let draft = self.draft(owner);
        match (row.name, value) {
            ("port", Value::Integer(number)) => draft.port = within(number),
            ("bind_address", Value::Text(host)) => draft.host = Some(host),
            ("socket_domain", Value::Text(word)) => {
                let is_ipv4 = word == "ipv4";
                draft.socket_domain = Some(if is_ipv4 {
                    SocketDomain::Ipv4
                } else {
                    SocketDomain::Ipv6
                });
            }
            ("max_connections", Value::Integer(number)) => draft.max_connections = limit(number),
            ("max_qos", Value::Integer(number)) => draft.max_qos = within(number),
            ("max_topic_alias", Value::Integer(number)) => draft.max_topic_alias = within(number),
            ("max_topic_alias_broker", Value::Integer(number)) => {
                draft.max_topic_alias_broker = within(number);
            }
            ("listener_allow_anonymous", Value::Flag(flag)) => draft.allow_anonymous = Some(flag),
            ("listener_auto_id_prefix", Value::Text(text)) => draft.auto_id_prefix = Some(text),
            (name, value) => {
                unreachable!("listener option in force without an arm: {name} {value:?}")
            }
        }
    }

    fn draft(&mut self, owner: Owner) -> &mut Draft {
        match owner {
            Owner::Listener(index) => &mut self.listeners[index],
            Owner::DefaultListener => self
                .default_listener
                .as_mut()
                .expect("it is made before anything is said to be its own"),
            other => unreachable!("{other:?} is no listener"),
        }
    }

    fn set_flag(&mut self, row: &'static Row, flag: bool) {
        let config = &mut self.config;
        match row.name {
            "per_listener_settings" => self.per_listener_settings = flag,
            "queue_qos0_messages" => config.queue_qos0_messages = flag,
            "allow_duplicate_messages" => config.allow_duplicate_messages = flag,
            "upgrade_outgoing_qos" => config.upgrade_outgoing_qos = flag,
            "retain_available" => config.retain_available = flag,
            "set_tcp_nodelay" => config.set_tcp_nodelay = Some(flag),
            "connection_messages" => config.connection_messages = flag,
            "log_timestamp" => config.log.timestamp = flag,
            name => unreachable!("flag in force without an arm: {name}"),
        }
    }

    fn set_number(&mut self, row: &'static Row, number: i64) {
        let config = &mut self.config;
        match row.name {
            "max_inflight_messages" => {
                config.max_inflight_messages = NonZeroU16::new(within(number.max(0)));
            }
            "max_inflight_bytes" => config.max_inflight_bytes = limit(number),
            "max_queued_messages" => config.max_queued_messages = limit(number),
            "max_queued_bytes" => config.max_queued_bytes = limit(number),
            "max_packet_size" => config.max_packet_size = u32::try_from(number).unwrap_or(u32::MAX),
            "message_size_limit" => config.message_size_limit = NonZeroU32::new(within(number)),
            "max_keepalive" => config.max_keep_alive = NonZeroU16::new(within(number)),
            "global_max_clients" => config.global_max_clients = limit(number),
            "global_max_connections" => config.global_max_connections = limit(number),
            "retain_expiry_interval" => {
                config.retain_expiry_interval =
                    Some(Duration::from_secs(60 * within::<u64>(number)));
            }
            "sys_interval" => {
                let interval = Duration::from_secs(within(number));
                config.sys_interval = Some(interval).filter(|interval| !interval.is_zero());
            }
            name => unreachable!("number in force without an arm: {name}"),
        }
    }

    fn set_text(&mut self, row: &'static Row, text: String) {
        match row.name {
            "log_type" => self.set_log_type(&text),
            "log_timestamp_format" => self.config.log.timestamp_format = Some(text),
            name => unreachable!("text in force without an arm: {name}"),
        }
    }

    fn set_log_dest(&mut self, word: &str, place: &Place) {
        let log = &mut self.config.log;
        // The first destination takes the place of the default, and 'none' that of all before it.
        if !self.log_dest_given || word == "none" {
            (log.stdout, log.stderr) = (false, false);
        }
        self.log_dest_given = true;
        match word {
            "none" => self.log_dest_in_force = true,
            "stdout" => (log.stdout, self.log_dest_in_force) = (true, true),
            "stderr" => (log.stderr, self.log_dest_in_force) = (true, true),
            other => {
                let text = format!("Warning: The log destination '{other}' has no effect yet.");
                self.config.warnings.push(Warning::at(place, text));
            }
        }
    }

    fn set_log_type(&mut self, word: &str) {
        let given = self.log_types.unwrap_or(LogTypes::NONE);
        self.log_types = Some(match word {
            "none" => LogTypes::NONE,
            "all" => LogTypes::ALL,
            "error" => given.with(LogTypes::ERROR),
            "warning" => given.with(LogTypes::WARNING),
            "notice" => given.with(LogTypes::NOTICE),
            "information" => given.with(LogTypes::INFORMATION),
            "subscribe" => given.with(LogTypes::SUBSCRIBE),
            "unsubscribe" => given.with(LogTypes::UNSUBSCRIBE),
            "debug" => given.with(LogTypes::DEBUG),
            // There are no lines of these two types.
            "internal" | "websockets" => given,
            other => unreachable!("log type without an arm: {other}"),
        });
    }

    fn finish(mut self) -> Result<Config, ConfigError> {
        if !self.not_in_force.is_empty() {
            return Err(ConfigError::NotInForce(self.not_in_force));
        }
        self.finish_log();
        self.listeners.extend(self.default_listener.take());
        let local_only = self.listeners.is_empty();
        if local_only {
            self.listeners = local_listeners(&self.config.overrides.ports);
        } else if !self.config.overrides.ports.is_empty() {
            self.config.warnings.push(Warning {
                severity: super::Severity::Warning,
                text: "Warning: -p has no effect, since the configuration file defines a listener."
                    .to_owned(),
                place: None,
            });
        }
        let broker = self.security.resolved(local_only);
        let listeners = self.listeners.into_iter().map(|draft| {
            let security = if self.per_listener_settings && !local_only {
                draft.security.resolved(local_only)
            } else {
                broker.clone()
            };
            Listener {
                port: draft.port,
                unix_path: None,
                host: draft.host,
                socket_domain: draft.socket_domain,
                max_connections: draft.max_connections,
                max_qos: draft.max_qos,
                max_topic_alias: draft.max_topic_alias,
                max_topic_alias_broker: draft.max_topic_alias_broker,
                allow_anonymous: draft.allow_anonymous.unwrap_or(security.allow_anonymous),
                allow_zero_length_client_id: security.allow_zero_length_client_id,
                auto_id_prefix: draft.auto_id_prefix.unwrap_or(security.auto_id_prefix),
                password_file: security.password_file,
                acl_file: None,
                bind_interface: None,
                mount_point: None,
                accept_protocol_versions: AcceptVersions::ALL,
                use_username_as_client_id: false,
                proxy_protocol: None,
                tls: None,
            }
        });
        Ok(Config {
            listeners: listeners.collect(),
            local_only,
            allow_anonymous: broker.allow_anonymous,
            allow_zero_length_client_id: broker.allow_zero_length_client_id,
            auto_id_prefix: broker.auto_id_prefix,
            ..self.config
        })
    }

    fn finish_log(&mut self) {
        let log = &mut self.config.log;
        // A broker whose only destinations have no effect yet would say nothing, not even that.
        if self.log_dest_given && !self.log_dest_in_force {
            log.stderr = true;
        }
        log.types = self.log_types.unwrap_or(LogTypes::DEFAULT);
        if self.config.overrides.verbose {
            log.types = LogTypes::ALL;
        }
        if self.config.overrides.quiet {
            log.types = LogTypes::NONE;
        }
    }
}

/// Security options with every default filled in.
#[derive(Debug, Clone)]
struct ResolvedSecurity {
    allow_anonymous: bool,
    allow_zero_length_client_id: bool,
    auto_id_prefix: String,
    password_file: Option<PathBuf>,
}

impl Security {
    fn resolved(&self, local_only: bool) -> ResolvedSecurity {
        ResolvedSecurity {
            allow_anonymous: self.allow_anonymous.unwrap_or(local_only),
            allow_zero_length_client_id: self.allow_zero_length_client_id.unwrap_or(true),
            auto_id_prefix: self
                .auto_id_prefix
                .clone()
                .unwrap_or_else(|| "auto-".to_owned()),
            password_file: self.password_file.clone(),
        }
    }
}

/// The listeners of local only mode; [`Config::local_only`] says that only loopback addresses are meant.
fn local_listeners(ports: &[u16]) -> Vec<Draft> {
    let ports = if ports.is_empty() {
        &[PORT_DEFAULT]
    } else {
        ports
    };
    ports.iter().map(|&port| Draft::new(port, None)).collect()
}

/// Whether `value` is what the option is without being given.
fn is_default(row: &'static Row, value: &Value) -> bool {
    match (row.kind, value) {
        (_, Value::Flag(flag)) => row.default == if *flag { "true" } else { "false" },
        (_, Value::Integer(number)) => row.default == number.to_string(),
        (Kind::Words(_), Value::Text(text)) => {
            let words = text.split([' ', '\t', ',']).filter(|word| !word.is_empty());
            !row.default.is_empty() && words.eq(row.default.split(' '))
        }
        (_, Value::Text(text)) => row.default == text,
        (_, Value::Duration(_) | Value::Listener { .. } | Value::LogDest(_) | Value::Files(_)) => {
            false
        }
    }
}

/// A limit of which 0 and, as Mosquitto has it, everything below mean that there is none.
fn limit(number: i64) -> Option<NonZeroUsize> {
    NonZeroUsize::new(usize::try_from(number.max(0)).unwrap_or(usize::MAX))
}

/// `number` in the type that holds its option's whole range.
fn within<T: TryFrom<i64>>(number: i64) -> T {
    T::try_from(number)
        .ok()
        .expect("the row's range was checked when the value was read")
}
