//! What the operator asked for: plain data, a file and line for every complaint.
//!
//! [`Config`] is typed, checked and immutable; a reload makes another one. This room knows `mosquitto.conf` and the
//! settings on the command line, and nothing of what is done with them.
//! 1. A `Config` exists only if every line of its files is good and no option that restricts was passed over.
//! 2. What an option asks for and Midge does not do is in [`Config::warnings`].
//! 3. [`Config::listeners`] is never empty; in local only mode every one of them has a loopback address.

mod build;
mod error;
mod listener;
mod log;
pub mod options;
mod parse;
mod persistence;
mod plugin;
mod reload;

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::{ConfigError, Place, Problem, Refusal, Severity, Warning, system_reason};
pub use persistence::{Persistence, Sync};

/// Log targets: what Mosquitto calls log types and the `log` facade's five levels cannot tell apart.
///
/// `error`, `warning` and `debug` are the facade's own levels; a line of one of these types is logged as
/// `log::info!(target: log_target::NOTICE, ..)`.
pub mod log_target {
    /// `log_type notice`, at level Info.
    pub const NOTICE: &str = "notice";
    /// `log_type information`, at level Info.
    pub const INFORMATION: &str = "information";
    /// `log_type subscribe`, at level Info.
    pub const SUBSCRIBE: &str = "subscribe";
    /// `log_type unsubscribe`, at level Info.
    pub const UNSUBSCRIBE: &str = "unsubscribe";
}

/// The port of MQTT without TLS, of the default listener and of local only mode.
pub const PORT_DEFAULT: u16 = 1883;

/// Everything that the operator asked for and that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file that this came from; `None` is the default configuration.
    pub source: Option<PathBuf>,
    /// What the operator should be told about it.
    pub warnings: Vec<Warning>,
    /// What the command line asked for, which a reload must not lose.
    pub overrides: Overrides,
    /// Where the options were given; see [`Config::place_of`].
    pub places: Places,

    /// Where to listen.
    pub listeners: Vec<Listener>,
    /// Whether no listener was asked for, so that only programs on this machine can connect.
    pub local_only: bool,

    /// `allow_anonymous`: whether a client may connect without a user name, where its listener does not say.
    pub allow_anonymous: bool,
    /// `allow_zero_length_clientid`, where the client's listener does not say.
    pub allow_zero_length_client_id: bool,
    /// `auto_id_prefix`, where the client's listener does not say.
    pub auto_id_prefix: String,
    /// `clientid_prefixes`: what every Client Identifier must start with.
    pub client_id_prefix: Option<String>,

    /// `max_inflight_messages`: QoS 1 and 2 messages under way to one client, also the Receive Maximum that the
    /// broker tells; `None` is no limit.
    pub max_inflight_messages: Option<NonZeroU16>,
    /// `max_inflight_bytes`: their payload in bytes; `None` is no limit.
    pub max_inflight_bytes: Option<NonZeroUsize>,
    /// `max_queued_messages`: messages that wait for one client; `None` is no limit.
    pub max_queued_messages: Option<NonZeroUsize>,
    /// `max_queued_bytes`: their payload in bytes; `None` is no limit.
    pub max_queued_bytes: Option<NonZeroUsize>,
    /// `queue_qos0_messages`: whether QoS 0 messages wait for a client that is not connected.
    pub queue_qos0_messages: bool,
    /// `max_packet_size`: the largest packet that a client may send, in bytes.
    pub max_packet_size: u32,
    /// `message_size_limit`: the largest payload that is passed on, in bytes; `None` is no limit.
    pub message_size_limit: Option<NonZeroU32>,
    /// `max_keepalive`: the longest Keep Alive that a client may ask for, in seconds; `None` is any.
    pub max_keep_alive: Option<NonZeroU16>,
    /// `global_max_clients`: clients with a session, connected or not; `None` is no limit.
    pub global_max_clients: Option<NonZeroUsize>,
    /// `global_max_connections`: connections over all listeners; `None` is no limit.
    pub global_max_connections: Option<NonZeroUsize>,
    /// `persistent_client_expiration`: how long a session outlives its connection at most; `None` is for ever.
    pub persistent_client_expiration: Option<Duration>,
    /// `allow_duplicate_messages`: whether overlapping subscriptions may each deliver a message to one client.
    pub allow_duplicate_messages: bool,
    /// `upgrade_outgoing_qos`: whether a message is delivered at the QoS of the subscription, even above its own.
    pub upgrade_outgoing_qos: bool,
    /// `retain_available`: whether clients may publish retained messages.
    pub retain_available: bool,
    /// `check_retain_source`: whether the publisher of a retained message must still have the right to it when the
    /// message is sent to a new subscription.
    pub check_retain_source: bool,
    /// `memory_limit`: the most memory to use, in bytes; `None` is no limit.
    pub memory_limit: Option<NonZeroUsize>,
    /// `retain_expiry_interval`: how often to look for expired retained messages; `None` is never.
    pub retain_expiry_interval: Option<Duration>,
    /// `set_tcp_nodelay`; `None` is not said, and the broker chooses.
    pub set_tcp_nodelay: Option<bool>,
    /// `cpu_affinity`, or `--cpu`: the core that the loop runs on; `None` is any.
    pub cpu_affinity: Option<u32>,
    /// `busy_poll_us`: how long the loop looks for events before it sleeps.
    pub busy_poll: Duration,
    /// `sys_interval`: how often the $SYS topics are published; `None` is never.
    pub sys_interval: Option<Duration>,

    /// What is kept on disk.
    pub persistence: Persistence,

    /// `connection_messages`: whether connections and disconnections are logged.
    pub connection_messages: bool,
    /// What is logged, where and how.
    pub log: Log,
    /// `pid_file`: where the process number is written to.
    pub pid_file: Option<PathBuf>,
    /// `user`: whom to become when started as root.
    pub user: Option<String>,
}

/// The line on which each option was given last, for the whole broker or for the listener of a [`Listener::name`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<(Option<String>, &'static str), Place>);

impl Places {
    fn insert(&mut self, listener: Option<String>, option: &'static str, place: Place) {
        self.0.insert((listener, option), place);
    }

    fn get(&self, listener: Option<String>, option: &'static str) -> Option<&Place> {
        self.0.get(&(listener, option))
    }
}

/// Where dynamic security keeps what it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicSecurity {
    /// The file, which is made where there is none.
    pub file: PathBuf,
    /// The file whose first line is the administrator's first password.
    pub password_file: Option<PathBuf>,
}

/// One `listener`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The TCP port; 0 for a listener on a Unix socket.
    pub port: u16,
    /// The path of the Unix socket to listen on, instead of a port.
    pub unix_path: Option<PathBuf>,
    /// The address or host name to bind to; `None` is every address of the machine.
    pub host: Option<String>,
    /// `socket_domain`: the IP version to listen on; `None` is both.
    pub socket_domain: Option<SocketDomain>,
    /// `max_connections`: connections to this listener; `None` is no limit.
    pub max_connections: Option<NonZeroUsize>,
    /// `max_qos`: the highest QoS that its clients may publish with, 0 to 2.
    pub max_qos: u8,
    /// `max_topic_alias`: Topic Aliases that a client may use towards the broker.
    pub max_topic_alias: u16,
    /// `max_topic_alias_broker`: Topic Aliases that the broker uses towards a client at most.
    pub max_topic_alias_broker: u16,
    /// Whether its clients may connect without a user name: of `listener_allow_anonymous` and `allow_anonymous`.
    pub allow_anonymous: bool,
    /// Whether the broker makes up a client identifier for a client without one.
    pub allow_zero_length_client_id: bool,
    /// What such an identifier starts with: of `listener_auto_id_prefix` and `auto_id_prefix`.
    pub auto_id_prefix: String,
    /// The `password_file` that its clients' passwords are in; without one, any user name is let in.
    pub password_file: Option<PathBuf>,
    /// The `acl_file` that says what its clients may do; without one, everything.
    pub acl_file: Option<PathBuf>,
    /// `dynamic_security_file`: clients, groups and roles that are changed while the broker runs.
    pub dynamic_security: Option<DynamicSecurity>,
    /// `bind_interface`: the network interface to listen on alone.
    pub bind_interface: Option<String>,
    /// `mount_point`: what is put before every topic of its clients.
    pub mount_point: Option<String>,
    /// `accept_protocol_versions`: the versions of MQTT that its clients may speak.
    pub accept_protocol_versions: AcceptVersions,
    /// `use_username_as_clientid`: whether the user name takes the place of the Client Identifier.
    pub use_username_as_client_id: bool,
    /// `enable_proxy_protocol`: the header that a connection starts with.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// TLS, where the listener speaks it.
    pub tls: Option<Tls>,
}

impl Listener {
    /// Whether user names are those of certificates, shown here or to a proxy.
    pub fn takes_names_of_certificates(&self) -> bool {
        let of_tls = self.tls.as_ref().and_then(|tls| tls.user_name);
        let of_proxy = self.proxy_protocol;
        of_tls.is_some() || of_proxy.is_some_and(ProxyProtocol::identity_is_user_name)
    }
}

/// `accept_protocol_versions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptVersions {
    /// MQTT 3.1, which is written `3`.
    pub v31: bool,
    /// MQTT 3.1.1, which is written `4`.
    pub v311: bool,
    /// MQTT 5.0, which is written `5`.
    pub v5: bool,
}

impl AcceptVersions {
    /// Every version.
    pub const ALL: AcceptVersions = AcceptVersions {
        v31: true,
        v311: true,
        v5: true,
    };
}

/// `enable_proxy_protocol`: the header with which a proxy tells where a connection really comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Version 1: a line of text.
    V1,
    /// Version 2: binary.
    V2 {
        /// `proxy_protocol_v2_require_tls`: whether the proxy must say that its client came over TLS.
        require_tls: bool,
        /// Whether the common name that the proxy tells is the user name: `use_identity_as_username` on a listener
        /// without TLS of its own.
        identity_is_user_name: bool,
    },
}

impl ProxyProtocol {
    /// Whether the common name that the proxy tells is the user name.
    pub fn identity_is_user_name(self) -> bool {
        matches!(
            self,
            ProxyProtocol::V2 {
                identity_is_user_name: true,
                ..
            }
        )
    }
}

/// TLS of one listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tls {
    /// `certfile`: the certificate chain, in PEM.
    pub certfile: PathBuf,
    /// `keyfile`: its private key, in PEM.
    pub keyfile: PathBuf,
    /// `cafile`: the authorities of client certificates, in PEM.
    pub cafile: Option<PathBuf>,
    /// `capath`: a directory of such authorities.
    pub capath: Option<PathBuf>,
    /// `crlfile`: revoked client certificates, in PEM.
    pub crlfile: Option<PathBuf>,
    /// `require_certificate`: whether a client must show a certificate.
    pub require_certificate: bool,
    /// What of the certificate is the user name, where anything is.
    pub user_name: Option<CertificateName>,
    /// `ciphers`: OpenSSL's names of TLS 1.2 suites.
    pub ciphers: Option<String>,
    /// `ciphers_tls1.3`: names of TLS 1.3 suites.
    pub ciphers_tls13: Option<String>,
    /// `tls_version`: the lowest version.
    pub version_min: TlsVersion,
    /// `disable_client_cert_date_checks`.
    pub ignores_dates: bool,
}

impl Tls {
    /// A listener that shows this certificate and asks clients for none.
    pub fn one_way(certfile: impl Into<PathBuf>, keyfile: impl Into<PathBuf>) -> Tls {
        Tls {
            certfile: certfile.into(),
            keyfile: keyfile.into(),
            cafile: None,
            capath: None,
            crlfile: None,
            require_certificate: false,
            user_name: None,
            ciphers: None,
            ciphers_tls13: None,
            version_min: TlsVersion::V12,
            ignores_dates: false,
        }
    }
}

/// TLS of a connection that we open ourselves: as a tool, or as a bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// The authorities of servers, in PEM.
    pub cafile: Option<PathBuf>,
    /// A directory of such authorities.
    pub capath: Option<PathBuf>,
    /// Whether the authorities of the operating system are trusted too.
    pub trusts_system: bool,
    /// Our own certificate chain, in PEM, if the server wants one.
    pub certfile: Option<PathBuf>,
    /// Its private key, in PEM.
    pub keyfile: Option<PathBuf>,
    /// OpenSSL's names of TLS 1.2 suites.
    pub ciphers: Option<String>,
    /// The only version, if it must be one.
    pub version: Option<TlsVersion>,
    /// The protocol to ask for (RFC 7301).
    pub alpn: Option<String>,
    /// Whether the server's name is not compared with its certificate.
    pub ignores_name: bool,
    /// Where to write the secrets of sessions, for wireshark.
    pub keylog: Option<PathBuf>,
}

/// What of a client's certificate is its user name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CertificateName {
    /// `use_identity_as_username`: the common name.
    CommonName,
    /// `use_subject_as_username`: the whole subject.
    Subject,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsVersion {
    /// TLS 1.2
    V12,
    /// TLS 1.3
    V13,
}

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketDomain {
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
}

/// What is logged, where and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Whether lines go to standard output.
    pub stdout: bool,
    /// Whether lines go to standard error.
    pub stderr: bool,
    /// The file that lines go to.
    pub file: Option<PathBuf>,
    /// The syslog facility that lines go to, as in syslog(3): 3 for daemon, 16 to 23 for local0 to local7.
    pub syslog: Option<u8>,
    /// Whether lines are published below `$SYS/broker/log/`.
    pub topic: bool,
    /// The kinds of lines that are logged.
    pub types: LogTypes,
    /// `log_timestamp`: whether a line starts with the time.
    pub timestamp: bool,
    /// `log_timestamp_format`: that time by strftime, in local time; `None` is seconds since 1970.
    pub timestamp_format: Option<String>,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            stdout: false,
            stderr: true,
            file: None,
            syslog: None,
            topic: false,
            types: LogTypes::DEFAULT,
            timestamp: true,
            timestamp_format: None,
        }
    }
}

/// A set of log types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogTypes(u8);

impl LogTypes {
    /// No lines.
    pub const NONE: LogTypes = LogTypes(0);
    /// `error`: level Error.
    pub const ERROR: LogTypes = LogTypes(1);
    /// `warning`: level Warn.
    pub const WARNING: LogTypes = LogTypes(1 << 1);
    /// `notice`: level Info with [`log_target::NOTICE`].
    pub const NOTICE: LogTypes = LogTypes(1 << 2);
    /// `information`: level Info with [`log_target::INFORMATION`].
    pub const INFORMATION: LogTypes = LogTypes(1 << 3);
    /// `subscribe`: level Info with [`log_target::SUBSCRIBE`].
    pub const SUBSCRIBE: LogTypes = LogTypes(1 << 4);
    /// `unsubscribe`: level Info with [`log_target::UNSUBSCRIBE`].
    pub const UNSUBSCRIBE: LogTypes = LogTypes(1 << 5);
    /// `debug`: level Debug.
    pub const DEBUG: LogTypes = LogTypes(1 << 6);
    /// `all`.
    pub const ALL: LogTypes = LogTypes((1 << 7) - 1);
    /// What is logged where nothing is said.
    pub const DEFAULT: LogTypes = LogTypes::ERROR
        .with(LogTypes::WARNING)
        .with(LogTypes::NOTICE)
        .with(LogTypes::INFORMATION);

    /// Both sets together.
    pub const fn with(self, other: LogTypes) -> LogTypes {
        LogTypes(self.0 | other.0)
    }

    /// Whether any of `other` is in this set.
    pub const fn intersects(self, other: LogTypes) -> bool {
        self.0 & other.0 != 0
    }
}

/// What the command line asks for on top of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `-p`: ports to listen on in local only mode.
    pub ports: Vec<u16>,
    /// `-v`: all log types.
    pub verbose: bool,
    /// `-q`: no logging, whatever else is said.
    pub quiet: bool,
    /// `--tls-keylog`: where the secrets of TLS connections are written to, for debugging.
    pub tls_keylog: Option<PathBuf>,
    /// `--cpu`: the core that the loop runs on, whatever the file says.
    pub cpu: Option<u32>,
    /// The environment's `MOSQUITTO_PERSISTENCE_LOCATION`: where the database is, whatever the file says.
    pub persistence_location: Option<PathBuf>,
}

impl Config {
    /// Reads and checks the file at `path` and what it includes.
    /// # Errors
    /// The first thing that is wrong, or all options that restrict and are not in force.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        Config::load_with(Some(path), Overrides::default())
    }

    /// Reads and checks the file at `path`, or takes the defaults without one, under what the command line asks for.
    /// # Errors
    /// As [`Config::load`].
    pub fn load_with(path: Option<&Path>, overrides: Overrides) -> Result<Config, ConfigError> {
        let mut warnings = Vec::new();
        let main = path
            .map(|path| parse::read(path, &mut warnings))
            .transpose()?;
        build::config(main, path.map(Path::to_owned), overrides, warnings)
    }

    /// Checks `text` as if it were a file called `name`; an `include_dir` in it is read from disk.
    /// # Errors
    /// As [`Config::load`].
    pub fn from_text(name: &str, text: impl AsRef<[u8]>) -> Result<Config, ConfigError> {
        let mut warnings = Vec::new();
        let main = parse::read_bytes(name, text.as_ref(), &mut warnings);
        build::config(
            Some(main),
            Some(name.into()),
            Overrides::default(),
            warnings,
        )
    }

    /// Where `option` was given, under its first name of the table: for `listener`, or else for the whole broker.
    ///
    /// `None` is the default, or the command line.
    pub fn place_of(&self, option: &'static str, listener: Option<&Listener>) -> Option<&Place> {
        let own = listener.and_then(|listener| self.places.get(Some(listener.name()), option));
        own.or_else(|| self.places.get(None, option))
    }

    /// What this configuration's file asks for now.
    /// # Errors
    /// As [`Config::load`].
    pub fn reread(&self) -> Result<Config, ConfigError> {
        Config::load_with(self.source.as_deref(), self.overrides.clone())
    }
}

impl Default for Config {
    /// What running without a file and without arguments asks for.
    fn default() -> Config {
        build::config(None, None, Overrides::default(), Vec::new())
            .expect("no line, so no bad line")
    }
}

#[cfg(test)]
mod tests;
