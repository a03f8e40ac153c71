//! Settings as written -> [`Config`]: whose setting each one is, what it replaces, and what is not in force.
//!
//! It knows what every option means to the broker's settings, but not how a value is written.
//! 1. Every row in force has an arm in one of the `set_*` functions; a test sets each of them to its default.
//! 2. Which listener, bridge or plugin a line belongs to is known within one file only: each file starts afresh.

use std::collections::HashMap;
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::listener::{Draft, Resolved, Security, Telling};
use super::log::LogDraft;
use super::options::{Kind, Repeat, Row, Scope, Standing};
use super::parse::{File, Setting, Value};
use super::persistence::{Persistence, Sync};
use super::plugin::Plugin;
use super::{
    Config, ConfigError, Listener, Log, Overrides, PORT_DEFAULT, Place, Places, Problem, Refusal,
    Warning,
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
    plugins: Vec<Plugin>,
    /// Where each option was given last.
    places: HashMap<(&'static str, Owner), Place>,
    log: LogDraft,
    refusals: Vec<Refusal>,
}

/// Whose setting a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The whole broker.
    Broker,
    /// The listener that no `listener` line makes.
    DefaultListener,
    /// A `listener` line, from 0.
    Listener(usize),
    /// A `connection` line.
    Bridge(usize),
    /// A plugin line, from 0.
    Plugin(usize),
    /// `log_dest file`, which may be given once where other destinations may be given more often.
    LogFile,
}

/// The lines of a file that the next line may belong to.
#[derive(Debug, Default)]
struct Cursor {
    listener: Option<Owner>,
    bridge: Option<Owner>,
    plugin: Option<Owner>,
}

impl Builder {
    fn new(source: Option<PathBuf>, overrides: Overrides, warnings: Vec<Warning>) -> Builder {
        let config = Config {
            source,
            warnings,
            overrides,
            places: Places::default(),
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
            cpu_affinity: None,
            busy_poll: Duration::ZERO,
            sys_interval: Some(Duration::from_secs(10)),
            persistence: Persistence::default(),
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
            plugins: Vec::new(),
            places: HashMap::new(),
            log: LogDraft::new(),
            refusals: Vec::new(),
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
        let at = |problem| ConfigError::At {
            place: place.clone(),
            problem,
        };
        let owner = self.owner(&setting, cursor).map_err(at)?;
        self.check_once(&setting, owner).map_err(at)?;
        if let Some(instead) = row.instead {
            let text = format!(
                "The '{}' option is now deprecated. Please use '{instead}' instead.",
                row.name
            );
            self.config.warnings.push(Warning::notice_at(&place, text));
        }
        match row.standing {
            Standing::InForce => self.set(setting, owner, cursor).map_err(at)?,
            Standing::NoEffect => self.no_effect(&setting),
            Standing::NoMeaning => {
                if !is_default(row, &setting.value) {
                    let text = format!(
                        "The '{}' option has no meaning here: {}.",
                        setting.name, row.help
                    );
                    self.config.warnings.push(Warning::notice_at(&place, text));
                }
            }
            Standing::Refused(reason) => {
                if !is_default(row, &setting.value) {
                    self.refusals.push(Refusal {
                        option: setting.name,
                        place,
                        reason: reason.to_owned(),
                    });
                }
            }
            Standing::Obsolete => {
                let text = format!(
                    "Warning: The '{}' option is no longer available: {}.",
                    setting.name, row.help
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
        let row = setting.row;
        // Among destinations, only the file may be given once.
        let (option, owner, is_once) = match &setting.value {
            Value::LogDest { word: "file", .. } => {
                ("log_dest file".to_owned(), Owner::LogFile, true)
            }
            _ => (setting.name.clone(), owner, row.repeat == Repeat::Once),
        };
        match self.places.insert((row.name, owner), setting.place.clone()) {
            Some(first) if is_once => Err(Problem::Duplicate { option, first }),
            _ => Ok(()),
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

    fn set(&mut self, setting: Setting, owner: Owner, cursor: &mut Cursor) -> Result<(), Problem> {
        let row = setting.row;
        match (row.name, row.scope) {
            ("plugin" | "global_plugin" | "plugin_load", _) => {
                self.start_plugin(&setting, owner, cursor)?;
            }
            ("plugin_use", _) => self.use_plugin(&setting, owner, cursor)?,
            (_, Scope::Plugin) => self.set_plugin(&setting, owner)?,
            ("listener", _) => {
                let Value::Listener { port, address } = setting.value else {
                    unreachable!("the row of 'listener' is of its own kind");
                };
                self.listeners.push(Draft::new(port, address));
            }
            (name, Scope::Listener) => {
                self.tell_of_old_tls(&setting);
                self.draft(owner).set(name, setting.value);
            }
            (name, Scope::Security) => {
                let security = match owner {
                    Owner::Broker => &mut self.security,
                    _ => &mut self.draft(owner).security,
                };
                security.set(name, setting.value);
            }
            (_, Scope::Global) => match setting.value {
                Value::Flag(flag) => self.set_flag(row, flag),
                Value::Integer(number) => self.set_number(row, number),
                Value::Duration(duration) => {
                    self.config.persistent_client_expiration = Some(duration);
                }
                Value::LogDest { word, path } => {
                    if !self.log.set_dest(word, path) {
                        let text = format!("Warning: The log destination '{word}' has no effect.");
                        let warning = Warning::at(&setting.place, text);
                        self.config.warnings.push(warning);
                    }
                }
                Value::Text(text) => self.set_text(row, text),
                Value::Listener { .. } | Value::Versions(_) | Value::Files(_) => {
                    unreachable!("no global option is of this kind")
                }
            },
            (_, Scope::Bridge) => unreachable!("no option of bridges is in force"),
        }
        Ok(())
    }

    fn start_plugin(
        &mut self,
        setting: &Setting,
        owner: Owner,
        cursor: &mut Cursor,
    ) -> Result<(), Problem> {
        let value = text_of(&setting.value);
        let plugin = Plugin::new(&setting.name, value, owner, &setting.place).ok_or_else(|| {
            Problem::Invalid {
                option: setting.name.clone(),
                value: value.to_owned(),
                row: setting.row,
            }
        })?;
        if let Some(name) = plugin.name()
            && self.plugins.iter().any(|other| other.name() == Some(name))
        {
            return Err(Problem::NameTaken {
                name: name.to_owned(),
            });
        }
        cursor.plugin = Some(Owner::Plugin(self.plugins.len()));
        self.plugins.push(plugin);
        Ok(())
    }

    fn use_plugin(
        &mut self,
        setting: &Setting,
        owner: Owner,
        cursor: &mut Cursor,
    ) -> Result<(), Problem> {
        let name = text_of(&setting.value);
        let index = self
            .plugins
            .iter()
            .position(|plugin| plugin.name() == Some(name))
            .ok_or_else(|| Problem::NotLoaded {
                name: name.to_owned(),
            })?;
        self.plugins[index].used_by(owner);
        cursor.plugin = Some(Owner::Plugin(index));
        Ok(())
    }

    fn set_plugin(&mut self, setting: &Setting, owner: Owner) -> Result<(), Problem> {
        let Owner::Plugin(index) = owner else {
            unreachable!("a setting of a plugin is a plugin's");
        };
        let name = &setting.name;
        let key = name
            .strip_prefix("plugin_opt_")
            .or_else(|| name.strip_prefix("auth_opt_"))
            .unwrap_or(name);
        let value = text_of(&setting.value).to_owned();
        self.plugins[index].set(
            (name, key),
            value,
            &setting.place,
            &mut self.config.warnings,
        )
    }

    fn tell_of_old_tls(&mut self, setting: &Setting) {
        if setting.row.name == "tls_version" && text_of(&setting.value) == "tlsv1.1" {
            let text = "Warning: TLS 1.2 is the lowest version that is accepted: 'tls_version tlsv1.1' has the effect \
                        of 'tls_version tlsv1.2'.";
            self.config
                .warnings
                .push(Warning::at(&setting.place, text.to_owned()));
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
            "check_retain_source" => config.check_retain_source = flag,
            "set_tcp_nodelay" => config.set_tcp_nodelay = Some(flag),
            "connection_messages" => config.connection_messages = flag,
            "log_timestamp" => self.log.set_timestamp(flag),
            "persistence" => self.config.persistence.is_on = flag,
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
            "memory_limit" => config.memory_limit = limit(number),
            "max_keepalive" => config.max_keep_alive = NonZeroU16::new(within(number)),
            "global_max_clients" => config.global_max_clients = limit(number),
            "global_max_connections" => config.global_max_connections = limit(number),
            "log_facility" => self.log.set_facility(within(number)),
            "retain_expiry_interval" => {
                config.retain_expiry_interval =
                    Some(Duration::from_secs(60 * within::<u64>(number)));
            }
            "cpu_affinity" => config.cpu_affinity = Some(within(number)),
            "persistence_commit_interval" => {
                config.persistence.commit_interval = Duration::from_millis(within(number));
            }
            "busy_poll_us" => config.busy_poll = Duration::from_micros(within(number)),
            "sys_interval" => {
                let interval = Duration::from_secs(within(number));
                config.sys_interval = Some(interval).filter(|interval| !interval.is_zero());
            }
            name => unreachable!("number in force without an arm: {name}"),
        }
    }

    fn set_text(&mut self, row: &'static Row, text: String) {
        match row.name {
            "log_type" => self.log.set_type(&text),
            "log_timestamp_format" => self.log.set_timestamp_format(text),
            "clientid_prefixes" => self.config.client_id_prefix = Some(text),
            "pid_file" => self.config.pid_file = Some(text.into()),
            "user" => self.config.user = Some(text),
            "persistence_file" => self.config.persistence.file = text.into(),
            "persistence_location" => self.config.persistence.location = text.into(),
            "persistence_sync" => {
                let sync = Sync::from_word(&text).expect("the table has no other words");
                self.config.persistence.sync = sync;
            }
            name => unreachable!("text in force without an arm: {name}"),
        }
    }

    fn finish(mut self) -> Result<Config, ConfigError> {
        for plugin in &self.plugins {
            plugin.check(&mut self.config.warnings, &mut self.refusals)?;
        }
        if !self.refusals.is_empty() {
            return Err(ConfigError::Refused(self.refusals));
        }
        for plugin in self.plugins.iter().filter(|plugin| plugin.keeps_messages()) {
            self.config.persistence.is_on = true;
            self.config.persistence.sync = plugin.sync();
        }
        self.config.log = self.log.finish(&self.config.overrides);
        let drafts = self.drafts();
        let local_only = drafts.is_empty();
        let mut listeners = Vec::new();
        let mut unopened = None;
        for (owner, draft) in drafts {
            let (name, protocol) = (draft.name(), draft.unopened);
            let listener = self.listener(owner, draft)?;
            let Some(protocol) = protocol else {
                self.keep_places(Some(listener.name()), owner);
                listeners.push(listener);
                continue;
            };
            let place = self.place("protocol", owner);
            let text = format!(
                "Warning: The listener on {name} is NOT opened: 'protocol {protocol}' is not supported yet."
            );
            self.config.warnings.push(Warning::at(&place, text));
            unopened.get_or_insert((place, protocol));
        }
        if let Some((place, protocol)) = unopened
            && listeners.is_empty()
        {
            return Err(ConfigError::At {
                place,
                problem: Problem::NoListener { protocol },
            });
        }
        if let Some(core) = self.config.overrides.cpu {
            self.config.cpu_affinity = Some(core);
        }
        if let Some(location) = &self.config.overrides.persistence_location {
            self.config.persistence.location.clone_from(location);
        }
        if local_only {
            for draft in local_listeners(&self.config.overrides.ports) {
                listeners.push(self.listener(Owner::Broker, draft)?);
            }
        } else if !self.config.overrides.ports.is_empty() {
            self.config.warnings.push(Warning {
                severity: super::Severity::Warning,
                text: "Warning: -p has no effect, since the configuration file defines a listener."
                    .to_owned(),
                place: None,
            });
        }
        self.keep_places(None, Owner::Broker);
        let broker = self.security.resolved(local_only);
        Ok(Config {
            listeners,
            local_only,
            allow_anonymous: broker.allow_anonymous,
            allow_zero_length_client_id: broker.allow_zero_length_client_id,
            auto_id_prefix: broker.auto_id_prefix,
            ..self.config
        })
    }

    /// The listeners that lines speak of, in their order; the default listener comes last.
    fn drafts(&mut self) -> Vec<(Owner, Draft)> {
        let listeners = std::mem::take(&mut self.listeners).into_iter().enumerate();
        let default = self.default_listener.take();
        listeners
            .map(|(index, draft)| (Owner::Listener(index), draft))
            .chain(default.map(|draft| (Owner::DefaultListener, draft)))
            .collect()
    }

    /// The listener of `owner`; [`Owner::Broker`] has those of local only mode.
    fn listener(&mut self, owner: Owner, draft: Draft) -> Result<Listener, ConfigError> {
        let local_only = owner == Owner::Broker;
        let settings = if self.per_listener_settings {
            owner
        } else {
            Owner::Broker
        };
        let mut security = match settings {
            Owner::Broker => self.security.resolved(local_only),
            _ => draft.security.resolved(local_only),
        };
        self.add_plugin_files(&mut security, settings, owner)?;
        let places = &self.places;
        let place_of = |option| {
            places
                .get(&(option, owner))
                .cloned()
                .expect("an option that was given has its place")
        };
        let mut telling = Telling {
            place_of: &place_of,
            warnings: &mut self.config.warnings,
        };
        draft.finish(security, &mut telling)
    }

    /// Puts in force what plugins of `settings`, of `owner` and of all listeners say of files.
    fn add_plugin_files(
        &mut self,
        security: &mut Resolved,
        settings: Owner,
        owner: Owner,
    ) -> Result<(), ConfigError> {
        for (option, file) in [
            ("password_file", &mut security.password_file),
            ("acl_file", &mut security.acl_file),
            ("dynamic_security_file", &mut security.dynamic_security_file),
            (
                "dynamic_security_password_file",
                &mut security.dynamic_security_password_file,
            ),
        ] {
            let mut place = self.places.get(&(option, settings)).cloned();
            for plugin in &self.plugins {
                let asked = plugin
                    .file_for(option, settings)
                    .or_else(|| plugin.file_for(option, owner));
                let Some((path, place_asked)) = asked else {
                    continue;
                };
                match (&*file, place) {
                    (Some(given), Some(first)) if given != path => {
                        return Err(ConfigError::At {
                            place: place_asked.clone(),
                            problem: Problem::Duplicate {
                                option: option.to_owned(),
                                first,
                            },
                        });
                    }
                    _ => *file = Some(path.clone()),
                }
                place = Some(place_asked.clone());
            }
            if let Some(place) = place {
                self.places.insert((option, owner), place);
            }
        }
        Ok(())
    }

    fn place(&self, option: &'static str, owner: Owner) -> Place {
        self.places[&(option, owner)].clone()
    }

    fn keep_places(&mut self, listener: Option<String>, owner: Owner) {
        let own = self.places.iter().filter(|((_, whose), _)| *whose == owner);
        for ((option, _), place) in own {
            self.config
                .places
                .insert(listener.clone(), option, place.clone());
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
        (_, Value::Duration(_) | Value::Versions(_) | Value::Listener { .. }) => false,
        (_, Value::LogDest { .. } | Value::Files(_)) => false,
    }
}

fn text_of(value: &Value) -> &str {
    match value {
        Value::Text(text) => text,
        Value::Flag(true) => "true",
        Value::Flag(false) => "false",
        other => unreachable!("no text: {other:?}"),
    }
}

/// A limit of which 0 and, as Mosquitto has it, everything below mean that there is none.
pub fn limit(number: i64) -> Option<NonZeroUsize> {
    NonZeroUsize::new(usize::try_from(number.max(0)).unwrap_or(usize::MAX))
}

/// `number` in the type that holds its option's whole range.
pub fn within<T: TryFrom<i64>>(number: i64) -> T {
    T::try_from(number)
        .ok()
        .expect("the row's range was checked when the value was read")
}
