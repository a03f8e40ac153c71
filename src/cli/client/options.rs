//! What the arguments and option files of `pub`, `sub` and `rr` ask for: one table of options, and plain data made of it.
//!
//! It knows names, values and sentences; sockets and packets it does not. Options are Mosquitto's: whole words, never
//! joined or shortened, a value is the next argument whatever it looks like, a later one replaces an earlier one.

mod draft;
mod file;
mod number;
mod parse;
mod properties;
mod table;
#[cfg(test)]
mod tests;
mod url;
mod usage;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::ClientTls;
use crate::mqtt::{PropertyBuffer, ProtocolVersion, QoS, RetainHandling};

pub use parse::parse;
pub use usage::{usage, version};

/// What the process knows that a command line does not say; as values, so that nothing here reads the process.
pub struct Environment<'a> {
    /// `XDG_CONFIG_HOME`: the directory of the default option files.
    pub config_home: Option<PathBuf>,
    /// `HOME`: the directory of `.config`, if there is no `XDG_CONFIG_HOME`.
    pub home: Option<PathBuf>,
    /// What `-I` puts behind its prefix.
    pub process_id: u32,
    /// What a client id of our own is made of.
    pub random: [u8; 18],
    /// Whether a person reads standard error, who may be told about a name that is close.
    pub errors_to_terminal: bool,
    /// Checks the value of `-F`; its error is the line that standard error gets.
    pub check_format: &'a dyn Fn(&str) -> Result<(), String>,
}

/// Which tool is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `pub`
    Publish,
    /// `sub`
    Subscribe,
    /// `rr`
    Request,
}

/// Everything that was asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the broker is, and the way there.
    pub route: Route,
    /// What CONNECT says.
    pub login: Login,
    /// `-d`: what is sent and received is told on standard output.
    pub debug: bool,
    /// `--quiet`: errors are told by the exit code only.
    pub quiet: bool,
    /// `-q`
    pub qos: QoS,
    /// `-M`: messages of QoS 1 and 2 on their way at a time; 0 for as many as there are identifiers.
    pub max_inflight: u16,
    /// `-D disconnect`
    pub disconnect_properties: PropertyBuffer,
    /// What is sent, by `pub` and `rr`.
    pub publish: PublishOptions,
    /// What is subscribed to and how it is shown, by `sub` and `rr`.
    pub subscribe: SubscribeOptions,
}

/// The way to the broker.
#[derive(Debug, Clone)]
pub struct Route {
    /// Where it is.
    pub target: Target,
    /// `-A`: the local address.
    pub bind_address: Option<String>,
    /// `--proxy`
    pub proxy: Option<Proxy>,
    /// `--nodelay`
    pub nodelay: bool,
    /// TLS, if there is any.
    pub tls: Option<ClientTls>,
    /// `--ws`, `ws://`, `wss://`: MQTT in WebSocket frames.
    pub websocket: bool,
}

/// Where the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A host name or address, and a port.
    Tcp {
        /// `-h`
        host: String,
        /// `-p`
        port: u16,
    },
    /// `-S`: what the SRV records of this domain name.
    Service {
        /// `-h`
        domain: String,
    },
    /// `--unix`
    Unix(PathBuf),
}

/// A SOCKS5 proxy that resolves names itself.
#[derive(Clone)]
pub struct Proxy {
    /// Its name or address.
    pub host: String,
    /// Its port; 1080 unless told.
    pub port: u16,
    /// User name and password (RFC 1929).
    pub login: Option<(String, String)>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Proxy")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("has_login", &self.login.is_some())
            .finish()
    }
}

/// What CONNECT says (MQTT 5.0, 3.1).
#[derive(Clone)]
pub struct Login {
    /// `-V`
    pub version: ProtocolVersion,
    /// `-i`, `-I` with the process id, or a random one in 3.1; empty lets the server assign one.
    pub client_id: String,
    /// Not `-c`.
    pub clean_start: bool,
    /// `-k`, in seconds.
    pub keep_alive: u16,
    /// `-u`
    pub user_name: Option<String>,
    /// `-P`
    pub password: Option<Vec<u8>>,
    /// `--will-...`
    pub will: Option<Will>,
    /// `-D connect`, then `-x`, then Receive Maximum unless `-D` has it; empty before 5.0.
    pub properties: PropertyBuffer,
}

impl fmt::Debug for Login {
    /// Properties stay out as well as the password: they may hold Authentication Data.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Login")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("clean_start", &self.clean_start)
            .field("keep_alive", &self.keep_alive)
            .field("user_name", &self.user_name)
            .field("has_password", &self.password.is_some())
            .field("will", &self.will)
            .finish_non_exhaustive()
    }
}

/// A Will Message (3.1.2.5).
#[derive(Debug, Clone)]
pub struct Will {
    /// `--will-topic`
    pub topic: String,
    /// `--will-payload`
    pub payload: Vec<u8>,
    /// `--will-qos`
    pub qos: QoS,
    /// `--will-retain`
    pub retain: bool,
    /// `-D will`
    pub properties: PropertyBuffer,
}

/// What is sent.
#[derive(Debug, Clone)]
pub struct PublishOptions {
    /// `-t` of `pub` and `rr`, which they must have; a valid Topic Name. `sub` has none.
    pub topic: Option<String>,
    /// What the payload is; `pub` and `rr` must have one, and `sub` has none.
    pub payload: Option<Payload>,
    /// `-r`
    pub retain: bool,
    /// `--repeat`
    pub repeat: u64,
    /// `--repeat-delay`
    pub repeat_delay: Duration,
    /// `-D publish`, and for `rr` Response Topic; empty before 5.0.
    pub properties: PropertyBuffer,
}

/// Where payloads come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// `-m`
    Message(Vec<u8>),
    /// `-f`
    File(PathBuf),
    /// `-l`: each line of standard input is one.
    Lines,
    /// `-n`
    Null,
    /// `-s`: all of standard input.
    Input,
}

/// What is subscribed to, and how it is shown.
#[derive(Debug, Clone)]
pub struct SubscribeOptions {
    /// `-t` of `sub`.
    pub filters: Vec<String>,
    /// `-U`
    pub unsubscribes: Vec<String>,
    /// `-T`
    pub filter_outs: Vec<String>,
    /// `-e` of `rr`.
    pub response_topic: Option<String>,
    /// `-C`
    pub count: Option<u64>,
    /// `-W`
    pub timeout: Option<Duration>,
    /// `-E`
    pub exits_after_suback: bool,
    /// `-N` is not given.
    pub newline: bool,
    /// `-R`
    pub ignores_retained: bool,
    /// `--retained-only`
    pub retained_only: bool,
    /// `--remove-retained`
    pub removes_retained: bool,
    /// `--retain-as-published`
    pub retain_as_published: bool,
    /// `--retain-handling`
    pub retain_handling: RetainHandling,
    /// `-v`
    pub verbose: bool,
    /// `--pretty`
    pub pretty: bool,
    /// `-F`
    pub format: Option<String>,
    /// `--random-filter`, in hundredths of a per cent: 10,000 shows everything.
    pub random_filter: u16,
    /// `--message-rate`
    pub message_rate: bool,
    /// `--latency`
    pub latency: bool,
    /// `-w`
    pub watch: bool,
    /// `-D subscribe`
    pub subscribe_properties: PropertyBuffer,
    /// `-D unsubscribe`
    pub unsubscribe_properties: PropertyBuffer,
}

/// What a command line comes to. Mosquitto's tools end with exit code 1 for the first two, too.
#[derive(Debug)]
pub enum Request {
    /// `--help`
    Help,
    /// `--version`
    Version,
    /// Everything else.
    Run(Box<Options>),
}

/// A command line or option file that cannot be followed; the exit code is always 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError {
    /// What standard error gets: whole lines, or nothing under `--quiet`.
    pub text: String,
    /// Whether standard output gets the usage, as it does if `pub` is given no topic or no message.
    pub shows_usage: bool,
}
